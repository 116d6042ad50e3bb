"""The graph: planning and watermarks."""

from collections.abc import Sequence
from typing import Any

from engine import LocalContext
from engine.batch import Batch, Duration, OffsetRange, Time, TopicPartition
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
