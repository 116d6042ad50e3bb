"""Reads Kafka with kafka-python, another client than the engine's, and only what is committed.

Owns: KafkaLog.
Never: a commit of offsets, a consumer group.
"""

import socket
import time
from bisect import bisect_left
from collections.abc import Collection, Iterator
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from tools.verify.ledger import Partition, Range, Stored
from tools.verify.verdict import CannotTellError

_make_consumer: Any = KafkaConsumer  # the client has no types

CONNECT_MS = 10_000
POLL_MS = 500
STALL_SECONDS = 30.0
"""So long without a record, where the broker said that there are some, is given up."""


class KafkaLog:
    """The topics of one cluster; read front to back, any number of ranges."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._readers: dict[Partition, _PartitionReader] = {}
        self._reach()
        self._consumer = self._connect()

    def _reach(self) -> None:
        """Have one server answer: the client would try for as long as it may, and leave its sockets open."""
        refusals = []
        for server in self._bootstrap.split(","):
            host, _, port = server.rpartition(":")
            try:
                socket.create_connection((host, int(port)), timeout=CONNECT_MS / 1_000).close()
            except OSError as error:
                refusals.append(error)
            else:
                return
        raise self._away(refusals[0]) from refusals[0]

    def _connect(self) -> Any:  # a consumer
        try:
            return _make_consumer(
                bootstrap_servers=self._bootstrap.split(","),
                bootstrap_timeout_ms=CONNECT_MS,
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="none",
                allow_auto_create_topics=False,
                max_poll_records=5_000,
                # Without the C extension a checksum costs more than all the rest; the broker has checked it on arrival.
                check_crcs=False,
                metrics_enabled=False,
                retry_backoff_ms=10,
            )
        except KafkaError as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> CannotTellError:
        return CannotTellError(
            f"Kafka at {self._bootstrap} cannot be read ({error}); start it, or set KAFKA_BOOTSTRAP to where it is"
        )

    def bounds(self, topics: Collection[str]) -> dict[Partition, tuple[int, int]]:
        """First offset and last stable offset of every partition.

        Raises:
            CannotTellError: Kafka is away, or a topic is not there.
        """
        try:
            partitions = [item for topic in topics for item in self._partitions(topic)]
            first = self._consumer.beginning_offsets(partitions)
            end = self._consumer.end_offsets(partitions)
        except KafkaError as error:
            raise self._away(error) from error
        return {(item.topic, item.partition): (first[item], end[item]) for item in partitions}

    def _partitions(self, topic: str) -> list[TopicPartition]:
        numbers = self._consumer.partitions_for_topic(topic)
        if not numbers:
            raise CannotTellError(
                f"topic {topic} of the ledger does not exist on Kafka at {self._bootstrap}; is it another cluster?"
            )
        return [TopicPartition(topic, number) for number in sorted(numbers)]

    def read(self, item: Range) -> Iterator[Stored]:
        """The committed records of a range within the bounds; offsets may be sparse."""
        where = (item.topic, item.partition)
        if where not in self._readers:
            self._readers[where] = _PartitionReader(self._connect(), TopicPartition(*where))
        try:
            yield from self._readers[where].read(item.start, item.until)
        except KafkaError as error:
            raise self._away(error) from error

    def keys(self, where: Partition, offsets: Collection[int]) -> dict[int, bytes | None]:
        """The keys of the committed records at these offsets, those that are there.

        Raises:
            CannotTellError: Kafka is away.
        """
        partition, found = TopicPartition(*where), {}
        try:
            self._consumer.assign([partition])
            end = self._consumer.end_offsets([partition])[partition]
            for offset in sorted(offset for offset in offsets if offset < end):
                self._consumer.seek(partition, offset)
                record = self._next(partition, offset)
                if record is not None and record.offset == offset:
                    found[offset] = record.key
        except KafkaError as error:
            raise self._away(error) from error
        return found

    def _next(self, partition: TopicPartition, offset: int) -> Any:  # a record
        """The first record at or behind the place that was sought; None when it gives none."""
        deadline = time.monotonic() + STALL_SECONDS
        while self._consumer.position(partition) <= offset:
            if polled := self._consumer.poll(timeout_ms=POLL_MS).get(partition):
                return polled[0]
            if time.monotonic() > deadline:
                raise CannotTellError(
                    f"{partition.topic}[{partition.partition}] gives no record at offset {offset}; look at Kafka's log"
                )
        return None

    def close(self) -> None:
        """Close every consumer."""
        for consumer in (self._consumer, *(reader.consumer for reader in self._readers.values())):
            consumer.close(autocommit=False)


class _PartitionReader:
    """One consumer of one partition, which keeps what it fetched beyond a range for the next one."""

    def __init__(self, consumer: Any, where: TopicPartition) -> None:
        self.consumer = consumer
        self._where = where
        self._fetched: list[Stored] = []
        self._at = 0
        self._reached: int | None = None
        """Where the last range ended; what was fetched lies behind it."""
        consumer.assign([where])

    def read(self, start: int, until: int) -> Iterator[Stored]:
        if start != self._reached:
            self.consumer.seek(self._where, start)
            self._fetched, self._at = [], 0
        while self._fetch(until):
            fetched, at = self._fetched, self._at
            self._at = bisect_left(fetched, (until,), lo=at)
            yield from fetched[at : self._at]
            if self._at < len(fetched):
                break
        self._reached = until

    def _fetch(self, until: int) -> bool:
        """Have unread records at hand; False when there is none below `until`."""
        deadline = time.monotonic() + STALL_SECONDS
        while self._at == len(self._fetched) and self.consumer.position(self._where) < until:
            polled = self.consumer.poll(timeout_ms=POLL_MS).get(self._where, ())
            self._fetched, self._at = [(record.offset, record.value) for record in polled], 0
            if not polled and time.monotonic() > deadline:
                raise CannotTellError(
                    f"{self._where.topic}[{self._where.partition}] gives no record up to offset {until} "
                    f"for {STALL_SECONDS:.0f} s; look at Kafka's log"
                )
        return self._at < len(self._fetched)
