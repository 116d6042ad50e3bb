"""The graph: planning and watermarks, and what a batch hands to the checkpoint."""

from collections.abc import Sequence
from operator import add
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, ManualClock, StreamingContext
from engine.batch import Batch, Duration, Interval, OffsetRange, Time, TopicPartition
from engine.dstream.graph import DStreamGraph
from engine.dstream.nodes import InputDStream
from engine.rdd.api import RDD


def test_watermark_never_falls_when_a_partition_is_added() -> None:
    """A partition that is added, with old records or none, leaves the watermark where it was."""
    graph = DStreamGraph(LocalContext("local", "test"), Duration(1_000), 2)
    stream = _Ranges(graph)
    graph.start(Time(0), [], {})
    both, third = [TopicPartition("t", 0), TopicPartition("t", 1)], TopicPartition("t", 2)
    seen: list[int | None] = []

    def plan(places: list[TopicPartition], largest: dict[TopicPartition, int]) -> None:
        stream.places = places
        batch = graph.plan(Time(1_000 * (len(seen) + 1)), {"t": largest})
        graph.begin(batch)
        graph.committed(batch, {})
        seen.append(batch.watermarks.get("t"))

    plan(both, {both[0]: 5_000})
    plan(both, {both[0]: 5_000, both[1]: 4_000})
    plan([*both, third], {both[0]: 6_000, both[1]: 6_000})
    plan([*both, third], {both[0]: 6_000, both[1]: 6_000, third: 10})
    plan([*both, third], {both[0]: 7_000, both[1]: 7_000, third: 6_500})

    assert seen == [None, 4_000, 4_000, 4_000, 6_500]


def test_batches_are_remembered_in_the_order_of_time() -> None:
    """A graph gives the batches of an interval, the one that runs last, and names the first that it remembers."""
    graph = DStreamGraph(LocalContext("local", "test"), Duration(1_000), 2)
    graph.remember = Duration(3_000)
    graph.start(Time(0), [], {})
    assert graph.first_remembered() is None

    def times(begin: int, end: int) -> list[int]:
        return [int(batch.time) for batch in graph.batches_in(Interval(Time(begin), Time(end)))]

    for second in (1, 2, 3, 4, 5, 7):
        batch = Batch(Time(1_000 * second), {})
        graph.begin(batch)
        assert times(0, 9_000)[-1] == batch.time
        assert graph.batch(batch.time) is batch
        if second < 7:
            graph.committed(batch, {})
    assert times(0, 9_000) == [3_000, 4_000, 5_000, 7_000]
    assert (times(3_000, 5_000), times(3_500, 6_000)) == ([4_000, 5_000], [4_000, 5_000])
    assert times(5_000, 6_999) == []
    assert int(graph.batch(Time(4_000)).time) == 4_000
    for forgotten in (2_000, 6_000, 9_000):
        with pytest.raises(KeyError):
            graph.batch(Time(forgotten))
    first = graph.first_remembered()
    assert first is not None
    assert first.time == 3_000


@pytest.mark.parametrize("has_folder", [True, False])
def test_delta_is_made_for_a_checkpoint_folder_only(
    context: LocalContext, tmp_path: Path, *, has_folder: bool
) -> None:
    """What a batch changed in a window comes to the driver as bytes where there is a checkpoint folder, and elsewhere as counts alone."""
    clock = ManualClock(1_000_000)
    ssc = StreamingContext(context, 1, clock=clock, shards=2)
    if has_folder:
        ssc.checkpoint(tmp_path)
    found: list[tuple[bool, int]] = []

    def look(_rdd: RDD[Any]) -> None:
        running = ssc.graph.batch(Time(clock.wall_ms()))
        deltas, _ = ssc.graph.advance(running, lambda _policy, work: work())
        found.extend((bool(delta.data), delta.updated) for delta in deltas)

    ssc.queueStream([[(1, 1), (2, 1)]]).reduceByKeyAndWindow(add, None, 2, 1).foreachRDD(look)
    try:
        ssc.start(thread=False)
        clock.advance(1_000)
        ssc.runBatch()
    finally:
        ssc.stop(stopSparkContext=False)

    assert found == [(has_folder, 1)] * 2


class _Ranges(InputDStream):
    """An input with one empty range for each of its partitions."""

    def __init__(self, scope: DStreamGraph) -> None:
        super().__init__(scope, [], scope.batch_duration, "t")
        self.places: list[TopicPartition] = []

    def plan(self, time: Time) -> tuple[OffsetRange, ...]:
        """The empty ranges."""
        return tuple(OffsetRange(*place, 0, 0) for place in self.places)

    def range_rdd(self, batch: Batch, ranges: Sequence[OffsetRange]) -> RDD[Any]:
        """No record."""
        return self.scope.context.emptyRDD()
