"""RDDs beside what streams use of them: actions, laziness, caching, accumulators."""

import inspect
import random
from collections.abc import Iterator
from operator import add
from pathlib import Path
from typing import Any

import pyspark
import pytest

from engine import LocalContext
from engine.errors import ConfigurationError, LifecycleError
from engine.rdd.api import RDD
from engine.rdd.conf import SYSTEM_PROPERTIES
from engine.rdd.lineage import Exchange
from engine.rdd.local import LocalRDD
from engine.rdd.shared import Accumulator
from engine.rdd.task import TaskContext


@pytest.mark.parametrize("slices", [1, 2, 3, 7, 20])
def test_parallelize_keeps_order_and_sizes(context: LocalContext, slices: int) -> None:
    """Elements are sliced in order, with sizes that differ by one at most."""
    parts = context.parallelize(range(10), slices).glom().collect()

    assert [n for part in parts for n in part] == list(range(10))
    assert len(parts) == slices
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("master", ["local[0]", "local[x]", "yarn", "", "local[1"])
def test_unknown_masters_are_refused(master: str) -> None:
    """A master that is none of the three kinds is refused with the kinds."""
    with pytest.raises(
        ConfigurationError, match=r"use local, local\[N\] with N of at least 1, or local\[\*\]"
    ):
        LocalContext(master)


def test_slices_below_one_are_refused(context: LocalContext) -> None:
    """An RDD of no partition is emptyRDD, and not a number of slices."""
    with pytest.raises(ConfigurationError, match="numSlices is 0"):
        context.parallelize([1], 0)
    assert context.emptyRDD().collect() == []
    assert context.emptyRDD().getNumPartitions() == 0


def test_take_reads_as_few_partitions_as_it_takes(context: LocalContext) -> None:
    """Take looks into one partition first, and into more only when that is not enough."""
    read = context.accumulator(0)

    def noted(part: Iterator[int]) -> Iterator[int]:
        read.add(1)
        return part

    rdd = context.parallelize(range(20), 10).mapPartitions(noted)

    assert rdd.take(2) == [0, 1]
    assert read.value == 1
    assert rdd.take(5) == [0, 1, 2, 3, 4]
    assert read.value == 1 + 1 + 4
    assert rdd.take(0) == []
    assert rdd.take(100) == list(range(20))
    assert rdd.first() == 0


def test_empty_rdds_have_no_first_and_no_sum(context: LocalContext) -> None:
    """First and reduce of nothing are a ValueError, as in PySpark."""
    empty = context.parallelize([], 3)

    assert empty.isEmpty()
    assert not context.parallelize([None], 3).isEmpty()
    with pytest.raises(ValueError, match="RDD is empty"):
        empty.first()
    with pytest.raises(ValueError, match=r"Can not reduce\(\) empty RDD"):
        empty.reduce(add)


def test_actions(context: LocalContext) -> None:
    """Actions give what PySpark's give."""
    rdd = context.parallelize([("a", 1), ("b", 2), ("a", 1)], 2)

    assert rdd.count() == 3
    assert rdd.countByValue() == {("a", 1): 2, ("b", 2): 1}
    assert rdd.collectAsMap() == {"a": 1, "b": 2}
    assert rdd.keys().collect() == ["a", "b", "a"]
    assert rdd.values().reduce(add) == 4
    assert sorted(rdd.cogroup(rdd.filter(lambda pair: pair[0] == "b")).collect()) == [
        ("a", ([1, 1], [])),
        ("b", ([2], [2])),
    ]
    assert context.runJob(rdd, lambda part: [len(list(part))], [1]) == [2]


def test_foreach_runs_in_the_executors(context: LocalContext) -> None:
    """Foreach and foreachPartition call their function on everything."""
    seen = context.accumulator([])
    context.parallelize([1, 2, 3], 2).foreach(lambda n: seen.add([n]))
    context.parallelize([4, 5], 2).foreachPartition(lambda part: seen.add(list(part)))

    assert seen.value == [1, 2, 3, 4, 5]


def test_map_stage_runs_once_for_all_jobs_of_its_rdd(context: LocalContext) -> None:
    """Later jobs on one shuffled RDD reuse what its map stage exchanged."""
    mapped = context.accumulator(0)

    def noted(n: int) -> tuple[int, int]:
        mapped.add(1)
        return n % 2, n

    reduced = context.parallelize(range(6), 3).map(noted).reduceByKey(add, 2)

    assert mapped.value == 0
    assert reduced.count() == 2
    assert dict(reduced.collect()) == {0: 6, 1: 9}
    assert mapped.value == 6


def test_values_combine_before_they_are_exchanged(context: LocalContext) -> None:
    """A map task hands on one pair a key, however many values it had."""
    rdd = context.parallelize([("a", 1)] * 1_000, 2).reduceByKey(add, 1)
    rdd.prepare()

    assert rdd.collect() == [("a", 1_000)]
    assert sum(len(bucket) for row in rdd.parents[0].buckets for bucket in row) < 200


def test_pairs_of_one_partitioner_exchange_nothing(context: LocalContext) -> None:
    """A second operation by key over equally many partitions keeps its pairs where they are."""
    reduced = context.parallelize([(n % 3, n) for n in range(9)], 3).reduceByKey(add, 4)
    again = reduced.mapValues(lambda n: n + 1).groupByKey(4)

    assert again.partitioner == reduced.partitioner
    assert not any(isinstance(parent, Exchange) for parent in again.parents)
    assert dict(again.collect()) == {0: [10], 1: [13], 2: [16]}
    assert reduced.map(lambda pair: pair).partitioner is None


def test_unpersisted_rdds_are_computed_again(context: LocalContext) -> None:
    """Cached partitions are computed once until they are let go."""
    computed = context.accumulator(0)

    def noted(n: int) -> int:
        computed.add(1)
        return n

    rdd = context.parallelize([1, 2, 3], 2).map(noted).cache()
    assert (rdd.count(), rdd.count(), computed.value) == (3, 3, 3)
    rdd.unpersist()
    assert (rdd.count(), computed.value) == (3, 6)


def test_failed_tasks_add_nothing(context: LocalContext) -> None:
    """What a failed job's tasks added to an accumulator does not count."""
    seen = context.accumulator(0)

    def noted(n: int) -> float:
        seen.add(1)
        return 1 / n

    with pytest.raises(Exception, match="ZeroDivisionError"):
        context.parallelize([1, 2, 0], 3).map(noted).collect()

    assert seen.value == 0


def test_accumulators_travel_without_their_value(context: LocalContext) -> None:
    """A task sees an accumulator to add to, and may not read what was added so far."""
    seen: Accumulator[int] = context.accumulator(41)
    context.parallelize([1]).foreach(seen.add)

    assert seen.value == 42
    with pytest.raises(LifecycleError, match=r"Accumulator\.value cannot be accessed inside tasks"):
        context.parallelize([0], 1).map(lambda _: seen.value).collect()


def test_broadcast_values_are_read_in_tasks(context: LocalContext) -> None:
    """A broadcast value is there in every task."""
    names = context.broadcast({1: "one", 2: "two"})

    assert context.parallelize([1, 2], 2).map(lambda n: names.value[n]).collect() == ["one", "two"]


def test_tasks_know_their_partition_and_properties(context: LocalContext) -> None:
    """A task knows its partition and the local properties of the time when its job began."""
    context.setLocalProperty("color", "red")

    def told(_part: Any) -> list[Any]:
        task = TaskContext.current()
        return [(task.partitionId(), task.getLocalProperty("color"), task.getLocalProperty("none"))]

    assert context.parallelize(range(2), 2).mapPartitions(told).collect() == [
        (0, "red", None),
        (1, "red", None),
    ]
    assert TaskContext.get() is None
    with pytest.raises(RuntimeError, match="no running task"):
        TaskContext.current()


def test_rdds_of_another_context_are_refused(context: LocalContext) -> None:
    """An RDD of another context cannot be combined with one of this."""
    with LocalContext("local") as other:
        foreign = other.parallelize([("a", 1)])
        mine = context.parallelize([("a", 1)])
        for combine in (mine.union, mine.join, mine.cogroup, lambda rdd: context.union([mine, rdd])):
            with pytest.raises(ConfigurationError, match="make both with one context"):
                combine(foreign)


def test_union_keeps_the_order_of_its_parents(context: LocalContext) -> None:
    """A union has the partitions of its parents, the first one's first, also below other operators."""
    one, other = context.parallelize([1, 2], 2), context.parallelize([3], 1)
    both = one.union(other).mapPartitionsWithIndex(lambda index, part: [(index, n) for n in part])

    assert both.collect() == [(0, 1), (1, 2), (2, 3)]
    assert context.union([both, both]).count() == 6


def test_users_protocol_is_pyspark_s() -> None:
    """Every method of the protocol that users' functions get is PySpark's and ours, by the same names of parameters."""
    for name, method in vars(RDD).items():
        if name.startswith("_") or not inspect.isfunction(method):
            continue
        theirs = inspect.signature(getattr(pyspark.RDD, name)).parameters
        mine = inspect.signature(getattr(LocalRDD, name)).parameters
        asked = inspect.signature(method).parameters
        assert list(asked) == list(theirs)[: len(asked)] == list(mine)[: len(asked)], name


@pytest.mark.slow
def test_shuffle_files_can_be_dropped_early(tmp_path: Path) -> None:
    """A call of cleanShuffleDependencies removes what exchanges wrote, and a later job computes it anew."""
    with LocalContext("local", memory=1, temporaryFolder=str(tmp_path)) as sc:
        groups = (
            sc.parallelize(range(20_000), 2)
            .map(lambda n: (n, random.Random(n).randbytes(100)))
            .partitionBy(2)
        )
        before = groups.count()
        files = list(tmp_path.glob("*/*/shuffle-*"))
        groups.cleanShuffleDependencies()

        assert files
        assert not any(path.exists() for path in files)
        assert groups.count() == before


def test_data_frames_and_profiles_need_spark() -> None:
    """toDF, show_profiles and dump_profiles name the backend that has them."""
    with LocalContext("local") as sc:
        for call in (sc.parallelize([1]).toDF, sc.show_profiles, lambda: sc.dump_profiles("profiles")):
            with pytest.raises(ConfigurationError, match=r"needs the Spark backend"):
                call()


def test_get_or_create_gives_the_context_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest running context is given; where none runs, one is made of the settings over the system properties."""
    monkeypatch.setattr(LocalContext, "_newest", None)
    monkeypatch.setitem(SYSTEM_PROPERTIES, "spark.master", "local")
    monkeypatch.setitem(SYSTEM_PROPERTIES, "spark.app.name", "app")
    LocalContext.setSystemProperty("spark.app.name", "set")
    with LocalContext.getOrCreate({"spark.app.name": "given"}) as first:
        assert (first.master, first.appName) == ("local", "given")
        assert LocalContext.getOrCreate() is first
    with LocalContext.getOrCreate() as second:
        assert second is not first
        assert (second.appName, second.getSystemProperty("spark.none")) == ("set", None)
