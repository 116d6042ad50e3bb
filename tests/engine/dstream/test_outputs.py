"""Outputs: what they write and print, and that none is lost when one fails."""

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, ManualClock, StreamingContext
from engine.batch import Time
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError, LifecycleError, UserFunctionError
from engine.rdd.api import RDD
from engine.testing import run_batches
from tests.engine.app import START_MS, App, CrashError

FIRST = START_MS + 1_000
FILES: dict[str, Callable[..., None]] = {
    "saveAsTextFiles": lambda s, *place, **more: s.saveAsTextFiles(*place, **more),
    "saveAsPickleFiles": lambda s, *place, **more: s.saveAsPickleFiles(*place, **more),
    "saveAsObjectFiles": lambda s, *place, **more: s.saveAsObjectFiles(*place, **more),
    "saveAsHadoopFiles": lambda s, *place, **more: s.map(lambda n: (n, n)).saveAsHadoopFiles(*place, **more),
    "saveAsNewAPIHadoopFiles": lambda s, *place, **more: s.map(lambda n: (n, n)).saveAsNewAPIHadoopFiles(
        *place, **more
    ),
}


def written(context: LocalContext, save: Callable[[DStream[Any]], None], batches: list[list[Any]]) -> None:
    """Runs an output over batches."""

    def job(s: DStream[Any]) -> DStream[Any]:
        save(s)
        return s

    run_batches(job, batches, context=context)


def lines(folder: Path) -> list[str]:
    """All lines of the parts of a folder of text, in their order."""
    return [line for part in sorted(folder.glob("part-*")) for line in part.read_text().split("\n")[:-1]]


# Printing.


def test_pprint_has_pysparks_format(context: LocalContext, capsys: pytest.CaptureFixture[str]) -> None:
    """Pprint prints rule, time, rule, at most `num` elements, dots if there are more, and an empty line; empty batches too."""
    written(context, lambda s: s.pprint(2), [[1, "two", None], ["é"], []])

    rule = "-" * 43
    times = [Time(FIRST + n * 1_000).as_datetime() for n in range(3)]
    assert capsys.readouterr().out.split("\n") == [
        *(rule, f"Time: {times[0]}", rule, "1", "two", "...", ""),
        *(rule, f"Time: {times[1]}", rule, "é", ""),
        *(rule, f"Time: {times[2]}", rule, "", ""),
    ]


def test_print_has_scalas_format(context: LocalContext, capsys: pytest.CaptureFixture[str]) -> None:
    """Print gives the batch time in milliseconds, as Scala does."""
    written(context, lambda s: s.print(1), [[1, 2]])

    assert capsys.readouterr().out.split("\n") == [
        "-" * 43,
        f"Time: {FIRST} ms",
        "-" * 43,
        "1",
        "...",
        "",
        "",
    ]


# Functions.


@pytest.mark.parametrize("made", [None, True, [1], 0, "text"])
def test_foreach_rdd_ignores_what_its_function_returns(context: LocalContext, made: Any) -> None:
    """A foreachRDD function may return anything, for batches with elements and without (PySpark fails on some)."""

    def job(s: DStream[Any]) -> DStream[Any]:
        s.foreachRDD(lambda _rdd: made)
        s.foreachRDD(lambda rdd: rdd)
        return s

    assert run_batches(job, [[1], [], [2]], context=context) == [[1], [], [2]]


def test_foreach_rdd_of_two_gets_the_batch_time(context: LocalContext) -> None:
    """A foreachRDD function of two gets the naive local datetime of the batch first."""
    seen: list[tuple[datetime, int]] = []

    def keep(time: datetime, rdd: RDD[Any]) -> None:
        seen.append((time, rdd.count()))

    written(context, lambda s: s.foreachRDD(keep), [[1, 2], []])

    assert seen == [(Time(FIRST).as_datetime(), 2), (Time(FIRST + 1_000).as_datetime(), 0)]


@pytest.mark.parametrize(
    "output",
    [lambda _rdd: next(iter([])), lambda rdd: rdd.foreach(lambda _: next(iter([])))],
    ids=["driver", "task"],
)
def test_stop_iteration_of_an_output_is_an_error(
    context: LocalContext, output: Callable[[RDD[Any]], object]
) -> None:
    """A StopIteration that escapes an output, in the driver or in a task, fails the batch."""
    with pytest.raises(UserFunctionError, match="StopIteration"):
        written(context, lambda s: s.foreachRDD(output), [[1, 2]])


def test_outputs_are_named(local_two: LocalContext) -> None:
    """Every kind of output takes a name, and has its lineage for a name without one."""
    ssc = StreamingContext(local_two, 1.0)
    stream = ssc.queueStream([])
    for number, (name, save) in enumerate(FILES.items()):
        save(stream, f"{name}/x", name=f"output {number}")
    stream.pprint(name="shown")
    stream.print(name="printed")
    stream.pprint()
    stream.saveAsTextFiles("x")

    names = [output.name for output in ssc.graph.outputs]
    assert names == [
        *[f"output {number}" for number in range(len(FILES))],
        *("shown", "printed", "pprint(queue)", "saveAsTextFiles(queue)"),
    ]


# Files.


def test_text_files_hold_a_line_an_element(context: LocalContext, tmp_path: Path) -> None:
    """SaveAsTextFiles writes a folder a batch, `str` of each element in UTF-8, and one for an empty batch too."""
    written(context, lambda s: s.saveAsTextFiles(f"{tmp_path}/words", "txt"), [["a", "é", None, 1.5], []])

    folders = sorted(path.name for path in tmp_path.iterdir())
    assert folders == [f"words-{FIRST}.txt", f"words-{FIRST + 1_000}.txt"]
    assert lines(tmp_path / folders[0]) == ["a", "é", "None", "1.5"]
    assert lines(tmp_path / folders[1]) == []
    assert all((tmp_path / folder / "_SUCCESS").exists() for folder in folders)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (("p",), f"p-{FIRST}"),
        (("p", "s"), f"p-{FIRST}.s"),
        (("p", ""), f"p-{FIRST}"),
        (("d/", None), f"d/-{FIRST}"),
    ],
)
@pytest.mark.parametrize("output", FILES)
def test_folders_are_named_after_the_batch(
    context: LocalContext, tmp_path: Path, output: str, place: tuple[Any, ...], expected: str
) -> None:
    """Each kind of file output writes to prefix-<batch time in ms>[.suffix]."""
    written(context, lambda s: FILES[output](s, f"{tmp_path}/{place[0]}", *place[1:]), [[1]])

    assert (tmp_path / expected / "_SUCCESS").exists()


@pytest.mark.parametrize("output", ["saveAsPickleFiles", "saveAsObjectFiles"])
def test_pickle_files_come_back(context: LocalContext, tmp_path: Path, output: str) -> None:
    """What saveAsPickleFiles or saveAsObjectFiles wrote comes back as it was."""
    elements = [("a", 1), None, [1, 2], {"k": 2.5}]
    written(context, lambda s: FILES[output](s, f"{tmp_path}/objects"), [elements])

    assert context.pickleFile(f"{tmp_path}/objects-{FIRST}").collect() == elements


@pytest.mark.parametrize("output", ["saveAsHadoopFiles", "saveAsNewAPIHadoopFiles"])
def test_hadoop_text_has_a_tab(context: LocalContext, tmp_path: Path, output: str) -> None:
    """The Hadoop outputs write key, tab and value when no format is given."""
    written(context, lambda s: FILES[output](s, f"{tmp_path}/counts"), [[1, 2]])

    assert lines(tmp_path / f"counts-{FIRST}") == ["1\t1", "2\t2"]


def test_unknown_output_format_names_the_spark_backend(tmp_path: Path) -> None:
    """An output format without a writer here is refused with its name and with what has one."""
    with (
        LocalContext("local", "test") as context,
        pytest.raises(ConfigurationError, match=r"org\.example\.Parquet.*Spark"),
    ):
        written(
            context,
            lambda s: s.saveAsHadoopFiles(f"{tmp_path}/x", outputFormatClass="org.example.Parquet"),
            [[("a", 1)]],
        )


@pytest.mark.parametrize("output", FILES)
def test_replay_writes_the_same_folder_anew(context: LocalContext, tmp_path: Path, output: str) -> None:
    """A batch whose files were written before it was cut off writes the same folder again, and nothing else is touched."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        FILES[output](stream, f"{tmp_path}/files/f")
        app.collect(stream, "all")

    def content(path: Path) -> Any:
        # A pickle file has a marker in it that is drawn by lot.
        return path.stat().st_size if path.read_bytes().startswith(b"SEQ") else path.read_text()

    folder = tmp_path / "files" / f"f-{FIRST + 1_000}"
    with App(context, tmp_path / "checkpoint", job, [[1], [2, 3]]) as app:
        app.run()
        app.crash_in = "all"
        with pytest.raises(UserFunctionError, match="CrashError"):
            app.run()
        first = {path.name: content(path) for path in folder.glob("part-*")}
        (folder / "part-00099").write_text("left by a run that was cut off")
        app.crash()

    assert {path.name: content(path) for path in folder.glob("part-*")} == first
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == [f"f-{FIRST}", folder.name]


# Failures.


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_failed_output_stays_pending_whatever_its_siblings_do(
    context: LocalContext, tmp_path: Path, failing: int
) -> None:
    """When any output of a batch fails, the next start runs all of its outputs again before a later batch (Spark may forget it)."""
    names = ["first", "middle", "last"]

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        for name in names:
            app.collect(stream, name)

    with App(context, tmp_path, job, [[1], [2], [3]]) as app:
        app.run()
        app.crash_in = names[failing]
        with pytest.raises(UserFunctionError) as caught:
            app.run()
        seen = [list(app.out[name]) for name in names]
        app.crash().run()

    assert isinstance(caught.value.__cause__, CrashError)
    assert seen == [[[1], [2]] if number <= failing else [[1]] for number in range(3)]
    for number, name in enumerate(names):
        assert app.out[name] == [[1], [2], *([[2]] if number <= failing else []), [3]]


def test_exit_in_an_output_is_its_error(local_two: LocalContext) -> None:
    """An output that calls sys.exit fails its batch with an error that names both, like any other failure."""
    clock = ManualClock(START_MS)
    ssc = StreamingContext(local_two, 1.0, clock=clock)
    ssc.queueStream([[1]]).foreachRDD(lambda _: sys.exit(3), name="pages")
    ssc.start(thread=False)
    clock.advance(1_000)
    with pytest.raises(UserFunctionError, match=r"output 'pages', batch .*: SystemExit: 3"):
        ssc.runBatch()
    ssc.stop(stopSparkContext=False)


def test_failed_output_ends_the_context(local_two: LocalContext) -> None:
    """After an output failed no later batch runs, and whoever awaits the context gets the error every time."""
    clock = ManualClock(START_MS)
    ssc = StreamingContext(local_two, 1.0, clock=clock)
    seen: list[int] = []

    def output(rdd: RDD[int]) -> None:
        seen.append(rdd.count())
        raise KeyError("page")

    ssc.queueStream([[1], [2]]).foreachRDD(output, name="pages")
    ssc.start(thread=False)
    clock.advance(2_000)
    with pytest.raises(UserFunctionError, match=r"output 'pages', batch .*: KeyError: 'page'"):
        ssc.runBatch()
    with pytest.raises(LifecycleError, match=r"ended with an error .*KeyError: 'page'.*start a new context"):
        ssc.runBatch()
    for _ in range(2):
        with pytest.raises(UserFunctionError, match="KeyError: 'page'"):
            ssc.awaitTerminationOrTimeout(0)
    ssc.stop(stopSparkContext=False)

    assert seen == [1]


def test_failed_output_leaves_state_as_it_was(context: LocalContext, tmp_path: Path) -> None:
    """The state of a batch whose output failed counts its elements once, when the batch has run again."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.updateStateByKey(lambda new, state: sum(new) + (state or 0)), "state")
        app.collect(stream.reduceByKeyAndWindow(lambda x, y: x + y, lambda x, y: x - y, 3), "window")

    with App(context, tmp_path, job, [[("a", n)] for n in (1, 2, 4, 8)]) as app:
        app.run()
        app.crash_in = "window"
        with pytest.raises(UserFunctionError):
            app.run()
        app.crash().run(2)

    assert app.out["state"] == [[("a", total)] for total in (1, 3, 3, 7, 15)]
    assert app.out["window"] == [[("a", total)] for total in (1, 3, 3, 7, 14)]
