"""The producer's way into Kafka: a transaction is all or nothing, and a transactional.id for each partition fences predecessors.

Start and doubt take the same path: init_transactions fences whoever used the id before and ends what it left open, THEN the
newest committed event of the partition tells where the sequence goes on. A producer whose commit is not answered is
thrown away and that path is taken, so nothing is ever sent twice or left out because an answer was lost.

The client is confluent-kafka. Measured on two shared cores with the broker (Kafka 4.3) beside it, six partitions, 240 bytes an event:
40 transactions of 40 events a second cost the process 24 % of a core with kafka-python 3.0 and 4 % with confluent-kafka (the broker 61 %
and 34 %, still warming up); back to back, 500 events a transaction, they reach 6,000 and 84,000 events/s.

Owns: KafkaSink, check_topic, append_record.
Never: a schedule.
"""

import logging
import time
from collections.abc import Iterator, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from engine.errors import ConcurrentRunError, ConfigurationError
from services.producer.schedule import NOTHING, REPLAYED, Position, newest_position, position_of

ANSWER_SECONDS = 1.0
"""How long one attempt to reach the server may take."""
COMMIT_SECONDS = 5.0
"""How long a commit may go unanswered before it is in doubt."""
TRANSACTION_TIMEOUT_SECONDS = 60.0
"""After this the server itself aborts an open transaction."""

_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}  # noqa: SLF001  its public name
_MISSING = {KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART}  # noqa: SLF001  likewise
_REFUSED = {
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.INVALID_TRANSACTION_TIMEOUT,
}

# What the client would say of a server that is away is said by the producer itself, once a second at most.
_client_log = logging.getLogger("kafka.client")
_client_log.setLevel(logging.CRITICAL + 1)


def check_topic(bootstrap: str, topic: str, partitions: int) -> None:
    """Prove that a topic is there with that many partitions.

    Raises:
        ConfigurationError: it is not.
        ConnectionError: not known, the server does not answer; call again.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap}, logger=_client_log)
    try:
        found = admin.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic]
    except KafkaException as error:
        raise _trouble(bootstrap, error) from error
    if found.error is not None and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        raise ConfigurationError(
            f"topic {topic!r} does not exist in Kafka at {bootstrap}; run `scripts/stack up`"
        )
    if found.error is not None:
        raise _trouble(bootstrap, KafkaException(found.error))
    if len(found.partitions) != partitions:
        raise ConfigurationError(
            f"topic {topic!r} in Kafka at {bootstrap} has {len(found.partitions)} partitions and not {partitions}; "
            f"set its number of partitions to {len(found.partitions)}"
        )


class KafkaSink:
    """One partition of a Kafka topic.

    Args:
        bootstrap: host:port of the brokers, with commas between.
        topic: name of a topic that exists.
        partition: from 0.
        transaction_timeout: seconds after which the server aborts an open transaction, > 0.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        partition: int,
        *,
        transaction_timeout: float = TRANSACTION_TIMEOUT_SECONDS,
    ) -> None:
        self._bootstrap = bootstrap
        self._place = TopicPartition(topic, partition)
        self._timeout = transaction_timeout
        self._producer: Producer | None = None
        self._is_ready = False
        self._tried = self._acknowledged = NOTHING
        """The last event that was handed to the server, and the last one that it has acknowledged."""
        self._maybe_fenced = False
        """The last transaction ended as if by another producer, but may also have been open for too long."""

    def resume(self) -> Position:
        """Fence every earlier producer of the partition, THEN read back the newest committed event.

        Raises:
            ConnectionError: the server does not answer; call again.
            ConcurrentRunError: another producer has gone on where this one was.
        """
        try:
            if self._maybe_fenced and self._read_back().seq > self._tried.seq:
                raise self._taken_over()
            self._maybe_fenced = False
            self._fence()
            return self._newest()
        except KafkaException as error:
            raise _trouble(self._bootstrap, error) from error

    def append(self, records: Sequence[tuple[int, bytes, bytes]]) -> None:
        """Append the records in one transaction; committed when it returns.

        Raises:
            ConnectionError: it is not known whether they are in the topic; resume() comes next.
            ConcurrentRunError: another producer has taken over.
        """
        assert self._producer is not None, "resume() comes first"
        topic, partition = self._place.topic, self._place.partition
        self._tried = position_of(records[-1][2]) or NOTHING
        began = time.monotonic()
        try:
            self._producer.begin_transaction()
            for timestamp, key, value in records:
                self._producer.produce(topic, value, key, partition, timestamp=timestamp)
            self._producer.commit_transaction(COMMIT_SECONDS)
            self._acknowledged = self._tried
        except KafkaException as error:
            self._discard()
            if error.args[0].code() not in _FENCED:
                raise _trouble(self._bootstrap, error) from error
            if time.monotonic() - began < self._timeout:
                raise self._taken_over() from error
            # The server ends a transaction that is open for too long in the same way as another producer does.
            self._maybe_fenced = True
            raise ConnectionError(
                f"a transaction was open for more than {self._timeout:g} s, and Kafka has ended it"
            ) from error

    def close(self) -> None:
        """Let go of the client; a transaction that is open stays open until the next producer ends it."""
        self._discard()

    def _client(self) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "transactional.id": f"producer-{self._place.topic}-{self._place.partition}",
                "transaction.timeout.ms": int(self._timeout * 1_000),
                "acks": "all",
                "enable.idempotence": True,
                # The commit flushes; waiting for more records would only make it later.
                "linger.ms": 0,
            },
            logger=_client_log,
        )

    def _fence(self) -> None:
        """Become the partition's one producer; nothing to do when it is that already."""
        if self._is_ready:
            return
        if self._producer is None:
            self._producer = self._client()
        # After a timeout the same client asks again: a second client could be fenced by a late request of the first.
        try:
            self._producer.init_transactions(ANSWER_SECONDS)
        except KafkaException as error:
            if not error.args[0].retriable():
                self._discard()
            raise
        self._is_ready = True

    def _discard(self) -> None:
        """Drop the client and whatever it has not sent; nothing is waited for."""
        if self._producer is not None:
            self._producer.purge(blocking=False)
            self._producer = None
            self._is_ready = False

    def _newest(self) -> Position:
        """The newest committed event, which cannot be older than what this process knows to be committed."""
        newest = self._read_back()
        if newest.seq < self._acknowledged.seq:
            raise ConnectionError(
                f"Kafka at {self._bootstrap} shows {self._place.topic}[{self._place.partition}] up to event {newest.seq} only, "
                f"and has acknowledged event {self._acknowledged.seq}"
            )
        self._acknowledged = newest
        return newest

    def _read_back(self) -> Position:
        """The newest committed event of the partition."""
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "producer-read-back",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 10,
            },
            logger=_client_log,
        )
        try:
            first, end = consumer.get_watermark_offsets(self._place, timeout=ANSWER_SECONDS)
            name = f"{self._place.topic}[{self._place.partition}]"
            return newest_position(
                name, first, end, lambda begin, until: self._values(consumer, begin, until)
            )
        finally:
            consumer.close()

    def _values(self, consumer: Consumer, begin: int, until: int) -> Iterator[bytes | None]:
        """The values of the committed records with offsets in [begin, until)."""
        consumer.assign([TopicPartition(self._place.topic, self._place.partition, begin)])
        while True:
            message = consumer.poll(ANSWER_SECONDS)
            if message is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001  the client's public name
            if (error := message.error()) is not None:
                if error.code() == KafkaError._PARTITION_EOF and (message.offset() or 0) >= until:  # noqa: SLF001  likewise
                    return
                # The partition ends before the end that it has told: a server that is still finding its feet.
                raise KafkaException(error)
            if (message.offset() or 0) >= until:
                return
            yield None if (message.key() or b"").startswith(REPLAYED) else message.value()

    def _taken_over(self) -> ConcurrentRunError:
        return ConcurrentRunError(
            f"another producer has taken over {self._place.topic}[{self._place.partition}] in Kafka at {self._bootstrap}; "
            "run one producer at a time"
        )


def append_record(bootstrap: str, topic: str, partition: int, value: bytes, timestamp_ms: int) -> int:
    """Append one record that is no event, in no transaction; returns its offset.

    Raises:
        ConfigurationError: there is no such topic or partition.
        ConnectionError: the server does not answer.
    """
    answers = []
    producer = Producer(
        {"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True}, logger=_client_log
    )
    producer.produce(
        topic,
        value,
        partition=partition,
        timestamp=timestamp_ms,
        on_delivery=lambda *answer: answers.append(answer),
    )
    producer.flush(COMMIT_SECONDS)
    error, message = answers[0] if answers else (KafkaError(KafkaError._TIMED_OUT), None)  # noqa: SLF001  its public name
    if error is not None and error.code() in _MISSING:
        raise ConfigurationError(
            f"Kafka at {bootstrap} has no partition {partition} of a topic {topic!r}; name one that exists"
        )
    if error is not None:
        raise _trouble(bootstrap, KafkaException(error))
    return int(message.offset())


def _trouble(bootstrap: str, error: KafkaException) -> Exception:
    """The error that says what to do: to wait, or to set something right."""
    fault = error.args[0]
    if fault.code() in _REFUSED:
        return ConfigurationError(
            f"Kafka at {bootstrap} refuses the producer ({fault.str()}); correct its rights or settings"
        )
    return ConnectionError(f"Kafka at {bootstrap} does not answer ({fault.str()})")
