"""The embedded log survives kills, torn appends, damage and a volume that refuses."""

import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import CorruptLogError
from engine.sources.log import LogSource, LogWriter, create_topic
from tests.engine.sources.log_world import PART, expected, flip, numbered, segments, values

FRAMES = 10
RECORDS = 3
"""Records in each of the frames."""

WRITER = """
import sys
from pathlib import Path
from engine.sources.log import LogWriter
with LogWriter(Path(sys.argv[1]), "t", 0, segment_bytes=40_000) as writer:
    begin = writer.next_offset
    while True:
        until = begin + 1 + begin % 50
        begin = writer.append([(1_000 + i, b"k%d" % i, b"v%d" % i) for i in range(begin, until)])
        print(begin, flush=True)
"""


@pytest.fixture(scope="module")
def ten_frames(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A log of ten frames of three records in one segment, and the segment's size after each of them, 0 first."""
    log_dir = tmp_path_factory.mktemp("log")
    create_topic(log_dir, "t", 1)
    ends = [0]
    with LogWriter(log_dir, "t", 0) as writer:
        for i in range(0, FRAMES * RECORDS, RECORDS):
            writer.append(numbered(i, i + RECORDS))
            ends.append(segments(log_dir)[0].stat().st_size)
    return log_dir, ends


@contextmanager
def copy_of(log_dir: Path) -> Iterator[Path]:
    """A copy of a log, for one example."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copytree(log_dir, Path(folder) / "log"))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_truncation_leaves_a_valid_prefix(
    ten_frames: tuple[Path, list[int]], data: st.DataObject
) -> None:
    """A segment cut at any byte reads as its whole frames; a writer cuts the rest and appends behind them."""
    log_dir, ends = ten_frames
    size = data.draw(st.integers(0, ends[-1]))
    whole = RECORDS * max(number for number, end in enumerate(ends) if end <= size)
    with copy_of(log_dir) as copy:
        os.truncate(segments(copy)[0], size)
        reader = LogSource(copy, ["t"])
        assert reader.bounds()[PART] == (0, whole)
        assert values(reader, 0, whole) == expected(0, whole)
        with LogWriter(copy, "t", 0) as writer:
            assert writer.next_offset == whole
            writer.append(numbered(whole, whole + 2))
        assert segments(copy)[0].stat().st_size > ends[whole // RECORDS]
        for source in (reader, LogSource(copy, ["t"])):
            assert source.bounds()[PART] == (0, whole + 2)
            assert values(source, 0, whole + 2) == expected(0, whole + 2)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_before_the_last_frame_is_found(
    ten_frames: tuple[Path, list[int]], data: st.DataObject
) -> None:
    """Damage that has a valid frame behind it stops readers and writers, and nothing is cut."""
    log_dir, ends = ten_frames
    position = data.draw(st.integers(0, ends[-2] - 1))
    damaged = max(number for number, end in enumerate(ends) if end <= position)
    with copy_of(log_dir) as copy:
        flip(segments(copy)[0], position)
        place = rf"is damaged at byte {ends[damaged]}, where offset {damaged * RECORDS} should be"
        with pytest.raises(CorruptLogError, match=place):
            LogWriter(copy, "t", 0)
        with pytest.raises(CorruptLogError, match=place):
            LogSource(copy, ["t"]).bounds()
        with pytest.raises(CorruptLogError, match=place):
            values(LogSource(copy, ["t"]), 0, FRAMES * RECORDS)
        assert segments(copy)[0].stat().st_size == ends[-1]


def test_a_flipped_bit_in_the_last_frame_is_never_read(ten_frames: tuple[Path, list[int]]) -> None:
    """Damage to the last frame cannot be told from a torn append: its records are gone, not wrong."""
    log_dir, ends = ten_frames
    for position in range(ends[-2], ends[-1], 7):
        with copy_of(log_dir) as copy:
            flip(segments(copy)[0], position)
            assert LogSource(copy, ["t"]).bounds()[PART] == (0, (FRAMES - 1) * RECORDS)


def test_a_frame_inside_a_record_is_no_frame(ten_frames: tuple[Path, list[int]], tmp_path: Path) -> None:
    """A torn append whose values look like frames of another topic is torn and not damaged."""
    other, ends = ten_frames
    frame = segments(other)[0].read_bytes()[: ends[1]]
    create_topic(tmp_path, "t", 1)
    with LogWriter(tmp_path, "t", 0) as writer:
        writer.append(numbered(0, 1))
        whole_bytes = segments(tmp_path)[0].stat().st_size
        writer.append([(1, None, frame)] * 3)
    os.truncate(segments(tmp_path)[0], segments(tmp_path)[0].stat().st_size - 1)
    with LogWriter(tmp_path, "t", 0) as writer:
        assert writer.next_offset == 1
    assert segments(tmp_path)[0].stat().st_size == whole_bytes


def test_the_cut_of_a_torn_append_is_logged(
    ten_frames: tuple[Path, list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    """A writer that cuts says which file, how many bytes and behind which offset; one that cuts nothing is silent."""
    log_dir, ends = ten_frames
    with copy_of(log_dir) as copy, caplog.at_level(logging.INFO, "engine"):
        LogWriter(copy, "t", 0).close()
        assert caplog.messages == []
        os.truncate(segments(copy)[0], ends[4] + 5)
        LogWriter(copy, "t", 0).close()
        assert caplog.messages == [f"{segments(copy)[0]}: cut 5 bytes of a torn append behind offset 12"]


def test_a_gap_between_segments_is_damage(tmp_path: Path) -> None:
    """A segment that ends before the next one begins is an error that names both, never a silent loss."""
    create_topic(tmp_path, "t", 1)
    with LogWriter(tmp_path, "t", 0, segment_bytes=200) as writer:
        for i in range(0, 12, 2):
            writer.append(numbered(i, i + 2))
    first = segments(tmp_path)[0]
    os.truncate(first, first.stat().st_size - 1)
    with pytest.raises(CorruptLogError, match="ends at offset 4, and the next segment begins at 6"):
        values(LogSource(tmp_path, ["t"]), 0, 12)


@pytest.mark.parametrize("before", [0, 4])
def test_after_a_failed_fsync_the_segment_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """Records whose fsync failed are never read, even when their bytes stayed; the next append takes their offsets elsewhere."""
    create_topic(tmp_path, "t", 1)

    def refuse(*_: int) -> None:
        raise OSError(5, "Input/output error")

    with LogWriter(tmp_path, "t", 0) as writer:
        writer.append(numbered(0, before))
        with monkeypatch.context() as volume:
            volume.setattr(os, "fdatasync", refuse)
            volume.setattr(os, "ftruncate", refuse)
            with pytest.raises(OSError, match="Input/output error"):
                writer.append([(1, None, b"void")])
        left = segments(tmp_path)
        assert writer.append(numbered(before, before + 3)) == before + 3
        assert left[0].read_bytes().count(b"void") == 1
        assert len(segments(tmp_path)) == len(left) + 1
    for _ in range(2):
        source = LogSource(tmp_path, ["t"])
        assert source.bounds()[PART] == (0, before + 3)
        assert values(source, 0, before + 3) == expected(0, before + 3)
        LogWriter(tmp_path, "t", 0).close()


def test_a_full_volume_loses_nothing(tmp_path: Path) -> None:
    """An append that the volume refuses midway raises and leaves no trace; it works again when there is space."""
    create_topic(tmp_path, "t", 1)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    with LogWriter(tmp_path, "t", 0) as writer:
        writer.append(numbered(0, 10))
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, unlimited[1]))
            with pytest.raises(OSError, match="File too large"):
                writer.append([(1, None, bytes(10_000))])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        assert LogSource(tmp_path, ["t"]).bounds()[PART] == (0, 10)
        assert writer.append(numbered(10, 20)) == 20
    assert values(LogSource(tmp_path, ["t"]), 0, 20) == expected(0, 20)


@pytest.mark.slow
def test_a_writer_killed_again_and_again_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """Under kill -9 at any moment every acknowledged record stays, in its place, and a reader never sees a torn one."""
    create_topic(tmp_path, "t", 1)
    reader = LogSource(tmp_path, ["t"])
    acknowledged = seen = 0
    for round_number in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wanted = acknowledged + 200 * (1 + round_number % 4)
        deadline = time.monotonic() + 30
        # Read while the writer appends, until it has come far enough.
        while seen < wanted and time.monotonic() < deadline:
            end = reader.bounds()[PART][1]
            assert values(reader, seen, end) == expected(seen, end)
            seen = end
        process.send_signal(signal.SIGKILL)
        said = process.communicate()[0].split("\n")
        # The last line may be cut off by the kill.
        acknowledged = max([acknowledged, *map(int, said[:-1])])
        assert seen >= wanted
        end = reader.bounds()[PART][1]
        assert end >= max(acknowledged, seen)
        assert values(LogSource(tmp_path, ["t"]), 0, end) == expected(0, end)
    assert len(segments(tmp_path)) > 1
