"""The results store on SQLite, of the embedded stack: the rows and rules of Cassandra in one file.

Every results table carries two hidden columns beside `batch`:

    _written INTEGER   the write timestamp of the newest write or removal of the key, microseconds
    _deleted INTEGER   1 where that was a removal: the row is a tombstone, its values are null

A write counts when its timestamp is not smaller than `_written`. Readers look at rows with _deleted = 0.

Owns: SQLiteSink.
Never: a read of results, a row that is really removed.
"""

import functools
import logging
import math
import os
import re
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.clock import SystemClock
from engine.errors import ConfigurationError, SinkError
from engine.reports import Buckets, WriteReport
from engine.sinks import rules
from engine.sinks.api import Row, Table
from engine.sinks.rules import Change, Kind, Outage, changes_of, shown

_log: Final = logging.getLogger(__name__)
_clock: Final = SystemClock()

_REMEDY: Final = "run python -m services.sqlite.migrate"
_BUSY_SECONDS: Final = 1.0
"""SQLite's own wait for another process's transaction, before the outage begins to be told."""
_HIDDEN: Final = ("_written", "_deleted")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""Half a character, which has no bytes in UTF-8."""

_PERMANENT_CODES: Final = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
    }
)
"""No retry heals these; the others are a lock, a full or failing disk, a file that may not be written."""
_BUSY_CODES: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_TRANSIENT: Final = (sqlite3.OperationalError,)
_KINDS: Final[Sequence[tuple[str, Kind]]] = (
    ("BOOL", rules.BOOLEAN),
    ("INT", (*rules.TIMESTAMP, bool)),
    ("CHAR|CLOB|TEXT", rules.TEXT),
    ("BLOB", rules.BLOB),
    ("REAL|FLOA|DOUB", rules.FLOAT),
    ("", (*rules.TEXT, *rules.FLOAT, *rules.BOOLEAN, *rules.BLOB, *rules.TIMESTAMP)),
)
"""What a column takes by its declared type, in SQLite's own order of rules; the last one fits any type."""


@functools.cache
def _upsert_of(table: Table) -> str:
    """The upsert of one row: its columns with `batch`, then the write timestamp."""
    columns = table.columns if "batch" in table.columns else (*table.columns, "batch")
    return _merge(table, columns, deleted=0)


@functools.cache
def _tombstone_of(table: Table) -> str:
    """The removal of one row: its key with `batch`, then the write timestamp."""
    columns = table.key if "batch" in table.key else (*table.key, "batch")
    return _merge(table, columns, deleted=1)


def _merge(table: Table, columns: Sequence[str], *, deleted: int) -> str:
    """An insert that over an older row of the key sets every column that is written, and nulls the others.

    Of a removal that means all values; equal timestamps rewrite.
    """
    given = (*columns, *_HIDDEN)
    marks = ", ".join("?" * (len(columns) + 1))
    changed = dict.fromkeys((*table.values, *given))
    sets = ", ".join(f'"{name}" = excluded."{name}"' for name in changed if name not in table.key)
    keys = ", ".join(f'"{name}"' for name in table.key)
    names = ", ".join(f'"{name}"' for name in given)
    return (
        f'INSERT INTO "{table.name}" ({names}) VALUES ({marks}, {deleted}) '  # noqa: S608 - Table proves its names
        f'ON CONFLICT ({keys}) DO UPDATE SET {sets} WHERE excluded."_written" >= "{table.name}"."_written"'
    )


class _Opened:
    """This process's connection with one file; used by one thread at a time, whoever holds `lock`."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._kinds: dict[Table, list[Kind]] = {}
        self.lock = threading.Lock()

    def connection(self) -> sqlite3.Connection:
        """The connection, opened if need be; never makes the file."""
        if self._connection is None:
            uri = f"{Path(self._path).absolute().as_uri()}?mode=rw"
            # Transactions are begun by hand. The lock guards the connection, not the thread that made it.
            opened = sqlite3.connect(
                uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                opened.execute("PRAGMA journal_mode = WAL")
                opened.execute("PRAGMA synchronous = FULL")
            except sqlite3.Error:
                opened.close()
                raise
            self._connection = opened
        return self._connection

    def columns(self, table: Table) -> dict[str, tuple[str, int, bool]]:
        """Declared type, place in the primary key (from 1) and NOT NULL of each column; none without the table."""
        found = self.connection().execute(
            "SELECT name, type, pk, [notnull] FROM pragma_table_info(?)", (table.name,)
        )
        return {name: (type_, place, bool(not_null)) for name, type_, place, not_null in found}

    def kinds(self, table: Table) -> list[Kind]:
        """What each of the table's columns takes; a column that is not there takes anything."""
        if table not in self._kinds:
            columns = self.columns(table)
            self._kinds[table] = [_kind_of(columns.get(name, ("", 0, False))[0]) for name in table.columns]
        return self._kinds[table]

    def roll_back(self) -> None:
        """End the transaction that is open, if one is; forget a connection that cannot."""
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self.close()

    def close(self) -> None:
        """Close the connection; the next use opens the file anew."""
        self._kinds.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _kind_of(declared: str) -> Kind:
    return next(kind for pattern, kind in _KINDS if re.search(pattern, declared.upper()))


_opened: Final[dict[tuple[int, str | Path], _Opened]] = {}
"""The files of this process, by process id (a forked child must not use its parent's) and path."""
_opening: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class SQLiteSink:
    """A result store in one SQLite file, which several processes may write at once.

    Pickles as its path; the connection is made on first use, one a process.

    Replay: as with Cassandra, the write with the larger write timestamp stays, in whatever order they come.

    Guarantees: see engine.sinks.api.ResultStore. Beyond it, each write is one transaction: all rows or none.

    Example:
        >>> SQLiteSink("results.sqlite3").path
        'results.sqlite3'
    """

    path: str | Path
    """The file, made by `python -m services.sqlite.migrate`; kept as text."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", os.fspath(self.path))

    def check(self, table: Table) -> None:
        """Wait until the file can be read, then prove table, columns and primary key.

        Raises:
            ConfigurationError: the file, the table or a column is missing, or the key differs; the message names
                the migration to run.
        """
        if not Path(self.path).exists():
            raise ConfigurationError(f"results file {self.path} does not exist; {_REMEDY}")
        outage = self._outage(f"the check of table {table.name}")
        try:
            fault = _fault(table, outage.retry(lambda: self._columns(table), _TRANSIENT))
        except SinkError as error:
            raise ConfigurationError(str(error)) from error
        if fault:
            raise ConfigurationError(f"{fault} (SQLite at {self.path}); {_REMEDY}")

    def newest_batch(self, ledger: Table, app: str) -> int | None:
        """The largest `batch` (milliseconds) of an application's rows, None without any; for the start only."""
        query = f'SELECT MAX("batch") FROM {ledger.name} WHERE {ledger.partition_key[0]} = ? AND _deleted = 0'  # noqa: S608 - identifiers of a Table are checked

        def look() -> int | None:
            with self._using(ledger) as opened:
                newest: int | None = opened.connection().execute(query, (app,)).fetchone()[0]
                return newest

        return self._outage(f"a look into table {ledger.name}").retry(look, _TRANSIENT)

    def write(self, table: Table, rows: Sequence[Row], *, batch_ms: int, write_timestamp: int) -> WriteReport:
        """Write the rows with `batch` = batch_ms (milliseconds) under the write timestamp (microseconds).

        Returns when the transaction of all rows is on the disk. A file that is locked, full or read-only is tried
        again for as long as it is so.

        Raises:
            SinkError: a row does not fit the table, a key comes twice, or SQLite refuses a row for good.
        """
        if not rows:
            return WriteReport(table.name)
        outage = self._outage(f"a write of {len(rows)} rows to table {table.name}")
        kinds = outage.retry(lambda: self._kinds(table), _TRANSIENT)
        changes = changes_of(table, kinds, rows)
        _prove_storable(table, changes)
        seconds = Buckets()

        def transact() -> None:
            begun = _clock.monotonic()
            self._transact(table, changes, batch_ms, write_timestamp)
            seconds.observe(_clock.monotonic() - begun)

        outage.retry(transact, _TRANSIENT)
        return WriteReport(table.name, len(rows), 1, outage.retries, outage.retries, seconds)

    def close(self) -> None:
        """Let go of this process's connection; the next call opens the file anew."""
        with _opening:
            opened = _opened.pop((os.getpid(), self.path), None)
        if opened:
            with opened.lock:
                opened.close()

    def _outage(self, what: str) -> Outage:
        return Outage(f"SQLite at {self.path}", what, _log)

    def _columns(self, table: Table) -> dict[str, tuple[str, int, bool]]:
        with self._using(table) as opened:
            return opened.columns(table)

    def _kinds(self, table: Table) -> list[Kind]:
        with self._using(table) as opened:
            return opened.kinds(table)

    def _transact(self, table: Table, changes: Sequence[Change], batch_ms: int, write_timestamp: int) -> None:
        upsert_tail = (write_timestamp,) if "batch" in table.columns else (batch_ms, write_timestamp)
        tombstone_tail = (write_timestamp,) if "batch" in table.key else (batch_ms, write_timestamp)
        upserts = [(*change.values, *upsert_tail) for change in changes if change.values is not None]
        tombstones = [(*change.key, *tombstone_tail) for change in changes if change.values is None]
        with self._using(table) as opened:
            connection = opened.connection()
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_upsert_of(table), upserts)
            connection.executemany(_tombstone_of(table), tombstones)
            connection.execute("COMMIT")

    @contextmanager
    def _using(self, table: Table) -> Iterator[_Opened]:
        """This process's connection for one thread; what is not committed at the end is rolled back.

        Transient errors pass as they are, permanent ones become a SinkError.
        """
        with _opening:
            opened = _opened.setdefault((os.getpid(), self.path), _Opened(self.path))
        with opened.lock:
            try:
                yield opened
            except sqlite3.Error as error:
                # The primary code is the low byte; errors of Python's own module have none.
                code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF
                if code not in _BUSY_CODES:
                    opened.close()  # A connection made while the file was read-only stays so.
                if code in _PERMANENT_CODES:
                    raise SinkError(
                        f"table {table.name!r}: SQLite at {self.path} refuses: {error}; {_REMEDY}"
                    ) from error
                raise
            finally:
                opened.roll_back()


def _prove_storable(table: Table, changes: Sequence[Change]) -> None:
    """SinkError for a value of the right type that SQLite cannot store, or would store as another."""
    for change in changes:
        for value in change.values or change.key:
            if isinstance(value, int):
                is_stored = -(2**63) <= value < 2**63
            elif isinstance(value, str):
                is_stored = value.isascii() or not _SURROGATE.search(value)
            else:
                is_stored = not isinstance(value, float) or not math.isnan(value)  # NaN would become null
            if not is_stored:
                raise SinkError(
                    f"table {table.name!r}, key {shown(change.key)}: SQLite cannot store {shown(value)}; convert it"
                )


def _fault(table: Table, columns: Mapping[str, tuple[str, int, bool]]) -> str | None:
    """What is wrong with the table as the file has it, or None."""
    if not columns:
        return f"table {table.name!r} does not exist"
    missing = [name for name in dict.fromkeys((*table.columns, "batch", *_HIDDEN)) if name not in columns]
    if missing:
        return f"table {table.name!r} has no column {', '.join(missing)}"
    key = tuple(name for _, name in sorted((place, name) for name, (_, place, _) in columns.items() if place))
    if key != table.key:
        return f"table {table.name!r} has the primary key {key}, not {table.key}"
    strict = [name for name in table.values if columns[name][2]]
    if strict:
        return f"table {table.name!r} has NOT NULL on {', '.join(strict)}, which a tombstone must set to null"
    return None
