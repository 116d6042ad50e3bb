"""The bytes of the embedded log: what lies in its folders, and how a reader tells a valid frame from a damaged one.

Format 1. One folder a topic, one folder a partition, numbers little endian:

    <topic>/topic.json                     {"format":1,"partitions":4,"salt":1234}, written last: it says that the topic is whole
    <topic>/<partition>/writer.lock        held by flock by the one writer
    <topic>/<partition>/<base>.<n>.log     a segment: frames without a gap; base = first offset (20 digits), n = 0 at first

    frame   bytes   field
    0       4       magic b"dlF1"
    4       4       length of the body in bytes, at most 64 MiB
    8       8       xxh3-64 of bytes 16 to the end of the frame, seeded with the topic's salt
    16      8       offset of the first record
    24      4       number of records, at least 1
    28      4       length of the values in bytes, the first part of the body
    32      ...     values: msgpack array of bin or nil, one a record
    ...     ...     heads: msgpack array of two arrays, timestamps (int, ms) and keys (bin or nil), one a record

Validity. A frame is valid when its magic, lengths and checksum hold and its first offset is the one that must come next
(the segment's base, then the end of the frame before). The salt is random for each topic, so nothing inside a record can pass for
a frame. A segment counts up to the base of the next one, ordered by (base, n): what lies behind that is void. It is what a
writer left whose fdatasync failed; it began the next segment at the same offset and, where the base is the same too, with n + 1.

Reader's steps: list the segments; take the last whose base is not after the wanted offset; go from frame to frame; at the base of
the next segment go on there. Bytes that are no valid frame are the end of the log when they lie at the end of the last
segment (a torn append, or one that is under way), and damage when a valid frame follows or the segment is not the last.

Recovery (a writer, on open): walk the last segment; cut it behind its last valid frame; fsync file and folder; append there. Damage is
an error and nothing is cut. One append is one frame, durable by fdatasync BEFORE the next begins, so at most one can be torn.

Example, two appends of two records and one:
    ad-events/topic.json                       {"format":1,"partitions":1,"salt":77}
    ad-events/0/00000000000000000000.0.log     dlF1 | 30 | checksum | 0 | 2 | 15 | ["/home", "/cart"] | [[1000, 1001], ["ann", nil]]
                                               dlF1 | 19 | checksum | 2 | 1 |  8 | ["/home"]          | [[1002], ["bob"]]

Owns: Topic, Segment, Frame, encode_frame, read_frames, the folder's names.
Never: a decision to cut, roll or delete; those are the writer's.
"""

import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import xxhash

from engine.errors import ConfigurationError, CorruptLogError, SourceError

FORMAT = 1
MAX_BODY_BYTES = 64 * 1024 * 1024
_MAGIC = b"dlF1"
_HEADER = struct.Struct("<4sIQQII")
_HASHED_FROM = 16
_FIRST_CHUNK_BYTES = 256 * 1024
_CHUNK_BYTES = 1024 * 1024
_SEGMENT_NAME = re.compile(r"(\d{20})\.(\d+)\.log")
_TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")

LogRecord = tuple[int, bytes | None, bytes | None]
"""Timestamp (milliseconds since the epoch), key, value."""

_ARRAY_HEADER_BYTES = {0xDC: 3, 0xDD: 5}
"""By first byte of a msgpack array; one of at most 15 elements has 1."""
_WIDE = b"\xcf"
"""First byte of a number that msgpack writes as 8 bytes more."""
_TIME = struct.Struct(">xQ")
_TIME_BYTES = _TIME.size

_decode_values = msgspec.msgpack.Decoder(list[bytes | None]).decode
_decode_heads = msgspec.msgpack.Decoder(tuple[list[int], list[bytes | None]]).decode
_decode_times = msgspec.msgpack.Decoder(tuple[list[int], msgspec.Raw]).decode


class Topic(msgspec.Struct, frozen=True):
    """What topic.json says."""

    format: int
    partitions: int
    salt: int
    """Seed of every checksum of the topic; it also tells a topic from another one of the same name."""


class Segment(NamedTuple):
    """One file of a partition; segments sort in reading order."""

    base: int
    """Offset of its first record."""
    number: int
    """0, or one more than the given up segment of the same base; larger for a writer of a newer epoch. The last one counts."""
    folder: Path

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / f"{self.base:020d}.{self.number}.log"


class Frame(NamedTuple):
    """One valid frame; the views keep the bytes that were read alive."""

    base: int
    """Offset of the first record."""
    until: int
    """Offset after the last record."""
    values: memoryview
    heads: memoryview
    end: int
    """Position after the frame, in bytes from the start of the segment."""


def topic_folder(log_dir: Path, name: str) -> Path:
    """The folder of a topic.

    Raises:
        ConfigurationError: the name could not be a folder's name.
    """
    if not _TOPIC_NAME.fullmatch(name) or name in {".", ".."}:
        raise ConfigurationError(
            f"topic name {name!r} is not valid; use letters, digits, dots, dashes and underscores"
        )
    return Path(log_dir) / name


def read_topic(log_dir: Path, name: str) -> Topic:
    """What topic.json says.

    Raises:
        SourceError: there is no such topic.
        CorruptLogError: the file cannot be read.
        ConfigurationError: it was written by a newer version of this log.
    """
    path = topic_folder(log_dir, name) / "topic.json"
    try:
        topic = msgspec.json.decode(path.read_bytes(), type=Topic)
    except FileNotFoundError:
        raise SourceError(
            f"topic {name!r} does not exist in {log_dir}; create it with create_topic"
        ) from None
    except msgspec.DecodeError as error:
        raise CorruptLogError(f"{path} is damaged ({error}); restore it from a copy of the log") from error
    if topic.format != FORMAT:
        raise ConfigurationError(
            f"{path} has format {topic.format}, this version reads {FORMAT}; use the newer version"
        )
    return topic


def list_segments(folder: Path) -> list[Segment]:
    """The segments of a partition in reading order; the last of those with an equal base is the one that counts."""
    names = os.listdir(folder)  # noqa: PTH208  a Path an entry costs more than the listing, which is done for each batch
    matches = (_SEGMENT_NAME.fullmatch(name) for name in names)
    return sorted(Segment(int(match[1]), int(match[2]), folder) for match in matches if match)


def no_partition(topic: str, partition: int, partitions: int) -> str:
    """The message for a partition that a topic does not have."""
    return f"topic {topic!r} has no partition {partition}; its partitions are 0 to {partitions - 1}"


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def encode_frame(base: int, records: Sequence[LogRecord], salt: int) -> bytes:
    """The records as one frame; there must be at least one.

    Raises:
        ConfigurationError: they do not fit in one frame.
    """
    timestamps, keys, values = zip(*records, strict=True)
    body = msgspec.msgpack.encode(values)
    value_bytes = len(body)
    body += msgspec.msgpack.encode((timestamps, keys))
    if len(body) > MAX_BODY_BYTES:
        raise ConfigurationError(
            f"{len(records)} records of {len(body)} bytes are too much for one append of at most {MAX_BODY_BYTES} bytes; "
            "append them in smaller portions"
        )
    frame = _HEADER.pack(_MAGIC, len(body), 0, base, len(records), value_bytes) + body
    checksum = xxhash.xxh3_64_intdigest(memoryview(frame)[_HASHED_FROM:], salt)
    return frame[:8] + checksum.to_bytes(8, "little") + frame[_HASHED_FROM:]


def frame_values(frame: Frame) -> list[bytes | None]:
    """The values of a frame's records."""
    return _decode_values(frame.values)


def frame_heads(heads: memoryview) -> tuple[list[int], list[bytes | None]]:
    """The timestamps (milliseconds) and keys of a frame's records."""
    return _decode_heads(heads)


def frame_times(heads: memoryview, numbers: Sequence[int]) -> list[int]:
    """The timestamps (milliseconds) of a frame's records of these ascending numbers, from 0; looks at no key.

    Timestamps of our century take 9 bytes each. Where all do, up to the last one asked for, each is read at its place.
    """
    start = 1 + _ARRAY_HEADER_BYTES.get(heads[1], 1)
    before = heads[start : start + numbers[-1] * _TIME_BYTES + 1]
    if bytes(before)[::_TIME_BYTES] == _WIDE * (numbers[-1] + 1):
        return [_TIME.unpack_from(heads, start + number * _TIME_BYTES)[0] for number in numbers]
    times = _decode_times(heads)[0]
    return [times[number] for number in numbers]


def read_frames(fd: int, segment: Segment, position: int, offset: int, salt: int) -> Iterator[Frame]:
    """The valid frames of a segment from a position on, where the frame that begins with the offset must lie.

    Ends at the end of the file, or at bytes that are no valid frame and have none after them.

    Raises:
        CorruptLogError: a valid frame lies behind bytes that are none.
    """
    wanted = _FIRST_CHUNK_BYTES
    while data := os.pread(fd, wanted, position):
        chunk, at = memoryview(data), 0
        while (frame := _parse(chunk, at, position, salt)) and frame.base == offset:
            at, offset = frame.end - position, frame.until
            yield frame
        if at:
            position, wanted = position + at, max(wanted, _CHUNK_BYTES)
        elif len(data) == wanted:
            wanted *= 2
        else:
            # The chunk reaches to the end of the file and was read at one go. Bytes appear in the order in which they are
            # appended, so an append that is under way ends the chunk, and nothing valid can be seen behind it.
            _refuse_damage(data, segment, position, offset, salt)
            return


def _parse(chunk: memoryview, at: int, position: int, salt: int) -> Frame | None:
    """The frame at a place of a chunk that was read from a position, if its bytes are all there and hold."""
    if len(chunk) - at < _HEADER.size:
        return None
    magic, body_bytes, checksum, base, records, value_bytes = _HEADER.unpack_from(chunk, at)
    body, end = at + _HEADER.size, at + _HEADER.size + body_bytes
    if magic != _MAGIC or end > len(chunk) or value_bytes > body_bytes:
        return None
    if xxhash.xxh3_64_intdigest(chunk[at + _HASHED_FROM : end], salt) != checksum:
        return None
    values_end = body + value_bytes
    return Frame(base, base + records, chunk[body:values_end], chunk[values_end:end], position + end)


def _refuse_damage(data: bytes, segment: Segment, position: int, offset: int, salt: int) -> None:
    """Raise if a valid frame lies in the rest of a segment that should begin with the frame of the offset."""
    chunk, at = memoryview(data), data.find(_MAGIC)
    while at >= 0 and not _parse(chunk, at, position, salt):
        at = data.find(_MAGIC, at + 1)
    if at >= 0:
        raise CorruptLogError(
            f"{segment.path} is damaged at byte {position}, where offset {offset} should be, and goes on at byte {position + at}; "
            "restore the file from a copy, or delete the topic's folder and write the topic again"
        )
