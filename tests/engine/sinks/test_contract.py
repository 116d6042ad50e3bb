"""What every result store promises, proved on each of them by the same tests."""

import itertools
import multiprocessing
import pickle
import random
import threading
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from engine.batch import Time
from engine.errors import ConfigurationError, SinkError
from engine.sinks.api import Delete, ResultStore, Row, Table
from tests.engine.sinks.stores import DIARY, MARKS, SERIES, TOTALS, World, delete


@pytest.fixture(params=[pytest.param("sqlite"), pytest.param("cassandra", marks=pytest.mark.servers)])
def world(request: pytest.FixtureRequest) -> World:
    """Each store in turn."""
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found


@pytest.fixture
def name() -> str:
    """An id that no other test uses."""
    return uuid.uuid4().hex


def test_row_comes_back_with_its_batch(world: World, name: str) -> None:
    """Every kind of value is read back as it was written, with the batch beside it."""
    row = (name, 5_000, -(2**62), "one", b"\x00\xff", 0.1, True)
    world.put(SERIES, row, at=1, batch_ms=7_000)
    assert world.rows(SERIES, name) == [(*row, 7_000)]


def test_aware_datetime_is_its_milliseconds(world: World, name: str) -> None:
    """A datetime of any zone, a Time and a number of milliseconds name the same instant."""
    instant = datetime(2026, 11, 22, 1, 30, 0, 123_999, tzinfo=timezone(timedelta(hours=-7)))
    milliseconds = 1_795_336_200_123
    world.put(MARKS, (name, instant), (name, Time(5)), at=1)
    world.put(MARKS, (name, milliseconds), at=2, batch_ms=9)
    assert world.rows(MARKS, name) == [(name, 5, 1_000), (name, milliseconds, 9)]


def test_time_before_the_epoch_rounds_down(world: World, name: str) -> None:
    """A datetime between two milliseconds belongs to the earlier one, before 1970 too."""
    instant = datetime(1970, 1, 1, tzinfo=UTC) - timedelta(microseconds=1)
    world.put(MARKS, (name, instant), at=1)
    assert world.rows(MARKS, name) == [(name, -1, 1_000)]


def test_replay_with_equal_timestamp_rewrites(world: World, name: str) -> None:
    """A batch that was written in part is completed by writing it again under the same timestamp."""
    rows = [(name, index, index, "x", None, None, None) for index in range(5)]
    world.put(SERIES, *rows[:2], at=10)
    for _ in range(2):
        world.put(SERIES, *rows, at=10)
        assert world.rows(SERIES, name) == [(*row, 1_000) for row in rows]


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))))
def test_older_attempt_loses_in_any_order(world: World, name: str, order: tuple[int, ...]) -> None:
    """The write with the largest timestamp stays, whatever comes after it."""
    for attempt in order:
        world.put(TOTALS, (name, attempt * 100), at=1_000 + attempt, batch_ms=attempt)
    assert world.rows(TOTALS, name) == [(name, 300, 3)]


@pytest.mark.parametrize("order", list(itertools.permutations(("old", "delete", "new"))))
def test_delete_has_its_place_in_time(world: World, name: str, order: tuple[str, ...]) -> None:
    """A removal wins over older writes and loses to newer ones, in whatever order they arrive."""
    rows: dict[str, tuple[Row, int]] = {
        "old": ((name, 1, 1, "old", b"old", 1.0, True), 10),
        "delete": (delete(name, 1), 20),
        "new": ((name, 1, 3, None, None, None, None), 30),
    }
    for step in order:
        row, at = rows[step]
        world.put(SERIES, row, at=at)
    assert world.rows(SERIES, name) == [(name, 1, 3, None, None, None, None, 1_000)]


@pytest.mark.parametrize("order", list(itertools.permutations(("old", "delete"))))
def test_deleted_row_stays_away(world: World, name: str, order: tuple[str, ...]) -> None:
    """A removal hides the row, also when the older write comes after it."""
    for step in order:
        world.put(TOTALS, (name, 1) if step == "old" else delete(name), at=10 if step == "old" else 20)
    assert world.rows(TOTALS, name) == []


def test_write_and_delete_of_other_keys_go_together(world: World, name: str) -> None:
    """One write may remove some rows of a partition and put others."""
    world.put(MARKS, *((name, index) for index in range(4)), at=1)
    world.put(MARKS, delete(name, 0), (name, 9), delete(name, 2), delete(name, 77), at=2)
    assert [row[1] for row in world.rows(MARKS, name)] == [1, 3, 9]


def test_none_is_written_as_null(world: World, name: str) -> None:
    """None clears what a column held, and an older value does not come back."""
    world.put(SERIES, (name, 1, 1, "text", b"data", 1.5, False), at=10)
    world.put(SERIES, (name, 1, None, None, None, None, None), at=20)
    world.put(SERIES, (name, 1, 1, "text", b"data", 1.5, False), at=15)
    assert world.rows(SERIES, name) == [(name, 1, None, None, None, None, None, 1_000)]


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_arrival_gives_one_result(world: World, name: str, seed: int) -> None:
    """Writes and removals in random order leave each key as its newest one says."""
    dice = random.Random(seed)
    newest: dict[int, tuple[int, Row]] = {}
    steps: list[tuple[int, Row]] = []
    for at in range(1, 121):
        key = dice.randrange(8)
        row: Row = (
            delete(name, key)
            if dice.random() < 0.3
            else (name, key, at, dice.choice(["x", None]), None, None, None)
        )
        newest[key] = (at, row)
        steps.append((at, row))
    dice.shuffle(steps)
    for at, row in steps:
        world.put(SERIES, row, at=at)
    expected = [(*row, 1_000) for _, (_, row) in sorted(newest.items()) if not isinstance(row, Delete)]
    assert world.rows(SERIES, name) == expected


def test_table_of_key_columns_only(world: World, name: str) -> None:
    """A table whose columns are all key holds rows, and they can be removed."""
    world.put(MARKS, (name, 1), (name, 2), at=1)
    world.put(MARKS, delete(name, 1), at=2)
    assert world.rows(MARKS, name) == [(name, 2, 1_000)]


def test_batch_among_the_columns_is_the_rows_own(world: World, name: str) -> None:
    """A table that declares `batch` takes it from the row, as the ledger does."""
    world.store.check(DIARY)
    world.put(DIARY, ("a", name, 5_000, "five"), ("a", name, 6_000, "six"), at=1, batch_ms=1)
    world.put(DIARY, delete("a", name, 5_000), at=2)
    assert world.rows(DIARY, name) == [("a", name, 6_000, "six", 6_000)]


def test_key_twice_in_one_write_is_refused(world: World, name: str) -> None:
    """A key that comes twice is named together with its table, and nothing is written."""
    with pytest.raises(SinkError, match=rf"'totals': key \('{name}',\) comes twice"):
        world.put(TOTALS, ("first" + name, 0), (name, 1), (name, 2), at=1)
    assert world.rows(TOTALS, name) + world.rows(TOTALS, "first" + name) == []


def test_write_and_delete_of_one_key_are_refused(world: World, name: str) -> None:
    """A removal counts as a row of its key."""
    with pytest.raises(SinkError, match="comes twice"):
        world.put(TOTALS, (name, 1), delete(name), at=1)


def test_one_instant_in_two_forms_is_one_key(world: World, name: str) -> None:
    """A datetime and its milliseconds are the same key."""
    with pytest.raises(SinkError, match="comes twice"):
        world.put(MARKS, (name, 1_000), (name, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)), at=1)


BAD_VALUES = [
    ("id", 5),
    ("id", b"bytes"),
    ("id", None),
    ("id", ""),
    ("at", None),
    ("at", "noon"),
    ("at", datetime(2026, 1, 1)),  # noqa: DTZ001 - a naive datetime is what is refused
    ("n", "12"),
    ("n", 1.5),
    ("n", 2**63),
    ("note", 5),
    ("note", b"bytes"),
    ("note", "half a \ud800 character"),
    ("data", 5),
    ("data", "text"),
    ("data", [1, 2]),
    ("ratio", "0.5"),
    ("ratio", True),
    ("flag", 1),
    ("flag", {"a": 1}),
]


@pytest.mark.parametrize(("column", "value"), BAD_VALUES)
def test_value_of_another_type_is_refused(world: World, name: str, column: str, value: Any) -> None:
    """A value that its column does not take is refused with table and key, before any row is written."""
    good = (name, 1, 1, "x", b"x", 1.0, True)
    bad = tuple(
        value if each == column else part
        for each, part in zip(SERIES.columns, (name, 2, *good[2:]), strict=True)
    )
    with pytest.raises(SinkError, match="table 'series'") as refusal:
        world.put(SERIES, good, bad, at=1)
    assert (name if column != "id" else repr(value)) in str(refusal.value)
    assert world.rows(SERIES, name) == []


@pytest.mark.parametrize("row", [(), ("x",), ("x", 1, 2), ["x", 1], Delete(()), Delete(("x", 1))])
def test_row_of_another_shape_is_refused(world: World, row: Any) -> None:
    """A row must be a tuple of exactly the table's columns, a removal of exactly its key."""
    with pytest.raises(SinkError, match=r"table 'totals'.*is not a tuple of id"):
        world.put(TOTALS, row, at=1)


def test_float_column_takes_an_int(world: World, name: str) -> None:
    """A whole number is a valid float."""
    world.put(SERIES, (name, 1, None, None, None, 2, None), at=1)
    assert world.rows(SERIES, name)[0][5] == pytest.approx(2.0)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_like_values_are_bytes(world: World, name: str, kind: Any) -> None:
    """A bytearray or memoryview is stored as its bytes."""
    world.put(SERIES, (name, 1, None, None, kind(b"abc"), None, None), at=1)
    assert world.rows(SERIES, name)[0][4] == b"abc"


@pytest.mark.parametrize(
    "text", ["naïve ☃ 漢字", "\U0001f680" * 50, "a\x00b", "'; DROP TABLE totals --", '"', " "]
)
def test_text_comes_back_as_it_was(world: World, name: str, text: str) -> None:
    """Any text is a value and a key, byte for byte."""
    key = name + text
    world.put(SERIES, (key, 1, None, text, None, None, None), at=1)
    assert world.rows(SERIES, key) == [(key, 1, None, text, None, None, None, 1_000)]


def test_write_reports_rows_requests_and_seconds(world: World, name: str) -> None:
    """A write tells its table, its rows and removals, and the seconds of each acknowledged request; an empty one tells nothing."""
    rows = [(f"{name}-{index}", index) for index in range(9)]
    report = world.put(TOTALS, *rows, delete(f"{name}-x"), at=1)

    assert (report.table, report.rows, report.retries, report.failures) == ("totals", 10, 0, 0)
    assert report.seconds.count == report.requests > 0
    assert report.seconds.total > 0
    empty = world.put(TOTALS, at=1)
    assert (empty.rows, empty.requests, empty.seconds.count) == (0, 0, 0)


def test_empty_write_does_nothing(world: World) -> None:
    """A write of no rows returns, even to a table that is not there."""
    world.store.write(Table("nowhere", columns=("id",), key=("id",)), [], batch_ms=1, write_timestamp=1)


def test_check_passes_the_tables_as_they_are(world: World) -> None:
    """A table with the declared columns and key is accepted; it may have more columns."""
    for table in (SERIES, TOTALS, MARKS, DIARY, Table("series", columns=("id", "at", "n"), key=("id", "at"))):
        world.store.check(table)


FAULTS = [
    (Table("nowhere", columns=("id",), key=("id",)), "table 'nowhere' does not exist"),
    (Table("totals", columns=("id", "views"), key=("id",)), "table 'totals' has no column views"),
    (Table("bare", columns=("id", "n"), key=("id",)), "table 'bare' has no column batch"),
    (Table("series", columns=("id", "at", "n"), key=("id",)), "table 'series' has the primary key"),
    (Table("series", columns=("at", "id", "n"), key=("at", "id")), "table 'series' has the primary key"),
]


@pytest.mark.fault(41, "a table, a column or its key is another than the output's, at the start")
@pytest.mark.parametrize(("table", "fault"), FAULTS)
def test_check_names_the_fault_and_the_remedy(world: World, table: Table, fault: str) -> None:
    """A table that differs is refused with what differs and the migration to run."""
    with pytest.raises(ConfigurationError, match=fault) as refusal:
        world.store.check(table)
    assert "python -m services." in str(refusal.value)


@pytest.mark.fault(41, "rows go to a table or column that is not there")
@pytest.mark.parametrize(("table", "named"), [(FAULTS[0][0], "nowhere"), (FAULTS[1][0], "views")])
def test_write_to_what_is_not_there_is_refused(world: World, table: Table, named: str) -> None:
    """A write to an unknown table or column fails for good and names it."""
    row = ("x", 1)[: len(table.columns)]
    with pytest.raises(SinkError, match=named):
        world.put(table, row, at=1)


@pytest.mark.slow
def test_ten_thousand_rows_in_one_write(world: World, name: str) -> None:
    """A large write arrives whole: one partition of many rows, and many of one."""
    world.put(
        MARKS,
        *((name, index) for index in range(5_000)),
        *((f"{name}-{index}", 1) for index in range(5_000)),
        at=1,
    )
    assert world.rows(MARKS, name) == [(name, index, 1_000) for index in range(5_000)]
    assert all(world.rows(MARKS, f"{name}-{index}") for index in range(0, 5_000, 501))


@pytest.mark.slow
def test_large_values_arrive(world: World, name: str) -> None:
    """Rows of megabytes, larger than any batch, arrive beside small ones."""
    rows = [
        (name, index, None, None, bytes([index]) * (1 << 20 if index % 3 else 10), None, None)
        for index in range(12)
    ]
    world.put(SERIES, *rows, at=1)
    assert world.rows(SERIES, name) == [(*row, 1_000) for row in rows]


@pytest.mark.slow
def test_threads_write_the_same_keys_at_once(world: World, name: str) -> None:
    """Of concurrent writers of the same keys the one with the largest timestamp stays."""

    def write(at: int) -> None:
        world.put(SERIES, *((name, index, at, None, None, None, None) for index in range(50)), at=at)

    threads = [threading.Thread(target=write, args=(at,)) for at in (3, 1, 6, 2, 5, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row[2] for row in world.rows(SERIES, name)] == [6] * 50


def write_in_child(pickled: bytes, name: str, at: int) -> None:
    """Write from another process, with the store as it came by pickle."""
    store: ResultStore = pickle.loads(pickled)  # noqa: S301 - the test's own bytes
    for step in range(20):
        rows = [(name, index, at, str(step), None, None, None) for index in range(30)]
        store.write(SERIES, rows, batch_ms=at, write_timestamp=at * 100 + step)
    store.close()


@pytest.mark.slow
def test_processes_write_at_once_with_the_pickled_store(world: World, name: str) -> None:
    """A store that is in use pickles as its settings, and several processes write through it at once."""
    world.put(TOTALS, (name, 1), at=1)
    pickled = pickle.dumps(world.store)
    assert len(pickled) < 1_000
    assert pickle.loads(pickled) == world.store  # noqa: S301 - the test's own bytes
    spawn = multiprocessing.get_context("spawn")
    children = [spawn.Process(target=write_in_child, args=(pickled, name, at)) for at in (2, 3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert [row[2:4] for row in world.rows(SERIES, name)] == [(3, "19")] * 30


def test_store_works_after_close(world: World, name: str) -> None:
    """Closing lets go of the connection; the next call makes a new one."""
    world.put(TOTALS, (name, 1), at=1)
    for _ in range(2):
        world.store.close()
    world.put(TOTALS, (name, 2), at=2)
    assert world.rows(TOTALS, name) == [(name, 2, 1_000)]


def test_newest_batch_is_that_of_the_application_and_its_newest_day(world: World, name: str) -> None:
    """The look at the start finds the largest batch of an application over all of its days that have rows."""
    assert world.store.newest_batch(DIARY, name) is None
    rows = [("day 1", 1_000), ("day 3", 7_000), ("day 3", 5_000), ("day 2", 4_000)]
    world.put(DIARY, *((name, day, batch, "") for day, batch in rows), at=1)
    world.put(DIARY, (f"{name}2", "day 4", 9_000, ""), at=1)

    assert world.store.newest_batch(DIARY, name) == 7_000
    assert world.store.newest_batch(DIARY, f"{name}2") == 9_000
    world.put(DIARY, *(delete(name, day, batch) for day, batch in rows if day == "day 3"), at=2)
    assert world.store.newest_batch(DIARY, name) == 4_000
