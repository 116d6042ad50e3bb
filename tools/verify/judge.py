"""Compares what the tables hold with the truth, row by row.

Owns: Judge.
Never: I/O.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tools.verify.facts import Facts, facts_of
from tools.verify.readers import LETTERS, Reader
from tools.verify.schema import TABLES, Fact, ResultTable, Values
from tools.verify.truth import Changes
from tools.verify.verdict import TableVerdict

Expected = dict[int, Fact]
"""By number of the reader the truth of a key, of those that know it."""


@dataclass(slots=True)
class _Held:
    """A row that may be of a batch that comes later."""

    found: Fact
    expected: Expected
    """As of its batch, as far as the batches were observed."""
    awaited: list[int]
    """The readers whose batches it waits for."""


class Judge:
    """Judges rows that were read AFTER the ledger of each reader up to some batch, its cut, in passing.

    Each row must be what the newest batch up to its own made of its key, and that must be its own. A row of a batch up to the cut
    is compared at once and forgotten; a later one is held until its batch was observed. A key up to the cut must have a row.

    A key belongs to one reader. A dead letter alone may be told by each reader of its partition, in a batch of its own: the row is
    exact when it is what one of them wrote.

    1. The order of calls: learn all batches up to the cuts, then read the tables, then observe the batches after them.

    State: the newest truth of every key up to the cut, until the table is read; the rows of later batches.

    Args:
        readers: of which batches will be told, by their place.
    """

    def __init__(self, readers: Sequence[Reader]) -> None:
        self.newest = [0] * len(readers)
        """By reader the newest batch of any row that may be its own."""
        self._readers = readers
        self._truth: dict[str, dict[int, Facts]] = {
            name: {place: facts_of(table) for place, reader in enumerate(readers) if name in reader.tables}
            for name, table in TABLES.items()
        }
        self._held: dict[str, dict[Values, _Held]] = {}
        self._verdicts: dict[str, TableVerdict] = {}

    def learn(self, reader: int, time: int, changes: Changes) -> None:
        """Take in what a reader's batch of this time changed; in its batch order, up to its cut."""
        for name, truth in self._truth.items():
            facts = truth.get(reader)
            if facts is not None:
                for key, values in changes[name].items():
                    facts.put(key, values, time)

    def read(self, table: ResultTable, rows: Iterable[tuple[Values, Fact]], cuts: Sequence[int]) -> None:
        """Judge a whole table, each of its rows given once.

        Args:
            table: which.
            rows: its keys, and what it says.
            cuts: by reader the newest batch that was learned.
        """
        verdict = self._verdicts[table.name] = TableVerdict(table)
        held = self._held[table.name] = {}
        truth = self._truth.pop(table.name)
        for key, found in rows:
            verdict.rows += 1
            expected = {
                reader: fact for reader, facts in truth.items() if (fact := facts.take(key)) is not None
            }
            awaited = (
                [] if found.batch is None else self._awaited(table, key, expected, truth, cuts, found.batch)
            )
            if not awaited or found in expected.values():
                self._count(verdict, key, expected, found)
            else:
                held[key] = _Held(found, expected, awaited)
                for reader in awaited:
                    self.newest[reader] = max(self.newest[reader], found.batch or 0)
        for key in {key: None for facts in truth.values() for key, _ in facts.items()}:
            missed = {
                reader: fact for reader, facts in truth.items() if (fact := facts.take(key)) is not None
            }
            self._shared(verdict, key, missed)
            verdict.count_missing(key, next(iter(missed.values())))

    def _awaited(
        self,
        table: ResultTable,
        key: Values,
        expected: Expected,
        readers: Iterable[int],
        cuts: Sequence[int],
        batch: int,
    ) -> list[int]:
        """The readers that may have written a row after their cut."""
        if table.name == LETTERS:
            writers = [reader for reader in readers if self._readers[reader].reads((key[0], key[1]))]
        else:
            writers = list(expected or readers)
        return [reader for reader in writers if batch > cuts[reader]]

    def _count(self, verdict: TableVerdict, key: Values, expected: Expected, found: Fact) -> None:
        self._shared(verdict, key, expected)
        meant = list(expected.values())
        verdict.count(key, found if found in meant else next(iter(meant), None), found)

    def _shared(self, verdict: TableVerdict, key: Values, expected: Expected) -> None:
        """Count a key that two units have, each with a part of the truth."""
        if len(expected) > 1 and verdict.name != LETTERS:
            units = " and ".join(self._readers[reader].unit for reader in expected)
            verdict.count_shared(key, units)

    def observe(self, reader: int, time: int, changes: Changes) -> None:
        """Take in what a reader's batch of this time changed; in its batch order, AFTER its cut."""
        for name, held in self._held.items():
            for key in held.keys() & changes[name].keys():
                row = held[key]
                if row.found.batch is not None and time <= row.found.batch:
                    row.expected[reader] = Fact(changes[name][key], time)

    def verdicts(self, newest: Sequence[int]) -> Iterator[TableVerdict]:
        """The verdict over each table, AFTER every batch of each reader's ledger up to the newest was observed."""
        for name, verdict in self._verdicts.items():
            for key, row in self._held.pop(name).items():
                is_known = row.found in row.expected.values()
                if not is_known and any((row.found.batch or 0) > newest[reader] for reader in row.awaited):
                    verdict.undecided += 1
                else:
                    self._count(verdict, key, row.expected, row.found)
            yield verdict
