"""What Spark offers, class by class: PySpark's classes themselves, and what only Scala and Java have.

Owns: CLASSES, Class.
Never: what this project has.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import pyspark
import pyspark.accumulators
import pyspark.streaming
import pyspark.streaming.listener

from engine import (
    Accumulator,
    AccumulatorParam,
    Broadcast,
    DStream,
    LocalContext,
    Receiver,
    SparkConf,
    SparkFiles,
    State,
    StateSpec,
    StorageLevel,
    StreamingContext,
    StreamingContextState,
    StreamingListener,
    TaskContext,
)
from engine.rdd.local import LocalRDD
from engine.sources import kafka


class Class(NamedTuple):
    """A class of Spark's and ours."""

    title: str
    theirs: type
    ours: type | ModuleType
    scala: frozenset[str]
    """Names that Scala and Java have, and PySpark does not."""
    extra: frozenset[str]
    """Names that only we have, where users look for them."""
    absent: Mapping[str, str]
    """Names of PySpark's that have no place here, with the reason."""
    is_theirs_on_spark: bool
    """Whether PySpark's own class takes this one's place on the Spark backend; else ours runs there too."""


class _NoPython:
    """PySpark has no such class: the Kafka stream went with version 3, receivers and mapWithState never came."""


def _class(
    title: str,
    theirs: Any,
    ours: Any,
    scala: str = "",
    absent: Mapping[str, str] | None = None,
    *,
    own: bool = True,
    extra: str = "",
) -> Class:
    return Class(
        title, theirs, ours, frozenset(scala.split()), frozenset(extra.split()), absent or {}, not own
    )


_SERIALISED = "MEMORY_AND_DISK_SER MEMORY_AND_DISK_SER_2 MEMORY_ONLY_SER MEMORY_ONLY_SER_2"
_PICKLED = dict.fromkeys(
    ("dump", "load", "load_from_path"), "how PySpark writes and reads the file of a value; not for users"
)

CLASSES = (
    _class(
        "DStream and pair DStream",
        pyspark.streaming.DStream,
        DStream,
        "mapWithState print saveAsHadoopFiles saveAsNewAPIHadoopFiles saveAsObjectFiles slideDuration stateSnapshots",
        extra="saveAsPickleFiles",
    ),
    _class(
        "StreamingContext",
        pyspark.streaming.StreamingContext,
        StreamingContext,
        "fileStream getState rawSocketStream receiverStream removeStreamingListener socketStream",
    ),
    _class(
        "StreamingListener",
        pyspark.streaming.listener.StreamingListener,
        StreamingListener,
        absent={"Java": "the name of a JVM interface"},
    ),
    _class(
        "Kafka: org.apache.spark.streaming.kafka010, as engine.sources.kafka",
        _NoPython,
        kafka,
        "Assign CanCommitOffsets ConsumerRecord ConsumerStrategies ConsumerStrategy HasOffsetRanges KafkaUtils LocationStrategies "
        "LocationStrategy OffsetRange PerPartitionConfig PreferBrokers PreferConsistent PreferFixed Subscribe SubscribePattern "
        "TopicPartition",
        {
            "CanCommitOffsets": "a trait; here a stream of createDirectStream has commitAsync itself",
            "HasOffsetRanges": "a trait; here the RDD of such a stream has offsetRanges itself",
        },
    ),
    _class("RDD", pyspark.RDD, LocalRDD, own=False),
    _class(
        "SparkContext",
        pyspark.SparkContext,
        LocalContext,
        absent={"PACKAGE_EXTENSIONS": "a list for the launcher of Spark"},
        own=False,
    ),
    _class("SparkConf", pyspark.SparkConf, SparkConf, own=False),
    _class("StorageLevel", pyspark.StorageLevel, StorageLevel, f"NONE {_SERIALISED}"),
    _class("Broadcast", pyspark.Broadcast, Broadcast, own=False, absent=_PICKLED),
    _class("Accumulator", pyspark.Accumulator, Accumulator, own=False),
    _class("AccumulatorParam", pyspark.accumulators.AccumulatorParam, AccumulatorParam, own=False),
    _class(
        "TaskContext",
        pyspark.TaskContext,
        TaskContext,
        absent={"from_json": "how Spark hands a task its context; not for users"},
        own=False,
    ),
    _class("SparkFiles", pyspark.SparkFiles, SparkFiles, own=False),
    _class("StreamingContextState", _NoPython, StreamingContextState, "ACTIVE INITIALIZED STOPPED"),
    _class("State of mapWithState", _NoPython, State, "exists get getOption isTimingOut remove update"),
    _class(
        "StateSpec of mapWithState",
        _NoPython,
        StateSpec,
        "function initialState numPartitions partitioner timeout",
        extra="keyType stateType",
    ),
    _class(
        "Receiver",
        _NoPython,
        Receiver,
        "isStarted isStopped onStart onStop preferredLocation reportError restart stop storageLevel store streamId",
        extra="lastMetadata",
    ),
)
"""In the order of the page."""
