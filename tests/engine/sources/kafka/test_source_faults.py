"""The Kafka source when topics are missing, cut or made again, and when the broker dies."""

import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its py.typed omits what its docs export
    NewPartitions,
    NewTopic,
)

from engine.batch import OffsetRange, TopicPartition
from engine.errors import OffsetOutOfRangeError, SourceError
from tests.engine.sources.kafka.world import (
    MakeSource,
    TopicWriter,
    admin,
    eventually,
    numbered,
    read,
    values,
    within,
)
from tests.servers import KafkaServer

pytestmark = [pytest.mark.servers, pytest.mark.slow]


class TestTopicFaults:
    """Topics that are missing, cut, grown or made again."""

    def test_missing_topic_is_named(self, make_source: MakeSource) -> None:
        """A topic that does not exist is refused with its name and the command that creates it."""
        with pytest.raises(
            SourceError, match=r"'no-such-topic' does not exist.*--create --topic no-such-topic"
        ):
            within(10, make_source("no-such-topic").bounds)

    def test_missing_partition_is_named(self, topic: str, make_source: MakeSource) -> None:
        """An assigned partition that the topic does not have is refused with those it has."""
        with pytest.raises(SourceError, match=r"has no partition 7; assign one of \[0\]"):
            within(10, make_source(partitions=((topic, 7),)).bounds)

    @pytest.mark.fault(30, "deleteRecords before a range is read")
    def test_deleted_records_are_named(
        self, kafka_server: KafkaServer, writer: TopicWriter, make_source: MakeSource
    ) -> None:
        """A range whose first records are deleted is an error with the offset and what the log holds."""
        writer.write(numbered(0, 100))
        client = admin(kafka_server.bootstrap)
        for future in client.delete_records([ClientPartition(writer.topic, 0, 40)]).values():
            future.result(30)
        source = make_source(writer.topic)

        assert source.bounds() == {TopicPartition(writer.topic, 0): (40, 100)}
        with pytest.raises(OffsetOutOfRangeError, match=r"no longer has offset 10.*\[40, 100\)"):
            read(source, OffsetRange(writer.topic, 0, 10, 60))
        assert values(source, OffsetRange(writer.topic, 0, 40, 60)) == numbered(40, 60)

    @pytest.mark.fault(31, "a range is read that reaches behind the end of the log")
    @pytest.mark.parametrize(("begin", "until"), [(50, 101), (101, 102)])
    def test_range_past_the_end_is_named(
        self, writer: TopicWriter, make_source: MakeSource, begin: int, until: int
    ) -> None:
        """A range that the log does not reach is an error, never a short read."""
        writer.write(numbered(0, 100))

        with pytest.raises(OffsetOutOfRangeError, match=rf"does not have offset {until - 1}.*\[0, 100\)"):
            read(make_source(writer.topic), OffsetRange(writer.topic, 0, begin, until))

    @pytest.mark.fault(32, "two partitions are added while the source is open")
    def test_added_partitions_are_seen(
        self, kafka_server: KafkaServer, topic: str, make_source: MakeSource
    ) -> None:
        """Partitions added while running are in the bounds from then on, but not in those of an assignment."""
        subscribed, assigned = make_source(topic), make_source(partitions=((topic, 0),))
        assert len(subscribed.bounds()) == len(assigned.bounds()) == 1
        client = admin(kafka_server.bootstrap)
        client.create_partitions([NewPartitions(topic, 3)])[topic].result(30)
        TopicWriter(kafka_server.bootstrap, topic).write([b"new"], partition=2)

        eventually(lambda: len(subscribed.bounds()) == 3, 10)
        assert subscribed.bounds()[TopicPartition(topic, 2)] == (0, 1)
        assert values(subscribed, OffsetRange(topic, 2, 0, 1)) == [b"new"]
        assert list(assigned.bounds()) == [TopicPartition(topic, 0)]

    @pytest.mark.fault(31, "the topic is deleted, made again and written further while it is read")
    def test_topic_made_again_is_named(
        self, kafka_server: KafkaServer, writer: TopicWriter, make_source: MakeSource
    ) -> None:
        """A topic of the same name with other records is an error, though its log reaches further than before."""
        writer.write(numbered(0, 10))
        source = make_source(writer.topic)
        source.bounds()
        client = admin(kafka_server.bootstrap)
        client.delete_topics([writer.topic])[writer.topic].result(30)
        eventually(lambda: writer.topic not in client.list_topics(timeout=10).topics)
        client.create_topics([NewTopic(writer.topic, 1, 1)])[writer.topic].result(30)
        TopicWriter(kafka_server.bootstrap, writer.topic).write(numbered(100, 120))

        with pytest.raises(SourceError, match=r"was deleted and made again"):
            within(20, lambda: eventually(lambda: not source.bounds()))

    @pytest.mark.fault(31, "the topic is deleted while it is read")
    def test_deleted_topic_is_named(
        self, kafka_server: KafkaServer, writer: TopicWriter, make_source: MakeSource
    ) -> None:
        """A topic deleted while running is an error for the planner and for the reader."""
        writer.write(numbered(0, 10))
        source = make_source(writer.topic)
        source.bounds()
        client = admin(kafka_server.bootstrap)
        client.delete_topics([writer.topic])[writer.topic].result(30)

        with pytest.raises(SourceError, match=r"does not exist"):
            within(20, lambda: eventually(lambda: not source.bounds()))
        with pytest.raises(SourceError, match=writer.topic):
            read(source, OffsetRange(writer.topic, 0, 0, 10))


class TestBroker:
    """A broker that dies and comes back."""

    @pytest.mark.fault(28, "SIGKILL of the broker in the middle of a range")
    def test_kill_during_a_range_costs_no_record(
        self,
        kafka_server: KafkaServer,
        writer: TopicWriter,
        make_source: MakeSource,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A range that the broker's kill -9 interrupts is complete after its restart; the log names the address."""
        writer.write(bytes(1_000) + value for value in numbered(0, 30_000))
        source = make_source(writer.topic)
        got = []
        caplog.set_level(logging.WARNING)
        with ThreadPoolExecutor(1) as executor:
            started = None
            for piece in source.read(OffsetRange(writer.topic, 0, 0, 30_000)):
                got += [value[1_000:] for value in piece.values if value is not None]
                if started is None:
                    kafka_server.kill()
                    down = time.monotonic()
                    started = executor.submit(kafka_server.start)
            seconds = time.monotonic() - down

        assert numbered(0, 30_000) == got
        lines = [line for line in caplog.messages if kafka_server.bootstrap in line]
        assert lines
        assert len(lines) <= seconds + 1

    @pytest.mark.fault(29, "the broker is down when a source asks for the first time")
    def test_bounds_wait_for_the_broker(
        self, kafka_server: KafkaServer, writer: TopicWriter, make_source: MakeSource
    ) -> None:
        """A planner that meets a dead broker, at start or later, waits for it and raises nothing."""
        writer.write(numbered(0, 10))
        running, fresh = make_source(writer.topic), make_source(writer.topic, client_id="fresh")
        running.bounds()
        kafka_server.kill()
        with ThreadPoolExecutor(2) as executor:
            waiting = [executor.submit(running.bounds), executor.submit(fresh.bounds)]
            running.commit([OffsetRange(writer.topic, 0, 0, 10)])
            assert not waiting[0].done()
            kafka_server.start()

            for future in waiting:
                assert future.result(60) == {TopicPartition(writer.topic, 0): (0, 10)}

    def test_read_ahead_outlives_the_broker(
        self, kafka_server: KafkaServer, writer: TopicWriter, make_source: MakeSource
    ) -> None:
        """The next range of a partition comes from what was read ahead, without a request."""
        writer.write(numbered(0, 2_000))
        source = make_source(writer.topic)
        values(source, OffsetRange(writer.topic, 0, 0, 700))
        kafka_server.kill()

        assert numbered(700, 1_000) == values(source, OffsetRange(writer.topic, 0, 700, 1_000))

    def test_close_ends_the_waiting(
        self, kafka_server: KafkaServer, writer: TopicWriter, make_source: MakeSource
    ) -> None:
        """A read and a plan that wait for a dead broker end with an error when the source is closed."""
        source = make_source(writer.topic)
        source.bounds()
        kafka_server.kill()
        with ThreadPoolExecutor(2) as executor:
            waiting: list[Future[Any]] = [
                executor.submit(source.bounds),
                executor.submit(read, source, OffsetRange(writer.topic, 0, 0, 1)),
            ]
            eventually(lambda: all(future.running() for future in waiting))
            threading.Timer(0.5, source.close).start()

            for future in waiting:
                with pytest.raises(SourceError, match="closed"):
                    future.result(20)
