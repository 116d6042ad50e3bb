"""What to read of Kafka, where a fresh application starts, and how much a batch takes of a partition; the names are Spark's.

Owns: ConsumerStrategy, Subscribe, SubscribePattern, Assign, ConsumerStrategies, LocationStrategy, PreferConsistent, PreferBrokers,
PreferFixed, LocationStrategies, PerPartitionConfig.
Never: a client.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from engine.batch import TopicPartition
from engine.errors import ConfigurationError
from engine.sources.kafka.client import Properties


class LocationStrategy:
    """Where Spark runs the tasks that read; accepted for ports.

    Partition i of a stream always goes to the same executor, so that its consumer is used again, whatever the strategy. On the embedded
    backend all executors are on one host. On Spark the scheduler may move a task; it reads the same range elsewhere.
    """


class PreferConsistent(LocationStrategy):
    """Spread partitions evenly over the executors; what the engine does in any case."""


class PreferBrokers(LocationStrategy):
    """Read on the broker's own machine; here as PreferConsistent."""


class PreferFixed(LocationStrategy):
    """Read these partitions on these hosts; here as PreferConsistent.

    Args:
        hostMap: host by partition.
    """

    def __init__(self, hostMap: Mapping[TopicPartition, str]) -> None:
        self.hostMap = {TopicPartition(*place): host for place, host in hostMap.items()}


class LocationStrategies:
    """Scala's spelling of the location strategies."""

    PreferConsistent = PreferConsistent
    PreferBrokers = PreferBrokers
    PreferFixed = PreferFixed


Location: TypeAlias = LocationStrategy | type[LocationStrategy]
"""A class stands for its object, as in Scala."""


def check_location(strategy: object, *, for_rdd: bool = False) -> None:
    """Prove that it is a strategy, and one that can be.

    Raises:
        ConfigurationError: it is something else; PreferBrokers is asked of a single RDD.
    """
    kind = strategy if isinstance(strategy, type) else type(strategy)
    if not issubclass(kind, LocationStrategy) or strategy is PreferFixed:
        raise ConfigurationError(f"locationStrategy is {strategy!r}; give PreferConsistent()")
    if for_rdd and issubclass(kind, PreferBrokers):
        raise ConfigurationError(
            "If you want to prefer brokers, you must provide a mapping using PreferFixed: a single KafkaRDD does not have a driver "
            "consumer and cannot look up brokers for you; or give PreferConsistent()"
        )


class ConsumerStrategy(ABC):
    """What to read. A subclass of yours decides at each start of the application, when it can know more than when it was written.

    Source: `org.apache.spark.streaming.kafka010.ConsumerStrategy`, whose onStart returns a consumer of Kafka's Java client; here it
    returns one of the strategies below.

    Example:
        >>> class EvenPartitions(ConsumerStrategy):
        ...     executorKafkaParams = {"bootstrap.servers": "127.0.0.1:9092"}
        ...     def onStart(self, currentOffsets):
        ...         return Assign([("clicks", number) for number in (0, 2, 4)], self.executorKafkaParams)
        >>> EvenPartitions().onStart({}).topicPartitions[1]
        ('clicks', 2)
    """

    @property
    @abstractmethod
    def executorKafkaParams(self) -> Properties:
        """Kafka's settings, of the clients that read records."""

    @abstractmethod
    def onStart(self, currentOffsets: Mapping[TopicPartition, int]) -> "Chosen":
        """What to read from now on; called in the driver, once for each start of the application, before the first batch is planned.

        Args:
            currentOffsets: where the stream goes on after a restart, whatever is chosen; empty for a fresh application.
        """


@dataclass(frozen=True, slots=True)
class _Choice(ConsumerStrategy):
    """A strategy that is decided."""

    @property
    def executorKafkaParams(self) -> Properties:
        """The settings of all clients."""
        return self.kafkaParams  # type: ignore[attr-defined, no-any-return]  # each kind has them, after what it reads


@dataclass(frozen=True, slots=True)
class Subscribe(_Choice):
    """Read all partitions of these topics, those added later too.

    A fresh application starts at `offsets`; failing that where the group.id committed; failing that where auto.offset.reset says.
    """

    topics: Collection[str]
    kafkaParams: Properties
    offsets: Mapping[TopicPartition, int] | None = None
    """Where a fresh application starts, for some or all partitions."""

    def onStart(self, currentOffsets: Mapping[TopicPartition, int]) -> "Subscribe":  # noqa: ARG002  it is decided
        """Itself."""
        return self


@dataclass(frozen=True, slots=True)
class SubscribePattern(_Choice):
    """Read all partitions of the topics whose whole name matches, those made later too; not Kafka's internal topics.

    A topic that is made later is seen within a second and read from its first record.
    """

    pattern: "str | re.Pattern[str]"
    """A regular expression of Python's."""
    kafkaParams: Properties
    offsets: Mapping[TopicPartition, int] | None = None
    """Where a fresh application starts, for some or all partitions."""

    def onStart(self, currentOffsets: Mapping[TopicPartition, int]) -> "SubscribePattern":  # noqa: ARG002  as above
        """Itself."""
        return self


@dataclass(frozen=True, slots=True)
class Assign(_Choice):
    """Read these partitions and no others."""

    topicPartitions: Collection[tuple[str, int]]
    kafkaParams: Properties
    offsets: Mapping[TopicPartition, int] | None = None
    """Where a fresh application starts, for some or all partitions."""

    def onStart(self, currentOffsets: Mapping[TopicPartition, int]) -> "Assign":  # noqa: ARG002  as above
        """Itself."""
        return self


class ConsumerStrategies:
    """Scala's spelling of the consumer strategies."""

    Subscribe = Subscribe
    SubscribePattern = SubscribePattern
    Assign = Assign


Chosen: TypeAlias = Subscribe | SubscribePattern | Assign


class PerPartitionConfig:
    """How much a batch takes of each partition; override what differs between them.

    Source: `org.apache.spark.streaming.kafka010.PerPartitionConfig`.

    Example:
        >>> class Slow(PerPartitionConfig):
        ...     def maxRatePerPartition(self, topicPartition):
        ...         return 10 if topicPartition.topic == "archive" else 0
        >>> Slow().maxRatePerPartition(TopicPartition("archive", 3))
        10
    """

    def maxRatePerPartition(self, topicPartition: TopicPartition) -> float:  # noqa: ARG002  for those who override it
        """Records a second; 0 for no limit."""
        return 0

    def minRatePerPartition(self, topicPartition: TopicPartition) -> int:  # noqa: ARG002  as above
        """Records that a batch takes in any case, however low the rate; at least 1."""
        return 1
