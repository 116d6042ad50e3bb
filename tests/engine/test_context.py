"""The life of a context."""

import traceback
from pathlib import Path

import pytest

from engine import LocalContext, StreamingContext, StreamingContextState
from engine.errors import ConcurrentRunError, ConfigurationError, LifecycleError, UserFunctionError
from engine.sources.kafka import KafkaUtils, PreferConsistent, Subscribe
from engine.testing import run_batches


def with_output(context: LocalContext) -> StreamingContext:
    """A context with something to do."""
    ssc = StreamingContext(context, 1.0)
    ssc.queueStream([[1]]).foreachRDD(lambda rdd: rdd.count())
    return ssc


@pytest.mark.slow
def test_stop_ends_a_plan_that_waits_for_an_absent_server(context: LocalContext) -> None:
    """A context whose Kafka is not there waits for it, and stops all the same when it is told to."""
    ssc = StreamingContext(context, 0.05)
    params = {"bootstrap.servers": "127.0.0.1:9", "auto.offset.reset": "earliest"}
    KafkaUtils.createDirectStream(ssc, PreferConsistent, Subscribe(["away"], params)).pprint()
    ssc.start()
    assert not ssc.awaitTerminationOrTimeout(1.0)

    ssc.stop(stopSparkContext=False)

    assert ssc.awaitTerminationOrTimeout(0)
    assert ssc.getState() is StreamingContextState.STOPPED


def test_error_of_a_task_shows_the_line_of_the_user(context: LocalContext) -> None:
    """Whichever process ran it, the traceback of a failed batch shows the user's own function."""

    def divide_by_nothing(n: int) -> float:
        return n / 0

    with pytest.raises(UserFunctionError, match="ZeroDivisionError") as failure:
        run_batches(lambda numbers: numbers.map(divide_by_nothing), [[1]], context=context)

    assert "in divide_by_nothing" in "".join(traceback.format_exception(failure.value))


def test_state_follows_the_life(context: LocalContext) -> None:
    """A context is initialized, active and stopped; start and stop twice do nothing, a start after the stop is refused."""
    ssc = with_output(context)
    assert ssc.getState() is StreamingContextState.INITIALIZED
    ssc.start(thread=False)
    ssc.start(thread=False)
    assert ssc.getState() is StreamingContextState.ACTIVE
    assert StreamingContext.getActive() is ssc
    ssc.stop(stopSparkContext=False)
    ssc.stop(stopSparkContext=False)

    assert ssc.getState() is StreamingContextState.STOPPED
    assert StreamingContext.getActive() is None
    with pytest.raises(LifecycleError, match="StreamingContext has already been stopped"):
        ssc.start()


def test_stop_before_the_start_is_no_error(context: LocalContext) -> None:
    """A context that was never started can be stopped."""
    ssc = with_output(context)
    ssc.stop(stopSparkContext=False)

    assert ssc.awaitTerminationOrTimeout(0)


def test_stopped_context_is_not_awaited_for_ever(context: LocalContext) -> None:
    """Awaiting a context that was started without a thread returns once it is stopped."""
    ssc = with_output(context)
    ssc.start(thread=False)
    assert not ssc.awaitTerminationOrTimeout(0.01)
    ssc.stop(stopSparkContext=False)

    assert ssc.awaitTerminationOrTimeout(5)


def test_one_context_runs_in_a_process(context: LocalContext) -> None:
    """A second start in the process is refused with Spark's words, and possible after the first was stopped."""
    first, second = with_output(context), with_output(context)
    first.start(thread=False)
    with pytest.raises(LifecycleError, match="Only one StreamingContext may be started"):
        second.start(thread=False)
    first.stop(stopSparkContext=False)
    third = with_output(context)
    third.start(thread=False)
    third.stop(stopSparkContext=False)


def test_graph_without_an_output_is_refused(context: LocalContext) -> None:
    """A graph that does nothing is refused at the start, with Spark's words, and can be completed."""
    ssc = StreamingContext(context, 1.0)
    stream = ssc.queueStream([[1]])
    with pytest.raises(ConfigurationError, match="No output operations registered, so nothing to execute"):
        ssc.start(thread=False)
    stream.pprint()
    ssc.start(thread=False)
    ssc.stop(stopSparkContext=False)


def test_batches_need_a_start(context: LocalContext) -> None:
    """A batch of a context that was not started is refused."""
    with pytest.raises(LifecycleError, match=r"call start\(thread=False\) first"):
        with_output(context).runBatch()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batchDuration": 0}, "batchDuration is 0 s; give at least 0.001 s"),
        ({"batchDuration": 0.0001}, "batchDuration is 0.0001 s"),
        ({"batchDuration": -1}, "batchDuration is -1 s"),
        ({"shards": 0}, "shards is 0; give a number of at least 1"),
    ],
)
def test_impossible_settings_are_refused(
    context: LocalContext, settings: dict[str, float], words: str
) -> None:
    """A batch interval or number of shards that cannot be is refused with the value and the remedy."""
    with pytest.raises(ConfigurationError, match=words):
        StreamingContext(context, **settings)


@pytest.mark.parametrize("interval", [1.5, 0, -1])
def test_checkpoint_interval_is_a_multiple_of_the_slide(context: LocalContext, interval: float) -> None:
    """A checkpoint interval off the stream's slide is refused."""
    with pytest.raises(ConfigurationError, match="is not a multiple of the slide duration 1000 ms"):
        run_batches(lambda s: s.checkpoint(interval), [[1]], context=context)


def test_folder_that_cannot_be_used_leaves_the_process_free(context: LocalContext, tmp_path: Path) -> None:
    """A start that failed over its folder leaves no context active and no lock behind."""
    holder, refused, later = (with_output(context) for _ in range(3))
    for ssc in (holder, refused, later):
        ssc.checkpoint(tmp_path)
    holder.start(thread=False)
    StreamingContext._active = None
    with pytest.raises(ConcurrentRunError, match="in use by another process"):
        refused.start(thread=False)
    assert refused.getState() is StreamingContextState.STOPPED
    holder.stop(stopSparkContext=False)
    later.start(thread=False)
    assert StreamingContext.getActive() is later
    later.stop(stopSparkContext=False)


def test_get_or_create_calls_the_function_and_sets_its_folder(context: LocalContext, tmp_path: Path) -> None:
    """GetOrCreate gives the function's context with checkpoints in the given folder, at each start."""
    for zero_segments in (0, 1):
        ssc = StreamingContext.getOrCreate(tmp_path, lambda: with_output(context))
        assert len(list(tmp_path.glob("*/journal/*.log"))) == zero_segments
        ssc.start(thread=False)
        ssc.stop(stopSparkContext=False)

    assert len(list(tmp_path.glob("*/journal/*.log"))) == 2


def test_stop_ends_the_backend_when_asked() -> None:
    """Stop ends the context's backend too, unless told otherwise."""
    context = LocalContext("local", "test")
    ssc = with_output(context)
    ssc.start(thread=False)
    ssc.stop()

    with pytest.raises(LifecycleError, match="the context was stopped"):
        context.parallelize([1]).collect()
