"""Event times of a direct stream: which records are late, and what a restart knows of it."""

import json
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import LocalContext
from engine.batch import OffsetRange
from engine.errors import UserFunctionError
from engine.sources.direct import EventTime
from tests.engine.app import START_MS, CrashError
from tests.engine.sources.reader import (
    TOPIC,
    Outputs,
    Reader,
    all_of,
    nothing,
    one_element,
    stateful,
    two_readers,
    windowed,
)

WINDOW, GRACE = 10, 60
"""Seconds."""


EVENT_TIME = EventTime(of=itemgetter(0), window=WINDOW, grace=GRACE)


def event(seconds: float, tag: str = "") -> bytes:
    """A record that happened so many seconds after the epoch."""
    return json.dumps([int(seconds * 1_000), tag]).encode()


@pytest.mark.fault(37, "late and disordered records, read by outputs of six kinds")
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


@pytest.mark.fault(37, "any event times, cut into batches with restarts")
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


@pytest.mark.fault(37, "records years ahead of the clock in every partition")
def test_future_records_close_no_window(context: LocalContext, tmp_path: Path) -> None:
    """A record that is ahead of its batch moves the watermark to the time of the batch at most, and none in time is late."""
    now = START_MS / 1_000
    with Reader(context, tmp_path, all_of, event_time=EVENT_TIME) as reader:
        reader.write(0, event(now + 10**8))
        reader.write(1, event(now + 10**9))
        reader.run().crash()
        reader.write(0, event(now - 50, "in time"), event(now - 100, "late"))
        reader.run().run()

    assert [batch.watermarks for batch in reader.batches] == [{}, *[{TOPIC: START_MS + 1_000}] * 2]
    assert [[tag for _, tag in batch] for batch in reader.seen["all"]] == [["", ""], ["in time"], []]
    assert reader.put() == [(0, 2, "late")]
