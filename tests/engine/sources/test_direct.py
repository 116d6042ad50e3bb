"""The direct stream over the log on disk: ranges, dead letters, lateness, and what a restart knows of them."""

import json
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import LocalContext, ManualClock, StreamingContext
from engine.batch import Batch, OffsetRange, Time, TopicPartition
from engine.dstream.dstream import DStream
from engine.dstream.nodes import DeadLetter
from engine.errors import ConfigurationError, OffsetOutOfRangeError, UserFunctionError
from engine.sources.direct import EventTime, create_direct_stream
from engine.sources.log import LogSource, LogWriter, create_topic
from tests.engine.app import START_MS, CrashError

TOPIC = "events"
WINDOW, GRACE = 10, 60
"""Seconds."""

Outputs = Callable[[DStream[Any], "Reader"], None]


class Reader:
    """An application over a topic of two partitions; also its ledger, so that it sees what was put aside.

    Args:
        context: runs it.
        folder: of log and checkpoints.
        outputs: what is done with the stream.
        how: arguments of the direct stream.
    """

    def __init__(self, context: LocalContext, folder: Path, outputs: Outputs, **how: Any) -> None:
        self.context = context
        self.letters: list[tuple[int, DeadLetter]] = []
        """(attempt, letter) in the order of the batches."""
        self.batches: list[Batch] = []
        self.seen: dict[str, list[Any]] = {}
        self.crash_in_ledger = False
        self.clock = ManualClock(START_MS)
        self.ssc: StreamingContext
        self._folder = folder
        self._outputs = outputs
        self._how = {"reset": "earliest", "decoder": json.loads, **how}
        create_topic(folder / "log", TOPIC, 2)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.ssc.stop(stopSparkContext=False)

    def start(self) -> Self:
        """Start, or start again."""
        self.ssc = StreamingContext(self.context, 1.0, clock=self.clock, shards=2)
        self.ssc.checkpoint(self._folder / "checkpoints")
        self.ssc.recordBatches(self)
        source = LogSource(self._folder / "log", [TOPIC])
        self._outputs(create_direct_stream(self.ssc, source, name=TOPIC, **self._how), self)
        self.ssc.start(thread=False)
        return self

    def crash(self) -> Self:
        """Let the context go and start again."""
        self.ssc.stop(stopSparkContext=False)
        return self.start()

    def write(self, partition: int, *values: bytes | None) -> None:
        """Append values to a partition."""
        with LogWriter(self._folder / "log", TOPIC, partition) as writer:
            writer.append([(START_MS, b"k", value) for value in values])

    def run(self) -> Self:
        """Run the next batch."""
        self.clock.advance(1_000)
        self.ssc.runBatch()
        return self

    def collect(self, stream: DStream[Any], name: str) -> None:
        """An output that keeps the sorted elements of each batch."""
        seen = self.seen.setdefault(name, [])
        stream.foreachRDD(lambda rdd: seen.append(sorted(rdd.collect())))

    def put_aside(self, batch: Batch, letters: list[DeadLetter]) -> None:
        """Keep the letters, then die if asked to."""
        self.letters += [(batch.attempt, letter) for letter in letters]
        if self.crash_in_ledger:
            self.crash_in_ledger = False
            raise CrashError("ledger")

    def record(self, batch: Batch, zero_time: Time) -> None:
        """Keep the batch."""
        self.batches.append(batch)

    def put(self) -> list[tuple[int, int, str]]:
        """(partition, offset, reason before the colon) of each letter."""
        return [
            (letter.partition, letter.offset, letter.reason.partition(":")[0]) for _, letter in self.letters
        ]


def all_of(stream: DStream[Any], reader: Reader) -> None:
    """One output that reads everything."""
    reader.collect(stream, "all")


def two_readers(stream: DStream[Any], reader: Reader) -> None:
    """Two outputs that read everything."""
    reader.collect(stream, "all")
    reader.collect(stream.map(str), "again")


def one_element(stream: DStream[Any], reader: Reader) -> None:
    """An output that takes one element."""
    stream.foreachRDD(lambda rdd: rdd.take(1))


def nothing(stream: DStream[Any], reader: Reader) -> None:
    """An output that reads nothing."""
    stream.foreachRDD(lambda rdd: None)


def windowed(stream: DStream[Any], reader: Reader) -> None:
    """An output that reads each range three times over, in windows."""
    reader.collect(stream.window(3), "windows")


def cached(stream: DStream[Any], reader: Reader) -> None:
    """Two outputs over a cache."""
    kept = stream.cache()
    reader.collect(kept, "all")
    kept.foreachRDD(lambda rdd: rdd.take(1))


def stateful(stream: DStream[Any], reader: Reader) -> None:
    """State, and an output that does not look at it."""
    stream.map(lambda n: (str(n), 1)).updateStateByKey(
        lambda values, state: sum(values) + (state or 0)
    ).foreachRDD(lambda rdd: None)


READERS = [all_of, two_readers, one_element, nothing, windowed, cached, stateful]


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


# Event time.

EVENT_TIME = EventTime(of=itemgetter(0), window=WINDOW, grace=GRACE)


def event(seconds: float, tag: str = "") -> bytes:
    """A record that happened so many seconds after the epoch."""
    return json.dumps([int(seconds * 1_000), tag]).encode()


@pytest.mark.parametrize("outputs", [all_of, two_readers, one_element, nothing, windowed, stateful])
def test_late_record_is_a_dead_letter_once(context: LocalContext, tmp_path: Path, outputs: Outputs) -> None:
    """A record whose window closed before its batch is put aside as late once, whatever the outputs read."""
    with Reader(context, tmp_path, outputs, event_time=EVENT_TIME) as reader:
        reader.write(0, event(100))
        reader.write(1, event(85))
        reader.run()
        # The watermark is 85 s: windows that ended by 25 s are closed, so those that began before 20 s.
        reader.write(0, event(19.999, "late"), event(20, "in time"), event(200))
        reader.write(1, b"{", event(5, "late"))
        reader.run().run()

    assert reader.put() == [(0, 1, "late"), (1, 1, "undecodable"), (1, 2, "late")]
    assert reader.letters[0][1].value == event(19.999, "late")
    assert reader.seen.get("all", [None, [[20_000, "in time"], [200_000, ""]]])[1] == [
        [20_000, "in time"],
        [200_000, ""],
    ]


@pytest.mark.parametrize("outputs", [all_of, nothing])
def test_watermark_waits_for_every_partition(context: LocalContext, tmp_path: Path, outputs: Outputs) -> None:
    """There is no watermark until each partition has had a record, and it is that of the slowest."""
    with Reader(context, tmp_path, outputs, event_time=EVENT_TIME) as reader:
        reader.write(0, event(1_000))
        reader.run()
        reader.write(0, event(1))
        reader.run()
        reader.write(1, event(500))
        reader.run()
        reader.write(0, event(440, "in time"), event(439, "late"))
        reader.run().run()

    assert [batch.watermarks for batch in reader.batches] == [{}, {}, {}, {TOPIC: 500_000}, {TOPIC: 500_000}]
    assert reader.put() == [(0, 3, "late")]


def test_maxima_survive_a_restart(context: LocalContext, tmp_path: Path) -> None:
    """After a restart the watermark is that of the committed batches, late and unread records included."""
    with Reader(context, tmp_path, nothing, event_time=EVENT_TIME) as reader:
        reader.write(0, event(1_000))
        reader.write(1, event(700))
        reader.run().crash()
        reader.write(1, event(10, "late"), event(800))
        reader.run().crash()
        reader.write(0, event(5, "late"))
        reader.run()

    assert [batch.watermarks for batch in reader.batches] == [{}, {TOPIC: 700_000}, {TOPIC: 800_000}]
    assert reader.put() == [(1, 1, "late"), (0, 1, "late")]


def test_late_records_count_for_the_maxima(context: LocalContext, tmp_path: Path) -> None:
    """A batch of late records alone leaves the maxima where they are, and one of newer records moves them."""
    with Reader(
        context, tmp_path, all_of, event_time=EventTime(of=itemgetter(0), window=10, grace=0)
    ) as reader:
        reader.write(0, event(1_000))
        reader.write(1, event(500))
        reader.run()
        reader.write(1, event(489.9, "late"))
        reader.run()
        reader.write(1, event(900))
        reader.run().run()

    assert [batch.watermarks.get(TOPIC) for batch in reader.batches] == [None, 500_000, 500_000, 900_000]
    assert reader.put() == [(1, 1, "late")]


def test_retry_judges_lateness_as_the_first_run(context: LocalContext, tmp_path: Path) -> None:
    """A batch that runs again uses the watermark of its begin record, not a newer one."""
    with Reader(context, tmp_path, all_of, event_time=EVENT_TIME) as reader:
        reader.write(0, event(100))
        reader.write(1, event(100))
        reader.run()
        reader.write(0, event(29, "late"), event(5_000))
        reader.write(1, event(5_000), event(41, "in time"))
        reader.crash_in_ledger = True
        with pytest.raises(CrashError):
            reader.run()
        reader.crash()

    assert reader.put() == [(0, 1, "late")] * 2
    assert reader.seen["all"][1] == reader.seen["all"][2]


def test_older_ranges_of_a_window_are_judged_by_their_own_watermark(
    context: LocalContext, tmp_path: Path
) -> None:
    """A window that reads an older range again leaves out what was late in its own batch, and nothing else."""
    with Reader(context, tmp_path, windowed, event_time=EVENT_TIME) as reader:
        reader.write(0, event(20, "a"))
        reader.write(1, event(20, "b"))
        reader.run()
        reader.write(0, event(1_000))
        reader.write(1, event(1_000))
        reader.run()
        reader.write(0, event(21, "late"))
        reader.run().run()

    first = [[20_000, "a"], [20_000, "b"]]
    assert reader.seen["windows"][2] == [*first, [1_000_000, ""], [1_000_000, ""]]
    assert reader.seen["windows"][3] == [[1_000_000, ""], [1_000_000, ""]]
    assert reader.put() == [(0, 2, "late")]


def late_by_hand(batches: Sequence[tuple[list[int], list[int]]]) -> list[tuple[int, int]]:
    """(partition, offset) of each late record by the rule, batch by batch."""
    maxima: dict[int, int] = {}
    offsets = [0, 0]
    late = []
    for batch in batches:
        watermark = min(maxima.values()) if len(maxima) == 2 else None
        for partition, times in enumerate(batch):
            for time in times:
                if watermark is not None and time // 10_000 * 10_000 + 10_000 + 60_000 <= watermark:
                    late.append((partition, offsets[partition]))
                offsets[partition] += 1
        for partition, times in enumerate(batch):
            if times:
                maxima[partition] = max([*times, maxima.get(partition, 0)])
    return late


times = st.lists(st.integers(0, 200).map(lambda tenths: tenths * 1_000), max_size=5)


@pytest.mark.slow
@settings(max_examples=20)
@given(batches=st.lists(st.tuples(times, times), max_size=5), crashes=st.sets(st.integers(0, 5)))
def test_lateness_follows_the_rule(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[list[int], list[int]]], crashes: set[int]
) -> None:
    """For any event times, cut into batches with restarts anywhere, exactly the records that the rule calls late are put aside."""
    with (
        LocalContext("local", "test") as context,
        Reader(context, tmp_path_factory.mktemp("late"), all_of, event_time=EVENT_TIME) as reader,
    ):
        for number, batch in enumerate(batches):
            for partition, happened in enumerate(batch):
                if happened:
                    reader.write(partition, *(event(time / 1_000) for time in happened))
            reader.run()
            if number in crashes:
                reader.crash()

    assert [(partition, offset) for partition, offset, _ in reader.put()] == late_by_hand(batches)


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


def test_function_that_fails_on_event_times_fails_the_batch(context: LocalContext, tmp_path: Path) -> None:
    """An event-time function that raises ends the batch, StopIteration included."""
    for number, function in enumerate(
        (itemgetter(7), lambda record: record[0] if record[0] < 2_000 else next(iter([])))
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        how = EventTime(of=function, window=WINDOW, grace=GRACE)
        with Reader(context, folder, all_of, event_time=how) as reader:
            reader.write(0, event(1), event(2))
            with pytest.raises(UserFunctionError, match=r"IndexError|StopIteration"):
                reader.run()


def test_closed_window_is_a_matter_of_milliseconds() -> None:
    """A window is closed when the watermark reaches its end and the grace, and not a millisecond before."""
    assert EVENT_TIME.late_before(None) is None
    assert EVENT_TIME.late_before(79_999) == 10_000
    assert EVENT_TIME.late_before(80_000) == 20_000
    assert OffsetRange(TOPIC, 0, 3, 8).count() == 5
