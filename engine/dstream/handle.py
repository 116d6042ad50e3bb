"""What every group of a stream's operations stands on: its node, and the making of the next stream.

Owns: Handle, Spread, spread, spread_pairs, in_milliseconds.
Never: an operation.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic

from engine.batch import Duration, Time
from engine.dstream.aside import AsideDStream, puts_aside
from engine.dstream.nodes import BatchScope, Node, TransformedDStream
from engine.dstream.signatures import refuse_uncallable
from engine.errors import ConfigurationError
from engine.rdd.api import RDD, T
from engine.rdd.driver import DriverOnly

if TYPE_CHECKING:
    # Only for annotations: the handle is made of this class.
    from engine.dstream.dstream import DStream

Spread = tuple[int] | tuple[int, Callable[[Any], int]]
"""How a wide operator spreads keys: (number of partitions), or that and the user's function of a key."""


class Handle(DriverOnly, ABC, Generic[T]):
    """A node of the graph, as its user holds it; `DStream` is one, put together from groups of operations."""

    def __init__(self, node: Node) -> None:
        self.node = node

    @property
    def _scope(self) -> BatchScope:
        return self.node.scope

    @abstractmethod
    def _stream(self, node: Node) -> "DStream[Any]":
        """The handle on another node."""

    def _transformed(
        self,
        label: str,
        function: Callable[..., RDD[Any]],
        others: Sequence["Handle[Any]"] = (),
    ) -> "DStream[Any]":
        for other in others:
            self._check_other(label, other)
        nodes = [self.node, *(other.node for other in others)]
        return self._stream(
            TransformedDStream(self._scope, nodes, lambda time, rdds: function(time, *rdds), label)
        )

    def _stepped(
        self,
        kind: str,
        f: Callable[..., Any],
        transform: Callable[[RDD[Any]], RDD[Any]],
        on_error: str = "stop",
    ) -> "DStream[Any]":
        """An operator that takes elements one by one."""
        refuse_uncallable(kind, f)
        if puts_aside(kind, on_error):
            return self._stream(AsideDStream(self._scope, self.node, kind, f))
        made = TransformedDStream(self._scope, [self.node], lambda _, rdds: transform(*rdds), kind)
        made.step = (kind, f)
        return self._stream(made)

    def _check_other(self, label: str, other: object) -> None:
        if not isinstance(other, Handle):
            raise ConfigurationError(
                f"{label}: the other stream is {other!r:.60}; give a DStream of the same context"
            )
        if other._scope is not self._scope:  # noqa: SLF001 - its own class
            raise ConfigurationError(
                f"{label}: Some of the DStreams have different contexts; make {other.node.name!r} with the context of {self.node.name!r}"
            )

    def _spread(self, given: Any) -> Callable[[], Spread]:
        # The number of shards, and not of executors: it is fixed at the first start, so results do not move with N.
        if given is None:
            return lambda: (self._scope.shards,)
        fixed = spread(given)
        return lambda: fixed

    def _counted(self, label: str) -> "DStream[int]":
        context = self._scope.context

        def with_zero(_: Time, rdd: RDD[Any]) -> RDD[Any]:
            return context.union([rdd.mapPartitions(_count), context.parallelize([0], 1)])

        return self._transformed(label, with_zero)

    def _durations(self, window: float, slide: float | None) -> tuple[Duration, Duration]:
        parent = self.node.slide
        length = Duration.seconds(window, "windowDuration")
        step = parent if slide is None else Duration.seconds(slide, "slideDuration")
        for label, duration in (("windowDuration", length), ("slideDuration", step)):
            if duration <= 0 or not duration.is_multiple_of(parent):
                raise ConfigurationError(
                    f"{label} must be multiple of the parent dstream's slide (batch) duration ({int(parent)} ms) and "
                    f"greater than 0; it is {int(duration)} ms"
                )
        return length, step


def spread(given: Any) -> Spread:
    """A number of partitions, or a partitioner object, as what PySpark's RDD methods take.

    A partitioner has `numPartitions`, and a `partitionFunc` (PySpark's) or a `getPartition` (Scala's) of a key; with neither keys
    are spread by their hash.

    Raises:
        ConfigurationError: it is neither, or less than 1.

    Example:
        >>> spread(3)
        (3,)
    """
    count = getattr(given, "numPartitions", given)
    if not isinstance(count, int) or isinstance(count, bool):
        raise ConfigurationError(
            f"numPartitions is {given!r:.60}; give a number of at least 1, or an object with numPartitions and partitionFunc"
        )
    if count < 1:
        raise ConfigurationError(f"numPartitions is {count}; give a number of at least 1")
    function = getattr(given, "partitionFunc", None) or getattr(given, "getPartition", None)
    return (count,) if function is None else (count, function)


def _count(elements: Iterator[Any]) -> Iterable[int]:
    return [sum(1 for _ in elements)]


def spread_pairs(rdd: RDD[Any], how: Spread) -> RDD[Any]:
    """The pairs of a join where the user's partitioner wants them; without one they lie well as they are."""
    return rdd if len(how) == 1 else rdd.partitionBy(*how)


def in_milliseconds(moment: Any) -> Time:
    """A datetime, naive ones in local time, or seconds since the epoch as a time; parts of a second count.

    Example:
        >>> in_milliseconds(1.5)
        Time(1500)
    """
    seconds = moment.timestamp() if hasattr(moment, "timestamp") else moment
    return Time(round(seconds * 1_000))
