"""What a proof found, and how it reads on a screen and as JSON.

Owns: CannotTellError, Offender, TableVerdict, LedgerVerdict, ProducersVerdict, Verdict.
Never: a decision about a row; it counts what it is told.
"""

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from tools.verify.schema import Fact, ResultTable, Values, show_time

SHOWN_OFFENDERS = 5
"""How many rows of a table are shown; all are counted."""

SHOWN_COLUMNS = 80


class CannotTellError(Exception):
    """Raised when a proof is not possible; the message names the thing and the remedy. Exit code 2."""


@dataclass(frozen=True, slots=True)
class Offender:
    """One row, or one range of the ledger, that is not as it must be."""

    kind: str
    """missing (only in the truth), over (only in the table) or wrong (values or batch differ)."""
    key: str
    expected: str
    found: str
    differs: str = ""
    """The columns of a wrong row that differ."""

    def lines(self) -> Iterator[str]:
        """The offender in a few lines of a screen's width."""
        yield f"    {self.kind:<8} {self.key}"
        for label, text in (("expected", self.expected), ("found", self.found), ("differs", self.differs)):
            if text:
                yield from textwrap.wrap(
                    text, SHOWN_COLUMNS, initial_indent=f"      {label:<8} ", subsequent_indent=" " * 15
                )


@dataclass(slots=True)
class TableVerdict:
    """How the rows of one table compare with the truth.

    1. rows == exact + over + wrong + undecided. 2. missing rows are not among rows.
    """

    table: ResultTable
    rows: int = 0
    exact: int = 0
    missing: int = 0
    over: int = 0
    wrong: int = 0
    undecided: int = 0
    """Rows of a batch that the ledger does not have (yet)."""
    shared: int = 0
    """Keys whose events lie in more than one unit."""
    offenders: list[Offender] = field(default_factory=list)
    """The first few of missing, over and wrong."""

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name

    @property
    def faults(self) -> int:
        """Number of rows that are missing, over or wrong."""
        return self.missing + self.over + self.wrong + self.shared

    def count_missing(self, key: Values, expected: Fact) -> None:
        """Count a row that is only in the truth."""
        self.missing += 1
        self._show("missing", key, expected, None)

    def count_shared(self, key: Values, units: str) -> None:
        """Count a key that more than one unit has, each with a part of its events; no row of it can be right."""
        self.shared += 1
        if len(self.offenders) < SHOWN_OFFENDERS:
            key_text = self.table.show_key(key)
            self.offenders.append(Offender("wrong", key_text, "events in one unit", f"events in {units}"))

    def count(self, key: Values, expected: Fact | None, found: Fact) -> None:
        """Count a row of the table; without anything expected it is only there."""
        if found == expected:
            self.exact += 1
        elif expected is None:
            self.over += 1
            self._show("over", key, None, found)
        else:
            self.wrong += 1
            self._show("wrong", key, expected, found)

    def _show(self, kind: str, key: Values, expected: Fact | None, found: Fact | None) -> None:
        if len(self.offenders) < SHOWN_OFFENDERS:
            meant, held = (self.table.show_fact(fact) if fact else "" for fact in (expected, found))
            differs = self.table.differing(expected, found) if expected and found else ""
            self.offenders.append(Offender(kind, self.table.show_key(key), meant, held, differs))

    def lines(self) -> Iterator[str]:
        """One line with the counts, then the first offenders."""
        undecided = f"  undecided {self.undecided}" if self.undecided else ""
        yield (
            f"{self.name:<16}  rows {self.rows}  exact {self.exact}  missing {self.missing}"
            f"  over {self.over}  wrong {self.wrong + self.shared}{undecided}"
        )
        for offender in self.offenders:
            yield from offender.lines()


@dataclass(frozen=True, slots=True)
class LedgerVerdict:
    """Whether the ledger's ranges tile the log."""

    batches: int
    cut: int
    """The newest batch before the tables were read, milliseconds since the epoch; of units the oldest of theirs."""
    records: int
    """Records that the ledger's ranges hold; one that two units read counts once."""
    behind: int
    """Offsets at the end of the log that no batch has taken yet."""
    faults: tuple[Offender, ...]
    """Every gap, overlap and range beyond the log; each counts as wrong."""
    units: int = 1
    """Number of ledgers: one engine has one, and of replicas each unit."""

    def lines(self) -> Iterator[str]:
        """One line with the counts, then the first faults."""
        yield (
            f"ledger            batches {self.batches}  records {self.records}  behind {self.behind}"
            f"  wrong {len(self.faults)}"
        )
        each = f"  units {self.units}" if self.units > 1 else ""
        yield f"                  cut {show_time(self.cut)}{each}"
        for fault in self.faults[:SHOWN_OFFENDERS]:
            yield from fault.lines()


@dataclass(frozen=True, slots=True)
class ProducersVerdict:
    """Whether the log holds what the producers meant to send, each once; told apart from the tables."""

    events: int = 0
    """Records that carry a sequence number."""
    others: int = 0
    """Records that no producer of ours sent; stepped over."""
    gaps: int = 0
    """Sequence numbers that were skipped: a later one came."""
    duplicates: int = 0
    """Records whose sequence number is not above every one before it."""
    totals: int = 0
    """Totals, one a page and one a campaign, that were compared with their closed form."""
    wrong_totals: tuple[Offender, ...] = ()
    """Those that differ: the log holds other events than the seed says."""
    foreign: bool = False
    """Whether the first events are those of another seed, so that no total could be compared."""

    def lines(self) -> Iterator[str]:
        """One line of sequences, one of the closed form."""
        yield (
            f"producers: gaps={self.gaps} duplicates={self.duplicates} events={self.events} others={self.others}"
        )
        yield f"closed form: totals={self.totals} wrong={len(self.wrong_totals)}"
        for offender in self.wrong_totals[:SHOWN_OFFENDERS]:
            yield from offender.lines()


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that one proof found.

    Example:
        >>> Verdict(reason="nothing is committed yet").code
        2
    """

    tables: tuple[TableVerdict, ...] = ()
    ledger: LedgerVerdict | None = None
    producers: ProducersVerdict | None = None
    """None when the ledger does not tile the log, so that sequences cannot be followed."""
    reason: str = ""
    """Why the proof could not tell, empty when it could."""

    def _sum(self, name: str) -> int:
        return sum(getattr(table, name) for table in self.tables)

    @property
    def windows(self) -> int:
        """Number of rows of all result tables."""
        return self._sum("rows")

    @property
    def exact(self) -> int:
        """Number of rows that equal the truth as of their own batch."""
        return self._sum("exact")

    @property
    def missing(self) -> int:
        """Number of rows that are only in the truth."""
        return self._sum("missing")

    @property
    def over(self) -> int:
        """Number of rows that are only in a table."""
        return self._sum("over")

    @property
    def wrong(self) -> int:
        """Number of rows whose values or batch differ, of faults of the ledger and of wrong closed forms."""
        faults = len(self.ledger.faults) if self.ledger else 0
        totals = len(self.producers.wrong_totals) if self.producers else 0
        return self._sum("wrong") + self._sum("shared") + faults + totals

    @property
    def undecided(self) -> int:
        """Number of rows of a batch that the ledger does not have."""
        return self._sum("undecided")

    @property
    def dead_letters(self) -> int:
        """Number of rows of the dead-letter table."""
        return sum(table.rows for table in self.tables if table.name == "dead_letters")

    @property
    def code(self) -> int:
        """0 exact, 1 something is not, 2 could not tell. A fault that is proven outweighs a doubt."""
        if self.missing or self.over or self.wrong:
            return 1
        return 2 if self.reason else 0

    @property
    def line(self) -> str:
        """The closing line."""
        return (
            f"verify: windows={self.windows} exact={self.exact} missing={self.missing} over={self.over} "
            f"wrong={self.wrong} dead_letters={self.dead_letters}"
        )

    def lines(self) -> Iterator[str]:
        """Everything that was found but the closing line and the reason."""
        for part in (self.ledger, *self.tables, self.producers):
            if part is not None:
                yield from part.lines()

    def as_json(self) -> dict[str, Any]:
        """The same as values that json can write."""
        counts = (
            "windows",
            "exact",
            "missing",
            "over",
            "wrong",
            "undecided",
            "dead_letters",
            "code",
            "reason",
        )
        tables = [{**asdict(table), "table": table.name} for table in self.tables]
        return {
            **{name: getattr(self, name) for name in counts},
            "line": self.line,
            "tables": tables,
            "ledger": asdict(self.ledger) if self.ledger else None,
            "producers": asdict(self.producers) if self.producers else None,
        }
