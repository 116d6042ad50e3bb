"""The received-block log: what a source that cannot replay has taken is durable here BEFORE a batch is made of it.

    <checkpoint>/<app>/blocks/<stream>/...     one topic of one partition a stream, in the format of log_format.py

A block is one append. The begin record of a batch names a range of offsets, so a batch that runs again reads the same records, and
what was durable and in no batch when the process died is in the first batch of the next start. Segments go when no batch that a
window may look back to needs them. An application without a checkpoint folder has the same log in a temporary folder.

Owns: Blocks, BlockLog, LoggedInputDStream, ReadBlocks.
Never: what a record means; the source that wrote it knows.
"""

import re
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from engine.batch import Batch, OffsetRange, Time, TopicPartition
from engine.checkpoint.files import checksum, writing
from engine.clock import Clock
from engine.dstream.nodes import InputDStream
from engine.errors import CheckpointError
from engine.failpoints import fail_point
from engine.rdd.api import RDD
from engine.sources.elements import decode_element
from engine.sources.log import LogSource, LogWriter, create_topic

SEGMENT_BYTES = 16 << 20
SPLIT_RECORDS = 2_000
"""A range is cut into RDD partitions of at least so many records, and into at most as many as there are shards."""
_SAFE = re.compile(r"[A-Za-z0-9._-]{1,100}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def topic_of(stream: str) -> str:
    """The name of a stream's folder, which no other stream's name gives.

    Example:
        >>> topic_of("clicks"), topic_of("job.socket#1")
        ('clicks', 'job.socket_1-aa33d4cabe2faa29')
    """
    if _SAFE.fullmatch(stream):
        return stream
    return f"{_UNSAFE.sub('_', stream)[:80]}-{checksum(stream.encode()):016x}"


class Fence(Protocol):
    """What tells a process that another one has taken over from it."""

    @property
    def epoch(self) -> int:
        """Of this process."""

    def refuse_if_fenced(self) -> None:
        """Look for a newer epoch.

        Raises:
            ConcurrentRunError: there is one; this process must not go on.
        """


class BlockLog:
    """The block log of one stream; its methods may be called from any thread.

    A process that takes over begins its epoch, THEN reads the log to its end, and goes on in a segment of its own. The one that it
    took over from looks for a newer epoch AFTER each append and BEFORE it says that the block is durable. So a block that was called
    durable was there when the log was read; one that came later is behind the new segment's base, which no reader sees.

    Args:
        folder: of the logs of all streams.
        stream: name of the stream.
        clock: what time a block is stamped with.
        fence: of the folder; None has the log locked instead.

    Raises:
        ConcurrentRunError: without a fence, another process still writes it.
    """

    def __init__(self, folder: Path, stream: str, clock: Clock, fence: Fence | None = None) -> None:
        self._fence = fence
        self._is_fenced = False
        self.topic = topic_of(stream)
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._stored: deque[tuple[int, int]] = deque()
        """Of the blocks that this process appended and no batch was committed with: end and time, milliseconds since the epoch."""
        with writing(folder):
            create_topic(folder, self.topic, 1)
            epoch = None if fence is None else fence.epoch
            self._writer = LogWriter(folder, self.topic, 0, segment_bytes=SEGMENT_BYTES, epoch=epoch)
        self._first = self._writer.next_offset
        """What lies before it was appended by an earlier process."""
        self.source = LogSource(folder, [self.topic])
        """Reads it, in the driver and in tasks."""

    @property
    def place(self) -> TopicPartition:
        """Its one partition."""
        return TopicPartition(self.topic, 0)

    @property
    def begin(self) -> int:
        """The first offset that is still there."""
        return self.source.bounds()[self.place][0]

    @property
    def end(self) -> int:
        """The offset that the next record gets."""
        return self._writer.next_offset

    def append(self, values: Sequence[bytes | None], key: bytes | None = None) -> int:
        """Append a block, with the key on its last record; durable when this returns, with the end of the log.

        Raises:
            CheckpointWriteError: the volume is full, or fails; no record of the block is in the log.
            ConfigurationError: the block is larger than 64 MiB.
            ConcurrentRunError: another process has taken over; it decides whether the block counts.
        """
        now = self._clock.wall_ms()
        records = [(now, None, value) for value in values]
        if key is not None:
            records[-1] = (now, key, values[-1])  # type: ignore[assignment]  # a key is None or bytes
        fail_point("before_block")
        with self._lock, writing(self._folder / self.topic):
            if self._is_fenced:
                self._refuse_if_fenced()
            end = self._writer.append(records)
            self._refuse_if_fenced()
            self._stored.append((end, now))
        fail_point("after_block")
        return end

    def _refuse_if_fenced(self) -> None:
        if self._fence is not None:
            self._is_fenced = True
            self._fence.refuse_if_fenced()
            self._is_fenced = False

    def stored(self, begin: int, until: int) -> list[int]:
        """When the first and the last record of [begin, until) were stored, milliseconds since the epoch; none of an empty range.

        Blocks of an earlier process are looked up in the log.
        """
        if begin >= until:
            return []
        with self._lock:
            times = [time for end, time in self._stored if begin < end <= until]
            known = bool(times) and self._first <= begin
        if known:
            return [times[0], times[-1]]
        return [self._time_of(begin), self._time_of(until - 1)]

    def _time_of(self, offset: int) -> int:
        (piece,) = self.source.read(OffsetRange(self.topic, 0, offset, offset + 1))
        return piece.created()[0]

    def forget_stored(self, offset: int) -> None:
        """Forget when the blocks before an offset were stored: their batch is committed."""
        with self._lock:
            while self._stored and self._stored[0][0] <= offset:
                self._stored.popleft()

    def read(self, begin: int, until: int) -> Iterator[bytes | None]:
        """The values of [begin, until).

        Raises:
            OffsetOutOfRangeError: they are not there any more.
        """
        pieces = self.source.read(OffsetRange(self.topic, 0, begin, until))
        return chain.from_iterable(piece.values for piece in pieces)

    def keys(self) -> list[bytes]:
        """The keys of all blocks that are still there, oldest first."""
        pieces = self.source.read(OffsetRange(self.topic, 0, self.begin, self.end))
        keys = (piece.record(index).key for piece in pieces for index in range(len(piece.values)))
        return [key for key in keys if key is not None]

    def last_key(self) -> bytes | None:
        """The key of the last record; None without one."""
        if self.begin >= self.end:
            return None
        (piece,) = self.source.read(OffsetRange(self.topic, 0, self.end - 1, self.end))
        return piece.record(0).key

    def release(self, offset: int) -> None:
        """Delete the segments that lie wholly before an offset; never the last record, whose key a later start asks for."""
        self.forget_stored(offset)
        with self._lock:
            self._writer.delete_before(min(offset, self.end - 1))

    def would_release(self, offset: int) -> bool:
        """Whether a segment lies wholly before an offset."""
        return self._writer.has_segment_before(min(offset, self.end - 1))

    def close(self) -> None:
        """Let go of the log; what was appended is durable already."""
        with self._lock:
            self._writer.close()
        self.source.close()


class Blocks:
    """Where the block logs of one application are.

    Args:
        folder: of the application's checkpoint; None makes a temporary folder, which goes with `close`.
        clock: what time it is.
        fence: of the folder, which one process may take over from another; None has each log locked.
    """

    def __init__(self, folder: Path | None, clock: Clock, fence: Fence | None = None) -> None:
        self.is_durable = folder is not None
        """Whether a later start finds the logs."""
        self.clock = clock
        self._fence = fence
        self._folder = folder / "blocks" if folder is not None else None
        self._temporary: Path | None = None

    def log(self, stream: str) -> BlockLog:
        """The log of a stream.

        Raises:
            ConcurrentRunError: without a fence, another process still writes it.
        """
        if self._folder is None:
            self._temporary = self._folder = Path(tempfile.mkdtemp(prefix="blocks-"))
        return BlockLog(self._folder, stream, self.clock, self._fence)

    def close(self) -> None:
        """Remove what was temporary."""
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = self._folder = None


class ReadBlocks:
    """The function of a partition that reads ranges of a log; shipped once."""

    def __init__(self, source: LogSource, decode: Callable[[bytes], Any]) -> None:
        self._source = source
        self._decode = decode

    def __call__(self, ranges: Iterator[OffsetRange]) -> Iterator[Any]:
        """The decoded records."""
        pieces = chain.from_iterable(self._source.read(part) for part in ranges)
        return chain.from_iterable(map(self._decode, piece.values) for piece in pieces)  # type: ignore[arg-type]  # no null is stored


class LoggedInputDStream(InputDStream):
    """An input that writes down what it takes; its batches are ranges of its log.

    Replay: a batch that runs again reads the range that its begin record has.
    """

    decode: Callable[[bytes], Any] = staticmethod(decode_element)
    """What tasks make of a record."""
    tasks_read_folder = True
    _log: BlockLog | None = None
    _read: ReadBlocks | None = None
    _position = 0
    """The next offset that is in no batch."""

    @property
    def log(self) -> BlockLog:
        """Its log; there from the start of the context to its stop."""
        if self._log is None:
            raise CheckpointError(f"the block log of {self.name!r} is open only while the context runs")
        return self._log

    def open(self, blocks: Blocks) -> None:
        """Open the log, and take over what an earlier process left in it; called before the first batch is planned."""
        self._log = blocks.log(self.name)
        self._position = self._log.begin
        self._read = ReadBlocks(self._log.source, self.decode)

    def resume(self, ranges: Sequence[OffsetRange]) -> None:
        """Go on after these ranges.

        Raises:
            CheckpointError: the log does not reach that far.
        """
        self._position = max((part.untilOffset for part in ranges), default=self._position)
        if self._position > self.log.end:
            raise CheckpointError(
                f"the block log of {self.name!r} ends at {self.log.end}, and batches up to {self._position} were committed; "
                "restore the folder blocks, or start with an empty checkpoint folder"
            )

    def plan(self, time: Time) -> tuple[OffsetRange, ...]:  # noqa: ARG002  the end of the log is now, whatever the time
        """From where the last batch ended to the end of the log."""
        return (OffsetRange(self.log.topic, 0, self._position, self.log.end),)

    def range_rdd(self, batch: Batch, ranges: Sequence[OffsetRange]) -> RDD[Any]:  # noqa: ARG002  a range says all
        """The records of the ranges."""
        parts = [part for whole in ranges for part in _cut(whole, self.scope.shards)]
        if not parts or self._read is None:
            return self.scope.context.emptyRDD()
        return self.scope.context.parallelize(parts, len(parts)).mapPartitions(self._read)

    @property
    def has_backlog(self) -> bool:
        """Whether the log holds what is in no batch."""
        return self._log is not None and self._log.end > self._position

    def committed(self, batch: Batch) -> None:
        """Go on after the batch, and let go of what no window needs any more."""
        ranges = batch.ranges.get(self.name, ())
        self._position = max((part.untilOffset for part in ranges), default=self._position)
        self.let_go(batch.time)

    def let_go(self, time: Time) -> None:
        """Delete what only batches need that no window looks back to."""
        self.log.release(self.oldest_needed(time))

    def oldest_needed(self, time: Time) -> int:
        """The first offset that a remembered batch has."""
        # Ranges only grow, so the oldest batch has the first one; a stream that it does not know yet began after it.
        first = self.scope.first_remembered()
        ranges = () if first is None or first.time > time else first.ranges.get(self.name, ())
        return min((part.fromOffset for part in ranges), default=0)

    def close(self) -> None:
        """Let go of the log."""
        self.end_receiving()
        if self._log is not None:
            self._log.close()
            self._log = None


def _cut(whole: OffsetRange, most: int) -> list[OffsetRange]:
    """A range in at most so many parts of about equal size; the same at every replay."""
    count = min(most, -(-whole.count() // SPLIT_RECORDS))
    edges = [whole.fromOffset + whole.count() * index // count for index in range(count)] if count else []
    return [
        OffsetRange(whole.topic, whole.partition, begin, until)
        for begin, until in zip(edges, [*edges[1:], whole.untilOffset], strict=False)
    ]
