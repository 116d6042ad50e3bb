"""Jobs that another thread cancels."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from operator import add
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, StreamingContext
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError, JobCancelledError
from engine.rdd.jobs import Jobs, Told
from tests.engine.app import App

LONG_S = 30.0
CANCELS: dict[str, tuple[Callable[[Any], object], str]] = {
    "group": (lambda sc: sc.cancelJobGroup("slow"), "part of cancelled job group slow"),
    "tag": (lambda sc: sc.cancelJobsWithTag("late"), "part of cancelled job tag late"),
    "all": (lambda sc: sc.cancelAllJobs(), "part of a cancellation of all jobs"),
}


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A pipe that a task opens to write, which waits until the test opens it to read."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def held(gate: Path) -> Callable[[int], int]:
    """A function that says by the gate that it runs, and never ends."""

    def hold(number: int) -> int:
        if number == 0:
            with gate.open("wb"):
                pass
            with gate.open("rb"):
                pass
        return number

    return hold


@pytest.mark.slow
@pytest.mark.parametrize("how", CANCELS)
def test_jobs_are_cancelled(local_two: LocalContext, gate: Path, how: str) -> None:
    """A job that an executor computes ends with an error in its thread when another cancels it, and the next job works."""
    cancel, cause = CANCELS[how]
    pids = local_two.executor_pids
    local_two.addJobTag("late")
    with ThreadPoolExecutor() as pool, local_two.job_group("slow", "never ends"):
        job = pool.submit(local_two.parallelize([0, 1], 2).map(held(gate)).collect)
        with gate.open("rb"):
            cancel(local_two)
        error = job.exception(LONG_S)
    local_two.clearJobTags()

    assert isinstance(error, JobCancelledError)
    assert str(error) == f"the job was cancelled: {cause}"
    assert local_two.parallelize([1, 2], 2).map(lambda n: (n, n)).reduceByKey(add).count() == 2
    assert not set(pids) & set(local_two.executor_pids)


@pytest.mark.slow
def test_a_cancelled_batch_runs_again(local_two: LocalContext, tmp_path: Path, gate: Path) -> None:
    """A batch whose job is cancelled ends the stream, and the next start runs it over the state of the last commit."""
    is_first = [True]

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        totals = stream.updateStateByKey(lambda values, state: sum(values) + (state or 0), name="totals")

        def output(rdd: Any) -> None:
            if is_first.pop() if is_first else False:
                rdd.keys().map(held(gate)).collect()

        totals.foreachRDD(output)
        app.collect(totals, "all")

    with ThreadPoolExecutor() as pool, App(local_two, tmp_path / "app", job, [[(0, 1)], [(0, 1)]]) as app:
        batch = pool.submit(app.run)
        with gate.open("rb"):
            local_two.cancelAllJobs()
        error = batch.exception(LONG_S)
        app.crash().run()

    assert isinstance(error, JobCancelledError)
    assert app.out["all"] == [[(0, 1)], [(0, 2)]]


def cancelling(folder: Path) -> Callable[[int], object]:
    """A function that notes its element, and has the job cancelled that it is in."""

    def cancel(number: int) -> None:
        (folder / str(number)).touch()
        LocalContext.getOrCreate().cancelJobGroup("slow")

    return cancel


def test_no_task_of_a_cancelled_job_begins(tmp_path: Path) -> None:
    """Where tasks run in the driver's process, the one that runs comes to its end and is the last."""
    with LocalContext("local") as own:
        with own.job_group("slow", "three tasks"), pytest.raises(JobCancelledError, match="group slow"):
            own.range(3, numSlices=3).foreach(cancelling(tmp_path))

        assert [path.name for path in tmp_path.iterdir()] == ["0"]
        assert own.range(3).count() == 3


class CancelledInTurn(AbstractContextManager[None]):
    """A context whose turn comes when its jobs have just been cancelled."""

    def __init__(self) -> None:
        self.one_job = self
        self.jobs = Jobs(self)
        self.calls: list[str] = []

    def __enter__(self) -> None:
        self.jobs.cancel("before its turn", lambda told: told.group == "slow")

    def __exit__(self, *_: object) -> None:
        self.calls.append("left")

    def interrupt(self) -> None:
        """Note the call."""
        self.calls.append("interrupted")

    def recover(self) -> None:
        """As above."""
        self.calls.append("recovered")


def test_cancelled_jobs_have_no_turn() -> None:
    """A job that is cancelled while it waits does not run, and interrupts nobody; one of another group runs."""
    context = CancelledInTurn()
    with (
        pytest.raises(JobCancelledError, match="the job was cancelled: before its turn"),
        context.jobs.running(Told("slow", frozenset())),
    ):
        context.calls.append("ran")
    with context.jobs.running(Told("other", frozenset())):
        context.calls.append("ran the other")

    assert context.calls == ["left", "ran the other", "left"]


def test_cancelled_groups_can_be_used_again(context: LocalContext) -> None:
    """What is cancelled are the jobs that run or wait, and not those that come."""
    with context.job_group("g", "twice"):
        context.cancelJobGroup("g")

        assert context.range(3).count() == 3


@pytest.mark.parametrize("tag", ["", "a,b"])
def test_tags_that_cannot_be_are_refused(context: LocalContext, tag: str) -> None:
    """A tag to cancel is a tag that a job can have."""
    with pytest.raises(ConfigurationError, match=r"job tag .* is empty or holds a comma"):
        context.cancelJobsWithTag(tag)
