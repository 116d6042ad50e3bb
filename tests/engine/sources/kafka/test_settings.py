"""What createDirectStream and KafkaSource accept and refuse before any server is asked."""

import logging
import pickle
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from engine import LocalContext, ManualClock, StreamingContext
from engine.batch import Batch, Time
from engine.errors import ConfigurationError
from engine.sources.direct import DirectInputDStream
from engine.sources.kafka import (
    Assign,
    ConsumerStrategies,
    ConsumerStrategy,
    KafkaConsumerRecord,
    KafkaSource,
    KafkaUtils,
    LocationStrategies,
    LocationStrategy,
    OffsetRange,
    PerPartitionConfig,
    PreferBrokers,
    PreferConsistent,
    PreferFixed,
    Subscribe,
    SubscribePattern,
    TopicPartition,
)
from engine.sources.kafka.client import Complaints
from engine.sources.kafka.params import reader_properties

PARAMS = {"bootstrap.servers": "127.0.0.1:1"}

create: Callable[..., object] = KafkaUtils.createDirectStream
"""As someone without a type checker calls it."""


@pytest.fixture
def ssc() -> StreamingContext:
    """A context that is never started."""
    return StreamingContext(LocalContext("local"), 1.0)


def limit(node: DirectInputDStream, topic: str, partition: int) -> int | None:
    """How many of a partition's waiting records a batch takes; None for all of them."""
    return node._most(TopicPartition(topic, partition))


class TestSource:
    """kafkaParams and the choice of topics."""

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({}, r"no \"bootstrap.servers\"; give host:port"),
            (
                {**PARAMS, "enable.auto.commit": True},
                r"enable.auto.commit to True.*needs at false; leave it out",
            ),
            ({**PARAMS, "enable.auto.offset.store": "true"}, r"enable.auto.offset.store"),
            ({**PARAMS, "enable.partition.eof": False}, r"enable.partition.eof to False.*needs at true"),
            ({**PARAMS, "key.deserializer": "org.X"}, r"key.deserializer.*give decoder= instead"),
            ({**PARAMS, "value.deserializer": str}, r"value.deserializer.*give decoder= instead"),
            (
                {**PARAMS, "auto.offset.reset": "newest"},
                r"auto.offset.reset to 'newest'; use earliest, latest",
            ),
            ({**PARAMS, "no.such.property": 1}, r"No such configuration property: \"no.such.property\""),
            ({**PARAMS, "isolation.level": "some"}, r"isolation.level"),
            ({**PARAMS, "client.id": ["a"]}, r"client.id to \['a'\]; give a string, a number or a bool"),
        ],
    )
    def test_wrong_params_are_refused(self, params: dict[str, Any], message: str) -> None:
        """A property that is missing, the engine's own, the JVM's, unknown or malformed is named with its remedy."""
        with pytest.raises(ConfigurationError, match=message):
            KafkaSource(params, ["t"])

    @pytest.mark.parametrize(
        "params",
        [
            {"enable.auto.commit": False},
            {"enable.auto.commit": "false", "group.id": "g", "client.id": "c"},
            {"group.id": "", "isolation.level": "read_uncommitted", "fetch.wait.max.ms": 5},
        ],
    )
    def test_harmless_params_are_taken(self, params: dict[str, Any]) -> None:
        """The engine's own value of a property, and any other that librdkafka knows, are taken."""
        KafkaSource({**PARAMS, **params}, ["t"])

    @pytest.mark.parametrize(
        ("topics", "partitions", "message"),
        [
            ("clicks", (), r"topics is the string 'clicks'; give a list"),
            ((), (), r"give one of the three"),
            (("t",), (("t", 0),), r"give one of the three"),
        ],
    )
    def test_wrong_topics_are_refused(self, topics: Any, partitions: Any, message: str) -> None:
        """A string in place of a list, nothing at all, and both at once are refused."""
        with pytest.raises(ConfigurationError, match=message):
            KafkaSource(PARAMS, topics, partitions)

    @pytest.mark.parametrize(
        ("given", "meant"),
        [
            ({}, "latest"),
            ({"auto.offset.reset": "earliest"}, "earliest"),
            ({"auto.offset.reset": "smallest"}, "earliest"),
            ({"auto.offset.reset": "none"}, "none"),
        ],
    )
    def test_reset_is_kafkas(self, given: dict[str, str], meant: str) -> None:
        """A fresh application starts at the end, unless auto.offset.reset says otherwise in one of its spellings."""
        assert KafkaSource({**PARAMS, **given}, ["t"]).reset == meant

    def test_names_of_the_java_client_are_understood(self, caplog: pytest.LogCaptureFixture) -> None:
        """A property that librdkafka calls otherwise is renamed, and one that has nothing to do here is left out with a log line."""
        caplog.set_level(logging.INFO, "engine")
        taken = reader_properties({**PARAMS, "fetch.max.wait.ms": 7, "max.poll.records": 500})

        assert taken["fetch.wait.max.ms"] == 7
        assert not {"fetch.max.wait.ms", "max.poll.records"} & set(taken)
        assert caplog.messages == ["kafkaParams set max.poll.records, which has no effect here"]

    def test_pattern_that_is_none_is_refused(self) -> None:
        """A pattern that is no regular expression is named with what is wrong with it."""
        with pytest.raises(ConfigurationError, match=r"'clicks-\(' is no regular expression \(missing \)"):
            KafkaSource(PARAMS, pattern="clicks-(")

    def test_source_is_shipped_as_settings(self) -> None:
        """A pickled source is less than 2 kB and knows its topics."""
        shipped = pickle.dumps(KafkaSource(PARAMS, ["b", "a"]))

        assert len(shipped) < 2_000
        assert pickle.loads(shipped).topics == ("a", "b")  # noqa: S301 - our own bytes


class TestComplaints:
    """The log lines while a server does not answer."""

    def test_one_line_a_second(self, caplog: pytest.LogCaptureFixture) -> None:
        """However many wait, a process logs one line a second."""
        clock = ManualClock()
        complaints = Complaints(clock)
        caplog.set_level(logging.WARNING)

        for number in range(30):
            complaints.say(f"waiting {number}")
            clock.advance(100)

        assert caplog.messages == ["waiting 0", "waiting 10", "waiting 20"]


class TestCreateDirectStream:
    """The call that ports of Spark's 0.10 API make."""

    def make(self, ssc: StreamingContext, strategy: Any, **options: Any) -> DirectInputDStream:
        """The node of a new stream."""
        node = KafkaUtils.createDirectStream(ssc, PreferConsistent(), strategy, **options).node
        assert isinstance(node, DirectInputDStream)
        return node

    def test_subscription_is_handed_on(self, ssc: StreamingContext) -> None:
        """Topics, starting offsets, reset and rate reach the stream; its name is that of the topics."""
        node = self.make(
            ssc,
            Subscribe(["b", "a"], {**PARAMS, "auto.offset.reset": "earliest"}, {TopicPartition("a", 0): 7}),
            maxRatePerPartition=10,
        )

        assert node.name == "kafka:a,b"
        assert node.starting_offsets == {TopicPartition("a", 0): 7}
        assert not node.starts_at_end
        assert limit(node, "a", 0) == 10

    def test_assignment_takes_plain_pairs(self, ssc: StreamingContext) -> None:
        """Partitions and offsets may be plain tuples; a given name is used."""
        node = self.make(ssc, Assign([("t", 0)], PARAMS, {("t", 0): 3}), name="clicks")  # type: ignore[dict-item]

        assert node.name == "clicks"
        assert node.starting_offsets == {TopicPartition("t", 0): 3}
        assert node.starts_at_end

    def test_commits_of_other_streams_are_refused(self, ssc: StreamingContext) -> None:
        """A range of a partition that the stream does not read is refused; one of the batch that runs again is known."""
        params = {**PARAMS, "group.id": "g"}
        stream = KafkaUtils.createDirectStream(ssc, PreferConsistent(), Subscribe(["t"], params), name="mine")
        mine, other = OffsetRange("t", 0, 0, 5), OffsetRange("u", 3, 0, 5)
        with pytest.raises(
            ConfigurationError,
            match=r"commitAsync on stream 'mine' got a range of t\[0\], which it does not read; give the rdd",
        ):
            stream.commitAsync([mine])
        stream.node.begin(Batch(Time(1_000), {"mine": (mine,)}))
        stream.commitAsync([mine])
        with pytest.raises(ConfigurationError, match=r"a range of u\[3\]"):
            stream.commitAsync([mine, other])

        assert [commit.offsets for commit in stream.node._commits] == [{TopicPartition("t", 0): 5}]

    def test_limits_differ_between_partitions(self, ssc: StreamingContext) -> None:
        """A per-partition config limits each partition by its own rate and not below its minimum; without a rate there is no limit."""

        class Config(PerPartitionConfig):
            """By partition."""

            def maxRatePerPartition(self, topicPartition: TopicPartition) -> float:
                """Records a second."""
                return [0, 100, 2.5, 0.1][topicPartition.partition]

            def minRatePerPartition(self, topicPartition: TopicPartition) -> int:
                """Records of a batch."""
                return 3 if topicPartition.partition == 2 else 1

        node = KafkaUtils.createDirectStream(
            ssc, PreferConsistent(), Subscribe(["t"], PARAMS), Config(), name="limited"
        ).node

        assert [limit(node, "t", partition) for partition in range(4)] == [None, 100, 3, 1]

    def test_strategy_of_ones_own_is_taken(self, ssc: StreamingContext) -> None:
        """A stream may be made of a strategy that decides at the start; until then its name is that of its class."""

        class Later(ConsumerStrategy):
            """Decides later."""

            executorKafkaParams = PARAMS

            def onStart(self, currentOffsets: Mapping[TopicPartition, int]) -> Subscribe:
                """The topic."""
                return Subscribe(["t"], self.executorKafkaParams)

        assert self.make(ssc, Later()).name == "kafka:Later"

    def test_pattern_names_the_stream(self, ssc: StreamingContext) -> None:
        """A stream of a pattern is called after it, compiled or not."""
        names = [
            self.make(ssc, SubscribePattern(pattern, PARAMS)).name for pattern in ("a-.*", re.compile("b-.*"))
        ]

        assert names == ["kafka:a-.*", "kafka:b-.*"]

    def test_commit_without_a_group_is_refused(self, ssc: StreamingContext) -> None:
        """Offsets cannot be committed without a group.id, nor can anything that is no range."""
        without = KafkaUtils.createDirectStream(ssc, PreferConsistent(), Subscribe(["t"], PARAMS), name="a")
        params = {**PARAMS, "group.id": "g"}
        stream = KafkaUtils.createDirectStream(ssc, PreferConsistent(), Subscribe(["t"], params), name="b")

        with pytest.raises(ConfigurationError, match=r"stream 'a': kafkaParams have no group.id"):
            without.commitAsync([OffsetRange("t", 0, 0, 1)])
        with pytest.raises(ConfigurationError, match=r"stream 'b' got 5; give rdd.offsetRanges\(\)"):
            stream.commitAsync([5])  # type: ignore[list-item]

    @pytest.mark.parametrize(
        "location",
        [
            PreferConsistent,
            PreferBrokers,
            PreferConsistent(),
            PreferBrokers(),
            PreferFixed({TopicPartition("t", 0): "localhost"}),
            LocationStrategies.PreferConsistent,
        ],
    )
    def test_location_is_a_class_or_an_object(self, ssc: StreamingContext, location: Any) -> None:
        """Scala's spelling without parentheses and Python's with them are both taken."""
        KafkaUtils.createDirectStream(ssc, location, Subscribe(["t"], PARAMS))

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (
                lambda ssc: create(ssc, "x", Subscribe(["t"], PARAMS)),
                "locationStrategy is 'x'",
            ),
            (
                lambda ssc: create(ssc, PreferConsistent(), Subscribe(["t"], PARAMS), bytes.decode),
                "perPartitionConfig is <method 'decode'.*; give a PerPartitionConfig, and decoders by their names",
            ),
            (
                lambda ssc: create(ssc, PreferFixed, Subscribe(["t"], PARAMS)),
                "locationStrategy is <class",
            ),
            (
                lambda ssc: create(
                    ssc,
                    PreferConsistent(),
                    Subscribe(["t"], PARAMS),
                    PerPartitionConfig(),
                    maxRatePerPartition=5,
                ),
                "maxRatePerPartition is 5 beside a perPartitionConfig",
            ),
            (
                lambda ssc: create(ssc, PreferConsistent(), Subscribe(["t"], PARAMS), maxRatePerPartition=0),
                "maxRatePerPartition is 0; give a number above 0",
            ),
            (
                lambda ssc: create(ssc, PreferConsistent(), ["t"]),
                r"consumerStrategy is \['t'\]",
            ),
            (
                lambda ssc: create(ssc, PreferConsistent(), Subscribe("t", PARAMS)),
                "topics is the string 't'",
            ),
        ],
    )
    def test_wrong_strategies_are_refused(
        self, ssc: StreamingContext, call: Callable[[StreamingContext], object], message: str
    ) -> None:
        """Something else in place of a strategy is named."""
        with pytest.raises(ConfigurationError, match=message):
            call(ssc)


class TestCreateRDD:
    """Ranges outside of any stream."""

    @pytest.mark.parametrize(
        ("ranges", "how", "message"),
        [
            ([("t", 0, 0, 5)], {}, r"createRDD got \('t', 0, 0, 5\) for a range; give OffsetRange"),
            (
                [],
                {"locationStrategy": PreferBrokers()},
                "If you want to prefer brokers, you must provide a mapping",
            ),
            ([], {"locationStrategy": None}, "locationStrategy is None"),
        ],
    )
    def test_wrong_arguments_are_refused(self, ranges: list[Any], how: dict[str, Any], message: str) -> None:
        """What is no range is named, and brokers cannot be preferred without a stream."""
        with LocalContext("local") as context, pytest.raises(ConfigurationError, match=message):
            KafkaUtils.createRDD(context, PARAMS, ranges, **how)

    def test_rdd_tells_its_ranges(self) -> None:
        """The RDD has one partition for each range and tells them, without asking a server."""
        ranges = [OffsetRange("t", 1, 0, 5), OffsetRange("t", 0, 3, 4)]
        with LocalContext("local") as context:
            rdd: Any = KafkaUtils.createRDD(context, PARAMS, ranges, PreferConsistent())

            assert (rdd.offsetRanges(), rdd.getNumPartitions()) == (ranges, 2)
            assert KafkaUtils.createRDD(context, PARAMS, []).collect() == []


class TestRecords:
    """A record of Kafka as a job gets it."""

    def test_key_and_value_are_decoded_when_asked_for(self) -> None:
        """Each decoder runs once, when its part is first asked for, also for null."""
        calls: list[bytes | None] = []

        def decoder(data: bytes | None) -> str:
            calls.append(data)
            return f"<{data!r}>"

        record = KafkaConsumerRecord("t", 0, 7, 1_500, None, b"v", keyDecoder=decoder, valueDecoder=decoder)
        assert (record.offset, record.serializedKeySize, record.serializedValueSize) == (7, -1, 1)
        assert calls == []

        assert (record.value, record.value, record.key) == ("<b'v'>", "<b'v'>", "<None>")
        assert calls == [b"v", None]

    def test_bytes_that_do_not_decode_fail_where_they_are_used(self) -> None:
        """A record whose value is no text can be looked at, and raises each time that its value is asked for."""
        record = KafkaConsumerRecord("t", 0, 7, 1_500, b"k", b"\xff")

        assert record.key == "k"
        for _ in range(2):
            with pytest.raises(UnicodeDecodeError):
                _ = record.value

    def test_record_is_the_same_in_another_process(self) -> None:
        """A pickled record has its fields, and its key and value decoded, whatever the decoder is."""
        record = KafkaConsumerRecord(
            *("t", 3, 7, 1_500, b"k", b"5"),
            timestampType=1,
            headers=(("h", b"1"), ("h", None)),
            valueDecoder=lambda data: int(data or b"0"),
        )
        shipped: KafkaConsumerRecord = pickle.loads(pickle.dumps(record))  # noqa: S301 - our own bytes

        assert shipped == record
        assert hash(shipped) == hash(record)
        assert (shipped.key, shipped.value, shipped.headers) == ("k", 5, (("h", b"1"), ("h", None)))
        assert (shipped.timestampType, shipped.serializedKeySize, shipped.serializedValueSize) == (1, 1, 1)
        assert shipped != KafkaConsumerRecord("t", 3, 7, 1_500, b"k", b"5")


def test_scalas_objects_hold_the_strategies() -> None:
    """A port may write LocationStrategies.PreferConsistent and ConsumerStrategies.Subscribe as in Scala."""
    assert issubclass(LocationStrategies.PreferConsistent, LocationStrategy)
    assert ConsumerStrategies.Subscribe is Subscribe
