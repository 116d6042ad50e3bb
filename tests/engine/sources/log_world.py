"""What the tests of the embedded log share: records that say which one they are, and ways to read them back."""

from pathlib import Path

from engine.batch import OffsetRange, TopicPartition
from engine.sources.api import ConsumerRecord, Source
from engine.sources.log_format import LogRecord, list_segments

PART = TopicPartition("t", 0)


def numbered(begin: int, until: int) -> list[LogRecord]:
    """Records that say which one they are."""
    return [(1_000 + i, b"k%d" % i, b"v%d" % i) for i in range(begin, until)]


def expected(begin: int, until: int) -> list[bytes]:
    """The values of the numbered records."""
    return [b"v%d" % i for i in range(begin, until)]


def values(source: Source, begin: int, until: int) -> list[bytes | None]:
    """The values of a range of the partition."""
    return [value for piece in source.read(OffsetRange(*PART, begin, until)) for value in piece.values]


def records(source: Source, begin: int, until: int) -> list[ConsumerRecord]:
    """The records of a range of the partition."""
    pieces = source.read(OffsetRange(*PART, begin, until))
    return [piece.record(index) for piece in pieces for index in range(len(piece.values))]


def segments(log_dir: Path) -> list[Path]:
    """The segment files of the partition in reading order."""
    return [segment.path for segment in list_segments(log_dir / "t" / "0")]


def flip(path: Path, position: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 0x40
    path.write_bytes(data)
