"""Reads the ledger and the result tables, from SQLite or from Cassandra.

Owns: SqliteStore.
Never: a write.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from tools.verify.ledger import LedgerBatch, parse_batch
from tools.verify.schema import ResultTable, Rows, Values
from tools.verify.verdict import CannotTellError


class Store(Protocol):
    """Where results are kept."""

    def ledger(self, app: str) -> list[LedgerBatch]:
        """Every batch of an application over all days, in batch order.

        Guarantees: with a batch every older one is there too, also while the engine writes.
        """

    def rows(self, table: ResultTable) -> Rows:
        """A whole table. Guarantees: a row that was there before the call is in the answer, as it was or newer."""

    def close(self) -> None:
        """Let go of the connection."""


def in_order(rows: Iterable[Sequence[object]]) -> list[LedgerBatch]:
    """Rows of (batch, zero_time, ranges) as batches, in batch order."""
    return sorted(parse_batch(*row) for row in rows)


def as_table(table: ResultTable, rows: Iterable[Values]) -> Rows:
    """Rows in the order of the table's columns, by key."""
    return dict(map(table.fact, rows))


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
        self, columns: Sequence[str], table: str, where: str = "", values: Sequence[str] = ()
    ) -> list[Values]:
        # Names are this package's own constants, values are bound.
        query = f"SELECT {', '.join(columns)} FROM {table} WHERE _deleted = 0 {where}"  # noqa: S608
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise CannotTellError(
                f"{table} in {self._path} cannot be read ({error}); is its schema migrated?"
            ) from error

    def ledger(self, app: str) -> list[LedgerBatch]:
        """Every batch of an application, in batch order; one statement sees one moment."""
        return in_order(self._select(("batch", "zero_time", "ranges"), "ledger", "AND app = ?", (app,)))

    def rows(self, table: ResultTable) -> Rows:
        """A whole table as of one moment."""
        return as_table(table, self._select(table.columns, table.name))

    def close(self) -> None:
        """Close the database."""
        self._connection.close()
