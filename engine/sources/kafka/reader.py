"""Ranges of Kafka partitions, read once each in order, with a consumer for each partition.

How a range [from, until) ends: offsets are sparse (compaction, transaction markers and aborted records leave
holes that librdkafka hides), so counting records tells nothing. A range has ended at the first record at or past
`until`, or when the consumer has caught up with the log at or past `until`, whichever it meets first. Every
transaction leaves a marker, so a range up to the last stable offset ends in a hole; that the consumer has caught
up shows when a fetch has waited in vain for fetch.wait.max.ms, which is therefore short.

A consumer is left where its last range ended and reads ahead in threads of its own, and what it has handed
out past `until` is kept, so the next range of the partition costs no request. One consumer for all partitions of
a process would need a fifth of the threads, but reading one partition then pulls the backlog of the others into
memory without bound: with 16 partitions and a backlog 300,000 surplus messages were measured, and a third less speed.

Owns: KafkaSlice, PartitionReader, ReaderPool.
Never: a planned range, a commit; an end of a range that is not proven by the log.
"""

import bisect
import threading
from collections.abc import Iterator, Sequence

from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_NOT_AVAILABLE

from engine.batch import OffsetRange, TopicPartition
from engine.errors import OffsetOutOfRangeError, SourceError
from engine.sources.api import ConsumerRecord
from engine.sources.kafka.client import (
    Complaints,
    Message,
    OffsetConsumer,
    Properties,
    is_end_of_partition,
    let_go,
)
from engine.sources.kafka.records import Decoder, KafkaConsumerRecord
from engine.waits import waiting

_TIMESTAMP_TYPES = {TIMESTAMP_CREATE_TIME: 0, TIMESTAMP_LOG_APPEND_TIME: 1}
"""librdkafka's number of a kind of timestamp and that of Kafka's own client."""
_SLICE_RECORDS = 500
"""Larger slices are slower: they outgrow the garbage collector's first threshold and the cache."""
_POLL_SECONDS = 0.5
_SHORT_LOOKS = 4
"""So many looks in a row, each after a silence of _POLL_SECONDS, must find the log shorter than the range."""
_STUCK_LOOKS = 20
"""After so many silent looks at a log that has the records the consumer is set to its offset anew."""
_UNANSWERED_LOOKS = 10
"""After so many looks in a row without an answer, some 15 s, the consumer is made anew: its own may have lost the cluster."""
_IDLE_READERS = 2
"""Kept for each partition: one follows the stream, one goes back for windows and repeated batches."""


class KafkaSlice:
    """Consecutive records of one partition, in offset order."""

    __slots__ = ("_messages", "lost", "values")

    def __init__(self, messages: list[Message], lost: OffsetRange | None = None) -> None:
        self.lost = lost
        """Offsets that the log no longer has, in place of records."""
        self.values: Sequence[bytes | None] = list(map(Message.value, messages))
        self._messages = messages

    def record(self, index: int) -> ConsumerRecord:
        """The record whose value is values[index]."""
        message = self._messages[index]
        topic, partition = message.topic(), message.partition()
        assert topic is not None
        assert partition is not None
        return ConsumerRecord(
            topic, partition, _offset(message), message.timestamp()[1], message.key(), message.value()
        )

    def consumer_record(
        self, index: int, key_decoder: Decoder, value_decoder: Decoder
    ) -> KafkaConsumerRecord:
        """The record whose value is values[index], with its headers; key and value are decoded when they are asked for."""
        message = self._messages[index]
        kind, time = message.timestamp()
        return KafkaConsumerRecord(
            message.topic(),  # type: ignore[arg-type]  # only None for errors, here and below
            message.partition(),  # type: ignore[arg-type]
            _offset(message),
            time if kind != TIMESTAMP_NOT_AVAILABLE else -1,
            message.key(),
            message.value(),
            timestampType=_TIMESTAMP_TYPES.get(kind, -1),
            headers=tuple(message.headers() or ()),  # type: ignore[arg-type]  # a list of pairs, as produced
            keyDecoder=key_decoder,
            valueDecoder=value_decoder,
        )

    def created(self) -> list[int]:
        """When its first and its last record were created; see `RecordSlice.created`."""
        stamps = (self._messages[0].timestamp(), self._messages[-1].timestamp())
        return [time for kind, time in stamps if kind != TIMESTAMP_NOT_AVAILABLE]


class PartitionReader:
    """Reads ranges of one partition, one after the other; not for two threads at once."""

    def __init__(
        self,
        properties: Properties,
        partition: TopicPartition,
        complaints: Complaints,
        closed: threading.Event,
        *,
        fails_on_loss: bool = True,
    ) -> None:
        self.position: int | None = None
        """Where a range may begin without a jump; None before the first range and after an abandoned one."""
        self._address = properties.get("bootstrap.servers", "")
        self._properties = properties
        self._partition = partition
        self._consumer = OffsetConsumer(properties)
        self._complaints = complaints
        self._closed = closed
        self._fails_on_loss = fails_on_loss
        self._lost: OffsetRange | None = None
        """What was found to be gone, until it is told."""
        self._surplus: list[Message] = []
        self._broken = False
        self._silent_looks = self._short_looks = self._unanswered_looks = 0

    def read(self, wanted: OffsetRange) -> Iterator[KafkaSlice]:
        """The records of the range in slices.

        Raises:
            OffsetOutOfRangeError: the log begins after fromOffset or ends before untilOffset.
            SourceError: the topic is gone, or the reader was closed.
        """
        if wanted.count() == 0:
            return
        offset = wanted.fromOffset
        if self.position != offset:
            self._jump(offset)
        self.position = None
        self._silent_looks = self._short_looks = self._unanswered_looks = 0
        messages, self._surplus = self._surplus, []
        while True:
            records, ended = self._cut(messages, wanted.untilOffset)
            if ended:
                self.position = wanted.untilOffset
            if records:
                offset = _offset(records[-1]) + 1
                self._silent_looks = self._short_looks = self._unanswered_looks = 0
                yield KafkaSlice(records)
            if ended:
                return
            del messages, records
            messages = self._next_messages(wanted, offset)
            if self._lost is not None:
                lost, self._lost = self._lost, None
                yield KafkaSlice([], lost)
                offset = lost.untilOffset
                if offset == wanted.untilOffset:
                    return
                self._jump(offset)

    def _jump(self, offset: int) -> None:
        self._surplus = []
        self._broken = False
        self._consumer.jump(self._partition, offset)

    def _cut(self, messages: list[Message], until: int) -> tuple[list[Message], bool]:
        """The records before `until`, and whether the range has ended; the others become the surplus."""
        if not messages:
            return [], False
        if any(map(Message.error, messages)):
            return self._cut_at_event(messages, until)
        last = _offset(messages[-1])
        if last < until - 1:
            return messages, False
        if last >= until:
            first_after = bisect.bisect_left(messages, until, key=_offset)
            self._surplus = messages[first_after:]
            messages = messages[:first_after]
        return messages, True

    def _cut_at_event(self, messages: list[Message], until: int) -> tuple[list[Message], bool]:
        records: list[Message] = []
        for index, message in enumerate(messages):
            error, offset = message.error(), _offset(message)
            if error is None:
                if offset >= until:
                    self._surplus = messages[index:]
                    return records, True
                records.append(message)
            elif not is_end_of_partition(error):
                # What follows may leave a gap: the caller begins anew behind the last good record.
                self._broken = True
                self._consumer.trouble = error.str()
                return records, False
            elif offset >= until:
                self._surplus = messages[index + 1 :]
                return records, True
        return records, bool(records) and _offset(records[-1]) >= until - 1

    def _next_messages(self, wanted: OffsetRange, offset: int) -> list[Message]:
        """The next records or events, however long they take, unless the log proves that they cannot come.

        It is Kafka's time: it does not count against a limit of the task.
        """
        with waiting:
            while not self._closed.is_set():
                if not self._broken:
                    messages = self._consumer.poll(_SLICE_RECORDS, _POLL_SECONDS)
                    if messages:
                        return messages
                self._look_at_log(wanted, offset)
                if self._lost is not None:
                    return []
                if self._broken:
                    self._closed.wait(_POLL_SECONDS)
                    self._jump(offset)
        raise SourceError(f"{_name(wanted)} was closed while offset {offset} was awaited")

    def _look_at_log(self, wanted: OffsetRange, offset: int) -> None:
        """Find out why nothing comes: wait on, begin anew, or give up with a reason."""
        bounds = self._consumer.log_bounds(self._partition)
        if bounds is None or self._broken:
            self._complaints.say(
                f"Kafka at {self._address} does not give {_name(wanted)} from offset {offset}; "
                f"waiting ({self._consumer.trouble or 'no answer'})"
            )
        if bounds is None:
            self._unanswered_looks += 1
            if self._unanswered_looks % _UNANSWERED_LOOKS == 0:
                self._renew()
            return
        begin, end = bounds
        self._unanswered_looks = 0
        self._silent_looks += 1
        self._short_looks = self._short_looks + 1 if end < wanted.untilOffset else 0
        if offset < begin and not self._fails_on_loss:
            self._lost = OffsetRange(wanted.topic, wanted.partition, offset, min(begin, wanted.untilOffset))
        elif offset < begin or self._short_looks >= _SHORT_LOOKS:
            raise _out_of_range(wanted, offset, begin, end)
        if self._silent_looks % _STUCK_LOOKS == 0:
            self._broken = True

    def _renew(self) -> None:
        """Go on with a new consumer."""
        let_go(self._consumer.close)
        self._consumer = OffsetConsumer(self._properties)
        self._broken = True

    def close(self) -> None:
        """Let go of the consumer."""
        self._surplus = []
        self._consumer.close()


def _offset(message: Message) -> int:
    """The record's offset, or that of an end of the partition; -1 for an event without one."""
    offset = message.offset()
    return -1 if offset is None else offset


def _name(wanted: OffsetRange) -> str:
    return f"{wanted.topic}[{wanted.partition}]"


def _out_of_range(wanted: OffsetRange, offset: int, begin: int, end: int) -> OffsetOutOfRangeError:
    if offset < begin:
        return OffsetOutOfRangeError(
            f"{_name(wanted)} no longer has offset {offset}: its log holds [{begin}, {end}); "
            "raise the topic's retention, and start with a new checkpoint folder to go on without what is lost"
        )
    return OffsetOutOfRangeError(
        f"{_name(wanted)} does not have offset {wanted.untilOffset - 1}: its log holds [{begin}, {end}); "
        "the topic lost its tail or was made again, start with a new checkpoint folder to read it as it is"
    )


class ReaderPool:
    """The readers of a process, each lent to one range at a time."""

    def __init__(
        self,
        properties: Properties,
        complaints: Complaints,
        closed: threading.Event,
        *,
        fails_on_loss: bool = True,
    ) -> None:
        self._fails_on_loss = fails_on_loss
        self._properties = properties
        self._complaints = complaints
        self._closed = closed
        self._lock = threading.Lock()
        self._idle: dict[TopicPartition, list[PartitionReader]] = {}

    def read(self, wanted: OffsetRange) -> Iterator[KafkaSlice]:
        """The records of the range; see PartitionReader.read."""
        partition = wanted.topicPartition()
        reader = self._take(partition, wanted.fromOffset)
        try:
            yield from reader.read(wanted)
        finally:
            self._give_back(partition, reader)

    def _take(self, partition: TopicPartition, offset: int) -> PartitionReader:
        """The idle reader that stands at the offset; failing that a new one or the least recently used."""
        with self._lock:
            idle = self._idle.setdefault(partition, [])
            for position in (offset, None):
                for index, reader in enumerate(idle):
                    if reader.position == position:
                        return idle.pop(index)
            if len(idle) >= _IDLE_READERS:
                return idle.pop(0)
        return PartitionReader(
            self._properties, partition, self._complaints, self._closed, fails_on_loss=self._fails_on_loss
        )

    def _give_back(self, partition: TopicPartition, reader: PartitionReader) -> None:
        with self._lock:
            idle = self._idle.setdefault(partition, [])
            if not self._closed.is_set() and len(idle) < _IDLE_READERS:
                idle.append(reader)
                return
        reader.close()

    def close(self) -> None:
        """Let go of every idle consumer; the others follow when `closed` has ended their reads."""
        with self._lock:
            readers = [reader for idle in self._idle.values() for reader in idle]
            self._idle.clear()
        for reader in readers:
            reader.close()
