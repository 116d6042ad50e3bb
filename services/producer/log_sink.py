"""The producer's way into the embedded log: an append is one frame, and the writer's lock keeps a second producer out.

Owns: LogSink, check_topic, append_record.
Never: a server.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.batch import OffsetRange, TopicPartition
from engine.errors import ConfigurationError, SourceError
from engine.sources.api import ConsumerRecord
from engine.sources.log import LogSource, LogWriter, topic_partitions
from services.producer.schedule import REPLAYED, Position, newest_position


def check_topic(log_dir: Path, topic: str, partitions: int) -> None:
    """Prove that a topic is there with that many partitions.

    Raises:
        ConfigurationError: it is not.
    """
    try:
        found = topic_partitions(log_dir, topic)
    except SourceError as error:
        raise ConfigurationError(
            f"topic {topic!r} does not exist in {log_dir}; run `scripts/stack up`"
        ) from error
    if found != partitions:
        raise ConfigurationError(
            f"topic {topic!r} in {log_dir} has {found} partitions and not {partitions}; set its number of partitions to {found}"
        )


class LogSink:
    """One partition of the embedded log.

    Args:
        log_dir: folder of the log.
        topic: name of a topic that exists.
        partition: from 0.
    """

    def __init__(self, log_dir: Path, topic: str, partition: int) -> None:
        self._partition = TopicPartition(topic, partition)
        self._log_dir = log_dir
        self._writer: LogWriter | None = None

    def resume(self) -> Position:
        """Take the partition's lock, then read back the newest event.

        Raises:
            ConcurrentRunError: another producer holds the partition.
        """
        if self._writer is None:
            self._writer = LogWriter(self._log_dir, *self._partition)
        source = LogSource(self._log_dir, [self._partition.topic])
        first, end = source.bounds()[self._partition]

        def read(begin: int, until: int) -> Iterator[bytes | None]:
            for piece in source.read(OffsetRange(*self._partition, begin, until)):
                yield from (_own_value(piece.record(index)) for index in range(len(piece.values)))

        return newest_position(f"{self._partition.topic}[{self._partition.partition}]", first, end, read)

    def append(self, records: Sequence[tuple[int, bytes, bytes]]) -> None:
        """Append the records as one frame, durable when it returns.

        Raises:
            OSError: the volume refused; none of the records is in the log.
        """
        assert self._writer is not None, "resume() comes first"
        self._writer.append(records)

    def close(self) -> None:
        """Let go of the partition's lock."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _own_value(record: ConsumerRecord) -> bytes | None:
    """The value of a record that a producer sent."""
    return None if (record.key or b"").startswith(REPLAYED) else record.value


def append_record(log_dir: Path, topic: str, partition: int, value: bytes, timestamp_ms: int) -> int:
    """Append one record that is no event; returns its offset.

    Raises:
        ConcurrentRunError: the producer holds the partition.
    """
    with LogWriter(log_dir, topic, partition) as writer:
        return writer.append([(timestamp_ms, None, value)]) - 1
