"""What tasks and the driver share: accumulators, broadcast values, files, properties."""

import gc
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext
from engine.errors import ConfigurationError, LifecycleError, UserFunctionError
from engine.rdd.shared import Accumulator, AccumulatorParam, Broadcast, SparkFiles
from engine.rdd.task import TaskContext


class Vector(AccumulatorParam[list[int]]):
    """Adds lists place by place, in place."""

    def zero(self, value: list[int]) -> list[int]:
        """As many zeros."""
        return [0] * len(value)

    def addInPlace(self, value1: list[int], value2: list[int]) -> list[int]:
        """The first list, changed."""
        for place, number in enumerate(value2):
            value1[place] += number
        return value1


def test_accumulators_add_by_their_parameter(context: LocalContext) -> None:
    """An accumulator with a parameter starts each task from its zero and merges the tasks' results by it."""
    total = context.accumulator([10, 20], Vector())
    context.parallelize([[1, 2]] * 10, 3).foreach(total.add)

    assert total.value == [20, 40]


@pytest.mark.parametrize(
    ("start", "terms", "end"), [(1, [2, 3], 6), (0.5, [1], 1.5), (1j, [1], 1 + 1j), ("a", ["b"], "ab")]
)
def test_accumulators_add_by_plus(context: LocalContext, start: Any, terms: list[Any], end: Any) -> None:
    """Numbers and all else that has a + need no parameter."""
    total = context.accumulator(start)

    def note(term: Any) -> None:
        nonlocal total
        total += term

    context.parallelize(terms, 1).foreach(note)

    assert total.value == end


def test_tasks_send_one_term_an_accumulator(context: LocalContext) -> None:
    """A task adds up what it adds: one value a task comes back, however often it added."""
    total = context.accumulator(0)

    def noted(part: Iterator[int]) -> list[list[Any]]:
        for n in part:
            total.add(n)
        running = TaskContext.get()
        return [] if running is None else [running.updates[total.number]]

    assert context.range(1_000, numSlices=2).mapPartitions(noted).collect() == [[124_750], [374_750]]


def test_accumulators_are_the_drivers(context: LocalContext) -> None:
    """The value of an accumulator is read and set in the driver, and in no task."""
    total: Accumulator[int] = context.accumulator(1)

    def reset(_: int) -> None:
        total.value = 5

    with pytest.raises(
        LifecycleError, match=r"Accumulator\.value cannot be accessed inside tasks: it was set there"
    ):
        context.parallelize([0]).foreach(reset)
    total.value = 7
    assert (total.value, str(total)) == (7, "7")


def test_broadcast_values_travel_once(local_two: LocalContext) -> None:
    """A broadcast value is not in the functions that use it, and an executor reads it once."""
    large = local_two.broadcast(list(range(50_000)))

    def ids(_: Iterator[int]) -> list[int]:
        return [id(large.value)]

    def ids_again(_: Iterator[int]) -> list[int]:
        return [id(large.value)]

    rdd = local_two.range(4, numSlices=4)
    first, second = rdd.mapPartitions(ids).collect(), rdd.mapPartitions(ids_again).collect()

    assert first == second
    assert first[:2] == first[2:]
    assert max(map(len, local_two._functions._payloads.values())) < 50_000


def test_broadcast_values_can_be_dropped_and_read_again(local_two: LocalContext) -> None:
    """Unpersist lets the executors drop a value, and the next task reads it again."""
    gc.collect()
    names = local_two.broadcast({1: "one"})
    used = local_two.parallelize([1, 1], 2).map(lambda n: names.value[n])
    held = local_two.range(2, numSlices=2).map(lambda _: len(Broadcast._held))

    before = held.collect()
    assert used.collect() == ["one", "one"]
    assert held.collect() == [count + 1 for count in before]
    names.unpersist()
    assert held.collect() == before
    assert used.collect() == ["one", "one"]


def test_accumulators_go_with_their_last_reader(context: LocalContext) -> None:
    """The context forgets an accumulator that nobody can read any more, and takes no notice of what tasks add to it."""
    seen = context.accumulator(0)
    number = seen.number
    kept = context.parallelize([1, 2], 2).map(_Adding(number))
    held = len(context._accumulators)
    del seen
    gc.collect()

    assert kept.collect() == [1, 2]
    assert len(context._accumulators) < held


class _Adding:
    """Adds to an accumulator that it knows by number only."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, term: int) -> int:
        TaskContext.current().updates[self._number] = [term]
        return term


def test_broadcast_values_go_with_their_last_user(local_two: LocalContext) -> None:
    """The file of a broadcast value is gone with the broadcast, and the executors' copies with the next stage."""
    gc.collect()
    held = local_two.range(2, numSlices=2).map(lambda _: len(Broadcast._held))
    before, files = held.collect(), len(list(local_two.folder("broadcast").iterdir()))
    names = local_two.broadcast({1: "one"})
    used = local_two.parallelize([1, 1], 2).map(lambda n, names=names: names.value[n])

    assert used.collect() == ["one", "one"]
    assert held.collect() == [count + 1 for count in before]
    del names, used
    gc.collect()
    assert len(list(local_two.folder("broadcast").iterdir())) == files
    assert held.collect() == before


def test_destroyed_broadcast_values_are_refused(context: LocalContext) -> None:
    """A destroyed value is refused in the driver and in tasks, and its file is gone."""
    names = context.broadcast({1: "one"})
    used = context.parallelize([1]).map(lambda n: names.value[n])

    assert used.collect() == ["one"]
    names.destroy()
    with pytest.raises(LifecycleError, match="Attempted to use Broadcast after it was destroyed"):
        names.value  # noqa: B018 - reading is what is refused
    with pytest.raises(LifecycleError, match="Attempted to use Broadcast after it was destroyed"):
        used.collect()


def test_root_directory_holds_the_added_files(context: LocalContext, tmp_path: Path) -> None:
    """The folder of the added files is the same for the driver and the tasks, and holds them by name."""
    (tmp_path / "added").write_text("x")
    context.addFile(str(tmp_path / "added"))
    seen = context.parallelize([0], 1).map(lambda _: SparkFiles.getRootDirectory()).collect()

    assert seen == [SparkFiles.getRootDirectory()]
    assert Path(seen[0], "added").read_text() == "x"


def test_files_travel_to_tasks(context: LocalContext, tmp_path: Path) -> None:
    """Files and folders that are added are found by name in tasks and in the driver, the newest of a name."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner.txt").write_text("inner")
    (tmp_path / "names.txt").write_text("old")
    context.addFile(str(tmp_path / "names.txt"))
    (tmp_path / "names.txt").write_text("new")
    context.addFile(f"file:{tmp_path}/names.txt")
    context.addFile(str(tmp_path / "folder"), recursive=True)

    def read(name: str) -> str:
        return Path(SparkFiles.get(name)).read_text()

    assert context.parallelize(["names.txt", "folder/inner.txt"], 2).map(read).collect() == ["new", "inner"]
    assert read("names.txt") == "new"
    assert context.listFiles[-1] == f"file:{tmp_path}/folder"
    with pytest.raises(ConfigurationError, match="is a directory and recursive is not turned on"):
        context.addFile(str(tmp_path / "folder"))
    with pytest.raises(ConfigurationError, match="does not exist"):
        context.addFile(str(tmp_path / "never"))


def test_modules_travel_to_tasks(context: LocalContext, tmp_path: Path) -> None:
    """A module that is added can be imported by the functions of tasks."""
    name = f"added_{context.master[-2]}"
    (tmp_path / f"{name}.py").write_text("ANSWER = 42\n")
    before = list(sys.path)
    context.addPyFile(str(tmp_path / f"{name}.py"))

    assert context.parallelize([0, 0], 2).map(lambda _: __import__(name).ANSWER).collect() == [42, 42]
    sys.path[:] = before


def test_archives_are_unpacked(context: LocalContext, tmp_path: Path) -> None:
    """An archive is found unpacked under the name after its #, and a file that is none is refused."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "word").write_text("unpacked")
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "in")
    context.addArchive(f"{tmp_path}/packed.zip#words")

    read = context.parallelize([0]).map(lambda _: Path(SparkFiles.get("words/word")).read_text())

    assert read.collect() == ["unpacked"]
    assert context.listArchives[-1].endswith("packed.zip#words")
    with pytest.raises(ConfigurationError, match="cannot be unpacked"):
        context.addArchive(f"{tmp_path}/in")


def test_properties_reach_tasks(context: LocalContext) -> None:
    """Job groups, descriptions and tags are local properties that tasks see, and a group ends where it began."""

    def seen(_: int) -> tuple[Any, ...]:
        running = TaskContext.current()
        return tuple(
            map(running.getLocalProperty, ("spark.jobGroup.id", "spark.job.description", "spark.job.tags"))
        )

    rdd = context.parallelize([0]).map(seen)
    context.addJobTag("night")
    context.addJobTag("big")
    with context.job_group("g", "the job"):
        assert rdd.collect() == [("g", "the job", "big,night")]
    context.removeJobTag("big")
    assert context.getJobTags() == {"night"}
    context.clearJobTags()
    assert rdd.collect() == [(None, None, None)]
    assert rdd.collectWithJobGroup("h", "again") == [("h", "again", None)]
    with pytest.raises(ConfigurationError, match="holds a comma"):
        context.addJobTag("a,b")


def test_jobs_cannot_be_watched(context: LocalContext) -> None:
    """The status tracker names the Spark backend."""
    context.setInterruptOnCancel(True)
    with pytest.raises(ConfigurationError, match="statusTracker needs the Spark backend"):
        context.statusTracker()
    context.setLocalProperty("spark.job.interruptOnCancel", None)


def test_contexts_tell_of_themselves() -> None:
    """A context tells its name, its id by its start, its settings and its version."""
    with LocalContext("local", "counts") as context:
        settings = dict(context.getConf().getAll())

        assert context.applicationId == f"local-{context.startTime}" == settings["spark.app.id"]
        assert (settings["spark.app.name"], settings["spark.master"]) == ("counts", "local")
        assert context.getConf().get("spark.executor.memory", "1g") == "1g"
        assert (context.defaultParallelism, context.defaultMinPartitions) == (1, 1)
        assert (context.uiWebUrl, context.resources) == (None, {})
        assert context.version
        assert context.sparkUser()


def test_log_levels_are_those_of_spark(context: LocalContext) -> None:
    """A log level has Spark's or Python's spelling, and any other is refused."""
    log = logging.getLogger("engine")
    before = log.level
    context.setLogLevel("warn")

    assert log.level == logging.WARNING
    with pytest.raises(ConfigurationError, match="logLevel is 'LOUD'"):
        context.setLogLevel("LOUD")
    log.setLevel(before)


# Ranges, names, checkpoints.


def test_ranges_are_never_made(context: LocalContext) -> None:
    """A range of any length is parallelised without its numbers, and read without them in the driver."""
    rdd = context.range(10**12, numSlices=4)

    assert rdd.getNumPartitions() == 4
    assert rdd.take(2) == [0, 1]
    assert context.parallelize(range(0, 10**12, 10**11), 3).collect() == list(range(0, 10**12, 10**11))


def test_debug_strings_draw_the_lineage(context: LocalContext) -> None:
    """The lineage is drawn as Spark draws it: narrow parents below, those of an exchange further in."""
    rdd = context.parallelize([("a", 1)], 12).setName("pairs").mapValues(str).groupByKey(2).keys()
    lines = rdd.toDebugString().decode().splitlines()
    numbered = [line.partition("[")[0] for line in lines]

    assert numbered[0] == "(2) NarrowRDD"
    assert numbered[-2:] == [" +-(12) NarrowRDD", "    |   pairs ParallelizedRDD"]
    assert all(line.endswith(" []") for line in lines)
    assert (
        rdd.persist().toDebugString().decode().splitlines()[0].endswith("[Memory Serialized 1x Replicated]")
    )


def test_checkpoints_cut_the_lineage(context: LocalContext, tmp_path: Path) -> None:
    """A checkpoint is written before the next job, once, and what it was computed from is let go."""
    computed = context.accumulator(0)

    def noted(n: int) -> tuple[int, int]:
        computed.add(1)
        return n % 2, n

    context.setCheckpointDir(str(tmp_path))
    rdd = context.range(6, numSlices=3).map(noted).groupByKey(2)
    rdd.checkpoint()
    after = rdd.mapValues(sorted)

    assert (rdd.isCheckpointed(), rdd.getCheckpointFile()) == (False, None)
    assert dict(after.collect()) == {0: [0, 2, 4], 1: [1, 3, 5]}
    assert rdd.isCheckpointed()
    assert rdd.parents == ()
    assert dict(after.collect()) == {0: [0, 2, 4], 1: [1, 3, 5]}
    assert computed.value == 6
    folder = Path(rdd.getCheckpointFile().removeprefix("file:"))
    assert sorted(path.name for path in folder.iterdir()) == ["part-00000", "part-00001"]
    assert tmp_path in folder.parents


def test_checkpointed_elements_are_not_shared(context: LocalContext) -> None:
    """A reader that changes an element in place is not seen by the next reader of a checkpoint."""
    rdd = context.parallelize([[1], [2]], 2).map(list)
    rdd.localCheckpoint()

    for _ in range(2):
        assert rdd.map(lambda numbers: numbers.append(0) or numbers).collect() == [[1, 0], [2, 0]]


@pytest.mark.slow
def test_local_checkpoints_go_with_their_rdd() -> None:
    """The files of a local checkpoint are gone when nobody has the RDD any more."""
    with LocalContext("local") as context:
        rdd = context.range(4).map(str)
        rdd.localCheckpoint()
        assert rdd.collect() == ["0", "1", "2", "3"]
        assert (rdd.isLocallyCheckpointed(), rdd.getCheckpointFile()) == (True, None)
        folder = context.folder("checkpoints")
        assert len(list(folder.iterdir())) == 1
        del rdd
        gc.collect()
        assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_long_lineages_are_cut_by_checkpoints(context: LocalContext) -> None:
    """An RDD that is made of itself again and again stays computable when it is checkpointed now and then."""
    rdd = context.range(3, numSlices=1)
    for turn in range(2_000):
        rdd = rdd.map(lambda n: n + 1)
        if turn % 50 == 49:
            rdd.localCheckpoint()
            rdd.count()

    assert rdd.collect() == [2_000, 2_001, 2_002]


def test_checkpoints_need_a_folder(context: LocalContext) -> None:
    """Without a checkpoint directory the error has Spark's words, and barriers and resources name its backend."""
    with LocalContext("local") as fresh:
        rdd = fresh.parallelize([1])
        with pytest.raises(
            ConfigurationError, match="Checkpoint directory has not been set in the SparkContext"
        ):
            rdd.checkpoint()
        assert (fresh.getCheckpointDir(), rdd.getResourceProfile()) == (None, None)
        for refused in (rdd.barrier, lambda: rdd.withResources("gpu")):
            with pytest.raises(ConfigurationError, match="needs the Spark backend"):
                refused()


def test_failed_checkpoints_are_tried_again(context: LocalContext, tmp_path: Path) -> None:
    """A checkpoint whose computation fails is written by the next job that can."""
    ready = tmp_path / "ready"
    rdd = context.parallelize([0, 1], 2).map(lambda n: (n, ready.stat().st_size))
    rdd.localCheckpoint()

    with pytest.raises(UserFunctionError, match="FileNotFoundError"):
        rdd.collect()
    assert not rdd.isCheckpointed()
    ready.touch()
    assert rdd.collect() == [(0, 0), (1, 0)]
    ready.unlink()
    assert rdd.collect() == [(0, 0), (1, 0)]


def test_tasks_see_group_and_description_of_their_job(context: LocalContext) -> None:
    """The group and the description of a job are local properties of its tasks, as in Spark."""

    def seen(_part: Iterator[int]) -> list[str | None]:
        task = TaskContext.current()
        return [task.getLocalProperty(f"spark.{key}") for key in ("jobGroup.id", "job.description")]

    context.setJobGroup("nightly", "all of it")
    context.setJobDescription("a part")
    try:
        assert context.parallelize([1], 1).mapPartitions(seen).collect() == ["nightly", "a part"]
    finally:
        context.setJobGroup("", "")
