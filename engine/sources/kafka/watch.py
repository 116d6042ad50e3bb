"""What the driver knows of the topics: where each log begins and ends, and whether it is still the same log.

The ends are asked for every batch, in one request; the topics' identities, their partitions and the logs' begins once a second,
side by side with it. So a batch costs one round trip, and a partition that is added is seen within a second.

Owns: LogWatch, GroupHints, HINT.
Never: a record, a planned range.
"""

import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from engine.batch import OffsetRange, TopicPartition
from engine.clock import Clock, SystemClock
from engine.errors import ConfigurationError, SourceError
from engine.sources.kafka.client import ClusterClient, Complaints, GroupClient, Survey

_REFRESH_SECONDS = 1.0
_RETRY_SECONDS = 0.5
_LOOKS = 4
"""So many looks in a row, _RETRY_SECONDS apart, must find a topic gone or a log shorter: a broker that starts may err."""
_FLUSH_SECONDS = 3.0


class LogWatch:
    """The bounds of the logs of some topics, or of some of their partitions."""

    def __init__(
        self,
        cluster: ClusterClient,
        topics: Iterable[str],
        partitions: Sequence[TopicPartition],
        complaints: Complaints,
        closed: threading.Event,
        clock: Clock | None = None,
        *,
        pattern: str | None = None,
    ) -> None:
        self._cluster = cluster
        self._topics = sorted(topics)
        self._pattern = None if pattern is None else re.compile(pattern)
        """Topics whose whole name matches are covered too, from when they are seen."""
        self._refuses_compacted = False
        self._plain: set[str] = set()
        """Topics that are known not to be compacted."""
        self._wanted = partitions
        """Empty: all partitions of the topics."""
        self._complaints = complaints
        self._closed = closed
        self._clock = clock or SystemClock()
        self._refresh_at = self._clock.monotonic()
        self._ids: dict[str, str] = {}
        self._begins: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}

    def refuse_compacted(self) -> None:
        """Prove that no topic is compacted: read again, a compacted log gives fewer records.

        Raises:
            ConfigurationError: one is.
            SourceError: one does not exist.
        """
        self._refuses_compacted = True
        self.bounds()

    def _prove_plain(self) -> None:
        for topic in [name for name in self._topics if name not in self._plain]:
            policy = self._setting(topic, "cleanup.policy")
            if "compact" in policy:
                raise ConfigurationError(
                    f"topic {topic!r} has cleanup.policy={policy}: a batch that is read again would miss records; "
                    "set cleanup.policy=delete on the topic, or declare allowCompacted=True if that is harmless"
                )
            self._plain.add(topic)

    def _setting(self, topic: str, name: str) -> str:
        while (value := self._cluster.topic_property(topic, name)) is None:
            self._pause("its settings")
        return value

    def bounds(self) -> dict[TopicPartition, tuple[int, int]]:
        """The (begin, end) offsets of every partition now; waits while the cluster is away.

        Raises:
            SourceError: a topic does not exist, was made again, or lost its tail; a partition does not exist.
        """
        survey = self._awaited(self._survey)
        if self._refuses_compacted:
            self._prove_plain()
        return self._accept(survey)

    def ids(self, topics: Collection[str]) -> dict[str, str]:
        """The topics' ids; waits while the cluster is away.

        Raises:
            SourceError: one does not exist.
        """
        unknown = [name for name in topics if name not in self._ids]
        if unknown:
            self._learn(self._awaited(lambda: self._cluster.survey(unknown, (), ())))
        return {name: self._ids[name] for name in topics}

    def retention_ms(self, topic: str) -> int | None:
        """How long the topic keeps its records; None when it drops none for their age. Waits while the cluster is away."""
        policy, kept = self._setting(topic, "cleanup.policy"), int(self._setting(topic, "retention.ms"))
        return kept if "delete" in policy and kept >= 0 else None

    def _awaited(self, look: Callable[[], Survey]) -> Survey:
        """What a look finds once it finds everything."""
        looks = 0
        while True:
            survey = look()
            fault = self._fault(survey)
            if fault is None and survey.is_complete:
                return survey
            looks += fault is not None
            if fault is not None and looks >= _LOOKS:
                raise SourceError(fault)
            self._pause(fault or "its offsets")

    def _pause(self, subject: str) -> None:
        """Wait for half a second, and then look at everything anew."""
        self._refresh_at = self._clock.monotonic()
        self._complaints.say(
            f"Kafka at {self._cluster.address} gives no offsets of {', '.join(self._topics) or 'any topic'}; "
            f"waiting ({self._cluster.trouble or subject})"
        )
        if self._closed.wait(_RETRY_SECONDS):
            raise SourceError(f"the source was closed while Kafka at {self._cluster.address} was awaited")

    def _survey(self) -> Survey:
        now = self._clock.monotonic()
        if now < self._refresh_at:
            return self._cluster.survey((), (), self._ends)
        if self._pattern is not None:
            names = self._cluster.topic_names()
            if names is None:
                return Survey(is_complete=False)
            self._topics = sorted({*self._topics, *filter(self._pattern.fullmatch, names)})
        survey = self._cluster.survey(self._topics, self._ends, self._ends)
        if not survey.is_complete or None in survey.topics.values():
            return survey
        added = self._covered(survey) - self._ends.keys()
        if added:
            news = self._cluster.survey((), added, added)
            survey.begins.update(news.begins)
            survey.ends.update(news.ends)
            survey.is_complete = news.is_complete
        self._refresh_at = now + _REFRESH_SECONDS
        return survey

    def _covered(self, survey: Survey) -> set[TopicPartition]:
        partitions = {
            TopicPartition(name, number)
            for name, identity in survey.topics.items()
            if identity is not None
            for number in range(identity.partitions)
        }
        if not self._wanted:
            return partitions
        for place in self._wanted:
            if place not in partitions:
                raise SourceError(
                    f"topic {place.topic!r} has no partition {place.partition}; assign one of "
                    f"{sorted(other.partition for other in partitions if other.topic == place.topic)}"
                )
        return set(self._wanted)

    def _fault(self, survey: Survey) -> str | None:
        """What is wrong with the logs, if anything is."""
        for name, identity in survey.topics.items():
            if identity is None:
                return (
                    f"topic {name!r} does not exist in Kafka at {self._cluster.address}; create it: kafka-topics.sh "
                    f"--bootstrap-server {self._cluster.address} --create --topic {name} --partitions N"
                )
            if self._ids.get(name, identity.id) != identity.id:
                return (
                    f"topic {name!r} was deleted and made again (its id was {self._ids[name]}, now {identity.id}): "
                    "its offsets mean other records; start with a new checkpoint folder to read the new one"
                )
        for place, end in survey.ends.items():
            if end < self._ends.get(place, 0):
                return (
                    f"{place.topic}[{place.partition}] ended at offset {self._ends[place]} and now ends at {end}: "
                    "it lost its tail or was made again; start with a new checkpoint folder to read it as it is"
                )
        return None

    def _learn(self, survey: Survey) -> None:
        self._ids.update((name, identity.id) for name, identity in survey.topics.items() if identity)

    def _accept(self, survey: Survey) -> dict[TopicPartition, tuple[int, int]]:
        self._learn(survey)
        self._begins.update(survey.begins)
        self._ends.update(survey.ends)
        return {place: (self._begins[place], self._ends[place]) for place in sorted(self._ends)}


HINT = "a hint of the engine, whose checkpoint is the truth"
"""Stored with the group's offsets that nobody asked for: a fresh application does not start at them."""

Told = Callable[[Exception | None], None]
"""Called when a commit is acknowledged, or has failed."""


class GroupHints:
    """The group's offsets in Kafka: kept near those of the last commit for tools that show lag, or stored as the job asks.

    At most one request is under way; what comes meanwhile goes with the next, and a request that failed is made good by it. Once the job
    has asked for a commit of its own, the hints cease.
    """

    def __init__(self, client: GroupClient, group: str, complaints: Complaints) -> None:
        self._client = client
        self._group = group
        self._complaints = complaints
        self._metadata = HINT
        self._wanted: dict[TopicPartition, int] = {}
        self._sent: Mapping[TopicPartition, int] = {}
        self._stored: dict[TopicPartition, int] = {}
        self._waiting: list[Told] = []
        """Of commits that go with the next request."""
        self._asked: list[Told] = []
        """Of commits that went with the request that is under way."""
        self._request: Future[Any] | None = None

    def commit(self, ranges: Iterable[OffsetRange]) -> None:
        """Everything before untilOffset is done; never waits, never raises."""
        if self._metadata == HINT:
            self._wanted.update((part.topicPartition(), part.untilOffset) for part in ranges)
        self._send()

    def store(self, offsets: Mapping[TopicPartition, int], told: Told) -> None:
        """Store these offsets as the group's own; never waits, never raises."""
        self.cease()
        self._wanted.update(offsets)
        self._waiting.append(told)
        self._send()

    def cease(self) -> None:
        """Store only what is asked for from now on: the group's offsets are the job's own."""
        if self._metadata == HINT:
            self._metadata = ""
            self._wanted.clear()
            self._stored.clear()

    def known(
        self, partitions: Iterable[TopicPartition], closed: threading.Event
    ) -> dict[TopicPartition, int]:
        """The offsets that someone committed for the group, hints aside; waits while the cluster is away.

        Raises:
            SourceError: the group may not be read, or the source was closed.
        """
        wanted = list(partitions)
        while (found := self._client.stored(wanted)) is None:
            self._complaints.say(
                f"Kafka does not give the offsets of group {self._group!r}; waiting ({self._client.trouble})"
            )
            if closed.wait(_RETRY_SECONDS):
                raise SourceError(
                    f"the source was closed while the offsets of group {self._group!r} were awaited"
                )
        return {place: entry.offset for place, entry in found.items() if entry.metadata != HINT}

    def _send(self) -> None:
        if self._request is not None:
            self._client.poll()
            if not self._request.done():
                return
            self._settle(self._request)
        news = {place: offset for place, offset in self._wanted.items() if self._stored.get(place) != offset}
        asked, self._waiting = self._waiting, []
        if news:
            self._sent, self._asked = news, asked
            self._request = self._client.store(news, self._metadata)
        else:
            _tell(asked, None)

    def _settle(self, request: Future[Any]) -> None:
        failure = request.exception()
        if failure is None:
            self._stored.update(self._sent)
        else:
            self._complaints.say(
                f"the offsets of group {self._group!r} are not up to date in Kafka: {failure}"
            )
        self._request = None
        asked, self._asked = self._asked, []
        _tell(
            asked,
            None if failure is None else SourceError(f"group {self._group!r} was not committed: {failure}"),
        )

    def flush(self) -> None:
        """Send what is not sent yet, and let go of the client; gives up after a few seconds, as a hint may."""
        for _ in range(2):
            self._send()
            if self._request is not None:
                self._client.poll(_FLUSH_SECONDS)
        if self._request is not None and self._request.done():
            self._settle(self._request)
        lost = [*self._asked, *self._waiting]
        self._asked, self._waiting = [], []
        _tell(
            lost,
            SourceError(f"group {self._group!r} was not committed: Kafka did not answer before the stop"),
        )
        self._client.close()


def _tell(callbacks: Iterable[Told], failure: Exception | None) -> None:
    for told in callbacks:
        told(failure)
