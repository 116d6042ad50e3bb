"""A checkpoint volume that fails, turns read-only or runs short: an error or a new file, and never a second try on the same descriptor.

An fsync that fails is a fake: without a device of its own no process can have one. What the engine does to the files is real.
"""

import contextlib
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.batch import OffsetRange, TopicPartition
from engine.errors import CheckpointWriteError
from engine.sources.log import LogSource, LogWriter, create_topic
from services.settings import REFUSED, exit_code
from tests.engine.checkpoint.full import UNSHARE
from tests.engine.checkpoint.test_full_volume import unable
from tests.engine.checkpoint.test_journal import no_file_longer_than
from tests.engine.checkpoint.volume import BIG, Volume, make_unreadable
from tests.engine.children import ROOT

RECORDS = [(1, None, b"one"), (2, None, b"two")]


class Failing:
    """One fsync that fails, and what is written or synced through the same open file afterwards."""

    def __init__(self, name: str, suffix: str) -> None:
        self._name = name
        self._suffix = suffix
        self.failed = ""
        """The path of the file whose fsync failed."""
        self._descriptor = -1
        self.again: list[str] = []

    @contextlib.contextmanager
    def active(self) -> Iterator["Failing"]:
        """The next fsync of a file of this kind fails."""
        with pytest.MonkeyPatch.context() as patched:
            for name in ("write", "fsync", "fdatasync"):
                patched.setattr(os, name, self._watched(name, getattr(os, name)))
            patched.setattr(os, "close", self._close_of(os.close))
            yield self
        assert self.failed, "no fsync failed"

    def _watched(self, name: str, real: object) -> object:
        def call(descriptor: int, *arguments: object) -> object:
            if descriptor == self._descriptor:
                self.again.append(name)
            path = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - a name of the kernel's
            if name == self._name and not self.failed and path.endswith(self._suffix):
                self.failed, self._descriptor = path, descriptor
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(descriptor, *arguments)  # type: ignore[operator]  # a function of os

        return call

    def _close_of(self, real: object) -> object:
        def close(descriptor: int) -> None:
            if descriptor == self._descriptor:
                self._descriptor = -1
            real(descriptor)  # type: ignore[operator]  # a function of os

        return close


@pytest.mark.fault(26, "EIO of the journal's fdatasync, in a begin and in a commit")
@pytest.mark.parametrize("step", ["begin", "commit"])
def test_failed_fsync_of_an_append_gives_the_file_up(volume: Volume, step: str) -> None:
    """The frame is cut off and its segment never touched again: the batch runs again in a new one, and a restart finds the last commit."""
    volume.run({0: "a"})
    batch = volume.begin() if step == "commit" else None
    segment = volume.segments()[-1]
    size = segment.stat().st_size
    with Failing("fdatasync", ".log").active() as failing:
        with pytest.raises(
            CheckpointWriteError, match=r"\(Input/output error\): the checkpoint's volume fails"
        ):
            volume.commit(batch, {0: "lost"}) if batch else volume.begin()
        assert failing.failed == str(segment)
        assert segment.stat().st_size == size
        volume.run({0: "b"}, attempt=1)
        assert failing.again == []

    assert volume.segments()[-1].name == "000001-000001.log"
    assert segment.stat().st_size == size
    assert volume.reopen().state() == {0: "b"}


@pytest.mark.fault(26, "EIO of fdatasync, then the process ends")
def test_restart_after_a_failed_fsync_of_a_commit_runs_the_batch_again(volume: Volume) -> None:
    """A commit whose fsync failed is not found by the next start, which could not make its bytes durable: the batch is pending."""
    volume.run({0: "a"})
    batch = volume.begin()
    with Failing("fdatasync", ".log").active(), pytest.raises(CheckpointWriteError):
        volume.commit(batch, {0: "lost"})
    volume.reopen()

    assert (volume.state(), volume.checkpoint.pending()) == ({0: "a"}, batch)


@pytest.mark.fault(26, "EIO of the fsync of a snapshot, and of its folder")
@pytest.mark.parametrize(("name", "suffix"), [("fsync", "snap.tmp-{pid}"), ("fsync", "/0000")])
def test_failed_fsync_of_a_snapshot_leaves_the_deltas(volume: Volume, name: str, suffix: str) -> None:
    """The snapshot is refused and nothing refers to it; the next one is a new file, and a restart has the state without it."""
    volume.run({0: "a", 1: "b"})
    with Failing(name, suffix.format(pid=os.getpid())).active() as failing:
        with pytest.raises(CheckpointWriteError, match="Input/output error"):
            volume.snapshot_all()
        assert volume.checkpoint.catalog.snapshots == []
        volume.reopen()
        assert volume.state() == {0: "a", 1: "b"}
        volume.snapshot_all()
        assert failing.again == []

    assert list(volume.folder.rglob("*.tmp-*")) == []
    assert volume.reopen().state() == {0: "a", 1: "b"}


@pytest.mark.fault(21, "an older segment of the journal, whose deltas a restore needs, removed")
@pytest.mark.fault(26, "EIO of every read of an older segment, and of the newest one")
@pytest.mark.parametrize(
    ("spoil", "newest", "words"),
    [
        (Path.unlink, False, "(No such file or directory), and state needs the delta at its byte "),
        (make_unreadable, False, "(Input/output error), and state needs the delta at its byte "),
        (make_unreadable, True, "(Input/output error), and may hold what was acknowledged"),
    ],
    ids=["removed", "unreadable", "newest unreadable"],
)
def test_segment_that_cannot_be_read_is_refused(
    volume: Volume,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    newest: bool,
    words: str,
) -> None:
    """A start without a segment that it needs is refused in one sentence with file, reason and remedy, and its process ends with 2."""
    volume.run({0: "needed"})
    volume.reopen()
    volume.close()
    segment = volume.segments()[-1 if newest else 0]
    spoil(segment)

    assert exit_code(lambda: volume.open().version) == REFUSED
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"{segment} cannot be read {words}")
    assert told.endswith(
        "; restore the file from a copy, or start with an empty checkpoint folder and a backfill of the ledger"
    )


@pytest.mark.fault(26, "EIO of the embedded log's fdatasync")
def test_failed_fsync_of_an_append_to_the_log_gives_its_segment_up(tmp_path: Path) -> None:
    """None of the records is read, and the next append is in a new file with the same offsets."""
    create_topic(tmp_path, "events", 1)
    source = LogSource(tmp_path, ["events"])
    with LogWriter(tmp_path, "events", 0) as writer:
        writer.append(RECORDS[:1])
        with Failing("fdatasync", ".log").active() as failing:
            with pytest.raises(OSError, match="Input/output error"):
                writer.append(RECORDS)
            assert source.bounds()[TopicPartition("events", 0)] == (0, 1)
            assert writer.append(RECORDS[1:]) == 2
            assert failing.again == []

    segments = sorted(path.name for path in tmp_path.glob("events/0/*.log"))
    assert segments == [f"{0:020d}.0.log", f"{1:020d}.0.log"]
    found = [value for part in source.read(OffsetRange("events", 0, 0, 2)) for value in part.values]
    assert found == [b"one", b"two"]


@pytest.mark.fault(25, "a limit on the length of files, in a snapshot")
@pytest.mark.parametrize("room", [0, 5, 13, 4_000])
def test_snapshot_that_is_cut_short_leaves_the_deltas(volume: Volume, room: int) -> None:
    """A snapshot that the volume takes only in part does not appear, in whole or in part; the state stays and goes on."""
    volume.commit(volume.begin(), dict.fromkeys(range(4), BIG))
    with no_file_longer_than(room), pytest.raises(CheckpointWriteError, match="volume is full"):
        volume.snapshot(volume.checkpoint.snapshots_due(2)[0])
    assert [path for path in (volume.folder / "app" / "state").rglob("*") if path.is_file()] == []
    volume.run({4: "on"})

    assert len(volume.snapshots()) == 2
    assert volume.reopen().state() == {**dict.fromkeys(range(4), BIG), 4: "on"}


@pytest.mark.fault(25, "a tmpfs without room for a snapshot that is due")
@pytest.mark.fault(26, "a tmpfs remounted read-only, and read-only folders while batches run")
@pytest.mark.slow
def test_volume_of_its_own_runs_short_and_turns_read_only(tmp_path: Path) -> None:
    """A snapshot that would not fit waits with one word; a read-only volume is named; with room and writes again everything goes on."""
    if reason := unable():
        pytest.skip(reason)
    command = [*UNSHARE, sys.executable, "-m", "tests.engine.checkpoint.namespace", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    scenes = {line.pop("scene"): line for line in map(json.loads, done.stdout.splitlines())}

    short = scenes["short of room"]
    assert short["snapshots"] == [0, 0, 1]
    assert len(short["waited"]) == 1
    assert short["exact"]
    start = scenes["read-only start"]
    assert start["refused"][0] == "CheckpointWriteError"
    assert (
        "could not be written (Read-only file system): the checkpoint's volume fails" in start["refused"][1]
    )
    assert (start["exact"], start["closed"]) == (True, [])
    files = scenes["read-only files"]
    assert [kind for kind, _ in files["refused"]] == ["CheckpointWriteError"] * 2
    assert [".snap" in files["refused"][0][1], ".log" in files["refused"][1][1]] == [True, True]
    assert all("Read-only file system" in text for _, text in files["refused"])
    assert (files["left"], files["exact"]) == ([], True)
