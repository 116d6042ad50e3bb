"""What createDirectStream and KafkaSource accept and refuse before any server is asked."""

import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from engine import LocalContext, ManualClock, StreamingContext
from engine.errors import ConfigurationError
from engine.sources.direct import DirectInputDStream
from engine.sources.kafka import (
    Assign,
    KafkaSource,
    KafkaUtils,
    PreferBrokers,
    PreferConsistent,
    Subscribe,
    TopicPartition,
)
from engine.sources.kafka_client import Complaints

PARAMS = {"bootstrap.servers": "127.0.0.1:1"}

create: Callable[..., object] = KafkaUtils.createDirectStream
"""As someone without a type checker calls it."""


@pytest.fixture
def ssc() -> StreamingContext:
    """A context that is never started."""
    return StreamingContext(LocalContext("local"), 1.0)


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
            ({**PARAMS, "auto.offset.reset": "none"}, r"auto.offset.reset to 'none'; use earliest or latest"),
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
            ((), (), r"give one of the two"),
            (("t",), (("t", 0),), r"give one of the two"),
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
        ],
    )
    def test_reset_is_kafkas(self, given: dict[str, str], meant: str) -> None:
        """A fresh application starts at the end, unless auto.offset.reset says otherwise in one of its spellings."""
        assert KafkaSource({**PARAMS, **given}, ["t"]).reset == meant

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
        assert node.max_rate_per_partition == 10

    def test_assignment_takes_plain_pairs(self, ssc: StreamingContext) -> None:
        """Partitions and offsets may be plain tuples; a given name is used."""
        node = self.make(ssc, Assign([("t", 0)], PARAMS, {("t", 0): 3}), name="clicks")  # type: ignore[dict-item]

        assert node.name == "clicks"
        assert node.starting_offsets == {TopicPartition("t", 0): 3}
        assert node.starts_at_end

    @pytest.mark.parametrize(
        "location", [PreferConsistent, PreferBrokers, PreferConsistent(), PreferBrokers()]
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
