"""What an output writes, and the two tables that the engine writes itself; on a SQLite store and on a list."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, StreamingContext, StreamingListener
from engine.batch import Batch, OffsetRange, OutputInfo, Time
from engine.dstream.dstream import DStream
from engine.dstream.nodes import DeadLetter
from engine.errors import SinkError
from engine.reports import WriteReport
from engine.sinks.api import Delete, Row, Table
from engine.sinks.output import DEAD_LETTERS, LEDGER, BatchLedger, TableOutput
from tests.engine.app import START_MS, App

VIEWS = Table("views", columns=("page", "day", "n"), key=("page", "day"))


class Files:
    """A store that appends each write to a file, so that writes of executors can be read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check(self, table: Table) -> None:
        """Note that the table was checked."""
        (self._folder / f"{table.name}.checked").touch()

    def write(self, table: Table, rows: Sequence[Row], *, batch_ms: int, write_timestamp: int) -> WriteReport:
        """One line a write."""
        shown = [["delete", *row.key] if isinstance(row, Delete) else list(row) for row in rows]
        with (self._folder / "writes").open("a") as file:
            file.write(json.dumps([table.name, shown, batch_ms, write_timestamp], default=repr) + "\n")
        return WriteReport(table.name, rows=len(rows), requests=1)

    def close(self) -> None:
        """Nothing is open."""

    def writes(self) -> list[Any]:
        """[table, rows, batch, write timestamp] of each write."""
        path = self._folder / "writes"
        return sorted(json.loads(line) for line in path.read_text().splitlines()) if path.exists() else []


@pytest.fixture
def store(tmp_path: Path) -> Files:
    """A store in this test's folder."""
    folder = tmp_path / "store"
    folder.mkdir()
    return Files(folder)


def written(
    context: LocalContext, folder: Path, store: Files, batches: list[list[Any]], partitions: int = 2
) -> list[Any]:
    """What is written for these batches of rows."""

    def job(_ssc: StreamingContext, stream: DStream[Any], _app: App) -> None:
        stream.foreachRDD(TableOutput(store, VIEWS, partitions), name="views")

    with App(context, folder, job, batches) as app:
        app.run(len(batches))
    return store.writes()


def test_rows_are_written_under_the_batchs_time(context: LocalContext, tmp_path: Path, store: Files) -> None:
    """Every row is written with its batch's time and write timestamp, and an empty batch writes nothing."""
    rows = [("/a", 1, 5), ("/b", 1, None), Delete(("/c", 2))]
    found = written(context, tmp_path, store, [rows, [], [("/a", 1, 6)]])

    by_batch: dict[int, list[Any]] = {}
    for table, some, batch, timestamp in found:
        assert table == "views"
        assert timestamp == batch * 1_000
        by_batch.setdefault(batch, []).extend(some)
    assert {batch: sorted(some, key=str) for batch, some in by_batch.items()} == {
        START_MS + 1_000: sorted([["/a", 1, 5], ["/b", 1, None], ["delete", "/c", 2]], key=str),
        START_MS + 3_000: [["/a", 1, 6]],
    }


def test_rows_of_one_partition_key_are_written_together(
    context: LocalContext, tmp_path: Path, store: Files
) -> None:
    """Rows of one partition key come in one write, wherever they were made."""
    rows = [(f"/{n % 3}", n, 1) for n in range(30)]
    found = written(context, tmp_path, store, [rows], partitions=4)

    pages = [{row[0] for row in some} for _, some, _, _ in found]
    assert sum(map(len, pages)) == 3
    assert sum(len(some) for _, some, _, _ in found) == 30


@pytest.mark.parametrize(
    "rows",
    [
        [("/a", 1, 5), ("/b", 1, 5), ("/a", 1, 6)],
        [("/a", 1, 5), Delete(("/a", 1))],
        [Delete(("/a", 1)), Delete(("/a", 1))],
    ],
    ids=["rows", "row and delete", "deletes"],
)
def test_key_that_comes_twice_in_a_batch_is_refused(
    context: LocalContext, tmp_path: Path, store: Files, rows: list[Row]
) -> None:
    """A primary key twice in one batch is an error with table, key and remedy, before anything of that key is written."""
    with pytest.raises(
        SinkError,
        match=r"table 'views' gets key \('/a', 1\) twice in batch Time\(\d+\); reduce the rows by key",
    ):
        written(context, tmp_path, store, [rows])

    assert not any("/a" in row for _, some, _, _ in store.writes() for row in some)


def test_ledger_records_every_range_of_a_batch(store: Files) -> None:
    """A batch's ledger row holds its UTC day, attempt, zero time and all ranges sorted, under its write timestamp."""
    time = Time(86_400_000 * 3 - 1)
    ranges = {"b": (OffsetRange("t", 1, 5, 9), OffsetRange("t", 0, 1, 1)), "a": (OffsetRange("s", 0, 0, 2),)}
    BatchLedger(store, "app").record(Batch(time, ranges, 7), Time(1_000))

    text = '[["s",0,0,2],["t",0,1,1],["t",1,5,9]]'
    row = ["app", "1970-01-03", int(time), 7, 1_000, text]
    assert store.writes() == [["ledger", [row], int(time), time * 1_000 + 7]]


def test_dead_letters_are_written_with_their_bytes(store: Files) -> None:
    """Records that were put aside are rows with coordinates, reason and bytes; without any nothing is written."""
    ledger = BatchLedger(store, "app")
    ledger.put_aside(Batch(Time(5), {}), [])
    ledger.put_aside(
        Batch(Time(5), {}),
        [DeadLetter("t", 1, 7, "late", b"x"), DeadLetter("t", 1, 8, "undecodable: y", None)],
    )

    assert store.writes() == [
        ["dead_letters", [["t", 1, 7, "late", "b'x'"], ["t", 1, 8, "undecodable: y", None]], 5, 5_000]
    ]


def test_writes_are_reported_to_who_runs_the_output(
    context: LocalContext, tmp_path: Path, store: Files
) -> None:
    """What executors wrote for an output, also for one that a function of the user calls, comes with the output's end by table."""
    told: list[OutputInfo] = []

    class Told(StreamingListener):
        def onOutputOperationCompleted(self, outputOperationCompleted: Any) -> None:
            """Keep it."""
            told.append(outputOperationCompleted.output)

    def job(ssc: StreamingContext, stream: DStream[Any], _app: App) -> None:
        ssc.addStreamingListener(Told())
        output = TableOutput(store, VIEWS, 2)
        stream.foreachRDD(lambda rdd: output(rdd.filter(lambda row: row[2] > 1)), name="some")
        stream.foreachRDD(lambda rdd: rdd.count(), name="none")

    with App(context, tmp_path, job, [[("/a", 1, 1), ("/b", 1, 2), ("/c", 1, 3)]]) as app:
        app.run()
    some, none = told

    assert {name: report.rows for name, report in some.writes.items()} == {"views": 2}
    assert none.writes == {}


def test_ledger_proves_its_tables_first(tmp_path: Path, store: Files) -> None:
    """The ledger checks both of its tables before the first batch."""
    BatchLedger(store, "app").check()

    assert {path.stem for path in (tmp_path / "store").glob("*.checked")} == {LEDGER.name, DEAD_LETTERS.name}
