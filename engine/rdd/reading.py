"""How tasks read files: byte ranges of text by the lines that begin in them, whole files, records of one length.

The first range of a text has the lines that begin in [0, end], another one those that begin in (begin, end]: so every
line belongs to one range, and to the one that Hadoop gives it to. A line ends at LF, CR or CR LF; ranges are cut at LF only.

Owns: FileRange, ranges_of, lines_of, numbered_lines_of, whole_text, whole_bytes, records_of.
Never: a decision which files; the context lists them.
"""

import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from engine.errors import ConfigurationError, SourceError
from engine.rdd.paths import PLAIN, codec_of_file, file_uri

_BLOCK_BYTES: Final = 32 * 1024 * 1024
"""Hadoop's block of a local file: no range is larger."""
_SLOP: Final = 1.1
"""A rest of at most this many ranges is one range."""
_CHUNK_BYTES: Final = 1 << 20


class FileRange(NamedTuple):
    """Bytes [begin, end) of a file; a compressed file is one range."""

    path: str
    begin: int
    end: int


def ranges_of(files: Sequence[Path], parts: int, record_bytes: int = 1) -> list[FileRange]:
    """The ranges of the files: about `parts` of equal size, at least one a file.

    Source: org.apache.hadoop.mapred.FileInputFormat.getSplits.

    Args:
        files: the files, in the order of their ranges.
        parts: how many ranges there are to be.
        record_bytes: what the length of a range is a multiple of.
    """
    sizes = [path.stat().st_size for path in files]
    goal = sum(sizes) // max(parts, 1)
    length = max(1, min(goal, _BLOCK_BYTES)) // record_bytes * record_bytes or record_bytes
    found = []
    for path, size in zip(files, sizes, strict=True):
        begin = 0
        while codec_of_file(path) is PLAIN and (size - begin) / length > _SLOP:
            found.append(FileRange(str(path), begin, begin + length))
            begin += length
        if begin < size or size == 0:
            found.append(FileRange(str(path), begin, size))
    return found


def _numbered(part: FileRange) -> Iterator[tuple[int, bytes]]:
    path = Path(part.path)
    codec = codec_of_file(path)
    # A compressed file has no other range.
    end = part.end if codec is PLAIN else sys.maxsize
    with codec.opened(path) as file:
        file.seek(part.begin)
        at = part.begin + (len(file.readline()) if part.begin else 0)
        while at <= end and (lines := file.readlines(min(_CHUNK_BYTES, end - at + 1))):
            for line in lines:
                if at > end:
                    return
                if b"\r" in line or (at == 0 and line.startswith(BOM_UTF8)):
                    yield from _split_at_returns(at, line)
                else:
                    yield at, line[:-1] if line.endswith(b"\n") else line
                at += len(line)


def _split_at_returns(at: int, line: bytes) -> Iterator[tuple[int, bytes]]:
    for whole in line.splitlines(keepends=True):
        text = whole.rstrip(b"\r\n")
        yield at, text.removeprefix(BOM_UTF8) if at == 0 else text
        at += len(whole)


def numbered_lines_of(parts: Iterable[FileRange]) -> Iterator[tuple[int, str]]:
    """The lines of the ranges, each after the position of its first byte."""
    return ((at, line.decode(errors="replace")) for part in parts for at, line in _numbered(part))


def lines_of(parts: Iterable[FileRange]) -> Iterator[str]:
    """The lines of the ranges, without their ends; bytes that are not UTF-8 become U+FFFD."""
    return (line.decode(errors="replace") for part in parts for _, line in _numbered(part))


def raw_lines_of(parts: Iterable[FileRange]) -> Iterator[bytes]:
    """The lines of the ranges as bytes, without their ends."""
    return (line for part in parts for _, line in _numbered(part))


def whole_bytes(paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The name and the bytes of each file."""
    return ((file_uri(Path(path)), Path(path).read_bytes()) for path in paths)


def _contents(path: Path) -> bytes:
    with codec_of_file(path).opened(path) as file:
        return file.read()


def whole_text(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The name and the text of each file."""
    return ((file_uri(Path(path)), _contents(Path(path)).decode(errors="replace")) for path in paths)


def whole_raw(paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The name and the bytes of each file, decompressed."""
    return ((file_uri(Path(path)), _contents(Path(path))) for path in paths)


def checked_length(record_bytes: int) -> int:
    """The length of a record.

    Raises:
        ConfigurationError: it is not positive.
    """
    if record_bytes < 1:
        raise ConfigurationError(f"recordLength is {record_bytes}; give a number of bytes of at least 1")
    return record_bytes


def records_of(record_bytes: int, parts: Iterable[FileRange]) -> Iterator[bytes]:
    """The records of the ranges.

    Raises:
        SourceError: a file ends within a record.
    """
    for part in parts:
        with Path(part.path).open("rb") as file:
            file.seek(part.begin)
            for _ in range(part.begin, part.end, record_bytes):
                record = file.read(record_bytes)
                if len(record) < record_bytes:
                    raise SourceError(
                        f"{part.path} ends within a record: {len(record)} of {record_bytes} bytes; "
                        "give the recordLength that the file was written with"
                    )
                yield record
