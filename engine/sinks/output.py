"""Writing an RDD of rows into a results table, and the two tables that the engine itself writes.

Owns: TableOutput, BatchLedger, LEDGER, DEAD_LETTERS.
Never: a driver of a database; the store brings it.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from engine.batch import Batch, Time
from engine.dstream.nodes import DeadLetter
from engine.dstream.run import batch_time, report_writes, run_version
from engine.errors import SinkError
from engine.failpoints import fail_point
from engine.rdd.api import RDD
from engine.reports import WriteReport
from engine.sinks.api import Delete, ResultStore, Row, Table

LEDGER = Table(
    "ledger",
    columns=("app", "day", "batch", "attempt", "zero_time", "ranges"),
    key=("app", "day", "batch"),
    partition_key=("app", "day"),
)
"""One row a committed batch; verify proves from it that the ranges tile the log."""

DEAD_LETTERS = Table(
    "dead_letters",
    columns=("topic", "partition", "record_offset", "reason", "value"),
    key=("topic", "partition", "record_offset"),
    partition_key=("topic", "partition"),
)
"""One row a record that was put aside."""


class TableOutput:
    """An output that writes rows into a table, for `foreachRDD`.

    Elements: tuples in the order of the table's columns, or `Delete`s. Each primary key at most once a batch.
    Replay: a batch that runs again writes the same rows with a newer write timestamp.

    Raises:
        SinkError: a primary key comes twice in one batch.
    """

    def __init__(self, store: ResultStore, table: Table, partitions: int) -> None:
        self.table = table
        self._keyed = _ByPartitionKey(table)
        self._write = _WritePartition(store, table)
        self._partitions = partitions

    def __call__(self, rdd: RDD[Any]) -> None:
        """Write the rows of a batch; every one is acknowledged when this returns."""
        fail_point("before_sink")
        # Rows of one partition key come together: they travel in one request, and a key that comes twice is seen.
        report_writes(rdd.map(self._keyed).partitionBy(self._partitions).mapPartitions(self._write).collect())
        fail_point("after_sink")


class _ByPartitionKey:
    def __init__(self, table: Table) -> None:
        self._indexes = [table.columns.index(name) for name in table.partition_key]

    def __call__(self, row: Row) -> tuple[tuple[Any, ...], Row]:
        if isinstance(row, Delete):
            return row.key[: len(self._indexes)], row
        return tuple(row[index] for index in self._indexes), row


class _WritePartition:
    def __init__(self, store: ResultStore, table: Table) -> None:
        self._store = store
        self._table = table
        self._indexes = [table.columns.index(name) for name in table.key]

    def __call__(self, pairs: Iterator[tuple[Any, Row]]) -> list[WriteReport]:
        rows = [row for _, row in pairs]
        if not rows:
            return []
        self._refuse_twice(rows)
        fail_point("in_sink")
        return [_write(self._store, self._table, rows, batch_time(), run_version())]

    def _refuse_twice(self, rows: Sequence[Row]) -> None:
        seen: set[tuple[Any, ...]] = set()
        for row in rows:
            key = row.key if isinstance(row, Delete) else tuple(row[index] for index in self._indexes)
            if key in seen:
                raise SinkError(
                    f"table {self._table.name!r} gets key {key} twice in batch {batch_time()!r}; "
                    "reduce the rows by key before the output"
                )
            seen.add(key)


def _write(
    store: ResultStore, table: Table, rows: Sequence[Row], batch_ms: int, write_timestamp: int
) -> WriteReport:
    try:
        return store.write(table, rows, batch_ms=batch_ms, write_timestamp=write_timestamp)
    except SinkError as error:
        error.table = table.name
        raise


class BatchLedger:
    """Records what was put aside and which batches are complete, in the results store.

    The ledger row of a batch is written AFTER all of its outputs are acknowledged and BEFORE its commit.
    """

    def __init__(self, store: ResultStore, app: str) -> None:
        self._store = store
        self._app = app

    def check(self) -> None:
        """Wait until the store answers, then prove that the tables are there."""
        self._store.check(LEDGER)
        self._store.check(DEAD_LETTERS)

    def newest_batch(self) -> int | None:
        """The time (milliseconds) of the newest batch that is recorded: the application's checkpoint must reach up to it."""
        return self._store.newest_batch(LEDGER, self._app)

    def put_aside(self, batch: Batch, letters: Sequence[DeadLetter]) -> None:
        """Write the records that were put aside in a batch."""
        if letters:
            self._write(DEAD_LETTERS, batch, [tuple(letter) for letter in letters])

    def record(self, batch: Batch, zero_time: Time) -> None:
        """Write the batch's row."""
        ranges = sorted(
            (part.topic, part.partition, part.fromOffset, part.untilOffset)
            for parts in batch.ranges.values()
            for part in parts
        )
        day = datetime.fromtimestamp(batch.time / 1_000, tz=UTC).strftime("%Y-%m-%d")
        text = json.dumps(ranges, separators=(",", ":"))
        self._write(LEDGER, batch, [(self._app, day, int(batch.time), batch.attempt, int(zero_time), text)])

    def _write(self, table: Table, batch: Batch, rows: Sequence[Row]) -> None:
        report_writes([_write(self._store, table, rows, batch.time, batch.write_timestamp)])

    def close(self) -> None:
        """Let go of the driver's session."""
        self._store.close()
