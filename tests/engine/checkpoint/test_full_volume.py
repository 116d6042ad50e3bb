"""A checkpoint volume that is full: one clear sentence, nothing lost, and the next start goes on as soon as there is room."""

import json
import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from engine.checkpoint.files import writing
from engine.errors import CheckpointError, CheckpointWriteError, StreamingError
from services.settings import exit_code
from tests.engine.checkpoint.full import ROOMS, UNSHARE
from tests.engine.checkpoint.test_journal import no_file_longer_than
from tests.engine.checkpoint.volume import Volume
from tests.engine.children import ROOT

SENTENCE = re.compile(
    r"(\S+) could not be written \(No space left on device\): the checkpoint's volume is full; "
    r"free some space on it, and the engine goes on where it stopped"
)


@cache
def unable() -> str:
    """Why there can be no volume of our own here; "" when there can. Where not, the tests with a limit on files remain."""
    command = [*UNSHARE, "mount", "-t", "tmpfs", "-o", "size=64k", "small", tempfile.gettempdir()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"no tmpfs in a namespace of our own: {done.stderr.strip()}"


@pytest.mark.fault(
    25, "a tmpfs filled up to ten different amounts of room, the application twice on it, then with room"
)
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_full_volume_is_told_and_costs_nothing(tmp_path: Path) -> None:
    """Whatever write the full volume refuses, one sentence names it, twice if need be, and with room again every row is exact."""
    if reason := unable():
        pytest.skip(reason)
    command = [*UNSHARE, sys.executable, "-m", "tests.engine.checkpoint.full", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert [run["pages"] for run in runs] == list(ROOMS)
    refused = set()
    for run in runs:
        first, second, last = run["errors"]
        for error in (first, second):
            assert error["type"] == "CheckpointWriteError", error
            told = SENTENCE.fullmatch(error["text"])
            assert told, error
            refused.add(Path(told[1]).suffix)
        assert (last, run["left"], run["exact"]) == (None, [], True), run
    # Room is looked at before a snapshot is written; test_failing_volume.py has one refused all the same.
    assert refused >= {".json", ".log"}


def test_error_that_waiting_cures_is_no_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    """A volume that is full or fails ends a process with 1, so that it is started again; a path that is refused, with 2."""

    def main(code: int) -> None:
        with writing(Path("x.log")):
            raise OSError(code, os.strerror(code))

    for code, ends in ((28, 1), (122, 1), (27, 1), (5, 1), (30, 1), (13, 2), (20, 2)):
        assert exit_code(lambda code=code: main(code)) == ends
        assert capsys.readouterr().err.startswith(f"x.log could not be written ({os.strerror(code)})")


def test_refused_write_has_its_cause(tmp_path: Path) -> None:
    """The error is chained to the system's own."""
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="File exists") as raised:
        Volume(tmp_path / "file").open()
    assert isinstance(raised.value.__cause__, FileExistsError)


@pytest.mark.fault(25, "a limit on the length of files, in a begin and in a commit")
def test_torn_begin_and_commit_are_cut_off(tmp_path: Path) -> None:
    """What a full volume took of a frame is gone at once, and the batch runs again in the next segment or after a restart."""
    volume = Volume(tmp_path).open()
    volume.run({0: "a"})
    size = volume.segments()[-1].stat().st_size
    with no_file_longer_than(size + 30), pytest.raises(CheckpointWriteError, match="volume is full"):
        volume.begin()
    assert volume.segments()[-1].stat().st_size == size
    batch = volume.begin()
    size = volume.segments()[-1].stat().st_size
    with no_file_longer_than(size + 30), pytest.raises(CheckpointWriteError, match="volume is full"):
        volume.commit(batch, {0: "b"})
    assert volume.segments()[-1].stat().st_size == size

    volume.reopen()
    assert volume.checkpoint.pending() == batch
    assert volume.state() == {0: "a"}
    volume.run({0: "b"}, attempt=1)
    assert volume.reopen().state() == {0: "b"}
    volume.close()


def test_start_on_a_full_volume_leaves_no_frame(tmp_path: Path) -> None:
    """A new segment whose first frame is refused stays empty; later starts pass it over and remove it."""
    volume = Volume(tmp_path).open()
    volume.run({0: "a"})
    volume.close()
    for _ in range(2):
        with no_file_longer_than(50), pytest.raises(StreamingError, match="volume is full"):
            volume.open()
        assert volume.segments()[-1].stat().st_size == 0

    volume.open()
    assert volume.state() == {0: "a"}
    volume.run({1: "b"})
    assert [path.name for path in volume.segments()] == ["000001-000000.log", "000004-000000.log"]
    assert volume.reopen().state() == {0: "a", 1: "b"}
    volume.close()


@pytest.mark.fault(25, "a limit on the length of files, in the first frame of a segment")
def test_segment_without_its_first_frame_takes_no_other(tmp_path: Path) -> None:
    """Where a full volume refused the first frame of a new segment, the next record goes to a further one."""
    volume = Volume(tmp_path).open()
    volume.run({0: "a"})
    with no_file_longer_than(50), pytest.raises(CheckpointWriteError):
        volume.rotate()
    volume.run({1: "b"})
    assert volume.reopen().state() == {0: "a", 1: "b"}
    volume.close()
