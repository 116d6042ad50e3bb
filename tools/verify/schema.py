"""The result tables as the contract has them, written down here once more on purpose.

verify must not learn from the pipeline what the pipeline should have written.

Owns: Fact, Rows, ResultTable, TABLES, REPLAYED_LETTERS.
Never: I/O.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

SHOWN_CHARACTERS = 48
"""A longer value is cut when it is shown."""

Values = tuple[object, ...]
"""Columns of a row, timestamps as integer milliseconds since the epoch."""


class Fact(NamedTuple):
    """What a table says, or should say, under one key."""

    values: Values
    """The columns that are neither key nor batch, in the table's order."""
    batch: int | None
    """The batch that wrote it; None when the column holds no time."""


Rows = dict[Values, Fact]
"""A whole table by primary key."""


@dataclass(frozen=True, slots=True)
class ResultTable:
    """Name and columns of one table of results."""

    name: str
    key: tuple[str, ...]
    values: tuple[str, ...]
    times: frozenset[str] = frozenset()
    """Columns other than batch that hold a time."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns, batch last."""
        return (*self.key, *self.values, "batch")

    def fact(self, row: Values) -> tuple[Values, Fact]:
        """A row in the order of `columns` as its key and what it says.

        Example:
            >>> TABLES["page_totals"].fact(("/page/001", 7, 123, 3_000))
            (('/page/001',), Fact(values=(7, 123), batch=3000))
        """
        batch = row[-1]
        width = len(self.key)
        values = row[width:-1]
        if self.name == "dead_letters":  # the text after the colon is for people and may change
            values = (str(values[0]).partition(":")[0], *values[1:])
        return row[:width], Fact(values, batch if isinstance(batch, int) else None)

    def show_key(self, key: Values) -> str:
        """The key's columns on one line."""
        return " ".join(self._show(name, value) for name, value in zip(self.key, key, strict=True))

    def show_fact(self, fact: Fact) -> str:
        """The other columns on one line."""
        shown = (
            f"{name}={self._show(name, value)}" for name, value in zip(self.values, fact.values, strict=True)
        )
        return " ".join((*shown, f"batch={show_time(fact.batch)}"))

    def differing(self, one: Fact, other: Fact) -> str:
        """The names of the columns in which two facts differ, on one line.

        Example:
            >>> TABLES["page_totals"].differing(Fact((7, 123), 3_000), Fact((7, 125), 3_000))
            'seq_sum'
        """
        pairs = zip((*one.values, one.batch), (*other.values, other.batch), strict=True)
        return " ".join(name for name, (a, b) in zip((*self.values, "batch"), pairs, strict=True) if a != b)

    def _show(self, name: str, value: object) -> str:
        if name in self.times:
            return show_time(value)
        text = str(value)
        return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


TABLES = {
    table.name: table
    for table in (
        ResultTable(
            "campaign_windows",
            ("campaign_id", "window_start"),
            ("views", "seq_sum"),
            frozenset({"window_start"}),
        ),
        ResultTable("trending_pages", ("window_end", "rank"), ("page", "views"), frozenset({"window_end"})),
        ResultTable("page_totals", ("page",), ("views", "seq_sum")),
        ResultTable("dead_letters", ("topic", "partition", "record_offset"), ("reason", "value")),
    )
}
"""Every table that holds results, in the order in which they are told. A job has the name of its table."""


REPLAYED_LETTERS = ResultTable("replays", ("topic", "partition", "record_offset"), ("sent_from", "sent_at"))
"""Which dead letters were sent again, and where they lie now; no results."""


def show_time(milliseconds: object) -> str:
    """A time as people read it, UTC.

    Example:
        >>> show_time(1_500)
        '1970-01-01T00:00:01.500Z'
    """
    if not isinstance(milliseconds, int):
        return str(milliseconds)
    try:
        moment = datetime.fromtimestamp(milliseconds / 1_000, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
