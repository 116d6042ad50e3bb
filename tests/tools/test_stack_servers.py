"""The real Kafka and Cassandra under the stack: they answer, survive kill -9 with what they acknowledged, and stay down when told."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from cassandra import DriverException
from cassandra.cluster import NoHostAvailable
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from services.cassandra.session import open_session
from tests.servers import CassandraServer, KafkaServer
from tests.tools.stack_world import kinds_of, now, pid_of, state_of, wait_until
from tools.stack.api import SERVERS, Stack
from tools.stack.ready import is_answering

pytestmark = [pytest.mark.servers, pytest.mark.slow]


def test_second_up_leaves_running_servers_alone(servers_stack: Stack) -> None:
    """`up` once more finds both servers on their own ports and starts nothing."""
    pids = [pid_of(servers_stack, name) for name in SERVERS]
    servers_stack.up(SERVERS)
    assert [pid_of(servers_stack, name) for name in SERVERS] == pids


def test_servers_log_into_files_and_stay_within_their_heaps(servers_stack: Stack) -> None:
    """Each server writes its own log, and the two together take less than 1.6 GB."""
    for status in servers_stack.status():
        if status.name in SERVERS:
            assert "INFO" in status.log.read_text()
    used = sum(psutil.Process(pid_of(servers_stack, name)).memory_info().rss for name in SERVERS)
    assert used < 1.6e9


def test_cassandra_acknowledges_what_is_on_disk(cassandra_server: CassandraServer) -> None:
    """The commit log is synced before a row is acknowledged."""
    with open_session(cassandra_server.hosts, cassandra_server.port) as session:
        query = "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'"
        assert session.execute(query).one().value == "batch"


def test_unknown_topic_is_not_made_by_a_producer(kafka_server: KafkaServer) -> None:
    """A topic with a typing error in its name is an error and not a new topic."""
    producer = Producer(
        {"bootstrap.servers": kafka_server.bootstrap, "topic.metadata.propagation.max.ms": 100}
    )
    failures: list[Any] = []
    producer.produce("ad-evnets", b"x", on_delivery=lambda error, _: failures.append(error))
    assert producer.flush(20) == 0
    assert "UNKNOWN_TOPIC" in failures[0].name()


def test_killed_server_stays_down_until_it_is_started(
    servers_stack: Stack, kafka_server: KafkaServer
) -> None:
    """The supervisor does not start a killed server again; `start` does, on the same data."""
    began = now()
    kafka_server.kill()
    death = servers_stack.wait_for("kafka", "death", after=began)
    assert death.facts["signal"] == "SIGKILL"
    assert state_of(servers_stack, "kafka") == "down"
    assert not is_answering("kafka", servers_stack.settings)
    kafka_server.start()
    assert is_answering("kafka", servers_stack.settings)
    assert kinds_of(servers_stack, "kafka")[-4:] == ["kill", "death", "start", "ready"]


def test_kafka_keeps_acknowledged_records_through_kill(
    kafka_server: KafkaServer, fresh_topic: Callable[[int], str]
) -> None:
    """Every record that Kafka acknowledged before kill -9 is read again after its restart."""
    topic, acknowledged = fresh_topic(1), []

    def note(error: object, message: Any) -> None:
        if error is None:
            acknowledged.append(message.value())

    producer = Producer({"bootstrap.servers": kafka_server.bootstrap, "acks": "all", "linger.ms": 0})
    sent = 0
    while len(acknowledged) < 2_000:
        producer.produce(topic, str(sent).encode(), on_delivery=note)
        sent += 1
        producer.poll(0 if len(producer) < 1_000 else 0.05)
    kafka_server.kill()
    known = set(acknowledged)
    kafka_server.start()
    producer.flush(30)
    assert known <= set(read_all(kafka_server.bootstrap, topic))


def read_all(bootstrap: str, topic: str) -> list[bytes | None]:
    """The values of a topic with one partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "enable.auto.commit": False})
    try:
        partition = TopicPartition(topic, 0, 0)
        consumer.assign([partition])
        ends: list[int] = []

        def has_told_its_end() -> bool:
            # A broker that has just started may not lead its partitions yet.
            with contextlib.suppress(KafkaException):
                ends.append(consumer.get_watermark_offsets(partition, timeout=5)[1])
            return bool(ends)

        wait_until(has_told_its_end)
        values: list[bytes | None] = []
        while len(values) < ends[0]:
            values += [message.value() for message in consumer.consume(500, 1.0) if not message.error()]
        return values
    finally:
        consumer.close()


def test_cassandra_keeps_acknowledged_rows_through_kill(cassandra_server: CassandraServer) -> None:
    """Every row that Cassandra acknowledged while it was killed with -9 is there after its restart."""
    keyspace = cassandra_server.keyspace()
    acknowledged: list[str] = []
    writer = threading.Thread(target=write_rows, args=(cassandra_server, keyspace, acknowledged))
    writer.start()
    wait_until(lambda: len(acknowledged) >= 300)
    cassandra_server.kill()
    writer.join()
    cassandra_server.start()
    with open_session(cassandra_server.hosts, cassandra_server.port) as session:
        found = {row.page for row in session.execute(f"SELECT page FROM {keyspace}.page_totals")}  # noqa: S608 - a name that the fixture made
    assert len(acknowledged) >= 300
    assert set(acknowledged) <= found


def write_rows(server: CassandraServer, keyspace: str, acknowledged: list[str]) -> None:
    """Write rows one after the other until the server is gone; keeps the keys of those that it acknowledged."""
    with (
        open_session(server.hosts, server.port) as session,
        contextlib.suppress(DriverException, NoHostAvailable, OSError),
    ):
        insert = session.prepare(f"INSERT INTO {keyspace}.page_totals (page, views) VALUES (?, ?)")  # noqa: S608 - a name that the fixture made
        for number in range(1_000_000):
            session.execute(insert, (f"/page/{number}", number), timeout=5.0)
            acknowledged.append(f"/page/{number}")
