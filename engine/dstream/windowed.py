"""The two kinds of node that look back over several batches.

Owns: WindowedDStream, ReducedWindowedDStream.
Never: I/O, a clock, a thread.
"""

from collections.abc import Callable
from types import GenericAlias
from typing import Any

from engine.batch import Duration, Interval, Time
from engine.checkpoint.codec import StateCodec
from engine.dstream.nodes import BatchScope, Node, StatefulNode
from engine.dstream.state import PutPart, ReadParts, Reduce, ReduceWindow, Tagged
from engine.rdd.api import RDD


class WindowedDStream(StatefulNode):
    """The parent's elements over the batches with a time in (t - length, t].

    Where the parent can be computed again the window keeps ranges and reads them again; where state stands before it, each batch's
    elements are kept as state.
    """

    def __init__(
        self, scope: BatchScope, parent: Node, length: Duration, slide: Duration, name: str | None
    ) -> None:
        self.is_stateful = parent.has_state_upstream()
        self._length = length
        super().__init__(scope, parent, slide, f"window[{int(length)},{int(slide)}]", name, (int, None))
        self._put = PutPart(self.codec, length + slide, pairs=False)
        self._read = ReadParts(self.codec, length)
        self._tag = Tagged()

    @property
    def reach(self) -> Duration:
        """The window's length."""
        return self._length

    def advance(self, time: Time) -> None:
        """Keep the parent's elements of this batch."""
        parent = self.parents[0].rdd(time)
        if parent is not None:
            self._advance_with(self.scope.access.spread(parent.mapPartitionsWithIndex(self._tag)), self._put)

    def compute(self, time: Time) -> RDD[Any] | None:
        """The union of the window's batches."""
        if self.is_stateful:
            self.advance_once(time)
            return self._read_with(self._read)
        batches = self.scope.batches_in(Interval(time.plus(-self._length), time))
        rdds = [self.parents[0].rdd(batch.time) for batch in batches]
        return self.scope.context.union([rdd for rdd in rdds if rdd is not None])


class ReducedWindowedDStream(StatefulNode):
    """The parent reduced by key over the batches with a time in (t - length, t]."""

    def __init__(
        self,
        scope: BatchScope,
        parent: Node,
        functions: tuple[Reduce, Reduce | None, Callable[[tuple[Any, Any]], bool] | None],
        durations: tuple[Duration, Duration],
        name: str | None,
        types: tuple[Any, Any],
        spread: tuple[Any, ...] | None = None,
    ) -> None:
        length, slide = durations
        key_type, value_type = types
        is_typed = key_type is not None and value_type is not None
        part_type = GenericAlias(dict, (key_type, value_type)) if is_typed else None
        label = f"reduceByKeyAndWindow[{int(length)},{int(slide)}]"
        super().__init__(scope, parent, slide, label, name, (int, part_type))
        self._reduce = functions[0]
        self._spread = spread
        self.needs_checkpoint = functions[1] is not None
        self._put = PutPart(self.codec, length + slide, pairs=True)
        values = StateCodec(self.name, *(types if is_typed else (None, None)))
        self._read = ReduceWindow(self.codec, values, length, slide, functions)

    def advance(self, time: Time) -> None:
        """Keep the batch's reduced values."""
        parent = self.parents[0].rdd(time)
        if parent is not None:
            self._advance_with(self.scope.access.reduced(parent, self._reduce), self._put)

    def compute(self, time: Time) -> RDD[Any] | None:
        """Each key of the window with its reduced value."""
        self.advance_once(time)
        reduced = self._read_with(self._read)
        return reduced if self._spread is None else reduced.partitionBy(*self._spread)
