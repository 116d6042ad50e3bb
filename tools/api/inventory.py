"""What Spark offers, class by class: PySpark's classes themselves, and what only Scala and Java have.

Owns: CLASSES, Class.
Never: what this project has.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import pyspark
import pyspark.streaming
import pyspark.streaming.listener

from engine import LocalContext, StreamingContext, StreamingListener
from engine.dstream.dstream import DStream
from engine.rdd.local import LocalRDD
from engine.sources import kafka


class Class(NamedTuple):
    """A class of Spark's and ours."""

    title: str
    theirs: type
    ours: type | ModuleType
    scala: frozenset[str]
    """Names that Scala and Java have, and PySpark does not."""
    absent: Mapping[str, str]
    """Names of PySpark's that have no place here, with the reason."""
    is_theirs_on_spark: bool
    """Whether PySpark's own class takes this one's place on the Spark backend; else ours runs there too."""


class _NoPython:
    """PySpark has had no Kafka stream since version 3."""


def _class(
    title: str,
    theirs: Any,
    ours: Any,
    scala: str = "",
    absent: Mapping[str, str] | None = None,
    *,
    own: bool = True,
) -> Class:
    return Class(title, theirs, ours, frozenset(scala.split()), absent or {}, not own)


CLASSES = (
    _class(
        "DStream and pair DStream",
        pyspark.streaming.DStream,
        DStream,
        "mapWithState print saveAsHadoopFiles saveAsNewAPIHadoopFiles saveAsObjectFiles slideDuration stateSnapshots",
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
)
"""In the order of the page."""
