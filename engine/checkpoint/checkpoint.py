"""The four verbs over journal and snapshots: begin, commit, recover, purge.

    <dir>/<app>/meta.json                                   format, app, batch interval, zero time, shards, partitioner
    <dir>/<app>/lock                                        held by flock for the life of the process
    <dir>/<app>/journal/<epoch>-<number>.log                see journal.py
    <dir>/<app>/state/<operator>/<shard>/<version>-<epoch>.snap  see shards.py

The commit record is the only truth: what it names is durable BEFORE it is, and what came before it in the batch is
repeated after a crash. A batch is two appends. New files are made between batches.

Owns: Checkpoint.
Never: a shard's contents; those live in the executors.
"""

import contextlib
import fcntl
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.batch import Batch, Duration, Time, TopicPartition
from engine.checkpoint.due import Room, due_shards, pinning
from engine.checkpoint.files import checksum, make_folder, sync_folder, writing
from engine.checkpoint.journal import Journal, SegmentName, read_newest, segment_names
from engine.checkpoint.meta import Meta, read_meta, too_early
from engine.checkpoint.names import folder_of_app, folder_of_operator
from engine.checkpoint.records import (
    FORMAT_VERSION,
    BatchRecord,
    Begin,
    Catalog,
    Commit,
    DeltaRecord,
    Open,
    Record,
    Snapshot,
    SnapshotRecord,
    Topics,
    Types,
    Upgrade,
    decode,
    encode,
)
from engine.checkpoint.shards import RestorePlan, plan_of
from engine.checkpoint.sizes import Sizes
from engine.checkpoint.upgrade import (
    DeclaredState,
    apply_upgrade,
    outdated,
    refuse_other_types,
    take_types,
    told_types,
    untold_types,
)
from engine.errors import CheckpointError, ConcurrentRunError
from engine.failpoints import fail_point
from engine.reports import Volume

log = logging.getLogger(__name__)

SEGMENT_BYTES = 64 << 20
PARTITIONER = "xxh3"

Maxima = Mapping[str, Mapping[TopicPartition, int]]
"""By input and partition the largest event time, milliseconds since the epoch."""


class Delta(NamedTuple):
    """What a batch changed in one shard."""

    operator: str
    shard: int
    data: bytes
    keys: int
    """Keys in the shard after the batch."""
    updated: int = 0
    """Keys that the batch put or removed."""


class SnapshotTask(NamedTuple):
    """A shard that is due for a snapshot, and the file it goes to."""

    operator: str
    shard: int
    version: int
    path: Path


def _epoch_of(snapshot: Path) -> int:
    """The epoch in a snapshot's file name."""
    return int(snapshot.stem.rpartition("-")[2])


class Checkpoint:
    """The checkpoint folder of one application, for the one process that holds its lock.

    Args:
        folder: the checkpoint directory given by the user; the app has a folder of its own in it.
        app: name of the application.
        batch: batch interval.
        shards: number of shards of each stateful operator, fixed at the first start.
    """

    def __init__(self, folder: Path, app: str, batch: Duration, shards: int) -> None:
        # Tasks of a cluster read it from their own working folder.
        self.folder = (folder / folder_of_app(app)).absolute()
        self._meta = Meta(
            format=FORMAT_VERSION,
            app=app,
            batch_ms=int(batch),
            zero_ms=0,
            shards=shards,
            partitioner=PARTITIONER,
        )
        self._lock, self._holds_lock = -1, False
        self.catalog = Catalog()
        self.sizes = Sizes(self.folder)
        """How much the folder holds, for those who watch."""
        self._grown: dict[tuple[str, int], list[int]] = {}
        """By shard: bytes and number of the deltas since its newest snapshot."""
        self._made: dict[tuple[str, int], int] = {}
        """By shard the newest version of which a snapshot was recorded, or begun here: a worker that died may have left its file."""
        self._untold: dict[str, Types] = {}
        """Declared types that no commit has told of yet."""
        self._room = Room(self.folder)
        self.fallbacks = 0
        """Segments of the journal, and torn ends, that the start passed over."""
        self._has_old_snapshots = True
        self._journal: Journal | None = None
        self._damaged = False
        self._opened = self._before = ""
        """The segment with the newest durable `open` record, and the one before it: kept, should the newest be damaged."""

    # Opening.

    def open(self, zero: Time, *, takeover: bool = False, must_reach: Time | None = None) -> Time:
        """Take the folder, read it, begin a new epoch; returns the zero time that the first start fixed.

        With `must_reach` it must know the batch of this time: one whose results are written.

        Raises:
            CheckpointError: it is missing or ends too early though it must reach a batch, or belongs to another app, format or shard count.
            ConcurrentRunError: another process holds it and `takeover` is not set.
            CorruptLogError: acknowledged bytes are damaged.
            CheckpointWriteError: the volume is full, or fails.
        """
        if must_reach is not None and not (self.folder / "meta.json").exists():
            raise too_early(self.folder, None, must_reach)
        make_folder(self.folder)
        self._take_lock(takeover)
        if self._holds_lock:
            self._sweep()
        self._meta = read_meta(self.folder, self._meta, zero)
        folder = self.folder / "journal"
        make_folder(folder)
        names = segment_names(folder)
        self.sizes.measure()
        journal = self._journal = Journal(folder, names[-1].epoch + 1 if names else 1)
        # The new segment is durable FIRST, THEN the older ones are read: a process that was fenced sees it before its next task.
        journal.begin_segment()
        self._opened = self._read_journal(folder, segment_names(folder)[:-1])
        # What a process made that did not live to make its name durable: nothing is built on it BEFORE it is. Shards see to theirs.
        for made in (self.folder.parent, self.folder):
            sync_folder(made)
        if must_reach is not None and must_reach > (newest := self.catalog.newest_time()):
            raise too_early(self.folder, newest, must_reach)
        self._append_open(journal)
        return Time(self._meta.zero_ms)

    def _take_lock(self, takeover: bool) -> None:
        with writing(self.folder):
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        if self._has_lock():
            return
        if not takeover:
            raise ConcurrentRunError(
                f"checkpoint folder {self.folder} is in use by another process; stop it, or start with takeover"
            )
        log.warning("taking over %s from a process that still holds its lock", self.folder)

    def _has_lock(self) -> bool:
        """Whether this process holds the folder; after a takeover the lock is free once the fenced process is gone."""
        if not self._holds_lock:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._holds_lock = True
        return self._holds_lock

    def _sweep(self) -> None:
        """Remove what a process left that was killed while it wrote a new file; nothing refers to it."""
        for left in [*self.folder.glob("*.tmp-*"), *self.folder.glob("state/*/*/*.tmp-*")]:
            left.unlink()

    def look(self) -> str:
        """Read the folder as it is, without taking it, for those who only show or copy it; returns the newest valid segment.

        Raises:
            CorruptLogError, StateVersionError: as `open`.
        """
        folder = self.folder / "journal"
        return self._read_journal(folder, segment_names(folder) if folder.exists() else [])

    def _read_journal(self, folder: Path, names: Sequence[SegmentName]) -> str:
        """Read the newest segment that has a valid first frame into the catalog; returns its file name."""
        newest = read_newest(folder, names, was_used=any(self.folder.glob("state/*/*/*.snap")))
        for frame in newest.frames:
            self._apply(decode(frame.head, newest.segment), frame.segment, frame.body_offset)
        self.fallbacks = newest.fallbacks
        return newest.segment

    def _apply(self, record: Record, segment: str, body_offset: int) -> None:
        match record:
            case Open():
                self.catalog = record.catalog
                self._count_growth()
            case Begin():
                self.catalog.take_begin(record)
            case Commit():
                self._apply_commit(record, segment, body_offset)
            case Snapshot():
                self._apply_snapshot(record.snapshot)
            case Upgrade():
                apply_upgrade(self.catalog, record)
                self._count_growth()

    def _count_growth(self) -> None:
        newest = {(kept.operator, kept.shard): kept for kept in self.catalog.snapshots}
        self._grown, self._made = {}, {place: kept.version for place, kept in newest.items()}
        self.sizes.recount((kept.operator, kept.size) for kept in newest.values())
        for delta in self.catalog.deltas:
            snapshot = newest.get((delta.operator, delta.shard))
            if snapshot is None or delta.version > snapshot.version:
                self._grow(delta)

    def _grow(self, delta: DeltaRecord) -> None:
        grown = self._grown.setdefault((delta.operator, delta.shard), [0, 0])
        grown[0] += delta.length
        grown[1] += 1
        self.sizes.grew(delta.operator, delta.length)

    def _apply_commit(self, commit: Commit, segment: str, body_offset: int) -> None:
        for delta in commit.deltas:
            self._grow(delta)
        self.catalog.deltas.extend(
            msgspec.structs.replace(delta, segment=segment, offset=body_offset + delta.offset)
            for delta in commit.deltas
        )
        self.catalog.history.append(commit.batch)
        self.catalog.take_ranges(commit.batch)
        take_types(self.catalog, commit)
        self.catalog.commit = msgspec.structs.replace(commit, deltas=[], types={})

    def _apply_snapshot(self, new: SnapshotRecord) -> None:
        place = (new.operator, new.shard)
        self._made[place] = new.version
        self.sizes.count_keys(*place, new.keys)
        grown_bytes, _ = self._grown.pop(place, (0, 0))
        self._has_old_snapshots = True
        older = [old for old in self.catalog.snapshots if (old.operator, old.shard) == place]
        kept = older[-1:]
        self.sizes.grew(new.operator, new.size - grown_bytes - sum(old.size for old in kept))
        self.catalog.snapshots = [
            old for old in self.catalog.snapshots if (old.operator, old.shard) != place or old in kept
        ]
        self.catalog.snapshots.append(new)
        if kept:
            before = len(self.catalog.deltas)
            self.catalog.deltas = [
                delta
                for delta in self.catalog.deltas
                if (delta.operator, delta.shard) != place or delta.version > kept[0].version
            ]
            if len(self.catalog.deltas) < before and place not in self.catalog.trimmed:
                self.catalog.trimmed.append(place)

    # What the journal says.

    @property
    def epoch(self) -> int:
        """The number of this opening of the folder, from 1; 0 before it, and without a folder."""
        return self._journal.epoch if self._journal else 0

    @property
    def last_commit(self) -> Commit | None:
        """The newest commit."""
        return self.catalog.commit

    def pending(self) -> Batch | None:
        """The batch that was begun and not committed; it runs again with its own time and ranges."""
        begun, commit = self.catalog.begun, self.catalog.commit
        if begun is None or (commit is not None and begun.time <= commit.batch.time):
            return None
        return begun.batch()

    def history(self) -> list[Batch]:
        """Committed batches that a window may still need, oldest first."""
        return [record.batch() for record in self.catalog.history]

    def maxima(self) -> dict[str, dict[TopicPartition, int]]:
        """By input and partition the largest event time as of the last commit."""
        if self.catalog.commit is None:
            return {}
        return {
            name: {TopicPartition(topic, partition): largest for topic, partition, largest in parts}
            for name, parts in self.catalog.commit.maxima.items()
        }

    def restore_plan(self, operator: str, shard: int) -> RestorePlan:
        """How the shard is rebuilt as of the last commit."""
        return plan_of(self.catalog, self.folder, operator, shard)

    def upgrade(self, declared: DeclaredState) -> None:
        """Take the folder over for a job that declares this of its state; what is renamed or dropped is durable when this returns.

        Raises:
            StateVersionError: states or keys are of other types than declared, and nothing was changed.
            CheckpointWriteError: as `begin`.
        """
        after = msgspec.structs.replace(self.catalog)
        apply_upgrade(after, declared.upgrade)
        refuse_other_types(after, declared, str(self.folder))
        if declared.upgrade != Upgrade():
            self._append(declared.upgrade)
            self._apply(declared.upgrade, "", 0)
        self._untold = untold_types(self.catalog, declared.types)

    # A batch.

    def begin(self, batch: Batch, topics: Topics | None = None) -> None:
        """Record the intent to run a batch of these topics, durable when this returns.

        Raises:
            ConcurrentRunError: a newer epoch has taken over.
            CheckpointWriteError: the volume is full, or fails; the next start tells whether the record is there.
        """
        fail_point("before_begin")
        record = self.catalog.begin(batch, topics or {})
        self._append(record)
        self.catalog.take_begin(record)
        self._has_lock()
        self.open_journal().refuse_if_fenced()
        fail_point("after_begin")

    def commit(
        self,
        batch: Batch,
        operators: Mapping[str, str],
        versions: Mapping[str, int],
        maxima: Maxima,
        deltas: Sequence[Delta],
    ) -> int:
        """Record that a batch is complete, with its deltas in the same frame; returns the bytes of the deltas.

        Call it AFTER every output has been acknowledged: nothing is repeated once it returns. Raises as `begin`.
        """
        fail_point("before_commit")
        self.open_journal().refuse_if_fenced()
        body = bytearray()
        records: list[DeltaRecord] = []
        for delta in deltas:
            self.sizes.count_keys(delta.operator, delta.shard, delta.keys)
            if delta.data:
                digest, version = checksum(delta.data), versions[delta.operator]
                place = len(body), len(delta.data), digest, version
                records.append(DeltaRecord(delta.operator, delta.shard, *place))
                body += delta.data
        record = Commit(
            batch=BatchRecord.of(batch),
            operators=dict(operators),
            versions=dict(versions),
            maxima={
                name: [(place.topic, place.partition, largest) for place, largest in sorted(parts.items())]
                for name, parts in maxima.items()
            },
            deltas=records,
            types=told_types(self._untold, versions, batch),
        )
        segment, body_offset = self._append(record, bytes(body))
        self._apply_commit(record, segment, body_offset)
        self._untold = {name: types for name, types in self._untold.items() if name not in record.types}
        fail_point("after_commit")
        return len(body)

    def _append(self, record: Record, body: bytes = b"") -> tuple[str, int]:
        journal = self.open_journal()
        if self._damaged:
            # The end of the old segment is unknown after a failed append: it is given up.
            self._begin_segment(journal)
        self._damaged = True  # unless it returns
        frame = journal.append(encode(record), body)
        self._damaged = False
        return frame.segment, frame.body_offset

    def _begin_segment(self, journal: Journal) -> None:
        self._damaged = True  # until the `open` record is there, which no other may come before
        journal.begin_segment()
        self._append_open(journal)
        self._damaged = False

    def _append_open(self, journal: Journal) -> None:
        journal.append(encode(Open(journal.epoch, self._opened, self.catalog)))
        self._before, self._opened = self._opened, journal.segment

    def open_journal(self) -> Journal:
        """The journal of this process's epoch; what is fenced with the folder asks it."""
        if self._journal is None:
            raise CheckpointError(f"checkpoint folder {self.folder} is not open")
        return self._journal

    # Between batches.

    def snapshots_due(self, executors: int) -> list[SnapshotTask]:
        """Shards to write now, at most one for each executor, as far as there is room; each version of a shard once."""
        commit = self.catalog.commit
        if commit is None:
            return []
        versions, epoch = commit.versions, self.open_journal().epoch
        first = outdated(self.catalog) | pinning(self.catalog, SEGMENT_BYTES)
        # No name returns for other bytes; and states in memory of a type that no commit has told would be read as the one before.
        waiting = {
            place
            for place in (*self._grown, *first)
            if versions[place[0]] <= self._made.get(place, 0) or place[0] in self._untold
        }
        due = due_shards(self._grown, self.catalog.snapshots, first, waiting, executors)
        due = self._room.for_snapshots(due, self._grown, self.catalog.snapshots)
        self._made.update({place: versions[place[0]] for place in due})
        return [
            SnapshotTask(name, shard, versions[name], self._snapshot_path(name, shard, versions[name], epoch))
            for name, shard in due
        ]

    def _snapshot_path(self, operator: str, shard: int, version: int, epoch: int) -> Path:
        name = folder_of_operator(operator)
        return self.folder / "state" / name / f"{shard:04d}" / f"{version}-{epoch:06d}.snap"

    def snapshotted(self, task: SnapshotTask, keys: int, size: int) -> None:
        """Record that a snapshot's file is durable."""
        fail_point("after_snapshot")
        record = SnapshotRecord(
            task.operator, task.shard, task.version, str(task.path.relative_to(self.folder)), keys, size
        )
        self._append(Snapshot(record))
        self._apply_snapshot(record)
        self.sizes.wrote_snapshot(task.path)

    def purge(self, horizon: Time) -> None:
        """Drop what no restart needs any more: batches at or before the horizon, old snapshots, old segments."""
        fail_point("purge")
        self.open_journal().refuse_if_fenced()
        self.catalog.history = [record for record in self.catalog.history if record.time > horizon]
        journal = self.open_journal()
        if journal.size > SEGMENT_BYTES:
            self._begin_segment(journal)
        self._remove_segments(journal)
        if self._has_old_snapshots:
            self._remove_snapshots()
        fail_point("after_purge")

    def _remove_segments(self, journal: Journal) -> None:
        needed = {delta.segment for delta in self.catalog.deltas} | {self._before, self._opened}
        folder = self.folder / "journal"
        gone = [
            name for name in segment_names(folder) if name.file < journal.segment and name.file not in needed
        ]
        for name in gone:
            self.sizes.remove_segment(folder / name.file)
        if gone:
            sync_folder(folder)

    def _remove_snapshots(self) -> None:
        kept = {record.file for record in self.catalog.snapshots}
        for shard in self.folder.glob("state/*/*"):
            # A newer epoch's snapshots are not in this catalog, and are not this process's to remove.
            files = [path for path in shard.glob("*.snap") if _epoch_of(path) <= self.open_journal().epoch]
            gone = [path for path in files if str(path.relative_to(self.folder)) not in kept]
            for path in gone:
                self.sizes.remove_snapshot(path)
            if gone:
                sync_folder(shard)
        self._has_old_snapshots = False

    def volume(self) -> Volume | None:
        """What the folder takes of its volume; None without a folder."""
        return self.sizes.volume(self.open_journal().written)

    def close(self) -> None:
        """Close the journal and let go of the folder."""
        # Each is taken out first: a number that is closed twice may be another file's by then.
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()
        lock, self._lock, self._holds_lock = self._lock, -1, False
        if lock >= 0:
            os.close(lock)
