"""What a source of replayable, partitioned records must be able to do.

Owns: ConsumerRecord, RecordSlice, Source.
Never: a client library; each source brings its own.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from engine.batch import OffsetRange, TopicPartition


class ConsumerRecord(NamedTuple):
    """One record with its coordinates; the fields are those of Kafka's consumer API."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    """Milliseconds since the epoch, as the producer or the broker set it."""
    key: bytes | None
    value: bytes | None


class RecordSlice(Protocol):
    """A few hundred consecutive records of one partition, in offset order.

    The values come as one list so that a decoder runs over them without a Python call a record;
    the coordinates of a record are made only for whoever asks.
    """

    values: Sequence[bytes | None]
    lost: OffsetRange | None
    """Offsets that the log no longer has, in a slice without records; of a source that passes over them, else None."""

    def record(self, index: int) -> ConsumerRecord:
        """The record whose value is values[index]."""

    def created(self) -> list[int]:
        """When its first and its last record were created, milliseconds since the epoch, as far as they tell; cheap."""


class Source(Protocol):
    """A partitioned log that can be read again from any offset.

    A source is shipped to the executors by pickle and must hold settings only: clients are made on first
    use in the process that uses them.

    Guarantees asked for: reading one range twice gives the same records; `read` ends by itself when
    the range holds fewer records than offsets (aborted, control and compacted ones).
    Not guaranteed: `close` may never be called.
    """

    def bounds(self) -> Mapping[TopicPartition, tuple[int, int]]:
        """The (earliest, end) offsets of every partition that this source covers; driver only.

        `end` is exclusive and what a reader may read until now: with transactional producers the last
        stable offset. Waits with backoff while the server is away.

        Raises:
            SourceError: a topic does not exist, or lost partitions; waiting will not help.
        """

    def topic_ids(self, topics: Collection[str]) -> Mapping[str, str]:
        """By topic what tells it from another one of its name, made before or after it; driver only. Waits as `bounds` does.

        Raises:
            SourceError: a topic does not exist.
        """

    def retention_ms(self, topic: str) -> int | None:
        """How long the topic keeps its records, milliseconds; None when it drops none for their age; driver only."""

    def read(self, offsets: OffsetRange) -> Iterator[RecordSlice]:
        """The records of [fromOffset, untilOffset) in slices, in order; called in executors.

        Raises:
            OffsetOutOfRangeError: the log no longer has fromOffset, or ends before untilOffset.
        """

    def commit(self, ranges: Sequence[OffsetRange]) -> None:
        """Tell the source, as a hint for lag tools, that everything before untilOffset is done; driver only.

        Never blocks for long and never raises: the checkpoint is the truth, not the source's own offsets.
        """

    def close(self) -> None:
        """Let go of this process's clients."""
