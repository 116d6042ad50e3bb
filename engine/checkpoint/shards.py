"""The shards of keyed state that live in an executor: a dict as of a version, and the overlay of the batch that runs.

A shard's version is that of the last batch that advanced its operator (`Batch.write_timestamp`, so a retry has a version of its
own). A run opens the shard with the version it builds on: the overlay of exactly that run is folded in, any other is dropped.
So a commit needs no message to the executors, and a failed attempt leaves no trace.

Snapshot file: 4 bytes "DSS1", 8 bytes XXH3 of the rest, then the codec's bytes; little endian. It counts once it was read back from
the volume. A restore takes the newest snapshot that is there and whole, says so where that is not the newest one, and puts the deltas
after it on top: the state is that of the last commit from either, or the restore is refused.

Owns: Shard, Shards, RestorePlan, plan_of, the snapshot format.
Never: the choice when to snapshot; that is the checkpoint's.
"""

import logging
import struct
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.checkpoint.codec import StateCodec
from engine.checkpoint.files import checksum, make_folder, read_back, sync_folder, write_durably
from engine.checkpoint.records import Catalog
from engine.errors import CorruptLogError, StateVersionError
from engine.failpoints import fail_point

log = logging.getLogger(__name__)

_SNAPSHOT = struct.Struct("<4sQ")
_SNAPSHOT_MAGIC = b"DSS1"


class _Gone:
    """In an overlay: the key was removed."""


GONE = _Gone()
EMPTY_CHECKSUM = checksum(b"")
"""Of the delta of a run that changed nothing; a commit does not name it."""


class DeltaPlace(NamedTuple):
    """Where a delta's bytes are."""

    path: str
    offset: int
    length: int
    checksum: int
    version: int


class RestorePlan(NamedTuple):
    """How a shard is rebuilt: the newest snapshot that can be read, and the deltas after it."""

    version: int
    snapshots: tuple[tuple[str, int], ...]
    """(path, version), newest first."""
    deltas: tuple[DeltaPlace, ...]
    """Oldest first; they reach back to the oldest snapshot."""
    complete: bool
    """Whether the deltas reach back to the very first batch, so that no snapshot is needed."""
    types: tuple[tuple[int, str], ...] = ()
    """(version, type of a state since then), oldest first, whose type is also that of what is older; empty when all are of the declared."""

    def written_as(self, version: int) -> str:
        """The type of a state in what was written at a version; empty for the declared one."""
        oldest = self.types[0][1] if self.types else ""
        return next((kind for since, kind in reversed(self.types) if since <= version), oldest)

    def reaches_back_to(self, version: int) -> bool:
        """Whether the deltas hold everything that was committed after this version, itself a committed one."""
        oldest = self.snapshots[-1][1] if self.snapshots else 0
        return 0 < version <= self.version and (self.complete or version >= oldest)

    def packed(self) -> bytes:
        """The plan as bytes, for a task that may not need it."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def unpacked(cls, data: bytes) -> "RestorePlan":
        """The plan of the bytes."""
        return msgspec.msgpack.decode(data, type=cls)


def plan_of(catalog: Catalog, folder: Path, operator: str, shard: int) -> RestorePlan:
    """How a shard is rebuilt as of the last commit of a catalog, from an application's folder."""
    commit, place = catalog.commit, (operator, shard)
    return RestorePlan(
        commit.versions.get(operator, 0) if commit else 0,
        tuple(
            (str(folder / kept.file), kept.version)
            for kept in reversed(catalog.snapshots)
            if (kept.operator, kept.shard) == place
        ),
        tuple(
            DeltaPlace(
                str(folder / "journal" / delta.segment),
                delta.offset,
                delta.length,
                delta.checksum,
                delta.version,
            )
            for delta in catalog.deltas
            if (delta.operator, delta.shard) == place
        ),
        complete=place not in catalog.trimmed,
        types=tuple((since, types[1]) for since, types in catalog.types.get(operator, ())),
    )


class Shard:
    """The state of some keys of one operator.

    1. `values` is the state as of `version`. 2. The overlay is what the run `overlay_version` changed.
    """

    def __init__(self, codec: StateCodec) -> None:
        self._codec = codec
        self.version = 0
        self.values: dict[Hashable, Any] = {}
        self.overlay: dict[Hashable, Any] = {}
        self.overlay_version = 0
        self.overlay_checksum: int | None = None
        """Of the overlay's delta, where other processes may have computed this run too; None trusts the version."""
        self.derived: Any = None
        """What a window keeps beside its parts; dropped with the run that made it."""
        self.derived_version = 0
        self.fallbacks = 0
        """Snapshots that the last `restore` passed over, damaged or gone."""

    def open(self, base: int, run: int) -> None:
        """Begin a run over the state as of version `base`; what an unfinished run left is dropped.

        Raises:
            StateVersionError: this process does not have that version.
        """
        self.settle(base)
        self.overlay = {}
        self.overlay_version = run
        self.overlay_checksum = None
        if self.derived_version > self.version:
            self.derived = None

    def settle(self, committed: int) -> None:
        """Be at the committed version: fold in the overlay if it is that of this version.

        Raises:
            StateVersionError: this process does not have that version.
        """
        if self.overlay_version == committed and committed:
            self._fold()
        if self.version != committed:
            raise StateVersionError(
                f"operator {self._codec.operator!r}: a shard is at version {self.version}, not at {committed}"
            )

    def _fold(self) -> None:
        self.values.update(self.overlay)
        for key in [key for key, state in self.overlay.items() if state is GONE]:
            self.values.pop(key, None)
        self.overlay = {}
        self.version = self.overlay_version

    def refuse_other_run(self, run: int) -> None:
        """Prove that the overlay is that of this run.

        Raises:
            StateVersionError: it is not; the reader would see another batch's state.
        """
        if self.overlay_version != run:
            raise StateVersionError(
                f"operator {self._codec.operator!r}: state of run {run} was asked for in run {self.overlay_version}"
            )

    def get(self, key: Hashable) -> Any:
        """The state of a key, None when it has none; the caller may change it in place."""
        state = self.overlay[key] if key in self.overlay else self.values.get(key)
        return None if state is GONE or state is None else self._codec.own(state)

    def put(self, key: Hashable, state: Any) -> None:
        """Set the state of a key in this run."""
        self.overlay[key] = self._codec.own(state)

    def remove(self, key: Hashable) -> None:
        """Drop a key in this run."""
        if key in self.values:
            self.overlay[key] = GONE
        else:
            self.overlay.pop(key, None)

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Every key with its state as this run sees it; states that can change in place are copies."""
        own = self._codec.own
        return ((key, own(state)) for key, state in self.peek())

    def peek(self) -> Iterator[tuple[Any, Any]]:
        """As `items`, without copies: for readers that change nothing and hand nothing on."""
        overlay = self.overlay
        for key, state in self.values.items():
            seen = overlay.get(key, state) if overlay else state
            if seen is not GONE:
                yield key, seen
        for key, state in overlay.items():
            if key not in self.values and state is not GONE:
                yield key, state

    def count(self) -> int:
        """Number of keys as this run sees it."""
        change = 0
        for key, state in self.overlay.items():
            change += (state is not GONE) - (key in self.values)
        return len(self.values) + change

    def delta(self) -> bytes:
        """What this run changed, as bytes; empty when nothing changed."""
        if not self.overlay:
            return b""
        gone = [key for key, state in self.overlay.items() if state is GONE]
        if not gone:
            return self._codec.encode(self.overlay.items(), [])
        changed = [(key, state) for key, state in self.overlay.items() if state is not GONE]
        return self._codec.encode(changed, gone)

    def restore(self, plan: RestorePlan) -> bool:
        """Bring the shard to the plan's version; returns whether the volume was read for it.

        A shard that is behind takes the deltas that it lacks; without one, or with one that is ahead, it is rebuilt.

        Raises:
            CorruptLogError: no snapshot can be read, or a delta is damaged or cannot be read.
        """
        self.fallbacks = 0
        if self.overlay_version == plan.version and plan.version and self._overlay_is_committed(plan):
            self._fold()
        if self.version == plan.version:
            return False
        older = ""
        if not plan.reaches_back_to(self.version):
            self.values, self.version = self._read_snapshot(plan)
            older = self._codec.older(plan.written_as(self.version))
        fail_point("in_restore")
        for place in plan.deltas:
            if place.version > self.version:
                older = self._put_delta(_read_delta(place), plan.written_as(place.version), older)
                self.version = place.version
        if older:
            self.values = dict(self._codec.brought(self.values.items(), older))
        self.version = plan.version
        self.overlay, self.overlay_version, self.derived = {}, 0, None
        return True

    def _put_delta(self, data: bytes, written: str, older: str) -> str:
        """Put a delta on top of values of an older type, or of today's; returns the type of all of them then."""
        pairs, gone = self._codec.decode(data, written)
        mine = self._codec.older(written)
        if not self.values:
            older = mine
        elif older != mine:
            # States go to today's type only: those that are there do, and so do these if they are of another older one.
            if older:
                self.values = dict(self._codec.brought(self.values.items(), older))
            pairs, older = self._codec.brought(pairs, mine) if mine else pairs, ""
        self.values.update(pairs)
        for key in gone:
            self.values.pop(key, None)
        return older

    def _overlay_is_committed(self, plan: RestorePlan) -> bool:
        """Whether the overlay is what the driver committed: where a task may run twice, its loser may have computed another."""
        last = plan.deltas[-1] if plan.deltas else None
        committed = last.checksum if last is not None and last.version == plan.version else EMPTY_CHECKSUM
        return self.overlay_checksum in {None, committed}

    def overlay_of(self, run: int, delta: bytes) -> None:
        """Have the overlay that a run left elsewhere, from its delta; the shard is open for this run."""
        pairs, gone = self._codec.decode(delta) if delta else ([], [])
        self.overlay = {**dict(pairs), **dict.fromkeys(gone, GONE)}
        self.overlay_version, self.overlay_checksum = run, checksum(delta)

    def _read_snapshot(self, plan: RestorePlan) -> tuple[dict[Hashable, Any], int]:
        for path, version in plan.snapshots:
            try:
                content = Path(path).read_bytes()
            except OSError as cause:
                is_gone = isinstance(cause, FileNotFoundError)
                self._fall_back(path, "is gone" if is_gone else f"cannot be read: {cause.strerror}")
                continue
            magic, expected = _SNAPSHOT.unpack_from(content) if len(content) >= _SNAPSHOT.size else (b"", 0)
            body = memoryview(content)[_SNAPSHOT.size :]
            if magic == _SNAPSHOT_MAGIC and checksum(body) == expected:
                self._tell_generation(path)
                return dict(self._codec.decode(body, plan.written_as(version))[0]), version
            self._fall_back(path, "fails its checksum")
        if plan.complete:
            self._tell_generation("the deltas since the first batch, without any snapshot")
            return {}, 0
        raise CorruptLogError(
            f"operator {self._codec.operator!r}: none of its snapshots {[path for path, _ in plan.snapshots]} can be read; "
            "restore one from a copy, or start with an empty checkpoint folder and a backfill of the ledger"
        )

    def _fall_back(self, path: str, what: str) -> None:
        self.fallbacks += 1
        log.warning("snapshot %s %s; falling back to an older generation", path, what)

    def _tell_generation(self, used: str) -> None:
        if self.fallbacks:
            log.warning(
                "operator %r: state restored from %s and what was committed after it",
                self._codec.operator,
                used,
            )

    def snapshot(self, path: Path) -> tuple[int, int]:
        """Write the whole shard to a new file and read it back; returns its number of keys and bytes.

        Raises:
            CheckpointWriteError: the volume is full, fails, or gives back something else.
        """
        body = self._codec.encode(self.values.items(), [])
        make_folder(path.parent)
        fail_point("in_snapshot")
        parts = _SNAPSHOT.pack(_SNAPSHOT_MAGIC, checksum(body)), body
        write_durably(path, *parts)
        # Another process may have made a folder on the way and died BEFORE its name was durable.
        for above in path.parents[1:4]:
            sync_folder(above)
        # An older generation goes once this one is recorded: BEFORE that the volume has shown that it has it.
        read_back(path, *parts)
        return len(self.values), len(body)


def _read_delta(place: DeltaPlace) -> bytes:
    try:
        with Path(place.path).open("rb") as file:
            file.seek(place.offset)
            data = file.read(place.length)
    except OSError as cause:
        raise CorruptLogError(
            f"{place.path} cannot be read ({cause.strerror}), and state needs the delta at its byte {place.offset}; "
            "restore the file from a copy, or start with an empty checkpoint folder and a backfill of the ledger"
        ) from cause
    if len(data) != place.length or checksum(data) != place.checksum:
        raise CorruptLogError(
            f"{place.path} is damaged: the delta at byte {place.offset} fails its checksum; "
            "restore the file from a copy, or start with an empty checkpoint folder and a backfill of the ledger"
        )
    return data


class Shards:
    """The shards that an executor holds, by operator and shard number."""

    def __init__(self) -> None:
        self._shards: dict[tuple[str, int], Shard] = {}
        self._owner = 0

    def get(self, owner: int, codec: StateCodec, shard: int) -> Shard:
        """The shard, empty at version 0 when this executor has not had it yet; those of another owner are dropped."""
        if owner != self._owner:
            # Versions are batch times: those of another application, or of a run of this one that was given up, may be equal.
            self._shards, self._owner = {}, owner
        place = (codec.operator, shard)
        if place not in self._shards:
            self._shards[place] = Shard(codec)
        return self._shards[place]

    def drop(self, operator: str, shard: int) -> None:
        """Forget a shard; it is rebuilt from the volume when it comes back."""
        self._shards.pop((operator, shard), None)
