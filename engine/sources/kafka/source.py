"""The records of Kafka's topics as a source: bounds and offsets for the driver, ranges for the tasks.

Owns: KafkaSource.
Never: a planned range, a client's calls (client.py).
"""

import atexit
import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.batch import OffsetRange, TopicPartition
from engine.errors import ConfigurationError
from engine.sources.kafka.client import ClusterClient, Complaints, GroupClient, Properties, check_properties
from engine.sources.kafka.params import fresh_start, reader_properties
from engine.sources.kafka.reader import KafkaSlice, ReaderPool
from engine.sources.kafka.watch import GroupHints, LogWatch, Told

_COMPLAINTS = Complaints()


@dataclass(frozen=True, slots=True)
class _Settings:
    """What a source is: shipped to the executors, and the key of a process's clients."""

    properties: tuple[tuple[str, str | int | float | bool], ...]
    topics: tuple[str, ...]
    partitions: tuple[TopicPartition, ...]
    """Empty: all of the topics."""
    pattern: str | None
    """Topics that match are read too, from when they are made."""
    allow_compacted: bool
    fails_on_loss: bool
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
            watch = LogWatch(
                cluster,
                settings.topics,
                settings.partitions,
                _COMPLAINTS,
                self.closed,
                pattern=settings.pattern,
            )
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
        pattern: read the topics whose whole name matches instead, those made later too.
        allow_compacted: take compacted topics, whose records may be gone when a batch runs again.
        fails_on_loss: refuse a range of which the log no longer has the begin; else what is left of it is read, and the
            slice before says what is lost.

    Raises:
        ConfigurationError: a property is unknown, malformed, or the engine's own.
    """

    def __init__(
        self,
        kafka_params: Properties,
        topics: Collection[str] = (),
        partitions: Collection[tuple[str, int]] = (),
        *,
        pattern: str | re.Pattern[str] | None = None,
        allow_compacted: bool = False,
        fails_on_loss: bool = True,
    ) -> None:
        if isinstance(topics, str):
            raise ConfigurationError(f"topics is the string {topics!r}; give a list of names")
        if (bool(topics), bool(partitions), pattern is not None).count(True) != 1:
            raise ConfigurationError(
                f"topics are {list(topics)}, partitions {list(partitions)}, the pattern {pattern!r}; give one of the three"
            )
        properties = reader_properties(kafka_params)
        check_properties(properties)
        places = sorted({TopicPartition(*place) for place in partitions})
        self._settings = _Settings(
            properties=tuple(sorted(properties.items())),
            topics=tuple(sorted({*topics, *(place.topic for place in places)})),
            partitions=tuple(places),
            pattern=None if pattern is None else _regular(pattern),
            allow_compacted=allow_compacted,
            fails_on_loss=fails_on_loss,
            group=str(kafka_params.get("group.id") or "") or None,
            reset=fresh_start(kafka_params),
        )

    @property
    def topics(self) -> tuple[str, ...]:
        """The names of the topics, sorted."""
        return self._settings.topics

    @property
    def reset(self) -> str:
        """Where a fresh application starts: earliest, latest or none."""
        return self._settings.reset

    @property
    def group(self) -> str | None:
        """The group whose offsets are read and written; None without a group.id."""
        return self._settings.group

    def bounds(self) -> Mapping[TopicPartition, tuple[int, int]]:
        """The (earliest, end) offsets of every partition; see `Source.bounds`."""
        return self._clients().log_watch().bounds()

    def topic_ids(self, topics: Collection[str]) -> Mapping[str, str]:
        """By topic the id that the cluster gave it when it was made; see `Source.topic_ids`."""
        return self._clients().log_watch().ids(topics)

    def retention_ms(self, topic: str) -> int | None:
        """The topic's retention.ms, where it deletes by age; see `Source.retention_ms`."""
        return self._clients().log_watch().retention_ms(topic)

    def read(self, offsets: OffsetRange) -> Iterator[KafkaSlice]:
        """The records of the range; see `Source.read`."""
        return self._clients().pool.read(offsets)

    def commit(self, ranges: Sequence[OffsetRange]) -> None:
        """Tell Kafka the offsets that are done, when there is a group.id; see `Source.commit`."""
        hints = self._clients().hints
        if hints is not None:
            hints.commit(ranges)

    def group_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offsets that someone committed for the group of those of the partitions that have one; the engine's hints aside.

        Where there is one, the group's offsets are someone's own, and the engine gives no more hints.

        Raises:
            SourceError: the group may not be read, or the source was closed.
        """
        clients = self._clients()
        clients.log_watch()
        if clients.hints is None or not partitions:
            return {}
        known = clients.hints.known(partitions, clients.closed)
        if known:
            clients.hints.cease()
        return known

    def store(self, offsets: Mapping[TopicPartition, int], told: Told) -> None:
        """Store the group's offsets in Kafka as the job asks; never waits."""
        clients = self._clients()
        clients.log_watch()
        if clients.hints is None:
            told(ConfigurationError("kafkaParams have no group.id; give one to commit offsets"))
        else:
            clients.hints.store(offsets, told)

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
                properties, fails_on_loss = dict(self._settings.properties), self._settings.fails_on_loss
                pool = ReaderPool(properties, _COMPLAINTS, closed, fails_on_loss=fails_on_loss)
                clients = _CLIENTS[self._settings] = _Clients(self._settings, closed, pool)
            return clients


def _regular(pattern: str | re.Pattern[str]) -> str:
    try:
        return re.compile(pattern).pattern
    except (re.error, TypeError) as error:
        raise ConfigurationError(
            f"the pattern of topics {pattern!r} is no regular expression ({error}); give one of Python's, such as 'clicks-.*'"
        ) from error
