"""The topics that letters go back to: Kafka's, and those of the embedded log.

Owns: LogTopics, KafkaTopics.
Never: a transaction; a record that was sent is there, or its letter is in doubt.
"""

from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from engine.batch import OffsetRange
from engine.errors import SourceError, StreamingError
from engine.sources.log import LogSource, LogWriter

_make_consumer: Any = KafkaConsumer  # the client has no types, here and below
_make_producer: Any = KafkaProducer
ANSWER_MS = 10_000
STALL_POLLS = 30
"""So many polls of a second without a record, where the broker said that there are some, are given up."""


class LogTopics:
    """The embedded log, whose partitions have one writer each: its producer must be stopped first.

    Args:
        log_dir: folder of the log.
    """

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir

    def end(self, topic: str, partition: int) -> int:
        """The offset behind the last record of a partition.

        Raises:
            SourceError: there is no such topic or partition.
        """
        ends = {number: end for (_, number), (_, end) in LogSource(self._log_dir, [topic]).bounds().items()}
        if partition not in ends:
            raise SourceError(
                f"topic {topic!r} in {self._log_dir} has no partition {partition}; is DATA_DIR the stack's?"
            )
        return ends[partition]

    def find(self, topic: str, partition: int, start: int, key: bytes) -> int | None:
        """The offset of the record with this key at or behind an offset; None without one."""
        offsets = OffsetRange(topic, partition, start, self.end(topic, partition))
        for piece in LogSource(self._log_dir, [topic]).read(offsets):
            for index in range(len(piece.values)):
                record = piece.record(index)
                if record.key == key:
                    return record.offset
        return None

    def append(self, topic: str, partition: int, record: tuple[int, bytes, bytes]) -> int:
        """Append one record; returns its offset.

        Raises:
            ConcurrentRunError: the producer holds the partition.
        """
        with LogWriter(self._log_dir, topic, partition) as writer:
            return writer.append([record]) - 1

    def close(self) -> None:
        """Nothing is held open."""


class KafkaTopics:
    """The topics of one cluster.

    Args:
        bootstrap: host:port of its brokers, with commas between.
    """

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        servers = bootstrap.split(",")
        try:
            self._producer = _make_producer(
                bootstrap_servers=servers,
                bootstrap_timeout_ms=ANSWER_MS,
                acks="all",
                enable_idempotence=True,
                delivery_timeout_ms=6 * ANSWER_MS,
            )
            self._consumer = _make_consumer(
                bootstrap_servers=servers,
                bootstrap_timeout_ms=ANSWER_MS,
                isolation_level="read_committed",
                enable_auto_commit=False,
                allow_auto_create_topics=False,
            )
        except KafkaError as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> StreamingError:
        return StreamingError(
            f"Kafka at {self._bootstrap} does not answer ({error}); start it, and replay again: no letter is sent twice"
        )

    def end(self, topic: str, partition: int) -> int:
        """The offset behind the last record of a partition that may be read."""
        where = TopicPartition(topic, partition)
        try:
            return int(self._consumer.end_offsets([where])[where])
        except KafkaError as error:
            raise self._away(error) from error

    def find(self, topic: str, partition: int, start: int, key: bytes) -> int | None:
        """The offset of the record with this key at or behind an offset; None without one."""
        where, end = TopicPartition(topic, partition), self.end(topic, partition)
        try:
            self._consumer.assign([where])
            self._consumer.seek(where, start)
            silent = 0
            while self._consumer.position(where) < end:
                polled = self._consumer.poll(timeout_ms=1_000).get(where, ())
                for record in polled:
                    if record.key == key:
                        return int(record.offset)
                silent = 0 if polled else silent + 1
                if silent > STALL_POLLS:
                    raise StreamingError(
                        f"{topic}[{partition}] gives no record up to offset {end}; look at Kafka's log, and replay again"
                    )
        except KafkaError as error:
            raise self._away(error) from error
        return None

    def append(self, topic: str, partition: int, record: tuple[int, bytes, bytes]) -> int:
        """Append one record; returns its offset, acknowledged by all replicas."""
        timestamp_ms, key, value = record
        try:
            sent = self._producer.send(
                topic, value=value, key=key, partition=partition, timestamp_ms=timestamp_ms
            )
            return int(sent.get(timeout=6 * ANSWER_MS / 1_000).offset)
        except KafkaError as error:
            raise self._away(error) from error

    def close(self) -> None:
        """Close both clients."""
        self._producer.close()
        self._consumer.close(autocommit=False)
