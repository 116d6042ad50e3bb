"""Operations that bring elements into other partitions: as a set, in order, in other numbers, beside those of another RDD.

Owns: Rearranging, united.
Never: the exchange itself; see shuffle and sorting.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from typing import Any

from engine.errors import ConfigurationError
from engine.rdd import operators
from engine.rdd.api import RDD, T, U
from engine.rdd.bykey import ByKey, Pairs, together
from engine.rdd.fuse import Function, keep_first
from engine.rdd.lineage import Exchange, Lineage, PlanBuilder
from engine.rdd.partitioner import Partitioner, RangePartitioner
from engine.rdd.plan import Chained, Located, Plan, Product, RangeWrite, Sorted, SpreadWrite, Zipped
from engine.rdd.sorting import SAMPLES_A_RANGE, Sampled, bounds_of


class Rearranging(ByKey[T]):
    """What an RDD can do with its elements as a whole; `LocalRDD` inherits it."""

    # As a set.

    def distinct(self, numPartitions: int | None = None) -> RDD[T]:
        """Each element once; of elements that are equal the one that came first.

        Source: pyspark.RDD.distinct.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 1, 1.0]).distinct().collect()
            [1, 2]
        """
        return self._keyed().reduceByKey(keep_first, numPartitions).map(operators.KEY)

    def subtract(self, other: RDD[Any], numPartitions: int | None = None) -> RDD[T]:
        """The elements that the other has not, each as often as it is here.

        Source: pyspark.RDD.subtract.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 1, 2, 3]).subtract(sc.parallelize([2])).collect()
            [1, 1, 3]
        """
        sides = [self._keyed(), _keyed(self.own(other))]
        return together(sides, "subtract", self.spread(numPartitions)).map(operators.KEY)

    def intersection(self, other: RDD[Any]) -> RDD[T]:
        """The elements that both have, each once.

        Source: pyspark.RDD.intersection.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 1, 2, 3]).intersection(sc.parallelize([1, 3, 4])).collect()
            [1, 3]
        """
        both = together([self._keyed(), _keyed(self.own(other))], "intersect", self.spread(None))
        both.partitioner = None  # what it gives are no pairs
        return both

    def _keyed(self) -> Lineage[Any]:
        return _keyed(self)

    # In other partitions.

    def union(self, other: RDD[Any]) -> RDD[Any]:
        """The partitions of both, this one's first; where equal partitioners spread both, each partition with its like.

        Source: pyspark.RDD.union.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2]).union(sc.parallelize([2])).collect()
            [1, 2, 2]
        """
        return united([self, self.own(other)])

    def __add__(self, other: RDD[Any]) -> RDD[Any]:
        """As union; `rdd + other`.

        Raises:
            TypeError: the other is no RDD.

        Source: pyspark.RDD.__add__.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     (sc.parallelize([1, 2]) + sc.parallelize([2])).collect()
            [1, 2, 2]
        """
        return self.union(other) if isinstance(other, Lineage) else NotImplemented

    def repartition(self, numPartitions: int) -> RDD[T]:
        """The elements dealt out to so many partitions, of equal size to within one for each source partition.

        Source: pyspark.RDD.repartition, which deals out in batches of ten.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize(range(5), 1).repartition(2).glom().collect()
            [[0, 2, 4], [1, 3]]
        """
        return self.coalesce(numPartitions, shuffle=True)

    def coalesce(self, numPartitions: int, shuffle: bool = False) -> RDD[T]:
        """The elements in so many partitions: neighbours together and nothing exchanged, or dealt out anew with `shuffle`.

        Without `shuffle` the number of partitions never grows.

        Raises:
            ConfigurationError: numPartitions is below 1.

        Source: pyspark.RDD.coalesce.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3, 4, 5], 3).coalesce(2).glom().collect()
            [[1], [2, 3, 4, 5]]
        """
        if numPartitions < 1:
            raise ConfigurationError(f"numPartitions is {numPartitions}; give a number of at least 1")
        if shuffle:
            exchange = Exchange(self, numPartitions, lambda _, name: SpreadWrite(name, numPartitions))
            return self.after(exchange, exchange.fetch, None)
        count = self.getNumPartitions()
        if numPartitions >= count:
            return self
        edges = [index * count // numPartitions for index in range(numPartitions + 1)]
        parts = self.anywhere()

        def plan(builder: PlanBuilder, index: int) -> Plan:
            mine = range(edges[index], edges[index + 1])
            return Chained(tuple(Located(parts.plan(builder, each), each) for each in mine))

        return self.derive([parts], numPartitions, plan, None, lambda index: parts.place(edges[index]))

    # In order.

    def sortBy(
        self, keyfunc: Callable[[T], Any], ascending: bool = True, numPartitions: int | None = None
    ) -> RDD[T]:
        """The elements in the order of the function of each, over all partitions; equal ones in their order before.

        A sample with a fixed seed decides which range of keys goes to which partition; it costs one more pass over the elements,
        in the job that first needs the order.

        Source: pyspark.RDD.sortBy, which samples at once. Difference: without numPartitions there are as many partitions as the
            context's default parallelism, where PySpark keeps this RDD's number.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize(["bb", "a", "ccc"], 2).sortBy(len, ascending=False).collect()
            ['ccc', 'bb', 'a']
        """
        return _in_order(self, keyfunc, ascending, numPartitions, gives_pairs=False)

    def sortByKey(
        self,
        ascending: bool = True,
        numPartitions: int | None = None,
        keyfunc: Callable[[Any], Any] | None = None,
    ) -> Pairs:
        """The pairs in the order of their keys, or of the function of each key, over all partitions; see sortBy.

        Source: pyspark.RDD.sortByKey. Difference: without numPartitions there are as many partitions as the context's default
            parallelism, where PySpark keeps this RDD's number.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([("b", 1), ("A", 2)], 2).sortByKey(keyfunc=str.lower).collect()
            [('A', 2), ('b', 1)]
        """
        key = None if keyfunc is None else partial(operators.key_of_pair, keyfunc)
        return _in_order(self, key, ascending, numPartitions, gives_pairs=keyfunc is None)

    # Beside another RDD.

    def cartesian(self, other: RDD[U]) -> RDD[tuple[T, U]]:
        """Every pair of an element of this and one of the other; a partition for every two partitions.

        Source: pyspark.RDD.cartesian.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2], 1).cartesian(sc.parallelize("ab", 1)).collect()
            [(1, 'a'), (1, 'b'), (2, 'a'), (2, 'b')]
        """
        right = self.own(other).anywhere()
        width = right.getNumPartitions()

        def plan(builder: PlanBuilder, index: int) -> Plan:
            ours, theirs = divmod(index, width)
            return Product(
                Located(self.plan(builder, ours), ours), Located(right.plan(builder, theirs), theirs)
            )

        count = self.getNumPartitions() * width
        return self.derive([self, right], count, plan, None, lambda index: self.place(index // width))

    def zip(self, other: RDD[U]) -> RDD[tuple[T, U]]:
        """Pairs of the elements at equal places of both.

        Raises:
            ValueError: the RDDs have not the same number of partitions.
            UserFunctionError: when it is computed, two partitions are not of the same size.

        Source: pyspark.RDD.zip.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2]).zip(sc.parallelize("ab")).collect()
            [(1, 'a'), (2, 'b')]
        """
        right = self.own(other).anywhere()
        if self.getNumPartitions() != right.getNumPartitions():
            raise ValueError("Can only zip with RDD which has the same number of partitions")

        def plan(builder: PlanBuilder, index: int) -> Plan:
            return Zipped(self.plan(builder, index), right.plan(builder, index))

        return self.derive([self, right], self.getNumPartitions(), plan, None, self.place)

    # To one result.

    def treeReduce(self, f: Callable[[T, T], T], depth: int = 2) -> T:
        """As reduce: one machine has one level of a tree.

        Raises:
            ConfigurationError: depth is below 1.
            ValueError: there is no element.

        Source: pyspark.RDD.treeReduce.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3]).treeReduce(lambda x, y: x + y)
            6
        """
        _check_depth(depth)
        return self.reduce(f)

    def treeAggregate(
        self, zeroValue: U, seqOp: Callable[[U, T], U], combOp: Callable[[U, U], U], depth: int = 2
    ) -> U:
        """As aggregate: one machine has one level of a tree.

        Raises:
            ConfigurationError: depth is below 1.

        Source: pyspark.RDD.treeAggregate.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3]).treeAggregate(0, lambda x, y: x + y, lambda x, y: x + y)
            6
        """
        _check_depth(depth)
        return self.aggregate(zeroValue, seqOp, combOp)


def united(rdds: Sequence[Lineage[Any]]) -> Lineage[Any]:
    """The partitions of the RDDs, which are one at least; see `Rearranging.union`."""
    first = rdds[0]
    is_alike = first.partitioner is not None and all(rdd.partitioner == first.partitioner for rdd in rdds)
    return first.unite(rdds, first.partitioner if is_alike else None)


def _keyed(rdd: Lineage[Any]) -> Lineage[Any]:
    return rdd.narrow("asKey", keep_first)


def _in_order(
    rdd: Lineage[Any],
    key: Function | None,
    is_ascending: bool,
    numPartitions: int | None,
    *,
    gives_pairs: bool,
) -> Lineage[Any]:
    count = rdd.spread(numPartitions).numPartitions
    ranges = RangePartitioner(count, is_ascending)

    def sample() -> None:
        if count > 1 and rdd.getNumPartitions():
            size = ceil(SAMPLES_A_RANGE * count / rdd.getNumPartitions())
            ranges.bounds = bounds_of(rdd.run(Sampled(size, key)), count)

    def end(builder: PlanBuilder, name: str) -> RangeWrite:
        return RangeWrite(name, count, builder.leaf(ranges.bounds), is_ascending, builder.optional(key))

    exchange = Exchange(rdd, count, end, sample)

    def plan(builder: PlanBuilder, index: int) -> Plan:
        return Sorted(exchange.fetch(builder, index), is_ascending, gives_pairs, None)

    partitioner: Partitioner | None = ranges if gives_pairs else None
    return rdd.after(exchange, plan, partitioner)


def _check_depth(depth: int) -> None:
    if depth < 1:
        raise ConfigurationError(f"Depth cannot be smaller than 1 but got {depth}.")
