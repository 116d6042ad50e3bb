"""A process killed while it writes or removes files of the checkpoint: what is left, and what the next start makes of it."""

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import failpoints
from engine.checkpoint.journal import read_segment
from tests.engine.checkpoint.volume import Volume

pytestmark = pytest.mark.slow

BEFORE = {0: "a", 1: "b"}
AFTER = {0: "a", 1: "b", 2: "c"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint folder with a generation of snapshots, and changes after it; nobody holds it."""
    volume = Volume(tmp_path).open()
    volume.run(BEFORE)
    volume.snapshot_all()
    volume.run({2: "c"})
    volume.close()
    return tmp_path


def killed(folder: Path, act: Callable[[Volume], object], point: str = "") -> int:
    """A process of its own opens the folder and acts on it, with the fail point armed; returns the signal that killed it."""
    child = os.fork()
    if child == 0:
        hooks: Any = failpoints
        try:
            volume = Volume(folder).open()
            hooks._KINDS = {point: "crash"}
            act(volume)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return -os.waitstatus_to_exitcode(status)


def snapshots(folder: Path, kind: str) -> set[Path]:
    """The snapshots' files whose names contain this."""
    return {path for path in (folder / "app" / "state").rglob("*") if kind in path.name}


@pytest.mark.fault(6, "fail point before_rename, in a snapshot")
def test_kill_before_the_rename_leaves_the_older_file(folder: Path) -> None:
    """The temporary file is there after the kill and swept by the next start, which reads the older snapshot."""
    older = snapshots(folder, ".snap")
    assert killed(folder, Volume.snapshot_all, "before_rename") == signal.SIGKILL
    assert len(snapshots(folder, ".tmp-")) == 1
    volume = Volume(folder).open()

    assert snapshots(folder, "") & snapshots(folder, ".snap") == older
    assert snapshots(folder, ".tmp-") == set()
    assert volume.state() == AFTER
    volume.close()


@pytest.mark.fault(7, "fail point after_rename, and the new name taken away again")
@pytest.mark.parametrize("is_lost", [True, False])
def test_kill_after_the_rename_leaves_the_older_generation(folder: Path, *, is_lost: bool) -> None:
    """Whether the new name survived or not, nothing refers to it: the older snapshot counts, and the stray file goes with the next purge."""
    older = snapshots(folder, ".snap")
    assert killed(folder, Volume.snapshot_all, "after_rename") == signal.SIGKILL
    (stray,) = snapshots(folder, ".snap") - older
    if is_lost:
        stray.unlink()
    volume = Volume(folder).open()

    assert {volume.folder / "app" / kept.file for kept in volume.checkpoint.catalog.snapshots} == older
    assert volume.state() == AFTER
    volume.run({3: "d"})
    assert snapshots(folder, ".snap") == older
    volume.snapshot_all()
    assert volume.reopen().state() == {**AFTER, 3: "d"}
    volume.close()


@pytest.mark.fault(9, "fail points in_snapshot and after_snapshot")
@pytest.mark.parametrize(("point", "files"), [("in_snapshot", 0), ("after_snapshot", 1)])
def test_kill_in_a_snapshot_leaves_snapshot_and_deltas(folder: Path, point: str, files: int) -> None:
    """The older snapshot and every delta after it are still there, and make the state."""
    older = snapshots(folder, ".snap")
    assert killed(folder, Volume.snapshot_all, point) == signal.SIGKILL
    assert len(snapshots(folder, ".snap") - older) == files
    volume = Volume(folder).open()

    assert {volume.folder / "app" / kept.file for kept in volume.checkpoint.catalog.snapshots} == older
    assert {delta.version for delta in volume.checkpoint.catalog.deltas} > {volume.version}
    assert (volume.state(), [shard.fallbacks for shard in volume.shards]) == (AFTER, [0, 0])
    volume.close()


@pytest.mark.fault(10, "fail point in_purge, reached after one of several files was removed")
def test_kill_in_a_purge_leaves_every_file_that_is_referred_to(folder: Path) -> None:
    """With some of the old files removed and some not, all that the catalog names are there, and the next purge removes the rest."""

    def act(volume: Volume) -> None:
        for number in range(3):
            volume.run({0: number, 1: number})
            volume.snapshot_all()

    def age(volume: Volume) -> None:
        hooks: Any = failpoints
        armed, hooks._KINDS = hooks._KINDS, {}
        purge, volume.checkpoint.purge = volume.checkpoint.purge, lambda horizon: None  # type: ignore[method-assign]  # later
        act(volume)
        hooks._KINDS = armed
        purge(volume.time)

    assert killed(folder, age, "in_purge") == signal.SIGKILL
    volume = Volume(folder).open()
    catalog = volume.checkpoint.catalog
    named = {volume.folder / "app" / kept.file for kept in catalog.snapshots}
    named |= {volume.journal / delta.segment for delta in catalog.deltas}
    assert all(path.exists() for path in named)
    assert snapshots(folder, ".snap") > {path for path in named if path.suffix == ".snap"}
    assert volume.state() == {**AFTER, 0: 2, 1: 2}
    volume.run({})

    assert snapshots(folder, ".snap") == {path for path in named if path.suffix == ".snap"}
    assert volume.reopen().state() == {**AFTER, 0: 2, 1: 2}
    volume.close()


@pytest.mark.fault(
    18, "SIGXFSZ in the middle of its append: the kernel kills the process when half of the frame is written"
)
@pytest.mark.parametrize("part", [1, 19, 60, 150])
def test_kill_in_the_middle_of_an_append_leaves_a_void_end(
    folder: Path, part: int, caplog: pytest.LogCaptureFixture
) -> None:
    """So many bytes of the commit are in the file when the process dies; the next start says that it passed them over, and runs the batch."""

    def act(volume: Volume) -> None:
        batch = volume.begin()
        size = volume.segments()[-1].stat().st_size
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + part, size + part))
        volume.commit(batch, {0: "lost"})

    assert killed(folder, act) == signal.SIGXFSZ
    newest = Volume(folder).segments()[-1]
    last = read_segment(newest)[-1]
    assert newest.stat().st_size - last.body_offset - last.body_length == part
    volume = Volume(folder).open()

    assert f"{newest.name}: passed over {part} bytes" in caplog.text
    waiting = volume.checkpoint.pending()
    assert waiting is not None
    assert (waiting.time, volume.state(), volume.checkpoint.fallbacks) == (3_000, AFTER, 1)
    volume.run({0: "again"}, attempt=1)
    assert volume.reopen().state() == {**AFTER, 0: "again"}
    volume.close()
