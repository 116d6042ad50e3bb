"""Kafka's records as a job without a decoder gets them: coordinates at once, key and value decoded when they are asked for.

Owns: KafkaConsumerRecord, RecordDecoder, utf8_decoder.
Never: a client.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Decoder = Callable[[bytes | None], Any]
"""Of a key or a value; None is one that is null."""


def utf8_decoder(data: bytes | None) -> str | None:
    """The text of the bytes, None for null.

    Example:
        >>> utf8_decoder("café".encode()), utf8_decoder(None)
        ('café', None)
    """
    return None if data is None else data.decode()


class KafkaConsumerRecord:
    """One record of Kafka: `topic, partition, offset, timestamp, timestampType, headers`, and `key` and `value` decoded.

    The decoder runs when `key` or `value` is first asked for, or when the record leaves its process. So a record that is filtered out
    by its offset or its headers costs no decoding, and one that does not decode fails where it is used.

    Source: `ConsumerRecord` of Kafka's Java client and KafkaConsumerRecord of SPARK-16534; there is no checksum, which Kafka no longer has.

    Example:
        >>> record = KafkaConsumerRecord("clicks", 0, 7, 1_500, b"u1", b"/home", headers=(("trace", b"9"),))
        >>> record.key, record.value, record.offset, record.headers
        ('u1', '/home', 7, (('trace', b'9'),))
    """

    __slots__ = (
        "_key",
        "_key_decoder",
        "_value",
        "_value_decoder",
        "headers",
        "offset",
        "partition",
        "serializedKeySize",
        "serializedValueSize",
        "timestamp",
        "timestampType",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        *,
        timestampType: int = 0,
        headers: tuple[tuple[str, bytes | None], ...] = (),
        keyDecoder: Decoder = utf8_decoder,
        valueDecoder: Decoder = utf8_decoder,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.timestamp = timestamp
        """Milliseconds since the epoch; -1 without one."""
        self.timestampType = timestampType
        """0 when the producer set the time, 1 when the broker did, -1 without one."""
        self.headers = headers
        """(name, bytes), in the record's order; a name may come twice."""
        self.serializedKeySize = -1 if key is None else len(key)
        """Bytes; -1 for null."""
        self.serializedValueSize = -1 if value is None else len(value)
        """Bytes; -1 for null."""
        self._key: Any = key
        self._value: Any = value
        self._key_decoder: Decoder | None = keyDecoder
        self._value_decoder: Decoder | None = valueDecoder

    @property
    def key(self) -> Any:
        """The key, decoded once."""
        if self._key_decoder is not None:
            self._key = self._key_decoder(self._key)
            self._key_decoder = None
        return self._key

    @property
    def value(self) -> Any:
        """The value, decoded once."""
        if self._value_decoder is not None:
            self._value = self._value_decoder(self._value)
            self._value_decoder = None
        return self._value

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, KafkaConsumerRecord)
            and self._place() == other._place()
            and (self.timestamp, self.timestampType, self.headers)
            == (other.timestamp, other.timestampType, other.headers)
            and (self.key, self.value) == (other.key, other.value)
        )

    def __hash__(self) -> int:
        return hash(self._place())

    def _place(self) -> tuple[str, int, int]:
        return (self.topic, self.partition, self.offset)

    def __repr__(self) -> str:
        return (
            f"KafkaConsumerRecord(topic: {self.topic}, partition: {self.partition}, offset: {self.offset}, "
            f"timestamp: {self.timestamp}, key and value...)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Decoded, as a decoder may be a lambda, which plain pickle cannot name.
        fields = (self.topic, self.partition, self.offset, self.timestamp, self.timestampType, self.headers)
        return (_copied, (fields, (self.serializedKeySize, self.serializedValueSize), self.key, self.value))


ConsumerRecord = KafkaConsumerRecord
"""The name in Kafka's Java client."""


def _copied(
    fields: tuple[str, int, int, int, int, Any], sizes: tuple[int, int], key: Any, value: Any
) -> KafkaConsumerRecord:
    """A record whose key and value are decoded."""
    topic, partition, offset, timestamp, kind, headers = fields
    record = KafkaConsumerRecord(
        topic, partition, offset, timestamp, None, None, timestampType=kind, headers=headers
    )
    record.serializedKeySize, record.serializedValueSize = sizes
    record._key, record._value = key, value  # noqa: SLF001 - its own module
    record._key_decoder = record._value_decoder = None  # noqa: SLF001 - as above
    return record


class WholeRecords(Protocol):
    """A slice that knows more of its records than any source does."""

    values: Sequence[bytes | None]

    def consumer_record(
        self, index: int, key_decoder: Decoder, value_decoder: Decoder
    ) -> KafkaConsumerRecord:
        """The whole record."""


class RecordDecoder:
    """Makes whole records of slices, those without a value too.

    Args:
        key: of the keys, called with None for null.
        value: of the values, called with None for null.
    """

    def __init__(self, key: Decoder = utf8_decoder, value: Decoder = utf8_decoder) -> None:
        self._key = key
        self._value = value

    def records(self, piece: WholeRecords) -> list[Any]:
        """The records of a slice of Kafka's."""
        return [piece.consumer_record(index, self._key, self._value) for index in range(len(piece.values))]
