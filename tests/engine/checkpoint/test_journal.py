"""The journal's frames: whole or void, and damage to acknowledged bytes is never taken for a torn end."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.checkpoint.journal import Journal, SegmentName, read_segment, segment_names
from engine.errors import CheckpointWriteError, ConcurrentRunError, CorruptLogError

FRAMES = [(b'{"n":1}', b""), (b'{"n":2}', b"body of two"), (b'{"n":3}', b"x" * 40), (b'{"n":4}', b"last")]


def written(folder: Path, frames: list[tuple[bytes, bytes]] = FRAMES, epoch: int = 1) -> Path:
    """A segment with these frames."""
    journal = Journal(folder, epoch)
    journal.begin_segment()
    for head, body in frames:
        journal.append(head, body)
    journal.close()
    return folder / journal.segment


def heads(path: Path) -> list[bytes]:
    """The heads of a segment's valid frames."""
    return [frame.head for frame in read_segment(path)]


def ends(path: Path) -> list[int]:
    """Where each frame ends, in bytes."""
    return [frame.body_offset + frame.body_length for frame in read_segment(path)]


@pytest.mark.slow
@settings(max_examples=20)
@given(frames=st.lists(st.tuples(st.binary(), st.binary()), min_size=1, max_size=6))
def test_frames_come_back(
    tmp_path_factory: pytest.TempPathFactory, frames: list[tuple[bytes, bytes]]
) -> None:
    """What was appended is read back, and each body lies where its frame says."""
    path = written(tmp_path_factory.mktemp("journal"), frames)
    content = path.read_bytes()
    found = read_segment(path)

    assert [
        (frame.head, content[frame.body_offset : frame.body_offset + frame.body_length]) for frame in found
    ] == frames


def test_append_tells_where_the_body_is(tmp_path: Path) -> None:
    """The frame that an append returns is the one that a reader finds."""
    journal = Journal(tmp_path, 1)
    journal.begin_segment()
    appended = [journal.append(head, body) for head, body in FRAMES]
    journal.close()

    assert appended == read_segment(tmp_path / journal.segment)


@pytest.mark.fault(18, "a segment cut at every byte")
@pytest.mark.slow
def test_torn_end_is_void_at_every_length(tmp_path: Path) -> None:
    """Cut at any byte, a segment gives the frames that are whole, and no error."""
    whole = written(tmp_path)
    content, frame_ends = whole.read_bytes(), ends(whole)
    torn = tmp_path / "torn"
    for length in range(len(content) + 1):
        torn.write_bytes(content[:length])
        assert len(read_segment(torn)) == sum(end <= length for end in frame_ends)


@pytest.mark.parametrize("tail", [b"\0" * 64, b"DSJ1" + b"\0" * 30, b"\xff" * 100, b"DSJ1" * 10])
def test_garbage_behind_the_last_frame_is_void(tmp_path: Path, tail: bytes) -> None:
    """Bytes behind the last frame that make no frame, such as zeros of a block that was never written, are void."""
    path = written(tmp_path)
    path.write_bytes(path.read_bytes() + tail)

    assert heads(path) == [head for head, _ in FRAMES]


@pytest.mark.fault(19, "a bit in every byte of a journal but its last frame")
@pytest.mark.slow
def test_flipped_bit_before_the_last_frame_is_an_error(tmp_path: Path) -> None:
    """A bit that flips in any byte of a frame with a valid one behind it is an error with file, offset and remedy."""
    path = written(tmp_path)
    content, frame_ends = path.read_bytes(), ends(path)
    begins = [0, *frame_ends]
    for position in range(frame_ends[-2]):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        begin = max(b for b in begins if b <= position)
        with pytest.raises(
            CorruptLogError, match=rf"{path.name} is damaged at byte {begin}: .* restore the file from a copy"
        ):
            read_segment(path)


@pytest.mark.fault(19, "a bit in every byte of the last frame")
def test_flipped_bit_in_the_last_frame_is_a_torn_end(tmp_path: Path) -> None:
    """A bit that flips in the last frame cannot be told from a torn append: the frame is void, those before it stay."""
    path = written(tmp_path)
    content, frame_ends = path.read_bytes(), ends(path)
    for position in range(frame_ends[-2], len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert heads(path) == [head for head, _ in FRAMES[:-1]]


def test_segments_order_by_epoch_and_number(tmp_path: Path) -> None:
    """Segments are read in the order of their epochs and numbers, and other files are none."""
    for name in ("000002-000000.log", "000001-000010.log", "000001-000009.log", "1000000-000000.log"):
        (tmp_path / name).touch()
    for name in ("notes.txt", "000003-000000.log.tmp-7", "3-1.log"):
        (tmp_path / name).touch()

    assert segment_names(tmp_path) == [
        SegmentName(1, 9),
        SegmentName(1, 10),
        SegmentName(2, 0),
        SegmentName(1_000_000, 0),
    ]


def test_new_segment_goes_on_behind_the_old_one(tmp_path: Path) -> None:
    """A second segment of an epoch has the next number, and appends go there."""
    journal = Journal(tmp_path, 3)
    journal.begin_segment()
    journal.append(b"one")
    journal.begin_segment()
    assert journal.size == 0
    journal.append(b"two")
    journal.close()

    assert [heads(tmp_path / name.file) for name in segment_names(tmp_path)] == [[b"one"], [b"two"]]
    assert [name.file for name in segment_names(tmp_path)] == ["000003-000000.log", "000003-000001.log"]


def test_blank_segment_goes_with_its_writer(tmp_path: Path) -> None:
    """A segment that nothing was written to goes when it is closed, also after a newer epoch began; one with a frame stays."""
    refused, newer = Journal(tmp_path, 2), Journal(tmp_path, 3)
    refused.begin_segment()
    newer.begin_segment()
    newer.append(b"one")
    refused.close()
    newer.refuse_if_fenced()
    newer.close()

    assert segment_names(tmp_path) == [SegmentName(3, 0)]


def test_epoch_begins_once(tmp_path: Path) -> None:
    """Of two writers that begin the same epoch the second is refused."""
    first, second = Journal(tmp_path, 1), Journal(tmp_path, 1)
    first.begin_segment()

    with pytest.raises(ConcurrentRunError, match="another process began epoch 1"):
        second.begin_segment()
    first.close()


def test_older_writer_is_fenced(tmp_path: Path) -> None:
    """A writer sees that a newer epoch has begun, and one without a rival sees none."""
    older = Journal(tmp_path, 1)
    older.begin_segment()
    older.refuse_if_fenced()
    newer = Journal(tmp_path, 2)
    newer.begin_segment()

    newer.refuse_if_fenced()
    with pytest.raises(
        ConcurrentRunError, match=r"epoch 2 has taken over .* from epoch 1; this process stops"
    ):
        older.refuse_if_fenced()
    older.close()
    newer.close()


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """A volume that is full behind so many bytes of each file: writes end short, then fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.fault(25, "a limit on the length of files, in an append")
@pytest.mark.parametrize("room", [0, 1, 19, 20, 27, 60])
def test_failed_append_leaves_what_was_there(tmp_path: Path, room: int) -> None:
    """An append that the volume refuses raises, however much of it was written, and the frames before it stay valid."""
    journal = Journal(tmp_path, 1)
    journal.begin_segment()
    journal.append(b"before", b"body")

    with (
        no_file_longer_than(journal.size + room),
        pytest.raises(CheckpointWriteError, match="File too large"),
    ):
        journal.append(b"refused", b"x" * 100)
    first = tmp_path / journal.segment
    journal.begin_segment()
    journal.append(b"after")
    journal.close()

    assert heads(first) == [b"before"]
    assert first.stat().st_size > 0
    assert heads(tmp_path / journal.segment) == [b"after"]
