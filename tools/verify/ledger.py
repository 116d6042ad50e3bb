"""The ledger of committed batches, and the proof that its ranges tile the log.

    log of one partition   0 ......... 40 ........ 75 ..... 90 ....... end
    ledger                 [0, 40) t=1   [40, 75) t=2  [75, 90) t=3

Owns: Range, LedgerBatch, parse_batch, Tiling; the names of places in a log.
Never: I/O.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tools.verify.schema import show_time
from tools.verify.verdict import CannotTellError, Offender

Partition = tuple[str, int]
"""A topic and the number of one of its partitions."""

Bounds = Mapping[Partition, tuple[int, int]]
"""The first offset of each partition of the log, and the one behind its last."""


Stored = tuple[int, bytes | None]
"""Offset and value of one record."""


class Range(NamedTuple):
    """The records [start, until) of one partition."""

    topic: str
    partition: int
    start: int
    until: int


@dataclass(frozen=True, slots=True, order=True)
class LedgerBatch:
    """One committed batch."""

    time: int
    """Milliseconds since the epoch; the order of the batches."""
    zero_time: int
    """Where the grid of the application's slides begins, milliseconds since the epoch."""
    ranges: tuple[Range, ...]


def parse_batch(time: object, zero_time: object, ranges: object) -> LedgerBatch:
    """One row of the ledger.

    Raises:
        CannotTellError: the row cannot be read.

    Example:
        >>> parse_batch(2_000, 0, '[["page-views",0,5,9]]').ranges
        (Range(topic='page-views', partition=0, start=5, until=9),)
    """
    try:
        parsed = tuple(Range(*item) for item in json.loads(str(ranges)))
    except (ValueError, TypeError):
        parsed = None
    if parsed is None or not all(isinstance(item.topic, str) and _are_ints(item[1:]) for item in parsed):
        raise CannotTellError(
            f"the ledger's row of batch {show_time(time)} has ranges that cannot be read: {str(ranges)[:80]!r}; "
            "restore the row, [[topic, partition, from, until], ...]"
        )
    if not isinstance(time, int) or not isinstance(zero_time, int):
        raise CannotTellError(
            f"a row of the ledger has batch {time!r} and zero_time {zero_time!r}; both must be times, restore the row"
        )
    return LedgerBatch(time, zero_time, parsed)


def _are_ints(values: Iterable[object]) -> bool:
    return all(type(value) is int for value in values)


class Tiling:
    """Whether the ranges, in batch order, leave a gap, overlap or leave the log.

    Args:
        unit: whose ledger it is, "" where there is one only.

    State: how far each partition is taken, and every fault.
    """

    def __init__(self, unit: str = "") -> None:
        self._unit = unit
        self.reached: dict[Partition, int] = {}
        """Where the ranges end in each partition."""
        self.faults: list[Offender] = []

    def take(self, batch: LedgerBatch, bounds: Bounds) -> None:
        """Look at the next batch; the bounds are those of every partition of every topic that it names."""
        for item in batch.ranges:
            where = (item.topic, item.partition)
            begin = self.reached.get(where, 0)
            end = max(begin, bounds.get(where, (0, 0))[1])
            self.faults += (self._fault(batch, item, *text) for text in _misfits(item, begin, end))
            self.reached[where] = max(begin, item.until)

    def _fault(self, batch: LedgerBatch, item: Range, expected: str, found: str) -> Offender:
        whose = f" of {self._unit}" if self._unit else ""
        key = f"{item.topic}[{item.partition}] batch {show_time(batch.time)}{whose}"
        return Offender("wrong", key, expected, f"{found}: [{item.start}, {item.until})")


def _misfits(item: Range, begin: int, end: int) -> Iterator[tuple[str, str]]:
    """What was expected and what was found of a range that does not begin where it must, or ends where it must not."""
    if item.start > begin:
        yield f"from {begin}", f"a gap of {item.start - begin}"
    if item.start < begin:
        yield f"from {begin}", f"an overlap of {begin - item.start}"
    if item.until < item.start:
        yield f"until {item.start} or later", "a range that runs backwards"
    if item.until > end:
        yield f"until {end} at most, the end of the log", "a range beyond the log"
