"""The actions of an RDD of numbers: sums, moments, histograms.

Owns: Numbers, StatCounter, BoundedFloat.
Never: a sample in place of all elements; what PySpark estimates is exact here.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Self

from engine.rdd.actions import Actions
from engine.rdd.api import T


class StatCounter:
    """Count, mean, variance, smallest and largest of numbers, in one pass; two of them merge into one.

    Source: pyspark.statcounter.StatCounter; the recurrences are those of Welford and Chan.

    Example:
        >>> StatCounter([1.0, 2.0, 3.0])
        (count: 3, mean: 2.0, stdev: 0.816496580927726, max: 3.0, min: 1.0)
    """

    def __init__(self, values: Iterable[float] = ()) -> None:
        self.n = 0
        """How many values."""
        self.mu = 0.0
        """Their mean."""
        self.m2 = 0.0
        """The sum of the squared distances from the mean."""
        self.maxValue = -math.inf
        """The largest."""
        self.minValue = math.inf
        """The smallest."""
        for value in values:
            self.merge(value)

    def merge(self, value: float) -> Self:
        """Take one more value in."""
        distance = value - self.mu
        self.n += 1
        self.mu += distance / self.n
        self.m2 += distance * (value - self.mu)
        self.maxValue = max(self.maxValue, value)
        self.minValue = min(self.minValue, value)
        return self

    def mergeStats(self, other: "StatCounter") -> Self:
        """Take all values of another counter in."""
        total = self.n + other.n
        if total:
            distance = other.mu - self.mu
            self.m2 += other.m2 + distance * distance * self.n * other.n / total
            self.mu = (self.mu * self.n + other.mu * other.n) / total
            self.n = total
        self.maxValue = max(self.maxValue, other.maxValue)
        self.minValue = min(self.minValue, other.minValue)
        return self

    def copy(self) -> "StatCounter":
        """Another counter of the same values."""
        return StatCounter().mergeStats(self)

    def count(self) -> int:
        """How many values."""
        return self.n

    def mean(self) -> float:
        """Their mean; 0.0 of none."""
        return self.mu

    def sum(self) -> float:
        """Their sum."""
        return self.n * self.mu

    def min(self) -> float:
        """The smallest; infinity of none."""
        return self.minValue

    def max(self) -> float:
        """The largest; minus infinity of none."""
        return self.maxValue

    def variance(self) -> float:
        """The variance of the values as all there are; not a number of none."""
        return self.m2 / self.n if self.n else math.nan

    def sampleVariance(self) -> float:
        """The variance of the values as a sample of more: divided by one less; not a number of fewer than two."""
        return self.m2 / (self.n - 1) if self.n > 1 else math.nan

    def stdev(self) -> float:
        """The square root of the variance."""
        return math.sqrt(self.variance())

    def sampleStdev(self) -> float:
        """The square root of the sample variance."""
        return math.sqrt(self.sampleVariance())

    def asDict(self, sample: bool = False) -> dict[str, float]:
        """The figures by name.

        Source: pyspark.statcounter.StatCounter.asDict. There the flag works the wrong way round, and programs rely on
        what they get without it: so it does here. Without it stdev and variance are those of a sample.
        """
        return {
            "count": self.count(),
            "mean": self.mean(),
            "sum": self.sum(),
            "min": self.min(),
            "max": self.max(),
            "stdev": self.stdev() if sample else self.sampleStdev(),
            "variance": self.variance() if sample else self.sampleVariance(),
        }

    def __repr__(self) -> str:
        return (
            f"(count: {self.count()}, mean: {self.mean()}, stdev: {self.stdev()}, "
            f"max: {self.max()}, min: {self.min()})"
        )


class BoundedFloat(float):
    """A number with the bounds that PySpark gives an estimate; here it is exact and the bounds are the number.

    Source: pyspark.core.rdd.BoundedFloat.

    Example:
        >>> BoundedFloat(3.0, 1.0, 3.0, 3.0).confidence
        1.0
    """

    mean: float
    confidence: float
    low: float
    high: float

    def __new__(cls, mean: float, confidence: float, low: float, high: float) -> Self:
        """The number `mean` with its bounds."""
        made = super().__new__(cls, mean)
        made.mean, made.confidence, made.low, made.high = mean, confidence, low, high
        return made


class Numbers(Actions[T]):
    """What an RDD of numbers tells of them; `LocalRDD` inherits it."""

    def sum(self) -> Any:
        """The sum of the elements; 0 of none.

        Source: pyspark.RDD.sum.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3], 2).sum()
            6
        """
        parts: list[Any] = self.run(sum)
        return sum(parts)

    def stats(self) -> StatCounter:
        """Count, mean, variance, smallest and largest, in one job.

        Source: pyspark.RDD.stats; an RDD without a partition gives an empty counter, and no error.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3, 4], 2).stats()
            (count: 4, mean: 2.5, stdev: 1.118033988749895, max: 4, min: 1)
        """
        merged = StatCounter()
        for part in self.run(StatCounter):
            merged.mergeStats(part)
        return merged

    def mean(self) -> float:
        """The mean of the elements; 0.0 of none.

        Source: pyspark.RDD.mean.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3], 2).mean()
            2.0
        """
        return self.stats().mean()

    def variance(self) -> float:
        """The variance of the elements as all there are.

        Source: pyspark.RDD.variance.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 3], 2).variance()
            1.0
        """
        return self.stats().variance()

    def stdev(self) -> float:
        """The standard deviation of the elements as all there are.

        Source: pyspark.RDD.stdev.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 3], 2).stdev()
            1.0
        """
        return self.stats().stdev()

    def sampleVariance(self) -> float:
        """The variance of the elements as a sample of more.

        Source: pyspark.RDD.sampleVariance.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 3], 2).sampleVariance()
            2.0
        """
        return self.stats().sampleVariance()

    def sampleStdev(self) -> float:
        """The standard deviation of the elements as a sample of more.

        Source: pyspark.RDD.sampleStdev.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     round(sc.parallelize([1, 3], 2).sampleStdev(), 3)
            1.414
        """
        return self.stats().sampleStdev()

    def histogram(self, buckets: int | Sequence[Any]) -> tuple[Sequence[Any], list[int]]:
        """The edges of buckets and how many elements lie in each: at or above its lower edge, below its upper one.

        The last bucket holds its upper edge too. None, not-a-numbers and what lies outside the edges are not counted.

        Args:
            buckets: how many of equal width between the smallest and the largest element, or the edges in order.

        Raises:
            ValueError: there are no elements to make edges from, or the edges are not in order.
            TypeError: the edges cannot be computed from these elements.

        Source: pyspark.RDD.histogram; an element counts by the edges that are returned, where PySpark divides by the width of
            equal buckets and may put an element at an edge into the bucket beside it. Difference: an element counts by the edges
            that are returned; PySpark divides by the width, so one that lies on an edge may count beside it.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(51, numSlices=2).histogram(2), sc.range(51).histogram([0, 5, 25, 50])
            (([0, 25, 50], [25, 26]), ([0, 5, 25, 50], [5, 20, 26]))
        """
        edges = self._edges(buckets) if isinstance(buckets, int) else _checked(buckets)
        if len(edges) == 2:
            counts = self.run(partial(_counted_between, *edges))
            return edges, [sum(counts)]
        parts = self.run(partial(_counted_in, edges))
        return edges, [sum(column) for column in zip(*parts, strict=True)] or [0] * (len(edges) - 1)

    def _edges(self, buckets: int) -> list[Any]:
        if buckets < 1:
            raise ValueError("number of buckets must be >= 1")
        ends = [end for part in self.run(_ends) for end in part]
        if not ends:
            raise ValueError("can not generate buckets from empty RDD")
        low, high = min(ends), max(ends)
        if low == high or buckets == 1:
            return [low, high]
        try:
            span = high - low
            width = span / buckets
        except TypeError as cause:
            raise TypeError("Can not generate buckets with non-number in RDD") from cause
        if math.isinf(width):
            raise ValueError("Can not generate buckets with infinite value")
        if int(width) * buckets == span:
            width = int(width)
        return [*(index * width + low for index in range(buckets)), high]

    # What PySpark estimates.

    def countApprox(self, timeout: int, confidence: float = 0.95) -> int:  # noqa: ARG002 - nothing is estimated
        """Number of elements, exact.

        Source: pyspark.RDD.countApprox. Difference: it waits for all partitions and leaves the timeout aside; PySpark
        returns what it knows when the timeout is over.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3], 2).countApprox(timeout=1_000)
            3
        """
        return self.count()

    def sumApprox(self, timeout: int, confidence: float = 0.95) -> BoundedFloat:  # noqa: ARG002 - nothing is estimated
        """The sum, exact.

        Source: pyspark.RDD.sumApprox. Difference: it waits for all partitions and leaves the timeout aside; PySpark
        returns what it knows when the timeout is over.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3], 2).sumApprox(timeout=1_000)
            6.0
        """
        return _exact(float(self.sum()))

    def meanApprox(self, timeout: int, confidence: float = 0.95) -> BoundedFloat:  # noqa: ARG002 - nothing is estimated
        """The mean, exact.

        Source: pyspark.RDD.meanApprox. Difference: it waits for all partitions and leaves the timeout aside; PySpark
        returns what it knows when the timeout is over.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3], 2).meanApprox(timeout=1_000)
            2.0
        """
        return _exact(self.mean())

    def countApproxDistinct(self, relativeSD: float = 0.05) -> int:
        """Number of different elements, exact: they are exchanged and counted, where PySpark keeps a sketch.

        Raises:
            ValueError: relativeSD is below what PySpark takes.

        Source: pyspark.RDD.countApproxDistinct. Difference: the number is exact; PySpark's is off by about relativeSD.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 1.0, "1"], 2).countApproxDistinct()
            3
        """
        if relativeSD < 0.000017:
            raise ValueError("relativeSD should be greater than 0.000017")
        return self.map(_as_key).reduceByKey(_nothing).count()


def _exact(value: float) -> BoundedFloat:
    return BoundedFloat(value, 1.0, value, value)


def _as_key(element: T) -> tuple[T, None]:
    return element, None


def _nothing(_left: None, _right: None) -> None:
    return None


def _is_number_like(element: Any) -> bool:
    return element is not None and not (isinstance(element, float) and math.isnan(element))


def _ends(elements: Iterator[Any]) -> list[Any]:
    """The smallest and the largest element, or nothing."""
    comparable = filter(_is_number_like, elements)
    for low in comparable:
        high = low
        for element in comparable:
            low, high = min(low, element), max(high, element)  # noqa: PLW2901 - the smallest so far
        return [low, high]
    return []


def _checked(buckets: Sequence[Any]) -> Sequence[Any]:
    if not isinstance(buckets, list | tuple):
        raise TypeError("buckets should be a list or tuple or number(int or long)")
    if len(buckets) < 2:
        raise ValueError("buckets should have more than one value")
    if not all(map(_is_number_like, buckets)):
        raise ValueError("can not have None or NaN in buckets")
    if sorted(buckets) != list(buckets):
        raise ValueError("buckets should be sorted")
    if len(set(buckets)) != len(buckets):
        raise ValueError("buckets should not contain duplicated values")
    return buckets


def _counted_between(low: Any, high: Any, elements: Iterator[Any]) -> int:
    return sum(1 for element in elements if _is_number_like(element) and low <= element <= high)


def _counted_in(edges: Sequence[Any], elements: Iterator[Any]) -> list[int]:
    low, high = edges[0], edges[-1]
    counts = [0] * len(edges)
    for element in elements:
        if _is_number_like(element) and low <= element <= high:
            counts[bisect_right(edges, element) - 1] += 1
    # The last bucket holds its upper edge, where the search puts an element behind it.
    at_the_end = counts.pop()
    counts[-1] += at_the_end
    return counts
