"""Kafka's direct stream, with the names of Spark's 0.10 API: the driver plans ranges of offsets, the executors read them.

Where the engine differs from Spark's connector:

- `decoder=` takes the place of the deserializer classes: values are decoded where they are read.
- kafkaParams go to librdkafka, so the names are those of its CONFIGURATION.md; most are Kafka's own.
- isolation.level is read_committed unless it is set; for producers without transactions that is the same.
- A fresh application starts at `offsets`, elsewhere where auto.offset.reset says, and never at the group's
  offsets. These are written, when there is a group.id, for tools that show lag; the checkpoint is the truth.

Owns: KafkaSource, KafkaUtils, Subscribe, Assign, PreferConsistent, PreferBrokers.
Never: a client (kafka_client.py).
"""

import atexit
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.batch import OffsetRange, TopicPartition
from engine.context import StreamingContext
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError
from engine.sources.direct import EventTime, create_direct_stream
from engine.sources.kafka_client import ClusterClient, Complaints, GroupClient, Properties, check_properties
from engine.sources.kafka_params import fresh_start, reader_properties
from engine.sources.kafka_reader import KafkaSlice, ReaderPool
from engine.sources.kafka_watch import GroupHints, LogWatch

__all__ = [
    "Assign",
    "ConsumerStrategy",
    "KafkaSource",
    "KafkaUtils",
    "LocationStrategy",
    "OffsetRange",
    "PreferBrokers",
    "PreferConsistent",
    "Subscribe",
    "TopicPartition",
]

_COMPLAINTS = Complaints()


@dataclass(frozen=True, slots=True)
class _Settings:
    """What a source is: shipped to the executors, and the key of a process's clients."""

    properties: tuple[tuple[str, str | int | float | bool], ...]
    topics: tuple[str, ...]
    partitions: tuple[TopicPartition, ...]
    """Empty: all of the topics."""
    allow_compacted: bool
    group: str | None
    reset: str


@dataclass(slots=True)
class _Clients:
    """The clients of one source in this process, made when they are first used."""

    settings: _Settings
    closed: threading.Event
    pool: ReaderPool
    watch: LogWatch | None = None
    hints: GroupHints | None = None

    def log_watch(self) -> LogWatch:
        if self.watch is None:
            settings = self.settings
            cluster = ClusterClient(dict(settings.properties), _COMPLAINTS, self.closed)
            watch = LogWatch(cluster, settings.topics, settings.partitions, _COMPLAINTS, self.closed)
            if settings.group is not None:
                client = GroupClient(dict(settings.properties), settings.group)
                self.hints = GroupHints(client, settings.group, _COMPLAINTS)
            if not settings.allow_compacted:
                watch.refuse_compacted()
            self.watch = watch
        return self.watch

    def close(self) -> None:
        if self.hints is not None:
            self.hints.flush()
        self.closed.set()
        self.pool.close()


_CLIENTS: dict[_Settings, _Clients] = {}
_CLIENTS_LOCK = threading.Lock()


@atexit.register
def _close_clients() -> None:
    """A librdkafka thread that outlives the interpreter may abort the process."""
    while _CLIENTS:
        _CLIENTS.popitem()[1].close()


class KafkaSource:
    """The records of topics, or of some of their partitions, as the direct stream reads them.

    Elements:
        ConsumerRecords of each partition in offset order; with isolation.level=read_committed those of committed
        transactions only.
    Replay:
        A range gives the same records whenever it is read: topics with cleanup.policy=compact, where that does not hold,
        are refused unless they are declared.

    Args:
        kafka_params: properties of librdkafka; bootstrap.servers is needed.
        topics: read all their partitions, those added later too.
        partitions: read these instead.
        allow_compacted: take compacted topics, whose records may be gone when a batch runs again.

    Raises:
        ConfigurationError: a property is unknown, malformed, or the engine's own.
    """

    def __init__(
        self,
        kafka_params: Properties,
        topics: Collection[str] = (),
        partitions: Collection[tuple[str, int]] = (),
        *,
        allow_compacted: bool = False,
    ) -> None:
        if isinstance(topics, str):
            raise ConfigurationError(f"topics is the string {topics!r}; give a list of names")
        if bool(topics) == bool(partitions):
            raise ConfigurationError(
                f"topics are {list(topics)} and partitions {list(partitions)}; give one of the two"
            )
        properties = reader_properties(kafka_params)
        check_properties(properties)
        places = sorted({TopicPartition(*place) for place in partitions})
        self._settings = _Settings(
            properties=tuple(sorted(properties.items())),
            topics=tuple(sorted({*topics, *(place.topic for place in places)})),
            partitions=tuple(places),
            allow_compacted=allow_compacted,
            group=str(kafka_params.get("group.id") or "") or None,
            reset=fresh_start(kafka_params),
        )

    @property
    def topics(self) -> tuple[str, ...]:
        """The names of the topics, sorted."""
        return self._settings.topics

    @property
    def reset(self) -> str:
        """Where a fresh application starts: earliest or latest."""
        return self._settings.reset

    def bounds(self) -> Mapping[TopicPartition, tuple[int, int]]:
        """The (earliest, end) offsets of every partition; see `Source.bounds`."""
        return self._clients().log_watch().bounds()

    def read(self, offsets: OffsetRange) -> Iterator[KafkaSlice]:
        """The records of the range; see `Source.read`."""
        return self._clients().pool.read(offsets)

    def commit(self, ranges: Sequence[OffsetRange]) -> None:
        """Tell Kafka the offsets that are done, when there is a group.id; see `Source.commit`."""
        hints = self._clients().hints
        if hints is not None:
            hints.commit(ranges)

    def close(self) -> None:
        """Send the last offsets, end the reads that wait, and let go of this process's clients."""
        with _CLIENTS_LOCK:
            clients = _CLIENTS.pop(self._settings, None)
        if clients is not None:
            clients.close()

    def _clients(self) -> _Clients:
        with _CLIENTS_LOCK:
            clients = _CLIENTS.get(self._settings)
            if clients is None:
                closed = threading.Event()
                pool = ReaderPool(dict(self._settings.properties), _COMPLAINTS, closed)
                clients = _CLIENTS[self._settings] = _Clients(self._settings, closed, pool)
            return clients


class LocationStrategy:
    """Where Spark runs the tasks that read; accepted for ports and without effect.

    Partition i of a stream always goes to the same executor, so that its consumer is used again.
    """


class PreferConsistent(LocationStrategy):
    """Spread partitions evenly over the executors; what the engine does in any case."""


class PreferBrokers(LocationStrategy):
    """Read on the broker's own machine; without effect, the executors are on this one."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Read all partitions of these topics, those added later too."""

    topics: Collection[str]
    kafkaParams: Properties
    offsets: Mapping[TopicPartition, int] | None = None
    """Where a fresh application starts, for some or all partitions."""


@dataclass(frozen=True, slots=True)
class Assign:
    """Read these partitions and no others."""

    topicPartitions: Collection[tuple[str, int]]
    kafkaParams: Properties
    offsets: Mapping[TopicPartition, int] | None = None
    """Where a fresh application starts, for some or all partitions."""


ConsumerStrategy = Subscribe | Assign
"""What to read, with which settings, from where."""


class KafkaUtils:
    """Makes Kafka streams; the name is Spark's."""

    @staticmethod
    def createDirectStream(
        ssc: StreamingContext,
        locationStrategy: LocationStrategy | type[LocationStrategy],
        consumerStrategy: ConsumerStrategy,
        *,
        decoder: Callable[[bytes], Any] | None = None,
        eventTime: EventTime | None = None,
        name: str | None = None,
        maxRatePerPartition: float | None = None,
        allowCompacted: bool = False,
    ) -> DStream[Any]:
        """The stream of the records, each in exactly one batch.

        Elements:
            DStream[T] of what the decoder makes of the values; without one DStream[ConsumerRecord]. One RDD partition
            for each Kafka partition, in offset order.
        Replay:
            A batch that runs again reads the same records.

        Args:
            ssc: the context.
            locationStrategy: PreferConsistent() or PreferBrokers(); without effect.
            consumerStrategy: Subscribe or Assign, with Kafka's settings and where to start.
            decoder: bytes -> T; see `engine.sources.decoders`. A record on which it raises is a dead letter.
            eventTime: when records happened, and when they are late.
            name: of the stream, in the checkpoint and in metrics; the topics' names when not given.
            maxRatePerPartition: records a second, no limit when not given.
            allowCompacted: take topics with cleanup.policy=compact.

        Raises:
            ConfigurationError: a setting is unknown, malformed or the engine's own; a topic is compacted.

        Source:
            org.apache.spark.streaming.kafka010.KafkaUtils; the differences stand at the top of this module.
        """
        _check_location(locationStrategy)
        source = _source(consumerStrategy, allow_compacted=allowCompacted)
        return create_direct_stream(
            ssc,
            source,
            name=name or f"kafka:{','.join(source.topics)}",
            decoder=decoder,
            event_time=eventTime,
            starting_offsets={
                TopicPartition(*place): offset for place, offset in (consumerStrategy.offsets or {}).items()
            },
            reset=source.reset,
            max_rate_per_partition=maxRatePerPartition,
        )


def _source(strategy: ConsumerStrategy, *, allow_compacted: bool) -> KafkaSource:
    match strategy:
        case Subscribe(topics, params):
            return KafkaSource(params, topics=topics, allow_compacted=allow_compacted)
        case Assign(partitions, params):
            return KafkaSource(params, partitions=partitions, allow_compacted=allow_compacted)
    raise ConfigurationError(f"consumerStrategy is {strategy!r}; give Subscribe(...) or Assign(...)")


def _check_location(strategy: object) -> None:
    is_class = isinstance(strategy, type) and issubclass(strategy, LocationStrategy)
    if not is_class and not isinstance(strategy, LocationStrategy):
        raise ConfigurationError(f"locationStrategy is {strategy!r}; give PreferConsistent()")
