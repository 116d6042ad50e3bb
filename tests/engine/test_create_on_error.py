"""createOnError: which folders are moved aside for a fresh start, and which stay where they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, ManualClock, StreamingContext
from engine.checkpoint.files import set_aside
from engine.errors import CheckpointError, ConcurrentRunError, CorruptLogError, StateVersionError
from tests.engine.app import START_MS


class Job:
    """A job with state over one folder; each start takes items that are 1 and tells the totals."""

    def __init__(self, context: LocalContext, folder: Path) -> None:
        self._context = context
        self.folder = folder
        self.seen: list[Any] = []
        """What each batch gave."""

    def made(
        self, operator: str = "total", *, create: bool = False, must_reach: int | None = None
    ) -> StreamingContext:
        """A context for one start."""

        def setup() -> StreamingContext:
            ssc = StreamingContext(self._context, 1.0, clock=ManualClock(START_MS), everyInterval=True)
            ssc.checkpoint(self.folder, mustReach=must_reach)
            totals = ssc.queueStream([[("a", 1)] for _ in range(3)]).updateStateByKey(
                lambda new, old: sum(new) + (old or 0), name=operator
            )
            totals.foreachRDD(lambda rdd: self.seen.append(rdd.collect()))
            return ssc

        return StreamingContext.getOrCreate(self.folder, setup, createOnError=create)

    def run(self, batches: int, *operator: str, create: bool = False) -> None:
        """A start with so many batches."""
        ssc = self.made(*operator, create=create)
        ssc.start(thread=False)
        for _ in range(batches):
            ssc.runBatch()
        ssc.stop(stopSparkContext=False)

    def names(self) -> set[str]:
        """What is in the checkpoint directory."""
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def job(context: LocalContext, tmp_path: Path) -> Job:
    """A job that has not run yet."""
    return Job(context, tmp_path)


def corrupt(folder: Path) -> None:
    """Damage an acknowledged record of the journal."""
    (segment,) = (folder / "test" / "journal").glob("*.log")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)


@pytest.mark.parametrize("name", ["damaged", "of another job"])
def test_create_on_error_moves_a_bad_folder_aside(job: Job, name: str) -> None:
    """A damaged folder, or one with another job's state, is refused; with createOnError it is moved aside and the start is fresh."""
    job.run(3)
    if name == "damaged":
        corrupt(job.folder)
    operator = "total" if name == "damaged" else "sum"
    with pytest.raises((CorruptLogError, StateVersionError)):
        job.made(operator).start(thread=False)
    job.run(1, operator, create=True)

    assert job.seen == [[("a", 1)], [("a", 2)], [("a", 3)], [("a", 1)]]
    assert job.names() == {"test", "test.damaged-1"}


def nothing(_folder: Path) -> None:
    """The folder is whole, and ends too early."""


def remove(folder: Path) -> None:
    """The folder is not there."""
    (folder / "test").rename(folder / "elsewhere")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (nothing, rf"ends with batch {START_MS + 3_000} .*, and results are written up to batch"),
        (remove, "is missing, and results are written up to batch"),
        (corrupt, "is damaged at byte"),
    ],
)
def test_create_on_error_moves_nothing_where_results_are_ahead(
    job: Job, spoil: Callable[[Path], None], words: str
) -> None:
    """Beside results that a fresh start would count again the folder is refused, whole, missing or damaged, and stays where it is."""
    job.run(3)
    spoil(job.folder)
    before = job.names()
    for _ in range(2):
        with pytest.raises(CheckpointError, match=words):
            job.made(create=True, must_reach=START_MS + 9_000).start(thread=False)

    assert job.names() == before


def test_create_on_error_takes_no_folder_from_another_process(job: Job) -> None:
    """A folder that another process holds is refused, createOnError or not."""
    holder = job.made()
    holder.start(thread=False)
    StreamingContext._active = None
    with pytest.raises(ConcurrentRunError, match="in use by another process"):
        job.made(create=True).start()
    holder.stop(stopSparkContext=False)

    assert job.names() == {"test"}


def test_folder_that_cannot_be_made_is_told(job: Job) -> None:
    """Where the checkpoint directory can be no folder there is nothing to move: the start is refused in a sentence that names it."""
    job.folder /= "file"
    job.folder.touch()
    with pytest.raises(CheckpointError, match=r"file/test could not be written \(Not a directory\)"):
        job.made(create=True).start()


def test_each_folder_that_is_set_aside_has_a_name_of_its_own(tmp_path: Path) -> None:
    """A folder goes to the first free number; one that is not there is refused with its name."""
    for number in (1, 2):
        (tmp_path / "app").mkdir()
        assert set_aside(tmp_path / "app") == tmp_path / f"app.damaged-{number}"

    with pytest.raises(CheckpointError, match=r"app could not be written \(No such file or directory\)"):
        set_aside(tmp_path / "app")
