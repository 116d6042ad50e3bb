"""What the store on SQLite does beyond the contract: hidden columns, locks, faults of the disk, kills."""

import itertools
import logging
import multiprocessing
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigurationError, SinkError
from engine.reports import WriteReport
from engine.sinks import sqlite as module
from engine.sinks.api import Table
from engine.sinks.sqlite import SQLiteSink
from tests.engine.sinks.stores import DIARY, MARKS, SERIES, TOTALS, SQLiteWorld, delete


def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; fail after half a minute."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        threading.Event().wait(0.01)


@contextmanager
def writing(world: SQLiteWorld, *rows: tuple[Any, ...], at: int = 1) -> Iterator[threading.Thread]:
    """A write to the totals in a thread of its own, which must have returned in the end."""
    thread = threading.Thread(target=lambda: world.put(TOTALS, *rows, at=at), daemon=True)
    thread.start()
    yield thread
    thread.join(30)
    assert not thread.is_alive(), "the write never returned"


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The lines that say that a write waits."""
    return [record for record in caplog.records if " waits since " in record.getMessage()]


def test_hidden_columns_hold_timestamp_and_tombstone(sqlite_world: SQLiteWorld) -> None:
    """`_written` is the newest write timestamp; a removal leaves a row with `_deleted` 1 and null values."""
    sqlite_world.put(TOTALS, ("a", 1), ("b", 2), at=10)
    sqlite_world.put(TOTALS, delete("a"), delete("c"), at=20, batch_ms=3_000)
    found = sqlite_world.query("SELECT id, n, batch, _written, _deleted FROM totals ORDER BY id")
    assert found == [("a", None, 3_000, 20, 1), ("b", 2, 1_000, 10, 0), ("c", None, 3_000, 20, 1)]


def test_write_after_a_removal_revives_the_row(sqlite_world: SQLiteWorld) -> None:
    """A newer write over a tombstone clears `_deleted`."""
    sqlite_world.put(TOTALS, delete("a"), at=20)
    sqlite_world.put(TOTALS, ("a", 5), at=21)
    assert sqlite_world.query("SELECT id, n, batch, _written, _deleted FROM totals") == [
        ("a", 5, 1_000, 21, 0)
    ]


def test_equal_timestamp_rewrites(sqlite_world: SQLiteWorld) -> None:
    """A write with the timestamp that is there already replaces the row."""
    sqlite_world.put(TOTALS, ("a", 1), at=20)
    sqlite_world.put(TOTALS, ("a", 2), at=20)
    assert sqlite_world.rows(TOTALS, "a") == [("a", 2, 1_000)]


def test_file_is_in_wal_mode_with_full_sync(sqlite_world: SQLiteWorld) -> None:
    """A commit is on the disk when the write returns: WAL, and a sync with every commit."""
    sqlite_world.put(TOTALS, ("a", 1), at=1)
    ours = next(
        opened for key, opened in module._opened.items() if key[1] == str(sqlite_world.path)
    ).connection()
    assert ours.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ours.execute("PRAGMA synchronous").fetchone() == (2,)


def test_write_is_one_transaction(sqlite_world: SQLiteWorld) -> None:
    """When the database refuses one row of a write, none of its rows is there, and the store works on."""
    with closing(sqlite3.connect(sqlite_world.path)) as other:
        other.execute(
            "CREATE TABLE guarded (id TEXT PRIMARY KEY, n INTEGER CHECK (n < 10), batch, _written, _deleted)"
        )
    guarded = Table("guarded", columns=("id", "n"), key=("id",))
    with pytest.raises(SinkError, match=r"table 'guarded'.*CHECK constraint failed"):
        sqlite_world.put(guarded, ("a", 1), ("b", 99), at=1)
    assert sqlite_world.rows(guarded, "a") == []
    sqlite_world.put(guarded, ("a", 1), at=1)
    assert sqlite_world.rows(guarded, "a") == [("a", 1, 1_000)]


def test_interrupted_write_leaves_no_lock(sqlite_world: SQLiteWorld) -> None:
    """An interrupt in the middle of a transaction takes it back: nothing is written, and others may write."""

    def interrupted() -> None:
        with sqlite_world.store._using(TOTALS) as opened:
            opened.connection().execute("BEGIN IMMEDIATE")
            opened.connection().execute("INSERT INTO totals (id) VALUES ('half')")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with closing(sqlite3.connect(sqlite_world.path, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    assert sqlite_world.rows(TOTALS, "half") == []


def test_not_a_number_is_refused(sqlite_world: SQLiteWorld) -> None:
    """NaN, which SQLite would turn into null, is refused with its key."""
    with pytest.raises(SinkError, match=r"key \('a', 1\): SQLite cannot store nan"):
        sqlite_world.put(SERIES, ("a", 1, None, None, None, float("nan"), None), at=1)


def test_not_null_on_a_value_is_refused(sqlite_world: SQLiteWorld) -> None:
    """A value column that cannot be null is refused by check: a tombstone could not be written."""
    with closing(sqlite3.connect(sqlite_world.path)) as other:
        other.execute(
            "CREATE TABLE rigid (id TEXT PRIMARY KEY, n INTEGER NOT NULL, batch, _written, _deleted)"
        )
    with pytest.raises(ConfigurationError, match="table 'rigid' has NOT NULL on n"):
        sqlite_world.store.check(Table("rigid", columns=("id", "n"), key=("id",)))


def test_missing_file_is_refused_by_check(tmp_path: Path) -> None:
    """A file that is not there is named with its remedy, and not made."""
    path = tmp_path / "no results.sqlite3"
    with pytest.raises(
        ConfigurationError, match=r"no results.sqlite3 does not exist; run python -m services.sqlite"
    ):
        SQLiteSink(path).check(TOTALS)
    assert not path.exists()


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """A file of another kind fails for good, at the first write too."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)
    store = SQLiteSink(path)
    with pytest.raises(ConfigurationError, match=r"notes.txt refuses: file is not a database"):
        store.check(TOTALS)
    with pytest.raises(SinkError, match=r"notes.txt refuses: file is not a database"):
        store.write(TOTALS, [("a", 1)], batch_ms=1, write_timestamp=1)


def test_path_may_hold_any_character(tmp_path: Path) -> None:
    """A path with spaces, percent and question marks names its file."""
    folder = tmp_path / "a %20 ?mode=ro #x ü"
    folder.mkdir()
    world = SQLiteWorld(folder / "r.sqlite3")
    world.put(TOTALS, ("a", 1), at=1)
    world.store.close()
    assert world.rows(TOTALS, "a") == [("a", 1, 1_000)]


@pytest.mark.slow
def test_locked_file_is_waited_for(sqlite_world: SQLiteWorld, caplog: pytest.LogCaptureFixture) -> None:
    """While another process holds the file the write waits, says so once a second at most, and then succeeds."""
    with closing(sqlite3.connect(sqlite_world.path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        with writing(sqlite_world, ("a", 1)) as thread:
            until(lambda: len(lines(caplog)) >= 2)
            assert thread.is_alive()
            other.execute("ROLLBACK")
    told = lines(caplog)
    assert (
        f"SQLite at {sqlite_world.path}: a write of 1 rows to table totals waits since 20"
        in told[0].getMessage()
    )
    assert "database is locked" in told[0].getMessage()
    assert min(b.created - a.created for a, b in itertools.pairwise(told)) >= 0.9
    assert sqlite_world.rows(TOTALS, "a") == [("a", 1, 1_000)]


@pytest.mark.slow
def test_waits_for_a_locked_file_are_reported(
    sqlite_world: SQLiteWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """A write tells how often the file was locked: each time is a request without an answer and a retry."""
    reports: list[WriteReport] = []
    with closing(sqlite3.connect(sqlite_world.path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=lambda: reports.append(sqlite_world.put(TOTALS, ("a", 1), at=1)))
        thread.start()
        until(lambda: len(lines(caplog)) >= 1)
        other.execute("ROLLBACK")
        thread.join(30)
    (report,) = reports

    assert report.retries == report.failures >= 1
    assert (report.rows, report.requests, report.seconds.count) == (1, 1, 1)


def test_full_disk_is_waited_for(sqlite_world: SQLiteWorld, caplog: pytest.LogCaptureFixture) -> None:
    """A write that finds no space is tried again whole, and nothing of the first try is left."""
    sqlite_world.put(TOTALS, ("a", 1), at=1)
    ours = next(
        opened for key, opened in module._opened.items() if key[1] == str(sqlite_world.path)
    ).connection()
    pages = ours.execute("PRAGMA page_count").fetchone()[0]
    # SQLite's own limit gives its own SQLITE_FULL; it goes with the connection, as space comes back to a disk.
    ours.execute(f"PRAGMA max_page_count = {pages + 2}")
    rows = [(f"key {index:05}" * 10, index) for index in range(2_000)]
    sqlite_world.put(TOTALS, *rows, at=2)
    assert "database or disk is full" in caplog.text
    assert sqlite_world.query("SELECT count(*), max(n) FROM totals") == [(2_001, 1_999)]


def test_file_that_is_away_is_waited_for(sqlite_world: SQLiteWorld, caplog: pytest.LogCaptureFixture) -> None:
    """A file that cannot be opened is tried again until it is back, and is not made anew."""
    away = sqlite_world.path.with_suffix(".away")
    sqlite_world.path.rename(away)
    with writing(sqlite_world, ("a", 1)):
        until(lambda: "unable to open database file" in caplog.text)
        assert not sqlite_world.path.exists()
        away.rename(sqlite_world.path)
    assert sqlite_world.rows(TOTALS, "a") == [("a", 1, 1_000)]


def write_for_ever(path: Path, acknowledged: Connection) -> None:
    """Write batch after batch, each of 200 rows under one id, and tell each that was acknowledged."""
    store = SQLiteSink(path)
    for batch in itertools.count(1):
        rows = [(f"batch-{batch}", index) for index in range(200)]
        store.write(MARKS, rows, batch_ms=batch, write_timestamp=batch)
        store.write(DIARY, [("a", "last", batch, None)], batch_ms=batch, write_timestamp=batch)
        acknowledged.send(batch)


@pytest.mark.slow
def test_killed_writer_leaves_whole_batches(sqlite_world: SQLiteWorld) -> None:
    """After kill -9 every acknowledged batch is there, and none is there in part."""
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    child = spawn.Process(target=write_for_ever, args=(sqlite_world.path, sender))
    child.start()
    sender.close()
    newest = 0
    while newest < 20:
        newest = receiver.recv()
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    while receiver.poll():
        try:
            newest = receiver.recv()
        except EOFError:
            break
    counts = dict(sqlite_world.query("SELECT id, count(*) FROM marks GROUP BY id"))
    assert set(counts.values()) == {200}
    assert {f"batch-{batch}" for batch in range(1, newest + 1)} <= set(counts)
    assert len(counts) <= newest + 1
