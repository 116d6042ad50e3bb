"""What the operations on pairs give, held against plain Python, and where the pairs lie; on both backends."""

import random
from collections import defaultdict
from collections.abc import Callable
from itertools import product
from operator import add
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine import LocalContext
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError, UserFunctionError
from engine.testing import run_batches
from tests.engine.app import App, collected

Pairs = list[tuple[Any, Any]]
LEFT: Pairs = [("a", 1), ("b", 2), ("a", 3), ("c", None)]
RIGHT: Pairs = [("a", "x"), ("d", "y"), ("a", "z"), ("c", None)]
JOINS = ["join", "leftOuterJoin", "rightOuterJoin", "fullOuterJoin"]


def order(pair: Any) -> str:
    """A key to sort anything by."""
    return repr(pair)


def of_sides(context: LocalContext, build: Callable[[DStream[Any], DStream[Any]], DStream[Any]]) -> Pairs:
    """What a job of two streams gives for LEFT and RIGHT in one batch."""

    def job(s: DStream[Any]) -> DStream[Any]:
        left = s.filter(lambda tagged: tagged[0] == 0).map(lambda tagged: tagged[1])
        return build(left, s.filter(lambda tagged: tagged[0] == 1).map(lambda tagged: tagged[1]))

    tagged = [(0, pair) for pair in LEFT] + [(1, pair) for pair in RIGHT]
    return sorted(run_batches(job, [tagged], context=context)[0], key=order)


def joined(left: Pairs, right: Pairs, *, keeps_left: bool, keeps_right: bool) -> Pairs:
    """A join by its rule: the product of the values of each key, None for a side that lacks it and may."""
    sides: defaultdict[Any, tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
    for key, value in left:
        sides[key][0].append(value)
    for key, value in right:
        sides[key][1].append(value)
    made = []
    for key, (ours, theirs) in sides.items():
        if (ours or keeps_right) and (theirs or keeps_left):
            made += [(key, pair) for pair in product(ours or [None], theirs or [None])]
    return sorted(made, key=order)


RULES = {
    "join": {"keeps_left": False, "keeps_right": False},
    "leftOuterJoin": {"keeps_left": True, "keeps_right": False},
    "rightOuterJoin": {"keeps_left": False, "keeps_right": True},
    "fullOuterJoin": {"keeps_left": True, "keeps_right": True},
}


@pytest.mark.parametrize("partitions", [None, 1, 3])
@pytest.mark.parametrize("operator", JOINS)
def test_joins_give_the_product_of_each_key(
    context: LocalContext, operator: str, partitions: int | None
) -> None:
    """Each join gives the product of a key's values, and None for the side that lacks a key; a value None is a value."""
    got = of_sides(context, lambda left, right: getattr(left, operator)(right, partitions))

    assert got == joined(LEFT, RIGHT, **RULES[operator])


@pytest.mark.parametrize("operator", JOINS)
def test_joins_of_random_pairs_follow_the_rule(local_two: LocalContext, operator: str) -> None:
    """Joins of seeded random pairs, keys of all kinds and batches without elements among them, give what plain Python gives."""
    choose = random.Random(7)
    keys = [None, 0, 1, 2.5, "a", "b", b"a", ("a", 1), ""]

    def pairs(most: int) -> Pairs:
        return [(choose.choice(keys), choose.randrange(4)) for _ in range(choose.randrange(most))]

    batches = [(pairs(12), pairs(6)) for _ in range(8)]

    def job(s: DStream[Any]) -> DStream[Any]:
        left, right = (s.filter(lambda t, n=n: t[0] == n).map(lambda t: t[1]) for n in (0, 1))
        return getattr(left, operator)(right)  # type: ignore[no-any-return]

    tagged = [[(0, pair) for pair in left] + [(1, pair) for pair in right] for left, right in batches]
    got = run_batches(job, tagged, context=local_two)

    assert [sorted(batch, key=order) for batch in got] == [
        joined(left, right, **RULES[operator]) for left, right in batches
    ]


def test_cogroup_gives_the_values_of_both_sides(context: LocalContext) -> None:
    """Cogroup gives each key of either side with the values of both, in the order in which they came."""
    got = of_sides(
        context,
        lambda left, right: left.cogroup(right),
    )

    assert got == [
        ("a", ([1, 3], ["x", "z"])),
        ("b", ([2], [])),
        ("c", ([None], [None])),
        ("d", ([], ["y"])),
    ]


def test_cogroup_gives_lists(context: LocalContext) -> None:
    """The sides of a cogroup can be added and indexed."""
    got = of_sides(
        context,
        lambda left, right: left.cogroup(right).mapValues(lambda sides: (sides[0] + sides[1])[0]),
    )

    assert got == [("a", 1), ("b", 2), ("c", None), ("d", "y")]


def test_combine_by_key_makes_another_type(context: LocalContext) -> None:
    """CombineByKey builds a combiner of another type, in place or not, with map-side combining or without."""
    pairs = [(n % 3, n) for n in range(20)]

    def merge(known: list[int], n: int) -> list[int]:
        known.append(n)
        return known

    for settings in ({}, {"numPartitions": 2}, {"mapSideCombine": False}):
        (got,) = run_batches(
            lambda s, settings=settings: s.combineByKey(lambda n: [n], merge, add, **settings).mapValues(
                sorted
            ),
            [pairs],
            context=context,
        )
        assert sorted(got) == [(key, list(range(key, 20, 3))) for key in range(3)]


# Where pairs lie.


class ByFirstLetter(NamedTuple):
    """A partitioner as PySpark's, with a function of the key."""

    numPartitions: int

    def partitionFunc(self, key: str) -> int:
        """The place of the key's first letter in the alphabet."""
        return ord(key[0]) - ord("a")


class ScalaLike(NamedTuple):
    """A partitioner as Scala's."""

    numPartitions: int

    def getPartition(self, key: str) -> int:
        """The place of the key's first letter in the alphabet, in range."""
        return (ord(key[0]) - ord("a")) % self.numPartitions


WIDE: dict[str, Callable[[DStream[Any], Any], DStream[Any]]] = {
    "reduceByKey": lambda s, how: s.reduceByKey(add, how),
    "groupByKey": lambda s, how: s.groupByKey(how),
    "combineByKey": lambda s, how: s.combineByKey(lambda n: n, add, add, how),
    "partitionBy": lambda s, how: s.partitionBy(how),
    "join": lambda s, how: s.join(s, how),
    "leftOuterJoin": lambda s, how: s.leftOuterJoin(s, how),
    "rightOuterJoin": lambda s, how: s.rightOuterJoin(s, how),
    "fullOuterJoin": lambda s, how: s.fullOuterJoin(s, how),
    "cogroup": lambda s, how: s.cogroup(s, how),
    "reduceByKeyAndWindow": lambda s, how: s.reduceByKeyAndWindow(add, None, 1, 1, how),
    "groupByKeyAndWindow": lambda s, how: s.groupByKeyAndWindow(1, 1, how),
}


def keys_by_partition(
    context: LocalContext, build: Callable[[DStream[Any]], DStream[Any]], batch: Pairs
) -> list[list[str]]:
    """The distinct keys in each partition of the result, sorted."""

    def job(s: DStream[Any]) -> DStream[Any]:
        return build(s).mapPartitionsWithIndex(lambda i, part: [(i, sorted({key for key, _ in part}))])

    return [keys for _, keys in sorted(run_batches(job, [batch], context=context)[0])]


@pytest.mark.parametrize("partitioner", [ByFirstLetter(3), ScalaLike(3)], ids=["pyspark", "scala"])
@pytest.mark.parametrize("operator", WIDE)
def test_partitioner_objects_decide_where_keys_lie(
    context: LocalContext, operator: str, partitioner: Any
) -> None:
    """Every operation that takes numPartitions takes a partitioner object, and its pairs lie where that says."""
    batch = [(letter, 1) for letter in "abcdefa"]

    got = keys_by_partition(context, lambda s: WIDE[operator](s, partitioner), batch)

    assert got == [["a", "d"], ["b", "e"], ["c", "f"]]


@pytest.mark.parametrize("operator", WIDE)
def test_number_of_partitions_is_kept(context: LocalContext, operator: str) -> None:
    """Every operation that takes numPartitions gives so many partitions, each key in one of them."""
    parts = keys_by_partition(context, lambda s: WIDE[operator](s, 5), [(letter, 1) for letter in "abcdefgh"])

    assert len(parts) == 5
    assert sorted(key for part in parts for key in part) == list("abcdefgh")


def test_partition_by_takes_a_function(context: LocalContext) -> None:
    """PartitionBy sends a key to what its function says, modulo the number, also below zero."""
    batch = [(n, None) for n in range(-3, 4)]

    got = keys_by_partition(context, lambda s: s.partitionBy(3, lambda key: key), batch)

    assert got == [[-3, 0, 3], [-2, 1], [-1, 2]]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "4", []])
@pytest.mark.parametrize("operator", WIDE)
def test_wrong_numbers_of_partitions_are_refused(operator: str, wrong: Any) -> None:
    """A number of partitions that is none is refused when the graph is built, with the value and the remedy."""
    with pytest.raises(ConfigurationError, match=r"numPartitions is .*; give a number of at least 1"):
        run_batches(lambda s: WIDE[operator](s, wrong), [[("a", 1)]])


# Odd keys and partitions.

BY_KEY: dict[str, Callable[[DStream[Any]], DStream[Any]]] = {
    "reduceByKey": lambda s: s.reduceByKey(add),
    "groupByKey": lambda s: s.groupByKey().mapValues(sum),
    "combineByKey": lambda s: s.combineByKey(lambda n: n, add, add),
    "join": lambda s: s.reduceByKey(add).join(s.groupByKey()).mapValues(lambda sides: sides[0]),
    "cogroup": lambda s: s.cogroup(s).mapValues(lambda sides: sum(sides[0])),
    "window": lambda s: s.reduceByKeyAndWindow(add, None, 1),
    "inverse window": lambda s: s.reduceByKeyAndWindow(add, lambda x, y: x - y, 1),
    "grouped window": lambda s: s.groupByKeyAndWindow(1, 1).mapValues(sum),
    "update": lambda s: s.updateStateByKey(lambda values, state: sum(values) + (state or 0)),
}


@pytest.mark.parametrize("keys", [(1, 1.0, True), (0, 0.0, -0.0, False), ((1, "a"), (1.0, "a"), (True, "a"))])
@pytest.mark.parametrize("operator", BY_KEY)
def test_keys_that_are_equal_are_one_key(
    context: LocalContext, tmp_path: Path, operator: str, keys: tuple[Any, ...]
) -> None:
    """1, 1.0 and True are one key, 0.0 and -0.0 too, and tuples of them, wherever they came from."""
    batch = [(key, 1) for key in keys for _ in range(3)] + [("other", 1)]

    (got,) = run_batches(BY_KEY[operator], [batch], context=context, checkpoint=tmp_path)

    assert sorted(total for _, total in got) == [1, 3 * len(keys)]
    assert sum(key == keys[0] for key, _ in got) == 1


@pytest.mark.parametrize("operator", BY_KEY)
def test_none_is_a_key(context: LocalContext, tmp_path: Path, operator: str) -> None:
    """None is a key like another, and not that of 0 or of nothing."""
    batch = [(None, 1), (0, 10), (None, 2), ("", 20)]

    (got,) = run_batches(BY_KEY[operator], [batch], context=context, checkpoint=tmp_path)

    assert sorted(got, key=order) == [("", 20), (0, 10), (None, 3)]


@pytest.mark.parametrize("operator", BY_KEY)
def test_unhashable_keys_give_one_clear_error(context: LocalContext, tmp_path: Path, operator: str) -> None:
    """A list as a key ends the batch with an error that names its type."""
    with pytest.raises(UserFunctionError, match="list"):
        run_batches(BY_KEY[operator], [[(["a"], 1), (["a"], 2)]], context=context, checkpoint=tmp_path)


@pytest.mark.parametrize("operator", [name for name in BY_KEY if name != "update"])
def test_partitions_without_data_change_nothing(context: LocalContext, tmp_path: Path, operator: str) -> None:
    """Empty partitions, empty batches and a queue that has run dry give nothing and break nothing."""

    def job(s: DStream[Any]) -> DStream[Any]:
        return BY_KEY[operator](s.filter(lambda pair: pair[0] != "gone").repartition(7))

    got = collected(context, tmp_path, job, [[("a", 1)], [], [("gone", 1)], [("a", 2)]])

    assert got == [[("a", 1)], [], [], [("a", 2)]]


def test_queue_that_runs_dry_gives_empty_batches(context: LocalContext, tmp_path: Path) -> None:
    """Behind its last item a queue gives empty batches: counts of 0, no pair, and windows that run empty."""

    def job(_ssc: Any, stream: DStream[Any], app: App) -> None:
        app.collect(stream.count(), "count")
        app.collect(stream.groupByKey(), "grouped")
        app.collect(stream.join(stream), "joined")
        app.collect(stream.countByWindow(2, 1), "window")
        app.collect(stream.groupByKeyAndWindow(2, 1), "values")

    with App(context, tmp_path, job, [[("a", 1)]]) as app:
        out = app.run(4).out

    assert out["count"] == [[1], [0], [0], [0]]
    assert out["grouped"] == [[("a", [1])], [], [], []]
    assert out["joined"] == [[("a", (1, 1))], [], [], []]
    assert out["window"] == [[1], [1], [0], [0]]
    assert out["values"] == [[("a", [1])], [("a", [1])], [], []]


@pytest.mark.parametrize(
    "job",
    [
        lambda s: s.combineByKey(next, add, add),
        lambda s: s.combineByKey(lambda _: 0, lambda _x, y: next(y), add),
        lambda s: s.combineByKey(lambda _: 0, lambda x, _: x, lambda _x, _y: next(iter([])), 1),
        lambda s: s.partitionBy(2, lambda _: next(iter([]))),
    ],
    ids=["create", "merge value", "merge combiners", "partition function"],
)
def test_stop_iteration_of_a_combiner_is_an_error(
    context: LocalContext, job: Callable[[DStream[Any]], DStream[Any]]
) -> None:
    """A StopIteration that escapes a combiner or a partition function fails the batch, and ends no partition in silence."""
    exhausted = [("a", iter([])) for _ in range(4)]

    with pytest.raises(UserFunctionError, match="StopIteration"):
        run_batches(lambda s: job(s.union(s)), [exhausted], context=context)
