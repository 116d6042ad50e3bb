"""What a context refuses before a batch runs, and what is left of it when a batch has failed."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import DStream, LocalContext, ManualClock, StreamingContext, StreamingContextState
from engine.errors import ConfigurationError, LifecycleError, UserFunctionError
from tests.engine.app import START_MS

Make = Callable[[StreamingContext], object]


@pytest.fixture
def sc() -> Iterator[LocalContext]:
    """A context in this process."""
    with LocalContext("local", "test") as made:
        yield made


@pytest.fixture
def ssc(sc: LocalContext) -> Iterator[StreamingContext]:
    """A context that fails at its first batch, if it comes to that."""
    made = StreamingContext(sc, 1.0, clock=ManualClock(START_MS), everyInterval=True)
    made.queueStream([[0], [1]]).map(lambda n: 1 // n).foreachRDD(lambda rdd: rdd.collect())
    yield made
    made.stop(stopSparkContext=False)


# Paths.


def run_one(ssc: StreamingContext) -> None:
    """Start, run a batch and stop."""
    ssc.start(thread=False)
    ssc.runBatch()
    ssc.stop(stopSparkContext=False)


def counting(sc: LocalContext, *items: Any) -> StreamingContext:
    """A context that counts the elements of some items."""
    ssc = StreamingContext(sc, 1.0, clock=ManualClock(START_MS), everyInterval=True)
    words = ssc.queueStream([[item] for item in items]).map(lambda word: (word, 1))
    words.updateStateByKey(lambda new, old: sum(new) + (old or 0)).foreachRDD(lambda rdd: rdd.collect())
    return ssc


@pytest.mark.parametrize("scheme", ["file:", "file://"])
def test_checkpoint_directory_may_be_a_file_uri(sc: LocalContext, tmp_path: Path, scheme: str) -> None:
    """A checkpoint directory with file: before it is that directory."""
    ssc = counting(sc, "a")
    ssc.checkpoint(f"{scheme}{tmp_path}")
    run_one(ssc)

    assert (tmp_path / "test" / "meta.json").exists()


@pytest.mark.parametrize(
    "make",
    [
        lambda ssc: ssc.checkpoint("hdfs://name:8020/x"),
        lambda ssc: StreamingContext.getOrCreate("s3a://bucket/x", lambda: ssc),
        lambda ssc: StreamingContext.getActiveOrCreate("hdfs:/x", lambda: ssc),
        lambda ssc: ssc.textFileStream("hdfs://name/x"),
        lambda ssc: ssc.fileStream("hdfs://name/x"),
        lambda ssc: ssc.binaryRecordsStream("s3a://bucket/x", 4),
    ],
    ids=["checkpoint", "getOrCreate", "getActiveOrCreate", "textFileStream", "fileStream", "binaryRecords"],
)
def test_other_file_systems_are_refused(ssc: StreamingContext, make: Make) -> None:
    """A path of another file system is refused at once, with the path."""
    with pytest.raises(
        ConfigurationError, match=r"is (hdfs:|s3a:).* on a file system that this process cannot open"
    ):
        make(ssc)


def test_outputs_on_other_file_systems_are_refused(ssc: StreamingContext) -> None:
    """An output to another file system is refused when it is made."""
    with pytest.raises(ConfigurationError, match=r"hdfs://name/out-0 needs the Spark backend"):
        ssc.queueStream([[1]]).saveAsTextFiles("hdfs://name/out")


def test_files_are_found_by_a_file_uri(ssc: StreamingContext, tmp_path: Path) -> None:
    """A folder of files with file: before it is that folder."""
    stream: Any = ssc.textFileStream(f"file://{tmp_path}/in*")

    assert stream.node._pattern == f"{tmp_path}/in*"


@pytest.mark.parametrize("name", ["a/../../out", "..", ".", "a/b", "/etc"])
def test_names_stay_in_the_checkpoint_directory(tmp_path: Path, name: str) -> None:
    """Whatever the application is called, its folder is one component of a path in the checkpoint directory."""
    inside = tmp_path / "deep" / "inside"
    with LocalContext("local", name) as sc:
        ssc = counting(sc, "a")
        ssc.checkpoint(inside)
        run_one(ssc)

    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["inside"]
    assert [(path / "meta.json").exists() for path in inside.iterdir()] == [True]


@pytest.mark.parametrize("name", ["page-views_2.1", "page views", "Größe", "50%"])
def test_names_that_can_stand_in_a_path_keep_their_folder(tmp_path: Path, name: str) -> None:
    """The folder of an application has its name as it is, wherever a folder can have it."""
    with LocalContext("local", name) as sc:
        ssc = counting(sc, "a")
        ssc.checkpoint(tmp_path)
        run_one(ssc)

    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_name_too_long_for_a_folder_is_refused() -> None:
    """A name that no folder can have is refused when the context is made."""
    with LocalContext("local", "x" * 300) as sc, pytest.raises(ConfigurationError, match="at most 200 bytes"):
        StreamingContext(sc, 1.0)


# After an error.


def test_failed_batch_stops_the_context(ssc: StreamingContext) -> None:
    """A context whose batch failed is stopped, no longer the active one, and tells the error at each start."""
    ssc.start(thread=False)
    with pytest.raises(UserFunctionError, match="ZeroDivisionError"):
        ssc.runBatch()

    assert ssc.getState() is StreamingContextState.STOPPED
    assert StreamingContext.getActive() is None
    with pytest.raises(UserFunctionError, match="ZeroDivisionError"):
        ssc.start(thread=False)
    with pytest.raises(LifecycleError, match="the stream has ended with an error"):
        ssc.runBatch()


def test_failed_batch_stops_the_context_of_a_thread(sc: LocalContext) -> None:
    """A context that failed on its own thread is stopped by the time that it is awaited, and its folder is free."""
    failing = StreamingContext(sc, 0.01)
    failing.queueStream([[0]]).map(lambda n: 1 // n).foreachRDD(lambda rdd: rdd.collect())
    failing.start()
    with pytest.raises(UserFunctionError, match="ZeroDivisionError"):
        failing.awaitTermination(20)

    assert failing.getState() is StreamingContextState.STOPPED
    assert StreamingContext.getActive() is None
    assert sc.parallelize([1]).collect() == [1]
    failing.stop(stopSparkContext=False)


def test_context_is_made_anew_after_an_error(ssc: StreamingContext, sc: LocalContext, tmp_path: Path) -> None:
    """GetActiveOrCreate makes a new context after an error, which can use the same folder though nobody stopped the first."""
    ssc.checkpoint(tmp_path)
    ssc.start(thread=False)
    with pytest.raises(UserFunctionError):
        ssc.runBatch()
    second = StreamingContext.getActiveOrCreate(tmp_path, lambda: counting(sc, 0, 1))
    assert second is not ssc
    second.start(thread=False)
    second.stop(stopSparkContext=False)


@pytest.mark.parametrize("path", [None, "somewhere"])
def test_function_that_makes_no_context_is_refused(path: str | None) -> None:
    """What is given in place of a context is refused, with and without a path."""
    with pytest.raises(TypeError, match=r"setupFunc should return a StreamingContext, and returned 1"):
        StreamingContext.getActiveOrCreate(path, lambda: 1)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="setupFunc should be callable"):
        StreamingContext.getActiveOrCreate(path, None)  # type: ignore[arg-type]


# Streams of several streams.


def pair(ssc: StreamingContext) -> list[DStream[Any]]:
    """Two streams of the context."""
    return [ssc.queueStream([[1]]), ssc.queueStream([[2]])]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda ssc: ssc.union([1], [2]), r"union: a stream is \[1\]; give DStreams of this context"),
        (lambda ssc: ssc.union(pair(ssc)), r"each as an argument of its own: union\(\*streams\)"),
        (lambda ssc: ssc.union(), "should have at least one DStream to union"),
        (
            lambda ssc: ssc.union(pair(ssc)[0], StreamingContext(ssc.sparkContext, 1).queueStream([])),
            "different contexts",
        ),
        (lambda ssc: ssc.transform([], lambda rdds: rdds[0]), "should have at least one DStream"),
        (
            lambda ssc: ssc.transform(pair(ssc)[0], lambda rdds: rdds[0]),
            "transform: dstreams is .*; give a list of DStreams",
        ),
        (lambda ssc: ssc.transform(5, lambda rdds: rdds[0]), "transform: dstreams is 5; give a list"),
        (lambda ssc: ssc.transform([1], lambda rdds: rdds[0]), "transform: a stream is 1; give DStreams"),
        (lambda ssc: ssc.transform(pair(ssc), 5), "transform: 5 cannot be called"),
        (
            lambda ssc: ssc.transform(pair(ssc), lambda x, y: x.union(y)),
            "takes 2 arguments; .*should take one argument",
        ),
        (lambda ssc: ssc.transform(pair(ssc), lambda: None), "takes 0 arguments"),
        (lambda ssc: ssc.transform(pair(ssc), lambda rdds, *, k: rdds[k]), "wants 'k' by name"),
    ],
)
def test_streams_of_several_streams_are_checked(ssc: StreamingContext, make: Make, words: str) -> None:
    """Union and transform of a context refuse what is no stream of theirs and functions of another form."""
    with pytest.raises(ConfigurationError, match=words):
        make(ssc)


@pytest.mark.parametrize(
    ("made", "words"), [(None, "must not return null"), ([1], r"returned \[1\]; return an RDD")]
)
def test_result_of_a_transform_is_an_rdd(sc: LocalContext, made: Any, words: str) -> None:
    """A function of several RDDs that gives no RDD fails its batch, as that of one RDD does."""
    ssc = StreamingContext(sc, 1.0, clock=ManualClock(START_MS), everyInterval=True)
    ssc.transform([ssc.queueStream([[1]])], lambda _: made).foreachRDD(lambda rdd: rdd.collect())
    ssc.start(thread=False)
    with pytest.raises(ConfigurationError, match=words):
        ssc.runBatch()
    ssc.stop(stopSparkContext=False)


# Too late.


def test_what_comes_too_late_is_named(ssc: StreamingContext) -> None:
    """A stream that is made after the start, or after the stop, is named, and the remedy is told."""
    stream = ssc.queueStream([])
    ssc.start(thread=False)
    for happened in ("starting", "stopping"):
        with pytest.raises(
            LifecycleError,
            match=rf"after {happened} a context is not supported; 'map\(queue\)' came too late: make streams before start\(\)",
        ):
            stream.map(str)
        with pytest.raises(
            LifecycleError, match=r"the checkpoint directory after .*; call checkpoint\(\) before start\(\)"
        ):
            ssc.checkpoint("somewhere")
        ssc.stop(stopSparkContext=False)


def test_stopped_context_takes_no_stream(ssc: StreamingContext) -> None:
    """A context that was stopped before its start takes no stream either."""
    ssc.stop(stopSparkContext=False)
    with pytest.raises(LifecycleError, match="after stopping a context is not supported"):
        ssc.queueStream([])
    with pytest.raises(LifecycleError, match="after the streaming context has stopped"):
        ssc.remember(5)


# Objects of another kind.


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda ssc: ssc.addStreamingListener(5),
            "the listener is 5; give an object of a class of StreamingListener",
        ),
        (lambda ssc: ssc.addStreamingListener(None), "the listener is None"),
        (lambda ssc: ssc.receiverStream(3), "receiverStream: 3 is no Receiver"),
        (lambda ssc: ssc.fileStream("x", filter=3), "fileStream: 3 cannot be called"),
        (lambda ssc: ssc.fileStream("x", reader=3), "fileStream: 3 cannot be called"),
        (lambda ssc: ssc.binaryRecordsStream("x", "4"), "recordLength is '4'; give a number of bytes"),
        (lambda ssc: ssc.textFileStream(None), "textFiles: the directory is None; give the path of a folder"),
        (lambda ssc: ssc.socketTextStream("h", "9999"), "port is '9999'; give a number from 1 to 65535"),
        (lambda ssc: ssc.socketTextStream(None, 9999), "hostname is None; give the name or address"),
        (lambda ssc: ssc.socketStream("h", 9999, 5), "converter is 5; give a function"),
        (lambda ssc: ssc.rawSocketStream("h", 9999.5), "port is 9999.5; give a number"),
        (lambda ssc: ssc.remember(None), "remember is None; give a number of seconds"),
        (lambda ssc: ssc.remember(float("nan")), "remember is nan; give a number of seconds"),
        (lambda ssc: ssc.checkpoint(None), "the checkpoint directory is None; give the path of a folder"),
        (lambda ssc: ssc.checkpoint(""), "the checkpoint directory is ''; give the path of a folder"),
        (lambda ssc: ssc.checkpoint(b"x"), "the checkpoint directory is b'x'; give the path of a folder"),
        (
            lambda ssc: StreamingContext("local", 1),
            "sparkContext is 'local'; give a LocalContext or a pyspark.SparkContext",
        ),
        (
            lambda ssc: StreamingContext(ssc.sparkContext, "1"),
            "batchDuration is '1'; give a number of seconds",
        ),
        (lambda ssc: StreamingContext(ssc.sparkContext, float("inf")), "batchDuration is inf; give a number"),
        (lambda ssc: StreamingContext(ssc.sparkContext, 1, object()), "jssc is <object"),
        (lambda ssc: StreamingContext(ssc.sparkContext, 1, shards="8"), "shards is '8'; give a number"),
        (
            lambda ssc: StreamingContext(ssc.sparkContext, 1, blockInterval="1"),
            "blockInterval is '1'; give seconds above 0",
        ),
        (
            lambda ssc: StreamingContext(ssc.sparkContext, 1, receiverMaxRate="1"),
            "receiverMaxRate is '1'; give a number",
        ),
    ],
)
def test_objects_of_another_kind_are_refused(ssc: StreamingContext, make: Make, words: str) -> None:
    """What cannot be used is refused when it is given, with the thing, the value and the remedy."""
    with pytest.raises(ConfigurationError, match=words):
        make(ssc)


@pytest.mark.parametrize(
    "make",
    [
        lambda s: s.map(5),
        lambda s: s.flatMap(5),
        lambda s: s.filter(5),
        lambda s: s.mapPartitions(5),
        lambda s: s.mapPartitionsWithIndex(5),
        lambda s: s.mapValues(5),
        lambda s: s.flatMapValues(5),
        lambda s: s.reduce(5),
        lambda s: s.reduceByKey(5),
        lambda s: s.combineByKey(list, 5, 5),
        lambda s: s.reduceByWindow(5, None, 1),
        lambda s: s.reduceByKeyAndWindow(max, 5, 1),
        lambda s: s.foreachRDD(5),
        lambda s: s.transform(5),
    ],
)
def test_operations_want_functions(ssc: StreamingContext, make: Callable[[DStream[Any]], object]) -> None:
    """An operation refuses what cannot be called when the graph is built."""
    with pytest.raises(ConfigurationError, match=": 5 cannot be called; give a function"):
        make(ssc.queueStream([]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda s: s.foreachRDD(lambda rdd, *, k: None), "foreachRDD: the function wants 'k' by name"),
        (lambda s: s.window(None), "windowDuration is None; give a number of seconds"),
        (lambda s: s.window("2"), "windowDuration is '2'; give a number of seconds"),
        (lambda s: s.window(2, float("nan")), "slideDuration is nan; give a number of seconds"),
        (lambda s: s.checkpoint("x"), "checkpoint interval is 'x'; give a number of seconds"),
    ],
)
def test_arguments_of_operations_are_checked(
    ssc: StreamingContext, make: Callable[[DStream[Any]], object], words: str
) -> None:
    """Durations that are no numbers, and functions that want what nobody gives, are refused when the graph is built."""
    with pytest.raises(ConfigurationError, match=words):
        make(ssc.queueStream([]))


def test_listeners_need_no_base_class(ssc: StreamingContext) -> None:
    """An object with one method of a listener is a listener."""

    class Told:
        """No StreamingListener."""

        def onBatchFailed(self, _: Any) -> None:
            """Note it."""
            told.set()

    told = threading.Event()
    ssc.addStreamingListener(Told())  # type: ignore[arg-type]
    ssc.start(thread=False)
    with pytest.raises(UserFunctionError):
        ssc.runBatch()

    assert told.is_set()
