"""The embedded log gives back what was appended, and refuses what it cannot do."""

import json
import pickle
import struct
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import OffsetRange, TopicPartition
from engine.errors import (
    ConcurrentRunError,
    ConfigurationError,
    CorruptLogError,
    OffsetOutOfRangeError,
    SourceError,
)
from engine.sources import log
from engine.sources.api import ConsumerRecord, Source
from engine.sources.log import LogSource, LogWriter, create_topic, topic_partitions
from engine.sources.log_format import LogRecord
from tests.engine.sources.log_world import PART, expected, flip, numbered, records, segments, values

RECORD = st.tuples(
    st.integers(0, 2**53), st.none() | st.binary(max_size=9), st.none() | st.binary(max_size=40)
)


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    """A log with a topic of one partition."""
    create_topic(tmp_path, "t", 1)
    return tmp_path


def test_records_come_back_with_their_coordinates(log_dir: Path) -> None:
    """A record read back has the timestamp, key and value it was appended with, nulls included, and its offset."""
    with LogWriter(log_dir, "t", 0) as writer:
        assert writer.append([(5, b"a", b"x"), (6, None, None)]) == 2
        assert writer.append([(7, b"", b"")]) == 3
    assert records(LogSource(log_dir, ["t"]), 0, 3) == [
        ConsumerRecord("t", 0, 0, 5, b"a", b"x"),
        ConsumerRecord("t", 0, 1, 6, None, None),
        ConsumerRecord("t", 0, 2, 7, b"", b""),
    ]


def test_an_append_of_nothing_changes_nothing(log_dir: Path) -> None:
    """Appending no records returns the next offset and writes no byte."""
    with LogWriter(log_dir, "t", 0) as writer:
        assert writer.append([]) == 0
    assert segments(log_dir) == []


def test_file_has_the_documented_bytes(log_dir: Path) -> None:
    """A frame has each field where the format says, and the checksum that the format says."""
    with LogWriter(log_dir, "t", 0) as writer:
        writer.append([(1, None, b"x"), (2, b"k", None)])
    data = (log_dir / "t" / "0" / "00000000000000000000.0.log").read_bytes()
    topic = json.loads((log_dir / "t" / "topic.json").read_text())
    magic, body, checksum, base, count, value_bytes = struct.unpack_from("<4sIQQII", data)
    assert (magic, body, base, count, value_bytes) == (b"dlF1", len(data) - 32, 0, 2, 5)
    assert checksum == xxhash.xxh3_64_intdigest(data[16:], topic["salt"])
    assert data[32:] == b"\x92\xc4\x01x\xc0" + b"\x92\x92\x01\x02\x92\xc0\xc4\x01k"
    assert (topic["format"], topic["partitions"]) == (1, 1)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(appends=st.lists(st.lists(RECORD, min_size=1, max_size=8), max_size=12), data=st.data())
def test_every_range_of_every_log_reads_back(appends: list[list[LogRecord]], data: st.DataObject) -> None:
    """Whatever was appended, in whatever portions and segments, each range gives exactly its records."""
    with tempfile.TemporaryDirectory() as folder:
        create_topic(Path(folder), "t", 1)
        with LogWriter(Path(folder), "t", 0, segment_bytes=300) as writer:
            for append in appends:
                writer.append(append)
        everything = [record for append in appends for record in append]
        source = LogSource(Path(folder), ["t"])
        assert source.bounds() == {PART: (0, len(everything))}
        for _ in range(3):
            begin = data.draw(st.integers(0, len(everything)))
            until = data.draw(st.integers(begin, len(everything)))
            found = records(source, begin, until)
            assert [record[3:] for record in found] == everything[begin:until]
            assert [record.offset for record in found] == list(range(begin, until))
            for piece in source.read(OffsetRange(*PART, begin, until)):
                last = len(piece.values) - 1
                assert piece.created() == [piece.record(0).timestamp, piece.record(last).timestamp]


@pytest.mark.parametrize("count", [1, 15, 16, 70_000])
@pytest.mark.parametrize(
    "time",
    [
        lambda i: 1_700_000_000_000 + i,
        lambda i: i - 8,
        lambda i: 1_700_000_000_000 + i if i % 3 else i,
        lambda i: i if i == 0 else 1_700_000_000_000 + i,
        lambda i: (0xCF << 56) - i,
    ],
    ids=["wide", "narrow", "mixed", "narrow first", "bytes like marks"],
)
def test_creation_times_of_a_part_of_an_append(log_dir: Path, count: int, time: Callable[[int], int]) -> None:
    """Whatever the width of its timestamps, a slice that begins and ends inside an append tells those of its ends."""
    with LogWriter(log_dir, "t", 0) as writer:
        writer.append([(time(i), b"key", b"value") for i in range(count)])

    for begin, until in {(0, count), (count // 3, count), (0, count // 2 + 1), (count // 3, count // 2 + 1)}:
        (piece,) = LogSource(log_dir, ["t"]).read(OffsetRange(*PART, begin, until))

        assert piece.created() == [time(begin), time(until - 1)]


@pytest.mark.parametrize("portion", [7, 500, 3_000])
def test_slices_hold_about_five_hundred_records(log_dir: Path, portion: int) -> None:
    """Small appends are put together to slices of 500 records and a bit, a large append is a slice by itself."""
    with LogWriter(log_dir, "t", 0) as writer:
        for begin in range(0, 3_000, portion):
            writer.append(numbered(begin, min(begin + portion, 3_000)))
    sizes = [len(piece.values) for piece in LogSource(log_dir, ["t"]).read(OffsetRange("t", 0, 0, 3_000))]
    assert all(500 <= size < 500 + portion for size in sizes[:-1])
    assert sum(sizes) == 3_000


def test_an_append_longer_than_a_read_comes_back(log_dir: Path) -> None:
    """Appends of several megabytes read back like small ones."""
    large = [(1, None, bytes([i]) * 3_000_000) for i in range(3)]
    with LogWriter(log_dir, "t", 0) as writer:
        writer.append(large)
        writer.append(large[1:])
    assert values(LogSource(log_dir, ["t"]), 0, 5) == [record[2] for record in large + large[1:]]


def test_segments_are_bounded_and_named_by_their_first_offset(log_dir: Path) -> None:
    """A segment does not grow past its size, and each file's name is the offset of its first record."""
    with LogWriter(log_dir, "t", 0, segment_bytes=200) as writer:
        for i in range(0, 20, 2):
            writer.append(numbered(i, i + 2))
    names = [path.name for path in segments(log_dir)]
    assert names[:3] == [
        "00000000000000000000.0.log",
        "00000000000000000006.0.log",
        "00000000000000000012.0.log",
    ]
    assert all(path.stat().st_size <= 200 for path in segments(log_dir))
    assert values(LogSource(log_dir, ["t"]), 3, 19) == expected(3, 19)


def test_retention_deletes_whole_old_segments(log_dir: Path) -> None:
    """With a size to keep, the oldest segments go; bounds move up, and what is left reads as before."""
    with LogWriter(log_dir, "t", 0, segment_bytes=200, retention_bytes=400) as writer:
        for i in range(0, 40, 2):
            writer.append(numbered(i, i + 2))
    source = LogSource(log_dir, ["t"])
    first, end = source.bounds()[PART]
    assert 0 < first < end == 40
    assert sum(path.stat().st_size for path in segments(log_dir)[:-1]) >= 400 - 200
    assert values(source, first, end) == expected(first, end)
    with pytest.raises(
        OffsetOutOfRangeError,
        match=rf"offset {first - 1} of t\[0\] cannot be read, the log begins at {first}",
    ):
        values(source, first - 1, end)


def test_a_writer_goes_on_where_the_last_one_ended(log_dir: Path) -> None:
    """A new writer appends behind the newest record, in the same segment."""
    for i in range(0, 6, 2):
        with LogWriter(log_dir, "t", 0) as writer:
            assert writer.next_offset == i
            writer.append(numbered(i, i + 2))
    assert values(LogSource(log_dir, ["t"]), 0, 6) == expected(0, 6)
    assert len(segments(log_dir)) == 1


def test_a_second_writer_is_refused(log_dir: Path) -> None:
    """While a writer is open another one is refused; afterwards it is not."""
    with (
        LogWriter(log_dir, "t", 0),
        pytest.raises(ConcurrentRunError, match="being written by another process"),
    ):
        LogWriter(log_dir, "t", 0)
    LogWriter(log_dir, "t", 0).close()


def test_records_too_large_for_a_frame_are_refused(log_dir: Path) -> None:
    """More than 64 MiB in one append is refused by name, and the log stays as it was."""
    with LogWriter(log_dir, "t", 0) as writer:
        with pytest.raises(ConfigurationError, match="append them in smaller portions"):
            writer.append([(1, None, bytes(33 * 1024 * 1024))] * 2)
        assert writer.append(numbered(0, 1)) == 1


def test_topic_is_made_once(tmp_path: Path) -> None:
    """Making a topic again changes nothing; with another number of partitions it is refused with both numbers."""
    create_topic(tmp_path / "log", "t", 4)
    before = (tmp_path / "log" / "t" / "topic.json").read_bytes()
    create_topic(tmp_path / "log", "t", 4)
    assert (tmp_path / "log" / "t" / "topic.json").read_bytes() == before
    with pytest.raises(ConfigurationError, match=r"topic 't' .* has 4 partitions and not 3; ask for 4"):
        create_topic(tmp_path / "log", "t", 3)
    assert topic_partitions(tmp_path / "log", "t") == 4


def test_callers_at_the_same_time_make_one_topic(tmp_path: Path) -> None:
    """Of many callers one makes the topic and the others find it; none is left with another one."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: create_topic(tmp_path, "t", 3), range(8)))
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["0", "1", "2", "topic.json"]


def test_a_refused_topic_leaves_no_folder(tmp_path: Path) -> None:
    """Asking for more partitions than a topic has makes none of them."""
    create_topic(tmp_path, "t", 1)
    with pytest.raises(ConfigurationError):
        create_topic(tmp_path, "t", 2)
    with pytest.raises(ConfigurationError, match="cannot have 0 partitions; give at least 1"):
        create_topic(tmp_path, "u", 0)
    assert not (tmp_path / "t" / "1").exists()
    assert not (tmp_path / "u").exists()


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "x" * 201])
def test_topic_names_that_are_no_folder_names_are_refused(tmp_path: Path, name: str) -> None:
    """A topic's name cannot lead out of the log's folder."""
    with pytest.raises(ConfigurationError, match="topic name"):
        create_topic(tmp_path, name, 1)


def test_missing_topics_and_partitions_are_named(log_dir: Path) -> None:
    """What does not exist is a SourceError with its name, for writers and readers alike."""
    with pytest.raises(SourceError, match=r"topic 'other' does not exist"):
        LogSource(log_dir, ["other"]).bounds()
    with pytest.raises(SourceError, match=r"topic 'other' does not exist"):
        LogWriter(log_dir, "other", 0)
    with pytest.raises(SourceError, match="topic 't' has no partition 1; its partitions are 0 to 0"):
        LogWriter(log_dir, "t", 1)
    with pytest.raises(SourceError, match="topic 't' has no partition 1"):
        list(LogSource(log_dir, ["t"]).read(OffsetRange("t", 1, 0, 1)))


def test_a_topic_made_anew_is_noticed(log_dir: Path, tmp_path: Path) -> None:
    """A source that has seen a topic refuses another one of the same name."""
    source = LogSource(log_dir, ["t"])
    source.bounds()
    (log_dir / "t").rename(tmp_path / "old")
    create_topic(log_dir, "t", 1)
    with pytest.raises(SourceError, match="was deleted and made again"):
        source.bounds()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ('{"format":2,"partitions":1,"salt":1}', ConfigurationError, "has format 2, this version reads 1"),
        ('{"format":1', CorruptLogError, "is damaged"),
    ],
)
def test_a_topic_of_a_newer_format_or_damaged_is_refused(
    log_dir: Path, text: str, error: type, message: str
) -> None:
    """A topic.json that this version cannot trust is refused, by writers and readers alike."""
    (log_dir / "t" / "topic.json").write_text(text)
    for use in (lambda: LogWriter(log_dir, "t", 0), lambda: LogSource(log_dir, ["t"]).bounds()):
        with pytest.raises(error, match=message):
            use()


def test_bounds_cover_every_partition_of_every_topic(log_dir: Path) -> None:
    """bounds() gives first and end offset of each partition, (0, 0) for one without records."""
    create_topic(log_dir, "u", 2)
    with LogWriter(log_dir, "u", 1) as writer:
        writer.append(numbered(0, 7))
    assert LogSource(log_dir, ["t", "u"]).bounds() == {
        PART: (0, 0),
        TopicPartition("u", 0): (0, 0),
        TopicPartition("u", 1): (0, 7),
    }


def test_a_range_past_the_end_is_out_of_range(log_dir: Path) -> None:
    """Reading past the end gives what there is and then says where the log ends."""
    with LogWriter(log_dir, "t", 0) as writer:
        writer.append(numbered(0, 600))
    reading = LogSource(log_dir, ["t"]).read(OffsetRange("t", 0, 0, 601))
    assert next(reading).values == expected(0, 600)
    with pytest.raises(
        OffsetOutOfRangeError, match=r"offset 601 of t\[0\] cannot be read, the log ends at 600"
    ):
        next(reading)


def test_an_empty_range_reads_nothing(log_dir: Path) -> None:
    """A range without offsets gives no slice, also in a partition without records."""
    assert values(LogSource(log_dir, ["t"]), 0, 0) == []


def test_bounds_and_reads_look_only_at_what_is_new(log_dir: Path) -> None:
    """A source that has been past a place does not read it again: damage there is seen by a fresh source only."""
    source = LogSource(log_dir, ["t"])
    with LogWriter(log_dir, "t", 0) as writer:
        for i in range(0, 9, 3):
            writer.append(numbered(i, i + 3))
        assert source.bounds()[PART] == (0, 9)
        assert values(source, 0, 6) == expected(0, 6)
        flip(segments(log_dir)[0], 40)
        writer.append(numbered(9, 12))
        assert source.bounds()[PART] == (0, 12)
        assert values(source, 6, 12) == expected(6, 12)
    with pytest.raises(CorruptLogError):
        LogSource(log_dir, ["t"]).bounds()
    source.close()
    with pytest.raises(CorruptLogError):
        values(source, 6, 12)


def test_a_source_is_pickled_as_its_settings(log_dir: Path) -> None:
    """A pickled source carries nothing of what it has seen, and works on the other side."""
    fresh: Source = LogSource(log_dir, ["t"])
    used = LogSource(log_dir, ["t"])
    with LogWriter(log_dir, "t", 0) as writer:
        writer.append(numbered(0, 5))
    assert values(used, *used.bounds()[PART]) == expected(0, 5)
    assert pickle.dumps(used) == pickle.dumps(fresh)
    assert values(pickle.loads(pickle.dumps(used)), 1, 5) == expected(1, 5)  # noqa: S301  our own bytes


def test_commit_is_a_hint_that_needs_nothing(log_dir: Path) -> None:
    """commit() takes any range and changes no file."""
    before = sorted((log_dir / "t").rglob("*"))
    LogSource(log_dir, ["t"]).commit([OffsetRange("t", 0, 0, 99)])
    assert sorted((log_dir / "t").rglob("*")) == before


def test_places_stay_few(log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that follows the writer, and one that reads it all again, remember a place each so many bytes and not each append."""
    monkeypatch.setattr(log, "_MARK_BYTES", 1_000)
    source = LogSource(log_dir, ["t"])
    with LogWriter(log_dir, "t", 0) as writer:
        for number in range(200):
            writer.append(numbered(number, number + 1))
            assert values(source, number, number + 1) == expected(number, number + 1)
    for number in [*range(200), *range(200)]:
        assert values(source, number, number + 1) == expected(number, number + 1)
    (places,) = source._places[PART]._known.values()
    size = segments(log_dir)[0].stat().st_size

    again = LogSource(log_dir, ["t"])
    assert values(again, 0, 200) == expected(0, 200)
    (marked,) = again._places[PART]._known.values()
    for place in marked:
        assert values(again, 0, place.offset) == expected(0, place.offset)

    assert again._places[PART]._known == {next(iter(again._places[PART]._known)): marked}
    assert 3 < len(places) <= 2 * size // 1_000 + 2
