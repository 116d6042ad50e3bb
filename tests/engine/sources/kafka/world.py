"""What the tests of the Kafka source share: a topic to write to, and what a source gives of it."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import TypeVar

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from engine.batch import OffsetRange, TopicPartition
from engine.sources.api import ConsumerRecord
from engine.sources.kafka import KafkaSource

T = TypeVar("T")
MakeSource = Callable[..., KafkaSource]


def within(seconds: float, call: Callable[[], T]) -> T:
    """The call's result, which must come in this time."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001  raised again where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(seconds)


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Ask again and again until it holds."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "the condition did not come true in time"


def read(source: KafkaSource, offsets: OffsetRange) -> list[ConsumerRecord]:
    """The records of the range, which must come to its end within 30 s."""

    def records() -> list[ConsumerRecord]:
        return [piece.record(index) for piece in source.read(offsets) for index in range(len(piece.values))]

    return within(30, records)


def values(source: KafkaSource, offsets: OffsetRange) -> list[bytes | None]:
    """The values of the range."""
    return [record.value for record in read(source, offsets)]


class TopicWriter:
    """Writes to a topic, in transactions or without; message_bytes is the size of its largest message."""

    def __init__(self, bootstrap: str, topic: str, message_bytes: int = 1 << 20) -> None:
        self.topic = topic
        self._bootstrap = bootstrap
        self._plain = Producer(
            {
                "bootstrap.servers": bootstrap,
                "linger.ms": 5,
                "log_level": 0,
                "message.max.bytes": message_bytes,
            }
        )
        self._transactional: Producer | None = None

    def write(self, wanted: Iterable[bytes | None], partition: int = 0, key: bytes | None = None) -> None:
        """Append the values outside of any transaction, and wait until they are there."""
        for value in wanted:
            self._plain.produce(self.topic, value, key, partition)
            self._plain.poll(0)
        assert self._plain.flush(30) == 0

    def begin(self, wanted: Iterable[bytes], partition: int = 0) -> Callable[[bool], None]:
        """Append the values in a transaction that stays open; returns what ends it: True commits, False aborts."""
        producer = self._transactional
        if producer is None:
            producer = Producer(
                {
                    "bootstrap.servers": self._bootstrap,
                    "transactional.id": f"{self.topic}-writer",
                    "log_level": 0,
                }
            )
            producer.init_transactions(30)
            self._transactional = producer
        producer.begin_transaction()
        for value in wanted:
            producer.produce(self.topic, value, partition=partition)
            producer.poll(0)
        assert producer.flush(30) == 0

        def end(is_committed: bool) -> None:
            assert producer is not None
            (producer.commit_transaction if is_committed else producer.abort_transaction)(30)

        return end

    def commit(self, wanted: Iterable[bytes], partition: int = 0) -> None:
        """Append the values in a committed transaction."""
        self.begin(wanted, partition)(True)

    def abort(self, wanted: Iterable[bytes], partition: int = 0) -> None:
        """Append the values in an aborted transaction."""
        self.begin(wanted, partition)(False)


def numbered(begin: int, end: int) -> list[bytes]:
    """Values that tell their number."""
    return [b"%d" % number for number in range(begin, end)]


def wait_for_end(source: KafkaSource, ends: Mapping[TopicPartition, int]) -> None:
    """Wait until the source sees the logs end there: a transaction's marker is written after it is acknowledged."""
    eventually(lambda: {place: end for place, (_, end) in source.bounds().items()} == dict(ends))


def admin(bootstrap: str) -> AdminClient:
    """A client that changes topics."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
