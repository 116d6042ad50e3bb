"""Compares what the tables hold with the truth, row by row.

Owns: Judge.
Never: I/O.
"""

from collections.abc import Iterator, Mapping

from tools.verify.schema import TABLES, Fact, Rows, Values
from tools.verify.truth import Changes
from tools.verify.verdict import TableVerdict


class Judge:
    """Judges rows that were read AFTER the ledger whose newest batch is the cut.

    A row of a batch up to the cut must be what the newest batch up to the cut that touched its key made of it; a row
    of a later batch must be what that very batch made of it.

    State: the newest truth of every key up to the cut, and of every key touched after it.
    """

    def __init__(self, rows: Mapping[str, Rows], *, cut: int, newest: int) -> None:
        """Take the rows of each table.

        Args:
            rows: of each table, by its name.
            cut: the newest batch in the ledger BEFORE the tables were read.
            newest: the newest batch in the ledger AFTER they were read.
        """
        self._rows = rows
        self._cut = cut
        self._newest = newest
        self._at_cut: dict[str, Rows] = {name: {} for name in rows}
        self._later: dict[str, Rows] = {name: {} for name in rows}
        self._own: dict[str, Rows] = {name: {} for name in rows}
        """The truth of rows later than the cut as of their own batch, where that batch touched their key."""

    def observe(self, time: int, changes: Changes) -> None:
        """Take in what the batch of this time changed; in batch order."""
        for name, rows in self._rows.items():
            touched = {key: Fact(values, time) for key, values in changes[name].items()}
            if time <= self._cut:
                self._at_cut[name].update(touched)
            else:
                self._later[name].update(touched)
                self._own[name].update(
                    {key: fact for key, fact in touched.items() if _batch(rows, key) == time}
                )

    def verdicts(self) -> Iterator[TableVerdict]:
        """The verdict over each table, AFTER every batch of the ledger was observed."""
        for name in self._rows:
            yield self._verdict(name)

    def _verdict(self, name: str) -> TableVerdict:
        rows, at_cut = self._rows[name], self._at_cut[name]
        verdict = TableVerdict(TABLES[name], rows=len(rows))
        for key, found in rows.items():
            self._judge(verdict, key, found)
        for key, expected in at_cut.items():
            if key not in rows:
                verdict.count_missing(key, expected)
        return verdict

    def _judge(self, verdict: TableVerdict, key: Values, found: Fact) -> None:
        if found.batch is not None and found.batch > self._newest:
            verdict.undecided += 1
            return
        at_cut, later, own = (
            facts[verdict.name].get(key) for facts in (self._at_cut, self._later, self._own)
        )
        expected = own or at_cut or later
        if expected is None:
            verdict.count_over(key, found)
        elif found == expected:
            verdict.exact += 1
        else:
            verdict.count_wrong(key, expected, found)


def _batch(rows: Rows, key: Values) -> int | None:
    found = rows.get(key)
    return found.batch if found else None
