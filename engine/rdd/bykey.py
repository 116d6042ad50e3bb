"""Operations by key: those of one RDD of pairs, and those that bring the pairs of several together.

Owns: ByKey, combined, together.
Never: the exchange itself; see shuffle and grouping.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, cast

from engine.rdd import operators
from engine.rdd.api import RDD, K, T, U
from engine.rdd.fuse import Function
from engine.rdd.lineage import Exchange, Lineage, PlanBuilder, own
from engine.rdd.partitioner import Partitioner, portable_hash
from engine.rdd.plan import Combined, End, Group, Plan, ShuffleWrite, Sorted

Pairs = RDD[tuple[Any, Any]]


class ByKey(Lineage[T]):
    """What an RDD of pairs can do by key; `LocalRDD` inherits it.

    Where an operation takes numPartitions, None means as many partitions as tasks run at the same time. `partitionFunc` gives an int
    for a key, and the partition is that modulo numPartitions. Keys are None, numbers, str, bytes and tuples of those; keys that are equal
    across types (1, 1.0, True) are one key, and the one that came first stands for it.
    """

    # One RDD.

    def partitionBy(
        self, numPartitions: int | None, partitionFunc: Callable[[Any], int] = portable_hash
    ) -> Pairs:
        """The pairs, those of one key in one partition, in the order of the source partitions.

        Source: pyspark.RDD.partitionBy, where that order is not promised.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([(1, "a"), (2, "b"), (3, "c")], 3).partitionBy(2).glom().collect()
            [[(2, 'b')], [(1, 'a'), (3, 'c')]]
        """
        partitioner = self.spread(numPartitions, partitionFunc)
        if self.partitioner == partitioner:
            return cast("Pairs", self)
        exchange = _exchange(self, partitioner)
        return self.after(exchange, exchange.fetch, partitioner)

    def combineByKey(
        self,
        createCombiner: Callable[[Any], Any],
        mergeValue: Callable[[Any, Any], Any],
        mergeCombiners: Callable[[Any, Any], Any],
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = portable_hash,
    ) -> Pairs:
        """One pair a key with its combined values; values combine before anything is exchanged.

        Source: pyspark.RDD.combineByKey. Difference: without numPartitions there are as many partitions as the context's default
            parallelism, where PySpark keeps this RDD's number.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     pairs = sc.parallelize([("a", 1), ("a", 2)])
            ...     pairs.combineByKey(str, lambda text, n: f"{text},{n}", lambda x, y: f"{x},{y}").collect()
            [('a', '1,2')]
        """
        return combined(
            self, createCombiner, mergeValue, mergeCombiners, self.spread(numPartitions, partitionFunc)
        )

    def reduceByKey(
        self,
        func: Callable[[Any, Any], Any],
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = portable_hash,
    ) -> Pairs:
        """One pair a key with its reduced values; values reduce before anything is exchanged.

        Source: pyspark.RDD.reduceByKey. Difference: without numPartitions there are as many partitions as the context's default
            parallelism, where PySpark keeps this RDD's number.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1), ("b", 1), ("a", 1)]).reduceByKey(lambda x, y: x + y).collect()
            [('a', 2), ('b', 1)]
        """
        return combined(self, None, func, func, self.spread(numPartitions, partitionFunc))

    def aggregateByKey(
        self,
        zeroValue: U,
        seqFunc: Callable[[U, Any], U],
        combFunc: Callable[[U, U], U],
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = portable_hash,
    ) -> RDD[tuple[Any, U]]:
        """One pair a key: its values folded into a copy of `zeroValue`, the copies of the map tasks merged.

        Source: pyspark.RDD.aggregateByKey. Difference: without numPartitions there are as many partitions as the context's
            default parallelism, where PySpark keeps this RDD's number.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     pairs = sc.parallelize([("a", 1), ("a", 2)])
            ...     pairs.aggregateByKey(0, lambda known, n: max(known, n), max).collect()
            [('a', 2)]
        """
        create = partial(_first_of, zeroValue, seqFunc)
        return combined(self, create, seqFunc, combFunc, self.spread(numPartitions, partitionFunc))

    def foldByKey(
        self,
        zeroValue: Any,
        func: Callable[[Any, Any], Any],
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = portable_hash,
    ) -> Pairs:
        """One pair a key: its values folded into a copy of `zeroValue`, once in each partition that has the key.

        Source: pyspark.RDD.foldByKey. Difference: without numPartitions there are as many partitions as the context's default
            parallelism, where PySpark keeps this RDD's number.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1), ("a", 2)]).foldByKey(0, lambda x, y: x + y).collect()
            [('a', 3)]
        """
        create = partial(_first_of, zeroValue, func)
        return combined(self, create, func, func, self.spread(numPartitions, partitionFunc))

    def groupByKey(
        self, numPartitions: int | None = None, partitionFunc: Callable[[Any], int] = portable_hash
    ) -> Pairs:
        """One pair a key with its values, in the order of the source partitions.

        Elements: RDD[tuple[K, V]] -> RDD[tuple[K, Sequence[V]]]; the values are a list; those that are more than memory
        holds stay on disk, and read as a list does but cannot be changed in place: sorted(values), list(values) give lists.

        Source: pyspark.RDD.groupByKey, whose values are a ResultIterable. Difference: values are a list, where PySpark has a
            ResultIterable; without numPartitions there are as many partitions as the context's default parallelism, where PySpark
            keeps this RDD's number.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1), ("b", 2), ("a", 3)]).groupByKey().collect()
            [('a', [1, 3]), ('b', [2])]
        """
        return together([self], "group", self.spread(numPartitions, partitionFunc))

    def groupBy(
        self,
        f: Callable[[T], K],
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = portable_hash,
    ) -> RDD[tuple[K, Any]]:
        """One pair for each result of the function with the elements that gave it.

        Source: pyspark.RDD.groupBy. Difference: without numPartitions there are as many partitions as the context's default
            parallelism, where PySpark keeps this RDD's number.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3]).groupBy(lambda n: n % 2).collect()
            [(1, [1, 3]), (0, [2])]
        """
        keyed = self.map(partial(operators.with_key, f))
        return self.own(keyed).groupByKey(numPartitions, partitionFunc)

    def reduceByKeyLocally(self, func: Callable[[Any, Any], Any]) -> dict[Any, Any]:
        """The reduced values of each key, as a dict in the driver.

        Source: pyspark.RDD.reduceByKeyLocally.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1), ("a", 2)]).reduceByKeyLocally(lambda x, y: x + y)
            {'a': 3}
        """
        known: dict[Any, Any] = {}
        for part in self.run(cast("Callable[[Any], dict[Any, Any]]", operators.ReduceByKey(func))):
            for key, value in part.items():
                known[key] = func(known[key], value) if key in known else value
        return known

    def repartitionAndSortWithinPartitions(
        self,
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = portable_hash,
        ascending: bool = True,
        keyfunc: Callable[[Any], Any] | None = None,
    ) -> Pairs:
        """The pairs, those of one key in one partition, each partition sorted by key, or by `keyfunc` of it.

        Source: pyspark.RDD.repartitionAndSortWithinPartitions. Difference: without numPartitions there are as many partitions as
            the context's default parallelism, where PySpark keeps this RDD's number.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     pairs = sc.parallelize([(3, "c"), (0, "a"), (1, "b"), (2, "d")])
            ...     pairs.repartitionAndSortWithinPartitions(2).glom().collect()
            [[(0, 'a'), (2, 'd')], [(1, 'b'), (3, 'c')]]
        """
        partitioner = self.spread(numPartitions, partitionFunc)
        spread = self.own(self.partitionBy(numPartitions, partitionFunc))

        def plan(builder: PlanBuilder, index: int) -> Plan:
            return Sorted(spread.plan(builder, index), ascending, True, builder.optional(keyfunc))

        return self.derive([spread], partitioner.numPartitions, plan, partitioner, spread.place)

    # Several RDDs.

    def cogroup(self, other: RDD[Any], numPartitions: int | None = None) -> Pairs:
        """One pair a key with the values of each side.

        Elements: RDD[tuple[K, V]] x RDD[tuple[K, W]] -> RDD[tuple[K, tuple[Sequence[V], Sequence[W]]]]; see groupByKey.

        Source: pyspark.RDD.cogroup. Difference: sides are lists, where PySpark has ResultIterables; without numPartitions there
            are as many partitions as the context's default parallelism, where PySpark has as many as all sides together.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1)]).cogroup(sc.parallelize([("a", 2), ("b", 3)])).collect()
            [('a', ([1], [2])), ('b', ([], [3]))]
        """
        return together([self, other], "cogroup", self.spread(numPartitions))

    def groupWith(self, other: RDD[Any], *others: RDD[Any]) -> Pairs:
        """As cogroup, of any number of RDDs.

        Source: pyspark.RDD.groupWith. Difference: sides are lists, where PySpark has ResultIterables; without numPartitions there
            are as many partitions as the context's default parallelism, where PySpark has as many as all sides together.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     one = sc.parallelize([("a", 1)])
            ...     one.groupWith(one, one).collect()
            [('a', ([1], [1], [1]))]
        """
        return together([self, other, *others], "cogroup", self.spread(None))

    def join(self, other: RDD[Any], numPartitions: int | None = None) -> RDD[tuple[Any, tuple[Any, Any]]]:
        """A pair (key, (left, right)) for each two pairs of one key.

        Source: pyspark.RDD.join. Difference: without numPartitions there are as many partitions as the context's default
            parallelism, where PySpark has as many as all sides together.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1), ("b", 2)]).join(sc.parallelize([("a", 3), ("a", 4)])).collect()
            [('a', (1, 3)), ('a', (1, 4))]
        """
        return together([self, other], "join", self.spread(numPartitions))

    def leftOuterJoin(self, other: RDD[Any], numPartitions: int | None = None) -> Pairs:
        """As join, and (key, (left, None)) for each pair whose key the other lacks.

        Source: pyspark.RDD.leftOuterJoin. Difference: without numPartitions there are as many partitions as the context's default
            parallelism, where PySpark has as many as all sides together.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1), ("b", 2)]).leftOuterJoin(sc.parallelize([("a", 3)])).collect()
            [('a', (1, 3)), ('b', (2, None))]
        """
        return together([self, other], "leftOuterJoin", self.spread(numPartitions))

    def rightOuterJoin(self, other: RDD[Any], numPartitions: int | None = None) -> Pairs:
        """As join, and (key, (None, right)) for each pair of the other whose key this lacks.

        Source: pyspark.RDD.rightOuterJoin. Difference: without numPartitions there are as many partitions as the context's
            default parallelism, where PySpark has as many as all sides together.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1)]).rightOuterJoin(sc.parallelize([("a", 3), ("b", 4)])).collect()
            [('a', (1, 3)), ('b', (None, 4))]
        """
        return together([self, other], "rightOuterJoin", self.spread(numPartitions))

    def fullOuterJoin(self, other: RDD[Any], numPartitions: int | None = None) -> Pairs:
        """As join, and a pair with None in place of the side that lacks the key.

        Source: pyspark.RDD.fullOuterJoin. Difference: without numPartitions there are as many partitions as the context's default
            parallelism, where PySpark has as many as all sides together.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1)]).fullOuterJoin(sc.parallelize([("b", 4)])).collect()
            [('a', (1, None)), ('b', (None, 4))]
        """
        return together([self, other], "fullOuterJoin", self.spread(numPartitions))

    def subtractByKey(self, other: RDD[Any], numPartitions: int | None = None) -> Pairs:
        """The pairs whose key the other lacks.

        Source: pyspark.RDD.subtractByKey. Difference: without numPartitions there are as many partitions as the context's default
            parallelism, where PySpark keeps this RDD's number.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1), ("b", 2)]).subtractByKey(sc.parallelize([("a", 0)])).collect()
            [('b', 2)]
        """
        return together([self, other], "subtract", self.spread(numPartitions))


# What they are made of.


def _exchange(
    rdd: Lineage[Any], partitioner: Partitioner, create: Function | None = None, merge: Function | None = None
) -> Exchange:
    function = partitioner.partitionFunc

    def end(builder: PlanBuilder, name: str) -> End:
        return ShuffleWrite(
            name,
            partitioner.numPartitions,
            None if function is portable_hash else builder.function(function),
            builder.optional(create),
            builder.optional(merge),
        )

    return Exchange(rdd, partitioner.numPartitions, end)


def combined(
    rdd: Lineage[Any],
    create: Function | None,
    merge: Function,
    merge_combiners: Function,
    partitioner: Partitioner,
) -> Lineage[Any]:
    """One pair a key; without `create` the first value is the combiner."""
    if rdd.partitioner != partitioner:
        exchange = _exchange(rdd, partitioner, create, merge)
        return rdd.after(
            exchange, lambda builder, index: exchange.fetch(builder, index, merge_combiners), partitioner
        )

    def plan(builder: PlanBuilder, index: int) -> Plan:
        functions = builder.function(merge), builder.function(merge_combiners)
        return Combined(rdd.plan(builder, index), builder.optional(create), *functions)

    return rdd.derive([rdd], rdd.getNumPartitions(), plan, partitioner, rdd.place)


def together(rdds: Sequence[RDD[Any]], kind: str, partitioner: Partitioner) -> Lineage[Any]:
    """The pairs of the RDDs by key; see `grouping.KINDS`."""
    context = cast("Lineage[Any]", rdds[0]).context
    how = partitioner.numPartitions, partitioner.partitionFunc
    sides = [own(context, own(context, rdd).partitionBy(*how)) for rdd in rdds]

    def plan(builder: PlanBuilder, index: int) -> Plan:
        return Group(tuple(side.plan(builder, index) for side in sides), kind)

    return sides[0].derive(sides, partitioner.numPartitions, plan, partitioner, sides[0].place)


def _first_of(zero: Any, func: Callable[[Any, Any], Any], value: Any) -> Any:
    # Each key has a zero of its own: a function may change it in place.
    return func(deepcopy(zero), value)
