"""What each operator gives for a batch, on both backends."""

import functools
from collections.abc import Callable, Sequence
from datetime import datetime
from operator import add, iadd
from typing import Any

import pyspark
import pytest

from engine import LocalContext, StreamingContext
from engine.batch import Time
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError, LifecycleError, UserFunctionError
from engine.rdd.api import RDD
from engine.storage import StorageLevel
from engine.testing import run_batches

Run = Callable[..., list[list[Any]]]


@pytest.fixture
def run(context: LocalContext) -> Run:
    """Runs a job over batches and gives each batch's elements, sorted."""

    def run(
        job: Callable[[DStream[Any]], DStream[Any]], batches: Sequence[Sequence[Any]], **settings: Any
    ) -> list[list[Any]]:
        return [sorted(batch) for batch in run_batches(job, batches, context=context, **settings)]

    return run


class Seen(Exception):  # noqa: N818 - not an error, a way for a task to tell what it saw
    """Carries a value out of a task."""


def test_map_applies_the_function_to_each_element(run: Run) -> None:
    """Map gives the function of every element."""
    assert run(lambda s: s.map(lambda n: n * 2), [[1, 2, 3], [], [4]]) == [[2, 4, 6], [], [8]]


def test_flat_map_gives_all_results(run: Run) -> None:
    """FlatMap gives each element of each result, and nothing for an empty one."""
    assert run(lambda s: s.flatMap(range), [[0, 1, 3]]) == [[0, 0, 1, 2]]


def test_filter_keeps_what_is_truthy(run: Run) -> None:
    """Filter keeps the elements whose result counts as true, not only those with True."""
    assert run(lambda s: s.filter(lambda n: n % 3), [[1, 2, 3, 4, 6]]) == [[1, 2, 4]]


def test_map_partitions_gets_whole_partitions(run: Run) -> None:
    """MapPartitions calls the function once a partition with an iterator, for empty partitions too."""
    sums = run(lambda s: s.mapPartitions(lambda part: [sum(part)]), [[1, 2, 3, 4], []])

    assert [sum(batch) for batch in sums] == [10, 0]
    assert len(sums[0]) in {1, 2}


def test_glom_makes_a_list_of_each_partition(run: Run) -> None:
    """Glom gives one list a partition, and together they hold the batch in its order."""
    (batch,) = run(lambda s: s.glom(), [[1, 2, 3, 4, 5]])

    assert functools.reduce(iadd, batch, []) == [1, 2, 3, 4, 5]


def test_map_values_keeps_keys(run: Run) -> None:
    """MapValues changes values only."""
    assert run(lambda s: s.mapValues(str), [[("a", 1), ("b", 2)]]) == [[("a", "1"), ("b", "2")]]


def test_flat_map_values_repeats_keys(run: Run) -> None:
    """FlatMapValues gives a pair for each result, and none where there is none."""
    assert run(lambda s: s.flatMapValues(range), [[("a", 2), ("b", 0)]]) == [[("a", 0), ("a", 1)]]


def test_narrow_operators_chain_in_order(run: Run) -> None:
    """A chain of narrow operators gives what its steps give one after another."""

    def job(s: DStream[Any]) -> DStream[Any]:
        pairs = s.flatMap(str.split).filter(lambda word: word != "x").map(lambda word: (word, len(word)))
        return pairs.flatMapValues(range).mapValues(lambda n: n + 1).filter(lambda pair: pair[1] > 1).map(str)

    assert run(job, [["ab x", "c def"]]) == [["('ab', 2)", "('def', 2)", "('def', 3)"]]


def test_union_gives_both_streams(run: Run) -> None:
    """Union gives the elements of both streams, duplicates too."""
    assert run(lambda s: s.union(s.map(lambda n: n + 1)), [[1, 2]]) == [[1, 2, 2, 3]]


def test_context_union_takes_many_streams(context: LocalContext) -> None:
    """The context's union gives the elements of all its streams, and refuses none."""
    ssc = StreamingContext(context, 1.0)
    one = ssc.queueStream([[1]])
    seen: list[list[int]] = []
    ssc.union(one, one.map(lambda n: n * 10), one).foreachRDD(lambda rdd: seen.append(rdd.collect()))
    ssc.start(thread=False)
    ssc.runBatch()
    ssc.stop(stopSparkContext=False)

    assert seen == [[1, 10, 1]]
    with pytest.raises(ConfigurationError, match="at least one DStream"):
        ssc.union()


def test_count_is_zero_for_an_empty_batch(run: Run) -> None:
    """Count gives one number a batch, 0 for an empty one."""
    assert run(lambda s: s.count(), [[1, 2, 3], [], [None]]) == [[3], [0], [1]]


def test_count_by_value_counts_equal_elements(run: Run) -> None:
    """CountByValue gives each distinct element with its number."""
    assert run(lambda s: s.countByValue(), [["a", "b", "a"], []]) == [[("a", 2), ("b", 1)], []]


def test_reduce_gives_nothing_for_an_empty_batch(run: Run) -> None:
    """Reduce gives one element a batch and none for an empty one."""
    assert run(lambda s: s.reduce(add), [[1, 2, 3], [], [7]]) == [[6], [], [7]]


def test_reduce_by_key_reduces_each_key(run: Run) -> None:
    """ReduceByKey gives one pair a key, with keys of every kind."""
    batch = [("a", 1), (("a", 2), 1), (None, 1), ("a", 5), (None, 2), (b"a", 1), (2.5, 1)]

    (got,) = run(lambda s: s.reduceByKey(add).map(lambda pair: (str(pair[0]), pair[1])), [batch])

    assert got == [("('a', 2)", 1), ("2.5", 1), ("None", 3), ("a", 6), ("b'a'", 1)]


def test_equal_numbers_are_one_key(run: Run) -> None:
    """1, 1.0 and True are one key, as they are in a dict."""
    assert run(lambda s: s.reduceByKey(add).map(lambda pair: pair[1]), [[(1, 1), (1.0, 2), (True, 4)]]) == [
        [7]
    ]


def test_group_by_key_keeps_the_order_of_values(run: Run) -> None:
    """GroupByKey lists the values of each key in the order in which they came."""
    batch = [("a", n) for n in range(20)] + [("b", 0)]

    assert run(lambda s: s.groupByKey(), [batch]) == [[("a", list(range(20))), ("b", [0])]]


@pytest.mark.parametrize("partitions", [1, 3, 16])
def test_number_of_partitions_changes_no_result(run: Run, partitions: int) -> None:
    """Pair operators give the same for every numPartitions."""
    pairs = [(n % 7, n) for n in range(50)]
    expected = [(key, sum(range(key, 50, 7))) for key in range(7)]

    assert run(lambda s: s.reduceByKey(add, partitions), [pairs]) == [expected]
    assert run(lambda s: s.groupByKey(partitions).mapValues(sum), [pairs]) == [expected]
    joined = run(lambda s: s.reduceByKey(add).join(s.reduceByKey(add), partitions), [pairs])
    assert joined == [[(key, (total, total)) for key, total in expected]]


def test_join_gives_the_product_of_equal_keys(run: Run) -> None:
    """Join gives a pair for each two values of one key in a batch, and none for a key of one side."""
    left = [("a", 1), ("a", 2), ("b", 3)]

    def job(s: DStream[Any]) -> DStream[Any]:
        return s.join(s.filter(lambda pair: pair[0] == "a").mapValues(str))

    assert run(job, [left]) == [[("a", (1, "1")), ("a", (1, "2")), ("a", (2, "1")), ("a", (2, "2"))]]


def test_transform_gets_the_batch_as_rdd(run: Run) -> None:
    """Transform gives the RDD that its function makes of the batch's."""
    assert run(lambda s: s.transform(lambda rdd: rdd.union(rdd)), [[1]]) == [[1, 1]]


def test_transform_that_returns_none_is_refused(context: LocalContext) -> None:
    """A transform without a return value ends the batch with a sentence that says what to return."""
    with pytest.raises(ConfigurationError, match=r"return sc.emptyRDD\(\)"):
        run_batches(lambda s: s.transform(lambda _rdd: None), [[1]], context=context)


def test_cached_stream_is_computed_once(context: LocalContext) -> None:
    """A cached stream calls its functions once an element, however many outputs read it."""
    calls = context.accumulator(0)

    def counted(n: int) -> int:
        calls.add(1)
        return n

    def job(s: DStream[Any]) -> DStream[Any]:
        cached = s.map(counted).cache()
        cached.foreachRDD(lambda rdd: rdd.count())
        return cached.union(cached)

    assert run_batches(job, [[1, 2, 3], [4]], context=context)
    assert calls.value == 4


def test_streams_without_cache_are_computed_for_each_reader(context: LocalContext) -> None:
    """Without cache each output computes the stream again."""
    calls = context.accumulator(0)

    def counted(n: int) -> int:
        calls.add(1)
        return n

    def job(s: DStream[Any]) -> DStream[Any]:
        counted_stream = s.map(counted)
        counted_stream.foreachRDD(lambda rdd: rdd.count())
        return counted_stream

    assert run_batches(job, [[1, 2, 3]], context=context)
    assert calls.value == 6


@pytest.mark.parametrize(
    "job",
    [
        lambda s: s.map(next),
        lambda s: s.filter(next),
        lambda s: s.flatMap(next),
        lambda s: s.map(lambda it: (1, it)).mapValues(next),
        lambda s: s.map(lambda it: (1, it)).flatMapValues(next),
        lambda s: s.mapPartitions(lambda part: next(iter([])) and part),
        lambda s: s.map(lambda _: (1, 1)).reduceByKey(lambda _x, _y: next(iter([]))),
        lambda s: s.map(lambda _: (1, 1)).updateStateByKey(lambda _values, _state: next(iter([]))),
        lambda s: s.map(lambda _: (1, 1)).reduceByKeyAndWindow(lambda _x, _y: next(iter([])), None, 2),
    ],
    ids=[
        "map",
        "filter",
        "flatMap",
        "mapValues",
        "flatMapValues",
        "mapPartitions",
        "reduceByKey",
        "update",
        "window",
    ],
)
def test_stop_iteration_of_a_function_is_an_error(
    context: LocalContext, job: Callable[[DStream[Any]], DStream[Any]]
) -> None:
    """A StopIteration that escapes a user's function fails the batch, and never ends a partition in silence."""
    # Two elements a partition, each an exhausted iterator: `next` of it raises.
    exhausted = [iter([]) for _ in range(4)]

    with pytest.raises(UserFunctionError, match="StopIteration"):
        run_batches(job, [exhausted], context=context)


def test_error_of_a_function_names_stream_and_batch(context: LocalContext) -> None:
    """What a user's function raises ends the batch with the user's own traceback, the output and the batch named."""

    def fails_here(n: int) -> int:
        return n // 0

    with pytest.raises(UserFunctionError) as caught:
        run_batches(lambda s: s.map(fails_here), [[1]], context=context)

    assert "output 'foreachRDD(map(queue))', batch 1000000001000: ZeroDivisionError" in str(caught.value)
    assert "in fails_here" in caught.value.user_traceback


def test_error_of_an_update_names_the_operator(context: LocalContext) -> None:
    """What an update function raises names its operator."""

    def fails_here(_values: list[int], _state: int | None) -> int:
        raise KeyError("page")

    with pytest.raises(UserFunctionError, match="operator 'totals', batch 1000000001000: KeyError: 'page'"):
        run_batches(lambda s: s.updateStateByKey(fails_here, name="totals"), [[("a", 1)]], context=context)


def test_error_of_an_output_keeps_its_cause(context: LocalContext) -> None:
    """What a foreachRDD function raises in the driver is the cause of the error."""

    def job(s: DStream[Any]) -> DStream[Any]:
        def output(_rdd: RDD[Any]) -> None:
            raise Seen("here")

        s.foreachRDD(output)
        return s

    with pytest.raises(UserFunctionError, match="Seen: here") as caught:
        run_batches(job, [[1]], context=context)
    assert isinstance(caught.value.__cause__, Seen)


def test_foreach_rdd_ignores_what_its_function_returns(context: LocalContext) -> None:
    """A foreachRDD function may return anything (PySpark fails on a truthy return value)."""

    def job(s: DStream[Any]) -> DStream[Any]:
        s.foreachRDD(lambda rdd: rdd.collect())
        return s

    assert run_batches(job, [[1], [2]], context=context) == [[1], [2]]


def test_outputs_run_in_the_order_of_their_definition(context: LocalContext) -> None:
    """The outputs of a batch run one after another, as they were defined."""
    order: list[str] = []

    def job(s: DStream[Any]) -> DStream[Any]:
        for name in ("first", "second", "third"):
            s.foreachRDD(lambda _rdd, name=name: order.append(name))
        return s

    run_batches(job, [[1], [2]], context=context)

    assert order == ["first", "second", "third"] * 2


def test_graph_is_fixed_after_the_start(context: LocalContext) -> None:
    """A new operator after the start is refused with Spark's words."""
    ssc = StreamingContext(context, 1.0)
    stream = ssc.queueStream([[1]])
    stream.pprint()
    ssc.start(thread=False)
    try:
        with pytest.raises(LifecycleError, match="after starting a context is not supported"):
            stream.map(str)
    finally:
        ssc.stop(stopSparkContext=False)


def test_queue_gives_one_item_a_batch_and_sees_later_ones(context: LocalContext) -> None:
    """A queue stream takes one item a batch, sees what is appended later, and then gives the default."""
    queue: list[Any] = [[1], context.parallelize([2, 3])]
    ssc = StreamingContext(context, 1.0)
    seen: list[list[int]] = []
    ssc.queueStream(queue, default=[0]).foreachRDD(lambda rdd: seen.append(rdd.collect()))
    ssc.start(thread=False)
    for item in (None, None, [4], None):
        if item:
            queue.append(item)
        ssc.runBatch()
    ssc.stop(stopSparkContext=False)

    assert seen == [[1], [2, 3], [4], [0]]


def test_queue_gives_all_items_at_once_when_asked(context: LocalContext) -> None:
    """With oneAtATime=False a batch takes every item that waits."""
    ssc = StreamingContext(context, 1.0)
    seen: list[list[int]] = []
    ssc.queueStream([[1], [2]], oneAtATime=False).foreachRDD(lambda rdd: seen.append(rdd.collect()))
    ssc.start(thread=False)
    ssc.runBatch()
    ssc.runBatch()
    ssc.stop(stopSparkContext=False)

    assert seen == [[1, 2], []]


def test_map_partitions_with_index_numbers_the_partitions(run: Run) -> None:
    """MapPartitionsWithIndex gets each index once with its partition, empty ones too."""
    got = run(
        lambda s: s.repartition(4).mapPartitionsWithIndex(lambda i, part: [(i, sum(part))]), [[1, 2, 3], []]
    )

    assert [[i for i, _ in batch] for batch in got] == [[0, 1, 2, 3]] * 2
    assert [sum(total for _, total in batch) for batch in got] == [6, 0]


@pytest.mark.parametrize("partitions", [1, 2, 9])
def test_repartition_makes_so_many_partitions(run: Run, partitions: int) -> None:
    """Repartition keeps every element and gives as many partitions as asked, about as full as each other."""
    (batch,) = run(lambda s: s.repartition(partitions).glom(), [list(range(36))])

    assert len(batch) == partitions
    assert sorted(functools.reduce(iadd, batch, [])) == list(range(36))
    assert max(map(len, batch)) <= 36 // partitions + partitions


@pytest.mark.parametrize(
    "function",
    [
        lambda mine, theirs: mine.union(theirs),
        lambda _time, mine, theirs: mine.union(theirs),
        lambda mine, theirs, more=1: mine.union(theirs),
        lambda mine, theirs=None: mine.union(theirs),
        functools.partial(lambda tag, mine, theirs: mine.union(theirs), "tag"),
        lambda *rdds: rdds[0].union(rdds[1]),
    ],
    ids=["two", "three", "default", "default for the second", "partial", "star"],
)
def test_transform_with_gets_the_rdds_of_both(run: Run, function: Callable[..., RDD[Any]]) -> None:
    """TransformWith calls a function of (rdd, rdd) or (time, rdd, rdd) with this stream's RDD first, however it is written."""
    assert run(
        lambda s: s.transformWith(function, s.map(lambda n: n * 10), keepSerializer=True), [[1, 2], []]
    ) == [
        [1, 2, 10, 20],
        [],
    ]


def test_transform_with_gets_the_batch_time(context: LocalContext) -> None:
    """TransformWith gives a function of three the naive local datetime of the batch."""
    times: list[datetime] = []

    def job(s: DStream[Any]) -> DStream[Any]:
        return s.transformWith(lambda time, mine, _: times.append(time) or mine, s)

    run_batches(job, [[1], [2]], context=context)

    assert times == [Time(1_000_000_000_000 + n * 1_000).as_datetime() for n in (1, 2)]


def test_streams_know_their_context_and_slide(context: LocalContext) -> None:
    """Every stream tells its StreamingContext and its slide, seconds."""
    ssc = StreamingContext(context, 0.5)
    stream = ssc.queueStream([])

    assert stream.context() is ssc
    assert stream.map(str).window(2, 1).count().context() is ssc
    assert (stream.slideDuration, stream.window(2, 1).map(str).slideDuration) == (0.5, 1.0)


def test_count_by_value_takes_a_number_of_partitions(run: Run) -> None:
    """CountByValue gives so many partitions as asked."""
    assert run(lambda s: s.countByValue(3).glom().count(), [["a", "b", "a"]]) == [[3]]


LEVELS = sorted(name for name in vars(StorageLevel) if name.isupper())


@pytest.mark.parametrize("name", LEVELS)
def test_every_storage_level_gives_the_same(context: LocalContext, name: str) -> None:
    """A stream that is kept at any level gives its elements to each reader, computed once unless the level is NONE."""
    calls = context.accumulator(0)

    def counted(n: int) -> list[int]:
        calls.add(1)
        return [n]

    def job(s: DStream[Any]) -> DStream[Any]:
        kept = s.map(counted).persist(getattr(StorageLevel, name))
        kept.foreachRDD(lambda rdd: rdd.map(lambda element: element.append(0)).count())
        return kept.union(kept)

    assert run_batches(job, [[1, 2], [3]], context=context) == [[[1], [2], [1], [2]], [[3], [3]]]
    assert calls.value == (9 if name == "NONE" else 3)


def test_pysparks_own_levels_are_taken(context: LocalContext) -> None:
    """A job that imports its levels from PySpark keeps them."""

    def job(s: DStream[Any]) -> DStream[Any]:
        return s.persist(pyspark.StorageLevel.MEMORY_AND_DISK_2)

    assert run_batches(job, [[1]], context=context) == [[1]]
