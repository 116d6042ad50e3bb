"""A stream from a list of batches in memory, for tests and examples.

Owns: QueueInputDStream.
Never: durability; a queue is gone with its process.
"""

from collections.abc import Iterable, MutableSequence, Sequence
from typing import Any

from engine.batch import Batch, OffsetRange, Time
from engine.dstream.nodes import BatchScope, InputDStream
from engine.rdd.api import RDD

QUEUE = "queue"


class QueueInputDStream(InputDStream):
    """One item of a list a batch, each a list of elements or an RDD; items appended later are seen.

    Not guaranteed: a restart after a crash; the list must then hold the same items again.
    """

    def __init__(
        self, scope: BatchScope, queue: MutableSequence[Any], *, one_at_a_time: bool, default: Any | None
    ) -> None:
        super().__init__(scope, [], scope.batch_duration, QUEUE)
        self._queue = queue
        self._one_at_a_time = one_at_a_time
        self._default = default
        self._next = 0

    def resume(self, ranges: Sequence[OffsetRange]) -> None:
        """Go on after these ranges."""
        self._next = max((part.untilOffset for part in ranges), default=0)

    def plan(self, time: Time) -> tuple[OffsetRange, ...]:  # noqa: ARG002  a queue has no time
        """The next item, or all that wait."""
        waiting = len(self._queue) - self._next
        count = min(1, waiting) if self._one_at_a_time else waiting
        return (OffsetRange(self.name, 0, self._next, self._next + count),)

    def range_rdd(self, batch: Batch, ranges: Sequence[OffsetRange]) -> RDD[Any]:  # noqa: ARG002  items do not depend on it
        """The elements of the items."""
        items = [self._queue[index] for part in ranges for index in range(part.fromOffset, part.untilOffset)]
        if not items:
            items = [] if self._default is None else [self._default]
        return self.scope.context.union([self._rdd(item) for item in items])

    def _rdd(self, item: RDD[Any] | Iterable[Any]) -> RDD[Any]:
        return self.scope.context.parallelize(item) if isinstance(item, list | tuple | range) else item  # type: ignore[return-value]

    def committed(self, batch: Batch) -> None:
        """Go on after the batch."""
        self.resume(batch.ranges.get(self.name, ()))
