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
from engine.checkpoint.files import checksum, make_folder, sync_file, sync_folder, write_durably, writing
from engine.checkpoint.journal import FIRST_SEGMENT, Journal, read_segment, segment_names
from engine.checkpoint.names import folder_of_app, folder_of_operator
from engine.checkpoint.records import (
    FORMAT_VERSION,
    BatchRecord,
    Begin,
    Catalog,
    Commit,
    DeltaRecord,
    Meta,
    Open,
    Record,
    Snapshot,
    SnapshotRecord,
    decode,
    encode,
)
from engine.checkpoint.shards import DeltaPlace, RestorePlan
from engine.checkpoint.sizes import Sizes
from engine.errors import CheckpointError, ConcurrentRunError, CorruptLogError, StateVersionError
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
        self._lock = -1
        self._holds_lock = False
        self.catalog = Catalog()
        self.sizes = Sizes(self.folder)
        """How much the folder holds, for those who watch."""
        self._grown: dict[tuple[str, int], list[int]] = {}
        """By shard: bytes and number of the deltas since its newest snapshot."""
        self._has_old_snapshots = True
        self._journal: Journal | None = None
        self._damaged = False
        self._opened = self._before = ""
        """The segment with the newest durable `open` record, and the one before it: kept, should the newest be damaged."""

    # Opening.

    def open(self, zero: Time, *, takeover: bool = False, must_exist: bool = False) -> Time:
        """Take the folder, read it, begin a new epoch; returns the zero time that the first start fixed.

        Raises:
            CheckpointError: it is missing though it must exist, or belongs to another app, format or shard count.
            ConcurrentRunError: another process holds it and `takeover` is not set.
            CorruptLogError: acknowledged bytes are damaged.
            CheckpointWriteError: the volume is full, or fails.
        """
        if not (self.folder / "meta.json").exists() and must_exist:
            raise CheckpointError(
                f"checkpoint folder {self.folder} is missing and was expected; "
                "restore it, or allow a fresh start (the results would count everything again)"
            )
        make_folder(self.folder)
        self._take_lock(takeover)
        if self._holds_lock:
            self._sweep()
        self._read_meta(zero)
        folder = self.folder / "journal"
        make_folder(folder)
        names = segment_names(folder)
        self.sizes.measure()
        journal = Journal(folder, names[-1].epoch + 1 if names else 1)
        # The new segment is durable FIRST, THEN the older ones are read: a process that was fenced sees it before its next task.
        journal.begin_segment()
        self._opened = self._read_journal(folder)
        if must_exist and self.catalog.commit is None and self.catalog.begun is None:
            raise CheckpointError(
                f"checkpoint folder {self.folder} holds no batch and batches were expected; "
                "restore its journal, or allow a fresh start (the results would count everything again)"
            )
        self._append_open(journal)
        self._journal = journal
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

    def _read_meta(self, zero: Time) -> None:
        path = self.folder / "meta.json"
        if not path.exists():
            if (self.folder / "journal").exists():
                raise CheckpointError(f"{path} is missing beside a journal; restore it from a copy")
            self._meta.zero_ms = int(zero)
            write_durably(path, msgspec.json.format(msgspec.json.encode(self._meta)))
            return
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Meta)
        except msgspec.MsgspecError as cause:
            raise StateVersionError(f"{path} cannot be read ({cause}); restore it from a copy") from cause
        if found.format > FORMAT_VERSION:
            raise StateVersionError(
                f"{path} has format {found.format}, this version knows {FORMAT_VERSION}; run the version that wrote it"
            )
        for name, here, there in self._meta.differences(found):
            raise StateVersionError(
                f"{path} was written with {name}={there!r}, this process has {name}={here!r}; "
                f"start with {there!r}, or use another checkpoint folder"
            )
        self._meta = found

    def _sweep(self) -> None:
        """Remove what a process left that was killed while it wrote a new file; nothing refers to it."""
        for left in [*self.folder.glob("*.tmp-*"), *self.folder.glob("state/*/*/*.tmp-*")]:
            left.unlink()

    def _read_journal(self, folder: Path) -> str:
        """Read the newest segment that has a valid first frame into the catalog; returns its file name."""
        names = segment_names(folder)[:-1]
        for name in reversed(names):
            frames = read_segment(folder / name.file)
            if frames:
                # A frame may have been read from the page cache of a process that died before its fsync.
                sync_file(folder / name.file)
                for frame in frames:
                    self._apply(decode(frame.head, name.file), frame.segment, frame.body_offset)
                return name.file
        if names and names[0] != FIRST_SEGMENT:
            raise CorruptLogError(
                f"{folder / names[-1].file} is damaged at byte 0 and no segment before it is whole; "
                "restore it from a copy, or start with an empty checkpoint folder"
            )
        return ""

    def _apply(self, record: Record, segment: str, body_offset: int) -> None:
        match record:
            case Open():
                self.catalog = record.catalog
                self._count_growth()
            case Begin():
                self.catalog.begun = record.batch
            case Commit():
                self._apply_commit(record, segment, body_offset)
            case Snapshot():
                self._apply_snapshot(record.snapshot)

    def _count_growth(self) -> None:
        newest = {(kept.operator, kept.shard): kept for kept in self.catalog.snapshots}
        self._grown = {}
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
        self.catalog.commit = msgspec.structs.replace(commit, deltas=[])

    def _apply_snapshot(self, new: SnapshotRecord) -> None:
        place = (new.operator, new.shard)
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
        commit, place = self.catalog.commit, (operator, shard)
        version = commit.versions.get(operator, 0) if commit else 0
        snapshots = [kept for kept in self.catalog.snapshots if (kept.operator, kept.shard) == place]
        deltas = [delta for delta in self.catalog.deltas if (delta.operator, delta.shard) == place]
        journal = self.folder / "journal"
        return RestorePlan(
            version,
            tuple((str(self.folder / kept.file), kept.version) for kept in reversed(snapshots)),
            tuple(
                DeltaPlace(
                    str(journal / delta.segment), delta.offset, delta.length, delta.checksum, delta.version
                )
                for delta in deltas
            ),
            complete=place not in self.catalog.trimmed,
        )

    # A batch.

    def begin(self, batch: Batch) -> None:
        """Record the intent to run a batch, durable when this returns.

        Raises:
            ConcurrentRunError: a newer epoch has taken over.
            CheckpointWriteError: the volume is full, or fails; the next start tells whether the record is there.
        """
        fail_point("before_begin")
        record = BatchRecord.of(batch)
        self._append(Begin(record))
        self.catalog.begun = record
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
        )
        segment, body_offset = self._append(record, bytes(body))
        self._apply_commit(record, segment, body_offset)
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
        """Shards whose deltas have outgrown them, at most one for each executor, the most outgrown first."""
        commit = self.catalog.commit
        if commit is None:
            return []
        sizes = {(kept.operator, kept.shard): kept.size for kept in self.catalog.snapshots}
        weight = {
            place: max(size / (0.3 * sizes.get(place, 0) + 4096), count / 64)
            for place, (size, count) in self._grown.items()
        }
        chosen: dict[int, tuple[str, int]] = {}
        for place in sorted(weight, key=lambda place: (-weight[place], place)):
            if weight[place] >= 1:
                chosen.setdefault(place[1] % executors, place)
        epoch = self.open_journal().epoch
        return [
            SnapshotTask(operator, shard, version, self._snapshot_path(operator, shard, version, epoch))
            for operator, shard in chosen.values()
            if (version := commit.versions[operator])
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
        for shard in {(self.folder / record.file).parent for record in self.catalog.snapshots}:
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
