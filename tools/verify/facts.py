"""The truth of one table, kept small until rows are compared with it.

Owns: Facts, PlainFacts, PackedFacts, facts_of.
Never: a comparison.
"""

from array import array
from collections.abc import Iterator
from typing import Protocol

from tools.verify.schema import Fact, ResultTable, Values

_NO_BATCH = -1


class Facts(Protocol):
    """The newest fact of each key."""

    def put(self, key: Values, values: Values, batch: int) -> None:
        """Put a fact in place of an older one."""

    def take(self, key: Values) -> Fact | None:
        """Take out the fact of a key, None when there is none."""

    def items(self) -> Iterator[tuple[Values, Fact]]:
        """All facts that are there."""


def facts_of(table: ResultTable) -> Facts:
    """What suits a table: one whose keys hold a time grows with the log."""
    return PackedFacts(table) if table.times else PlainFacts()


class PlainFacts:
    """Facts in a dict."""

    def __init__(self) -> None:
        self._facts: dict[Values, Fact] = {}

    def put(self, key: Values, values: Values, batch: int) -> None:
        """Put a fact in place of an older one."""
        self._facts[key] = Fact(values, batch)

    def take(self, key: Values) -> Fact | None:
        """Take out the fact of a key, None when there is none."""
        return self._facts.pop(key, None)

    def items(self) -> Iterator[tuple[Values, Fact]]:
        """All facts that are there."""
        yield from self._facts.items()


class PackedFacts:
    """Facts of a table whose key is a time and one of a few members, in 8 bytes a number; a dict takes ten times as much.

    1. Values are texts, and numbers from 0.

    State: for each time an array with the batch and the values of every member, in the order in which members were first
    seen. A text stands there as a number below 0.

    Example:
        >>> from tools.verify.schema import TABLES
        >>> facts = PackedFacts(TABLES["campaign_windows"])
        >>> facts.put(("campaign-01", 10_000), (3, 57), 2_000)
        >>> facts.take(("campaign-01", 10_000)), facts.take(("campaign-01", 10_000))
        (Fact(values=(3, 57), batch=2000), None)
    """

    def __init__(self, table: ResultTable) -> None:
        self._time_at = 0 if table.key[0] in table.times else 1
        self._width = 1 + len(table.values)
        self._arrays: dict[object, array[int]] = {}
        self._members: dict[object, int] = {}
        self._texts: list[object] = []
        self._numbers: dict[object, int] = {}

    def put(self, key: Values, values: Values, batch: int) -> None:
        """Put a fact in place of an older one."""
        time, member = key[self._time_at], key[1 - self._time_at]
        numbers = self._arrays.get(time)
        if numbers is None:
            numbers = self._arrays[time] = array("q")
        at = self._members.setdefault(member, len(self._members)) * self._width
        if at >= len(numbers):
            numbers.extend([_NO_BATCH] * (at + self._width - len(numbers)))
        numbers[at] = batch
        for place, value in enumerate(values, at + 1):
            numbers[place] = value if isinstance(value, int) else self._number(value)

    def _number(self, text: object) -> int:
        number = self._numbers.setdefault(text, ~len(self._texts))
        if ~number == len(self._texts):
            self._texts.append(text)
        return number

    def take(self, key: Values) -> Fact | None:
        """Take out the fact of a key, None when there is none."""
        numbers = self._arrays.get(key[self._time_at])
        member = self._members.get(key[1 - self._time_at])
        if numbers is None or member is None:
            return None
        at = member * self._width
        if at >= len(numbers) or numbers[at] == _NO_BATCH:
            return None
        fact = self._fact(numbers, at)
        numbers[at] = _NO_BATCH
        return fact

    def _fact(self, numbers: "array[int]", at: int) -> Fact:
        batch, *values = numbers[at : at + self._width]
        return Fact(tuple([self._texts[~value] if value < 0 else value for value in values]), batch)

    def items(self) -> Iterator[tuple[Values, Fact]]:
        """All facts that are there."""
        members = list(self._members)
        for time, numbers in self._arrays.items():
            for at in range(0, len(numbers), self._width):
                if numbers[at] != _NO_BATCH:
                    member = members[at // self._width]
                    yield ((member, time) if self._time_at else (time, member)), self._fact(numbers, at)
