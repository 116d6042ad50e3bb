"""The append-only record of what the engine means to do and has done.

Layout: `<folder>/<epoch>-<number>.log`, both six digits; a segment is a row of frames:

    field     bytes  meaning
    magic     4      "DSJ1"; 1 is the format's version
    head      4      length of the head, little endian, as all numbers here
    body      4      length of the body
    checksum  8      XXH3 of the 12 bytes before it, the head and the body
    head             JSON: one record, tagged by its kind
    body             bytes that the head describes

The first frame of a segment is an `open` record: it holds everything that a reader needs of the segments before it, so those are
read only at the places that it names.

A frame is valid when its checksum is. A bad frame with no valid one behind it is the torn end of an append that was never
acknowledged, and is void. A bad frame with a valid one behind it is damage to acknowledged bytes, and an error.

Recovery: take the newest segment whose `open` is valid; read its frames to the first void one; begin a segment of a new epoch.
What is passed over is said in the log and counted. Nobody appends to, or cuts, a segment of an older epoch.

After a failed write or fsync the frame is cut off at once and the segment is given up for a new one: what a full volume took is void
and its bytes are needed, and after a failed fsync the system may call pages clean that the volume never got, so a later fsync would
prove nothing. A power cut may bring such a frame back; then it is one that was begun and never acknowledged.

Owns: Frame, Newest, Journal, the frame format.
Never: the meaning of a record; that is the checkpoint's.
"""

import contextlib
import logging
import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from engine.checkpoint.files import checksum, make_folder, sync_file, sync_folder, write_all, writing
from engine.errors import ConcurrentRunError, CorruptLogError
from engine.failpoints import fail_point

log = logging.getLogger(__name__)

MAGIC = b"DSJ1"
_LENGTHS = struct.Struct("<4sII")
_CHECKSUM = struct.Struct("<Q")
_HEADER_BYTES = _LENGTHS.size + _CHECKSUM.size
_SEGMENT = re.compile(r"(\d{6,})-(\d{6,})\.log")


class SegmentName(NamedTuple):
    """Which segment; they order by age."""

    epoch: int
    number: int

    @property
    def file(self) -> str:
        """The segment's file name."""
        return f"{self.epoch:06d}-{self.number:06d}.log"


FIRST_SEGMENT = SegmentName(1, 0)
"""Of a new folder; as long as it is there nothing was removed."""


class Frame(NamedTuple):
    """One valid frame."""

    head: bytes
    segment: str
    """File name of its segment."""
    body_offset: int
    """Where its body begins in the segment, in bytes."""
    body_length: int


class Newest(NamedTuple):
    """What a start goes on from."""

    segment: str
    """File name; empty in a new folder."""
    frames: list[Frame]
    fallbacks: int
    """Segments and torn ends that were passed over."""


def segment_names(folder: Path) -> list[SegmentName]:
    """The segments in a folder, oldest first."""
    matches = [_SEGMENT.fullmatch(entry.name) for entry in folder.iterdir()]
    return sorted(SegmentName(int(match[1]), int(match[2])) for match in matches if match)


def read_newest(folder: Path, names: Sequence[SegmentName], *, was_used: bool) -> Newest:
    """Read the newest of the segments that has a valid first frame; without one the folder must never have been used.

    Raises:
        CorruptLogError: there is none, though there was; one cannot be read; or a damaged frame has a valid one behind it.
        CheckpointWriteError: what was read cannot be made durable.
    """
    for fallbacks, name in enumerate(reversed(names)):
        path = folder / name.file
        frames = read_segment(path)
        if frames:
            # A frame may have been read from the page cache of a process that died before its fsync.
            sync_file(path)
            void = path.stat().st_size - frames[-1].body_offset - frames[-1].body_length
            if void:
                log.warning(
                    "%s: passed over %d bytes behind its last whole frame: an append that was never acknowledged, or damage",
                    *(path, void),
                )
            if fallbacks or void:
                log.warning("going on from %s with %d frames", path, len(frames))
            return Newest(name.file, frames, fallbacks + bool(void))
        log.warning("%s has no whole first frame; falling back to an older segment", path)
    if was_used or (names and names[0] != FIRST_SEGMENT):
        damage = f"{folder / names[-1].file} is damaged at byte 0" if names else f"{folder} is empty"
        raise CorruptLogError(
            f"{damage} and no segment before it is whole; "
            "restore it from a copy, or start with an empty checkpoint folder and a backfill of the ledger"
        )
    return Newest("", [], len(names))


def read_segment(path: Path) -> list[Frame]:
    """The valid frames of a segment, up to its end or its torn end.

    Raises:
        CorruptLogError: a damaged frame has a valid one behind it, or the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as cause:
        raise CorruptLogError(
            f"{path} cannot be read ({cause.strerror}), and may hold what was acknowledged; "
            "restore the file from a copy, or start with an empty checkpoint folder and a backfill of the ledger"
        ) from cause
    frames: list[Frame] = []
    position = 0
    while position < len(content):
        frame = _frame_at(content, position, path.name)
        if frame is None:
            _refuse_damage(content, position, path)
            break
        frames.append(frame)
        position = frame.body_offset + frame.body_length
    return frames


def _frame_at(content: bytes, position: int, segment: str) -> Frame | None:
    begin = position + _HEADER_BYTES
    if begin > len(content):
        return None
    magic, head_length, body_length = _LENGTHS.unpack_from(content, position)
    body_offset = begin + head_length
    if magic != MAGIC or body_offset + body_length > len(content):
        return None
    (expected,) = _CHECKSUM.unpack_from(content, position + _LENGTHS.size)
    view = memoryview(content)
    found = checksum(view[position : position + _LENGTHS.size], view[begin : body_offset + body_length])
    if found != expected:
        return None
    return Frame(content[begin:body_offset], segment, body_offset, body_length)


def _refuse_damage(content: bytes, position: int, path: Path) -> None:
    candidate = content.find(MAGIC, position + 1)
    while candidate >= 0:
        if _frame_at(content, candidate, path.name) is not None:
            raise CorruptLogError(
                f"{path} is damaged at byte {position}: the frame there fails its checksum and a valid one follows at "
                f"byte {candidate}; restore the file from a copy, or start with an empty checkpoint folder and a backfill of the ledger"
            )
        candidate = content.find(MAGIC, candidate + 1)


class Journal:
    """The open segment of one epoch; appends are durable when they return.

    Args:
        folder: where the segments are; made if missing.
        epoch: of every segment that this writer begins; greater than that of any segment there is.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        self._folder = folder
        self._next = SegmentName(epoch, 0)
        self._descriptor = -1
        self._size = 0
        self._is_blank = False
        """Nothing was ever written to the open segment."""
        self.written = 0
        """Bytes in all segments of this writer."""

    @property
    def epoch(self) -> int:
        """The epoch of this writer."""
        return self._next.epoch

    @property
    def segment(self) -> str:
        """File name of the open segment."""
        return SegmentName(self.epoch, self._next.number - 1).file

    @property
    def size(self) -> int:
        """Bytes in the open segment."""
        return self._size

    def begin_segment(self) -> None:
        """Begin a new segment, durable under its name; the next append is its first frame.

        Raises:
            ConcurrentRunError: another writer began this epoch.
            CheckpointWriteError: the volume is full, or fails.
        """
        make_folder(self._folder)
        path = self._folder / self._next.file
        with writing(path):
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            except FileExistsError as cause:
                raise ConcurrentRunError(
                    f"{path} exists: another process began epoch {self.epoch}; start again"
                ) from cause
        self.close()
        self._descriptor, self._size, self._is_blank = descriptor, 0, True
        self._next = SegmentName(self.epoch, self._next.number + 1)
        fail_point("new_segment")
        sync_folder(self._folder)

    def append(self, head: bytes, body: bytes = b"") -> Frame:
        """Append one frame, durable when this returns.

        Raises:
            CheckpointWriteError: begin a new segment before the next append; a power cut may bring the frame back.
        """
        lengths = _LENGTHS.pack(MAGIC, len(head), len(body))
        payload = head + body
        frame = lengths + _CHECKSUM.pack(checksum(lengths, payload)) + payload
        self._is_blank = False
        with writing(self._folder / self.segment):
            try:
                write_all(self._descriptor, frame)
                fail_point("in_append")
                os.fdatasync(self._descriptor)
            except OSError:
                with contextlib.suppress(OSError):  # then it stays as a torn end, which is void as well
                    os.ftruncate(self._descriptor, self._size)
                raise
        body_offset = self._size + _HEADER_BYTES + len(head)
        self._size += len(frame)
        self.written += len(frame)
        return Frame(head, self.segment, body_offset, len(body))

    def refuse_if_fenced(self) -> None:
        """Look for a newer epoch than this writer's.

        Raises:
            ConcurrentRunError: there is one; this process must not go on.
        """
        newest = segment_names(self._folder)[-1]
        if newest.epoch > self.epoch:
            raise ConcurrentRunError(
                f"epoch {newest.epoch} has taken over {self._folder} from epoch {self.epoch}; this process stops"
            )

    def close(self) -> None:
        """Close the open segment; one that nothing was written to goes: its start was refused, and its volume is not at fault."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            if self._is_blank:
                with contextlib.suppress(OSError):  # then later starts pass it over
                    (self._folder / self.segment).unlink()
