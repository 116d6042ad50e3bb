"""Wide operations against what plain Python gives for the same elements."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from operator import add
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import LocalContext
from engine.errors import ConfigurationError, UserFunctionError
from engine.rdd.lineage import Exchange
from engine.rdd.partitioner import HashPartitioner, Partitioner, hashes_of, partitions_of, portable_hash

Pair = tuple[Any, int]

keys = st.sampled_from([None, True, 0, 1, 1.0, -0.0, 2.5, "a", "b", b"a", (), ("a", 1), ("a", 1.0)])
pairs = st.lists(st.tuples(keys, st.integers(-5, 5)), max_size=30)
sizes = st.integers(1, 4)


@pytest.fixture(scope="module")
def here() -> Iterator[LocalContext]:
    """A context in this process, for many small jobs."""
    with LocalContext("local", "test") as made:
        yield made


def groups_of(elements: list[Pair]) -> dict[Any, list[int]]:
    """The values of each key, in order."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for key, value in elements:
        groups[key].append(value)
    return dict(groups)


# Properties.


@given(pairs, sizes, sizes)
def test_pairs_of_one_key_meet(here: LocalContext, elements: list[Pair], slices: int, count: int) -> None:
    """Reduce, group, fold, aggregate and combine by key give what a dict gives, equal keys of all types being one."""
    rdd = here.parallelize(elements, slices)
    groups = groups_of(elements)
    sums = {key: sum(values) for key, values in groups.items()}

    assert dict(rdd.groupByKey(count).collect()) == groups
    assert dict(rdd.reduceByKey(add, count).collect()) == sums
    assert dict(rdd.foldByKey(0, add, count).collect()) == sums
    assert rdd.reduceByKeyLocally(add) == sums
    lists: Any = rdd.aggregateByKey([], lambda known, n: known.append(n) or known, add, count)
    assert dict(lists.collect()) == groups
    combined: Any = rdd.combineByKey(lambda n: [n], lambda known, n: [*known, n], add, count)
    assert dict(combined.collect()) == groups
    assert len(rdd.groupByKey(count).collect()) == len(groups)


@given(pairs, pairs, sizes)
def test_joins_are_those_of_a_database(
    here: LocalContext, left: list[Pair], right: list[Pair], count: int
) -> None:
    """The four joins, cogroup and subtractByKey give what nested loops give."""
    ours, theirs = here.parallelize(left, 3), here.parallelize(right, 2)
    left_groups, right_groups = groups_of(left), groups_of(right)
    inner = [(key, (value, other)) for key, value in left for other in right_groups.get(key, ())]
    lonely_left = [(key, (value, None)) for key, value in left if key not in right_groups]
    lonely_right = [(key, (None, value)) for key, value in right if key not in left_groups]

    def same(rdd: Any, expected: list[Any]) -> None:
        assert Counter(rdd.collect()) == Counter(expected)

    same(ours.join(theirs, count), inner)
    same(ours.leftOuterJoin(theirs, count), inner + lonely_left)
    same(ours.rightOuterJoin(theirs, count), inner + lonely_right)
    same(ours.fullOuterJoin(theirs, count), inner + lonely_left + lonely_right)
    same(ours.subtractByKey(theirs, count), [pair for pair in left if pair[0] not in right_groups])
    assert dict(ours.cogroup(theirs, count).collect()) == {
        key: (left_groups.get(key, []), right_groups.get(key, [])) for key in (*left_groups, *right_groups)
    }
    assert dict(ours.groupWith(theirs, ours).collect()) == {
        key: (left_groups.get(key, []), right_groups.get(key, []), left_groups.get(key, []))
        for key in (*left_groups, *right_groups)
    }


@given(st.lists(keys), st.lists(keys), sizes)
def test_sets_are_those_of_python(here: LocalContext, left: list[Any], right: list[Any], slices: int) -> None:
    """Distinct, subtract and intersection give what sets give."""
    ours, theirs = here.parallelize(left, slices), here.parallelize(right, 2)

    assert Counter(ours.distinct(slices).collect()) == Counter(set(left))
    assert Counter(ours.intersection(theirs).collect()) == Counter(set(left) & set(right))
    assert Counter(ours.subtract(theirs).collect()) == Counter(key for key in left if key not in set(right))


@given(st.lists(st.integers()), sizes, sizes)
def test_elements_survive_other_partitions(
    here: LocalContext, elements: list[int], slices: int, count: int
) -> None:
    """Repartition and coalesce keep every element, in as many partitions as asked for."""
    rdd = here.parallelize(elements, slices)
    dealt = rdd.repartition(count).glom().collect()

    assert sorted(n for part in dealt for n in part) == sorted(elements)
    assert len(dealt) == count
    assert max(map(len, dealt)) - min(map(len, dealt)) <= slices
    assert rdd.coalesce(count).collect() == elements
    assert rdd.coalesce(count).getNumPartitions() == min(slices, count)
    assert rdd.coalesce(count, shuffle=True).getNumPartitions() == count


@given(st.lists(keys | st.integers() | st.text(st.characters(codec="utf-8")) | st.floats(allow_nan=False)))
def test_columns_hash_as_their_keys(column: list[Any]) -> None:
    """The hashes of a column are those of its keys one by one."""
    assert list(hashes_of(column)) == [portable_hash(key) for key in column]
    for kind in {type(key) for key in column}:
        own = [key for key in column if type(key) is kind]
        assert list(hashes_of(own)) == [portable_hash(key) for key in own]
    assert partitions_of(column, 3, None) == [portable_hash(key) % 3 for key in column]
    assert partitions_of(column, 3, lambda key: len(str(key))) == [len(str(key)) % 3 for key in column]


def test_edges_of_the_fast_hash() -> None:
    """Ints around the edge where Python's hash of an int is no longer the int hash as one by one."""
    for edge in (0, (1 << 61) - 2, (1 << 61) - 1, 1 << 61, -1):
        assert list(hashes_of([1, edge])) == [1, portable_hash(edge)]


# Partitioners.


def test_pairs_go_where_their_function_says(context: LocalContext) -> None:
    """A partition function decides the partition of a key, modulo their number."""
    rdd = context.parallelize([(n, str(n)) for n in range(8)], 3)

    assert rdd.partitionBy(3, lambda key: key).keys().glom().collect() == [[0, 3, 6], [1, 4, 7], [2, 5]]
    assert rdd.partitionBy(2, lambda key: -key).keys().glom().collect() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert rdd.reduceByKey(add, 4, lambda _: 7).glom().map(len).collect() == [0, 0, 0, 8]


def test_equal_partitioners_exchange_nothing(context: LocalContext) -> None:
    """A function equals itself only, and pairs that it spread are not exchanged for it again."""

    def first(key: Any) -> int:
        return len(key)

    rdd = context.parallelize([("a", 1), ("bb", 2)], 2).partitionBy(3, first)

    assert rdd.partitioner == Partitioner(3, first)
    assert rdd.partitionBy(3, first) is rdd
    assert rdd.partitionBy(3, lambda key: len(key)) is not rdd  # noqa: PLW0108 - another function that does the same
    assert rdd.partitionBy(3) is not rdd
    assert Partitioner(2) == HashPartitioner(2) != Partitioner(2, first)
    assert len({Partitioner(2), HashPartitioner(2), Partitioner(3)}) == 2
    for again in (
        rdd.reduceByKey(add, 3, first),
        rdd.groupByKey(3, first),
        rdd.mapValues(str).groupByKey(3, first),
    ):
        assert not any(isinstance(parent, Exchange) for parent in again.parents)
        assert len(again.collect()) == 2


def test_union_of_one_partitioner_keeps_it(context: LocalContext) -> None:
    """RDDs that one partitioner spread unite partition by partition, as in PySpark, and others one after the other."""
    one = context.parallelize([(1, "a"), (2, "b")], 1).partitionBy(2)
    other = context.parallelize([(3, "c")], 1).partitionBy(2)

    assert one.union(other).partitioner == HashPartitioner(2)
    assert one.union(other).glom().collect() == [[(2, "b")], [(1, "a"), (3, "c")]]
    assert one.union(other.partitionBy(3)).getNumPartitions() == 5
    assert context.union([]).collect() == []


# Details.


def test_union_zip_and_cartesian(context: LocalContext) -> None:
    """Elements of two RDDs stand side by side."""
    numbers, letters = context.parallelize([1, 2, 3], 2), context.parallelize("abc", 2)

    assert numbers.zip(letters).collect() == [(1, "a"), (2, "b"), (3, "c")]
    assert sorted(numbers.cartesian(letters).collect()) == [(n, c) for n in (1, 2, 3) for c in "abc"]
    assert numbers.cartesian(letters).getNumPartitions() == 4
    assert numbers.cartesian(numbers.filter(lambda n: n > 5)).collect() == []


def test_zip_of_unequal_parts_is_refused(context: LocalContext) -> None:
    """RDDs that cannot be zipped are refused with Spark's words."""
    rdd = context.parallelize([1, 2, 3], 2)
    with pytest.raises(ValueError, match="Can only zip with RDD which has the same number of partitions"):
        rdd.zip(context.parallelize([1], 1))
    for other in ([1, 2], [1, 2, 3, 4, 5]):
        with pytest.raises(UserFunctionError, match="same number of elements in each partition"):
            rdd.zip(context.parallelize(other, 2)).collect()


def test_zero_of_each_key_is_its_own(context: LocalContext) -> None:
    """A zero that is changed in place is not that of another key, nor of a later job."""
    rdd = context.parallelize([("a", 1), ("b", 2), ("a", 3)], 2)
    folded = rdd.aggregateByKey([], lambda known, n: known.append(n) or known, add)

    assert sorted(folded.collect()) == sorted(folded.collect()) == [("a", [1, 3]), ("b", [2])]


def test_what_a_reader_changes_harms_nobody(context: LocalContext) -> None:
    """A job that changes exchanged values in place leaves them as they were for the next one."""
    rdd = context.parallelize([("a", [1]), ("a", [2])], 2).partitionBy(2)
    grouped = rdd.groupByKey(2)

    for _ in range(2):
        assert rdd.mapValues(lambda value: value.append(0) or value).collect() == [
            ("a", [1, 0]),
            ("a", [2, 0]),
        ]
        assert grouped.mapValues(lambda group: group.append(0) or len(group)).collect() == [("a", 3)]
    assert grouped.collect() == [("a", [[1], [2]])]


@pytest.mark.parametrize("key", [["a"], {"a": 1}, {1}], ids=["list", "dict", "set"])
def test_unhashable_keys_are_refused(context: LocalContext, key: Any) -> None:
    """A key that cannot be hashed is one clear error, whatever the operation."""
    rdd = context.parallelize([(key, 1), (key, 2)], 2)
    for wide in (
        rdd.groupByKey,
        rdd.partitionBy,
        lambda n: rdd.reduceByKey(add, n),
        lambda n: rdd.join(rdd, n),
    ):
        for count in (1, 2):
            with pytest.raises(
                UserFunctionError, match="use None, a number, str, bytes, or a tuple of those"
            ):
                wide(count).collect()


def test_stop_iteration_is_an_error(context: LocalContext) -> None:
    """A StopIteration from a function of a wide operation is an error, never an early end."""

    def stops(*_: Any) -> Any:
        raise StopIteration("from the user")

    rdd = context.parallelize([("a", 1), ("a", 2), ("b", 3)], 2)
    jobs: list[Callable[[], Any]] = [
        lambda: rdd.reduceByKey(stops, 2),
        lambda: rdd.partitionBy(2, stops),
        lambda: rdd.combineByKey(stops, stops, stops, 2),
        lambda: rdd.combineByKey(lambda n: n, add, stops, 1),
        lambda: rdd.aggregateByKey(0, stops, stops, 2),
        lambda: rdd.sortBy(stops, True, 2),
        lambda: rdd.sortByKey(True, 1, stops),
        lambda: rdd.groupBy(stops, 2),
        lambda: rdd.repartitionAndSortWithinPartitions(1, keyfunc=stops),
        lambda: (
            rdd.groupByKey(2)
            .mapValues(len)
            .reduceByKey(add, 2)
            .union(rdd.partitionBy(2))
            .reduceByKey(stops, 2)
        ),
    ]
    for job in jobs:
        with pytest.raises(UserFunctionError, match="StopIteration"):
            job().collect()


def test_not_a_number_is_a_key_each(context: LocalContext) -> None:
    """NaN is no number's equal, so each is a key of its own, and is where every NaN is."""
    rdd = context.parallelize([(math.nan, 1), (-math.nan, 2)], 2).partitionBy(5)

    assert sorted(map(len, rdd.glom().collect())) == [0, 0, 0, 0, 2]


@pytest.mark.parametrize("count", [0, -1])
def test_partitions_below_one_are_refused(context: LocalContext, count: int) -> None:
    """No operation takes a number of partitions below 1."""
    rdd = context.parallelize([(1, 1)])
    for wide in (rdd.partitionBy, rdd.groupByKey, rdd.distinct, rdd.repartition, rdd.coalesce):
        with pytest.raises(
            ConfigurationError, match=f"numPartitions is {count}; give a number of at least 1"
        ):
            wide(count)


def test_operations_of_nothing(context: LocalContext) -> None:
    """RDDs without elements, and without partitions, give results without elements."""
    for empty in (context.parallelize([], 3), context.emptyRDD()):
        for result in (
            empty.reduceByKey(add),
            empty.groupByKey(),
            empty.join(empty),
            empty.fullOuterJoin(context.emptyRDD()),
            empty.distinct(),
            empty.repartition(3),
            empty.coalesce(2),
            empty.sortBy(lambda n: n),
            empty.sortByKey(numPartitions=3),
            empty.cartesian(empty),
            empty.zip(empty),
            empty.union(empty),
            empty.subtract(empty),
        ):
            assert result.collect() == []


def test_tree_operations_are_plain_ones(context: LocalContext) -> None:
    """A tree of one level reduces and aggregates alike, and refuses a depth that is none."""
    rdd = context.parallelize(range(10), 4)

    assert rdd.treeReduce(add) == rdd.treeAggregate(0, add, add, depth=3) == 45
    with pytest.raises(ConfigurationError, match="Depth cannot be smaller than 1 but got 0"):
        rdd.treeReduce(add, 0)
