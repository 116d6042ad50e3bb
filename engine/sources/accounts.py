"""What tasks account for of the ranges that they read, and where the record lies that is under way.

Owns: RangeReport, ByRange, Cursor, letter_of, letters_of.
Never: a read; the direct stream does that.
"""

from collections.abc import Iterable, Iterator, Sequence
from operator import length_hint
from typing import Any, NamedTuple

from engine.batch import OffsetRange
from engine.dstream.nodes import DeadLetter
from engine.sources.api import ConsumerRecord, RecordSlice


class RangeReport(NamedTuple):
    """What a task saw in a range that it read to its end."""

    offsets: OffsetRange
    largest: int | None
    dead_letters: list[DeadLetter]
    created: list[int]
    """When the first and the last record of each slice were created, milliseconds since the epoch."""
    lost: list[OffsetRange]
    """Offsets of the range that the log no longer has, passed over."""
    stream: str = ""
    """Which stream's functions saw the records, of those that put records aside; empty for the input alone."""


Key = tuple[OffsetRange, str]
"""A range, and the stream that was computed of it."""


class ByRange:
    """Merges reports: equal ranges give equal reports of one stream, so the newest stands for all."""

    def addInPlace(
        self, reports: dict[Key, RangeReport], report: RangeReport | dict[Key, RangeReport]
    ) -> dict[Key, RangeReport]:
        """The reports with one more, or with those of a task."""
        reports.update(report if isinstance(report, dict) else {(report.offsets, report.stream): report})
        return reports

    def zero(self, value: dict[Key, RangeReport]) -> dict[Key, RangeReport]:
        """No report."""
        return type(value)()


class Cursor:
    """Which record of a slice is under way: the last that was taken of the iterator over it.

    It costs a record nothing, as the iterator is the list's own and tells how many are left.
    """

    def __init__(self) -> None:
        self._taken: Iterator[Any] = iter(())
        self._length = self._known = 0
        self._piece: RecordSlice | None = None
        self._dead: list[DeadLetter] = []
        self._newest = -1

    def over(self, piece: RecordSlice, records: Sequence[Any], dead: list[DeadLetter]) -> Iterator[Any]:
        """The records of a slice of which those in `dead` are left out; what is put aside goes there too."""
        self._taken, self._length = iter(records), len(records)
        self._piece, self._dead, self._known = piece, dead, len(dead)
        return self._taken

    def put_aside(self, name: str, error: Exception) -> None:
        """Put the record aside that is under way; one of several failures of a record counts, the first."""
        record = self._record(self._length - length_hint(self._taken) - 1)
        if record.offset != self._newest:
            self._newest = record.offset
            self._dead.append(letter_of(record, f"failed: {name}: {type(error).__name__}: {error}"))

    def _record(self, index: int) -> ConsumerRecord:
        assert self._piece is not None, "over() comes first"
        piece, count = self._piece, len(self._piece.values)
        if self._length == count:
            return piece.record(index)
        gone = {letter.offset for letter in self._dead[: self._known]}
        kept = (record for record in map(piece.record, range(count)) if record.offset not in gone)
        return next(record for at, record in enumerate(kept) if at == index)


def letter_of(record: ConsumerRecord, reason: str) -> DeadLetter:
    """The letter of a record that was put aside."""
    return DeadLetter(record.topic, record.partition, record.offset, reason, record.value)


def letters_of(reports: Iterable[RangeReport]) -> list[DeadLetter]:
    """The letters of one range in offset order, one a record: where several streams put it aside, the first reason by its text."""
    letters: dict[int, DeadLetter] = {}
    for report in reports:
        for letter in report.dead_letters:
            known = letters.get(letter.offset)
            if known is None or letter.reason < known.reason:
                letters[letter.offset] = letter
    return [letters[offset] for offset in sorted(letters)]
