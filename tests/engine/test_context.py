"""The life of a context."""

import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, ManualClock, StreamingContext, StreamingContextState, StreamingListener
from engine.batch import Batch, OffsetRange, Time
from engine.dstream.nodes import InputDStream
from engine.errors import (
    ConcurrentRunError,
    ConfigurationError,
    LifecycleError,
    UserFunctionError,
)
from engine.rdd.api import RDD
from engine.sources.kafka import KafkaUtils, PreferConsistent, Subscribe
from engine.sources.receiver import Receiver
from engine.testing import run_batches
from tests.engine.app import START_MS
from tests.engine.children import wait_until


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


# The rows of Spark's life cycle, as far as they are not above.


def test_refused_start_can_be_mended(context: LocalContext, tmp_path: Path) -> None:
    """A start that is refused before anything was opened leaves the context as it was: mended, it starts."""
    first = with_output(context)
    first.start(thread=False)
    second = with_output(context)
    second.queueStream([[("a", 1)]]).updateStateByKey(lambda new, old: sum(new) + (old or 0)).pprint()
    with pytest.raises(ConfigurationError, match="The checkpoint directory has not been set"):
        second.start(thread=False)
    second.checkpoint(tmp_path)
    with pytest.raises(LifecycleError, match="Only one StreamingContext may be started"):
        second.start(thread=False)
    assert second.getState() is StreamingContextState.INITIALIZED
    first.stop(stopSparkContext=False)
    second.start(thread=False)
    assert second.getState() is StreamingContextState.ACTIVE
    second.stop(stopSparkContext=False)


def test_stop_before_the_start_stops_for_good(context: LocalContext) -> None:
    """A context that was stopped before its start cannot be started."""
    ssc = with_output(context)
    ssc.stop(stopSparkContext=False)
    with pytest.raises(LifecycleError, match="StreamingContext has already been stopped"):
        ssc.start()


def test_nothing_is_added_or_set_after_the_start(context: LocalContext, tmp_path: Path) -> None:
    """After the start, and after the stop, new inputs and settings are refused with Spark's words."""
    ssc = with_output(context)
    ssc.start(thread=False)
    for stop in (False, True):
        if stop:
            ssc.stop(stopSparkContext=False)
        for add in (
            lambda: ssc.queueStream([]),
            lambda: ssc.socketTextStream("127.0.0.1", 9),
            lambda: ssc.textFileStream(tmp_path),
        ):
            with pytest.raises(
                LifecycleError, match="Adding new inputs, transformations, and output operations"
            ):
                add()
        with pytest.raises(LifecycleError, match="Cannot change the checkpoint directory after"):
            ssc.checkpoint(tmp_path)
        with pytest.raises(LifecycleError, match="Cannot change the remember duration after"):
            ssc.remember(5)


def test_await_ends_with_the_stop_of_another_thread(context: LocalContext) -> None:
    """Awaiting returns None, or whether it ended in time, when another thread stops the context; also when it began before the start."""
    ssc = with_output(context)
    assert not ssc.awaitTerminationOrTimeout(0.01)
    ended: list[bool | None] = []
    waiting = threading.Thread(target=lambda: ended.append(ssc.awaitTerminationOrTimeout(20)))
    waiting.start()
    ssc.start()
    assert ssc.awaitTermination(0.01) is None  # type: ignore[func-returns-value]
    ssc.stop(stopSparkContext=False)
    waiting.join()

    assert ended == [True]


def test_every_await_raises_what_ended_the_stream(context: LocalContext) -> None:
    """An error that ended the stream is raised by every await until and after the stop."""
    ssc = StreamingContext(context, 0.01)
    ssc.queueStream([[0]]).map(lambda n: 1 // n).foreachRDD(lambda rdd: rdd.collect())
    ssc.start()
    for wait in (ssc.awaitTermination, lambda: ssc.awaitTerminationOrTimeout(20)):
        with pytest.raises(UserFunctionError, match="ZeroDivisionError"):
            wait()
    ssc.stop(stopSparkContext=False)
    with pytest.raises(UserFunctionError, match="ZeroDivisionError"):
        ssc.awaitTermination()


def test_graceful_stop_leaves_what_is_in_a_queue(context: LocalContext) -> None:
    """A graceful stop takes no more items of a queue, as in Spark; they are still in it."""
    seen: list[list[int]] = []
    ssc = StreamingContext(context, 1.0, clock=ManualClock(START_MS), everyInterval=True)
    ssc.queueStream([[1], [2], [3]]).foreachRDD(lambda rdd: seen.append(rdd.collect()))
    ssc.start(thread=False)
    ssc.runBatch()
    ssc.stop(stopSparkContext=False, stopGraceFully=True)

    assert seen == [[1]]


def test_stop_within_a_listener_is_refused(context: LocalContext) -> None:
    """A listener that stops the context is refused with Spark's words, and the stream goes on."""
    ssc = with_output(context)
    refused: list[str] = []

    class Stops(StreamingListener):
        def onBatchCompleted(self, _: Any) -> None:
            try:
                ssc.stop()
            except LifecycleError as error:
                refused.append(str(error))

    ssc.addStreamingListener(Stops())
    ssc.start(thread=False)
    ssc.runBatch()
    assert ssc.getState() is StreamingContextState.ACTIVE
    ssc.stop(stopSparkContext=False)

    assert "Cannot stop StreamingContext within listener bus thread." in refused[0]


def test_removed_listener_is_told_no_more(context: LocalContext) -> None:
    """A listener hears from when it is added to when it is removed; removing one that was never added is no error."""
    heard: list[str] = []

    class Hears(StreamingListener):
        def onBatchCompleted(self, _: Any) -> None:
            heard.append("batch")

    ssc, listener = with_output(context), Hears()
    ssc.removeStreamingListener(listener)
    ssc.addStreamingListener(listener)
    ssc.start(thread=False)
    ssc.runBatch()
    ssc.removeStreamingListener(listener)
    ssc.runBatch()
    ssc.stop(stopSparkContext=False)

    assert heard == ["batch"]


def test_active_context_is_found_or_made(context: LocalContext, tmp_path: Path) -> None:
    """GetActiveOrCreate gives the context that runs, else the function's, with checkpoints where a path is given."""
    made = StreamingContext.getActiveOrCreate(None, lambda: with_output(context))
    assert made._folder is None
    kept = StreamingContext.getActiveOrCreate(tmp_path, lambda: with_output(context))
    assert kept._folder == tmp_path
    kept.start(thread=False)

    assert StreamingContext.getActiveOrCreate(None, lambda: with_output(context)) is kept
    assert StreamingContext.getActive() is kept
    kept.stop(stopSparkContext=False)


@pytest.mark.parametrize("function", [None, 5, "setup"])
def test_setup_function_must_be_one(tmp_path: Path, function: Any) -> None:
    """What is no function is refused with PySpark's words, and so is a function that makes no context."""
    with pytest.raises(TypeError, match=r"^setupFunc should be callable\.$"):
        StreamingContext.getActiveOrCreate(tmp_path, function)
    with pytest.raises(TypeError, match=r"^setupFunc should be callable\.$"):
        StreamingContext.getOrCreate(tmp_path, function)
    with pytest.raises(TypeError, match="setupFunc should return a StreamingContext, and returned None"):
        StreamingContext.getOrCreate(tmp_path, lambda: None)  # type: ignore[arg-type, return-value]


def test_context_makes_its_backend_from_a_master() -> None:
    """Without a SparkContext the master and the name make one, which stop() ends; beside one they are refused."""
    ssc = StreamingContext(master="local", appName="made", batchDuration=0.5)
    assert (ssc.sparkContext.master, ssc.sparkContext.appName) == ("local", "made")
    with pytest.raises(
        ConfigurationError, match="master='local' and appName=None were given beside a sparkContext"
    ):
        StreamingContext(ssc.sparkContext, 1.0, master="local")
    ssc.stop()
    with pytest.raises(LifecycleError, match="the context was stopped"):
        ssc.sparkContext.parallelize([1]).collect()


@pytest.mark.parametrize("seconds", [0, -1])
def test_remember_is_above_nothing(context: LocalContext, seconds: float) -> None:
    """A remember duration that is not above 0 is refused with its value."""
    with pytest.raises(ConfigurationError, match=f"remember is {seconds} s; give a number above 0"):
        StreamingContext(context, 1.0).remember(seconds)


def test_two_threads_may_stop_at_once(context: LocalContext, tmp_path: Path) -> None:
    """Of two threads that stop a context, one after the other lets go of its parts, and neither fails."""
    ssc = with_output(context)
    ssc.checkpoint(tmp_path)
    order: list[str] = []

    def stop() -> None:
        ssc.stop(stopSparkContext=False)
        order.append("stopped")

    class Slow(InputDStream):
        """Lets another thread try while it is closed."""

        def plan(self, time: Time) -> tuple[OffsetRange, ...]:
            """Nothing."""
            return ()

        def range_rdd(self, batch: Batch, ranges: Sequence[OffsetRange]) -> RDD[Any]:
            """Nothing."""
            return self.scope.context.emptyRDD()

        def close(self) -> None:
            """Give the other thread time to come in."""
            if not order:
                order.append("begins")
                other.start()
                other.join(0.1)
                order.append("ends")

    other = threading.Thread(target=stop)
    Slow(ssc.graph, [], ssc.graph.batch_duration, "slow")
    ssc.start(thread=False)
    stop()
    other.join(20)

    assert order == ["begins", "ends", "stopped", "stopped"]


def test_receivers_end_with_the_stream_that_failed(context: LocalContext, tmp_path: Path) -> None:
    """When an error ends the stream, its receivers stop too, though nobody awaits it."""

    class Waits(Receiver):
        stopped = threading.Event()

        def onStart(self) -> None:
            self.store([0])

        def onStop(self) -> None:
            self.stopped.set()

    receiver = Waits()
    ssc = StreamingContext(context, 0.01)
    ssc.checkpoint(tmp_path)
    ssc.receiverStream(receiver).map(lambda n: 1 // n).foreachRDD(lambda rdd: rdd.collect())
    ssc.start()
    wait_until(receiver.stopped.is_set, "the receiver's end")
    ssc.stop(stopSparkContext=False)
