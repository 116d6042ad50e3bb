"""The actions of an RDD: what runs a job and brings a result to the driver.

All of them stand on one primitive, `run`: a function of each partition, computed in the executors.

Owns: Actions.
Never: lineage or a plan; those are LocalRDD's.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from functools import partial, reduce
from itertools import chain
from typing import Any, TypeVar

from engine.rdd import operators
from engine.rdd.api import RDD, K, T, U

R = TypeVar("R")


class Actions(RDD[T]):
    """What brings results of an RDD to the driver; `LocalRDD` inherits it."""

    # Attributes here, set by LocalRDD; the defaults take the place of the protocol's read-only properties.
    context: Any = None
    """The context that made the RDD; its type stands with LocalRDD, which is above this module."""
    partitioner: Any = None
    """How keys were spread, when that is known; as above."""

    def prepare(self) -> None:
        """Run the stages that the RDD's partitions are fetched from, those that have not run yet."""
        raise NotImplementedError(type(self).__name__)

    def run(self, f: Callable[[Iterator[Any]], R], partitions: Sequence[int] | None = None) -> list[R]:
        """The function of each partition (all of them by default), computed in the executors."""
        raise NotImplementedError(type(self).__name__)

    # All elements.

    def collect(self) -> list[T]:
        """All elements, in partition order.

        Source: pyspark.RDD.collect.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3], 2).collect()
            [1, 2, 3]
        """
        return list(chain.from_iterable(self.run(operators.to_list)))

    def collectAsMap(self) -> dict[Any, Any]:
        """All pairs as one dict; of the pairs of one key the last counts.

        Source: pyspark.RDD.collectAsMap.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1), ("b", 2), ("a", 3)]).collectAsMap()
            {'a': 3, 'b': 2}
        """
        return dict(chain.from_iterable(self.run(_as_dict)))

    def collectWithJobGroup(self, groupId: str, description: str, interruptOnCancel: bool = False) -> list[T]:
        """All elements, collected in a job of the group; the context's own group is the same before and after.

        Source: pyspark.RDD.collectWithJobGroup.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2]).collectWithJobGroup("g", "all of it")
            [1, 2]
        """
        with self.context.job_group(groupId, description, interruptOnCancel):
            return self.collect()

    def toLocalIterator(self, prefetchPartitions: bool = False) -> Iterator[T]:
        """The elements one by one; the driver holds one partition at a time, or two with `prefetchPartitions`.

        Each partition is a job of its own, which runs when the iterator gets there. With `prefetchPartitions` two
        partitions are computed at the same time.

        Source: pyspark.RDD.toLocalIterator, which computes the first partition at once.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     [n for n in sc.range(4, numSlices=2).toLocalIterator()]
            [0, 1, 2, 3]
        """
        width = 2 if prefetchPartitions else 1
        count = self.getNumPartitions()
        for begin in range(0, count, width):
            indexes = range(begin, min(begin + width, count))
            yield from chain.from_iterable(self.run(operators.to_list, indexes))

    # Some elements.

    def take(self, num: int) -> list[T]:
        """The first elements, from as few partitions as it takes: one, then four times as many as before.

        Source: pyspark.RDD.take.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3], 3).take(2)
            [1, 2]
        """
        taken: list[T] = []
        next_index, width, count = 0, 1, self.getNumPartitions()
        while len(taken) < num and next_index < count:
            indexes = range(next_index, min(next_index + width, count))
            taken.extend(chain.from_iterable(self.run(operators.Take[T](num - len(taken)), indexes)))
            next_index, width = indexes.stop, width * 4
        return taken[: max(num, 0)]

    def first(self) -> T:
        """The first element.

        Raises:
            ValueError: there is no element.

        Source: pyspark.RDD.first.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3], 3).first()
            1
        """
        for element in self.take(1):
            return element
        raise ValueError("RDD is empty")

    def isEmpty(self) -> bool:
        """Whether there is no element.

        Source: pyspark.RDD.isEmpty.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1]).isEmpty(), sc.emptyRDD().isEmpty()
            (False, True)
        """
        return not self.take(1)

    def takeOrdered(self, num: int, key: Callable[[T], Any] | None = None) -> list[T]:
        """The smallest elements, or those with the smallest keys, in ascending order.

        Raises:
            ValueError: the number is negative.

        Source: pyspark.RDD.takeOrdered; an RDD without a partition gives [], and no error.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([9, 3, 7], 2).takeOrdered(2)
            [3, 7]
        """
        if num < 0:
            raise ValueError("top N cannot be negative.")
        parts = self.run(partial(_smallest, num, key))
        return _smallest(num, key, chain.from_iterable(parts))

    def top(self, num: int, key: Callable[[T], Any] | None = None) -> list[T]:
        """The largest elements, or those with the largest keys, in descending order.

        Source: pyspark.RDD.top; an RDD without a partition gives [], and no error.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize(["a", "ccc", "bb"], 2).top(2, key=len)
            ['ccc', 'bb']
        """
        parts = self.run(partial(_largest, num, key))
        return _largest(num, key, chain.from_iterable(parts))

    def max(self, key: Callable[[T], Any] | None = None) -> T:
        """The largest element, or the one with the largest key; the first of equals.

        Raises:
            ValueError: there is no element.

        Source: pyspark.RDD.max.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 3, 2]).max(), sc.parallelize(["a", "bb"]).max(key=len)
            (3, 'bb')
        """
        largest: T = _only(_largest(1, key, chain.from_iterable(self.run(partial(_largest, 1, key)))))
        return largest

    def min(self, key: Callable[[T], Any] | None = None) -> T:
        """The smallest element, or the one with the smallest key; the first of equals.

        Raises:
            ValueError: there is no element.

        Source: pyspark.RDD.min.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([3, 1, 2]).min(), sc.parallelize(["bb", "a"]).min(key=len)
            (1, 'a')
        """
        smallest: T = _only(_smallest(1, key, chain.from_iterable(self.run(partial(_smallest, 1, key)))))
        return smallest

    def lookup(self, key: Any) -> list[Any]:
        """The values of a key; of one partition only, where keys are known to be spread.

        Source: pyspark.RDD.lookup.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1), ("b", 2), ("a", 3)], 2).lookup("a")
            [1, 3]
        """
        # A range partitioner knows its ranges when the stages before the RDD have run.
        self.prepare()
        only = None if self.partitioner is None else [self.partitioner.getPartition(key)]
        return list(chain.from_iterable(self.run(partial(_values_of, key), only)))

    # Counts.

    def count(self) -> int:
        """Number of elements.

        Source: pyspark.RDD.count.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3], 2).count()
            3
        """
        return sum(self.run(operators.count))

    def countByValue(self) -> dict[Any, int]:
        """How often each element occurs.

        Source: pyspark.RDD.countByValue; an RDD without a partition gives {}, and no error.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     dict(sc.parallelize(["a", "b", "a"], 2).countByValue())
            {'a': 2, 'b': 1}
        """
        return _added(self.run(operators.count_values))

    def countByKey(self) -> dict[Any, int]:
        """How many pairs each key has.

        Source: pyspark.RDD.countByKey; an RDD without a partition gives {}, and no error.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     dict(sc.parallelize([("a", 5), ("b", 6), ("a", 7)], 2).countByKey())
            {'a': 2, 'b': 1}
        """
        return _added(self.run(_count_keys))

    # Folds.

    def reduce(self, f: Callable[[T, T], T]) -> T:
        """All elements reduced to one.

        Raises:
            ValueError: there is no element.

        Source: pyspark.RDD.reduce.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3], 2).reduce(lambda x, y: x + y)
            6
        """
        partials = list(chain.from_iterable(self.run(operators.Reduce(f))))
        for result in operators.Reduce(f)(iter(partials)):
            return result
        raise ValueError("Can not reduce() empty RDD")

    def fold(self, zeroValue: T, op: Callable[[T, T], T]) -> T:
        """The elements of each partition folded onto a copy of zeroValue, and the partitions' results onto another.

        Source: pyspark.RDD.fold; as there, zeroValue comes in once a partition and once more.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3], 2).fold(10, lambda x, y: x + y)
            36
        """
        return self.aggregate(zeroValue, op, op)

    def aggregate(self, zeroValue: U, seqOp: Callable[[U, T], U], combOp: Callable[[U, U], U]) -> U:
        """The elements of each partition folded onto a copy of zeroValue by seqOp, and the results by combOp.

        Both functions may change their first argument in place: each partition, and each job, starts with its own copy.

        Source: pyspark.RDD.aggregate.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(5, numSlices=2).aggregate(
            ...         (0, 0), lambda kept, n: (kept[0] + n, kept[1] + 1), lambda x, y: (x[0] + y[0], x[1] + y[1])
            ...     )
            (10, 5)
        """
        return reduce(combOp, self.run(partial(_folded, zeroValue, seqOp)), deepcopy(zeroValue))

    # Effects.

    def foreach(self, f: Callable[[T], object]) -> None:
        """Call the function on each element, in the executors.

        Source: pyspark.RDD.foreach.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     seen = sc.accumulator(0)
            ...     sc.parallelize([1, 2, 3]).foreach(seen.add)
            ...     seen.value
            6
        """
        self.run(operators.ForEach(f))

    def foreachPartition(self, f: Callable[[Iterator[T]], object]) -> None:
        """Call the function on each partition, in the executors; what a generator gives is read to its end.

        Source: pyspark.RDD.foreachPartition.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     seen = sc.accumulator(0)
            ...     sc.range(4, numSlices=2).foreachPartition(lambda part: seen.add(1))
            ...     seen.value
            2
        """
        self.run(operators.ForEachPartition(f))


def _smallest(num: int, key: Callable[[Any], Any] | None, elements: Iterable[T]) -> list[T]:
    smallest: Callable[..., list[T]] = heapq.nsmallest
    return smallest(num, elements, key)


def _largest(num: int, key: Callable[[Any], Any] | None, elements: Iterable[T]) -> list[T]:
    largest: Callable[..., list[T]] = heapq.nlargest
    return largest(num, elements, key)


def _only(found: list[T]) -> T:
    if not found:
        raise ValueError("Can not reduce() empty RDD")
    return found[0]


def _values_of(key: Any, pairs: Iterator[tuple[Any, Any]]) -> list[Any]:
    return [value for other, value in pairs if other == key]


def _as_dict(pairs: Iterator[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    # What a key had before its last value need not travel.
    return list(dict(pairs).items())


def _count_keys(pairs: Iterator[tuple[K, Any]]) -> dict[K, int]:
    counts: dict[K, int] = {}
    for key, _ in pairs:
        counts[key] = counts.get(key, 0) + 1
    return counts


def _added(parts: Iterable[dict[K, int]]) -> dict[K, int]:
    counts: defaultdict[K, int] = defaultdict(int)
    for part in parts:
        for element, number in part.items():
            counts[element] += number
    return counts


def _folded(zero: U, f: Callable[[U, T], U], elements: Iterator[T]) -> U:
    # The function is shipped once and called for many partitions: none may see what another did to the zero value.
    result = deepcopy(zero)
    for element in elements:
        result = f(result, element)
    return result
