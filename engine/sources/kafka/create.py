"""How a job makes a stream of Kafka's records, or an RDD of ranges of them.

Owns: KafkaUtils.
Never: a client (client.py).
"""

from collections.abc import Callable, Sequence
from typing import Any

from engine.batch import OffsetRange, TopicPartition
from engine.context import StreamingContext
from engine.errors import ConfigurationError
from engine.rdd.api import RDD
from engine.rdd.backends import backend_of
from engine.sources.direct import EventTime, RangeRead, ReadRanges, with_offset_ranges
from engine.sources.kafka.client import Properties
from engine.sources.kafka.records import Decoder, KafkaConsumerRecord, RecordDecoder, utf8_decoder
from engine.sources.kafka.source import KafkaSource
from engine.sources.kafka.strategies import (
    ConsumerStrategy,
    Location,
    PerPartitionConfig,
    PreferConsistent,
    check_location,
)
from engine.sources.kafka.stream import KafkaDStream, KafkaInputDStream


class _OneRate(PerPartitionConfig):
    """The same limit for every partition."""

    def __init__(self, rate: float | None) -> None:
        if rate is not None and rate <= 0:
            raise ConfigurationError(f"maxRatePerPartition is {rate}; give a number above 0, or none")
        self._rate = rate or 0

    def maxRatePerPartition(self, topicPartition: TopicPartition) -> float:  # noqa: ARG002  one for all
        """Records a second."""
        return self._rate


class KafkaUtils:
    """Makes Kafka streams and RDDs; the name is Spark's."""

    @staticmethod
    def createDirectStream(
        ssc: StreamingContext,
        locationStrategy: Location,
        consumerStrategy: ConsumerStrategy,
        perPartitionConfig: PerPartitionConfig | None = None,
        *,
        keyDecoder: Decoder = utf8_decoder,
        valueDecoder: Decoder = utf8_decoder,
        decoder: Callable[[bytes], Any] | None = None,
        eventTime: EventTime | None = None,
        name: str | None = None,
        maxRatePerPartition: float | None = None,
        allowCompacted: bool = False,
        failOnDataLoss: bool = True,
    ) -> KafkaDStream[Any]:
        """The stream of the records, each in exactly one batch.

        Elements:
            DStream[KafkaConsumerRecord], or with a decoder DStream[T] of what it makes of the values. One RDD partition for each Kafka
            partition, in offset order. The RDD of the stream itself, in the first transform or foreachRDD, has `offsetRanges()`.
        Replay:
            A batch that runs again reads the same records.

        Args:
            ssc: the context.
            locationStrategy: PreferConsistent(), PreferBrokers() or PreferFixed(hosts); without effect.
            consumerStrategy: Subscribe, SubscribePattern, Assign or one of yours, with Kafka's settings and where to start.
            perPartitionConfig: how much a batch takes of each partition; no limit when not given.
            keyDecoder: bytes or None -> key, when a record's key is asked for.
            valueDecoder: bytes or None -> value, when a record's value is asked for.
            decoder: bytes -> T in place of records; see `engine.sources.decoders`. A record on which it raises is a dead letter.
            eventTime: when elements happened, and when they are late.
            name: of the stream, in the checkpoint and in metrics; the topics' names when not given.
            maxRatePerPartition: records a second of every partition, in place of perPartitionConfig.
            allowCompacted: take topics with cleanup.policy=compact.
            failOnDataLoss: end with an error when the log no longer has offsets that are due, as retention removed them. With False they
                are passed over: counted, told by one dead letter a range with the reason "lost", and a gap in the ledger. A topic that
                was made again or lost its tail is an error in any case, as nobody can tell what is lost. As in Spark's Kafka source
                of Structured Streaming; its DStreams always end.

        Raises:
            ConfigurationError: a setting is unknown, malformed or the engine's own; when the context runs: a topic is compacted, or its
                retention is shorter than a window that reads records again.

        Source:
            org.apache.spark.streaming.kafka010.KafkaUtils; the differences stand at the top of the package.

        Example:
            >>> from engine import LocalContext, StreamingContext
            >>> from engine.sources.kafka import KafkaUtils, PreferConsistent, Subscribe
            >>> params = {"bootstrap.servers": "127.0.0.1:9092", "group.id": "clicks", "auto.offset.reset": "earliest"}
            >>> with LocalContext("local") as sc:
            ...     ssc = StreamingContext(sc, 1.0)
            ...     stream = KafkaUtils.createDirectStream(ssc, PreferConsistent(), Subscribe(["clicks"], params))
            ...     stream.map(lambda record: (record.key, record.value)).pprint()
            ...     stream.foreachRDD(lambda rdd: stream.commitAsync(rdd.offsetRanges()))
            >>> ssc.graph.inputs[0].name
            'kafka:clicks'
        """
        check_location(locationStrategy)
        if perPartitionConfig is not None and maxRatePerPartition is not None:
            raise ConfigurationError(
                f"maxRatePerPartition is {maxRatePerPartition} beside a perPartitionConfig; give one of the two"
            )
        if not isinstance(perPartitionConfig, PerPartitionConfig | None):
            raise ConfigurationError(
                f"perPartitionConfig is {perPartitionConfig!r}; give a PerPartitionConfig, and decoders by their names"
            )
        whole: Any = RecordDecoder(keyDecoder, valueDecoder)
        node = KafkaInputDStream(
            ssc.graph,
            consumerStrategy,
            name,
            (whole if decoder is None else decoder, eventTime),
            perPartitionConfig or _OneRate(maxRatePerPartition),
            allow_compacted=allowCompacted,
            fails_on_loss=failOnDataLoss,
        )
        return KafkaDStream(node)

    @staticmethod
    def createRDD(
        sc: Any,
        kafkaParams: Properties,
        offsetRanges: Sequence[OffsetRange],
        locationStrategy: Location = PreferConsistent,
        *,
        keyDecoder: Decoder = utf8_decoder,
        valueDecoder: Decoder = utf8_decoder,
        decoder: Callable[[bytes], Any] | None = None,
    ) -> RDD[Any]:
        """The records of these ranges, outside of any stream.

        Elements:
            RDD[KafkaConsumerRecord], or with a decoder RDD[T] of what it makes of the values; one partition a range, in the given order.

        Args:
            sc: a LocalContext or a pyspark.SparkContext.
            kafkaParams: Kafka's settings; bootstrap.servers is needed.
            offsetRanges: what to read; the log must hold it.
            locationStrategy: PreferConsistent() or PreferFixed(hosts); without effect.
            keyDecoder: as of createDirectStream.
            valueDecoder: as of createDirectStream.
            decoder: bytes -> T in place of records; where it raises the job fails, as there is no batch to put a record aside in.

        Raises:
            ConfigurationError: a setting is wrong, or what was given is no range.
            OffsetOutOfRangeError: when the RDD is computed: the log does not hold a range.

        Source:
            org.apache.spark.streaming.kafka010.KafkaUtils.createRDD. Executors read with no group and without auto.offset.reset there too.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     params = {"bootstrap.servers": "127.0.0.1:9092"}
            ...     rdd = KafkaUtils.createRDD(sc, params, [OffsetRange("clicks", 0, 100, 200)])
            ...     rdd.getNumPartitions(), rdd.offsetRanges()
            (1, [OffsetRange(topic='clicks', partition=0, fromOffset=100, untilOffset=200)])
        """
        check_location(locationStrategy, for_rdd=True)
        for part in offsetRanges:
            if not isinstance(part, OffsetRange):
                raise ConfigurationError(
                    f"createRDD got {part!r} for a range; give OffsetRange(topic, partition, fromOffset, untilOffset)"
                )
        source = KafkaSource(
            {**kafkaParams, "auto.offset.reset": "none"}, pattern=r"(?!)", allow_compacted=True
        )
        context = backend_of(sc)
        if not offsetRanges:
            return with_offset_ranges(context.emptyRDD(), ())
        whole: Any = RecordDecoder(keyDecoder, valueDecoder if decoder is None else _raw)
        reads = [RangeRead(part, None, reports=False) for part in offsetRanges]
        read = ReadRanges(source, whole, None, _no_report)
        rdd: RDD[Any] = context.parallelize(reads, len(reads)).mapPartitions(read)
        if decoder is not None:
            rdd = rdd.map(_Value(decoder))
        return with_offset_ranges(rdd, offsetRanges)


class _Value:
    """The decoded value of a record."""

    def __init__(self, decoder: Callable[[bytes], Any]) -> None:
        self._decoder = decoder

    def __call__(self, record: KafkaConsumerRecord) -> Any:
        """Decode it."""
        return self._decoder(record.value)


def _raw(data: bytes | None) -> bytes | None:
    return data


def _no_report(_: object) -> None:
    """There is no batch to report to."""
