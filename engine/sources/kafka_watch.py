"""What the driver knows of the topics: where each log begins and ends, and whether it is still the same log.

The ends are asked for every batch, in one request; the topics' identities, their partitions and the logs' begins once a second,
side by side with it. So a batch costs one round trip, and a partition that is added is seen within a second.

Owns: LogWatch, GroupHints.
Never: a record, a planned range.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from engine.batch import OffsetRange, TopicPartition
from engine.clock import Clock, SystemClock
from engine.errors import ConfigurationError, SourceError
from engine.sources.kafka_client import ClusterClient, Complaints, GroupClient, Survey

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
    ) -> None:
        self._cluster = cluster
        self._topics = sorted(topics)
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
        self.bounds()
        for topic in self._topics:
            policy = self._cluster.topic_property(topic, "cleanup.policy")
            while policy is None:
                self._pause("its settings")
                policy = self._cluster.topic_property(topic, "cleanup.policy")
            if "compact" in policy:
                raise ConfigurationError(
                    f"topic {topic!r} has cleanup.policy={policy}: a batch that is read again would miss records; "
                    "set cleanup.policy=delete on the topic, or declare allowCompacted=True if that is harmless"
                )

    def bounds(self) -> dict[TopicPartition, tuple[int, int]]:
        """The (begin, end) offsets of every partition now; waits while the cluster is away.

        Raises:
            SourceError: a topic does not exist, was made again, or lost its tail; a partition does not exist.
        """
        looks = 0
        while True:
            survey = self._survey()
            fault = self._fault(survey)
            if fault is None and survey.is_complete:
                return self._accept(survey)
            looks += fault is not None
            if fault is not None and (looks >= _LOOKS or not self._ids):
                raise SourceError(fault)
            self._pause(fault or "its offsets")

    def _pause(self, subject: str) -> None:
        """Wait for half a second, and then look at everything anew."""
        self._refresh_at = self._clock.monotonic()
        self._complaints.say(
            f"Kafka at {self._cluster.address} gives no offsets of {', '.join(self._topics)}; "
            f"waiting ({self._cluster.trouble or subject})"
        )
        if self._closed.wait(_RETRY_SECONDS):
            raise SourceError(f"the source was closed while Kafka at {self._cluster.address} was awaited")

    def _survey(self) -> Survey:
        now = self._clock.monotonic()
        if now < self._refresh_at:
            return self._cluster.survey((), (), self._ends)
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

    def _accept(self, survey: Survey) -> dict[TopicPartition, tuple[int, int]]:
        self._ids.update((name, identity.id) for name, identity in survey.topics.items() if identity)
        self._begins.update(survey.begins)
        self._ends.update(survey.ends)
        return {place: (self._begins[place], self._ends[place]) for place in sorted(self._ends)}


class GroupHints:
    """The group's offsets in Kafka, kept near those of the last commit, for tools that show lag.

    At most one request is under way; what comes meanwhile goes with the next, and a request that failed is made good by it.
    """

    def __init__(self, client: GroupClient, group: str, complaints: Complaints) -> None:
        self._client = client
        self._group = group
        self._complaints = complaints
        self._wanted: dict[TopicPartition, int] = {}
        self._sent: Mapping[TopicPartition, int] = {}
        self._stored: dict[TopicPartition, int] = {}
        self._request: Future[Any] | None = None

    def commit(self, ranges: Iterable[OffsetRange]) -> None:
        """Everything before untilOffset is done; never waits, never raises."""
        self._wanted.update((part.topicPartition(), part.untilOffset) for part in ranges)
        self._send()

    def _send(self) -> None:
        if self._request is not None:
            self._client.poll()
            if not self._request.done():
                return
            self._settle(self._request)
        news = {place: offset for place, offset in self._wanted.items() if self._stored.get(place) != offset}
        if news:
            self._sent = news
            self._request = self._client.store(news)

    def _settle(self, request: Future[Any]) -> None:
        failure = request.exception()
        if failure is None:
            self._stored.update(self._sent)
        else:
            self._complaints.say(
                f"the offsets of group {self._group!r} are not up to date in Kafka: {failure}"
            )
        self._request = None

    def flush(self) -> None:
        """Send what is not sent yet, and let go of the client; gives up after a few seconds, as a hint may."""
        for _ in range(2):
            self._send()
            if self._request is not None:
                self._client.poll(_FLUSH_SECONDS)
        self._client.close()
