"""Slices: the remembered batches of a stream, and nothing that is not there yet."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, ManualClock, StreamingContext
from engine.batch import Time
from engine.dstream.dstream import DStream


class Slices:
    """A stream of the batches [1], [2], ... and what its slices hold."""

    def __init__(
        self, context: LocalContext, remember: float, interval: float = 1.0, **settings: Any
    ) -> None:
        self.clock = ManualClock(1_000_000)
        self.ssc = StreamingContext(context, interval, clock=self.clock, **settings)
        if remember:
            self.ssc.remember(remember)
        self.stream = self.ssc.queueStream([[n] for n in range(1, 30)])

    def start(self, batches: int) -> None:
        """Run so many batches."""
        self.ssc.start(thread=False)
        for _ in range(batches):
            self.clock.advance(self.ssc.graph.batch_duration)
            self.ssc.runBatch()

    def of(self, stream: DStream[Any], begin: Any, end: Any) -> list[list[Any]]:
        """The elements of each RDD of a slice."""
        return [rdd.collect() for rdd in stream.slice(begin, end)]


@pytest.fixture
def slices(context: LocalContext) -> Iterator[Callable[..., Slices]]:
    """Makes streams to slice, and stops them."""
    made: list[Slices] = []

    def make(remember: float, **settings: Any) -> Slices:
        made.append(Slices(context, remember, **settings))
        return made[-1]

    yield make
    for one in made:
        one.ssc.stop(stopSparkContext=False)


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        (1_002, 1_004, [[2], [3], [4]]),
        (1_002.999, 1_004.999, [[2], [3], [4]]),
        (1_003, 1_003, [[3]]),
        (0, 1_001, [[1]]),
        (1_004, 9_999, [[4], [5]]),
        (1_006, 9_999, []),
        (0, 1_000.5, []),
    ],
)
def test_slice_gives_the_batches_between_both_ends(
    slices: Callable[..., Slices], begin: float, end: float, expected: list[list[int]]
) -> None:
    """A slice holds the batches of both ends and between, floored to the slide: none before the start, none ahead of time."""
    of = slices(remember=60)
    of.stream.foreachRDD(lambda rdd: rdd.count())
    of.start(5)

    assert of.of(of.stream, begin, end) == expected
    of.clock.advance(1_000)
    of.ssc.runBatch()
    assert of.of(of.stream, 1_006, 1_006) == [[6]]


def test_slice_takes_datetimes_with_parts_of_a_second(slices: Callable[..., Slices]) -> None:
    """Datetimes, naive in local time or with a zone, count with their parts of a second (PySpark drops those)."""
    of = slices(remember=60, interval=0.25)
    of.stream.foreachRDD(lambda rdd: rdd.count())
    of.start(8)
    naive, aware = Time(1_000_500).as_datetime(), datetime.fromtimestamp(1_000.75, tz=UTC)

    assert of.of(of.stream, naive, naive) == [[2]]
    assert of.of(of.stream, naive, aware) == [[2], [3]]
    assert of.of(of.stream, 1_000.5, 1_001.0) == [[2], [3], [4]]


def test_slice_of_derived_streams_follows_their_slide(slices: Callable[..., Slices]) -> None:
    """A slice of a window has one RDD for each of its slides, each a whole window; what is no longer whole is not there."""
    of = slices(remember=3)
    window = of.stream.map(lambda n: n * 10).window(2, 2)
    window.foreachRDD(lambda rdd: rdd.count())
    of.start(6)

    assert of.of(window, 1_005.9, 1_006) == [[30, 40], [50, 60]]
    assert of.of(window, 0, 9_999) == [[30, 40], [50, 60]]


def test_newest_batch_is_remembered_without_asking(slices: Callable[..., Slices]) -> None:
    """Between batches the newest one can be sliced, and those behind it only as far as they are remembered."""
    of = slices(remember=0)
    of.stream.foreachRDD(lambda rdd: rdd.count())
    of.start(4)

    assert of.of(of.stream, 0, 9_999) == [[4]]


def test_slice_inside_of_a_batch_sees_it_and_those_before(slices: Callable[..., Slices]) -> None:
    """A function of the driver may slice the batch that runs and the remembered ones before it."""
    of = slices(remember=2)
    seen: list[Any] = []
    of.stream.foreachRDD(lambda time, _: seen.append(of.of(of.stream, time.timestamp() - 2, time)))
    of.start(4)

    assert seen == [[[1]], [[1], [2]], [[1], [2], [3]], [[2], [3], [4]]]


def test_slice_of_state_gives_the_running_batch_alone(slices: Callable[..., Slices], tmp_path: Path) -> None:
    """Of a stream with state only the batch that runs can be sliced: behind it the state has moved on."""
    of = slices(remember=60)
    of.ssc.checkpoint(tmp_path)
    state = of.stream.map(lambda n: ("a", n)).updateStateByKey(lambda new, old: sum(new) + (old or 0))
    seen: list[Any] = []
    state.foreachRDD(lambda _: seen.append(of.of(state, 0, 9_999)))
    of.start(3)

    assert seen == [[[("a", 1)]], [[("a", 3)]], [[("a", 6)]]]
    assert of.of(state, 0, 9_999) == []


def test_slices_do_not_take_from_the_queue(slices: Callable[..., Slices]) -> None:
    """A slice of the future gives nothing and leaves the source as it was (PySpark computes it, and the batch is lost)."""
    of = slices(remember=10)
    seen: list[list[int]] = []
    of.stream.foreachRDD(lambda rdd: seen.append(rdd.collect()))
    of.start(2)

    assert of.of(of.stream, 1_003, 1_100) == []
    of.clock.advance(1_000)
    of.ssc.runBatch()
    assert seen == [[1], [2], [3]]
