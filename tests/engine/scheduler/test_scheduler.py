"""The way of a batch: what happens in which order, who is told, and how it ends."""

import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, ManualClock, StreamingContext, StreamingListener
from engine.batch import Batch, BatchInfo, OffsetRange, Time
from engine.dstream.dstream import DStream
from engine.dstream.nodes import DeadLetter, InputDStream
from engine.errors import LifecycleError, SinkError, SourceError, UserFunctionError
from engine.rdd.api import RDD, Executors
from engine.scheduler.events import PURGE_STAGES, RUN_STAGES
from tests.engine.app import START_MS, App, CrashError


class Told(StreamingListener):
    """Notes every event."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.infos: list[BatchInfo] = []
        self.keys: dict[str, int] = {}

    def onStreamingStarted(self, streamingStarted: Any) -> None:
        """Note it."""
        self.events.append(f"started {streamingStarted.time}")

    def onBatchSubmitted(self, batchSubmitted: Any) -> None:
        """Note it."""
        self.events.append(f"submitted {batchSubmitted.batch.time - START_MS}")

    def onBatchStarted(self, batchStarted: Any) -> None:
        """Note it."""
        self.events.append(f"run {batchStarted.batch.attempt}")

    def onOutputOperationCompleted(self, outputOperationCompleted: Any) -> None:
        """Note it."""
        self.events.append(f"output {outputOperationCompleted.output.name}")

    def onBatchCompleted(self, batchCompleted: Any) -> None:
        """Note it."""
        self.events.append("completed")
        self.infos.append(batchCompleted.batchInfo)
        self.keys = {operator: state.keys for operator, state in batchCompleted.state.items()}

    def onBatchFailed(self, batchFailed: Any) -> None:
        """Note it."""
        self.events.append(f"failed {type(batchFailed.error).__name__}")


class Ledger:
    """A ledger in memory."""

    def __init__(self, told: Told) -> None:
        self.rows: list[tuple[Batch, Time]] = []
        self.error: BaseException | None = None
        self._told = told

    def put_aside(self, batch: Batch, letters: list[DeadLetter]) -> None:
        """Queues have no dead letters."""
        assert letters == []

    def record(self, batch: Batch, zero_time: Time) -> None:
        """Keep the row, or fail."""
        self._told.events.append("ledger")
        if self.error:
            raise self.error
        self.rows.append((batch, zero_time))


def job_with(told: Told, ledger: Ledger) -> Any:
    """Two outputs, state, a listener and a ledger."""

    def job(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        ssc.addStreamingListener(told)
        ssc.recordBatches(ledger)
        app.collect(
            stream.updateStateByKey(lambda values, state: sum(values) + (state or 0), name="totals"), "one"
        )
        app.collect(stream.window(2, 2), "two")

    return job


def test_batch_goes_its_way_in_order(context: LocalContext, tmp_path: Path) -> None:
    """A batch is submitted, run, each due output acknowledged, written to the ledger, and then completed."""
    told = Told()
    ledger = Ledger(told)
    with App(context, tmp_path, job_with(told, ledger), [[("a", 1)], [("b", 2), ("a", 3)]]) as app:
        app.run(2)

    assert told.events == [
        f"started {START_MS}",
        "submitted 1000",
        "run 0",
        "output collect one",
        "ledger",
        "completed",
        "submitted 2000",
        "run 0",
        "output collect one",
        "output collect two",
        "ledger",
        "completed",
    ]
    assert told.keys == {"totals": 2}
    assert [row[1] for row in ledger.rows] == [START_MS, START_MS]
    assert ledger.rows[1][0].ranges == {"queue": (OffsetRange("queue", 0, 1, 3),)}


def test_infos_tell_delays_and_records(context: LocalContext, tmp_path: Path) -> None:
    """A completed batch tells its records, its outputs and the delays since it was due."""
    told = Told()
    with App(context, tmp_path, job_with(told, Ledger(told)), [[("a", 1)]]) as app:
        app.clock.advance(250)
        app.run()
    (info,) = told.infos

    assert (info.numRecords, info.batchTime, info.schedulingDelay) == (1, START_MS + 1_000, 250)
    assert info.totalDelay == info.schedulingDelay + info.processingDelay
    assert [output.name for output in info.outputs] == ["collect one"]


def test_batch_is_committed_after_the_ledger_only(context: LocalContext, tmp_path: Path) -> None:
    """A batch whose ledger row was refused is not committed, and runs again as the next attempt with the same ranges."""
    told = Told()
    ledger = Ledger(told)
    ledger.error = SinkError("refused")
    with App(context, tmp_path, job_with(told, ledger), [[("a", 1)], [("a", 2)]]) as app:
        with pytest.raises(SinkError):
            app.run()
        ledger.error = None
        app.crash()

    (row,) = ledger.rows
    assert (row[0].time, row[0].attempt) == (START_MS + 1_000, 1)
    assert row[0].ranges == {"queue": (OffsetRange("queue", 0, 0, 1),)}
    assert app.out["one"] == [[("a", 1)], [("a", 1)]]


def test_attempts_count_over_restarts(context: LocalContext, tmp_path: Path) -> None:
    """Each run of a batch is the next attempt, also in the next process, and its write timestamp is newer."""
    told = Told()
    ledger = Ledger(told)
    ledger.error = SinkError("refused")
    with App(context, tmp_path, job_with(told, ledger), [[("a", 1)]]) as app:
        with pytest.raises(SinkError):
            app.run()
        for _ in range(3):
            with pytest.raises(SinkError):
                app.crash()
        ledger.error = None
        app.start()

    assert [event for event in told.events if event.startswith("run")] == [f"run {n}" for n in range(5)]
    assert ledger.rows[0][0].write_timestamp == (START_MS + 1_000) * 1_000 + 4


class Whole(StreamingListener):
    """Keeps every event whole, with the name of its method."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def __getattribute__(self, name: str) -> Any:
        return partial(self._keep, name) if name.startswith("on") else super().__getattribute__(name)

    def _keep(self, name: str, event: Any) -> None:
        self.events.append((name, event))

    def of(self, name: str) -> list[Any]:
        """The events of one method."""
        return [event for method, event in self.events if method == name]


def test_every_event_of_a_batch_is_told_in_order(context: LocalContext, tmp_path: Path) -> None:
    """From the start to the purge each step is told once, with stages and state, and with tasks where the executors are the engine's."""
    told = Whole()

    def job(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        ssc.addStreamingListener(told)
        app.collect(
            stream.updateStateByKey(lambda values, state: sum(values) + (state or 0), name="totals"), "all"
        )

    with App(context, tmp_path, job, [[("a", 1), ("b", 1)]]) as app:
        app.run()
    start, completed, purged = (
        told.of(f"on{name}")[0] for name in ("StreamingStarted", "BatchCompleted", "VolumePurged")
    )

    assert [name.removeprefix("on") for name, _ in told.events] == [
        *("StreamingStarted", "BatchSubmitted", "BatchStarted", "OutputOperationStarted"),
        *("OutputOperationCompleted", "BatchCompleted", "VolumePurged"),
    ]
    assert (start.app, start.batch_interval, start.epoch, start.committed) == ("test", 1_000, 1, None)
    assert (start.operators, [output.name for output in start.outputs]) == (("totals",), ["collect all"])
    assert tuple(completed.stage_seconds) == RUN_STAGES
    assert (completed.state["totals"].keys, completed.state["totals"].updated) == (2, 2)
    assert (completed.tasks.get("completed", 0) > 0) == isinstance(context, Executors)
    assert tuple(purged.stage_seconds) == PURGE_STAGES
    assert purged.batchTime == START_MS + 1_000


def test_failed_run_tells_its_stage(context: LocalContext, tmp_path: Path) -> None:
    """A run that ends with an error tells in which stage, and its next run in a new process has no plan."""
    told = Whole()
    ledger = Ledger(Told())
    ledger.error = SinkError("refused")

    def job(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        ssc.addStreamingListener(told)
        ssc.recordBatches(ledger)
        app.collect(stream, "all")

    with App(context, tmp_path, job, [[1]]) as app:
        with pytest.raises(SinkError):
            app.run()
        ledger.error = None
        app.crash()
    (failed,), (completed,) = told.of("onBatchFailed"), told.of("onBatchCompleted")

    assert (failed.stage, failed.batch.attempt) == ("ledger", 0)
    assert tuple(completed.stage_seconds) == RUN_STAGES[1:]
    assert told.of("onStreamingStarted")[1].epoch == 2


def test_failed_batch_ends_the_stream(context: LocalContext, tmp_path: Path) -> None:
    """After a failed batch no later one runs, which would take over its records at another time."""
    told = Told()
    with App(context, tmp_path, job_with(told, Ledger(told)), [[("a", 1)], [("a", 2)]]) as app:
        app.crash_in = "one"
        with pytest.raises(UserFunctionError) as caught:
            app.run()
        with pytest.raises(LifecycleError, match="the stream has ended with an error"):
            app.run()

    assert isinstance(caught.value.__cause__, CrashError)
    assert told.events[-1] == "failed UserFunctionError"


def test_listener_that_raises_stops_nothing(
    context: LocalContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A listener that raises is logged by its name and method, and the others are told."""

    class Bad(StreamingListener):
        def onBatchCompleted(self, batchCompleted: Any) -> None:
            """Raise."""
            raise RuntimeError("bad listener")

    told = Told()

    def job(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        ssc.addStreamingListener(Bad())
        ssc.addStreamingListener(told)
        app.collect(stream, "all")

    with App(context, tmp_path, job, [[1], [2]]) as app:
        app.run(2)

    assert app.out["all"] == [[1], [2]]
    assert told.events.count("completed") == 2
    assert "listener Bad failed in onBatchCompleted" in caplog.text


@pytest.mark.fault(43, "seven intervals missed, by an injected clock")
def test_catch_up_batch_takes_all_that_waits_at_one_time(context: LocalContext, tmp_path: Path) -> None:
    """Behind schedule, one batch at the newest due time takes the records, and a window sees that time only."""
    told = Told()

    def job(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        ssc.addStreamingListener(told)
        app.collect(stream.window(2, 1), "windows")

    with App(context, tmp_path, job, [[1], [2], [3]], every_interval=False) as app:
        app.run()
        app.clock.advance(7_000)
        app.run().run()

    assert [event for event in told.events if event.startswith("submitted")] == [
        "submitted 1000",
        "submitted 9000",
        "submitted 10000",
    ]
    assert app.out["windows"] == [[1], [2], [2, 3]]


def test_input_that_is_new_after_an_upgrade_starts_fresh(context: LocalContext, tmp_path: Path) -> None:
    """An input that a new version of the job adds begins at its own start, while the known one goes on."""
    versions = iter([1, 2])

    def job(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream, "known")
        if next(versions) == 2:
            app.collect(ssc.queueStream([["new"], ["newer"]]), "added")

    with App(context, tmp_path, job, [[1], [2], [3]]) as app:
        app.run(2).crash().run()

    assert app.out == {"known": [[1], [2], [3]], "added": [["new"]]}


@pytest.mark.slow
def test_thread_runs_batches_as_they_are_due(local_two: LocalContext, tmp_path: Path) -> None:
    """A started context runs a batch at each interval of its clock by itself until it is stopped."""
    done: list[datetime] = []
    ran = threading.Semaphore(0)
    clock = ManualClock(START_MS)
    ssc = StreamingContext(local_two, 1.0, clock=clock)
    ssc.checkpoint(tmp_path)

    def output(time: datetime, _rdd: Any) -> None:
        done.append(time)
        ran.release()

    ssc.queueStream([[1], [2]]).foreachRDD(output)
    ssc.start()
    try:
        assert not ran.acquire(timeout=0.05)
        for _ in range(3):
            clock.advance(1_000)
            assert ran.acquire(timeout=10)
        assert not ssc.awaitTerminationOrTimeout(0.01)
    finally:
        ssc.stop(stopSparkContext=False)

    assert ssc.awaitTerminationOrTimeout(1)
    assert [time.astimezone(UTC).timestamp() for time in done] == [START_MS / 1_000 + n for n in (1, 2, 3)]


@pytest.mark.fault(
    27, "an injected wall clock set an hour back under batches that take most of their interval"
)
def test_batches_begin_one_interval_apart_under_a_clock_that_was_set_back(tmp_path: Path) -> None:
    """With a wall clock an hour behind the last batch the wait for the next one is an interval less what the last one took."""

    class Waits(ManualClock):
        """Notes how long it is asked to wait, and goes on by that."""

        def wait(self, event: threading.Event, seconds: float) -> bool:
            """Note it."""
            waits.append(seconds)
            self.advance(round(seconds * 1_000))
            return event.is_set() or len(waits) > 4

    def output(time: datetime, _rdd: Any) -> None:
        done.append(round(time.timestamp() * 1_000) - START_MS)
        clock.advance(700)
        if len(done) == 2:
            clock.jump(-3_600_000)

    waits: list[float] = []
    done: list[int] = []
    clock = Waits(START_MS)
    with LocalContext("local", "test") as context:
        ssc = StreamingContext(context, 1.0, clock=clock)
        ssc.checkpoint(tmp_path)
        ssc.queueStream([[n] for n in range(5)]).foreachRDD(output)
        ssc.start()
        assert ssc.awaitTerminationOrTimeout(20)
        ssc.stop()

    assert done == [1_000, 2_000, 3_000, 4_000]
    assert waits == [1.0, 0.3, 0.3, 0.3, 0.3]


@pytest.mark.slow
def test_error_reaches_whoever_awaits(local_two: LocalContext) -> None:
    """What ended the thread is raised by every call that awaits the end."""
    clock = ManualClock(START_MS)
    ssc = StreamingContext(local_two, 1.0, clock=clock)
    ssc.queueStream([[0]]).map(lambda n: 1 // n).foreachRDD(lambda rdd: rdd.collect())
    ssc.start()
    try:
        clock.advance(1_000)
        for _ in range(2):
            with pytest.raises(UserFunctionError, match="ZeroDivisionError"):
                ssc.awaitTermination(10)
    finally:
        ssc.stop(stopSparkContext=False)


def test_exit_reaches_whoever_awaits(context: LocalContext) -> None:
    """A SystemExit in a batch ends the stream as any error does: awaits raise it, and listeners hear that the batch failed."""
    told = Told()
    ledger = Ledger(told)
    ledger.error = SystemExit(3)
    clock = ManualClock(START_MS)
    ssc = StreamingContext(context, 1.0, clock=clock)
    ssc.addStreamingListener(told)
    ssc.recordBatches(ledger)
    ssc.queueStream([[1]]).foreachRDD(lambda rdd: rdd.count())
    ssc.start()
    try:
        clock.advance(1_000)
        with pytest.raises(SystemExit, match="3"):
            ssc.awaitTermination(20)
    finally:
        ssc.stop(stopSparkContext=False)

    assert told.events[-1] == "failed SystemExit"


class _Held(InputDStream):
    """Plans when it is closed, and not before; `fails` as a client does that is closed under a call."""

    def __init__(self, ssc: StreamingContext, *, fails: bool) -> None:
        super().__init__(ssc.graph, [], ssc.graph.batch_duration, "held")
        self.planning, self._closed = threading.Event(), threading.Event()
        self._fails = fails

    def plan(self, time: Time) -> tuple[OffsetRange, ...]:
        """One record."""
        self.planning.set()
        assert self._closed.wait(20)
        if self._fails:
            raise SourceError(f"the client is closed at {time!r}")
        return (OffsetRange("held", 0, 0, 1),)

    def range_rdd(self, batch: Batch, ranges: Sequence[OffsetRange]) -> RDD[Any]:
        """The record."""
        return self.scope.context.parallelize([batch.time, *ranges], 1)

    def close(self) -> None:
        """Let the plan end."""
        self._closed.set()


@pytest.mark.parametrize("fails", [False, True])
def test_plan_that_a_stop_cuts_off_begins_no_batch(
    context: LocalContext, tmp_path: Path, fails: bool
) -> None:
    """A stop closes the inputs under a plan: whether it fails or gives ranges all the same, no batch runs, and there is no error."""
    told = Told()
    clock = ManualClock(START_MS)
    ssc = StreamingContext(context, 1.0, clock=clock)
    ssc.checkpoint(tmp_path)
    ssc.addStreamingListener(told)
    held = _Held(ssc, fails=fails)
    DStream(held).foreachRDD(lambda rdd: rdd.count())
    ssc.start()
    clock.advance(1_000)
    assert held.planning.wait(20)
    ssc.stop(stopSparkContext=False)

    assert ssc.awaitTerminationOrTimeout(0)
    assert told.events == [f"started {START_MS}"]


def test_batch_cannot_stop_its_own_context(
    context: LocalContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stop() out of an output ends the batch with a sentence; one out of a listener is logged, and the batch stays committed."""

    class Stops(StreamingListener):
        def __init__(self, ssc: StreamingContext) -> None:
            self._ssc = ssc

        def onBatchCompleted(self, batchCompleted: Any) -> None:
            """Stop."""
            self._ssc.stop()

    def job(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        ssc.addStreamingListener(Stops(ssc))
        app.collect(stream, "all")
        stream.foreachRDD(lambda rdd: ssc.stop() if rdd.first() == 2 else None)

    with App(context, tmp_path, job, [[1], [2]]) as app:
        with caplog.at_level(logging.ERROR):
            app.run()
        assert "Cannot stop StreamingContext within listener bus thread." in caplog.text
        with pytest.raises(LifecycleError, match="a batch cannot stop the context that runs it"):
            app.run()
