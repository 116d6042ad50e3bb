"""librdkafka's clients, with its errors sorted into those that pass and those that stay.

Owns: OffsetConsumer, ClusterClient, GroupClient, GroupOffset, Survey, TopicIdentity, Complaints, let_go.
Never: a decision about ranges (reader.py) or about what the answers mean for a stream (watch.py).
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
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
from engine.clock import Clock, SystemClock
from engine.errors import ConfigurationError, SourceError

__all__ = [
    "ClusterClient",
    "Complaints",
    "Message",
    "OffsetConsumer",
    "Properties",
    "Survey",
    "TopicIdentity",
    "check_properties",
    "is_end_of_partition",
    "let_go",
]

Properties: TypeAlias = Mapping[str, str | int | float | bool]

_LOG = logging.getLogger("engine.sources.kafka")

_UNKNOWN_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID})
_UNKNOWN_PARTITION = _UNKNOWN_TOPIC | {KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC}  # noqa: SLF001 - public
_CAUGHT_UP = KafkaError._PARTITION_EOF  # noqa: SLF001 - public, the underscore means local
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
_PATIENCE_SECONDS = 15
"""After so long a request will not end: librdkafka has been seen to lose one when the broker was fenced or its network changed."""
_INCOMPLETE_SURVEYS = 3
"""After so many in a row the client is made anew: its own may keep stale leaders for minutes."""
_LOG_BOUNDS_SECONDS = 1.0
_TOPIC_NAMES_SECONDS = 2.0
_GROUP_SECONDS = 5.0
_INTERNAL_TOPICS = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})


class Complaints:
    """The log lines of a process about servers that do not answer: one a second at most."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._next = self._clock.monotonic()

    def say(self, text: str) -> None:
        """Log the text as a warning, unless something was said less than a second ago."""
        with self._lock:
            now = self._clock.monotonic()
            if now < self._next:
                return
            self._next = now + 1.0
        _LOG.warning(text)


def is_end_of_partition(error: KafkaError) -> bool:
    """Whether the event says that the reader has caught up with the log, which is no error."""
    return error.code() == _CAUGHT_UP


def let_go(release: Callable[[], None]) -> None:
    """Release a client that has lost the cluster, on a thread: it may wait for requests that do not end."""
    threading.Thread(target=release, name="kafka-let-go", daemon=True).start()


def check_properties(properties: Properties) -> None:
    """Let librdkafka look at the names and the values; no server is asked.

    Raises:
        ConfigurationError: librdkafka knows no such property, or not this value.
    """
    _make_consumer(properties).close()


def _make_consumer(properties: Properties, **callbacks: Callable[..., None]) -> Consumer:
    try:
        return Consumer({**properties, **callbacks})
    except KafkaException as error:
        raise _wrong_property(error) from error


def _wrong_property(error: KafkaException) -> ConfigurationError:
    return ConfigurationError(
        f"kafkaParams are refused: {error.args[0].str()}; the names are those of librdkafka's CONFIGURATION.md"
    )


class OffsetConsumer:
    """A client that reads one partition at a time from offsets of our own; it joins no group.

    librdkafka reads ahead in threads of its own, up to queued.max.messages.kbytes.
    """

    def __init__(self, properties: Properties) -> None:
        self.trouble = ""
        """What the client last complained of, for a person to read."""
        self._consumer = _make_consumer(properties, error_cb=self._note)
        self._topics: set[str] = set()

    def _note(self, error: KafkaError) -> None:
        self.trouble = error.str()

    def jump(self, partition: TopicPartition, offset: int) -> None:
        """Read on from this offset of the partition; what was read ahead elsewhere is dropped."""
        if partition.topic not in self._topics:
            self._learn(partition.topic)
        self._consumer.assign([ClientPartition(*partition, offset)])

    def _learn(self, topic: str) -> None:
        """Fetch the topic's metadata: assigned without it, a partition waits up to a second for a timer."""
        try:
            self._consumer.list_topics(topic, timeout=_LOG_BOUNDS_SECONDS)
        except KafkaException as error:
            self.trouble = error.args[0].str()
        else:
            self._topics.add(topic)

    def poll(self, records: int, seconds: float) -> list[Message]:
        """The next records and events that are here, at most that many; waits so long for the first of them."""
        # consume() with a timeout would wait for all of them.
        messages = self._consumer.consume(records, 0)
        if messages:
            return messages
        first = self._consumer.poll(seconds)
        return [] if first is None else [first, *self._consumer.consume(records - 1, 0)]

    def log_bounds(self, partition: TopicPartition) -> tuple[int, int] | None:
        """What the log holds now: its first offset and the end that this reader may reach; None without an answer.

        Raises:
            SourceError: the topic or the partition does not exist, or reading it is not allowed.
        """
        try:
            return self._consumer.get_watermark_offsets(
                ClientPartition(*partition), timeout=_LOG_BOUNDS_SECONDS
            )
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            self.trouble = error.str()
            _raise_if_refused(error, f"topic {partition.topic!r}")
            if error.code() in _UNKNOWN_PARTITION:
                self._prove_existence(partition)
            return None

    def _prove_existence(self, partition: TopicPartition) -> None:
        """Ask the cluster for the topic, since an unknown partition may only mean stale metadata."""
        name, number = partition
        try:
            topic = self._consumer.list_topics(name, timeout=_LOG_BOUNDS_SECONDS).topics[name]
        except KafkaException as error:
            self.trouble = error.args[0].str()
            return
        if topic.error is not None and topic.error.code() in _UNKNOWN_TOPIC:
            raise SourceError(f"topic {name!r} is gone while {name}[{number}] is read; create it again")
        if topic.error is None and topic.partitions and number not in topic.partitions:
            raise SourceError(
                f"topic {name!r} has no partition {number}, only {len(topic.partitions)} in all"
            )

    def close(self) -> None:
        """Let go of the connections and of everything that was read ahead."""
        self._consumer.close()


@dataclass(frozen=True, slots=True)
class TopicIdentity:
    """What tells a topic from another of the same name."""

    id: str
    """Given by the cluster when the topic is made, never again."""
    partitions: int


class GroupOffset(NamedTuple):
    """What a group has stored for a partition."""

    offset: int
    metadata: str
    """Whatever was stored with it."""


@dataclass(slots=True)
class Survey:
    """What a cluster says of itself at one moment."""

    topics: dict[str, TopicIdentity | None] = field(default_factory=dict)
    """Only the topics asked for; None for one that does not exist."""
    begins: dict[TopicPartition, int] = field(default_factory=dict)
    """First offset that the log still has."""
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    """Exclusive: what a reader of the isolation level may read until now."""
    is_complete: bool = True
    """Whether everything that was asked for was answered."""


class ClusterClient:
    """The client that asks about a cluster: topics and offsets.

    Requests of one call are under way side by side. What the cluster does not answer, for now, is missing in
    the result, and `trouble` has the reason.
    """

    def __init__(self, properties: Properties, complaints: Complaints, closed: threading.Event) -> None:
        self.address = str(properties.get("bootstrap.servers", ""))
        self.trouble = ""
        committed = properties.get("isolation.level") == "read_committed"
        self._isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        self._complaints = complaints
        self._closed = closed
        self._properties = dict(properties)
        self._admin = self._connect()
        self._incomplete = 0
        self._is_stuck = False

    def _connect(self) -> AdminClient:
        try:
            return AdminClient(self._properties)
        except KafkaException as error:
            raise _wrong_property(error) from error

    def _renew(self) -> None:
        """Go on with a new client."""
        kept = [self._admin]
        self._admin = self._connect()
        self._incomplete = 0
        let_go(kept.clear)

    def survey(
        self, topics: Iterable[str], begins: Iterable[TopicPartition], ends: Iterable[TopicPartition]
    ) -> Survey:
        """The topics' identities and the offsets of the partitions, in one round trip.

        Raises:
            SourceError: the cluster refuses to tell, and waiting does not change that.
        """
        names = list(topics)
        self._is_stuck = False
        asked: dict[str, Future[Any]] = {}
        if names:
            asked = self._admin.describe_topics(TopicCollection(names), request_timeout=_REQUEST_SECONDS)
        first = self._ask_offsets(begins, _EARLIEST)
        last = self._ask_offsets(ends, _LATEST)
        survey = Survey()
        self.trouble = ""
        for name, future in asked.items():
            self._take_topic(name, future, survey)
        if None not in survey.topics.values():
            self._take_offsets(first, survey, survey.begins)
            self._take_offsets(last, survey, survey.ends)
        self._incomplete = 0 if survey.is_complete else self._incomplete + 1
        if self._is_stuck or self._incomplete >= _INCOMPLETE_SURVEYS:
            self._renew()
        return survey

    def _take_topic(self, name: str, future: Future[Any], survey: Survey) -> None:
        description, error = self._answer(future, f"topic {name!r}")
        if description is not None:
            survey.topics[name] = TopicIdentity(str(description.topic_id), len(description.partitions))
        elif error is not None and error.code() in _UNKNOWN_TOPIC:
            survey.topics[name] = None
        else:
            survey.is_complete = False

    def _ask_offsets(
        self, partitions: Iterable[TopicPartition], spec: OffsetSpec
    ) -> Mapping[Any, Future[Any]]:
        wanted = {ClientPartition(*partition): spec for partition in partitions}
        if not wanted:
            return {}
        return self._admin.list_offsets(
            wanted, isolation_level=self._isolation, request_timeout=_REQUEST_SECONDS
        )

    def _take_offsets(
        self, asked: Mapping[Any, Future[Any]], survey: Survey, into: dict[TopicPartition, int]
    ) -> None:
        for partition, future in asked.items():
            result, _ = self._answer(future, f"topic {partition.topic!r}")
            # A broker that hangs leaves an answer without an offset, and without an error.
            if result is None or result.offset == OFFSET_INVALID:
                survey.is_complete = False
                return
            into[TopicPartition(partition.topic, partition.partition)] = result.offset

    def _answer(self, future: Future[Any], subject: str) -> tuple[Any, KafkaError | None]:
        """The future's result, or None with the error that ended it; both None when it does not end."""
        patience = 0 if self._is_stuck else _PATIENCE_SECONDS
        while not self._closed.is_set():
            try:
                return future.result(timeout=min(patience, 1.0)), None
            except TimeoutError:
                patience -= 1
                self._complaints.say(
                    f"Kafka at {self.address} does not answer; waiting for news of {subject}"
                )
                if patience <= 0:
                    self._is_stuck = True
                    self.trouble = "no answer"
                    return None, None
            except KafkaException as failure:
                error: KafkaError = failure.args[0]
                _raise_if_refused(error, subject)
                self.trouble = error.str()
                return None, error
        raise SourceError(f"the source was closed while Kafka at {self.address} was asked about {subject}")

    def topic_names(self) -> list[str] | None:
        """The names of all topics but Kafka's internal ones; None without an answer."""
        try:
            names = self._admin.list_topics(timeout=_TOPIC_NAMES_SECONDS).topics
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            _raise_if_refused(error, "the list of topics")
            self.trouble = error.str()
            return None
        return [name for name in names if name not in _INTERNAL_TOPICS]

    def topic_property(self, topic: str, name: str) -> str | None:
        """The value of one of the topic's settings, such as cleanup.policy."""
        resource = ConfigResource(ResourceType.TOPIC, topic)
        self._is_stuck = False
        asked = self._admin.describe_configs([resource], request_timeout=_REQUEST_SECONDS)
        entries, _ = self._answer(asked[resource], f"{name} of topic {topic!r}")
        if self._is_stuck:
            self._renew()
        return None if entries is None else str(entries[name].value)


class GroupClient:
    """Stores offsets as a group's own, without being a member of it.

    A plain consumer and not the admin client: in librdkafka an admin request to a group's coordinator that times out can end the
    process by a failed assertion (its issues 3663 and 4605).
    """

    def __init__(self, properties: Properties, group: str) -> None:
        self.trouble = ""
        """What the client last complained of, for a person to read."""
        self._answer: Future[None] = Future()
        self._consumer = _make_consumer({**properties, "group.id": group}, on_commit=self._take_answer)

    def stored(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, GroupOffset] | None:
        """The group's offsets of those of the partitions that have one; None without an answer.

        Raises:
            SourceError: the group may not be read.
        """
        asked = [ClientPartition(*partition) for partition in partitions]
        try:
            answers = self._consumer.committed(asked, timeout=_GROUP_SECONDS)
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            _raise_if_refused(error, "the group's offsets")
            self.trouble = error.str()
            return None
        return {
            TopicPartition(answer.topic, answer.partition): GroupOffset(answer.offset, answer.metadata or "")
            for answer in answers
            if answer.offset >= 0
        }

    def store(self, offsets: Mapping[TopicPartition, int], metadata: str = "") -> Future[None]:
        """Ask for it; the future is done once `poll` has met the answer."""
        self._answer = Future()
        partitions = [ClientPartition(*partition, offset, metadata) for partition, offset in offsets.items()]
        self._consumer.commit(offsets=partitions, asynchronous=True)
        return self._answer

    def poll(self, seconds: float = 0.0) -> None:
        """Meet the answers that have come, or wait so long for one."""
        self._consumer.poll(seconds)

    def _take_answer(self, error: KafkaError | None, _offsets: Any) -> None:
        if self._answer.done():
            return
        if error is None:
            self._answer.set_result(None)
        else:
            self._answer.set_exception(KafkaException(error))

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()


def _raise_if_refused(error: KafkaError, subject: str) -> None:
    if error.code() in _REFUSED:
        raise SourceError(
            f"{subject} cannot be read: {error.str()}; check its name and the rights of this client"
        )
