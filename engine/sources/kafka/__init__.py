"""Kafka's direct stream, with the names of Spark's 0.10 API: the driver plans ranges of offsets, the executors read them.

Where the engine differs from Spark's connector:

- `keyDecoder=` and `valueDecoder=` take the place of the deserializer classes, as in SPARK-16534; `decoder=` gives a stream of decoded
  values in place of records, several times faster, and puts aside what does not decode.
- kafkaParams go to librdkafka, so the names are those of its CONFIGURATION.md; most are Kafka's own.
- isolation.level is read_committed unless it is set; for producers without transactions that is the same.
- enable.auto.commit=true is refused, where Spark overrides it with a warning: offsets follow batches.
- A partition or a matching topic that is added is read from its first record, whatever auto.offset.reset says.
- `commitAsync` commits after its batch has succeeded, and the last ones at the stop. Where it is not used, the group's offsets are
  written as a hint for tools that show lag; no application starts at a hint. The checkpoint is the truth.

Owns: the front door, `from engine.sources.kafka import KafkaUtils`.
Never: code; only names.
"""

from engine.batch import OffsetRange, TopicPartition
from engine.sources.kafka.create import KafkaUtils
from engine.sources.kafka.records import ConsumerRecord, KafkaConsumerRecord, utf8_decoder
from engine.sources.kafka.source import KafkaSource
from engine.sources.kafka.strategies import (
    Assign,
    Chosen,
    ConsumerStrategies,
    ConsumerStrategy,
    LocationStrategies,
    LocationStrategy,
    PerPartitionConfig,
    PreferBrokers,
    PreferConsistent,
    PreferFixed,
    Subscribe,
    SubscribePattern,
)
from engine.sources.kafka.stream import KafkaDStream

__all__ = [
    "Assign",
    "Chosen",
    "ConsumerRecord",
    "ConsumerStrategies",
    "ConsumerStrategy",
    "KafkaConsumerRecord",
    "KafkaDStream",
    "KafkaSource",
    "KafkaUtils",
    "LocationStrategies",
    "LocationStrategy",
    "OffsetRange",
    "PerPartitionConfig",
    "PreferBrokers",
    "PreferConsistent",
    "PreferFixed",
    "Subscribe",
    "SubscribePattern",
    "TopicPartition",
    "utf8_decoder",
]
