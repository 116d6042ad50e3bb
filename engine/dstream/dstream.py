"""The handle that users chain: each operation adds a node to the graph and returns a handle on it.

The names and their meaning are PySpark's. A pair operation asks for a stream of (key, value).

Owns: DStream.
Never: a computation; the nodes do that.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Generic, cast

from engine.batch import Duration, Time
from engine.dstream.nodes import (
    BatchScope,
    ForEachDStream,
    Node,
    ReducedWindowedDStream,
    StateDStream,
    TransformedDStream,
    WindowedDStream,
)
from engine.dstream.signatures import WithoutTime, positional_arguments, with_time
from engine.dstream.state import Update
from engine.errors import ConfigurationError
from engine.rdd.api import RDD, T, U


class DStream(Generic[T]):
    """A stream of batches: one RDD at each multiple of its slide.

    Source: `pyspark.streaming.DStream`; Zaharia and others, Discretized Streams, SOSP 2013.
    """

    def __init__(self, node: Node) -> None:
        self.node = node

    @property
    def _scope(self) -> BatchScope:
        return self.node.scope

    def _transformed(
        self,
        label: str,
        function: Callable[..., RDD[Any]],
        others: Sequence["DStream[Any]"] = (),
    ) -> "DStream[Any]":
        nodes = [self.node, *(other.node for other in others)]
        return DStream(
            TransformedDStream(self._scope, nodes, lambda time, rdds: function(time, *rdds), label)
        )

    # One element at a time.

    def map(self, f: Callable[[T], U], preservesPartitioning: bool = False) -> "DStream[U]":
        """The function of each element.

        Elements: DStream[T] -> DStream[U], order kept.
        Replay: `f` runs again with its batch and must give the same.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.map(lambda n: n + 1), [[1, 2], [3]])
            [[2, 3], [4]]
        """
        return self._transformed("map", lambda _, rdd: rdd.map(f, preservesPartitioning))

    def flatMap(self, f: Callable[[T], Iterable[U]], preservesPartitioning: bool = False) -> "DStream[U]":
        """All elements of the function of each element.

        Elements: DStream[T] -> DStream[U], order kept.
        Replay: `f` runs again with its batch and must give the same.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.flatMap(str.split), [["a b", "c"]])
            [['a', 'b', 'c']]
        """
        return self._transformed("flatMap", lambda _, rdd: rdd.flatMap(f, preservesPartitioning))

    def filter(self, f: Callable[[T], bool]) -> "DStream[T]":
        """The elements for which the function is true.

        Elements: DStream[T] -> DStream[T], order and partitioning kept.
        Replay: `f` runs again with its batch and must give the same.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.filter(lambda n: n > 1), [[1, 2], [3]])
            [[2], [3]]
        """
        return self._transformed("filter", lambda _, rdd: rdd.filter(f))

    # One partition at a time.

    def mapPartitions(
        self, f: Callable[[Iterator[T]], Iterable[U]], preservesPartitioning: bool = False
    ) -> "DStream[U]":
        """The function of each whole partition.

        Elements: DStream[T] -> DStream[U]; `f` gets an iterator and may read it once.
        Replay: `f` runs again with its batch and must give the same.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.mapPartitions(lambda part: [sum(part)]), [[1, 2], [3]])
            [[3], [3]]
        """
        return self._transformed("mapPartitions", lambda _, rdd: rdd.mapPartitions(f, preservesPartitioning))

    def glom(self) -> "DStream[list[T]]":
        """Each partition as one list.

        Elements: DStream[T] -> DStream[list[T]], one a partition.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.glom(), [[1, 2]])
            [[[1, 2]]]
        """
        return self._transformed("glom", lambda _, rdd: rdd.glom())

    # Whole RDDs.

    def transform(self, func: Callable[..., RDD[U]], *, name: str | None = None) -> "DStream[U]":
        """A function of each batch's RDD; `func` takes (rdd) or (time, rdd) and runs in the driver.

        Elements: DStream[T] -> DStream[U].
        Replay: `func` runs again with its batch; what it reads outside of the RDD is not replayed.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.transform(lambda rdd: rdd.filter(lambda n: n > 1)), [[1, 2]])
            [[2]]
        """
        function = with_time(func, "transform")

        def checked(time: Time, rdd: RDD[Any]) -> RDD[Any]:
            made = function(time, rdd)
            if made is None:
                raise ConfigurationError(
                    "transform: the function returned None; return sc.emptyRDD() for nothing"
                )
            return made

        return self._transformed(name or "transform", checked)

    def union(self, other: "DStream[T]") -> "DStream[T]":
        """The elements of both streams, this one's first.

        Elements: DStream[T] x DStream[T] -> DStream[T].

        Raises:
            ConfigurationError: the two DStream should have same slide duration.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.union(s.map(lambda n: -n)), [[1, 2]])
            [[1, 2, -1, -2]]
        """
        return self._transformed("union", lambda _, *rdds: self._scope.context.union(rdds), [other])

    def foreachRDD(self, func: Callable[..., object], *, name: str | None = None) -> None:
        """An output: call the function with each batch's RDD; `func` takes (rdd) or (time, rdd) and runs in the driver.

        Elements: DStream[T] -> nothing; what `func` returns is ignored.
        Replay: a batch that was cut off calls it again: its effect must be safe to repeat.

        Example:
            >>> from engine.testing import run_batches
            >>> seen = []
            >>> def keep(stream):
            ...     stream.foreachRDD(lambda rdd: seen.append(rdd.count()))
            ...     return stream
            >>> _ = run_batches(keep, [[1, 2], [3]])
            >>> seen
            [2, 1]
        """
        ForEachDStream(self._scope, self.node, with_time(func, "foreachRDD"), "foreachRDD", name)

    def pprint(self, num: int = 10) -> None:
        """An output: print the first elements of each batch, in PySpark's format.

        Elements: DStream[T] -> lines of text; empty batches print their time too.

        Args:
            num: number of elements.

        Example:
            >>> from engine.testing import run_batches
            >>> from engine.batch import Time
            >>> _ = run_batches(lambda s: s.pprint() or s, [[1, 2]])  # doctest: +ELLIPSIS
            -------------------------------------------
            Time: ...
            -------------------------------------------
            1
            2
            <BLANKLINE>
        """

        def show(time: datetime, rdd: RDD[Any]) -> None:
            taken = rdd.take(num + 1)
            lines = ["-" * 43, f"Time: {time}", "-" * 43, *map(str, taken[:num])]
            print("\n".join([*lines, *(["..."] if len(taken) > num else []), ""]))  # noqa: T201  printing is its purpose

        self.foreachRDD(show, name=None)

    # Counts and reductions of a batch.

    def count(self) -> "DStream[int]":
        """The number of elements of each batch.

        Elements: DStream[T] -> DStream[int], one a batch; 0 for an empty one.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.count(), [[1, 2], []])
            [[2], [0]]
        """
        context = self._scope.context

        def with_zero(_: Time, rdd: RDD[Any]) -> RDD[Any]:
            return context.union([rdd.mapPartitions(_count), context.parallelize([0], 1)])

        return self._transformed("count", with_zero).reduce(operator.add)

    def countByValue(self) -> "DStream[tuple[T, int]]":
        """How often each element occurs in each batch.

        Elements: DStream[T] -> DStream[tuple[T, int]], one a distinct element, no order.

        Example:
            >>> from engine.testing import run_batches
            >>> [sorted(batch) for batch in run_batches(lambda s: s.countByValue(), [["a", "b", "a"]])]
            [[('a', 2), ('b', 1)]]
        """
        return self.map(_with_one).reduceByKey(operator.add)

    def reduce(self, func: Callable[[T, T], T]) -> "DStream[T]":
        """The elements of each batch reduced to one.

        Elements: DStream[T] -> DStream[T], one a batch, none for an empty one.
        Replay: `func` must be associative and deterministic.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.reduce(lambda x, y: x + y), [[1, 2], []])
            [[3], []]
        """
        return self.map(_without_key).reduceByKey(func, 1).map(_value)

    # Pairs.

    def mapValues(self, f: Callable[[Any], U]) -> "DStream[tuple[Any, U]]":
        """The pairs with the function of each value.

        Elements: DStream[tuple[K, V]] -> DStream[tuple[K, U]], order and partitioning kept.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.mapValues(lambda n: n + 1), [[("a", 1)]])
            [[('a', 2)]]
        """
        return self._transformed("mapValues", lambda _, rdd: rdd.mapValues(f))

    def flatMapValues(self, f: Callable[[Any], Iterable[U]]) -> "DStream[tuple[Any, U]]":
        """A pair for each element of the function of each value.

        Elements: DStream[tuple[K, V]] -> DStream[tuple[K, U]], order and partitioning kept.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.flatMapValues(range), [[("a", 2)]])
            [[('a', 0), ('a', 1)]]
        """
        return self._transformed("flatMapValues", lambda _, rdd: rdd.flatMapValues(f))

    def reduceByKey(
        self, func: Callable[[Any, Any], Any], numPartitions: int | None = None
    ) -> "DStream[tuple[Any, Any]]":
        """One pair a key of each batch with its values reduced; values reduce before anything is exchanged.

        Elements: DStream[tuple[K, V]] -> DStream[tuple[K, V]], no order.
        Replay: `func` must be associative and deterministic.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.reduceByKey(lambda x, y: x + y), [[("a", 1), ("a", 2)]])
            [[('a', 3)]]
        """
        count = self._partitions(numPartitions)
        return self._transformed("reduceByKey", lambda _, rdd: rdd.reduceByKey(func, count()))

    def groupByKey(self, numPartitions: int | None = None) -> "DStream[tuple[Any, list[Any]]]":
        """One pair a key of each batch with the list of its values, in the order of the source partitions.

        Elements: DStream[tuple[K, V]] -> DStream[tuple[K, list[V]]], no order of keys.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.groupByKey(), [[("a", 1), ("a", 2)]])
            [[('a', [1, 2])]]
        """
        count = self._partitions(numPartitions)
        return self._transformed("groupByKey", lambda _, rdd: rdd.groupByKey(count()))

    def join(
        self, other: "DStream[Any]", numPartitions: int | None = None
    ) -> "DStream[tuple[Any, tuple[Any, Any]]]":
        """A pair (key, (left, right)) for each two pairs of one key in the same batch.

        Elements: DStream[tuple[K, V]] x DStream[tuple[K, W]] -> DStream[tuple[K, tuple[V, W]]], no order.

        Raises:
            ConfigurationError: the streams have different slide durations (Scala's rule; PySpark does not check).

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.join(s.mapValues(str)), [[("a", 1)]])
            [[('a', (1, '1'))]]
        """
        count = self._partitions(numPartitions)
        return self._transformed("join", lambda _, left, right: left.join(right, count()), [other])

    def _partitions(self, given: int | None) -> Callable[[], int]:
        # The number of shards, and not of executors: it is fixed at the first start, so results do not move with N.
        return lambda: self._scope.shards if given is None else given

    # Windows.

    def window(
        self, windowDuration: float, slideDuration: float | None = None, *, name: str | None = None
    ) -> "DStream[T]":
        """The elements of the last batches, every slide.

        Elements: DStream[T] -> DStream[T], the oldest batch first.
        Time: at t the batches with a time in (t - windowDuration, t]; t moves by slideDuration, the parent's slide when
            not given; both in seconds and multiples of the parent's slide. The first windows are partial.
        State: none where the parent can be computed again from its ranges; after a stateful operator, each batch's elements.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.window(3, 2), [[1], [2], [3], [4], [5]])
            [[1, 2], [2, 3, 4]]

        Source: `WindowedDStream`.
        """
        length, slide = self._durations(windowDuration, slideDuration)
        return DStream(WindowedDStream(self._scope, self.node, length, slide, name))

    def reduceByKeyAndWindow(
        self,
        func: Callable[[Any, Any], Any],
        invFunc: Callable[[Any, Any], Any] | None,
        windowDuration: float,
        slideDuration: float | None = None,
        numPartitions: int | None = None,  # noqa: ARG002 - PySpark's signature
        filterFunc: Callable[[tuple[Any, Any]], bool] | None = None,
        *,
        name: str | None = None,
        keyType: Any = None,
        valueType: Any = None,
    ) -> "DStream[tuple[Any, Any]]":
        """One pair a key of the last batches with its values reduced, every slide.

        Elements: DStream[tuple[K, V]] -> DStream[tuple[K, V]], no order. A key is there when a batch of the window has it.
        Time: at t the batches with a time in (t - windowDuration, t]; t moves by slideDuration; both in seconds and
            multiples of the parent's slide.
        State: the reduced values of each batch of the window and one slide more.

        Args:
            func: associative.
            invFunc: takes values out again, `invFunc(func(x, y), y) == x`; None reduces the whole window each time.
            windowDuration: seconds, length of the window.
            slideDuration: seconds; the parent's slide when not given.
            numPartitions: accepted; state has the application's number of shards.
            filterFunc: keeps a pair only if true, (key, value) -> bool.
            name: of the operator in the checkpoint; without one the lineage is its name, and may then not change.
            keyType: of a key, for the checkpoint; needed for other than plain values.
            valueType: of a value, likewise.
        Replay: `func` and `invFunc` must be deterministic.

        Example:
            >>> from engine.testing import run_batches
            >>> add, sub = (lambda x, y: x + y), (lambda x, y: x - y)
            >>> run_batches(lambda s: s.reduceByKeyAndWindow(add, sub, 2, 1), [[("a", 1)], [("a", 2)], [], []])
            [[('a', 1)], [('a', 3)], [('a', 2)], []]

        Source: `ReducedWindowedDStream`. Difference: PySpark uses the inverse only for windows of at least 5 slides and
            then keeps keys that are no longer in the window; here a key leaves with its last batch, always.
        """
        durations = self._durations(windowDuration, slideDuration)
        functions, types = (func, invFunc, filterFunc), (keyType, valueType)
        return DStream(ReducedWindowedDStream(self._scope, self.node, functions, durations, name, types))

    def _durations(self, window: float, slide: float | None) -> tuple[Duration, Duration]:
        parent = self.node.slide
        length, step = Duration.seconds(window), parent if slide is None else Duration.seconds(slide)
        for label, duration in (("windowDuration", length), ("slideDuration", step)):
            if duration <= 0 or not duration.is_multiple_of(parent):
                raise ConfigurationError(
                    f"{label} must be multiple of the parent dstream's slide (batch) duration ({int(parent)} ms) and "
                    f"greater than 0; it is {int(duration)} ms"
                )
        return length, step

    # State.

    def updateStateByKey(
        self,
        updateFunc: Callable[..., Any],
        numPartitions: int | None = None,  # noqa: ARG002 - PySpark's signature
        *,
        name: str | None = None,
        keyType: Any = None,
        stateType: Any = None,
    ) -> "DStream[tuple[Any, Any]]":
        """Every key with its state, updated by each batch.

        Elements: DStream[tuple[K, V]] -> DStream[tuple[K, S]], every known key in every batch, no order.
        State: one S a key; a key lives until the function returns None for it. The delta of a batch holds the states that changed.

        Args:
            updateFunc: (values, state) -> state or None; or Scala's (time, key, values, state) -> state or None, with the
                batch time as `engine.batch.Time`. Called for every known key in every batch, with [] for an idle one, and
                with None as the state of a new one. It may change the state in place.
            numPartitions: accepted; state has the application's number of shards.
            name: of the operator in the checkpoint; without one the lineage is its name, and may then not change.
            keyType: of a key, for the checkpoint; needed for other than plain values.
            stateType: of a state, likewise.
        Replay: `updateFunc` runs again over the same state and must give the same.

        Example:
            >>> from engine.testing import run_batches
            >>> total = lambda values, state: sum(values) + (state or 0)
            >>> run_batches(lambda s: s.updateStateByKey(total), [[("a", 1)], [("a", 2)], []])
            [[('a', 1)], [('a', 3)], [('a', 3)]]

        Source: `StateDStream`.
        """
        update = (
            cast("Update", updateFunc) if positional_arguments(updateFunc) == 4 else WithoutTime(updateFunc)
        )
        return DStream(StateDStream(self._scope, self.node, update, name, (keyType, stateType)))

    # Storage.

    def cache(self) -> "DStream[T]":
        """Keep the stream's elements in memory for every output and window of the batch.

        Elements: DStream[T] -> DStream[T], the same stream.
        Each reader gets elements that no other has changed.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.cache().union(s.cache()), [[1]])
            [[1, 1]]
        """
        self.node.is_cached = True
        return self

    def checkpoint(self, interval: float) -> "DStream[T]":
        """Accepted for ports: every batch's state is durable in the journal, and snapshots follow the size of the deltas.

        Elements: DStream[T] -> DStream[T], the same stream.

        Args:
            interval: seconds; must be a multiple of the stream's slide, as in Spark.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.checkpoint(10), [[1]])
            [[1]]
        """
        if not Duration.seconds(interval).is_multiple_of(self.node.slide) or interval <= 0:
            raise ConfigurationError(
                f"checkpoint interval {interval} s is not a multiple of the slide duration {int(self.node.slide)} ms; "
                "give a whole number of slides"
            )
        return self


def _count(elements: Iterator[Any]) -> Iterable[int]:
    return [sum(1 for _ in elements)]


def _with_one(element: T) -> tuple[T, int]:
    return (element, 1)


def _without_key(element: T) -> tuple[None, T]:
    return (None, element)


def _value(pair: tuple[Any, T]) -> T:
    return pair[1]
