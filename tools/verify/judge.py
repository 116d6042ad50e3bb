"""Compares what the tables hold with the truth, row by row.

Owns: Judge.
Never: I/O.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tools.verify.facts import Facts, facts_of
from tools.verify.schema import TABLES, Fact, ResultTable, Values
from tools.verify.truth import Changes
from tools.verify.verdict import TableVerdict


@dataclass(slots=True)
class _Held:
    """A row of a batch that comes later."""

    found: Fact
    expected: Fact | None
    """The truth of its key as of its batch, as far as the batches were observed."""


class Judge:
    """Judges rows that were read AFTER the ledger up to some batch, the cut, in passing.

    Each row must be what the newest batch up to its own made of its key, and that must be its own. A row of a batch up to the cut
    is compared at once and forgotten; a later one is held until its batch was observed. A key up to the cut must have a row.

    1. The order of calls: learn all batches up to the cut, then read the tables, then observe the batches after it.

    State: the newest truth of every key up to the cut, until the table is read; the rows of later batches.
    """

    def __init__(self) -> None:
        self.newest = 0
        """The newest batch of any row that was read."""
        self._truth: dict[str, Facts] = {name: facts_of(table) for name, table in TABLES.items()}
        self._held: dict[str, dict[Values, _Held]] = {}
        self._verdicts: dict[str, TableVerdict] = {}

    def learn(self, time: int, changes: Changes) -> None:
        """Take in what the batch of this time changed; in batch order, up to the cut."""
        for name, facts in self._truth.items():
            for key, values in changes[name].items():
                facts.put(key, values, time)

    def read(self, table: ResultTable, rows: Iterable[tuple[Values, Fact]], cut: int) -> None:
        """Judge a whole table, each of its rows given once."""
        verdict = self._verdicts[table.name] = TableVerdict(table)
        held = self._held[table.name] = {}
        facts = self._truth.pop(table.name)
        for key, found in rows:
            verdict.rows += 1
            expected = facts.take(key)
            if found.batch is None or found.batch <= cut:
                verdict.count(key, expected, found)
            else:
                held[key] = _Held(found, expected)
                self.newest = max(self.newest, found.batch)
        for key, missed in facts.items():
            verdict.count_missing(key, missed)

    def observe(self, time: int, changes: Changes) -> None:
        """Take in what the batch of this time changed; in batch order, AFTER the cut."""
        for name, held in self._held.items():
            for key in held.keys() & changes[name].keys():
                row = held[key]
                if row.found.batch is not None and time <= row.found.batch:
                    row.expected = Fact(changes[name][key], time)

    def verdicts(self, newest: int) -> Iterator[TableVerdict]:
        """The verdict over each table, AFTER every batch of the ledger up to the newest was observed."""
        for name, verdict in self._verdicts.items():
            for key, row in self._held.pop(name).items():
                if row.found.batch is not None and row.found.batch > newest:
                    verdict.undecided += 1
                else:
                    verdict.count(key, row.expected, row.found)
            yield verdict
