"""librdkafka's clients, with its errors sorted into those that pass and those that stay.

Owns: PartitionConsumer, ClusterClient, Survey, TopicIdentity, Complaints.
Never: a decision about ranges (kafka_reader.py) or about what the answers mean for a stream (kafka_planner.py).
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
)
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its py.typed omits what its docs export
    AdminClient,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)

from engine.batch import TopicPartition
from engine.clock import SystemClock
from engine.errors import ConfigurationError, SourceError

__all__ = [
    "ClusterClient",
    "Complaints",
    "Message",
    "PartitionConsumer",
    "Properties",
    "Survey",
    "TopicIdentity",
    "check_properties",
    "is_end_of_partition",
]

Properties: TypeAlias = Mapping[str, str | int | float | bool]

_LOG = logging.getLogger("engine.sources.kafka")
_CLOCK = SystemClock()

_UNKNOWN_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID})
_REFUSED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.UNSUPPORTED_VERSION,
    }
)
"""Answers that waiting does not change: missing rights, a name that is no topic name, a broker too old."""

_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # untyped in the client
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]

_REQUEST_SECONDS = 10.0
"""For one request with all of librdkafka's own retries; complaints come every second of it."""
_LOG_BOUNDS_SECONDS = 1.0


class Complaints:
    """The log lines of a process about servers that do not answer: one a second at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0.0

    def say(self, text: str) -> None:
        """Log the text as a warning, unless something was said less than a second ago."""
        with self._lock:
            now = _CLOCK.monotonic()
            if now < self._next:
                return
            self._next = now + 1.0
        _LOG.warning(text)


def is_end_of_partition(error: KafkaError) -> bool:
    """Whether the event says that the reader has caught up with the log, which is no error."""
    return bool(error.code() == KafkaError._PARTITION_EOF)  # noqa: SLF001 - the client's public name for it


def check_properties(properties: Properties) -> None:
    """Let librdkafka look at the names and the values; no server is asked.

    Raises:
        ConfigurationError: librdkafka knows no such property, or not this value.
    """
    _make_consumer(properties).close()


def _make_consumer(properties: Properties, **callbacks: Callable[[KafkaError], None]) -> Consumer:
    try:
        return Consumer({**properties, **callbacks})
    except KafkaException as error:
        raise _wrong_property(error) from error


def _wrong_property(error: KafkaException) -> ConfigurationError:
    return ConfigurationError(
        f"kafkaParams are refused: {error.args[0].str()}; the names are those of librdkafka's CONFIGURATION.md"
    )


class PartitionConsumer:
    """The client that reads one partition, assigned to offsets of our own; it joins no group.

    librdkafka reads ahead in threads of its own, up to queued.max.messages.kbytes.
    """

    def __init__(self, properties: Properties, partition: TopicPartition) -> None:
        self.partition = partition
        self.trouble = ""
        """What the client last complained of, for a person to read."""
        self._properties = properties
        self._consumer: Consumer | None = None

    def jump(self, offset: int) -> None:
        """Read on from this offset; what was read ahead elsewhere is dropped."""
        if self._consumer is None:
            self._consumer = _make_consumer(self._properties, error_cb=self._note)
        self._consumer.assign([ClientPartition(*self.partition, offset)])

    def _note(self, error: KafkaError) -> None:
        self.trouble = error.str()

    def poll(self, records: int, seconds: float) -> list[Message]:
        """The next records and events, at most that many; none if nothing comes within the seconds."""
        assert self._consumer is not None
        return self._consumer.consume(records, seconds)

    def log_bounds(self) -> tuple[int, int] | None:
        """What the log holds now: its first offset and the end that this reader may reach; None without an answer.

        Raises:
            SourceError: the topic or the partition does not exist, or reading it is not allowed.
        """
        assert self._consumer is not None
        try:
            low, high = self._consumer.get_watermark_offsets(
                ClientPartition(*self.partition), timeout=_LOG_BOUNDS_SECONDS
            )
        except KafkaException as error:
            self.trouble = error.args[0].str()
            _raise_if_refused(error.args[0], self.partition.topic)
            self._prove_existence()
            return None
        return low, high

    def _prove_existence(self) -> None:
        """Ask the cluster for the topic, since an unknown partition may only mean stale metadata."""
        assert self._consumer is not None
        name, number = self.partition
        try:
            topic = self._consumer.list_topics(name, timeout=_LOG_BOUNDS_SECONDS).topics[name]
        except KafkaException as error:
            self.trouble = error.args[0].str()
            return
        if topic.error is not None and topic.error.code() in _UNKNOWN_TOPIC:
            raise SourceError(
                f"topic {name!r} is gone while partition {number} of it is read; create it again or stop"
            )
        if topic.error is None and topic.partitions and number not in topic.partitions:
            raise SourceError(
                f"topic {name!r} has no partition {number}, only {len(topic.partitions)} in all"
            )

    def close(self) -> None:
        """Let go of the connection and of everything that was read ahead."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None


@dataclass(frozen=True, slots=True)
class TopicIdentity:
    """What tells a topic from another of the same name."""

    id: str
    """Given by the cluster when the topic is made, never again."""
    partitions: int


@dataclass(slots=True)
class Survey:
    """What a cluster says of itself at one moment."""

    topics: dict[str, TopicIdentity | None] = field(default_factory=dict)
    """Only the topics asked for; None for one that does not exist."""
    begins: dict[TopicPartition, int] = field(default_factory=dict)
    """First offset that the log still has."""
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    """Exclusive: what a reader of the isolation level may read until now."""


class ClusterClient:
    """The client that asks about a cluster: topics, offsets, and the group's offsets.

    Requests of one call are under way side by side. Every call answers None, with the reason in `trouble`,
    when the cluster gives no answer that counts.
    """

    def __init__(self, properties: Properties, complaints: Complaints) -> None:
        self.address = str(properties.get("bootstrap.servers", ""))
        self.trouble = ""
        committed = properties.get("isolation.level") == "read_committed"
        self._isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        self._complaints = complaints
        try:
            self._admin = AdminClient(dict(properties))
        except KafkaException as error:
            raise _wrong_property(error) from error

    def survey(
        self, topics: Iterable[str], begins: Iterable[TopicPartition], ends: Iterable[TopicPartition]
    ) -> Survey | None:
        """The topics' identities and the offsets of the partitions, in one round trip.

        Raises:
            SourceError: the cluster refuses to tell, and waiting does not change that.
        """
        names = list(topics)
        asked: dict[str, Future[Any]] = {}
        if names:
            asked = self._admin.describe_topics(TopicCollection(names), request_timeout=_REQUEST_SECONDS)
        first = self._ask_offsets(begins, _EARLIEST)
        last = self._ask_offsets(ends, _LATEST)
        survey = Survey()
        for name, future in asked.items():
            description = self._answer(future, f"topic {name!r}", missing_is_none=True)
            if description is None and self.trouble:
                return None
            survey.topics[name] = description and TopicIdentity(
                str(description.topic_id), len(description.partitions)
            )
        if None in survey.topics.values():
            return survey
        answered = self._take_offsets(first, survey.begins) and self._take_offsets(last, survey.ends)
        return survey if answered else None

    def _ask_offsets(
        self, partitions: Iterable[TopicPartition], spec: OffsetSpec
    ) -> Mapping[Any, Future[Any]]:
        wanted = {ClientPartition(*partition): spec for partition in partitions}
        if not wanted:
            return {}
        return self._admin.list_offsets(
            wanted, isolation_level=self._isolation, request_timeout=_REQUEST_SECONDS
        )

    def _take_offsets(self, asked: Mapping[Any, Future[Any]], into: dict[TopicPartition, int]) -> bool:
        for partition, future in asked.items():
            result = self._answer(future, f"topic {partition.topic!r}")
            if result is None:
                return False
            into[TopicPartition(partition.topic, partition.partition)] = result.offset
        return True

    def _answer(self, future: Future[Any], subject: str, *, missing_is_none: bool = False) -> Any:
        """The future's result; None with a reason in `trouble`, or without one when the topic is missing."""
        self.trouble = ""
        while True:
            try:
                return future.result(timeout=1.0)
            except TimeoutError:
                self._complaints.say(
                    f"Kafka at {self.address} does not answer; waiting for news of {subject}"
                )
            except KafkaException as failure:
                error = failure.args[0]
                if missing_is_none and error.code() in _UNKNOWN_TOPIC:
                    return None
                _raise_if_refused(error, subject)
                self.trouble = error.str()
                return None

    def topic_property(self, topic: str, name: str) -> str | None:
        """The value of one of the topic's settings, such as cleanup.policy."""
        resource = ConfigResource(ResourceType.TOPIC, topic)
        asked = self._admin.describe_configs([resource], request_timeout=_REQUEST_SECONDS)
        entries = self._answer(asked[resource], f"topic {topic!r}")
        return None if entries is None else str(entries[name].value)

    def set_group_offsets(self, group: str, offsets: Mapping[TopicPartition, int]) -> Future[Any]:
        """Store the offsets as the group's own; the future fails when the group has live members."""
        partitions = [ClientPartition(*partition, offset) for partition, offset in offsets.items()]
        request = ConsumerGroupTopicPartitions(group, partitions)
        answers: dict[str, Future[Any]] = self._admin.alter_consumer_group_offsets(
            [request], request_timeout=_REQUEST_SECONDS
        )
        return answers[group]


def _raise_if_refused(error: KafkaError, subject: str) -> None:
    if error.code() in _REFUSED:
        raise SourceError(
            f"{subject} cannot be read: {error.str()}; check its name and the rights of this client"
        )
