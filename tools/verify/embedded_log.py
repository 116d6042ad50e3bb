"""Reads the embedded log with nothing of the engine's reader; the format is told in engine/sources/log_format.py.

Owns: EmbeddedLog.
Never: a write, a lock.
"""

import json
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import xxhash

from tools.verify.ledger import Partition, Range, Stored
from tools.verify.verdict import CannotTellError

_HEADER = struct.Struct("<4sIQQII")
_UNHASHED_BYTES = 16
_MSGPACK_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_MSGPACK_NUMBERS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_MSGPACK_ARRAYS = {0xDC: 2, 0xDD: 4}


class _Frame(NamedTuple):
    base: int
    values: list[bytes | None]
    heads: bytes
    """Timestamps and keys, packed."""


class EmbeddedLog:
    """The log in one folder; read front to back, any number of ranges."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._readers: dict[Partition, _PartitionReader] = {}

    def bounds(self, topics: Collection[str]) -> dict[Partition, tuple[int, int]]:
        """First offset and end of every partition.

        Raises:
            CannotTellError: a topic is not there.
        """
        found = {}
        for topic in topics:
            path = self._folder / topic / "topic.json"
            try:
                meta = json.loads(path.read_bytes())
            except (OSError, ValueError) as error:
                raise CannotTellError(f"{path} cannot be read ({error}); is DATA_DIR the stack's?") from error
            if meta["format"] != 1:
                raise CannotTellError(
                    f"{path} has format {meta['format']}; this verify reads 1, use the newer one"
                )
            for partition in range(meta["partitions"]):
                reader = _PartitionReader(path.parent / str(partition), meta["salt"])
                self._readers[topic, partition] = reader
                found[topic, partition] = reader.bounds()
        return found

    def read(self, item: Range) -> Iterator[Stored]:
        """The records of a range within the bounds, AFTER bounds() was asked for its topic."""
        return self._readers[item.topic, item.partition].read(item.start, item.until)

    def keys(self, where: Partition, offsets: Collection[int]) -> dict[int, bytes | None]:
        """The keys of the records at these offsets, those that are there, AFTER bounds() was asked for the topic."""
        reader = self._readers.get(where)
        return reader.keys(offsets) if reader and offsets else {}

    def close(self) -> None:
        """Nothing is held open."""


class _PartitionReader:
    def __init__(self, folder: Path, salt: int) -> None:
        self._folder = folder
        self._salt = salt
        self._frames: Iterator[_Frame] = iter(())
        self._frame: _Frame | None = None

    def _segments(self) -> list[tuple[int, int, Path]]:
        paths = list(self._folder.glob("*.log")) if self._folder.is_dir() else []
        return sorted((int(path.name.split(".")[0]), int(path.name.split(".")[1]), path) for path in paths)

    def bounds(self) -> tuple[int, int]:
        segments = self._segments()
        if not segments:
            return 0, 0
        base, _, path = segments[-1]
        ends = [until for until, _, _ in _frames_of(path, base, self._salt)]
        return segments[0][0], max(ends, default=base)

    def _walk(self, start: int) -> Iterator[_Frame]:
        """The frames from the one that holds an offset."""
        segments = self._segments()
        next_bases = [*(base for base, _, _ in segments[1:]), None]
        for (base, _, path), next_base in zip(segments, next_bases, strict=True):
            at = base
            if at == next_base:
                continue  # given up for the one with the larger number
            if next_base is not None and next_base <= start:
                continue
            for until, body, heads in _frames_of(path, base, self._salt):
                if until > start:
                    yield _Frame(at, _unpack(body), heads)
                at = until
                if at == next_base:
                    break
            if next_base is not None and at != next_base:
                raise CannotTellError(
                    f"{path} is damaged behind offset {at}; restore it, the log cannot be read"
                )

    def keys(self, offsets: Collection[int]) -> dict[int, bytes | None]:
        found: dict[int, bytes | None] = {}
        for frame in self._walk(min(offsets)):
            end = frame.base + len(frame.values)
            if meant := [offset for offset in offsets if frame.base <= offset < end]:
                keys = _unpack(frame.heads, _after_numbers(frame.heads, 1))
                found |= {offset: keys[offset - frame.base] for offset in meant}
            if max(offsets) < end:
                break
        return found

    def read(self, start: int, until: int) -> Iterator[Stored]:
        if self._frame is None or self._frame.base > start:
            self._frames = self._walk(start)
            self._frame = next(self._frames, None)
        at = start
        while at < until:
            while self._frame is not None and self._frame.base + len(self._frame.values) <= at:
                self._frame = next(self._frames, None)
            if self._frame is None:
                raise CannotTellError(
                    f"{self._folder} is damaged behind offset {at}; restore it, the log cannot be read"
                )
            base, values, _ = self._frame
            upto = min(until, base + len(values))
            yield from enumerate(values[at - base : upto - base], start=at)
            at = upto


def _frames_of(path: Path, base: int, salt: int) -> Iterator[tuple[int, bytes, bytes]]:
    """The offset behind each valid frame of a segment, the bytes of the frame's values, and those of its timestamps and keys."""
    with path.open("rb") as file:
        while len(head := file.read(_HEADER.size)) == _HEADER.size:
            magic, body_bytes, checksum, offset, records, value_bytes = _HEADER.unpack(head)
            if magic != b"dlF1" or offset != base or body_bytes > 64 * 1024 * 1024:
                return
            body = file.read(body_bytes)
            if xxhash.xxh3_64_intdigest(head[_UNHASHED_BYTES:] + body, salt) != checksum:
                return
            base += records
            yield base, body[:value_bytes], body[value_bytes:]


def _array(data: bytes, at: int) -> tuple[int, int]:
    """How many elements the msgpack array has that begins there, and where its first one begins."""
    kind, begin = data[at], at + 1
    if kind not in _MSGPACK_ARRAYS:
        return kind & 0x0F, begin
    at = begin + _MSGPACK_ARRAYS[kind]
    return int.from_bytes(data[begin:at], "big"), at


def _after_numbers(data: bytes, at: int) -> int:
    """Where the msgpack array of integers ends that begins there."""
    count, at = _array(data, at)
    for _ in range(count):
        at += 1 + _MSGPACK_NUMBERS.get(data[at], 0)
    return at


def _unpack(data: bytes, at: int = 0) -> list[bytes | None]:
    """The elements of the msgpack array of bin and nil that begins there."""
    count, at = _array(data, at)
    values: list[bytes | None] = []
    for _ in range(count):
        kind, at = data[at], at + 1
        if kind == 0xC0:
            values.append(None)
            continue
        body = at + _MSGPACK_LENGTHS[kind]
        at = body + int.from_bytes(data[at:body], "big")
        values.append(data[body:at])
    return values
