"""Which batch times are due, whatever the wall clock does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batch import Duration, Interval, OffsetRange, Time
from engine.errors import ConfigurationError
from engine.scheduler.generator import JobGenerator

SECOND = Duration(1_000)
jumps = st.lists(st.tuples(st.integers(-(10**7), 10**7), st.integers(0, 5_000)), max_size=40)


@pytest.mark.fault(27, "any jumps of the wall clock, drawn by hypothesis")
@given(
    start=st.integers(0, 10**13),
    steps=jumps,
    every=st.booleans(),
    interval=st.sampled_from([1, 20, 500, 1_000, 60_000]),
)
def test_jumping_clock_neither_stalls_nor_reorders(
    start: int, steps: list[tuple[int, int]], every: bool, interval: int
) -> None:
    """Whatever the wall clock jumps and however long batches take, each wait is at most one interval and each time later, on the grid."""
    step = Duration(interval)
    last = Time(start).floor(step)
    generator, wall, since = JobGenerator(step, last, every_interval=every), start, 0
    for jump, work in steps:
        wall = max(0, wall + jump)
        wait = generator.wait_ms(wall, since)
        assert 0 <= wait <= interval
        if wall < last - interval:
            assert wait == max(0, interval - since)
        wall += wait
        due = generator.due(wall)
        assert due >= last + interval
        assert due % interval == 0
        assert due == last + interval if every else due == max(last + interval, wall - wall % interval)
        last, wall, since = due, wall + work, work


@given(start=st.integers(0, 10**13), works=st.lists(st.integers(0, 999), max_size=30))
def test_batches_in_time_are_one_interval_apart(start: int, works: list[int]) -> None:
    """While batches take less than an interval each time is due as it passes, one interval after the other."""
    last, wall = Time(start).floor(SECOND), start
    generator, since = JobGenerator(SECOND, last), 0
    for work in works:
        wall += generator.wait_ms(wall, since)
        due = generator.due(wall)
        assert due == last + 1_000
        assert wall == due
        last, wall, since = due, wall + work, work


def test_catch_up_batch_takes_over_all_missed_times() -> None:
    """Behind by many intervals, one batch has the newest time, and the next is due one interval later."""
    generator = JobGenerator(SECOND, Time(5_000))

    assert generator.wait_ms(17_300, 12_300) == 0
    assert generator.due(17_300) == 17_000
    assert generator.wait_ms(17_300, 0) == 700
    assert generator.due(18_000) == 18_000


def test_every_missed_time_runs_when_asked() -> None:
    """With every_interval the missed times run one by one, as in Spark."""
    generator = JobGenerator(SECOND, Time(5_000), every_interval=True)

    assert [generator.due(8_300) for _ in range(3)] == [6_000, 7_000, 8_000]
    assert generator.wait_ms(8_300, 0) == 700


def test_clock_that_jumps_ahead_and_returns_goes_on_from_the_newest_time() -> None:
    """After a jump ahead and back the times go on from the newest, one each interval."""
    generator = JobGenerator(SECOND, Time(5_000))

    assert generator.due(1_005_000) == 1_005_000
    assert generator.wait_ms(7_000, 0) == 1_000
    assert generator.wait_ms(7_000, 800) == 200
    assert generator.wait_ms(7_000, 1_200) == 0
    assert generator.due(8_000) == 1_006_000


def test_clock_set_back_a_little_is_waited_for() -> None:
    """After a small step back batches come later by what they take, until each comes at its time again."""
    generator, wall, ahead = JobGenerator(SECOND, Time(5_000)), 5_100 - 300, []
    for _ in range(5):
        wall += generator.wait_ms(wall, 100)
        ahead.append(generator.due(wall) - wall)
        wall += 100

    assert ahead == [200, 100, 0, 0, 0]


def test_replayed_batch_moves_the_times_on() -> None:
    """After a batch that was run again the next one is due after it."""
    generator = JobGenerator(SECOND, Time(5_000))
    generator.took(Time(9_000))

    assert generator.due(9_100) == 10_000


@given(begin=st.integers(0, 100), length=st.integers(1, 20))
def test_intervals_tile_the_times(begin: int, length: int) -> None:
    """(begin, end] and (end, end + length] share no time and leave none out."""
    first = Interval(Time(begin), Time(begin + length))
    second = Interval(Time(begin + length), Time(begin + 2 * length))

    assert [(n in first) + (n in second) for n in range(begin + 1, begin + 2 * length + 1)] == [1] * (
        2 * length
    )
    assert begin not in first


def test_backward_range_is_refused() -> None:
    """A range that runs backwards is refused with its partition and both offsets."""
    with pytest.raises(ConfigurationError, match=r"offset range of t\[3\] runs backwards, from 5 until 4"):
        OffsetRange("t", 3, 5, 4)
