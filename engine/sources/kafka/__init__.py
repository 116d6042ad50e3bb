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
- Exactly once is said of offsets: an event that its producer sent twice has two, and counts twice. A producer with enable.idempotence or
  transactions sends it once; failing that, reduce by an id of the event's own.
- A topic is known by its id, over restarts too: one that was deleted and made again is refused, however long its log has grown.
- Offsets that retention has removed end the stream; with `failOnDataLoss=False` they are passed over, told and counted. A topic whose
  retention is shorter than a window that reads its records again is refused at the start.
- A partition that is not read for a while, or a whole stream that a version of the job does not have, goes on where it was.

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
