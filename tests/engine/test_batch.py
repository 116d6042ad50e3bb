"""The values that travel between the parts."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batch import Batch, Duration, OffsetRange, Time, TopicPartition

attempts = st.integers(0, 1_000_000 - 1)
"""Of a batch of a second."""
times = st.integers(1, 10**13)


@given(time=times, later=st.integers(1_000, 10**6), attempt=attempts, other=attempts)
def test_newer_batches_and_attempts_win(time: int, later: int, attempt: int, other: int) -> None:
    """The write timestamp of a batch an interval later is larger whatever the attempts, and so is that of a later attempt."""
    mine = Batch(Time(time), {}, attempt).write_timestamp

    assert Batch(Time(time + later), {}, other).write_timestamp > mine
    assert Batch(Time(time), {}, attempt + 1).write_timestamp > mine


@given(time=times, unit=st.integers(1, 10**7))
def test_floor_is_the_newest_multiple(time: int, unit: int) -> None:
    """Floor gives the newest multiple of the unit that is not after the time."""
    floor = Time(time).floor(Duration(unit))

    assert floor % unit == 0
    assert floor <= time < floor + unit


@pytest.mark.parametrize(
    ("seconds", "milliseconds"), [(1, 1_000), (0.5, 500), (0.001, 1), (0.0001, 0), (1.0004, 1_000)]
)
def test_seconds_become_whole_milliseconds(seconds: float, milliseconds: int) -> None:
    """A duration in seconds is rounded to whole milliseconds."""
    assert Duration.seconds(seconds) == milliseconds


def test_times_are_naive_local_datetimes_to_users() -> None:
    """A batch time is handed to users as PySpark does it: local, without a zone, to the millisecond."""
    assert Time(1_500).as_datetime() == datetime.fromtimestamp(1.5)  # noqa: DTZ006 - naive local, as PySpark's
    assert Time(1_500).as_datetime().tzinfo is None


def test_batch_counts_the_offsets_of_all_inputs() -> None:
    """A batch's count is the sum of its ranges over all inputs."""
    batch = Batch(
        Time(1),
        {"a": (OffsetRange("t", 0, 5, 9), OffsetRange("t", 1, 0, 0)), "b": (OffsetRange("u", 0, 1, 2),)},
    )

    assert batch.count() == 5
    assert batch.ranges["a"][0].topicPartition() == TopicPartition("t", 0)


def test_texts_of_values_can_be_read() -> None:
    """Times and durations show what they are in a log line."""
    assert (repr(Time(5)), repr(Duration(5))) == ("Time(5)", "Duration(5)")
