"""Jobs of several threads on one context, and what a thread of a task knows of the task."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import add
from typing import Any

import pytest

from engine import LocalContext
from engine.rdd.task import TaskContext

LONG_S = 30.0


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads that take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Any, count: int) -> tuple[int, list[Any]]:
    """How many of the threads hung, and what the others gave or raised."""
    given: list[Any] = []

    def run(number: int) -> None:
        try:
            given.append(work(number))
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            given.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    return sum(thread.is_alive() for thread in threads), given


@pytest.mark.slow
@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("master", ["local", "local[2]"])
def test_threads_run_jobs_on_one_context(master: str) -> None:
    """Jobs that several threads run at the same time give what each gives alone."""
    with LocalContext(master, "test") as own:

        def job(number: int) -> Any:
            return own.parallelize([number] * 50, 2).map(lambda x: (x, 1)).reduceByKey(add).collect()

        def work(number: int) -> bool:
            return all(job(number) == [(number, 50)] for _ in range(40))

        hung, given = in_threads(work, 3)
        assert (hung, given) == (0, [True] * 3)


@pytest.mark.slow
@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("master", ["local", "local[2]"])
def test_threads_share_a_shuffle(master: str) -> None:
    """A map stage that the jobs of several threads need runs once."""
    with LocalContext(master, "test") as own:
        seen = own.accumulator(0)

        def noted(x: int) -> tuple[int, int]:
            seen.add(1)
            return x % 3, x

        shared = [own.range(300, numSlices=2).map(noted).reduceByKey(add) for _ in range(10)]
        hung, given = in_threads(lambda _: [sorted(rdd.collect()) for rdd in shared], 3)

        assert (hung, given) == (0, [[[(0, 14_850), (1, 14_950), (2, 15_050)]] * 10] * 3)
        assert seen.value == 3_000


_inside, _done = threading.Event(), threading.Event()


def _wait(_element: int) -> bool:
    # By name, so in `local` these are the driver's events.
    _inside.set()
    return _done.wait(LONG_S)


def test_no_task_runs_in_the_drivers_other_threads() -> None:
    """While a task of `local` runs in one thread, another one of the driver reads accumulators."""
    with LocalContext("local", "test") as own, ThreadPoolExecutor(1) as pool:
        seen = own.accumulator(41)
        job = pool.submit(own.parallelize([1], 1).map(_wait).collect)
        try:
            assert _inside.wait(LONG_S)
            seen.add(1)
            assert (TaskContext.get(), seen.value) == (None, 42)
        finally:
            _done.set()
        assert job.result(LONG_S) == [True]


def test_threads_of_a_task_belong_to_it(local_two: LocalContext) -> None:
    """What a thread adds to an accumulator in an executor is the task's that started it."""
    seen = local_two.accumulator(0)

    def noted(part: Iterator[int]) -> list[Any]:
        with ThreadPoolExecutor(1) as pool:
            return [len(list(pool.map(seen.add, part)))]

    assert local_two.range(10, numSlices=2).mapPartitions(noted).collect() == [5, 5]
    assert seen.value == 45
