"""Reads the ledger and the result tables, from SQLite or from Cassandra.

Owns: SqliteStore.
Never: a write.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tools.verify.ledger import LedgerBatch, parse_batch
from tools.verify.schema import Fact, ResultTable, Values
from tools.verify.verdict import CannotTellError

LEDGER_PIECE = 250
"""So many batches of the ledger are held at once."""


class Store(Protocol):
    """Where results are kept."""

    def apps(self) -> set[str]:
        """The applications of which the ledger has batches."""

    def ledger(self, app: str, after: int) -> Iterator[list[LedgerBatch]]:
        """The batches of an application later than a time, milliseconds; over all days, in batch order and in pieces.

        Guarantees: before a batch every older one is given, also while the engine writes.
        """

    def rows(self, table: ResultTable) -> Iterator[tuple[Values, Fact]]:
        """A whole table. Guarantees: a row that was there before the call is given, as it was or newer, and once."""

    def close(self) -> None:
        """Let go of the connection."""


class SqliteStore:
    """The results database of the embedded stack."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            raise CannotTellError(
                f"{path} does not exist; start the stack with `make up STACK=embedded`, or set DATA_DIR to where it keeps its data"
            )
        self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)

    def _select(
        self, columns: Sequence[str], table: str, where: str = "", values: Sequence[object] = ()
    ) -> Iterator[Values]:
        # Names are this package's own constants, values are bound.
        query = f"SELECT {', '.join(columns)} FROM {table} WHERE _deleted = 0 {where}"  # noqa: S608
        try:
            yield from self._connection.execute(query, values)
        except sqlite3.Error as error:
            raise CannotTellError(
                f"{table} in {self._path} cannot be read ({error}); is its schema migrated?"
            ) from error

    def apps(self) -> set[str]:
        """The applications of which the ledger has batches."""
        return {str(app) for (app,) in self._select(["DISTINCT app"], "ledger")}

    def ledger(self, app: str, after: int) -> Iterator[list[LedgerBatch]]:
        """The batches later than a time, in batch order; a piece as of one moment, so that nothing is held open between two."""
        columns = ("day", "batch", "zero_time", "ranges")
        where = (
            f"AND app = ? AND batch > ? AND (day, batch) > (?, ?) ORDER BY day, batch LIMIT {LEDGER_PIECE}"
        )
        at: Values = ("", after)
        while piece := list(self._select(columns, "ledger", where, (app, after, *at))):
            yield [parse_batch(*row[1:]) for row in piece]
            if len(piece) < LEDGER_PIECE:
                return  # what was written since would be one more piece, and so on for as long as the engine runs
            at = piece[-1][:2]

    def rows(self, table: ResultTable) -> Iterator[tuple[Values, Fact]]:
        """A whole table as of one moment."""
        return map(table.fact, self._select(table.columns, table.name))

    def close(self) -> None:
        """Close the database."""
        self._connection.close()
