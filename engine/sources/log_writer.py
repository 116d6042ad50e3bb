"""The writing side of the embedded log: topics are made here, and each partition has one writer.

The bytes, the rule of validity and the recovery algorithm stand at the top of log_format.py.

Owns: create_topic, topic_partitions, LogWriter.
Never: the layout of a file (log_format.py); reading for somebody else (log.py).
"""

import contextlib
import fcntl
import logging
import os
import secrets
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from engine.errors import ConcurrentRunError, ConfigurationError, SourceError
from engine.sources.log_format import (
    FORMAT,
    LogRecord,
    Segment,
    Topic,
    encode_frame,
    list_segments,
    no_partition,
    read_frames,
    read_topic,
    sync_folder,
    topic_folder,
)

SEGMENT_BYTES = 64 * 1024 * 1024

_EPOCH_SHIFT = 32
"""The number of a segment is the epoch of its writer, and below that many bits the times that its base was given up."""

_log = logging.getLogger(__name__)


def create_topic(log_dir: Path, name: str, partitions: int) -> None:
    """Make a topic of that many partitions; nothing happens when it is there already.

    Raises:
        ConfigurationError: the topic exists with another number of partitions.
    """
    if partitions < 1:
        raise ConfigurationError(f"topic {name!r} cannot have {partitions} partitions; give at least 1")
    folder = topic_folder(log_dir, name)
    folder.mkdir(parents=True, exist_ok=True)
    _make_topic(folder, Topic(FORMAT, partitions, secrets.randbits(64)))
    if (existing := read_topic(log_dir, name).partitions) != partitions:
        raise ConfigurationError(
            f"topic {name!r} in {log_dir} has {existing} partitions and not {partitions}; "
            f"ask for {existing}, or delete the topic's folder"
        )


def _make_topic(folder: Path, topic: Topic) -> None:
    """Write the partitions' folders and topic.json, unless it is there: of two callers the second finds the first one's."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if (folder / "topic.json").exists():
            # The process that made it may not have lived to make its name durable.
            os.fsync(fd)
            return
        for partition in range(topic.partitions):
            (folder / str(partition)).mkdir(exist_ok=True)
        unnamed = folder / "topic.json.new"
        unnamed.unlink(missing_ok=True)
        unnamed_fd = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            _write_all(unnamed_fd, msgspec.json.encode(topic))
            os.fsync(unnamed_fd)
        finally:
            os.close(unnamed_fd)
        # The partitions' folders are durable BEFORE the file that says that the topic is whole.
        for parent in (folder, folder.parent, folder.parent.parent):
            sync_folder(parent)
        unnamed.rename(folder / "topic.json")
        os.fsync(fd)
    finally:
        os.close(fd)


def topic_partitions(log_dir: Path, name: str) -> int:
    """The number of a topic's partitions.

    Raises:
        SourceError: there is no such topic.
    """
    return read_topic(log_dir, name).partitions


class LogWriter:
    """The one writer of one partition.

    Guarantees: when `append` returns, its records are durable; when it raises, none of them will ever be read.
    Not guaranteed: use from two threads at a time.

    Args:
        log_dir: folder of the log.
        topic: name of a topic that exists.
        partition: from 0.
        segment_bytes: bytes after which a new segment begins.
        epoch: of a writer that a newer one may take over from, who began its epoch BEFORE it opens this; see `BlockLog`. It takes no lock,
            and neither appends to nor cuts a segment of another epoch. None for a writer that keeps others out.
        retention_bytes: bytes above which the oldest segments are deleted, as long as the rest holds that much; never by default.

    Raises:
        SourceError: there is no such topic or partition.
        ConcurrentRunError: another writer is open.
        CorruptLogError: the last segment is damaged before its end.
    """

    def __init__(
        self,
        log_dir: Path,
        topic: str,
        partition: int,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        epoch: int | None = None,
        retention_bytes: int | None = None,
    ) -> None:
        self._folder = topic_folder(log_dir, topic) / str(partition)
        meta = read_topic(log_dir, topic)
        if not 0 <= partition < meta.partitions:
            raise SourceError(no_partition(topic, partition, meta.partitions))
        self._salt = meta.salt
        self._segment_bytes = segment_bytes
        self._retention_bytes = retention_bytes
        self._fd = -1
        self._size = 0
        self._is_exclusive = epoch is None
        self._first_number = (epoch or 0) << _EPOCH_SHIFT
        self._lock_fd = self._lock() if self._is_exclusive else -1
        try:
            self._next_offset = self._recover()
            if not self._is_exclusive:
                self._begin_segment()
        except BaseException:
            self.close()
            raise

    @property
    def next_offset(self) -> int:
        """The offset that the next record gets."""
        return self._next_offset

    def append(self, records: Sequence[LogRecord]) -> int:
        """Append records, each a timestamp (milliseconds), key and value, as one unit; returns the next offset.

        Raises:
            OSError: the volume refused the write or the fsync. None of the records is in the log; the segment
                is given up, and the next append begins a new one.
            ConfigurationError: the records are too many bytes for one append.
        """
        if not records:
            return self._next_offset
        frame = encode_frame(self._next_offset, records, self._salt)
        if self._fd < 0 or self._size + len(frame) > self._segment_bytes:
            self._begin_segment()
        try:
            _write_all(self._fd, frame)
            os.fdatasync(self._fd)
        except (
            BaseException
        ):  # an interrupt too: how much of the frame is there is unknown, so nothing may follow it
            self._give_up_segment()
            raise
        self._size += len(frame)
        self._next_offset += len(records)
        return self._next_offset

    def has_segment_before(self, offset: int) -> bool:
        """Whether a segment lies wholly before an offset."""
        segments = list_segments(self._folder)
        return len(segments) > 1 and segments[1].base <= offset

    def delete_before(self, offset: int) -> None:
        """Delete the segments that lie wholly before an offset; the last one always stays."""
        segments = list_segments(self._folder)
        self._remove([each for each, following in pairwise(segments) if following.base <= offset])

    def close(self) -> None:
        """Let go of the partition; what was appended is durable already."""
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> int:
        """Become the one writer, for as long as the returned file stays open."""
        fd = os.open(self._folder / "writer.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise ConcurrentRunError(
                f"{self._folder} is being written by another process; stop that one first"
            ) from None
        return fd

    def _recover(self) -> int:
        """Open the last segment behind its last valid frame; returns the next offset."""
        segments = list_segments(self._folder)
        if not segments:
            return 0
        last = segments[-1]
        self._fd = os.open(last.path, os.O_RDWR | os.O_APPEND)
        offset, self._size = last.base, 0
        for frame in read_frames(self._fd, last, 0, offset, self._salt):
            offset, self._size = frame.until, frame.end
        if self._is_exclusive:
            self._cut_torn_end(last, offset)
        # What a killed writer left may be in memory only: it is durable BEFORE anything is appended behind it.
        os.fsync(self._fd)
        sync_folder(self._folder)
        return offset

    def _cut_torn_end(self, last: Segment, offset: int) -> None:
        torn_bytes = os.fstat(self._fd).st_size - self._size
        if torn_bytes:
            _log.warning("%s: cut %d bytes of a torn append behind offset %d", last.path, torn_bytes, offset)
            os.ftruncate(self._fd, self._size)

    def _begin_segment(self) -> None:
        """Go on in a new file at the next offset; delete the files that retention no longer asks for."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        segments = list_segments(self._folder)
        own = range(self._first_number, self._first_number + (1 << _EPOCH_SHIFT))
        numbers = (each.number for each in segments if each.base == self._next_offset and each.number in own)
        number = max(numbers, default=self._first_number - 1) + 1
        path = Segment(self._next_offset, number, self._folder).path
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        self._size = 0
        try:
            sync_folder(self._folder)
        except OSError:
            self._give_up_segment()
            raise
        self._retain(segments)

    def _give_up_segment(self) -> None:
        """Leave a file whose last bytes are in doubt: nothing is ever appended to it again."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._size)
        os.close(self._fd)
        self._fd = -1

    def _retain(self, segments: Sequence[Segment]) -> None:
        """Delete the oldest of the full segments while the others hold the bytes to keep."""
        if self._retention_bytes is None:
            return
        sizes = [each.path.stat().st_size for each in segments]
        kept = list(accumulate(reversed(sizes), initial=0))
        """Bytes of the newest segments, by their number."""
        behind = zip(segments, reversed(kept[:-1]), strict=True)
        self._remove([each for each, rest in behind if rest >= self._retention_bytes])

    def _remove(self, segments: Sequence[Segment]) -> None:
        """Remove segments, the oldest first."""
        for each in segments:
            each.path.unlink(missing_ok=True)
            # A power cut may keep any name whose removal is not durable: never one with a gap behind it.
            sync_folder(self._folder)


def _write_all(fd: int, data: bytes) -> None:
    """Write every byte, however many calls that takes."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
