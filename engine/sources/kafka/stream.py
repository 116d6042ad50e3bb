"""Kafka's stream: where it starts, how much a batch takes, and the offsets that the job commits.

Owns: KafkaInputDStream, KafkaDStream, source_of.
Never: a client; the source has them.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

from engine.batch import Batch, OffsetRange, Time, TopicPartition
from engine.dstream.dstream import DStream
from engine.dstream.nodes import BatchScope
from engine.errors import ConfigurationError, SourceError
from engine.rdd.api import T
from engine.sources.direct import DirectInputDStream, EventTime
from engine.sources.kafka.source import KafkaSource
from engine.sources.kafka.strategies import (
    Assign,
    Chosen,
    ConsumerStrategy,
    PerPartitionConfig,
    Subscribe,
    SubscribePattern,
)

_LOG = logging.getLogger("engine.sources.kafka")

OnCommit = Callable[[dict[TopicPartition, int], Exception | None], object]
"""(offsets, what went wrong or None)."""


class _Permits(TypedDict):
    """What a source is to take, of what else is an error."""

    allow_compacted: bool
    fails_on_loss: bool


_NOTHING = _Permits(allow_compacted=False, fails_on_loss=True)


def source_of(strategy: Chosen, permits: _Permits = _NOTHING) -> KafkaSource:
    """The source that a decided strategy asks for.

    Raises:
        ConfigurationError: it is none, or its settings are wrong.
    """
    match strategy:
        case Subscribe(topics=topics, kafkaParams=params):
            return KafkaSource(params, topics=topics, **permits)
        case SubscribePattern(pattern=pattern, kafkaParams=params):
            return KafkaSource(params, pattern=pattern, **permits)
        case Assign(topicPartitions=partitions, kafkaParams=params):
            return KafkaSource(params, partitions=partitions, **permits)
    raise ConfigurationError(
        f"consumerStrategy is {strategy!r}; give Subscribe(...), SubscribePattern(...) or Assign(...)"
    )


class _Commit(NamedTuple):
    """Offsets that the job wants to have committed."""

    offsets: dict[TopicPartition, int]
    callback: OnCommit | None

    def is_within(self, positions: Mapping[TopicPartition, int]) -> bool:
        """Whether every record before the offsets is in a batch that succeeded."""
        return all(offset <= positions.get(place, -1) for place, offset in self.offsets.items())

    def tell(self, stream: str, failure: Exception | None) -> None:
        """Call the callback, if there is one."""
        if self.callback is None:
            return
        try:
            self.callback(self.offsets, failure)
        except Exception:  # noqa: BLE001 - a callback must not stop the stream, whatever it raises
            _LOG.exception("the callback of commitAsync of stream %r failed", stream)


class KafkaInputDStream(DirectInputDStream):
    """The records of Kafka's partitions.

    Args:
        scope: the graph.
        strategy: what to read.
        name: of the stream.
        reader: the decoder of the values, or of whole records, and the event time.
        limits: how much a batch takes of each partition.
        allow_compacted: take compacted topics.
        fails_on_loss: refuse to go on without records that the log no longer has.
    """

    def __init__(
        self,
        scope: BatchScope,
        strategy: ConsumerStrategy,
        name: str | None,
        reader: tuple[Callable[[bytes], Any] | None, EventTime | None],
        limits: PerPartitionConfig,
        *,
        allow_compacted: bool,
        fails_on_loss: bool,
    ) -> None:
        self._strategy: ConsumerStrategy | None = None
        self._permits = _Permits(allow_compacted=allow_compacted, fails_on_loss=fails_on_loss)
        if isinstance(strategy, Subscribe | SubscribePattern | Assign):
            kafka = source_of(strategy, self._permits)
        elif isinstance(strategy, ConsumerStrategy):
            # What it reads is known at the start; ranges of any topic are read with its settings until then and after.
            self._strategy = strategy
            kafka = KafkaSource(
                strategy.executorKafkaParams,
                pattern=r"(?!)",
                allow_compacted=True,
                fails_on_loss=fails_on_loss,
            )
        else:
            source_of(strategy)
        super().__init__(scope, kafka, name or f"kafka:{_subject(strategy, kafka)}", reader)
        self.fails_on_loss = fails_on_loss
        self._kafka = self._reading = kafka
        self._limits = limits
        self._lock = threading.Lock()
        self._commits: list[_Commit] = []
        self._begun: frozenset[TopicPartition] = frozenset()
        """The partitions of the batch that ran last; one that runs again is the first that a new start knows of."""
        self._commits_itself = False
        if isinstance(strategy, Subscribe | SubscribePattern | Assign):
            self._choose(strategy, kafka)

    def _choose(self, chosen: Chosen, kafka: KafkaSource) -> None:
        self._source = self._kafka = kafka
        self.starting_offsets = {
            TopicPartition(*place): int(offset) for place, offset in (chosen.offsets or {}).items()
        }
        self.starts_at_end = kafka.reset == "latest"

    # Planning.

    def plan(self, time: Time) -> tuple[OffsetRange, ...]:
        """From where the last batch ended to the end of the log, at most what the limits allow."""
        if self._strategy is not None:
            chosen = self._strategy.onStart(dict(self._positions))
            self._choose(chosen, source_of(chosen, self._permits))
            self._strategy = None
        return super().plan(time)

    def _most(self, place: TopicPartition) -> int | None:
        rate = self._limits.maxRatePerPartition(place)
        if rate <= 0:
            return None
        return max(1, self._limits.minRatePerPartition(place), int(rate * self.scope.batch_duration / 1_000))

    def _least(self, place: TopicPartition) -> int:
        return max(1, self._limits.minRatePerPartition(place))

    def _starts(self, added: Mapping[TopicPartition, tuple[int, int]]) -> dict[TopicPartition, int]:
        """At the offsets that were given, else where the group committed, else where auto.offset.reset says."""
        if not self._is_fresh:
            return super()._starts(added)
        unknown = [place for place in added if place not in self.starting_offsets]
        stored = self._kafka.group_offsets(unknown)
        return {place: self._fresh_start(place, limits, stored.get(place)) for place, limits in added.items()}

    def _fresh_start(self, place: TopicPartition, limits: tuple[int, int], stored: int | None) -> int:
        earliest, end = limits
        if place in self.starting_offsets:
            offset = self.starting_offsets[place]
            # Kafka's own numbers for the ends of a log.
            return {-2: earliest, -1: end}.get(offset, offset)
        where = f"{place.topic}[{place.partition}]"
        if stored is not None and earliest <= stored <= end:
            _LOG.info("%s starts at offset %d, which group %r committed", where, stored, self._kafka.group)
            return stored
        if self._kafka.reset == "none":
            known = (
                "no offset" if stored is None else f"offset {stored}, outside of the log [{earliest}, {end})"
            )
            raise ConfigurationError(
                f"{where} has no place to start: auto.offset.reset is none, and group {self._kafka.group!r} has {known}; "
                "give offsets=, or set auto.offset.reset to earliest or latest"
            )
        if stored is not None:
            _LOG.warning(
                "%s: group %r committed offset %d, the log holds [%d, %d); it starts at the %s offset",
                *(where, self._kafka.group, stored, earliest, end, self._kafka.reset),
            )
        return end if self.starts_at_end else earliest

    # Commits.

    def begin(self, batch: Batch) -> None:
        """A run of a batch begins."""
        super().begin(batch)
        self._begun = frozenset(part.topicPartition() for part in batch.ranges.get(self.name, ()))

    def commit_async(self, ranges: Sequence[OffsetRange], callback: OnCommit | None) -> None:
        """Commit the ends of these ranges once the batches that hold them have succeeded; on any thread."""
        if self._kafka.group is None:
            raise ConfigurationError(
                f"commitAsync on stream {self.name!r}: kafkaParams have no group.id; give one to commit offsets for"
            )
        offsets: dict[TopicPartition, int] = {}
        for part in ranges:
            if not isinstance(part, OffsetRange):
                raise ConfigurationError(
                    f"commitAsync on stream {self.name!r} got {part!r}; give rdd.offsetRanges()"
                )
            place = part.topicPartition()
            if place not in self._positions and place not in self._begun:
                raise ConfigurationError(
                    f"commitAsync on stream {self.name!r} got a range of {place.topic}[{place.partition}], which it does not read; "
                    "give the rdd.offsetRanges() of this stream"
                )
            offsets[place] = max(part.untilOffset, offsets.get(place, 0))
        with self._lock:
            self._commits_itself = True
            self._commits.append(_Commit(offsets, callback))

    def committed(self, batch: Batch) -> None:
        """Go on after the batch; commit what the job asked for, or failing that give a hint."""
        ranges = batch.ranges.get(self.name, ())
        self._positions.update({part.topicPartition(): part.untilOffset for part in ranges})
        if self._commits_itself:
            self._send_commits()
            self._kafka.commit(())
        else:
            self._kafka.commit(ranges)

    def _send_commits(self) -> None:
        with self._lock:
            ready = [commit for commit in self._commits if commit.is_within(self._positions)]
            self._commits = [commit for commit in self._commits if not commit.is_within(self._positions)]
        offsets: dict[TopicPartition, int] = {}
        for commit in ready:
            for place, offset in commit.offsets.items():
                offsets[place] = max(offset, offsets.get(place, 0))
        if ready:

            def told(failure: Exception | None) -> None:
                for commit in ready:
                    commit.tell(self.name, failure)

            self._kafka.store(offsets, told)

    def close(self) -> None:
        """Send the last offsets of batches that succeeded, and let go of the driver's clients."""
        if self._commits:
            self._send_commits()
        super().close()
        if self._reading is not self._kafka:
            self._reading.close()
        with self._lock:
            lost, self._commits = self._commits, []
        for commit in lost:
            commit.tell(
                self.name,
                SourceError(
                    f"{commit.offsets} were not committed: no batch with these records succeeded before the stop"
                ),
            )


def _subject(strategy: ConsumerStrategy, source: KafkaSource) -> str:
    """What a stream without a name is called after."""
    match strategy:
        case Subscribe() | Assign():
            return ",".join(source.topics)
        case SubscribePattern(pattern=pattern):
            return pattern if isinstance(pattern, str) else pattern.pattern
    return type(strategy).__name__


class KafkaDStream(DStream[T]):
    """A stream of Kafka's records, which can commit their offsets.

    Source: the DStream with CanCommitOffsets of Spark's connector.
    """

    node: KafkaInputDStream

    def __init__(self, node: KafkaInputDStream) -> None:
        super().__init__(node)

    def commitAsync(self, offsetRanges: Sequence[OffsetRange], callback: OnCommit | None = None) -> None:
        """Commit the ends of these ranges as the group's offsets in Kafka, once the batches that hold them have succeeded.

        Replay: a batch that runs again asks again, and nothing is committed before it has succeeded; at a stop the last ones are sent.

        Spark sends them when the next batch is made, whether this one's outputs succeeded or not, and never sends the last ones. The
        checkpoint stays the truth of this application; the group's offsets are for lag tools and for a fresh application, which starts
        at them. Without any call the engine stores the group's offsets as a hint, at which no application starts.

        Args:
            offsetRanges: of this stream, as `rdd.offsetRanges()` gives them in foreachRDD or transform.
            callback: called with the offsets by partition and None, or with what went wrong; on a thread of the engine.

        Raises:
            ConfigurationError: there is no group.id, or what was given is no range of this stream.
        """
        self.node.commit_async(offsetRanges, callback)
