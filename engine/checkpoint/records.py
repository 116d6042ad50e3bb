"""The records of the journal as typed JSON, and the catalog of everything that a restart needs.

Owns: the records, Catalog.
Never: a file.
"""

from typing import Any

import msgspec

from engine.batch import Batch, OffsetRange, Time
from engine.errors import StateVersionError

FORMAT_VERSION = 1
"""Of the whole checkpoint folder; in meta.json."""

RangeRecord = tuple[str, int, int, int]
"""(topic, partition, from, until)."""


class BatchRecord(msgspec.Struct, kw_only=True, frozen=True):
    """A batch as the journal has it."""

    time: int
    attempt: int
    ranges: dict[str, list[RangeRecord]]
    watermarks: dict[str, int] = {}

    @classmethod
    def of(cls, batch: Batch) -> "BatchRecord":
        """The record of a batch."""
        ranges = {
            name: [(part.topic, part.partition, part.fromOffset, part.untilOffset) for part in parts]
            for name, parts in batch.ranges.items()
        }
        return cls(
            time=int(batch.time), attempt=batch.attempt, ranges=ranges, watermarks=dict(batch.watermarks)
        )

    def batch(self) -> Batch:
        """The batch of the record."""
        ranges = {name: tuple(OffsetRange(*part) for part in parts) for name, parts in self.ranges.items()}
        return Batch(Time(self.time), ranges, self.attempt, self.watermarks)


class DeltaRecord(msgspec.Struct, array_like=True, frozen=True):
    """Where one shard's changes of one batch are: in the body of a commit's frame."""

    operator: str
    shard: int
    offset: int
    """In bytes: from the begin of the body in a commit, from the begin of the segment in a catalog."""
    length: int
    checksum: int
    version: int
    segment: str = ""
    """File name of the segment, in a catalog."""


class SnapshotRecord(msgspec.Struct, array_like=True, frozen=True):
    """One whole shard in a file of its own."""

    operator: str
    shard: int
    version: int
    file: str
    """Relative to the app's folder."""
    keys: int
    size: int
    """Bytes."""


class Begin(msgspec.Struct, tag="begin", frozen=True):
    """Intent: durable BEFORE the batch's first task."""

    batch: BatchRecord


class Commit(msgspec.Struct, tag="commit", kw_only=True, frozen=True):
    """Completion: durable AFTER every output was acknowledged."""

    batch: BatchRecord
    operators: dict[str, str]
    """Lineage of every stateful operator by name."""
    versions: dict[str, int]
    """Version of every stateful operator by name."""
    maxima: dict[str, list[tuple[str, int, int]]] = {}
    """By input with event time: (topic, partition, largest event time so far)."""
    deltas: list[DeltaRecord] = []


class Snapshot(msgspec.Struct, tag="snapshot", frozen=True):
    """A snapshot's file is durable."""

    snapshot: SnapshotRecord


class Catalog(msgspec.Struct, kw_only=True):
    """Everything that a restart needs, as of one frame of the journal."""

    commit: Commit | None = None
    """The newest, without its deltas."""
    begun: BatchRecord | None = None
    """The newest begun batch; it has run to its end when its time is that of the commit."""
    history: list[BatchRecord] = []
    """Committed batches that a window may still need, oldest first."""
    deltas: list[DeltaRecord] = []
    """Those that a restore from the older of two snapshots needs, oldest first."""
    snapshots: list[SnapshotRecord] = []
    """At most two of each shard, oldest first."""
    trimmed: list[tuple[str, int]] = []
    """Shards (operator, shard) whose first deltas are gone, so that a restore needs a snapshot."""


class Open(msgspec.Struct, tag="open", frozen=True):
    """First frame of a segment: what lies behind `follows` in older segments is void."""

    epoch: int
    follows: str
    """File name of the last segment that was read, empty in the very first."""
    catalog: Catalog


Record = Begin | Commit | Snapshot | Open

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def encode(record: Record) -> bytes:
    """The record as JSON."""
    return _encoder.encode(record)


def decode(head: bytes, where: str) -> Record:
    """The record of a frame's head.

    Raises:
        StateVersionError: it is not of this format.
    """
    try:
        return _decoder.decode(head)
    except msgspec.MsgspecError as cause:
        raise StateVersionError(
            f"{where} holds a record that this version does not know ({cause}); "
            "run the version that wrote it, or start with an empty checkpoint folder"
        ) from cause


class Meta(msgspec.Struct, kw_only=True):
    """meta.json: what was fixed at the first start."""

    format: int
    app: str
    batch_ms: int
    zero_ms: int
    shards: int
    partitioner: str

    def differences(self, other: "Meta") -> list[tuple[str, Any, Any]]:
        """(name, here, there) of each field that differs, zero time aside."""
        names = [name for name in self.__struct_fields__ if name != "zero_ms"]
        return [
            (name, getattr(self, name), getattr(other, name))
            for name in names
            if getattr(self, name) != getattr(other, name)
        ]
