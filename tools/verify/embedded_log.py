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
_MSGPACK_ARRAYS = {0xDC: 2, 0xDD: 4}


class _Frame(NamedTuple):
    base: int
    values: list[bytes | None]


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
        ends = [until for until, _ in _frames_of(path, base, self._salt)]
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
            for until, body in _frames_of(path, base, self._salt):
                if until > start:
                    yield _Frame(at, _unpack(body))
                at = until
                if at == next_base:
                    break
            if next_base is not None and at != next_base:
                raise CannotTellError(
                    f"{path} is damaged behind offset {at}; restore it, the log cannot be read"
                )

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
            base, values = self._frame
            upto = min(until, base + len(values))
            yield from enumerate(values[at - base : upto - base], start=at)
            at = upto


def _frames_of(path: Path, base: int, salt: int) -> Iterator[tuple[int, bytes]]:
    """The offset behind each valid frame of a segment, and the bytes of the frame's values."""
    with path.open("rb") as file:
        while len(head := file.read(_HEADER.size)) == _HEADER.size:
            magic, body_bytes, checksum, offset, records, value_bytes = _HEADER.unpack(head)
            if magic != b"dlF1" or offset != base or body_bytes > 64 * 1024 * 1024:
                return
            body = file.read(body_bytes)
            if xxhash.xxh3_64_intdigest(head[_UNHASHED_BYTES:] + body, salt) != checksum:
                return
            base += records
            yield base, body[:value_bytes]


def _unpack(data: bytes) -> list[bytes | None]:
    """The elements of a msgpack array of bin and nil."""
    kind, at = data[0], 1
    count = kind & 0x0F
    if kind in _MSGPACK_ARRAYS:
        at += _MSGPACK_ARRAYS[kind]
        count = int.from_bytes(data[1:at], "big")
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
