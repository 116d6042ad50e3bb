"""An embedded, durable, partitioned log on disk, with one writer and any number of readers a partition.

It is the topic of the embedded stack and the received-block log of receivers. The bytes, the rule of validity and the recovery
algorithm stand at the top of log_format.py; log_writer.py appends; this module is the front door and the source. What holds:

1. Offsets of a partition are dense: 0, 1, 2, ... in append order, and never change.
2. An append is all or nothing, under kill -9 at any instruction, and durable when it returns.
3. A reader in another process sees whole appends only, and `bounds` counts only what it has made sure is durable.
4. Damage is an error that names file and place; only the torn end that a killed writer leaves is cut, and the writer says so.

Owns: LogSource, LogSlice; hands on create_topic, topic_partitions, LogWriter.
Never: the layout of a file (log_format.py); a background thread; a file held open between two calls.
"""

import bisect
import os
from collections import defaultdict
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from engine.batch import OffsetRange, TopicPartition
from engine.errors import CorruptLogError, OffsetOutOfRangeError, SourceError
from engine.sources.api import ConsumerRecord
from engine.sources.log_format import (
    Frame,
    Segment,
    Topic,
    frame_heads,
    frame_times,
    frame_values,
    list_segments,
    no_partition,
    read_frames,
    read_topic,
    topic_folder,
)
from engine.sources.log_writer import LogWriter, create_topic, topic_partitions

__all__ = ["LogSlice", "LogSource", "LogWriter", "create_topic", "topic_partitions"]

_SLICE_RECORDS = 500
_MARK_BYTES = 256 * 1024
_MARKED_SEGMENTS = 8


class _Part(NamedTuple):
    """The records of a slice that come from one frame."""

    start: int
    """Where they begin in the slice."""
    skipped: int
    """Records of the frame before them."""
    offset: int
    """Offset of the first of them."""
    heads: memoryview


class LogSlice:
    """Consecutive records of a partition, those of whole frames but at the ends of a range."""

    __slots__ = ("_heads", "_partition", "_parts", "_values", "values")

    lost: OffsetRange | None = None
    """Never: a range that the log does not hold is an error."""

    def __init__(self, partition: TopicPartition) -> None:
        self.values: Sequence[bytes | None] = ()
        self._values: list[bytes | None] = []
        self._partition = partition
        self._parts: list[_Part] = []
        self._heads: dict[int, tuple[list[int], list[bytes | None]]] = {}

    def add(self, frame: Frame, begin: int, until: int) -> None:
        """Take over the frame's records with offsets in [begin, until)."""
        skipped = max(begin - frame.base, 0)
        self._parts.append(_Part(len(self.values), skipped, frame.base + skipped, frame.heads))
        values = frame_values(frame)
        if skipped or until < frame.until:
            values = values[skipped : until - frame.base]
        if len(self._parts) == 1:
            self.values = self._values = values
        else:
            self._values += values

    def record(self, index: int) -> ConsumerRecord:
        """The record whose value is values[index], from 0."""
        number = bisect.bisect_right(self._parts, index, key=lambda part: part.start) - 1
        part = self._parts[number]
        timestamps, keys = self._heads.get(number) or self._heads.setdefault(number, frame_heads(part.heads))
        at = index - part.start
        in_frame = part.skipped + at
        topic, partition = self._partition
        return ConsumerRecord(
            topic, partition, part.offset + at, timestamps[in_frame], keys[in_frame], self.values[index]
        )

    def created(self) -> list[int]:
        """When its first and its last record were created, milliseconds since the epoch."""
        first, last = self._parts[0], self._parts[-1]
        end = last.skipped + len(self.values) - 1 - last.start
        if last is first:
            return frame_times(first.heads, (first.skipped, end))
        return [*frame_times(first.heads, (first.skipped,)), *frame_times(last.heads, (end,))]


class _Place(NamedTuple):
    """Where a frame begins."""

    offset: int
    position: int
    """Bytes from the start of the segment."""


class _Places:
    """What one process remembers of where offsets lie, for the segments it read last."""

    def __init__(self) -> None:
        self._known: dict[Segment, list[_Place]] = {}

    def nearest(self, segment: Segment, offset: int) -> _Place:
        """The known place closest before an offset."""
        known = self._known.get(segment, [])
        index = bisect.bisect_right(known, offset, key=lambda place: place.offset)
        return known[index - 1] if index else _Place(segment.base, 0)

    def note(self, segment: Segment, place: _Place) -> None:
        """Remember the last place, and of those before it one each 256 KiB."""
        known = self._known.get(segment, [])
        index = bisect.bisect_left(known, place)
        # A new list each time: who looks something up in another thread sees it in order.
        if index == len(known):
            before = known[-2].position if len(known) > 1 else 0
            kept = known[:-1] if known and place.position - before < _MARK_BYTES else known
            self._known[segment] = [*kept, place]
        elif (
            place != known[index]
            and place.position - (known[index - 1].position if index else 0) >= _MARK_BYTES
        ):
            self._known[segment] = [*known[:index], place, *known[index:]]
        if len(self._known) > _MARKED_SEGMENTS:
            self._known.pop(next(iter(self._known)), None)


class _Tail(NamedTuple):
    """The end of a partition as it was last seen."""

    segment: Segment
    place: _Place


class LogSource:
    """Topics of an embedded log as a source.

    Elements: the records of each partition in offset order, in slices of about 500, or of one append when that is longer.
    Replay: reading a range twice gives the same records.

    Args:
        log_dir: folder of the log.
        topics: names of topics; they may be created later, but before `bounds` is called.

    Example:
        >>> from tempfile import mkdtemp
        >>> log_dir = Path(mkdtemp())
        >>> create_topic(log_dir, "pages", partitions=1)
        >>> with LogWriter(log_dir, "pages", 0) as writer:
        ...     writer.append([(1_000, b"ann", b"/home"), (1_001, b"bob", b"/cart")])
        2
        >>> source = LogSource(log_dir, ["pages"])
        >>> [part.values for part in source.read(OffsetRange("pages", 0, 1, 2))]
        [[b'/cart']]
    """

    def __init__(self, log_dir: Path, topics: Sequence[str]) -> None:
        self._log_dir = Path(log_dir)
        self._topics = tuple(topics)
        self.close()

    def __reduce__(self) -> tuple[type[Self], tuple[Path, tuple[str, ...]]]:
        return type(self), (self._log_dir, self._topics)

    def bounds(self) -> Mapping[TopicPartition, tuple[int, int]]:
        """The (first, end) offsets of every partition; end is exclusive and durable. Looks only at what was appended since.

        Raises:
            SourceError: a topic does not exist, or was deleted and made again.
            CorruptLogError: a partition is damaged before its end.
        """
        found = {}
        for topic in self._topics:
            meta = self._topic(topic)
            for number in range(meta.partitions):
                partition = TopicPartition(topic, number)
                segments = list_segments(self._folder(partition))
                end = self._end(partition, segments[-1], meta.salt) if segments else 0
                found[partition] = (segments[0].base if segments else 0, end)
        return found

    def topic_ids(self, topics: Collection[str]) -> Mapping[str, str]:
        """By topic its salt, which is drawn when it is made."""
        return {topic: str(self._topic(topic).salt) for topic in topics}

    def retention_ms(self, topic: str) -> None:
        """None: the log drops by size, and never by default."""

    def read(self, offsets: OffsetRange) -> Iterator[LogSlice]:
        """The records of [fromOffset, untilOffset) in slices, in order.

        Raises:
            OffsetOutOfRangeError: retention has deleted fromOffset, or the log ends before untilOffset.
            CorruptLogError: a frame of the range is damaged.
        """
        partition, until = offsets.topicPartition(), offsets.untilOffset
        piece = LogSlice(partition)
        for frame in self._frames(partition, offsets.fromOffset, until):
            piece.add(frame, offsets.fromOffset, until)
            if len(piece.values) >= _SLICE_RECORDS:
                yield piece
                piece = LogSlice(partition)
        if piece.values:
            yield piece

    def commit(self, ranges: Sequence[OffsetRange]) -> None:
        """Nothing: no tool asks the log how far its readers are."""

    def close(self) -> None:
        """Forget what was remembered; no file is held open between two calls."""
        self._salts: dict[str, int] = {}
        self._folders: dict[TopicPartition, Path] = {}
        self._tails: dict[TopicPartition, _Tail] = {}
        self._places: dict[TopicPartition, _Places] = defaultdict(_Places)

    def _folder(self, partition: TopicPartition) -> Path:
        folder = self._folders.get(partition)
        if folder is None:
            folder = self._folders[partition] = topic_folder(self._log_dir, partition.topic) / str(
                partition.partition
            )
        return folder

    def _topic(self, topic: str) -> Topic:
        """What topic.json says; the topic must be the one that was seen first."""
        meta = read_topic(self._log_dir, topic)
        if self._salts.setdefault(topic, meta.salt) != meta.salt:
            raise SourceError(
                f"topic {topic!r} in {self._log_dir} was deleted and made again while it was being read; "
                "stop the application and start it on a new checkpoint folder"
            )
        return meta

    def _end(self, partition: TopicPartition, last: Segment, salt: int) -> int:
        """The end offset of a partition, durable."""
        tail = self._tails.get(partition)
        place = seen = tail.place if tail and tail.segment == last else _Place(last.base, 0)
        if last.path.stat().st_size == seen.position:
            return seen.offset
        fd = os.open(last.path, os.O_RDONLY)
        try:
            for frame in read_frames(fd, last, seen.position, seen.offset, salt):
                place = _Place(frame.until, frame.end)
            if place != seen:
                # A batch may only be planned on what a power cut cannot take back: durable BEFORE it is reported.
                os.fdatasync(fd)
        finally:
            os.close(fd)
        self._tails[partition] = _Tail(last, place)
        return place.offset

    def _frames(self, partition: TopicPartition, begin: int, until: int) -> Iterator[Frame]:
        """The frames that hold the offsets [begin, until)."""
        meta = self._topic(partition.topic)
        if not 0 <= partition.partition < meta.partitions:
            raise SourceError(no_partition(partition.topic, partition.partition, meta.partitions))
        segments = list_segments(self._folder(partition))
        first = segments[0].base if segments else 0
        if begin < first:
            raise _out_of_range(
                partition, begin, f"begins at {first}: retention has deleted the records before"
            )
        index = max(bisect.bisect_right(segments, begin, key=lambda segment: segment.base) - 1, 0)
        reached = begin
        for segment, following in zip(segments[index:], [*segments[index + 1 :], None], strict=False):
            if reached >= until:
                return
            if following and following.base == segment.base:
                continue  # it was given up, or is of a writer that was taken over from
            end = min(until, following.base) if following else until
            reached = yield from self._segment_frames(partition, segment, reached, end, meta.salt)
            if reached < end and following:
                raise CorruptLogError(
                    f"{segment.path} ends at offset {reached}, and the next segment begins at {following.base}; "
                    "restore the file from a copy, or delete the topic's folder and write the topic again"
                )
        if reached < until:
            raise _out_of_range(
                partition, until, f"ends at {reached}: it is not the log that this batch was planned on"
            )

    def _segment_frames(
        self, partition: TopicPartition, segment: Segment, begin: int, end: int, salt: int
    ) -> Generator[Frame, None, int]:
        """The frames of one segment that hold the offsets [begin, end); returns the offset after the last one."""
        places = self._places[partition]
        place = noted = places.nearest(segment, begin)
        try:
            fd = os.open(segment.path, os.O_RDONLY)
        except FileNotFoundError:
            raise _out_of_range(
                partition, begin, f"no longer has {segment.path.name}: retention has deleted it"
            ) from None
        try:
            for frame in read_frames(fd, segment, place.position, place.offset, salt):
                place = _Place(frame.until, frame.end)
                if frame.until > begin:
                    yield frame
                if place.position - noted.position >= _MARK_BYTES:
                    places.note(segment, noted := place)
                if frame.until >= end:
                    break
        finally:
            os.close(fd)
            places.note(segment, place)
        return max(place.offset, begin)


def _out_of_range(partition: TopicPartition, offset: int, fact: str) -> OffsetOutOfRangeError:
    """The error of an offset that a partition does not have."""
    return OffsetOutOfRangeError(
        f"offset {offset} of {partition.topic}[{partition.partition}] cannot be read, the log {fact}; "
        "restore the log, or start the application on a new checkpoint folder"
    )
