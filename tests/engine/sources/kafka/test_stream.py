"""Spark's 0.10 API on a real Kafka: what is read, and what a record is."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its py.typed omits what its docs export
    NewPartitions,
    NewTopic,
)

from engine import LocalContext, StreamingContext
from engine.batch import Batch
from engine.errors import ConfigurationError, OffsetOutOfRangeError
from engine.sources.decoders import raw_bytes
from engine.sources.kafka import (
    Assign,
    Chosen,
    ConsumerStrategy,
    KafkaDStream,
    KafkaUtils,
    OffsetRange,
    PerPartitionConfig,
    PreferBrokers,
    PreferConsistent,
    PreferFixed,
    Subscribe,
    SubscribePattern,
    TopicPartition,
)
from tests.engine.sources.kafka.job import Job, MakeTopic, subscribed
from tests.engine.sources.kafka.world import TopicWriter, admin, eventually, numbered
from tests.servers import KafkaServer

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture
def topic(fresh_topic: MakeTopic) -> str:
    """A new topic with two partitions."""
    return fresh_topic(2)


class TestStrategies:
    """What is read."""

    @pytest.mark.parametrize(
        ("strategy", "location"),
        [
            (lambda topic, params: Subscribe([topic], params), PreferBrokers()),
            (lambda topic, params: Subscribe({topic}, params), PreferFixed({TopicPartition("t", 0): "host"})),
            (lambda topic, params: SubscribePattern(topic[:-1] + ".", params), PreferConsistent()),
            (
                lambda topic, params: Assign([TopicPartition(topic, 0), TopicPartition(topic, 1)], params),
                PreferConsistent(),
            ),
        ],
    )
    def test_records_come_once(
        self, kafka_server: KafkaServer, writer: TopicWriter, strategy: Any, location: Any
    ) -> None:
        """Each strategy gives every record of its partitions in one batch, as a record whose key and value are text."""

        def build(ssc: StreamingContext, job: Job) -> KafkaDStream[Any]:
            stream = KafkaUtils.createDirectStream(ssc, location, strategy(writer.topic, job.params))
            stream.foreachRDD(lambda rdd: keys.extend(rdd.map(lambda record: record.key).collect()))
            return stream

        keys: list[str] = []
        writer.write([b"a", b"b"], 0, b"k")
        writer.write([b"c"], 1, b"k")
        with Job(kafka_server.bootstrap, None, build) as job:
            job.run()
            writer.write([b"d"], 1, b"k")
            job.run()

        assert job.batches == [["a", "b", "c"], ["d"]]
        assert keys == ["k"] * 4
        assert job.ranges[0] == [OffsetRange(writer.topic, 0, 0, 2), OffsetRange(writer.topic, 1, 0, 1)]

    def test_assigned_partition_alone_is_read(self, kafka_server: KafkaServer, writer: TopicWriter) -> None:
        """Assign reads its partition from the given offset, and no other partition."""
        writer.write([b"a", b"b"], 0)
        writer.write([b"c"], 1)

        def build(ssc: StreamingContext, job: Job) -> KafkaDStream[Any]:
            place = TopicPartition(writer.topic, 0)
            return KafkaUtils.createDirectStream(
                ssc, PreferConsistent, Assign([place], job.params, {place: 1})
            )

        with Job(kafka_server.bootstrap, None, build) as job:
            job.run(2)

        assert job.batches == [["b"], []]

    def test_pattern_sees_topics_that_are_made_later(self, kafka_server: KafkaServer) -> None:
        """A stream of a pattern may begin without a topic; one that is made later is read from its first record, others never."""
        prefix = f"later-{uuid.uuid4().hex[:8]}"

        def build(ssc: StreamingContext, job: Job) -> KafkaDStream[Any]:
            params = {**job.params, "auto.offset.reset": "latest"}
            return KafkaUtils.createDirectStream(
                ssc, PreferConsistent(), SubscribePattern(f"{prefix}-[ab]", params)
            )

        with Job(kafka_server.bootstrap, None, build) as job:
            job.run()
            assert job.ranges == [[]]
            for name in ("a", "b", "ab"):
                make_topic(kafka_server, NewTopic(f"{prefix}-{name}", 1, 1))
                TopicWriter(kafka_server.bootstrap, f"{prefix}-{name}").write([name.encode()])
            job.run_until(["a", "b"])
            TopicWriter(kafka_server.bootstrap, f"{prefix}-b").write([b"more"])
            job.run_until(["a", "b", "more"])

    def test_compacted_topic_that_matches_later_is_refused(self, kafka_server: KafkaServer) -> None:
        """A topic that is made later, matches and is compacted ends the stream with its name, as it would at the start."""
        name = f"compacted-{uuid.uuid4().hex[:8]}"

        def build(ssc: StreamingContext, job: Job) -> KafkaDStream[Any]:
            return KafkaUtils.createDirectStream(ssc, PreferConsistent(), SubscribePattern(name, job.params))

        with Job(kafka_server.bootstrap, None, build) as job:
            job.run()
            make_topic(kafka_server, NewTopic(name, 1, 1, config={"cleanup.policy": "compact"}))
            with pytest.raises(ConfigurationError, match=f"topic '{name}' has cleanup.policy=compact"):
                job.run_until(["never"])

    @pytest.mark.fault(32, "two partitions are added and written between two batches")
    def test_partition_that_is_added_is_read_from_its_first_record(
        self, kafka_server: KafkaServer, writer: TopicWriter
    ) -> None:
        """A stream that began at the end reads what is in a new partition when it is seen."""
        writer.write([b"old"])

        def build(ssc: StreamingContext, job: Job) -> KafkaDStream[Any]:
            params = {**job.params, "auto.offset.reset": "latest"}
            return KafkaUtils.createDirectStream(ssc, PreferConsistent(), Subscribe([writer.topic], params))

        with Job(kafka_server.bootstrap, None, build) as job:
            job.run()
            client = admin(kafka_server.bootstrap)
            client.create_partitions([NewPartitions(writer.topic, 3)])[writer.topic].result(30)
            eventually(lambda: len(client.list_topics(writer.topic).topics[writer.topic].partitions) == 3)
            TopicWriter(kafka_server.bootstrap, writer.topic).write([b"new"], 2)
            job.run_until(["new"])

    def test_strategy_of_ones_own_decides_at_each_start(
        self, kafka_server: KafkaServer, writer: TopicWriter, tmp_path: Path
    ) -> None:
        """A strategy is asked at the start with nothing and after a restart with the stream's offsets, which win over its own."""
        asked: list[dict[TopicPartition, int]] = []
        place = TopicPartition(writer.topic, 0)

        class Own(ConsumerStrategy):
            """Reads the first partition, from its second record."""

            def __init__(self, params: Any) -> None:
                self._params = params

            @property
            def executorKafkaParams(self) -> Any:
                """Of the readers."""
                return self._params

            def onStart(self, currentOffsets: Mapping[TopicPartition, int]) -> Chosen:
                """Note what is known."""
                asked.append(dict(currentOffsets))
                return Assign([place], self._params, {place: 1})

        def build(ssc: StreamingContext, job: Job) -> KafkaDStream[Any]:
            return KafkaUtils.createDirectStream(ssc, PreferConsistent(), Own(job.params))

        writer.write([b"a", b"b"])
        with Job(kafka_server.bootstrap, tmp_path, build) as job:
            job.run()
            writer.write([b"c"])
            job.restart().run()

        assert asked == [{}, {place: 2}]
        assert job.batches == [["b"], ["c"]]

    def test_limits_are_per_partition(self, kafka_server: KafkaServer, writer: TopicWriter) -> None:
        """A batch takes of each partition what its own rate allows, and all of it without one."""

        class Config(PerPartitionConfig):
            """Slow for the second partition."""

            def maxRatePerPartition(self, topicPartition: TopicPartition) -> float:
                """Records a second."""
                return 2 if topicPartition.partition else 0

        writer.write(numbered(0, 5), 0)
        writer.write(numbered(5, 10), 1)
        build = subscribed(writer.topic, perPartitionConfig=Config())
        with Job(kafka_server.bootstrap, None, build) as job:
            job.run(3)

        assert [len(batch) for batch in job.batches] == [7, 2, 1]


def make_topic(kafka_server: KafkaServer, topic: NewTopic) -> None:
    """Make a topic, and wait until it is there."""
    client = admin(kafka_server.bootstrap)
    client.create_topics([topic])[topic.topic].result(30)


class TestRecords:
    """What a record is."""

    def test_record_has_headers_and_times(self, kafka_server: KafkaServer, topic: str) -> None:
        """A record comes with its headers, its time and kind of time, and null for what is not there."""
        producer = Producer({"bootstrap.servers": kafka_server.bootstrap})
        producer.produce(topic, b"v", b"k", 0, headers=[("a", b"1"), ("a", None)], timestamp=1_234)
        producer.produce(topic, None, None, 0, timestamp=1_235)
        assert producer.flush(30) == 0
        found: list[Any] = []

        def build(ssc: StreamingContext, job: Job) -> KafkaDStream[Any]:
            stream = subscribed(topic)(ssc, job)
            stream.foreachRDD(lambda rdd: found.extend(rdd.collect()))
            return stream

        with Job(kafka_server.bootstrap, None, build, "local[2]") as job:
            job.run()

        assert [(record.key, record.value, record.timestamp) for record in found] == [
            ("k", "v", 1_234),
            (None, None, 1_235),
        ]
        assert [(record.topic, record.partition, record.offset) for record in found] == [
            (topic, 0, 0),
            (topic, 0, 1),
        ]
        assert (found[0].headers, found[0].timestampType) == ((("a", b"1"), ("a", None)), 0)

    def test_decoder_gives_values_in_place_of_records(
        self, kafka_server: KafkaServer, writer: TopicWriter
    ) -> None:
        """With a decoder the stream holds values, and what does not decode is put aside."""
        letters: list[Any] = []

        class Ledger:
            """Keeps what is put aside."""

            def put_aside(self, batch: Batch, found: list[Any]) -> None:
                """Keep it."""
                letters.extend((letter.offset, letter.reason) for letter in found)

            def record(self, batch: Batch, zero_time: int) -> None:
                """Nothing."""

        def build(ssc: StreamingContext, job: Job) -> KafkaDStream[Any]:
            ssc.recordBatches(Ledger())
            return subscribed(writer.topic, decoder=int)(ssc, job)

        writer.write([b"1", b"x", b"3"], 0)
        with Job(kafka_server.bootstrap, None, build) as job:
            job.run()

        assert job.batches == [[1, 3]]
        assert [offset for offset, _ in letters] == [1]


class TestRDD:
    """createRDD."""

    def test_ranges_are_read(self, kafka_server: KafkaServer, writer: TopicWriter) -> None:
        """The RDD has the records of each range in order, as records or as values; what is uncommitted is not among them."""
        writer.write(numbered(0, 5), 0)
        writer.commit([b"c"], 1)
        writer.abort([b"a"], 1)
        writer.write([b"d"], 1)
        ranges = [OffsetRange(writer.topic, 1, 0, 5), OffsetRange(writer.topic, 0, 2, 4)]
        params = {
            "bootstrap.servers": kafka_server.bootstrap,
            "group.id": "g",
            "auto.offset.reset": "earliest",
        }
        with LocalContext("local") as context:
            records = KafkaUtils.createRDD(context, params, ranges, PreferFixed({}))
            values = KafkaUtils.createRDD(context, params, ranges, decoder=raw_bytes)

            assert records.map(lambda record: (record.partition, record.value)).glom().collect() == [
                [(1, "c"), (1, "d")],
                [(0, "2"), (0, "3")],
            ]
            assert values.collect() == [b"c", b"d", b"2", b"3"]

    def test_range_that_the_log_does_not_hold_is_refused(
        self, kafka_server: KafkaServer, writer: TopicWriter
    ) -> None:
        """A range behind the end of the log fails when it is read, whatever auto.offset.reset says."""
        writer.write(numbered(0, 5), 0)
        params = {"bootstrap.servers": kafka_server.bootstrap, "auto.offset.reset": "earliest"}
        with LocalContext("local") as context:
            rdd = KafkaUtils.createRDD(context, params, [OffsetRange(writer.topic, 0, 3, 9)])
            with pytest.raises(OffsetOutOfRangeError, match="does not have offset 8"):
                rdd.collect()
