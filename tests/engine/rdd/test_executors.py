"""The executor processes: replaced when they die, gone when their driver is, and never left with a stage half read."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import LocalContext, StreamingContext, StreamingListener
from engine.batch import Batch, Time
from engine.dstream.dstream import DStream
from engine.errors import ExecutorLostError, LifecycleError, UserFunctionError
from engine.rdd.task import TaskContext
from engine.scheduler.events import StreamingListenerBatchCompleted, StreamingListenerBatchFailed
from tests.engine.app import START_MS, App
from tests.engine.children import ROOT, kill, python, runs, wait_until


def test_partitions_stay_with_their_executor(local_two: LocalContext) -> None:
    """Partition i of every job is computed by executor i modulo their number."""
    places = [
        local_two.parallelize(range(6), 6).map(lambda _: os.getpid()).collect(),
        local_two.parallelize([(n, n) for n in range(6)], 3)
        .partitionBy(6)
        .mapPartitions(lambda _: [os.getpid()])
        .collect(),
    ]

    for pids in places:
        assert pids == local_two.executor_pids * 3


def test_executors_have_a_fixed_hash_seed(local_two: LocalContext) -> None:
    """Sets of strings have one order in all executors."""
    orders = local_two.parallelize(range(2), 2).map(lambda _: list({"a", "b", "c", "d", "e"})).collect()

    assert orders[0] == orders[1]


@pytest.mark.slow
def test_dead_executor_is_replaced() -> None:
    """A job on a dead executor fails with its name and status, and the next one runs on a new process."""
    with LocalContext("local[2]", "test") as own:
        before = own.executor_pids
        kill(before[1])
        with pytest.raises(
            ExecutorLostError, match=rf"executor 1 \(pid {before[1]}\) died with status -9; it is replaced"
        ):
            own.parallelize([1, 2], 2).collect()

        assert own.parallelize([1, 2], 2).collect() == [1, 2]
        assert own.executor_pids[0] == before[0]
        assert own.executor_pids[1] != before[1]


@pytest.mark.slow
def test_executor_that_dies_in_a_task_is_replaced() -> None:
    """A task that kills its own process fails the job only, and the other executor stays."""
    with LocalContext("local[2]", "test") as own:
        before = own.executor_pids
        with pytest.raises(ExecutorLostError):
            own.parallelize([0, 1], 2).map(lambda n: os._exit(3) if n else n).collect()
        assert own.task_outcomes == {"completed": 1, "failed": 0, "lost": 1}

        assert own.parallelize([1, 2, 3, 4], 4).map(lambda n: n + 1).collect() == [2, 3, 4, 5]
        assert own.executor_pids[0] == before[0]


@pytest.mark.slow
def test_user_error_beats_a_lost_executor() -> None:
    """When one executor dies and another's function raises, the job ends with what the function raised."""
    with LocalContext("local[2]", "test") as own, pytest.raises(UserFunctionError, match="ZeroDivisionError"):
        own.parallelize([0, 1], 2).map(lambda n: os._exit(3) if n else 1 // n).collect()


class Batches(StreamingListener):
    """Notes how batches went."""

    def __init__(self) -> None:
        self.completed: list[tuple[int, int]] = []
        self.failed: list[str] = []
        self.after_commit: list[int] = []
        """Processes to kill when a batch is committed."""

    def onBatchCompleted(self, batchCompleted: StreamingListenerBatchCompleted) -> None:
        """Note time and attempt, then kill."""
        batch = batchCompleted.batchInfo.batch
        self.completed.append((int(batch.time), batch.attempt))
        while self.after_commit:
            kill(self.after_commit.pop())

    def onBatchFailed(self, batchFailed: StreamingListenerBatchFailed) -> None:
        """Note the error."""
        self.failed.append(type(batchFailed.error).__name__)


def totals(listener: Batches) -> Any:
    """A job with state, a window and a sum over both."""

    def job(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        ssc.addStreamingListener(listener)
        app.collect(stream.updateStateByKey(lambda values, state: sum(values) + (state or 0)), "totals")
        app.collect(stream.reduceByKeyAndWindow(lambda x, y: x + y, lambda x, y: x - y, 3), "windows")

    return job


BATCHES = [[(key, n) for key in range(9)] for n in range(8)]


def expected(folder: Path) -> dict[str, list[Any]]:
    """What the job gives when nothing dies."""
    with LocalContext("local", "test") as context, App(context, folder, totals(Batches()), BATCHES) as app:
        return app.run(len(BATCHES)).out


@pytest.mark.fault(13, "SIGKILL of executors before a batch")
@pytest.mark.slow
def test_batch_on_a_dead_executor_is_run_again(tmp_path: Path) -> None:
    """A batch whose executor was killed is run again as the next attempt over the restored state, with equal results."""
    listener = Batches()
    with (
        LocalContext("local[2]", "test") as context,
        App(context, tmp_path / "killed", totals(listener), BATCHES) as app,
    ):
        for n in range(len(BATCHES)):
            if n in {2, 5}:
                kill(context.executor_pids[n % 2])
            if n == 6:
                for pid in context.executor_pids:
                    kill(pid)
            app.run()

    assert app.out == expected(tmp_path / "whole")
    assert [attempt for _, attempt in listener.completed] == [0, 0, 1, 0, 0, 1, 1, 0]
    assert set(listener.failed) == {"ExecutorLostError"}


@pytest.mark.slow
def test_executor_that_dies_after_the_commit_repeats_nothing(tmp_path: Path) -> None:
    """An executor that is killed between a batch's commit and its snapshots leaves the batch committed, once."""
    listener = Batches()
    # A snapshot is due after 64 deltas of a shard at the latest: these batches reach it.
    batches = [[(key, "x" * 2_000) for key in range(n % 5, 40, 5)] for n in range(12)]

    def job(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        ssc.addStreamingListener(listener)
        app.collect(
            stream.updateStateByKey(lambda values, state: (state or 0) + len(values)).map(str), "counts"
        )
        app.collect(stream.reduceByKeyAndWindow(lambda x, _y: x, None, 3).mapValues(len), "windows")

    with LocalContext("local[2]", "test") as context, App(context, tmp_path / "killed", job, batches) as app:
        for _ in batches:
            listener.after_commit = list(context.executor_pids)
            app.run()
    with LocalContext("local", "test") as context, App(context, tmp_path / "whole", job, batches) as whole:
        whole.run(len(batches))

    assert app.out == whole.out
    times = [time for time, _ in listener.completed[: len(batches)]]
    assert times == sorted(set(times))


@pytest.mark.slow
@pytest.mark.fault(46, "os._exit in every attempt of a batch")
def test_batch_that_always_kills_its_executor_ends(tmp_path: Path) -> None:
    """A batch that loses an executor in each of its attempts ends the stream, and says in how many."""
    listener = Batches()

    def job(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        ssc.addStreamingListener(listener)
        app.collect(stream.map(lambda _: os._exit(1)), "all")

    with (
        LocalContext("local[1]", "test") as context,
        App(context, tmp_path, job, [[1]]) as app,
        pytest.raises(ExecutorLostError, match="lost an executor in each of 4 attempts"),
    ):
        app.run()

    assert len(listener.failed) == 4


@pytest.mark.slow
def test_state_is_exact_after_a_thousand_attempts(tmp_path: Path) -> None:
    """Attempts beyond a thousand, whose write timestamps reach into the next millisecond, build each on the state before the batch."""
    listener = Batches()

    def job(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        ssc.addStreamingListener(listener)

        def output(rdd: Any) -> None:
            if listener.completed and not listener.failed:
                kill(app.context.executor_pids[0])
                rdd.count()

        stream.foreachRDD(output)
        app.collect(
            stream.updateStateByKey(lambda values, state: sum(values) + (state or 0), name="totals"), "all"
        )

    with (
        LocalContext("local[2]", "test") as context,
        App(context, tmp_path, job, [[("a", 1)], [("a", 1)], []]) as app,
    ):
        app.run()
        (queue,), time = app.ssc.graph.inputs, Time(START_MS + 2_000)
        app.ssc._checkpoint.begin(Batch(time, {"queue": queue.plan(time)}, 5_000))
        app.crash().run()

    assert listener.failed == ["ExecutorLostError"]
    assert app.out["all"][-2:] == [[("a", 2)], [("a", 2)]]


DRIVER = """
    import sys, threading
    from engine import LocalContext

    def busy(n):
        while n:
            pass
        return n

    context = LocalContext("local[2]", "driver")
    print(*context.executor_pids, flush=True)
    if sys.argv[1] == "busy":
        context.parallelize([1, 1], 2).map(busy).collect()
    threading.Event().wait()
"""


@pytest.mark.fault(14, "SIGKILL of the driver, with executors idle and in a task")
@pytest.mark.slow
@pytest.mark.parametrize("state", ["idle", "busy"])
def test_executors_exit_when_the_driver_is_killed(state: str) -> None:
    """After a kill -9 of the driver its executors end by themselves, also in the middle of a task."""
    with python(DRIVER, state) as driver:
        assert driver.stdout is not None
        pids = [int(pid) for pid in driver.stdout.readline().split()]
        if state == "busy":
            used = [psutil.Process(pid).cpu_times().user for pid in pids]
            wait_until(
                lambda: all(
                    psutil.Process(pid).cpu_times().user > at_first + 0.2
                    for pid, at_first in zip(pids, used, strict=True)
                ),
                "both executors in their tasks",
            )
        driver.kill()

    assert len(pids) == 2
    wait_until(lambda: not any(map(runs, pids)), "executors gone")


@pytest.mark.slow
def test_executors_exit_with_their_context() -> None:
    """Stopping a context ends its executors, and a second stop does nothing."""
    context = LocalContext("local[2]", "test")
    pids = context.executor_pids
    context.stop()
    context.stop()

    wait_until(lambda: not any(map(runs, pids)), "executors gone")
    with pytest.raises(LifecycleError, match="the context was stopped"):
        context.parallelize([1]).collect()


class Unreadable:
    """A result that travels, and cannot be read where it arrives."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (_refuse, ())


@pytest.mark.fault(46, "sys.exit in a task of a single job")
def test_exit_of_a_users_function_is_an_error(context: LocalContext) -> None:
    """A function that calls sys.exit fails its job with its traceback, and its process stays."""
    before = context.executor_pids
    with pytest.raises(UserFunctionError, match="SystemExit: 3") as caught:
        context.parallelize([1, 2], 2).map(lambda _: sys.exit(3)).collect()

    assert "map(lambda _: sys.exit(3))" in caught.value.user_traceback
    assert context.parallelize([1, 2], 2).collect() == [1, 2]
    assert context.executor_pids == before


def _refuse() -> None:
    if TaskContext.get() is None:
        raise ValueError("not in the driver")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda _: threading.Lock(), "cannot be sent to the driver"),
        (lambda _: Unreadable(), "cannot be read in the driver"),
    ],
    ids=["sent", "read"],
)
def test_results_that_cannot_travel_fail_their_job_only(
    local_two: LocalContext, function: Any, words: str
) -> None:
    """A result that cannot be sent or read fails its job with a sentence, and the next job gets its own results."""
    with pytest.raises(UserFunctionError, match=words):
        local_two.parallelize([1, 2], 2).map(function).collect()

    assert local_two.parallelize([1, 2, 3, 4], 4).collect() == [1, 2, 3, 4]


SCRIPT = """
    from dataclasses import dataclass
    from engine import LocalContext

    @dataclass
    class Visit:
        page: str
        seen: list

    if __name__ == "__main__":
        with LocalContext("local[2]", "script") as sc:
            visits = sc.parallelize([("a", 1), ("b", 2), ("a", 3)], 3).mapValues(lambda n: Visit("p", [n])).cache()
            grouped = visits.groupByKey(2)
            print(sorted((key, [visit.seen for visit in values]) for key, values in grouped.collect()))
            print(visits.count(), all(type(visit) is Visit for _, visit in visits.collect()))
"""


@pytest.mark.slow
def test_classes_of_a_script_travel_through_shuffle_and_cache(tmp_path: Path) -> None:
    """Elements of a class that a script defines are grouped, cached and collected on several processes."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))

    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["[('a', [[1], [3]]), ('b', [[2]])]", "3 True"]
