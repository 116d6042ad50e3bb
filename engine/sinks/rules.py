"""What every result store does alike: it proves the rows before it sends any, and it waits out trouble.

Owns: the kinds of columns, Change, changes_of, Outage.
Never: a driver of a database, a connection.
"""

import logging
import math
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeVar

from engine.clock import Clock, SystemClock
from engine.errors import SinkError
from engine.sinks.api import Delete, Row, Table
from engine.waits import waiting

T = TypeVar("T")
"""What an attempt returns."""

Kind = tuple[type, ...]
"""The Python types that a column takes; None is taken by every column outside the key."""

TEXT: Final[Kind] = (str,)
INTEGER: Final[Kind] = (int,)
FLOAT: Final[Kind] = (float, int)
BOOLEAN: Final[Kind] = (bool,)
BLOB: Final[Kind] = (bytes, bytearray, memoryview)
TIMESTAMP: Final[Kind] = (int, datetime)
"""Milliseconds since the epoch, or an aware datetime."""
ANYTHING: Final[Kind] = (object, bool)
"""A type that is left to the store's own driver."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 1.0
_SHOWN_CHARACTERS: Final = 200
"""Keys and values are cut to this length in messages: a dead letter may hold megabytes."""


class Change(NamedTuple):
    """A row that passed its checks, in plain types: no datetime, no mutable bytes."""

    key: tuple[Any, ...]
    """The primary key in the table's key order; no part is None."""
    values: tuple[Any, ...] | None
    """The row in the order of the table's columns; None removes the row."""


def shown(value: object) -> str:
    """The value as a message shows it, cut to a bearable length."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def changes_of(table: Table, kinds: Sequence[Kind], rows: Sequence[Row]) -> list[Change]:
    """The rows in plain types, each with its key, or an error before anything is sent.

    Args:
        table: where the rows go.
        kinds: what each of the table's columns takes, in their order.
        rows: as an output gave them.

    Raises:
        SinkError: a row has another shape than the table, a value another type than its column, a part of
            a key is None, a lone partition key is empty, or a key comes twice.
    """
    changes = list(_changes(table, kinds, rows))
    seen: set[tuple[Any, ...]] = set()
    for change in changes:
        if change.key in seen:
            raise SinkError(
                f"table {table.name!r}: key {shown(change.key)} comes twice in one write; "
                "combine the two rows before the output"
            )
        seen.add(change.key)
    return changes


def _changes(table: Table, kinds: Sequence[Kind], rows: Sequence[Row]) -> Iterator[Change]:
    places = [table.columns.index(name) for name in table.key]
    key_kinds = [kinds[place] for place in places]
    lone = len(table.partition_key) == 1
    for row in rows:
        if isinstance(row, Delete):
            key, values = _plain_row(table, table.key, key_kinds, row.key), None
        else:
            values = _plain_row(table, table.columns, kinds, row)
            key = tuple([values[place] for place in places])
        if None in key or (lone and key[0] in {"", b""}):
            raise SinkError(
                f"table {table.name!r}: key {shown(key)} has an empty part; give it a value or drop the row"
            )
        yield Change(key, values)


def _plain_row(
    table: Table, names: Sequence[str], kinds: Sequence[Kind], row: tuple[Any, ...]
) -> tuple[Any, ...]:
    if not isinstance(row, tuple) or len(row) != len(names):
        raise SinkError(
            f"table {table.name!r}: {shown(row)} is not a tuple of {', '.join(names)}; give exactly these"
        )
    try:
        return tuple(map(_plain, row, kinds))
    except TypeError:
        raise _refusal(table, names, kinds, row) from None


def _plain(value: Any, kind: Kind) -> Any:
    """The value in its plain form; TypeError when its kind does not take it."""
    if value is None or (type(value) in {str, float, bytes} and type(value) in kind):
        return value
    if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind):
        raise TypeError
    if isinstance(value, datetime) and kind is not ANYTHING:
        return (value - _EPOCH) // _MILLISECOND  # TypeError without a time zone
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    # A Time is an int that drivers do not know.
    return int(value) if isinstance(value, int) and type(value) not in {int, bool} else value


def _refusal(table: Table, names: Sequence[str], kinds: Sequence[Kind], row: tuple[Any, ...]) -> SinkError:
    """The error that names the first value of the row that its column does not take."""
    for name, kind, value in zip(names, kinds, row, strict=True):
        try:
            _plain(value, kind)
        except TypeError:
            naive = isinstance(value, datetime) and datetime in kind
            given = "datetime without a time zone" if naive else type(value).__name__
            key = tuple(part for part, column in zip(row, names, strict=True) if column in table.key)
            return SinkError(
                f"table {table.name!r}, key {shown(key)}: column {name!r} takes "
                f"{' or '.join(accepted.__name__ for accepted in kind)}, not {given} {shown(value)}; convert it"
            )
    raise AssertionError(row)


def describe(error: BaseException) -> str:
    """The error as one phrase of a log line."""
    return f"{type(error).__name__}: {shown(str(error))}"


class Outage:
    """Trouble with one store, seen from one call: retries in place for as long as it lasts.

    The pauses grow from 50 ms to 1 s, with jitter. A store's trouble is said at most once a second in
    a process, however many calls wait for it.

    Args:
        store: name and address, such as "Cassandra at 127.0.0.1:9042".
        what: what waits, such as "a write of 3 rows to table page_totals".
        log: where the lines go.
        clock: of the pauses and of "since".
        describe: an error as one phrase.
    """

    _said_at: Final[dict[str, float]] = {}
    _saying: Final = threading.Lock()

    def __init__(
        self,
        store: str,
        what: str,
        log: logging.Logger,
        *,
        clock: Clock | None = None,
        describe: Callable[[BaseException], str] = describe,
    ) -> None:
        self._store = store
        self._what = what
        self._log = log
        self._clock = clock or SystemClock()
        self._describe = describe
        self._began: float | None = None
        self._began_text = ""
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self.retries = 0
        """Pauses so far, each followed by another attempt."""

    def retry(self, attempt: Callable[[], T], transient: tuple[type[Exception], ...]) -> T:
        """What the attempt returns, once it does; its transient errors are waited out, others pass.

        It is the store's time: it does not count against a limit of the task.
        """
        with waiting:
            while True:
                try:
                    result = attempt()
                except transient as error:
                    self._wait(error)
                else:
                    self._end()
                    return result

    def progress(self) -> None:
        """Make the next pause short again: the store took some of the work."""
        self._pause_seconds = _FIRST_PAUSE_SECONDS

    def _wait(self, error: Exception) -> None:
        now = self._clock.monotonic()
        self.retries += 1
        if self._began is None:
            self._began = now
            since = datetime.fromtimestamp(self._clock.wall_ms() / 1_000, tz=UTC)
            self._began_text = since.isoformat(timespec="seconds")
        if self._may_speak(self._store, now):
            self._log.warning(
                "%s: %s waits since %s (%.0f s): %s",
                *(self._store, self._what, self._began_text, now - self._began, self._describe(error)),
            )
        self._clock.wait(threading.Event(), self._pause_seconds * random.uniform(0.5, 1.0))
        self._pause_seconds = min(self._pause_seconds * 2, _LONGEST_PAUSE_SECONDS)

    def _end(self) -> None:
        if self._began is None:
            return
        now = self._clock.monotonic()
        if self._may_speak(f"{self._store} again", now):
            self._log.warning("%s: answers again after %.1f s", self._store, now - self._began)
        self._began = None
        self.progress()

    def _may_speak(self, subject: str, now: float) -> bool:
        """Whether the last line about the subject is a second old; takes the turn if so."""
        with self._saying:
            if now - self._said_at.get(subject, -math.inf) < 1.0:
                return False
            self._said_at[subject] = now
            return True
