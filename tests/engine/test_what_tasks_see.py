"""What a task sees of the driver's objects is a copy of its own, taken when the job began, on every backend."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, StreamingContext
from engine.dstream.dstream import DStream
from tests.engine.app import App


class Step:
    """An object whose attribute changes."""

    def __init__(self) -> None:
        self.size = 1

    def add(self, n: int) -> int:
        """One step more."""
        return n + self.size


def marked(mark: int) -> Callable[[list[int]], list[int]]:
    """A function that changes a list in place."""

    def mark_it(value: list[int]) -> list[int]:
        value.append(mark)
        return value

    return mark_it


def test_a_changed_list_is_seen_by_the_next_job(context: LocalContext) -> None:
    """A function that reads a list which the driver changes between jobs sees it as it is when each job begins."""
    rdd = context.parallelize(range(4), 2)
    weight, history = [0.0], []

    def gradient(x: int) -> float:
        return x - weight[0]

    for _ in range(4):
        weight[0] += 0.5 * rdd.map(gradient).mean()
        history.append(weight[0])

    assert history == [0.75, 1.125, 1.3125, 1.40625]


def test_a_variable_that_is_bound_anew_is_seen_by_the_next_job(context: LocalContext) -> None:
    """A captured variable that is bound to another value between jobs has the new one in the next job."""
    rdd = context.parallelize(range(4), 2)
    threshold = 0

    def over(x: int) -> bool:
        return x > threshold

    counts = []
    for threshold in range(3):  # noqa: B007 - the function reads it
        counts.append(rdd.filter(over).count())  # noqa: PERF401 - a comprehension would not bind what the function reads

    assert counts == [3, 2, 1]


def test_a_changed_attribute_is_seen_by_the_next_job(context: LocalContext) -> None:
    """A bound method sees its object's attributes as they are when each job begins."""
    rdd = context.parallelize([1, 2], 2)
    step = Step()
    add = step.add
    before = rdd.map(add).collect()
    step.size = 10

    assert (before, rdd.map(add).collect()) == ([2, 3], [11, 12])


def test_what_a_task_changes_stays_in_the_task(context: LocalContext) -> None:
    """A list that tasks append to is each task's own: neither another task nor the driver sees what was appended."""
    seen: list[int] = []

    def sizes(n: int) -> int:
        seen.append(n)
        return len(seen)

    rdd = context.parallelize(range(4), 4).map(sizes)

    assert rdd.collect() == [1, 1, 1, 1]
    assert rdd.map(lambda size: size).collect() == [1, 1, 1, 1]
    assert seen == []


def test_a_counter_that_a_task_binds_anew_begins_anew(context: LocalContext) -> None:
    """A variable that a function binds anew begins in each task with the driver's value."""
    count = 10

    def counted(_: int) -> int:
        nonlocal count
        count += 1
        return count

    assert context.parallelize([1, 2], 2).map(counted).collect() == [11, 11]
    assert count == 10


def test_elements_are_taken_as_they_were_given(context: LocalContext) -> None:
    """What changes in a list after parallelize is not in the RDD."""
    given = [[1], [2]]
    rdd = context.parallelize(given, 2)
    given[0].append(7)

    assert rdd.collect() == [[1], [2]]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (lambda r: r.union(r.map(marked(1))), [[0], [0, 1]]),
        (lambda r: r.map(marked(1)).union(r.map(marked(2))), [[0, 1], [0, 2]]),
        (lambda r: r.map(marked(1)).zip(r), [([0, 1], [0])]),
        (lambda r: r.map(marked(1)).cartesian(r), [([0, 1], [0])]),
        (lambda r: r.union(r).map(marked(1)), [[0, 1], [0, 1]]),
    ],
    ids=["union", "two branches", "zip", "cartesian", "itself"],
)
def test_branches_have_elements_of_their_own(
    context: LocalContext, operation: Callable[[Any], Any], expected: list[Any]
) -> None:
    """What one branch does to an element in place is not seen by another branch of the same job."""
    assert operation(context.parallelize([[0]], 1)).collect() == expected


def test_a_broadcast_is_what_it_was_when_it_was_made(context: LocalContext) -> None:
    """What the driver changes in a value after broadcast is not seen by tasks, and what tasks change not by the driver."""
    value = [1]
    shared = context.broadcast(value)
    value.append(2)

    def appended(n: int) -> list[int]:
        found = list(shared.value)
        shared.value.append(n)
        return found

    assert context.parallelize([7], 1).map(appended).collect() == [[1]]
    assert value == [1, 2]


def test_a_batch_sees_what_the_one_before_it_changed(context: LocalContext, tmp_path: Path) -> None:
    """A stream's function sees a captured dict as the output of the batch before left it."""
    known = {"n": 0}

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.map(lambda x: (x, known["n"])), "all")
        stream.foreachRDD(lambda _rdd: known.update(n=known["n"] + 1))

    with App(context, tmp_path, job, [[1], [1], [1]]) as app:
        assert app.run(3).out["all"] == [[(1, 0)], [(1, 1)], [(1, 2)]]


def test_a_batch_sees_a_broadcast_that_took_anothers_place(context: LocalContext, tmp_path: Path) -> None:
    """A captured broadcast may be replaced between batches; the one before is let go."""
    box = {"shared": context.broadcast(0)}

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.map(lambda _: box["shared"].value), "all")
        stream.foreachRDD(lambda _rdd: box.update(shared=context.broadcast(box["shared"].value + 1)))

    with App(context, tmp_path, job, [[1], [1], [1]]) as app:
        assert app.run(3).out["all"] == [[0], [1], [2]]


def test_branches_of_a_stream_have_elements_of_their_own(context: LocalContext, tmp_path: Path) -> None:
    """Two branches of one queue that change its elements in place do not see each other's changes."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.map(marked(1)).union(stream.map(marked(2))), "two branches")
        app.collect(stream.union(stream).map(marked(3)), "itself")

    with App(context, tmp_path, job, [[[0]], [[5]]]) as app:
        out = app.run(2).out

    assert out["two branches"] == [[[0, 1], [0, 2]], [[5, 1], [5, 2]]]
    assert out["itself"] == [[[0, 3], [0, 3]], [[5, 3], [5, 3]]]


@pytest.mark.slow
@pytest.mark.parametrize("master", ["local", "local[2]"])
def test_unions_one_by_one_are_one_union(master: str, local_two: LocalContext) -> None:
    """Two thousand unions in a loop are computed, on either side and where equal partitioners spread all."""
    with LocalContext("local") as alone:
        context = alone if master == "local" else local_two
        left = right = context.parallelize([-1], 1)
        spread = context.parallelize([(-1, 1)], 1).partitionBy(2)
        for n in range(2_000):
            one = context.parallelize([n], 1)
            left, right = left.union(one), one.union(right)
            if n < 200:
                spread = spread.union(context.parallelize([(n, 1)], 1).partitionBy(2))

        assert left.collect() == list(range(-1, 2_000))
        assert right.map(abs).collect() == [*range(1_999, -1, -1), 1]
        assert (spread.getNumPartitions(), spread.count()) == (2, 201)


def test_a_kept_union_stands_for_itself_in_another(context: LocalContext) -> None:
    """A union that is kept after another was made of it is computed once for both."""
    computed = context.accumulator(0)

    def counted(n: int) -> int:
        computed.add(1)
        return n

    inner = context.parallelize([1], 1).map(counted).union(context.parallelize([2], 1))
    outer = inner.union(context.parallelize([3], 1))
    inner.cache()
    inner.count()

    assert outer.collect() == [1, 2, 3]
    assert computed.value == 1
