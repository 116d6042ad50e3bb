"""Narrow operators that are made of others: keys and values, numbers for elements, programs to pipe them through.

Owns: Elements.
Never: an exchange between partitions.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import accumulate
from typing import Any

from engine.rdd import operators
from engine.rdd.actions import Actions
from engine.rdd.api import RDD, K, T, U
from engine.rdd.pipe import piped


class Elements(Actions[T]):
    """What changes elements where they are; `LocalRDD` inherits it."""

    def glom(self) -> RDD[list[T]]:
        """Each partition as one list.

        Source: pyspark.RDD.glom.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3], 2).glom().collect()
            [[1], [2, 3]]
        """
        return self.mapPartitions(operators.as_one_list)

    def keyBy(self, f: Callable[[T], K]) -> RDD[tuple[K, T]]:
        """The pairs of the function of each element and the element.

        Source: pyspark.RDD.keyBy.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize(["a", "bb"]).keyBy(len).collect()
            [(1, 'a'), (2, 'bb')]
        """
        return self.map(partial(_keyed, f))

    def keys(self) -> RDD[Any]:
        """The key of each pair.

        Source: pyspark.RDD.keys.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1), ("b", 2)]).keys().collect()
            ['a', 'b']
        """
        return self.map(operators.KEY)

    def values(self) -> RDD[Any]:
        """The value of each pair.

        Source: pyspark.RDD.values.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1), ("b", 2)]).values().collect()
            [1, 2]
        """
        return self.map(operators.VALUE)

    def mapPartitionsWithSplit(
        self, f: Callable[[int, Iterator[T]], Iterable[U]], preservesPartitioning: bool = False
    ) -> RDD[U]:
        """The old name of mapPartitionsWithIndex, which warns.

        Source: pyspark.RDD.mapPartitionsWithSplit.

        Example:
            >>> import warnings
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc, warnings.catch_warnings(action="ignore"):
            ...     sc.range(3, numSlices=2).mapPartitionsWithSplit(lambda i, part: [(i, sum(part))]).collect()
            [(0, 0), (1, 3)]
        """
        warnings.warn(
            "mapPartitionsWithSplit is deprecated; use mapPartitionsWithIndex instead.",
            FutureWarning,
            stacklevel=2,
        )
        return self.mapPartitionsWithIndex(f, preservesPartitioning)

    def zipWithIndex(self) -> RDD[tuple[T, int]]:
        """Each element with its number in the RDD, from 0; with more than one partition a job counts them now.

        Source: pyspark.RDD.zipWithIndex.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize(["a", "b", "c"], 2).zipWithIndex().collect()
            [('a', 0), ('b', 1), ('c', 2)]
        """
        before = range(self.getNumPartitions() - 1)
        starts = list(accumulate(self.run(operators.count, before) if before else (), initial=0))
        return self.mapPartitionsWithIndex(partial(_numbered, starts))

    def zipWithUniqueId(self) -> RDD[tuple[T, int]]:
        """Each element with a number that no other has: k, n + k, 2n + k ... in partition k of n; without a job.

        Source: pyspark.RDD.zipWithUniqueId.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize(["a", "b", "c"], 2).zipWithUniqueId().collect()
            [('a', 0), ('b', 1), ('c', 3)]
        """
        return self.mapPartitionsWithIndex(partial(_identified, self.getNumPartitions()))

    def pipe(self, command: str, env: Mapping[str, str] | None = None, checkCode: bool = False) -> RDD[str]:
        """The lines that a program prints when it reads the elements as lines; one run of the program a partition.

        Elements go to the program while its lines are read, so neither is held. A program that stops
        reading early is not given the rest. The program is ended when its lines are no longer asked for.

        Args:
            command: the program and its arguments, split as a shell would; no shell runs.
            env: variables to set for the program, on top of the executor's own.
            checkCode: whether an exit code other than 0 is an error.

        Raises:
            UserFunctionError: the program's exit code is not 0, and `checkCode` is set.

        Source: pyspark.RDD.pipe, where a program has no environment but `env`.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3]).pipe("cat").collect()
            ['1', '2', '3']
        """
        return self.mapPartitions(partial(piped, command, dict(env or {}), checkCode))


def _keyed(f: Callable[[T], K], element: T) -> tuple[K, T]:
    return f(element), element


def _numbered(starts: list[int], index: int, elements: Iterator[T]) -> Iterator[tuple[T, int]]:
    return ((element, number) for number, element in enumerate(elements, starts[index]))


def _identified(count: int, index: int, elements: Iterator[T]) -> Iterator[tuple[T, int]]:
    return ((element, number * count + index) for number, element in enumerate(elements))
