"""Backfills: a fresh application that runs the batches of another one's ledger gives the same tables, times included."""

from collections.abc import Iterator, Mapping, Sequence
from operator import add, sub
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, ManualClock, StreamingContext
from engine.batch import Batch, OffsetRange, Time
from engine.dstream.nodes import DeadLetter
from engine.dstream.run import batch_time
from engine.errors import ConfigurationError, UserFunctionError
from engine.sources.decoders import json_decoder
from engine.sources.direct import create_direct_stream
from engine.sources.log import LogSource, LogWriter, create_topic
from tests.engine.app import START_MS

TOPIC = "numbers"
Row = tuple[Any, ...]


@pytest.fixture(scope="module", name="context")
def one_context() -> Iterator[LocalContext]:
    """The driver's own process."""
    with LocalContext("local", "test") as made:
        yield made


class Ledger:
    """Keeps what a real one writes: time, zero time and ranges of every batch."""

    def __init__(self) -> None:
        self.zero = Time(0)
        self.batches: dict[int, Mapping[str, Sequence[OffsetRange]]] = {}

    def put_aside(self, batch: Batch, letters: list[DeadLetter]) -> None:
        """Nothing is put aside here."""

    def record(self, batch: Batch, zero_time: Time) -> None:
        """A batch is complete."""
        self.zero = zero_time
        self.batches[int(batch.time)] = batch.ranges


class Pipeline:
    """One application over the log: totals, and a window whose rows have the batch time in them."""

    def __init__(self, context: LocalContext, folder: Path, name: str, clock: ManualClock) -> None:
        self.ledger, self.tables = Ledger(), {"totals": dict[Row, Row](), "windows": dict[Row, Row]()}
        self.seen: list[int] = []
        self.fails_at = 0
        self.ssc = StreamingContext(context, 1.0, clock=clock)
        self.ssc.checkpoint(folder / name)
        self.ssc.recordBatches(self.ledger)
        source = LogSource(folder / "log", [TOPIC])
        numbers = create_direct_stream(
            self.ssc, source, name=TOPIC, decoder=json_decoder(int), reset="earliest"
        )
        pairs = numbers.map(lambda n: (n % 5, 1))
        totals = pairs.updateStateByKey(lambda new, old: sum(new) + (old or 0), name="totals")
        totals.foreachRDD(lambda rdd: self.keep("totals", rdd.collect()))
        windows = pairs.reduceByKeyAndWindow(add, sub, 3, 2, name="windows")
        windows.map(lambda pair: ((int(batch_time()), pair[0]), pair[1])).foreachRDD(
            lambda rdd: self.keep("windows", rdd.collect())
        )

    def keep(self, table: str, rows: list[tuple[Any, Any]]) -> None:
        """Write rows by their keys."""
        if self.fails_at and len(self.seen) >= self.fails_at:
            raise RuntimeError("killed")
        self.seen += [1] if table == "totals" else []
        self.tables[table].update(rows)

    def stop(self) -> None:
        """Let it go."""
        self.ssc.stop(stopSparkContext=False)


def produce(folder: Path, numbers: range) -> None:
    """Append numbers to both partitions."""
    for partition in range(2):
        with LogWriter(folder / "log", TOPIC, partition) as writer:
            writer.append([(START_MS, None, str(n).encode()) for n in numbers if n % 2 == partition])


def original(context: LocalContext, folder: Path) -> Pipeline:
    """An application that ran regularly, late, and behind."""
    create_topic(folder / "log", TOPIC, 2)
    clock = ManualClock(START_MS)
    pipeline = Pipeline(context, folder, "first", clock)
    pipeline.ssc.start(thread=False)
    begin = 0
    for number, seconds in enumerate([1, 1, 4, 1, 2, 1, 1, 7, 1, 1]):
        produce(folder, range(begin, begin := begin + 10 + 3 * number))
        clock.advance(seconds * 1_000)
        pipeline.ssc.runBatch()
    pipeline.stop()
    return pipeline


def test_backfill_gives_the_tables_of_the_ledgers_batches(context: LocalContext, tmp_path: Path) -> None:
    """A fresh application gives other windows by itself, and with the ledger's batches the same, and goes on after them."""
    first = original(context, tmp_path)
    clock = ManualClock(START_MS + 3_600_500)
    alone = Pipeline(context, tmp_path, "alone", clock)
    alone.ssc.start(thread=False)
    alone.ssc.runBatch()
    alone.stop()
    again = Pipeline(context, tmp_path, "again", clock)
    again.ssc.backfill(int(first.ledger.zero), first.ledger.batches.items())
    again.ssc.start(thread=False)
    for _ in first.ledger.batches:
        again.ssc.runBatch()

    assert alone.tables["totals"] == again.tables["totals"] == first.tables["totals"]
    assert alone.tables["windows"] != first.tables["windows"]
    assert again.tables["windows"] == first.tables["windows"]
    assert (again.ledger.zero, again.ledger.batches) == (first.ledger.zero, first.ledger.batches)
    produce(tmp_path, range(500, 510))
    clock.advance(1_000)
    again.ssc.runBatch()
    again.stop()
    assert sum(again.tables["totals"].values()) == sum(first.tables["totals"].values()) + 10  # type: ignore[arg-type]
    assert max(again.ledger.batches) == START_MS + 3_601_000


def test_backfill_goes_on_where_it_was_killed(context: LocalContext, tmp_path: Path) -> None:
    """A backfill that was stopped in the middle of a batch runs that batch and those after it, each once."""
    first = original(context, tmp_path)
    clock = ManualClock(START_MS + 3_600_500)
    again = Pipeline(context, tmp_path, "again", clock)
    again.ssc.backfill(int(first.ledger.zero), first.ledger.batches.items())
    again.fails_at = 4
    again.ssc.start(thread=False)
    for _ in range(4):
        again.ssc.runBatch()
    with pytest.raises(UserFunctionError, match="killed"):
        again.ssc.runBatch()
    assert len(again.ledger.batches) == 4
    last = Pipeline(context, tmp_path, "again", clock)
    last.ssc.backfill(int(first.ledger.zero), first.ledger.batches.items())
    last.ssc.start(thread=False)
    for _ in range(len(first.ledger.batches) - 5):
        last.ssc.runBatch()
    last.stop()

    assert {**again.ledger.batches, **last.ledger.batches} == first.ledger.batches
    assert set(again.ledger.batches).isdisjoint(last.ledger.batches)
    assert {**again.tables["windows"], **last.tables["windows"]} == first.tables["windows"]
    assert last.tables["totals"] == first.tables["totals"]


def test_batches_of_two_applications_are_refused(context: LocalContext, tmp_path: Path) -> None:
    """Two batches of one time, or one of before the zero time, are no batches of one application."""
    pipeline = Pipeline(context, tmp_path, "app", ManualClock(START_MS))
    nothing: dict[str, list[OffsetRange]] = {}
    for times in ([1_000, 1_000], [-1]):
        with pytest.raises(ConfigurationError, match="give each batch of one application once"):
            pipeline.ssc.backfill(0, [(time, nothing) for time in times])
    pipeline.stop()
