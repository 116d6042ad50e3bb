"""The handle that users chain: each operation adds a node to the graph and returns a handle on it.

The names and their meaning are PySpark's. A pair operation asks for a stream of (key, value). Here is what any stream can do; the
operations on pairs, over windows, with state and to the outside are in the modules beside.

Owns: DStream.
Never: a computation; the nodes do that.
"""

import operator
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from engine.batch import Duration, Time
from engine.dstream.handle import in_milliseconds, spread
from engine.dstream.nodes import Node
from engine.dstream.outputs import OutputOperations
from engine.dstream.pairs import PairOperations
from engine.dstream.signatures import an_rdd, refuse_uncallable, with_time
from engine.dstream.stateful import StatefulOperations
from engine.dstream.windows import WindowOperations
from engine.errors import ConfigurationError, LifecycleError
from engine.rdd.api import RDD, T, U
from engine.storage import StorageLevel


class DStream(PairOperations[T], WindowOperations[T], StatefulOperations[T], OutputOperations[T]):
    """A stream of batches: one RDD at each multiple of its slide.

    Source: `pyspark.streaming.DStream`; Zaharia and others, Discretized Streams, SOSP 2013.
    """

    def _stream(self, node: Node) -> "DStream[Any]":
        return DStream(node)

    def context(self) -> Any:
        """The StreamingContext that the stream belongs to.

        Elements: none; the stream stays as it is.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.context().union(s, s), [[1]])
            [[1, 1]]

        Source: `pyspark.streaming.DStream.context`.
        """
        return self._scope.owner

    @property
    def slideDuration(self) -> float:
        """How often the stream has an RDD, seconds.

        Elements: none; the stream stays as it is.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: print(s.window(4, 2).slideDuration) or s, [[1]])
            2.0
            [[1]]

        Source: `DStream.slideDuration` of Scala; all durations of a public signature are seconds here.
        """
        return self.node.slide / 1_000

    # One element at a time.

    def map(
        self, f: Callable[[T], U], preservesPartitioning: bool = False, *, onError: str = "stop"
    ) -> "DStream[U]":
        """The function of each element.

        Elements: DStream[T] -> DStream[U], order kept.
        Replay: `f` runs again with its batch and must give the same.

        Args:
            f: the function.
            preservesPartitioning: whether equal keys stay together.
            onError: "stop" fails the batch when `f` raises; "dead-letter" puts the record aside, with its offset, its bytes and what was
                raised, and the others go on. It is put aside whole, in this stream: none of its elements goes on here, and other
                streams of the input may count it. That is for streams between a direct stream and the first operator other than map,
                flatMap, filter, mapValues and flatMapValues, and costs them a generator for each such operator.

        Raises:
            ConfigurationError: the records' offsets are not known here.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.map(lambda n: n + 1), [[1, 2], [3]])
            [[2, 3], [4]]
        """
        return self._stepped("map", f, lambda rdd: rdd.map(f, preservesPartitioning), onError)

    def flatMap(
        self, f: Callable[[T], Iterable[U]], preservesPartitioning: bool = False, *, onError: str = "stop"
    ) -> "DStream[U]":
        """All elements of the function of each element.

        Elements: DStream[T] -> DStream[U], order kept.
        Replay: `f` runs again with its batch and must give the same.

        Args:
            f: the function.
            preservesPartitioning: whether equal keys stay together.
            onError: as of `map`.

        Raises:
            ConfigurationError: the records' offsets are not known here.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.flatMap(str.split), [["a b", "c"]])
            [['a', 'b', 'c']]
        """
        return self._stepped("flatMap", f, lambda rdd: rdd.flatMap(f, preservesPartitioning), onError)

    def filter(self, f: Callable[[T], bool], *, onError: str = "stop") -> "DStream[T]":
        """The elements for which the function is true.

        Elements: DStream[T] -> DStream[T], order and partitioning kept.
        Replay: `f` runs again with its batch and must give the same.

        Args:
            f: the function.
            onError: as of `map`.

        Raises:
            ConfigurationError: the records' offsets are not known here.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.filter(lambda n: n > 1), [[1, 2], [3]])
            [[2], [3]]
        """
        return self._stepped("filter", f, lambda rdd: rdd.filter(f), onError)

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
        refuse_uncallable("mapPartitions", f)
        return self._transformed("mapPartitions", lambda _, rdd: rdd.mapPartitions(f, preservesPartitioning))

    def mapPartitionsWithIndex(
        self, f: Callable[[int, Iterator[T]], Iterable[U]], preservesPartitioning: bool = False
    ) -> "DStream[U]":
        """The function of each partition's index and the partition.

        Elements: DStream[T] -> DStream[U]; `f` gets an index from 0 and an iterator, which it may read once.
        Replay: `f` runs again with its batch and must give the same; the index of an element is then the same too.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.repartition(1).mapPartitionsWithIndex(lambda i, part: [(i, sum(part))]), [[1, 2]])
            [[(0, 3)]]

        Source: `pyspark.streaming.DStream.mapPartitionsWithIndex`.
        """
        refuse_uncallable("mapPartitionsWithIndex", f)
        return self._transformed(
            "mapPartitionsWithIndex", lambda _, rdd: rdd.mapPartitionsWithIndex(f, preservesPartitioning)
        )

    def glom(self) -> "DStream[list[T]]":
        """Each partition as one list.

        Elements: DStream[T] -> DStream[list[T]], one a partition.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.glom(), [[1, 2]])
            [[[1, 2]]]
        """
        return self._transformed("glom", lambda _, rdd: rdd.glom())

    def repartition(self, numPartitions: int) -> "DStream[T]":
        """The elements in so many partitions, about as many in each.

        Elements: DStream[T] -> DStream[T], no order.

        Args:
            numPartitions: at least 1.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.repartition(3).glom().count(), [[1, 2, 3, 4], []])
            [[3], [3]]

        Source: `pyspark.streaming.DStream.repartition`.
        """
        (count, *_) = spread(numPartitions)
        return self._transformed("repartition", lambda _, rdd: rdd.repartition(count))

    # Whole RDDs.

    def transform(self, func: Callable[..., RDD[U]], *, name: str | None = None) -> "DStream[U]":
        """A function of each batch's RDD; `func` takes (rdd) or (time, rdd) and runs in the driver.

        Elements: DStream[T] -> DStream[U].
        Replay: `func` runs again with its batch; what it reads outside of the RDD is not replayed.

        Difference: a function that gives None fails the batch, as in Scala, where PySpark's gives nothing in
            silence; partials, methods and defaults are counted as a caller sees them.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.transform(lambda rdd: rdd.filter(lambda n: n > 1)), [[1, 2]])
            [[2]]
        """
        function = with_time(func, "transform")

        def checked(time: Time, rdd: RDD[Any]) -> RDD[Any]:
            return an_rdd("transform", function(time, rdd))

        return self._transformed(name or "transform", checked)

    def transformWith(
        self,
        func: Callable[..., RDD[U]],
        other: "DStream[Any]",
        keepSerializer: bool = False,  # noqa: ARG002 - PySpark's signature
    ) -> "DStream[U]":
        """A function of this stream's RDD and the other's; `func` takes (rdd, rdd) or (time, rdd, rdd) and runs in the driver.

        Elements: DStream[T] x DStream[V] -> DStream[U].
        Replay: `func` runs again with its batch; what it reads outside of the RDDs is not replayed.

        Args:
            func: the function.
            other: of the same context and slide.
            keepSerializer: accepted; elements are serialised in one way.

        Raises:
            ConfigurationError: the streams have different slide durations (Scala's rule; PySpark does not check).

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.transformWith(lambda mine, theirs: theirs.union(mine), s.map(str)), [[1]])
            [['1', 1]]

        Source: `pyspark.streaming.DStream.transformWith`. Difference: streams of other slides are refused, as in Scala, where
            PySpark does not look.
        """
        function = with_time(func, "transformWith", 2)
        return self._transformed(
            "transformWith",
            lambda time, mine, theirs: an_rdd("transformWith", function(time, mine, theirs)),
            [other],
        )

    def union(self, other: "DStream[T]") -> "DStream[T]":
        """The elements of both streams, this one's first.

        Elements: DStream[T] x DStream[T] -> DStream[T].

        Raises:
            ConfigurationError: the two DStream should have same slide duration.

        Difference: a stream of another context is refused by name.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.union(s.map(lambda n: -n)), [[1, 2]])
            [[1, 2, -1, -2]]
        """
        self._check_other("union", other)
        slides = sorted({int(self.node.slide), int(other.node.slide)})
        if len(slides) > 1:
            raise ConfigurationError(
                "union: the two DStream should have same slide duration; they have different slide durations "
                f"{slides} ms, so window them to one slide"
            )
        return self._transformed("union", lambda _, *rdds: self._scope.context.union(rdds), [other])

    def slice(self, begin: datetime | float, end: datetime | float) -> list[RDD[T]]:
        """The RDDs of the batches from `begin` to `end`, both included, oldest first.

        Elements: DStream[T] -> a list of RDDs, one for each batch that is remembered.
        Time: both ends are moved back to the stream's slide, counted from the first start. Remembered are the newest batch, and
            those within `StreamingContext.remember` and the longest window. What lies behind them, before the start
            or after the newest batch gives nothing: no batch is ever computed ahead. A stream with state gives the batch that
            runs, and no older one.

        Args:
            begin: a datetime, naive ones in local time, or seconds since the epoch; parts of a second count.
            end: likewise.

        Raises:
            LifecycleError: the context was not started.
            ConfigurationError: `begin` is after `end`.

        Not guaranteed: jobs of the RDDs while a batch runs in another thread; call it in a function of the driver, or between
            batches.

        Example:
            >>> from engine.testing import run_batches
            >>> def lookBack(stream):
            ...     stream.context().remember(2)
            ...     return stream.transform(lambda time, rdd: rdd.context.union(stream.slice(time.timestamp() - 1, time)))
            >>> run_batches(lookBack, [[1], [2], [3]])
            [[1], [1, 2], [2, 3]]

        Source: `pyspark.streaming.DStream.slice`. Difference: PySpark drops parts of a second, and computes future batches, which
            takes their elements from the source.
        """
        if not self._scope.is_fixed:
            raise LifecycleError(
                f"{self.node.name!r} has not been initialized; start the context before slice()"
            )
        first, last = (self._floored(in_milliseconds(moment)) for moment in (begin, end))
        if first > last:
            raise ConfigurationError(f"slice: begin {begin} is after end {end}; give the earlier one first")
        return self.node.remembered(first, last)

    def _floored(self, time: Time) -> Time:
        zero = self._scope.zero_time
        return zero.plus(Time(time - zero).floor(self.node.slide))

    # Counts and reductions of a batch.

    def count(self) -> "DStream[int]":
        """The number of elements of each batch.

        Elements: DStream[T] -> DStream[int], one a batch; 0 for an empty one.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.count(), [[1, 2], []])
            [[2], [0]]
        """
        return self._counted("count").reduce(operator.add)

    def countByValue(self, numPartitions: Any = None) -> "DStream[tuple[T, int]]":
        """How often each element occurs in each batch.

        Elements: DStream[T] -> DStream[tuple[T, int]], one a distinct element, no order.

        Args:
            numPartitions: of the result, a number or a partitioner object; the application's shards when not given.

        Difference: takes numPartitions, as Scala; without it there are as many partitions as shards.

        Example:
            >>> from engine.testing import run_batches
            >>> [sorted(batch) for batch in run_batches(lambda s: s.countByValue(), [["a", "b", "a"]])]
            [[('a', 2), ('b', 1)]]
        """
        return self.map(_with_one).reduceByKey(operator.add, numPartitions)

    def reduce(self, func: Callable[[T, T], T]) -> "DStream[T]":
        """The elements of each batch reduced to one.

        Elements: DStream[T] -> DStream[T], one a batch, none for an empty one.
        Replay: `func` must be associative and deterministic.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.reduce(lambda x, y: x + y), [[1, 2], []])
            [[3], []]
        """
        refuse_uncallable("reduce", func)
        return self.map(_without_key).reduceByKey(func, 1).map(_value)

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
        return self.persist(StorageLevel.MEMORY_ONLY)

    def persist(self, storageLevel: Any = StorageLevel.MEMORY_ONLY) -> "DStream[T]":
        """Keep the stream's elements for every output and window of the batch, where the level says.

        Elements: DStream[T] -> DStream[T], the same stream.
        Each reader gets elements that no other has changed.

        Args:
            storageLevel: a `StorageLevel`, ours or PySpark's; NONE keeps nothing. On our executors elements that could be changed
                in place are kept serialised whatever the level, so MEMORY_ONLY_SER costs no more than MEMORY_ONLY and
                means the same for them; there is one machine, so the copies of a level that ends in _2 are one.

        Raises:
            LifecycleError: the context was started.
            ConfigurationError: it is no level.

        Example:
            >>> from engine.testing import run_batches
            >>> from engine.storage import StorageLevel
            >>> run_batches(lambda s: s.persist(StorageLevel.MEMORY_ONLY_SER).union(s), [[1]])
            [[1, 1]]

        Source: `pyspark.streaming.DStream.persist`.
        """
        if self._scope.is_fixed:
            raise LifecycleError(
                "Cannot change storage level of a DStream after streaming context has started; "
                f"call persist or cache on {self.node.name!r} before start()"
            )
        fields: list[Any] = [getattr(storageLevel, name, None) for name in _LEVEL_FIELDS]
        if None in fields:
            raise ConfigurationError(
                f"persist: the storage level is {storageLevel!r:.60}; give one such as StorageLevel.MEMORY_ONLY"
            )
        level = StorageLevel(*fields)
        self.node.storage_level = level if level.useMemory or level.useDisk else None
        return self

    def checkpoint(self, interval: float) -> "DStream[T]":
        """Accepted for ports: every batch's state is durable in the journal, and snapshots follow the size of the deltas.

        Elements: DStream[T] -> DStream[T], the same stream.

        Args:
            interval: seconds; at least the stream's slide and a multiple of it, as in Spark.

        Raises:
            LifecycleError: the context was started.
            ConfigurationError: it is not a multiple.

        Difference: it has no effect: no interval is needed to bound what a restart computes again.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.checkpoint(10), [[1]])
            [[1]]
        """
        if self._scope.is_fixed:
            raise LifecycleError(
                "Cannot change checkpoint interval of a DStream after streaming context has started; "
                f"call checkpoint on {self.node.name!r} before start()"
            )
        given = Duration.seconds(interval, "checkpoint interval")
        if not given.is_multiple_of(self.node.slide) or given <= 0:
            raise ConfigurationError(
                f"checkpoint interval {interval} s is not a multiple of the slide duration {int(self.node.slide)} ms; "
                "give a whole number of slides"
            )
        return self


_LEVEL_FIELDS = ("useDisk", "useMemory", "useOffHeap", "deserialized", "replication")


def _with_one(element: T) -> tuple[T, int]:
    return (element, 1)


def _without_key(element: T) -> tuple[None, T]:
    return (None, element)


def _value(pair: tuple[Any, T]) -> T:
    return pair[1]
