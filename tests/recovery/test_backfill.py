"""Backfills: a fresh application that runs the batches of another one's ledger gives the same tables, times included."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from operator import add, sub
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, ManualClock, StreamingContext
from engine.batch import Batch, OffsetRange, Time
from engine.dstream.nodes import DeadLetter
from engine.dstream.run import batch_time
from engine.errors import CheckpointError, ConfigurationError, SinkError, SourceError, UserFunctionError
from engine.sources.decoders import json_decoder
from engine.sources.direct import DirectInputDStream, create_direct_stream
from engine.sources.log import LogSource, LogWriter, create_topic
from tests.engine.app import START_MS

TOPIC = "numbers"
Row = tuple[Any, ...]


class Ledger:
    """Keeps what a real one writes: time, zero time and ranges of every batch."""

    def __init__(self) -> None:
        self.zero = Time(0)
        self.is_away = False
        self.batches: dict[int, Mapping[str, Sequence[OffsetRange]]] = {}

    def put_aside(self, batch: Batch, letters: list[DeadLetter]) -> None:
        """Nothing is put aside here."""

    def record(self, batch: Batch, zero_time: Time) -> None:
        """A batch is complete."""
        if self.is_away:
            raise SinkError("the ledger is away")
        self.zero = zero_time
        self.batches[int(batch.time)] = batch.ranges


class Pipeline:
    """One application over the log: totals, and a window whose rows have the batch time in them."""

    def __init__(self, context: LocalContext, folder: Path, name: str, clock: ManualClock) -> None:
        self.ledger = Ledger()
        self.tables: dict[str, dict[Any, Any]] = {"totals": {}, "windows": {}}
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
    assert sum(again.tables["totals"].values()) == sum(first.tables["totals"].values()) + 10
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


@pytest.mark.fault(
    22, "the checkpoint folder lost, or an older copy in its place, where the ledger has more batches"
)
@pytest.mark.parametrize("kept", [4, 0], ids=["older copy", "lost"])
def test_older_folder_is_refused_and_goes_on_with_the_ledgers_batches(
    context: LocalContext, tmp_path: Path, kept: int
) -> None:
    """An older folder than the results, or none, is refused; with the ledger's batches it gives the same tables under the same name."""
    first = original(context, tmp_path)
    listed = sorted(first.ledger.batches.items())
    shutil.rmtree(tmp_path / "first")
    clock = ManualClock(START_MS + 3_600_500)
    older = Pipeline(context, tmp_path, "first", clock)
    older.ssc.backfill(int(first.ledger.zero), listed)
    older.ssc.start(thread=False)
    for _ in range(kept):
        older.ssc.runBatch()
    older.stop()
    if not kept:
        shutil.rmtree(tmp_path / "first")

    def start(given: int) -> Pipeline:
        pipeline = Pipeline(context, tmp_path, "first", clock)
        pipeline.ssc.checkpoint(tmp_path / "first", mustReach=listed[-1][0])
        if given:
            pipeline.ssc.backfill(int(first.ledger.zero), listed[:given])
        pipeline.ssc.start(thread=False)
        return pipeline

    known = f"ends with batch {listed[kept - 1][0]}" if kept else "is missing"
    for too_few in (0, len(listed) - 1):
        with pytest.raises(CheckpointError, match=f"{known}.*, and .* up to batch {listed[-1][0]} "):
            start(too_few)
    again = start(len(listed))
    for _ in listed[kept:]:
        again.ssc.runBatch()
    again.stop()

    assert {**older.ledger.batches, **again.ledger.batches} == first.ledger.batches
    assert again.tables["totals"] == first.tables["totals"]
    assert {**older.tables["windows"], **again.tables["windows"]} == first.tables["windows"]


def test_rows_of_a_batch_that_nobody_knows_stay(context: LocalContext, tmp_path: Path) -> None:
    """Who dies between outputs and ledger and loses the folder leaves that batch's rows by batch time, and no other row is wrong."""
    first = original(context, tmp_path)
    died = START_MS + 22_000
    dying = Pipeline(context, tmp_path, "first", ManualClock(died))
    dying.ledger.is_away = True
    dying.ssc.start(thread=False)
    with pytest.raises(SinkError, match="the ledger is away"):
        dying.ssc.runBatch()
    dying.stop()
    shutil.rmtree(tmp_path / "first")
    again = Pipeline(context, tmp_path, "first", ManualClock(START_MS + 3_600_000))
    again.ssc.checkpoint(tmp_path / "first", mustReach=max(first.ledger.batches))
    again.ssc.backfill(int(first.ledger.zero), first.ledger.batches.items())
    again.ssc.start(thread=False)
    produce(tmp_path, range(500, 510))
    for _ in range(len(first.ledger.batches) + 1):
        again.ssc.runBatch()
    again.stop()

    left = {
        table: {**first.tables[table], **dying.tables[table], **rows} for table, rows in again.tables.items()
    }
    assert left["totals"] == again.tables["totals"]
    stale = left["windows"].keys() - again.tables["windows"].keys()
    assert {time for time, _ in stale} == {died}
    assert all(left["windows"][key] == value for key, value in again.tables["windows"].items())


def test_batches_of_two_applications_are_refused(context: LocalContext, tmp_path: Path) -> None:
    """Two batches of one time, or one of before the zero time, are no batches of one application."""
    pipeline = Pipeline(context, tmp_path, "app", ManualClock(START_MS))
    nothing: dict[str, list[OffsetRange]] = {}
    for times in ([1_000, 1_000], [-1]):
        with pytest.raises(ConfigurationError, match="give each batch of one application once"):
            pipeline.ssc.backfill(0, [(time, nothing) for time in times])
    pipeline.stop()


@pytest.mark.parametrize(("zero", "time"), [(0, 1_500), (500, 1_500), (0, 10)])
def test_times_between_two_batches_are_refused(
    context: LocalContext, tmp_path: Path, zero: int, time: int
) -> None:
    """A time at which no stream would be due is refused, with the interval, and no batch is passed over in silence."""
    pipeline = Pipeline(context, tmp_path, "app", ManualClock(START_MS))
    with pytest.raises(
        ConfigurationError, match=rf"got time {zero or time}, .* interval is 1000 ms; .*batchDuration"
    ):
        pipeline.ssc.backfill(zero, [(2_000, {}), (time, {})])
    pipeline.stop()


def test_batches_since_another_zero_time_are_refused(context: LocalContext, tmp_path: Path) -> None:
    """An application that began by itself refuses batches since another zero time, and goes on without them."""
    first = original(context, tmp_path)
    clock = ManualClock(START_MS + 3_600_500)
    own = Pipeline(context, tmp_path, "own", clock)
    own.ssc.start(thread=False)
    own.ssc.runBatch()
    own.stop()
    mixed = Pipeline(context, tmp_path, "own", clock)
    mixed.ssc.backfill(int(first.ledger.zero), first.ledger.batches.items())
    with pytest.raises(ConfigurationError, match=rf"zero time {START_MS}, .* since {int(own.ledger.zero)}; "):
        mixed.ssc.start(thread=False)
    produce(tmp_path, range(500, 510))
    clock.advance(1_000)
    alone = Pipeline(context, tmp_path, "own", clock)
    alone.ssc.start(thread=False)
    alone.ssc.runBatch()
    alone.stop()

    assert not mixed.ledger.batches
    assert sum(alone.tables["totals"].values()) == sum(first.tables["totals"].values()) + 10


@pytest.mark.parametrize("own", [1, 0], ids=["overlap", "gap"])
def test_ranges_that_do_not_go_on_are_refused(context: LocalContext, tmp_path: Path, own: int) -> None:
    """Ranges that overlap with what an application read by itself, or leave a gap behind it, are refused with both offsets."""
    first = original(context, tmp_path)
    clock = ManualClock(START_MS)
    if own:
        planned = Pipeline(context, tmp_path, "app", clock)
        planned.ssc.start(thread=False)
        clock.advance(1_000)
        planned.ssc.runBatch()
        planned.stop()
    listed = sorted(first.ledger.batches.items())
    mixed = Pipeline(context, tmp_path, "app", clock)
    mixed.ssc.backfill(int(first.ledger.zero), listed if own else [listed[0], *listed[2:]])
    mixed.ssc.start(thread=False)
    if not own:
        mixed.ssc.runBatch()
    at = {part.untilOffset for part in (planned.ledger if own else mixed.ledger).batches[listed[0][0]][TOPIC]}
    wrong = {part.fromOffset for part in listed[1 if own else 2][1][TOPIC]}
    assert max(wrong) < min(at) if own else max(at) < min(wrong)
    with pytest.raises(
        ConfigurationError, match=r"is at offset (\d+), and .* begins at (\d+); give"
    ) as refused:
        mixed.ssc.runBatch()
    mixed.stop()

    assert any(f"offset {a}, " in str(refused.value) for a in at)
    assert len(mixed.ledger.batches) == 1 - own


@pytest.mark.parametrize(
    ("renamed", "words"),
    [
        (
            lambda ranges: {"nombers": ranges},
            "input 'nombers', which this job does not have .there: 'numbers'.",
        ),
        (lambda _ranges: {}, "input 'numbers', which no batch of the backfill has .there: none."),
    ],
)
def test_batches_of_other_inputs_are_refused(
    context: LocalContext, tmp_path: Path, renamed: Callable[[Any], Any], words: str
) -> None:
    """Inputs that only the batches have, or only the job, are refused by name at the start, where all would run empty."""
    pipeline = Pipeline(context, tmp_path, "app", ManualClock(START_MS))
    pipeline.ssc.backfill(0, [(1_000, renamed([OffsetRange(TOPIC, 0, 0, 1)]))])
    with pytest.raises(ConfigurationError, match=words):
        pipeline.ssc.start(thread=False)
    pipeline.stop()

    assert not (tmp_path / "app").exists()


@pytest.mark.fault(31, "the topic is made again between two starts of a backfill, with as many records")
def test_topic_made_again_during_a_backfill_is_refused(context: LocalContext, tmp_path: Path) -> None:
    """A backfill whose topic is another one at its next start, before any batch was planned, runs no batch of it."""
    first = original(context, tmp_path)
    again = Pipeline(context, tmp_path, "again", ManualClock(START_MS))
    again.ssc.backfill(int(first.ledger.zero), first.ledger.batches.items())
    again.ssc.start(thread=False)
    again.ssc.runBatch()
    again.stop()
    shutil.rmtree(tmp_path / "log" / TOPIC)
    create_topic(tmp_path / "log", TOPIC, 2)
    produce(tmp_path, range(1_000, 1_400))
    last = Pipeline(context, tmp_path, "again", ManualClock(START_MS))
    last.ssc.backfill(int(first.ledger.zero), first.ledger.batches.items())
    last.ssc.start(thread=False)
    with pytest.raises(SourceError, match="'numbers' was deleted and made again"):
        last.ssc.runBatch()
    last.stop()

    assert (len(again.ledger.batches), len(last.ledger.batches)) == (1, 0)


def test_gap_that_the_log_explains_is_passed_over(context: LocalContext, tmp_path: Path) -> None:
    """Where loss is allowed, ranges may begin behind what is gone from the log; other gaps and overlaps are refused there too."""
    create_topic(tmp_path / "log", TOPIC, 1)
    with LogWriter(tmp_path / "log", TOPIC, 0, segment_bytes=1) as writer:
        for count in (6, 3):
            writer.append([(START_MS, None, b"1")] * count)
    pipeline = Pipeline(context, tmp_path, "app", ManualClock(START_MS))
    (stream,) = pipeline.ssc.graph.inputs
    assert isinstance(stream, DirectInputDStream)
    stream.resume([OffsetRange(TOPIC, 0, 0, 4)])

    def refuses(begin: int, *, fails_on_loss: bool) -> bool:
        stream.fails_on_loss = fails_on_loss
        given = (OffsetRange(TOPIC, 0, begin, 9),)
        try:
            return stream.accept(given) != given
        except ConfigurationError as error:
            return f"is at offset 4, and the next batch given begins at {begin};" in str(error)

    assert refuses(6, fails_on_loss=False)
    min((tmp_path / "log" / TOPIC / "0").iterdir()).unlink()
    assert stream._source.bounds() == {(TOPIC, 0): (6, 9)}
    told = [refuses(begin, fails_on_loss=False) for begin in (3, 4, 5, 6, 7)]
    assert told == [True, False, False, False, True]
    assert refuses(6, fails_on_loss=True)
    pipeline.stop()
