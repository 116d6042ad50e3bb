"""Spark's 0.10 API on a real Kafka: what is read, from where, and what is committed when."""

import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its py.typed omits what its docs export
    NewPartitions,
    NewTopic,
)

from engine import LocalContext, ManualClock, StreamingContext
from engine.batch import Batch
from engine.errors import ConfigurationError, OffsetOutOfRangeError, SourceError, UserFunctionError
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
from tests.engine.app import START_MS, CrashError
from tests.engine.sources.kafka_world import TopicWriter, admin, eventually, numbered
from tests.servers import KafkaServer

pytestmark = [pytest.mark.servers, pytest.mark.slow]

MakeTopic = Callable[[int], str]
Build = Callable[[StreamingContext, "Job"], KafkaDStream[Any]]


class Job:
    """An application over one Kafka stream, whose values it collects batch by batch.

    Args:
        bootstrap: of Kafka.
        folder: of the checkpoints; None for none.
        build: makes the stream.
        master: what computes.
    """

    def __init__(self, bootstrap: str, folder: Path | None, build: Build, master: str = "local") -> None:
        self.params: dict[str, str | int | float | bool] = {
            "bootstrap.servers": bootstrap,
            "group.id": f"group-{uuid.uuid4().hex[:8]}",
            "auto.offset.reset": "earliest",
        }
        self.bootstrap = bootstrap
        self.clock = ManualClock(START_MS)
        self.batches: list[list[Any]] = []
        self.ranges: list[list[OffsetRange]] = []
        self.fails = False
        """Whether the last output of the next batch raises."""
        self.commits_with: Callable[[Any], None] = lambda rdd: None
        self.ssc: StreamingContext
        self.stream: KafkaDStream[Any]
        self._context = LocalContext(master, "test")
        self._folder = folder
        self._build = build

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.ssc.stop()

    def start(self) -> Self:
        """Start, or start again."""
        self.ssc = StreamingContext(self._context, 1.0, clock=self.clock, shards=2)
        if self._folder is not None:
            self.ssc.checkpoint(self._folder)
        self.stream = self._build(self.ssc, self)

        def keep(rdd: Any) -> None:
            self.commits_with(rdd)
            self.ranges.append(rdd.offsetRanges())
            self.batches.append(rdd.map(_value).collect())

        def fail(_: Any) -> None:
            if self.fails:
                raise CrashError("the second output")

        self.stream.foreachRDD(keep, name="keep")
        self.stream.foreachRDD(fail, name="fail")
        self.ssc.start(thread=False)
        return self

    def restart(self) -> Self:
        """Stop and start again."""
        self.ssc.stop(stopSparkContext=False)
        return self.start()

    def run(self, batches: int = 1) -> Self:
        """Run the next batches."""
        for _ in range(batches):
            self.clock.advance(1_000)
            self.ssc.runBatch()
        return self

    def run_until(self, values: list[Any]) -> None:
        """Run batches until these values have come."""
        eventually(lambda: sorted(self.run().values()) == sorted(values))

    def values(self) -> list[Any]:
        """The values of all batches."""
        return [value for batch in self.batches for value in batch]

    def committed(self) -> dict[tuple[str, int], int]:
        """The group's offsets in Kafka."""
        asked = [ConsumerGroupTopicPartitions(str(self.params["group.id"]))]
        client = admin(self.bootstrap)
        answer = client.list_consumer_group_offsets(asked)
        places = answer[str(self.params["group.id"])].result(30).topic_partitions
        return {(place.topic, place.partition): place.offset for place in places}

    def commit_as_another(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Commit offsets for the group as another program would."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.params["group.id"]})
        places = [ClientPartition(*place, offset) for place, offset in offsets.items()]
        consumer.commit(offsets=places, asynchronous=False)
        consumer.close()


def _value(record: Any) -> Any:
    return getattr(record, "value", record)


def subscribed(topic: str, **how: Any) -> Build:
    """The stream of one topic."""
    return lambda ssc, job: KafkaUtils.createDirectStream(
        ssc, PreferConsistent(), Subscribe([topic], job.params), **how
    )


@pytest.fixture
def topic(fresh_topic: MakeTopic) -> str:
    """A new topic with two partitions."""
    return fresh_topic(2)


@pytest.fixture
def writer(kafka_server: KafkaServer, topic: str) -> TopicWriter:
    """Writes to the topic."""
    return TopicWriter(kafka_server.bootstrap, topic)


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


class TestStart:
    """Where a fresh application starts."""

    def test_given_offsets_win(self, kafka_server: KafkaServer, writer: TopicWriter) -> None:
        """Offsets of the strategy are where a partition starts; the others follow the group's offsets, and then the reset."""
        writer.write(numbered(0, 4), 0)
        writer.write(numbered(10, 14), 1)

        def build(ssc: StreamingContext, job: Job) -> KafkaDStream[Any]:
            offsets = {TopicPartition(writer.topic, 0): 3}
            return KafkaUtils.createDirectStream(
                ssc, PreferConsistent(), Subscribe([writer.topic], job.params, offsets)
            )

        job = Job(kafka_server.bootstrap, None, build)
        job.commit_as_another({(writer.topic, 0): 1, (writer.topic, 1): 2})
        with job:
            job.run()

        assert job.batches == [["3", "12", "13"]]

    def test_offsets_out_of_the_log_follow_the_reset(
        self, kafka_server: KafkaServer, writer: TopicWriter
    ) -> None:
        """A committed offset that the log does not hold is replaced by the reset, and refused when that is none."""
        writer.write(numbered(0, 4), 0)
        job = Job(kafka_server.bootstrap, None, subscribed(writer.topic))
        job.commit_as_another({(writer.topic, 0): 9, (writer.topic, 1): 0})
        with job:
            job.run()
            job.params["auto.offset.reset"] = "none"
            job.restart()
            with pytest.raises(ConfigurationError, match=r"has offset 9, outside of the log \[0, 4\)"):
                job.run()

        assert job.batches == [["0", "1", "2", "3"]]

    def test_none_needs_a_place(self, kafka_server: KafkaServer, writer: TopicWriter) -> None:
        """With auto.offset.reset=none a group without offsets is refused, and one with offsets starts there."""
        writer.write(numbered(0, 4), 0)
        job = Job(kafka_server.bootstrap, None, subscribed(writer.topic))
        job.params["auto.offset.reset"] = "none"
        with job:
            with pytest.raises(ConfigurationError, match=r"has no place to start: auto.offset.reset is none"):
                job.run()
            job.commit_as_another({(writer.topic, 0): 3, (writer.topic, 1): 0})
            job.restart().run()

        assert job.batches == [["3"]]

    def test_hint_is_no_place_to_start(self, kafka_server: KafkaServer, writer: TopicWriter) -> None:
        """The group's offsets that the engine stored by itself are seen by tools, and a fresh application reads from the first record."""
        writer.write(numbered(0, 4), 0)
        with Job(kafka_server.bootstrap, None, subscribed(writer.topic)) as job:
            job.run()
            job.restart()
            assert job.committed()[writer.topic, 0] == 4
            job.run()

        assert job.batches == [["0", "1", "2", "3"]] * 2

    def test_job_that_commits_goes_on_without_a_checkpoint(
        self, kafka_server: KafkaServer, writer: TopicWriter
    ) -> None:
        """An application without checkpoints that commits its offsets goes on behind them; no hint takes their place."""
        writer.write(numbered(0, 2), 0)
        with Job(kafka_server.bootstrap, None, subscribed(writer.topic)) as job:
            job.commits_with = lambda rdd: job.stream.commitAsync(rdd.offsetRanges())
            job.run()
            writer.write(numbered(2, 4), 0)
            job.restart().run()
            # From here on nothing is committed, so the same records come again at each fresh start.
            job.commits_with = lambda rdd: None
            writer.write(numbered(4, 5), 0)
            job.restart().run()
            job.restart().run()

        assert job.batches == [["0", "1"], ["2", "3"], ["4"], ["4"]]
        assert job.committed()[writer.topic, 0] == 4


class TestCommits:
    """commitAsync."""

    def test_commit_follows_the_success_of_its_batch(
        self, kafka_server: KafkaServer, writer: TopicWriter, tmp_path: Path
    ) -> None:
        """Offsets of a batch whose later output failed are not committed; they are after the batch ran again and succeeded."""
        told: list[tuple[dict[TopicPartition, int], Exception | None]] = []
        with Job(kafka_server.bootstrap, tmp_path, subscribed(writer.topic)) as job:
            job.commits_with = lambda rdd: job.stream.commitAsync(
                rdd.offsetRanges(), lambda offsets, failure: told.append((offsets, failure))
            )
            job.run()
            writer.write(numbered(0, 3), 0)
            job.fails = True
            with pytest.raises(UserFunctionError):
                job.run()
            job.fails = False
            job.ssc.stop(stopSparkContext=False)
            failed = job.committed()
            job.start()
            job.ssc.stop(stopSparkContext=False)
            succeeded = job.committed()
            job.start()

        place = TopicPartition(writer.topic, 0)
        assert (failed.get(place, 0), succeeded[place]) == (0, 3)
        assert job.batches == [[], ["0", "1", "2"], ["0", "1", "2"]]
        assert [offsets[place] for offsets, _ in told] == [0, 3, 3]
        assert [type(failure) for _, failure in told] == [type(None), SourceError, type(None)]
        assert "no batch with these records succeeded before the stop" in str(told[1][1])

    def test_last_commit_is_sent_at_the_stop(
        self, kafka_server: KafkaServer, writer: TopicWriter, tmp_path: Path
    ) -> None:
        """What another thread asks for after the last batch is committed by the stop, which tells the callback before it returns."""
        told: list[Exception | None] = []
        writer.write(numbered(0, 3), 0)
        with Job(kafka_server.bootstrap, tmp_path, subscribed(writer.topic)) as job:
            job.run()
            ranges = job.ranges[0]
            thread = threading.Thread(
                target=lambda: job.stream.commitAsync(ranges, lambda _, failure: told.append(failure))
            )
            thread.start()
            thread.join(10)
            assert told == []

        assert told == [None]
        assert job.committed()[writer.topic, 0] == 3

    def test_callback_is_told_by_a_later_batch(
        self, kafka_server: KafkaServer, writer: TopicWriter, tmp_path: Path
    ) -> None:
        """While the stream runs a callback is told of its commit by one of the next batches, also where nothing is committed any more."""
        told: list[dict[TopicPartition, int]] = []
        with Job(kafka_server.bootstrap, tmp_path, subscribed(writer.topic)) as job:
            job.commits_with = lambda rdd: job.stream.commitAsync(
                rdd.offsetRanges(), lambda offsets, _: told.append(offsets)
            )
            writer.write(numbered(0, 3), 1)
            job.run()
            job.commits_with = lambda rdd: None
            eventually(lambda: len(job.run() and told) == 1)

        assert told == [{TopicPartition(writer.topic, 0): 0, TopicPartition(writer.topic, 1): 3}]

    def test_callback_that_raises_stops_nothing(
        self,
        kafka_server: KafkaServer,
        writer: TopicWriter,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """An exception of a callback is logged with the stream's name, and the stream goes on."""
        writer.write(numbered(0, 1), 0)
        with Job(kafka_server.bootstrap, tmp_path, subscribed(writer.topic, name="clicks")) as job:
            job.commits_with = lambda rdd: job.stream.commitAsync(rdd.offsetRanges(), lambda *_: 1 / 0)
            job.run()
            eventually(lambda: bool(job.run() and caplog.messages))

        assert caplog.messages[0] == "the callback of commitAsync of stream 'clicks' failed"


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
