"""The producer on a real Kafka: fenced, exact under kill -9 of either side, patient while the server is away."""

import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from engine.errors import ConcurrentRunError, ConfigurationError
from services.producer.events import ad_event
from services.producer.kafka_sink import KafkaSink, append_record, check_topic
from services.producer.schedule import NOTHING, Position
from tests.servers import KafkaServer
from tests.services.producer_world import Producer as ProducerProcess
from tests.services.producer_world import Spawn, events, spawn, starts, wait_until

__all__ = ["spawn"]

START = 1_700_000_000_000

# The loop of services/producer/main.py over one topic of any name.
DRIVER = """
import sys, threading
from engine.clock import SystemClock
from services.producer.events import ad_event
from services.producer.feed import Feed
from services.producer.kafka_sink import KafkaSink
from services.producer.main import run
from services.producer.schedule import Schedule
from services.settings import exit_code
bootstrap, topic, partitions, start_ms, limit, fast = sys.argv[1:]
sinks = [KafkaSink(bootstrap, topic, partition) for partition in range(int(partitions))]
feed = Feed(topic, ad_event, 7, Schedule(int(start_ms), 3_000, len(sinks)), sinks, int(limit) or None)
sys.exit(exit_code(lambda: run([feed], SystemClock(), threading.Event(), fast=fast == "fast")))
"""


def committed(bootstrap: str, topic: str, partition: int) -> list[Message]:
    """Every committed record of a partition."""
    return list(_committed(bootstrap, TopicPartition(topic, partition, 0)))


def _committed(bootstrap: str, place: TopicPartition) -> Iterator[Message]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "test",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    try:
        # Also while a producer goes on: no further than what was committed now.
        end = _end(consumer, place)
        consumer.assign([place])
        while True:
            for message in consumer.consume(1_000, 0.1):
                if (error := message.error()) is not None:
                    assert error.code() == KafkaError._PARTITION_EOF
                    return
                if (message.offset() or 0) >= end:
                    return
                yield message
    finally:
        consumer.close()


def committed_events(bootstrap: str, topic: str, partitions: int) -> list[list[dict[str, int]]]:
    """Every committed event of each partition."""
    return [events(each.value() for each in committed(bootstrap, topic, p)) for p in range(partitions)]


def assert_whole(bootstrap: str, topic: str, count: int) -> None:
    """Partition 0 comes to have exactly so many events; a commit is acknowledged a moment before it can be read."""
    wait_until(lambda: len(committed_events(bootstrap, topic, 1)[0]) >= count, f"event {count}")
    assert [item["seq"] for item in committed_events(bootstrap, topic, 1)[0]] == list(range(count))


def end_of(bootstrap: str, topic: str) -> int:
    """The end offset of partition 0, open transactions included."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "test", "isolation.level": "read_uncommitted"}
    )
    try:
        return _end(consumer, TopicPartition(topic, 0))
    finally:
        consumer.close()


def _end(consumer: Consumer, place: TopicPartition) -> int:
    """The end offset that the consumer may read to; asked again while a server that was started says no."""
    found: list[int] = []

    def attempt() -> bool:
        try:
            found.append(consumer.get_watermark_offsets(place, timeout=10)[1])
        except KafkaException:
            return False
        return True

    wait_until(attempt, "the answer to where a partition ends")
    return found[0]


def driver(spawn: Spawn, bootstrap: str, topic: str, *arguments: str) -> ProducerProcess:
    """A process that produces into a topic: partitions, start, limit (0 is none), fast or paced."""
    return spawn([bootstrap, topic, *arguments], {}, ("-c", DRIVER))


def batch(begin: int, until: int) -> list[tuple[int, bytes, bytes]]:
    """The events [begin, until) of partition 0."""
    return [(START + seq, *ad_event(7, 0, seq, START + seq)) for seq in range(begin, until)]


def resumed(sink: KafkaSink) -> Position:
    """Where the sink goes on, however often the server asks to be asked again."""
    found: list[Position] = []

    def attempt() -> bool:
        try:
            found.append(sink.resume())
        except ConnectionError:
            return False
        return True

    wait_until(attempt, "the answer to resume()")
    return found[0]


class Pausing(list[tuple[int, bytes, bytes]]):
    """Records that make whoever reads them do something else before the end."""

    def __init__(self, records: list[tuple[int, bytes, bytes]], pause: Callable[[], object]) -> None:
        super().__init__(records)
        self._pause = pause

    def __iter__(self) -> Iterator[tuple[int, bytes, bytes]]:
        yield from super().__iter__()
        self._pause()


@pytest.mark.slow
@pytest.mark.servers
def test_kills_neither_lose_nor_double_an_event(
    kafka_server: KafkaServer, fresh_topic: Callable[[int], str], spawn: Spawn
) -> None:
    """Killed with -9 again and again within its transactions, the producer leaves each partition whole, on one schedule."""
    bootstrap, topic = kafka_server.bootstrap, fresh_topic(3)
    reached = 0
    for round_number in range(6):
        process = driver(spawn, bootstrap, topic, "3", str(START + round_number), "0", "fast")
        reached += 3_000 + 1_111 * round_number
        wait_until(lambda: end_of(bootstrap, topic) > reached, f"event {reached}")  # noqa: B023  called before the next round
        process.kill()
        reached = end_of(bootstrap, topic)
    limit = 3 * reached
    last = driver(spawn, bootstrap, topic, "3", str(START + 99), str(limit), "fast")
    assert last.ended() == 0, last.output
    wait_until(lambda: sum(map(len, committed_events(bootstrap, topic, 3))) >= limit, f"event {limit}")
    found = committed_events(bootstrap, topic, 3)
    assert [len(items) for items in found] == [reached] * 3
    assert starts(found, 3_000) == {START}


@pytest.mark.slow
@pytest.mark.servers
def test_a_record_has_the_events_key_and_time(
    kafka_server: KafkaServer, fresh_topic: Callable[[int], str]
) -> None:
    """A record's key, value and timestamp are the event's."""
    topic = fresh_topic(1)
    sink = KafkaSink(kafka_server.bootstrap, topic, 0)
    assert resumed(sink) == NOTHING
    sink.append(batch(0, 3))
    assert_whole(kafka_server.bootstrap, topic, 3)
    found = committed(kafka_server.bootstrap, topic, 0)
    assert [(each.timestamp()[1], each.key(), each.value()) for each in found] == batch(0, 3)


@pytest.mark.slow
@pytest.mark.servers
def test_a_second_producer_fences_the_first(
    kafka_server: KafkaServer, fresh_topic: Callable[[int], str]
) -> None:
    """Whoever resumes last is the partition's one producer; what an earlier one still sends is refused and never read."""
    bootstrap, topic = kafka_server.bootstrap, fresh_topic(1)
    first, second = KafkaSink(bootstrap, topic, 0), KafkaSink(bootstrap, topic, 0)
    resumed(first)
    first.append(batch(0, 10))
    assert resumed(second) == Position(9, START + 9)
    with pytest.raises(ConcurrentRunError, match="another producer has taken over"):
        first.append(batch(10, 20))
    second.append(batch(10, 15))
    assert_whole(bootstrap, topic, 15)


@pytest.mark.slow
@pytest.mark.servers
def test_an_open_transaction_is_ended_before_the_read_back(
    kafka_server: KafkaServer, fresh_topic: Callable[[int], str]
) -> None:
    """A predecessor fenced in the middle of a transaction leaves nothing behind, and its commit is refused."""
    bootstrap, topic = kafka_server.bootstrap, fresh_topic(1)
    first, second = KafkaSink(bootstrap, topic, 0), KafkaSink(bootstrap, topic, 0)
    resumed(first)
    first.append(batch(0, 10))
    seen = []

    def overtake() -> None:
        wait_until(lambda: end_of(bootstrap, topic) > 11, "the first record of the open transaction")
        seen.append(resumed(second))

    with pytest.raises(ConcurrentRunError):
        first.append(Pausing(batch(10, 20), overtake))
    assert seen == [Position(9, START + 9)]
    second.append(batch(10, 12))
    assert_whole(bootstrap, topic, 12)


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.parametrize("overtaken", [False, True])
def test_a_transaction_open_for_too_long(
    kafka_server: KafkaServer, fresh_topic: Callable[[int], str], overtaken: bool
) -> None:
    """A producer that was stopped for longer than its transaction may last goes on, unless another one has gone on first."""
    bootstrap, topic = kafka_server.bootstrap, fresh_topic(1)
    stopped = KafkaSink(bootstrap, topic, 0, transaction_timeout=1)
    resumed(stopped)
    stopped.append(batch(0, 10))

    def stall() -> None:
        if overtaken:
            other = KafkaSink(bootstrap, topic, 0)
            resumed(other)
            other.append(batch(10, 30))
        # A record that follows an open transaction can be read when the server has ended that one.
        append_record(bootstrap, topic, 0, b"{behind", START)
        wait_until(
            lambda: committed(bootstrap, topic, 0)[-1].value() == b"{behind", "the end of the transaction"
        )
        wait_until(lambda: time.monotonic() - began > 1, "the time a transaction may last")

    began = time.monotonic()
    with pytest.raises(ConnectionError, match="open for more than 1 s"):
        stopped.append(Pausing(batch(10, 20), stall))
    if overtaken:
        with pytest.raises(ConcurrentRunError):
            stopped.resume()
    else:
        assert resumed(stopped) == Position(9, START + 9)
        stopped.append(batch(10, 30))
    assert_whole(bootstrap, topic, 30)


@pytest.mark.slow
@pytest.mark.servers
def test_two_processes_end_as_one(
    kafka_server: KafkaServer, fresh_topic: Callable[[int], str], spawn: Spawn
) -> None:
    """When a second producer starts, the first exits 2 with one sentence, and the topic stays whole and on one schedule."""
    bootstrap, topic = kafka_server.bootstrap, fresh_topic(2)
    start = str(time.time_ns() // 1_000_000)
    first = driver(spawn, bootstrap, topic, "2", start, "0", "paced")
    wait_until(lambda: end_of(bootstrap, topic) > 100, "the first producer's events")
    second = driver(spawn, bootstrap, topic, "2", "0", "0", "paced")
    assert first.ended(30) == 2
    assert "another producer has taken over" in first.output
    assert "Traceback" not in first.output
    reached = end_of(bootstrap, topic)
    wait_until(lambda: end_of(bootstrap, topic) > reached + 2_000, "more events of the second producer")
    second.kill()
    assert starts(committed_events(bootstrap, topic, 2), 3_000) == {int(start)}


@pytest.mark.slow
@pytest.mark.servers
def test_a_killed_server_is_waited_for(
    kafka_server: KafkaServer, fresh_topic: Callable[[int], str], spawn: Spawn
) -> None:
    """Kafka killed with -9 in full flight and started again: nothing lost, nothing doubled, and the schedule caught up."""
    bootstrap, topic = kafka_server.bootstrap, fresh_topic(2)
    start = time.time_ns() // 1_000_000
    process = driver(spawn, bootstrap, topic, "2", str(start), "0", "paced")
    wait_until(lambda: end_of(bootstrap, topic) > 4_000, "the first events")
    kafka_server.kill()
    said = process.output.count("waiting: Kafka at")
    wait_until(lambda: process.output.count("waiting: Kafka at") > said, "the line about Kafka")
    kafka_server.start()
    back = time.time_ns() // 1_000_000

    def newest() -> int:
        return max(item["event_time"] for items in committed_events(bootstrap, topic, 2) for item in items)

    wait_until(lambda: newest() > back, "events of after the restart")
    process.kill()
    assert process.output.count("waiting: ") <= (back - start) / 1_000 + 1
    assert starts(committed_events(bootstrap, topic, 2), 3_000) == {start}


@pytest.mark.slow
@pytest.mark.servers
def test_read_back_steps_over_poison_and_aborted_events(
    kafka_server: KafkaServer, fresh_topic: Callable[[int], str]
) -> None:
    """Behind the newest committed event, records that do not decode and transactions that were aborted are not seen."""
    bootstrap, topic = kafka_server.bootstrap, fresh_topic(1)
    first = KafkaSink(bootstrap, topic, 0)
    resumed(first)
    first.append(batch(0, 5))
    append_record(bootstrap, topic, 0, b"{poison", START)
    poison = Producer({"bootstrap.servers": bootstrap})
    for _ in range(250):
        poison.produce(topic, b"{poison", partition=0)
    assert poison.flush(30) == 0
    aborted = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"aborted-{topic}"})
    aborted.init_transactions(30)
    aborted.begin_transaction()
    for _, key, value in batch(5, 900):
        aborted.produce(topic, value, key, 0)
    aborted.flush()
    aborted.abort_transaction(30)
    assert resumed(KafkaSink(bootstrap, topic, 0)) == Position(4, START + 4)


@pytest.mark.slow
@pytest.mark.servers
def test_topics_are_checked(kafka_server: KafkaServer, fresh_topic: Callable[[int], str]) -> None:
    """A missing topic and a wrong number of partitions are named with their remedy."""
    bootstrap, topic = kafka_server.bootstrap, fresh_topic(2)
    check_topic(bootstrap, topic, 2)
    with pytest.raises(
        ConfigurationError, match="has 2 partitions and not 3; set its number of partitions to 2"
    ):
        check_topic(bootstrap, topic, 3)
    with pytest.raises(
        ConfigurationError, match=r"topic 'nowhere' does not exist in Kafka at .*; run `scripts/stack up`"
    ):
        check_topic(bootstrap, "nowhere", 3)


@pytest.mark.slow
def test_an_unreachable_server_is_waited_for(spawn: Spawn, tmp_path: Path) -> None:
    """Without Kafka the process names the address at most once a second, and SIGTERM ends it with 0."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        began = time.monotonic()
        producer = spawn([], {"KAFKA_BOOTSTRAP": address, "DATA_DIR": str(tmp_path)})
        wait_until(lambda: producer.output.count("\n") >= 2, "two lines")
        producer.process.send_signal(signal.SIGTERM)
        assert producer.ended(20) == 0
    lines = producer.output.splitlines()
    assert all(f"waiting: Kafka at {address} does not answer" in line for line in lines)
    assert len(lines) <= time.monotonic() - began


@pytest.mark.slow
def test_poison_gives_up_on_an_unreachable_server(spawn: Spawn, tmp_path: Path) -> None:
    """The poison command says that nothing was appended, and where it looked, and exits 2."""
    variables = {"KAFKA_BOOTSTRAP": "127.0.0.1:1", "DATA_DIR": str(tmp_path)}
    arguments = ["--topic", "ad-events", "--partition", "0"]
    poison = spawn(arguments, variables, ("-m", "services.producer.poison"))
    assert poison.ended(30) == 2
    assert "nothing was appended to ad-events[0]: Kafka at 127.0.0.1:1 does not answer" in poison.output
    assert "Traceback" not in poison.output


@pytest.mark.slow
@pytest.mark.servers
def test_poison_names_what_is_missing(
    kafka_server: KafkaServer, fresh_topic: Callable[[int], str], tmp_path: Path
) -> None:
    """Poison for a partition that does not exist is refused by name."""
    with pytest.raises(ConfigurationError, match="has no partition 5"):
        append_record(kafka_server.bootstrap, fresh_topic(1), 5, b"x", START)
