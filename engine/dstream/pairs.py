"""Operations on a stream of pairs: each asks for elements (key, value).

Where an operation takes numPartitions it takes a partitioner object too: anything with `numPartitions` and, for a rule of its own,
`partitionFunc` or `getPartition` of a key. Without either the number is that of the application's shards, which is fixed at its
first start; so results do not move with the number of executors.

Owns: PairOperations.
Never: a computation; the nodes do that.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from engine.dstream.handle import Handle, spread_pairs
from engine.dstream.signatures import refuse_uncallable
from engine.rdd.api import T, U

if TYPE_CHECKING:
    # Only for annotations: the handle is made of this class.
    from engine.dstream.dstream import DStream


class PairOperations(Handle[T]):
    """What a stream of (key, value) can do beside what any stream can."""

    # One pair at a time.

    def mapValues(self, f: Callable[[Any], U], *, onError: str = "stop") -> "DStream[tuple[Any, U]]":
        """The pairs with the function of each value.

        Elements: DStream[tuple[K, V]] -> DStream[tuple[K, U]], order and partitioning kept.

        Args:
            f: the function.
            onError: as of `map`.

        Raises:
            ConfigurationError: the records' offsets are not known here.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.mapValues(lambda n: n + 1), [[("a", 1)]])
            [[('a', 2)]]

        Source: `pyspark.streaming.DStream.mapValues`.
        """
        return self._stepped("mapValues", f, lambda rdd: rdd.mapValues(f), onError)

    def flatMapValues(self, f: Callable[[Any], Iterable[U]]) -> "DStream[tuple[Any, U]]":
        """A pair for each element of the function of each value.

        Elements: DStream[tuple[K, V]] -> DStream[tuple[K, U]], order and partitioning kept.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.flatMapValues(range), [[("a", 2)]])
            [[('a', 0), ('a', 1)]]

        Source: `pyspark.streaming.DStream.flatMapValues`.
        """
        return self._stepped("flatMapValues", f, lambda rdd: rdd.flatMapValues(f))

    # By key.

    def partitionBy(
        self, numPartitions: Any, partitionFunc: Callable[[Any], int] | None = None
    ) -> "DStream[tuple[Any, Any]]":
        """The pairs, those of one key in one partition.

        Elements: DStream[tuple[K, V]] -> DStream[tuple[K, V]], order of the source partitions kept inside of each.

        Args:
            numPartitions: number of partitions, or a partitioner object.
            partitionFunc: the partition of a key, modulo numPartitions; its hash when not given.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.partitionBy(2, lambda key: key).glom(), [[(0, "a"), (1, "b"), (2, "c")]])
            [[[(0, 'a'), (2, 'c')], [(1, 'b')]]]

        Source: `pyspark.streaming.DStream.partitionBy`; its numbers of equal hash may differ from ours, its rule may not.
            Difference: a key may be put elsewhere than by PySpark's portable_hash; equal keys are together.
        """
        how = self._spread(numPartitions)
        own = () if partitionFunc is None else (partitionFunc,)
        return self._transformed(
            "partitionBy", lambda _, rdd: rdd.partitionBy(*(*how()[:1], *own) if own else how())
        )

    def reduceByKey(
        self, func: Callable[[Any, Any], Any], numPartitions: Any = None
    ) -> "DStream[tuple[Any, Any]]":
        """One pair a key of each batch with its values reduced; values reduce before anything is exchanged.

        Elements: DStream[tuple[K, V]] -> DStream[tuple[K, V]], no order.
        Replay: `func` must be associative and deterministic.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.reduceByKey(lambda x, y: x + y), [[("a", 1), ("a", 2)]])
            [[('a', 3)]]

        Source: `pyspark.streaming.DStream.reduceByKey`. Difference: without numPartitions there are as many partitions as shards,
            so that results do not move with the executors; PySpark has the default parallelism.
        """
        how = self._spread(numPartitions)
        refuse_uncallable("reduceByKey", func)
        return self._transformed("reduceByKey", lambda _, rdd: rdd.reduceByKey(func, *how()))

    def groupByKey(self, numPartitions: Any = None) -> "DStream[tuple[Any, list[Any]]]":
        """One pair a key of each batch with the list of its values, in the order of the source partitions.

        Elements: DStream[tuple[K, V]] -> DStream[tuple[K, list[V]]], no order of keys. Values that are more than memory holds
        stay on disk: they read as a list does but cannot be changed in place; sorted(values), list(values) give lists.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.groupByKey(), [[("a", 1), ("a", 2)]])
            [[('a', [1, 2])]]

        Source: `pyspark.streaming.DStream.groupByKey`. Difference: the values of a key are a list, where PySpark has a
            ResultIterable; without numPartitions there are as many partitions as shards, and PySpark has the default parallelism.
        """
        how = self._spread(numPartitions)
        return self._transformed(
            "groupByKey", lambda _, rdd: self._scope.access.listed(rdd.groupByKey(*how()))
        )

    def combineByKey(
        self,
        createCombiner: Callable[[Any], Any],
        mergeValue: Callable[[Any, Any], Any],
        mergeCombiners: Callable[[Any, Any], Any],
        numPartitions: Any = None,
        mapSideCombine: bool = True,  # noqa: ARG002 - Scala's signature
    ) -> "DStream[tuple[Any, Any]]":
        """One pair a key of each batch with its values combined into another type.

        Elements: DStream[tuple[K, V]] -> DStream[tuple[K, C]], no order.
        Replay: the three functions must be deterministic, and merging associative.

        Args:
            createCombiner: the combiner of the first value of a key.
            mergeValue: a combiner with one more value; it may change the combiner in place.
            mergeCombiners: two combiners as one, likewise.
            numPartitions: number of partitions, or a partitioner object; the application's shards when not given.
            mapSideCombine: accepted for ports from Scala; values always combine before they are exchanged, and results are equal.

        Example:
            >>> from engine.testing import run_batches
            >>> lists = (lambda n: [n], lambda known, n: known + [n], lambda x, y: x + y)
            >>> run_batches(lambda s: s.combineByKey(*lists), [[("a", 1), ("a", 2)]])
            [[('a', [1, 2])]]

        Source: `pyspark.streaming.DStream.combineByKey`, with the `mapSideCombine` of Scala's PairDStreamFunctions. Difference:
            without numPartitions there are as many partitions as shards, so that results do not move with the executors; PySpark
            has the default parallelism.
        """
        how = self._spread(numPartitions)
        functions = (createCombiner, mergeValue, mergeCombiners)
        refuse_uncallable("combineByKey", *functions)
        return self._transformed("combineByKey", lambda _, rdd: rdd.combineByKey(*functions, *how()))

    # Two streams.

    def join(
        self, other: "DStream[Any]", numPartitions: Any = None
    ) -> "DStream[tuple[Any, tuple[Any, Any]]]":
        """A pair (key, (left, right)) for each two pairs of one key in the same batch.

        Elements: DStream[tuple[K, V]] x DStream[tuple[K, W]] -> DStream[tuple[K, tuple[V, W]]], no order.

        Raises:
            ConfigurationError: the streams have different slide durations (Scala's rule; PySpark does not check).

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.join(s.mapValues(str)), [[("a", 1)]])
            [[('a', (1, '1'))]]

        Source: `pyspark.streaming.DStream.join`. Difference: streams of other slides are refused, as in Scala, where PySpark
            joins what it finds; without numPartitions there are as many partitions as shards, and PySpark has the default
            parallelism.
        """
        how = self._spread(numPartitions)
        return self._transformed(
            "join", lambda _, left, right: spread_pairs(left.join(right, how()[0]), how()), [other]
        )

    def leftOuterJoin(
        self, other: "DStream[Any]", numPartitions: Any = None
    ) -> "DStream[tuple[Any, tuple[Any, Any | None]]]":
        """As join, and (key, (left, None)) for each pair of this stream whose key the other lacks.

        Elements: DStream[tuple[K, V]] x DStream[tuple[K, W]] -> DStream[tuple[K, tuple[V, W | None]]], no order.

        Raises:
            ConfigurationError: the streams have different slide durations.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.leftOuterJoin(s.filter(lambda pair: pair[1] > 1)), [[("a", 1)], [("a", 2)]])
            [[('a', (1, None))], [('a', (2, 2))]]

        Source: `pyspark.streaming.DStream.leftOuterJoin`. Difference: streams of other slides are refused, as in Scala, where
            PySpark joins what it finds; without numPartitions there are as many partitions as shards, and PySpark has the default
            parallelism.
        """
        how = self._spread(numPartitions)
        return self._transformed(
            "leftOuterJoin",
            lambda _, left, right: spread_pairs(left.leftOuterJoin(right, how()[0]), how()),
            [other],
        )

    def rightOuterJoin(
        self, other: "DStream[Any]", numPartitions: Any = None
    ) -> "DStream[tuple[Any, tuple[Any | None, Any]]]":
        """As join, and (key, (None, right)) for each pair of the other stream whose key this one lacks.

        Elements: DStream[tuple[K, V]] x DStream[tuple[K, W]] -> DStream[tuple[K, tuple[V | None, W]]], no order.

        Raises:
            ConfigurationError: the streams have different slide durations.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.filter(lambda pair: pair[1] > 1).rightOuterJoin(s), [[("a", 1)], [("a", 2)]])
            [[('a', (None, 1))], [('a', (2, 2))]]

        Source: `pyspark.streaming.DStream.rightOuterJoin`. Difference: streams of other slides are refused, as in Scala, where
            PySpark joins what it finds; without numPartitions there are as many partitions as shards, and PySpark has the default
            parallelism.
        """
        how = self._spread(numPartitions)
        return self._transformed(
            "rightOuterJoin",
            lambda _, left, right: spread_pairs(left.rightOuterJoin(right, how()[0]), how()),
            [other],
        )

    def fullOuterJoin(
        self, other: "DStream[Any]", numPartitions: Any = None
    ) -> "DStream[tuple[Any, tuple[Any | None, Any | None]]]":
        """As join, and a pair with None in place of the side that lacks the key.

        Elements: DStream[tuple[K, V]] x DStream[tuple[K, W]] -> DStream[tuple[K, tuple[V | None, W | None]]], no order.

        Raises:
            ConfigurationError: the streams have different slide durations.

        Example:
            >>> from engine.testing import run_batches
            >>> ones = lambda s: s.filter(lambda pair: pair[1] == 1)
            >>> run_batches(lambda s: ones(s).fullOuterJoin(s.filter(lambda pair: pair[1] > 1)), [[("a", 1)], [("a", 2)]])
            [[('a', (1, None))], [('a', (None, 2))]]

        Source: `pyspark.streaming.DStream.fullOuterJoin`. Difference: streams of other slides are refused, as in Scala, where
            PySpark joins what it finds; without numPartitions there are as many partitions as shards, and PySpark has the default
            parallelism.
        """
        how = self._spread(numPartitions)
        return self._transformed(
            "fullOuterJoin",
            lambda _, left, right: spread_pairs(left.fullOuterJoin(right, how()[0]), how()),
            [other],
        )

    def cogroup(
        self, other: "DStream[Any]", numPartitions: Any = None
    ) -> "DStream[tuple[Any, tuple[list[Any], list[Any]]]]":
        """One pair a key of either stream with the list of the values of each side.

        Elements: DStream[tuple[K, V]] x DStream[tuple[K, W]] -> DStream[tuple[K, tuple[list[V], list[W]]]], no order of keys;
            values in the order of their source partitions. Values that are more than memory holds stay on disk, as of groupByKey.

        Raises:
            ConfigurationError: the streams have different slide durations.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.cogroup(s.mapValues(str)), [[("a", 1), ("a", 2)]])
            [[('a', ([1, 2], ['1', '2']))]]

        Source: `pyspark.streaming.DStream.cogroup`. Difference: each side is a list, where PySpark gives a ResultIterable.
        """
        how = self._spread(numPartitions)
        return self._transformed(
            "cogroup",
            lambda _, left, right: spread_pairs(
                self._scope.access.listed_sides(left.cogroup(right, how()[0])), how()
            ),
            [other],
        )
