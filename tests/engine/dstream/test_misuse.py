"""What is wrong is refused before a batch runs, with the thing, the value and the remedy, in Spark's words where it has some."""

from collections.abc import Callable, Iterator
from operator import add
from typing import Any

import pytest

from engine import LocalContext, ManualClock, StreamingContext
from engine.dstream.dstream import DStream
from engine.dstream.nodes import ForEachDStream
from engine.errors import ConfigurationError, LifecycleError, StreamingError
from engine.storage import StorageLevel
from engine.testing import run_batches

Operation = Callable[[DStream[Any]], object]

OPERATIONS: dict[str, Operation] = {
    "map": lambda s: s.map(str),
    "flatMap": lambda s: s.flatMap(str),
    "filter": lambda s: s.filter(bool),
    "mapPartitions": lambda s: s.mapPartitions(list),
    "mapPartitionsWithIndex": lambda s: s.mapPartitionsWithIndex(lambda _, part: part),
    "glom": lambda s: s.glom(),
    "repartition": lambda s: s.repartition(2),
    "partitionBy": lambda s: s.partitionBy(2),
    "transform": lambda s: s.transform(lambda rdd: rdd),
    "transformWith": lambda s: s.transformWith(lambda x, y: x.union(y), s),
    "union": lambda s: s.union(s),
    "count": lambda s: s.count(),
    "countByValue": lambda s: s.countByValue(),
    "reduce": lambda s: s.reduce(add),
    "mapValues": lambda s: s.mapValues(str),
    "flatMapValues": lambda s: s.flatMapValues(str),
    "reduceByKey": lambda s: s.reduceByKey(add),
    "groupByKey": lambda s: s.groupByKey(),
    "combineByKey": lambda s: s.combineByKey(str, add, add),
    "join": lambda s: s.join(s),
    "leftOuterJoin": lambda s: s.leftOuterJoin(s),
    "rightOuterJoin": lambda s: s.rightOuterJoin(s),
    "fullOuterJoin": lambda s: s.fullOuterJoin(s),
    "cogroup": lambda s: s.cogroup(s),
    "window": lambda s: s.window(2),
    "countByWindow": lambda s: s.countByWindow(2, 1),
    "countByValueAndWindow": lambda s: s.countByValueAndWindow(2, 1),
    "reduceByWindow": lambda s: s.reduceByWindow(add, None, 2, 1),
    "groupByKeyAndWindow": lambda s: s.groupByKeyAndWindow(2, 1),
    "reduceByKeyAndWindow": lambda s: s.reduceByKeyAndWindow(add, None, 2),
    "updateStateByKey": lambda s: s.updateStateByKey(lambda _values, state: state),
    "foreachRDD": lambda s: s.foreachRDD(lambda rdd: rdd.count()),
    "pprint": lambda s: s.pprint(),
    "print": lambda s: s.print(),
    "saveAsTextFiles": lambda s: s.saveAsTextFiles("nowhere"),
    "saveAsPickleFiles": lambda s: s.saveAsPickleFiles("nowhere"),
    "saveAsObjectFiles": lambda s: s.saveAsObjectFiles("nowhere"),
    "saveAsHadoopFiles": lambda s: s.saveAsHadoopFiles("nowhere"),
    "saveAsNewAPIHadoopFiles": lambda s: s.saveAsNewAPIHadoopFiles("nowhere"),
}
OF_TWO: dict[str, Callable[[DStream[Any], Any], object]] = {
    "union": lambda s, other: s.union(other),
    "transformWith": lambda s, other: s.transformWith(lambda x, _: x, other),
    "join": lambda s, other: s.join(other),
    "leftOuterJoin": lambda s, other: s.leftOuterJoin(other),
    "rightOuterJoin": lambda s, other: s.rightOuterJoin(other),
    "fullOuterJoin": lambda s, other: s.fullOuterJoin(other),
    "cogroup": lambda s, other: s.cogroup(other),
}
WINDOWS: dict[str, Callable[[DStream[Any], float, float], object]] = {
    "window": lambda s, length, slide: s.window(length, slide),
    "countByWindow": lambda s, length, slide: s.countByWindow(length, slide),
    "countByValueAndWindow": lambda s, length, slide: s.countByValueAndWindow(length, slide),
    "reduceByWindow": lambda s, length, slide: s.reduceByWindow(add, None, length, slide),
    "groupByKeyAndWindow": lambda s, length, slide: s.groupByKeyAndWindow(length, slide),
    "reduceByKeyAndWindow": lambda s, length, slide: s.reduceByKeyAndWindow(add, None, length, slide),
}


@pytest.fixture(scope="module")
def ssc(local_two: LocalContext) -> StreamingContext:
    """A context that is never started."""
    return StreamingContext(local_two, 1.0)


@pytest.fixture
def started(local_two: LocalContext) -> Iterator[DStream[Any]]:
    """A stream of a context that runs."""
    ssc = StreamingContext(local_two, 1.0, clock=ManualClock(1_000_000))
    stream = ssc.queueStream([[("a", 1)]])
    stream.foreachRDD(lambda rdd: rdd.count())
    ssc.start(thread=False)
    yield stream
    ssc.stop(stopSparkContext=False)


def test_every_operation_of_a_stream_is_tried() -> None:
    """The operations below are all that a stream has, but for those that make no node."""
    others = {
        "context",
        "slideDuration",
        "slice",
        "cache",
        "persist",
        "checkpoint",
        "mapWithState",
        "stateSnapshots",
    }
    public = {name for name in dir(DStream) if not name.startswith("_")}

    assert public - others == set(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_after_the_start_are_refused(started: DStream[Any], operation: str) -> None:
    """Every operation and output after the start is refused at once, the lazy ones too, with Spark's words."""
    with pytest.raises(
        LifecycleError,
        match="Adding new inputs, transformations, and output operations after starting a context is not supported",
    ):
        OPERATIONS[operation](started)


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (lambda s: s.cache(), "Cannot change storage level of a DStream after streaming context has started"),
        (
            lambda s: s.persist(StorageLevel.DISK_ONLY),
            "Cannot change storage level of a DStream after streaming context has started",
        ),
        (
            lambda s: s.checkpoint(10),
            "Cannot change checkpoint interval of a DStream after streaming context has started",
        ),
    ],
    ids=["cache", "persist", "checkpoint"],
)
def test_storage_after_the_start_is_refused(started: DStream[Any], operation: Operation, words: str) -> None:
    """Neither storage level nor checkpoint interval changes after the start, and the error names the stream."""
    with pytest.raises(LifecycleError, match=f"{words}; call .* on 'queue' before start"):
        operation(started)


def test_operations_after_the_stop_are_refused(local_two: LocalContext) -> None:
    """A context that was stopped takes no operation either, and does not start again."""
    ssc = StreamingContext(local_two, 1.0, clock=ManualClock(1_000_000))
    stream = ssc.queueStream([[1]])
    stream.pprint()
    ssc.start(thread=False)
    ssc.stop(stopSparkContext=False)

    with pytest.raises(LifecycleError, match="after stopping a context is not supported"):
        stream.map(str)
    with pytest.raises(LifecycleError, match="StreamingContext has already been stopped"):
        ssc.start(thread=False)


@pytest.mark.parametrize("interval", [0.5, 1.5, 0, -1])
def test_checkpoint_intervals_are_multiples_of_the_slide(ssc: StreamingContext, interval: float) -> None:
    """A checkpoint interval is at least the stream's slide and a multiple of it."""
    with pytest.raises(
        ConfigurationError, match=rf"interval {interval} s is not a multiple of the slide duration 1000 ms"
    ):
        ssc.queueStream([]).checkpoint(interval)


def test_checkpoint_interval_follows_a_windows_slide(ssc: StreamingContext) -> None:
    """A window that slides by two seconds takes checkpoint intervals of two seconds, and not of one."""
    window = ssc.queueStream([]).window(4, 2)

    assert window.checkpoint(4) is window
    with pytest.raises(ConfigurationError, match="slide duration 2000 ms"):
        window.checkpoint(3)


@pytest.mark.parametrize("level", ["MEMORY_ONLY", 1, None])
def test_storage_levels_are_levels(ssc: StreamingContext, level: Any) -> None:
    """A storage level that is none is refused with its value."""
    with pytest.raises(ConfigurationError, match=f"storage level is {level!r}; give one such as"):
        ssc.queueStream([]).persist(level)


@pytest.mark.parametrize(
    ("length", "slide", "wrong", "value"),
    [(1.5, 1, "windowDuration", 1500), (2, 1.5, "slideDuration", 1500), (0, 1, "windowDuration", 0)],
)
@pytest.mark.parametrize("operation", WINDOWS)
def test_durations_are_multiples_of_the_parents_slide(
    ssc: StreamingContext, operation: str, length: float, slide: float, wrong: str, value: int
) -> None:
    """Every window refuses a duration that is no positive multiple, with PySpark's words, kind of error and the value."""
    words = (
        rf"{wrong} must be multiple of the parent dstream's slide \(batch\) duration \(1000 ms\).*{value} ms"
    )

    with pytest.raises(ValueError, match=words):
        WINDOWS[operation](ssc.queueStream([]), length, slide)


@pytest.mark.parametrize("operation", OF_TWO)
def test_streams_of_unequal_slides_are_not_combined(ssc: StreamingContext, operation: str) -> None:
    """Two streams that slide differently are refused when they are combined, with both slides in the error."""
    stream = ssc.queueStream([])

    with pytest.raises(
        ValueError, match=r"different slide durations \[1000, 2000\] ms.*window them to one slide"
    ):
        OF_TWO[operation](stream, stream.window(2, 2))


def test_union_of_unequal_slides_has_pysparks_words(ssc: StreamingContext) -> None:
    """Union says what PySpark's says."""
    stream = ssc.queueStream([])

    with pytest.raises(ValueError, match="the two DStream should have same slide duration"):
        stream.union(stream.window(2, 2))


@pytest.mark.parametrize("operation", OF_TWO)
def test_streams_of_two_contexts_are_not_combined(
    ssc: StreamingContext, local_two: LocalContext, operation: str
) -> None:
    """A stream of another context is refused by name."""
    other = StreamingContext(local_two, 1.0).queueStream([])

    with pytest.raises(
        ConfigurationError, match="Some of the DStreams have different contexts; make 'queue'"
    ):
        OF_TWO[operation](ssc.queueStream([]), other)


@pytest.mark.parametrize("other", [[1, 2], None])
@pytest.mark.parametrize("operation", OF_TWO)
def test_only_streams_are_combined(ssc: StreamingContext, operation: str, other: Any) -> None:
    """What is no stream is refused with its value."""
    with pytest.raises(ConfigurationError, match=rf"{operation}: the other stream is .*; give a DStream"):
        OF_TWO[operation](ssc.queueStream([]), other)


@pytest.mark.parametrize("function", [None, 3])
@pytest.mark.parametrize(
    "operation",
    [
        lambda s, f: s.transform(f),
        lambda s, f: s.foreachRDD(f),
        lambda s, f: s.transformWith(f, s),
    ],
    ids=["transform", "foreachRDD", "transformWith"],
)
def test_functions_of_rdds_are_functions(
    ssc: StreamingContext, operation: Callable[[DStream[Any], Any], object], function: Any
) -> None:
    """What cannot be called is refused when the graph is built."""
    with pytest.raises(ConfigurationError, match=f"{function!r} cannot be called"):
        operation(ssc.queueStream([]), function)


@pytest.mark.parametrize("function", [lambda: None, lambda x: x, lambda a, b, c, d: a])
def test_transform_with_takes_functions_of_two_or_three(
    ssc: StreamingContext, function: Callable[..., Any]
) -> None:
    """TransformWith refuses functions of other numbers of arguments with PySpark's words."""
    stream = ssc.queueStream([])

    with pytest.raises(ConfigurationError, match="func should take two or three arguments"):
        stream.transformWith(function, stream)


@pytest.mark.parametrize(
    ("made", "words"), [(None, "return sc.emptyRDD"), ([1], r"returned \[1\]; return an RDD")]
)
def test_transforms_return_rdds(local_two: LocalContext, made: Any, words: str) -> None:
    """A transform that returns no RDD ends its batch with a sentence that says what to return."""
    with pytest.raises(ConfigurationError, match=f"transform: .*{words}"):
        run_batches(lambda s: s.transform(lambda _: made), [[1]], context=local_two)
    with pytest.raises(ConfigurationError, match=f"transformWith: .*{words}"):
        run_batches(lambda s: s.transformWith(lambda _x, _y: made, s), [[1]], context=local_two)


def test_graph_without_an_output_is_refused(local_two: LocalContext) -> None:
    """A context without an output does not start, says so in Spark's words, and starts when it has one."""
    ssc = StreamingContext(local_two, 1.0, clock=ManualClock(1_000_000))
    stream = ssc.queueStream([[1]]).map(str)

    with pytest.raises(ValueError, match="No output operations registered, so nothing to execute"):
        ssc.start(thread=False)
    stream.foreachRDD(lambda rdd: rdd.count())
    ssc.start(thread=False)
    ssc.stop(stopSparkContext=False)


@pytest.mark.parametrize(
    "operation",
    [
        lambda s: s.updateStateByKey(lambda _values, state: state),
        lambda s: s.reduceByKeyAndWindow(add, add, 2),
        lambda s: s.countByWindow(2, 1),
        lambda s: s.countByValueAndWindow(2, 1),
        lambda s: s.groupByKeyAndWindow(2, 1),
        lambda s: s.reduceByWindow(add, add, 2, 1),
    ],
    ids=[
        "update",
        "reduceByKeyAndWindow",
        "countByWindow",
        "countByValueAndWindow",
        "group",
        "reduceByWindow",
    ],
)
def test_state_asks_for_a_checkpoint_directory(
    local_two: LocalContext, operation: Callable[[DStream[Any]], DStream[Any]]
) -> None:
    """State and inverse windows do not start without a checkpoint directory, with Spark's words."""
    ssc = StreamingContext(local_two, 1.0, clock=ManualClock(1_000_000))
    operation(ssc.queueStream([])).pprint()

    with pytest.raises(
        ConfigurationError,
        match=r"The checkpoint directory has not been set\. Please set it by StreamingContext\.checkpoint\(\)\. '.*' keeps state",
    ):
        ssc.start(thread=False)


def test_second_start_does_nothing(local_two: LocalContext) -> None:
    """A start of a context that runs changes nothing."""
    clock = ManualClock(1_000_000)
    ssc = StreamingContext(local_two, 1.0, clock=clock)
    seen: list[list[int]] = []
    ssc.queueStream([[1], [2]]).foreachRDD(lambda rdd: seen.append(rdd.collect()))
    for _ in range(2):
        ssc.start(thread=False)
        clock.advance(1_000)
        ssc.runBatch()
    ssc.stop(stopSparkContext=False)

    assert seen == [[1], [2]]


def test_slice_before_the_start_is_refused(ssc: StreamingContext) -> None:
    """A stream that was not started has no slices, with Spark's words."""
    with pytest.raises(LifecycleError, match=r"'queue.*' has not been initialized; start the context"):
        ssc.queueStream([]).slice(0, 1)


def test_slice_of_a_backward_interval_is_refused(started: DStream[Any]) -> None:
    """A slice that ends before it begins is refused with both ends."""
    with pytest.raises(ConfigurationError, match="begin 1002 is after end 1001"):
        started.slice(1_002, 1_001)


def test_errors_of_arguments_are_value_errors() -> None:
    """Ports that expect PySpark's ValueError catch ours, and `except StreamingError` catches it too."""
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(ConfigurationError, StreamingError)


def test_refused_output_leaves_no_output_behind(ssc: StreamingContext) -> None:
    """An output that is refused is not in the graph."""
    before = len(ssc.graph.outputs)

    with pytest.raises(ConfigurationError):
        ssc.queueStream([]).foreachRDD(lambda: None)
    assert len(ssc.graph.outputs) == before
    assert all(isinstance(node, ForEachDStream) for node in ssc.graph.outputs)
