"""When each event of a topic is meant to be sent, and where a producer that was killed goes on.

One topic is one open-loop schedule: event k is due at start + k / rate, goes to partition k % partitions and has number
k // partitions there. The start follows from any event that is in the log, so every process that reads the log back goes on with the
schedule of the one before it, to the millisecond.

Owns: Schedule, Position, newest_position.
Never: I/O, a clock.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from engine.errors import ConfigurationError, SourceError

_LOOK_BACK_RECORDS = 200


class Position(NamedTuple):
    """The newest event of a partition."""

    seq: int
    event_time: int
    """Milliseconds since the epoch."""


NOTHING = Position(-1, -1)
"""The position of a partition without events."""


class _Head(msgspec.Struct):
    """The fields of an event that tell its position."""

    seq: int
    event_time: int


_decode = msgspec.json.Decoder(_Head).decode


@dataclass(frozen=True, slots=True)
class Schedule:
    """The intended send times of a topic's events.

    Example:
        >>> schedule = Schedule(start_ms=5_000, rate=1_000, partitions=4)
        >>> schedule.time_of(partition=2, seq=10), schedule.due(partition=2, now_ms=5_041), schedule.due(2, 5_042)
        (5042, 10, 11)
    """

    start_ms: int
    """When event 0 was or would have been due, milliseconds since the epoch."""
    rate: int
    """Events per second over all partitions."""
    partitions: int

    def __post_init__(self) -> None:
        if self.rate < 1:
            raise ConfigurationError(f"rate {self.rate} is not valid; give at least 1 event per second")

    def time_of(self, partition: int, seq: int) -> int:
        """The intended send time of an event, milliseconds since the epoch."""
        return self.start_ms + self._elapsed(partition, seq)

    def due(self, partition: int, now_ms: int) -> int:
        """How many events of a partition are due: those with seq below this number."""
        if now_ms < self.start_ms:
            return 0
        # Event k is due when k * 1000 // rate <= elapsed, that is k < (elapsed + 1) * rate / 1000, rounded up.
        events = -(-(now_ms - self.start_ms + 1) * self.rate // 1_000)
        return self.share(partition, events)

    def share(self, partition: int, events: int) -> int:
        """How many of the topic's first events go to a partition."""
        return max((events - partition + self.partitions - 1) // self.partitions, 0)

    def resumed(self, newest: Sequence[Position]) -> "Schedule":
        """This schedule moved so that the newest of the partitions' newest events is in it; unmoved without any.

        Args:
            newest: the newest event of each partition, NOTHING where there is none.
        """
        partition, (seq, event_time) = max(enumerate(newest), key=lambda item: item[1].event_time)
        return self if seq < 0 else self._started(event_time - self._elapsed(partition, seq))

    def jumped(self, next_seqs: Sequence[int], now_ms: int) -> "Schedule":
        """This schedule moved so that the oldest of the partitions' next events is due now."""
        return self._started(now_ms - min(self._elapsed(*item) for item in enumerate(next_seqs)))

    def behind_ms(self, next_seqs: Sequence[int], now_ms: int) -> int:
        """For how long the oldest of the partitions' next events has been due, milliseconds; negative when it is not due yet."""
        return now_ms - min(self.time_of(*item) for item in enumerate(next_seqs))

    def _elapsed(self, partition: int, seq: int) -> int:
        """Milliseconds from the start to an event."""
        return (seq * self.partitions + partition) * 1_000 // self.rate

    def _started(self, start_ms: int) -> "Schedule":
        return Schedule(start_ms, self.rate, self.partitions)


REPLAYED = b"replay/"
"""Begins the key of a record that is a dead letter sent again: it may be an event of long ago, and is no producer's."""


def position_of(value: bytes | None) -> Position | None:
    """The position that an event's value tells, None when it is not an event."""
    try:
        head = _decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Position(head.seq, head.event_time)


def newest_position(
    partition: str, first: int, end: int, read: Callable[[int, int], Iterable[bytes | None]]
) -> Position:
    """The position of a partition's last event, over the records behind it that are none; NOTHING in a new partition.

    Args:
        partition: its name, for messages.
        first: first offset of the partition.
        end: offset after its last record.
        read: gives the values of the records with offsets in [from, until), in order.

    Raises:
        SourceError: the partition had records and retention has deleted all events, so their number is not known.
    """
    until, size = end, _LOOK_BACK_RECORDS
    while until > first:
        begin = max(until - size, first)
        found = [position for value in read(begin, until) if (position := position_of(value))]
        if found:
            return found[-1]
        until, size = begin, 2 * size
    if first > 0:
        raise SourceError(
            f"{partition} has no event left after offset {first}, so its sequence cannot go on; recreate the topic"
        )
    return NOTHING
