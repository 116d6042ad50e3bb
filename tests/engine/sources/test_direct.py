"""The direct stream over the log on disk: dead letters, ranges, and what a restart knows of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext
from engine.batch import OffsetRange, TopicPartition
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError, OffsetOutOfRangeError
from engine.sources.direct import create_direct_stream
from engine.sources.log import LogSource, LogWriter, create_topic
from tests.engine.app import START_MS, CrashError
from tests.engine.sources.reader import (
    TOPIC,
    Outputs,
    Reader,
    all_of,
    cached,
    nothing,
    one_element,
    stateful,
    two_readers,
    windowed,
)

READERS = [all_of, two_readers, one_element, nothing, windowed, cached, stateful]


@pytest.mark.fault(35, "broken JSON, null and bytes that are no text, read by outputs of seven kinds")
@pytest.mark.parametrize("outputs", READERS)
def test_undecodable_record_is_a_dead_letter_once(
    context: LocalContext, tmp_path: Path, outputs: Outputs
) -> None:
    """A record that does not decode is put aside once with its bytes, whatever the outputs read, and the others go on."""
    with Reader(context, tmp_path, outputs) as reader:
        reader.write(0, b"1", b"{broken", b"2")
        reader.write(1, b"3", None)
        reader.run()
        reader.write(0, b"\xff")
        reader.run().run()

    assert reader.put() == [(0, 1, "undecodable"), (1, 1, "undecodable"), (0, 3, "undecodable")]
    assert [letter.value for _, letter in reader.letters] == [b"{broken", None, b"\xff"]
    assert "JSONDecodeError" in reader.letters[0][1].reason
    assert "the value is null" in reader.letters[1][1].reason
    assert reader.seen.get("all", [[1, 2, 3], [], []]) == [[1, 2, 3], [], []]
    assert reader.seen.get("windows", [[1, 2, 3]] * 3) == [[1, 2, 3]] * 3


@pytest.mark.fault(35, "null, alone in its slice or not")
@pytest.mark.parametrize("decoder", [lambda value: value, str, lambda value: len(value or b"")])
def test_null_is_undecodable_for_every_decoder(
    context: LocalContext, tmp_path: Path, decoder: Callable[[Any], Any]
) -> None:
    """A record without a value is a dead letter, also for a decoder that would take it, alone in its slice or not."""
    with Reader(context, tmp_path, all_of, decoder=decoder) as reader:
        reader.write(0, None)
        reader.write(1, b"1", None, b"2")
        reader.run()

    assert reader.put() == [(0, 0, "undecodable"), (1, 1, "undecodable")]
    assert len(reader.seen["all"][0]) == 2


@pytest.mark.fault(35, "a value on which the decoder raises StopIteration")
def test_decoder_that_stops_the_iteration_drops_nothing(context: LocalContext, tmp_path: Path) -> None:
    """A StopIteration out of a decoder is a dead letter, and never the silent end of a slice."""
    with Reader(
        context, tmp_path, all_of, decoder=lambda value: next(iter([int(value)] if value != b"0" else []))
    ) as reader:
        reader.write(0, b"1", b"0", b"2")
        reader.run()

    assert reader.seen["all"] == [[1, 2]]
    assert reader.put() == [(0, 1, "undecodable")]


def test_without_a_decoder_records_come_with_their_coordinates(context: LocalContext, tmp_path: Path) -> None:
    """Without a decoder the stream holds ConsumerRecords, those without a value too."""
    with Reader(context, tmp_path, all_of, decoder=None) as reader:
        reader.write(1, b"x", None)
        reader.run()

    assert [tuple(record) for record in reader.seen["all"][0]] == [
        (TOPIC, 1, 0, START_MS, b"k", b"x"),
        (TOPIC, 1, 1, START_MS, b"k", None),
    ]
    assert reader.letters == []


@pytest.mark.fault(35, "broken JSON in a batch that runs again")
def test_dead_letters_of_a_retry_are_the_same(context: LocalContext, tmp_path: Path) -> None:
    """A batch that dies behind its dead letters puts the same ones aside again, as the next attempt."""
    with Reader(context, tmp_path, all_of) as reader:
        reader.write(0, b"1", b"{", b"2")
        reader.crash_in_ledger = True
        with pytest.raises(CrashError):
            reader.run()
        reader.crash().run()

    (first, letter), (second, again) = reader.letters
    assert (first, second) == (0, 1)
    assert letter == again
    assert reader.seen["all"] == [[1, 2], [1, 2], []]


# Ranges.


def ranges(reader: Reader) -> list[list[tuple[int, int]]]:
    """(from, until) of each partition of each batch."""
    return [[(part.fromOffset, part.untilOffset) for part in batch.ranges[TOPIC]] for batch in reader.batches]


def test_range_that_no_output_reads_is_drained(context: LocalContext, tmp_path: Path) -> None:
    """A range that no output reads is read once by the engine, so that its records are accounted for."""
    reads = context.accumulator(0)

    def counted(value: bytes) -> Any:
        reads.add(1)
        return json.loads(value)

    with Reader(context, tmp_path, nothing, decoder=counted) as reader:
        reader.write(0, b"1", b"2")
        reader.run().run()

    assert reads.value == 2
    assert ranges(reader) == [[(0, 2), (0, 0)], [(2, 2), (0, 0)]]


def test_batches_tile_the_log_over_restarts(context: LocalContext, tmp_path: Path) -> None:
    """Each batch begins where the one before it ended, over crashes in the middle and between batches."""
    with Reader(context, tmp_path, all_of) as reader:
        for n in range(6):
            reader.write(n % 2, *(b"%d" % n for _ in range(n + 1)))
            if n == 3:
                reader.crash_in_ledger = True
                with pytest.raises(CrashError):
                    reader.run()
                reader.crash()
            else:
                reader.run().crash()

    for before, after in zip(ranges(reader), ranges(reader)[1:], strict=False):
        assert [until for _, until in before] == [begin for begin, _ in after]
    assert ranges(reader)[-1] == [(9, 9), (6, 12)]


def test_rate_bounds_every_batch(context: LocalContext, tmp_path: Path) -> None:
    """A batch takes at most the rate times the interval from each partition, the first one included."""
    with Reader(context, tmp_path, all_of, max_rate_per_partition=3) as reader:
        reader.write(0, *(b"%d" % n for n in range(7)))
        reader.run().run().run()

    assert [part for part, _ in ranges(reader)] == [(0, 3), (3, 6), (6, 7)]


@pytest.mark.parametrize(
    ("how", "begins"),
    [
        ({"reset": "latest"}, [2, 1]),
        ({"reset": "earliest"}, [0, 0]),
        ({"reset": "latest", "starting_offsets": {TopicPartition(TOPIC, 0): 1}}, [1, 1]),
    ],
    ids=["latest", "earliest", "given"],
)
def test_fresh_application_starts_where_it_is_told(
    context: LocalContext, tmp_path: Path, how: dict[str, Any], begins: list[int]
) -> None:
    """A fresh application starts at the given offsets, else at the end or at the beginning; a later start goes on."""
    create_topic(tmp_path / "log", TOPIC, 2)
    for partition, count in ((0, 2), (1, 1)):
        with LogWriter(tmp_path / "log", TOPIC, partition) as writer:
            writer.append([(START_MS, None, b"1")] * count)
    with Reader(context, tmp_path, all_of, **how) as reader:
        reader.run()
        reader.write(1, b"5")
        reader.crash().run()

    assert [begin for begin, _ in ranges(reader)[0]] == begins
    assert ranges(reader)[1] == [(2, 2), (1, 2)]


def test_stream_that_an_upgrade_adds_starts_where_it_is_told(context: LocalContext, tmp_path: Path) -> None:
    """A stream that a new version of the job adds is fresh: it starts at the end of its log when it is told so."""
    create_topic(tmp_path / "log", "added", 1)
    with LogWriter(tmp_path / "log", "added", 0) as writer:
        writer.append([(START_MS, None, b"7")] * 3)
    versions = iter([1, 2])

    def outputs(stream: DStream[Any], reader: Reader) -> None:
        reader.collect(stream, "known")
        if next(versions) == 2:
            source = LogSource(tmp_path / "log", ["added"])
            added = create_direct_stream(reader.ssc, source, name="added", decoder=json.loads, reset="latest")
            reader.collect(added, "added")

    with Reader(context, tmp_path, outputs) as reader:
        reader.write(0, b"1")
        reader.run()
        reader.write(0, b"2")
        reader.crash().run()

    assert reader.seen == {"known": [[1], [2]], "added": [[]]}
    assert reader.batches[1].ranges["added"] == (OffsetRange("added", 0, 3, 3),)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"reset": "newest"}, "auto.offset.reset is 'newest'; use earliest or latest"),
        ({"max_rate_per_partition": 0}, "maxRatePerPartition is 0; give a number above 0, or none"),
    ],
)
def test_impossible_settings_are_refused(
    context: LocalContext, tmp_path: Path, how: dict[str, Any], words: str
) -> None:
    """A reset or rate that cannot be is refused with the value and the remedy."""
    with pytest.raises(ConfigurationError, match=words):
        Reader(context, tmp_path, all_of, **how).start()


@pytest.mark.fault(33, "the files of the embedded log are removed between two runs")
def test_log_that_lost_records_is_refused(context: LocalContext, tmp_path: Path) -> None:
    """An application that goes on behind the end of the log is told so, with partition and offsets."""
    with Reader(context, tmp_path, all_of) as reader:
        reader.write(0, b"1", b"2")
        reader.run()
        for path in (tmp_path / "log" / TOPIC / "0").iterdir():
            path.unlink()
        reader.crash()
        with pytest.raises(
            OffsetOutOfRangeError, match=r"events\[0\]: the next offset to read is 2, the log holds \[0, 0\)"
        ):
            reader.run()
