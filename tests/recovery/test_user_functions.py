"""What a user's function does to a batch: it raises, hangs, leaks, exits, and the policy decides what becomes of it."""

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from operator import add, sub
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, ManualClock, Retry, StateSpec, StreamingContext, StreamingListener
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError, ExecutorLostError, TaskTimeoutError, UserFunctionError
from engine.monitoring.metrics import PrometheusListener
from engine.scheduler import events
from engine.sinks.output import TableOutput
from tests.engine.app import START_MS, App
from tests.engine.children import runs
from tests.engine.sinks.stores import TOTALS as TOTALS_TABLE
from tests.engine.sinks.stores import SQLiteWorld
from tests.recovery.functions import Flaky, Leaking, hang, hold, total

TOTALS = [[("a", 1)], [("a", 3)], [("a", 6)]]
LIMIT_SECONDS = 1.0
BATCHES = [[("a", n)] for n in (1, 2, 3)]


@pytest.fixture(scope="module", params=["local", "local[2]"])
def context(request: pytest.FixtureRequest) -> Iterator[LocalContext]:
    """Tasks in this process, and over two others."""
    with LocalContext(request.param, "test") as made:
        yield made


class Told(StreamingListener):
    """Notes how outputs and batches went."""

    def __init__(self) -> None:
        self.outputs: list[tuple[str | None, bool]] = []
        """Of each run of an output why it failed, and whether it was retried."""
        self.failed: list[BaseException] = []
        self.attempts: list[int] = []
        """Of the committed batches."""

    def onOutputOperationCompleted(
        self, outputOperationCompleted: events.StreamingListenerOutputOperationCompleted
    ) -> None:
        """Note it."""
        output = outputOperationCompleted.output
        self.outputs.append((output.failureReason, output.isRetried))

    def onBatchFailed(self, batchFailed: events.StreamingListenerBatchFailed) -> None:
        """Note it."""
        self.failed.append(batchFailed.error)

    def onBatchCompleted(self, batchCompleted: events.StreamingListenerBatchCompleted) -> None:
        """Note it."""
        self.attempts.append(batchCompleted.batchInfo.batch.attempt)


class Failing:
    """An output that fails so many times, and then keeps what it sees."""

    def __init__(self, failures: int) -> None:
        self.left = failures
        self.seen: list[list[Any]] = []

    def __call__(self, rdd: Any) -> None:
        """Fail, or keep the elements."""
        elements = sorted(rdd.collect())
        if self.left:
            self.left -= 1
            raise ConnectionError("the service is away")
        self.seen.append(elements)


def with_output(told: StreamingListener, output: Callable[[Any], object], policy: Any) -> Any:
    """A job with state before the output, and another output behind it."""

    def job(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        ssc.addStreamingListener(told)
        totals = stream.updateStateByKey(total, name="totals")
        totals.foreachRDD(output, name="fragile", onFailure=policy)
        app.collect(totals, "totals")

    return job


@pytest.mark.fault(46, "an output raises twice, and its policy is Retry(3)")
def test_output_runs_again_in_place(context: LocalContext, tmp_path: Path) -> None:
    """An output that fails less often than its policy retries gets the same elements again, in the same attempt of its batch."""
    told, output = Told(), Failing(2)
    with App(context, tmp_path, with_output(told, output, Retry(3, backoff=0)), BATCHES) as app:
        app.run(3)

    assert output.left == 0
    assert output.seen == app.out["totals"] == TOTALS
    assert [is_retried for reason, is_retried in told.outputs if reason] == [True, True]
    assert told.attempts == [0, 0, 0]
    assert told.failed == []


@pytest.mark.fault(46, "an output raises more often than Retry(2) allows")
def test_output_stops_when_its_retries_are_used_up(context: LocalContext, tmp_path: Path) -> None:
    """An output that fails once more than its policy retries stops the stream, and the next start runs its batch."""
    told, output = Told(), Failing(3)
    metrics = PrometheusListener()
    with App(context, tmp_path, with_output(told, output, Retry(2, backoff=0)), BATCHES) as app:
        app.ssc.addStreamingListener(metrics)
        with pytest.raises(UserFunctionError, match=r"output 'fragile', batch \d+: .*the service is away"):
            app.run()
        assert output.left == 0
        app.crash().run(2)

    assert [is_retried for reason, is_retried in told.outputs if reason] == [True, True, False]
    labels = {"job": "", "output": "fragile"}
    assert metrics.value("engine_output_failures_total", **labels, outcome="retried") == 2
    assert metrics.value("engine_output_failures_total", **labels, outcome="stopped") == 1
    assert output.seen == app.out["totals"] == TOTALS
    assert told.attempts == [1, 0, 0]


def test_output_stops_at_once_without_a_policy(context: LocalContext, tmp_path: Path) -> None:
    """An output without a policy is not tried again."""
    told, output = Told(), Failing(1)
    with (
        App(context, tmp_path, with_output(told, output, "stop"), BATCHES) as app,
        pytest.raises(UserFunctionError, match="the service is away"),
    ):
        app.run()

    assert [is_retried for reason, is_retried in told.outputs if reason] == [False]


@pytest.mark.parametrize(
    "policy",
    ["go on", None, 3, lambda: Retry(-1), lambda: Retry(2, backoff=-1), lambda: Retry(1.5)],  # type: ignore[arg-type]  # what is refused
)
def test_unknown_policies_are_refused(policy: Any) -> None:
    """A policy that is none, and a Retry of numbers that cannot be, are refused by value."""
    with LocalContext("local", "test") as context:
        stream = StreamingContext(context, 1.0).queueStream([])
        with pytest.raises(ConfigurationError, match=r"onFailure is|of Retry is"):
            stream.foreachRDD(print, onFailure=policy() if callable(policy) else policy)


# State.


def flaky_state(
    kind: str, flaky: Flaky, told: Told, output: Failing, policies: list[Any], seen: list[Any]
) -> Any:
    """A job whose state raises, with an output for each policy, and one of the input that has none; `seen` is what the latter got."""

    def job(ssc: StreamingContext, stream: DStream[Any], _app: App) -> None:
        ssc.addStreamingListener(told)
        before = stream.updateStateByKey(total, name="before")
        if kind == "update":
            totals = stream.updateStateByKey(flaky.update, name="totals")
        else:
            totals = stream.mapWithState(StateSpec.function(flaky.map)).map(lambda number: ("a", number))
        for number, policy in enumerate(policies):
            totals.union(before).foreachRDD(output, name=f"output {number}", onFailure=policy)
        stream.foreachRDD(lambda rdd: seen.append(rdd.collect()))

    return job


@pytest.mark.fault(46, "a function of a state raises twice, and the policy of its output is Retry(3)")
@pytest.mark.parametrize("kind", ["update", "map"])
def test_state_runs_again_in_place(context: LocalContext, tmp_path: Path, kind: str) -> None:
    """A state whose function raises less often than its output's policy retries is computed again, in the same attempt, and exact."""
    told, output, seen = Told(), Failing(0), []
    flaky = Flaky(tmp_path, 2)
    job = flaky_state(kind, flaky, told, output, [Retry(3, backoff=0), Retry(2, backoff=0)], seen)
    batches = [[("a", n)] for n in (1, 3, 2)]
    with App(context, tmp_path / "checkpoints", job, batches) as app:
        app.run(3)

    assert flaky.left() == 0
    # What another state has done before it failed is not done twice.
    assert output.seen == [[("a", n), ("a", n)] for n in (1, 1, 4, 4, 6, 6)]
    assert seen == batches
    assert told.attempts == [0, 0, 0]
    assert told.failed == []


@pytest.mark.fault(
    46, "the function of a window, or its inverse, raises when some keys are done, and the output retries"
)
@pytest.mark.parametrize("fails", ["add", "subtract"])
@pytest.mark.parametrize("has_state", [False, True])
def test_window_that_breaks_off_runs_again_from_its_parts(
    context: LocalContext, tmp_path: Path, fails: str, *, has_state: bool
) -> None:
    """A running window whose function raises half way is made anew, for an output and for a state behind it, and its sums are exact."""
    flaky, output = Flaky(tmp_path, 1), Failing(0)
    keys = "abcdefgh"
    batches = [
        [(key, 3 if key == "h" and number == 2 else number + 4) for key in keys] for number in range(5)
    ]

    def job(_ssc: StreamingContext, stream: DStream[Any], _app: App) -> None:
        functions = (flaky.add, sub) if fails == "add" else (add, flaky.subtract)
        sums = stream.reduceByKeyAndWindow(*functions, 2, 1, numPartitions=1, name="sums")
        seen = sums.updateStateByKey(total, name="totals") if has_state else sums
        seen.foreachRDD(output, onFailure=Retry(1, backoff=0))

    with App(context, tmp_path / "checkpoints", job, batches) as app:
        app.run(5)

    assert flaky.left() == 0
    parts = [dict(batch) for batch in batches]
    windows = [
        {key: sum(part[key] for part in parts[max(0, n - 1) : n + 1]) for key in keys} for n in range(5)
    ]
    totals = [{key: sum(window[key] for window in windows[: n + 1]) for key in keys} for n in range(5)]
    assert [dict(rows) for rows in output.seen] == (totals if has_state else windows)


@pytest.mark.fault(46, "a function of a state raises, and one of its outputs has no policy")
@pytest.mark.parametrize("policies", [[Retry(3, backoff=0), "stop"], [Retry(1, backoff=0)]])
def test_state_stops_with_its_least_patient_output(
    context: LocalContext, tmp_path: Path, policies: list[Any]
) -> None:
    """A state that fails more often than the least patient of its outputs allows stops the stream, and the next start runs its batch."""
    told, output = Told(), Failing(0)
    flaky = Flaky(tmp_path, 2)
    job = flaky_state("update", flaky, told, output, policies, [])
    with App(context, tmp_path / "checkpoints", job, [[("a", 1)], [("a", 3)]]) as app:
        app.run()
        with pytest.raises(UserFunctionError, match=r"operator 'totals', batch \d+: .*the service is away"):
            app.run()
        left = flaky.left()
        while flaky.take():  # the service is back
            pass
        app.crash()

    assert left == (1 if "stop" in policies else 0)
    assert output.seen[-1] == [("a", 4), ("a", 4)]
    assert told.attempts == [0, 1]


# Tasks.


def job_of(told: StreamingListener, function: Callable[[Any], Any]) -> Any:
    """A job with state of what the function gives."""

    def job(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        ssc.addStreamingListener(told)
        app.collect(stream.map(function).updateStateByKey(total, name="totals"), "totals")

    return job


@pytest.mark.slow
@pytest.mark.fault(
    46,
    "a function never returns, in Python and in C, with taskTimeout: function and line named, not the record",
)
@pytest.mark.parametrize("function", [hang, hold])
def test_function_that_hangs_is_ended_and_named(
    tmp_path: Path, function: Callable[[tuple[str, int]], tuple[str, int]]
) -> None:
    """A task over its time costs its executor the life and the stream its run, the function is named, and a new start goes on."""
    told = Told()
    with LocalContext("local[1]", "test", taskTimeout=LIMIT_SECONDS) as context:
        (before,) = context.executor_pids
        with App(context, tmp_path, job_of(told, function), BATCHES) as app:
            app.run()
            began = time.monotonic()
            with pytest.raises(
                TaskTimeoutError, match=rf"taskTimeout.* line \d+ in {function.__name__}; it was killed"
            ):
                app.run()
            took = time.monotonic() - began
            assert not runs(before)
            assert context.executor_pids != [before]
        with App(context, tmp_path, job_of(told, tuple), BATCHES) as app:
            app.run()

    assert LIMIT_SECONDS <= took < 10 * LIMIT_SECONDS
    assert [type(error) for error in told.failed] == [TaskTimeoutError]
    assert app.out["totals"] == TOTALS[1:]


@pytest.mark.slow
def test_tasks_within_their_time_are_left_alone(tmp_path: Path) -> None:
    """A context with a limit gives what one without gives, and its first stage may wait for the executors to be up."""
    with LocalContext("local[2]", "test", taskTimeout=5) as context:
        before = context.executor_pids
        with App(context, tmp_path, job_of(Told(), tuple), BATCHES) as app:
            app.run(3)
        assert context.executor_pids == before

    assert app.out["totals"] == TOTALS


@pytest.mark.slow
@pytest.mark.fault(
    46, "a store away for longer than taskTimeout in a task: a file of SQLite that another connection holds"
)
def test_wait_for_a_store_is_no_hanging_function(tmp_path: Path) -> None:
    """A task whose store is away for longer than its time waits for it, and one that hangs afterwards is ended all the same."""
    limit, away = 3.0, 8.0
    world = SQLiteWorld(tmp_path / "results.sqlite3")

    def job(_ssc: StreamingContext, stream: DStream[Any], _app: App) -> None:
        stream.map(hang).foreachRDD(TableOutput(world.store, TOTALS_TABLE, 1))

    with (
        LocalContext("local[1]", "test", taskTimeout=limit) as context,
        closing(sqlite3.connect(world.path, check_same_thread=False, isolation_level=None)) as other,
        App(context, tmp_path / "checkpoints", job, [[("a", 1)], [("a", 3)], [("a", 2)]]) as app,
    ):
        app.run()
        before = context.executor_pids
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        back = threading.Timer(away, other.execute, ["ROLLBACK"])
        back.start()
        app.run()
        waited = time.monotonic() - began
        back.join()
        assert context.executor_pids == before
        began = time.monotonic()
        with pytest.raises(TaskTimeoutError, match="in hang"):
            app.run()
        took = time.monotonic() - began

    assert waited >= away
    assert limit <= took < away
    assert [row[:2] for row in world.rows(TOTALS_TABLE, "a")] == [("a", 3)]


@pytest.mark.parametrize(("master", "seconds"), [("local", 1), ("local[2]", 0), ("local[2]", "soon")])
def test_limits_that_cannot_be_kept_are_refused(master: str, seconds: Any) -> None:
    """A limit that is none, and one for tasks in the driver's own process, are refused by name."""
    with pytest.raises(ConfigurationError, match=f"taskTimeout is {seconds!r}"):
        LocalContext(master, "test", taskTimeout=seconds)


@pytest.mark.slow
@pytest.mark.fault(46, "a function takes memory until its worker dies of the limit, twice")
@pytest.mark.fault(
    48, "a worker that leaks to its RLIMIT_AS in a task, ended by SIGSEGV in place of the kernel's SIGKILL"
)
def test_leak_costs_its_worker_and_no_element(tmp_path: Path) -> None:
    """A worker that dies of a leak is replaced and its batch runs again, also the second time, and nothing is counted twice."""
    told = Told()
    leaking = Leaking(tmp_path, 2)
    with (
        LocalContext("local[1]", "test") as context,
        App(context, tmp_path / "checkpoints", job_of(told, leaking), BATCHES) as app,
    ):
        before = context.executor_pids
        app.run(3)
        assert context.executor_pids != before

    assert leaking.used() == 2
    assert [type(error) for error in told.failed] == [ExecutorLostError] * 2
    assert told.attempts == [0, 2, 0]
    assert app.out["totals"] == TOTALS


@pytest.mark.slow
@pytest.mark.fault(46, "a function ends its worker in every attempt: a leak, os._exit")
@pytest.mark.parametrize("how", ["leak", "exit"])
def test_batch_that_kills_every_worker_stops(tmp_path: Path, how: str) -> None:
    """A batch whose function ends its worker in four attempts stops the stream with that number, and the next start goes on."""
    told = Told()
    leaking = Leaking(tmp_path, 9)

    def end(pair: tuple[str, int]) -> tuple[str, int]:
        if pair[1] == 2:
            (leaking(pair) if how == "leak" else os._exit(7))
        return pair

    with LocalContext("local[1]", "test") as context:
        with App(context, tmp_path / "checkpoints", job_of(told, end), BATCHES) as app:
            app.run()
            with pytest.raises(ExecutorLostError, match="lost an executor in each of 4 attempts"):
                app.run()
        assert len(told.failed) == 4
        with App(context, tmp_path / "checkpoints", job_of(told, tuple), BATCHES) as app:
            app.run()

    assert app.out["totals"] == TOTALS[1:]


@pytest.mark.fault(46, "a function calls sys.exit in a task")
def test_exit_in_a_task_is_an_error_of_its_function(context: LocalContext, tmp_path: Path) -> None:
    """A function that calls sys.exit fails its batch with its own line, its worker stays, and the next start goes on."""
    told = Told()
    before = context.executor_pids

    def leave(pair: tuple[str, int]) -> tuple[str, int]:
        if pair[1] == 2:
            sys.exit("enough")
        return pair

    with App(context, tmp_path, job_of(told, leave), BATCHES) as app:
        app.run()
        with pytest.raises(UserFunctionError, match="SystemExit: enough") as caught:
            app.run()
    with App(context, tmp_path, job_of(told, tuple), BATCHES) as app:
        app.run()

    assert 'sys.exit("enough")' in caught.value.user_traceback
    assert context.executor_pids == before
    assert app.out["totals"] == TOTALS[1:]


def test_pauses_of_a_retry_follow_the_clock() -> None:
    """Between the runs of a failed output lie its policy's pauses, twice as long each time, and no batch begins in them."""

    class Waits(ManualClock):
        """Notes how long it is asked to wait, and goes on at once."""

        def wait(self, event: Any, seconds: float) -> bool:
            """Note it."""
            waits.append(seconds)
            return bool(event.is_set())

    waits: list[float] = []
    clock = Waits(START_MS)
    ssc = StreamingContext(LocalContext("local", "test"), 1.0, clock=clock)
    output = Failing(4)
    ssc.queueStream([[1], [2]]).foreachRDD(output, onFailure=Retry(4, backoff=0.5, longest=1.5))
    ssc.start(thread=False)
    try:
        clock.advance(1_000)
        ssc.runBatch()
    finally:
        ssc.stop()

    assert output.left == 0
    assert waits == [0.5, 1.0, 1.5, 1.5]
    assert output.seen == [[1]]
