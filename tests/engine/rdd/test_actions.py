"""Actions and narrow operators beside what equals PySpark: laziness, order, what must not be shared, programs."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from engine import LocalContext
from engine.errors import UserFunctionError


def test_local_iterator_computes_one_partition_at_a_time(context: LocalContext) -> None:
    """A local iterator runs the job of a partition when it gets there, and of two with prefetchPartitions."""
    read = context.accumulator(0)

    def noted(part: Iterator[int]) -> Iterator[int]:
        read.add(1)
        return part

    rdd = context.range(8, numSlices=4).mapPartitions(noted)
    elements = rdd.toLocalIterator()

    assert read.value == 0
    assert [next(elements), next(elements)] == [0, 1]
    assert read.value == 1
    assert next(elements) == 2
    assert read.value == 2

    ahead = rdd.toLocalIterator(prefetchPartitions=True)

    assert next(ahead) == 0
    assert read.value == 4


def test_take_of_a_negative_number_is_empty(context: LocalContext) -> None:
    """Take gives nothing of a negative number, and takeOrdered refuses one, as in PySpark."""
    assert context.parallelize([1, 2]).take(-1) == []
    with pytest.raises(ValueError, match="top N cannot be negative"):
        context.parallelize([1, 2]).takeOrdered(-1)


def test_empty_rdds_have_no_counts_and_no_order(context: LocalContext) -> None:
    """Of an RDD without a partition the counts are empty, and so are the smallest and the largest elements."""
    empty = context.emptyRDD()

    assert dict(empty.countByValue()) == dict(empty.countByKey()) == {}
    assert empty.takeOrdered(3) == empty.top(3) == []
    assert empty.stats().count() == 0
    assert empty.histogram([0, 1, 2]) == ([0, 1, 2], [0, 0])
    with pytest.raises(ValueError, match=r"Can not reduce\(\) empty RDD"):
        empty.max()


def test_zero_values_are_not_shared(context: LocalContext) -> None:
    """A fold that changes its zero value in place finds a fresh one in each partition and in each job."""
    rdd = context.range(6, numSlices=3)

    def kept(values: list[int], n: int) -> list[int]:
        values.append(n)
        return values

    def joined(left: list[int], right: list[int]) -> list[int]:
        left.extend(right)
        return left

    zero: list[int] = []

    assert [rdd.aggregate(zero, kept, joined) for _ in range(2)] == [[0, 1, 2, 3, 4, 5]] * 2
    assert zero == []


def test_stop_iteration_in_an_action_is_an_error(context: LocalContext) -> None:
    """A StopIteration of a user's function fails the job, in folds, orders and foreach alike."""

    def stop(*_: Any) -> Any:
        raise StopIteration

    rdd = context.range(4, numSlices=2)

    for action in (
        lambda: rdd.aggregate(0, stop, stop),
        lambda: rdd.takeOrdered(1, key=stop),
        lambda: rdd.max(key=stop),
        lambda: rdd.foreach(stop),
        lambda: rdd.keyBy(stop).collect(),
    ):
        with pytest.raises(UserFunctionError, match="StopIteration"):
            action()


def test_foreach_partition_reads_generators(context: LocalContext) -> None:
    """What a generator function does in foreachPartition happens, as in PySpark."""
    seen = context.accumulator(0)

    def noted(part: Iterator[int]) -> Iterator[None]:
        for n in part:
            seen.add(n)
            yield

    context.range(4, numSlices=2).foreachPartition(noted)

    assert seen.value == 6


def test_keys_that_are_equal_are_one(context: LocalContext) -> None:
    """Counts take 1, 1.0 and True as one key, and None as a key."""
    pairs = context.parallelize([(1, "a"), (1.0, "b"), (True, "c"), (None, "d")], 2)

    assert dict(pairs.countByKey()) == {1: 3, None: 1}
    assert pairs.lookup(True) == ["a", "b", "c"]
    assert pairs.lookup(None) == ["d"]


def test_lookup_reads_one_partition_where_keys_are_spread(context: LocalContext) -> None:
    """A lookup after partitionBy computes the key's partition and no other."""
    read = context.accumulator(0)

    def noted(part: Iterator[Any]) -> Iterator[Any]:
        read.add(1)
        return part

    spread = context.parallelize([(n, n * n) for n in range(20)], 2).partitionBy(5)

    assert spread.mapPartitions(noted, preservesPartitioning=True).lookup(7) == [49]
    assert read.value == 1


@pytest.mark.slow
def test_pipes_feed_and_read_in_turns(context: LocalContext) -> None:
    """More than a pipe holds goes through a program in both directions without waiting for either end."""
    lines = [f"{n:>100}" for n in range(30_000)]

    assert context.parallelize(lines, 2).pipe("cat").collect() == lines


@pytest.mark.slow
def test_pipes_may_stop_reading(context: LocalContext) -> None:
    """A program that leaves before it has read all gives what it printed, and no error."""
    rdd = context.range(100_000, numSlices=2).pipe("head -n 1")

    assert rdd.collect() == ["0", "50000"]


@pytest.mark.slow
def test_programs_end_with_their_partition(context: LocalContext) -> None:
    """A program whose lines are not all asked for is ended."""
    (pid,) = context.parallelize([0], 1).pipe("sh -c 'echo $$; exec sleep 600'").take(1)

    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_exit_codes_are_checked_on_demand(context: LocalContext) -> None:
    """The exit code of a program is an error with checkCode, and is not looked at without."""
    rdd = context.parallelize(["a"], 1)

    assert rdd.pipe("sh -c 'cat; exit 3'").collect() == ["a"]
    with pytest.raises(
        UserFunctionError, match=r"Pipe function `sh -c 'cat; exit 3'` exited with error code 3"
    ):
        rdd.pipe("sh -c 'cat; exit 3'", checkCode=True).collect()


def test_variables_of_a_pipe_come_on_top(context: LocalContext) -> None:
    """A program sees the variables that it is given, and those that the executor has."""
    rdd = context.parallelize([0], 1).pipe("sh -c 'echo $SEASON:$PATH'", env={"SEASON": "late autumn"})

    season, path = rdd.first().split(":", 1)

    assert season == "late autumn"
    assert path


def test_mapPartitionsWithSplit_warns(context: LocalContext) -> None:
    """The old name of mapPartitionsWithIndex works and says what to use."""
    with pytest.warns(FutureWarning, match="use mapPartitionsWithIndex"):
        rdd = context.range(4, numSlices=2).mapPartitionsWithSplit(lambda index, part: [(index, list(part))])

    assert rdd.collect() == [(0, [0, 1]), (1, [2, 3])]
