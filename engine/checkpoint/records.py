"""The records of the journal as typed JSON, and the catalog of everything that a restart needs.

Between versions: a field that a version adds has a default, so that it reads what older ones wrote. An older one refuses a record with a
field that it does not know, by name: what the field says could change what the rest means. So an upgrade can be taken back until the
new version has written such a field, and from then on not by mistake. A change that no field tells makes a new FORMAT_VERSION;
every start writes its own into its `open` record, so a folder that a newer version went on with is refused by an older one, also
where meta.json, which is never written again, has an older number.

Owns: the records, Catalog.
Never: a file.
"""

from collections.abc import Mapping

import msgspec

from engine.batch import Batch, OffsetRange, Time
from engine.errors import StateVersionError

FORMAT_VERSION = 1
"""Of the whole checkpoint folder; in meta.json that of its first start, in every `open` record that of the start that wrote it."""
OLDEST_FORMAT = 1
"""The oldest one that is read."""
KNOWN_FORMATS = " to ".join(map(str, sorted({OLDEST_FORMAT, FORMAT_VERSION})))

RangeRecord = tuple[str, int, int, int]
"""(topic, partition, from, until)."""


class BatchRecord(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
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


class DeltaRecord(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
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


class SnapshotRecord(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One whole shard in a file of its own."""

    operator: str
    shard: int
    version: int
    file: str
    """Relative to the app's folder."""
    keys: int
    size: int
    """Bytes."""


Topics = Mapping[str, Mapping[str, str]]
"""By input and topic what tells the topic from another one of its name."""


class Begin(msgspec.Struct, tag="begin", frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Intent: durable BEFORE the batch's first task."""

    batch: BatchRecord
    topics: dict[str, dict[str, str]] = {}
    """As `Topics`, where the journal does not say it yet."""


Types = tuple[str, str]
"""An operator's declared types of key and state, as `declared.described` has them."""


class Commit(msgspec.Struct, tag="commit", kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Completion: durable AFTER every output was acknowledged."""

    batch: BatchRecord
    operators: dict[str, str]
    """Lineage of every stateful operator by name."""
    versions: dict[str, int]
    """Version of every stateful operator by name."""
    maxima: dict[str, list[tuple[str, int, int]]] = {}
    """By input with event time: (topic, partition, largest event time so far)."""
    deltas: list[DeltaRecord] = []
    types: dict[str, Types] = {}
    """By operator the types of what this and later commits hold of it, where the journal does not say them yet."""


class Upgrade(msgspec.Struct, tag="upgrade", frozen=True, forbid_unknown_fields=True):
    """Other code has another graph: durable BEFORE its first batch."""

    renamed: dict[str, str] = {}
    """Operators by their old names."""
    dropped: list[str] = []
    """Operators whose state is given up."""


class Snapshot(msgspec.Struct, tag="snapshot", frozen=True, forbid_unknown_fields=True):
    """A snapshot's file is durable."""

    snapshot: SnapshotRecord


class Catalog(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
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
    ranges: dict[str, list[RangeRecord]] = {}
    """By input the last range of each partition that it ever read; an input or a partition that is away may come back."""
    topics: dict[str, dict[str, str]] = {}
    """As `Topics`, of everything that was ever read."""
    types: dict[str, list[tuple[int, Types]]] = {}
    """By operator from which version on its deltas and snapshots hold which types, oldest first."""

    def begin(self, batch: Batch, topics: Topics) -> Begin:
        """The record of a batch that begins, with what is new of the topics that it reads."""
        news = {
            name: dict(ids)
            for name, ids in topics.items()
            if not ids.items() <= self.topics.get(name, {}).items()
        }
        return Begin(BatchRecord.of(batch), news)

    def take_begin(self, record: Begin) -> None:
        """A batch has begun."""
        self.begun = record.batch
        for name, ids in record.topics.items():
            self.topics.setdefault(name, {}).update(ids)

    def take_ranges(self, batch: BatchRecord) -> None:
        """A batch is committed: inputs go on after its ranges, and those that it does not have stay where they are."""
        for name, parts in batch.ranges.items():
            places = {part[:2] for part in parts}
            away = [part for part in self.ranges.get(name, ()) if part[:2] not in places]
            self.ranges[name] = [*away, *parts]

    def newest_time(self) -> int:
        """The time of the newest batch that was begun, milliseconds since the epoch; 0 without one."""
        return max(self.begun.time if self.begun else 0, self.commit.batch.time if self.commit else 0)

    def last_ranges(self) -> dict[str, tuple[OffsetRange, ...]]:
        """By input the last range of each partition, also of inputs that were not in the last batch."""
        # A journal of before they were kept has those of its last commit only.
        known = {**(self.commit.batch.ranges if self.commit else {}), **self.ranges}
        return {name: tuple(OffsetRange(*part) for part in parts) for name, parts in known.items()}


class Open(msgspec.Struct, tag="open", frozen=True, forbid_unknown_fields=True):
    """First frame of a segment: what lies behind `follows` in older segments is void."""

    epoch: int
    follows: str
    """File name of the last segment that was read, empty in the very first."""
    catalog: Catalog
    format: int = FORMAT_VERSION


Record = Begin | Commit | Snapshot | Upgrade | Open

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
        record = _decoder.decode(head)
    except msgspec.MsgspecError as cause:
        raise StateVersionError(
            f"{where} holds a record that this version does not know ({cause}); "
            "run the version that wrote it, or start with an empty checkpoint folder and a backfill of the ledger"
        ) from cause
    if isinstance(record, Open) and not OLDEST_FORMAT <= record.format <= FORMAT_VERSION:
        raise StateVersionError(
            f"{where} has format {record.format}, this version knows {KNOWN_FORMATS}; run the version that wrote it"
        )
    return record
