"""Samples of an RDD: seeded, so that a partition that is computed again gives the same sample.

The numbers are drawn as PySpark draws them: the same seed over the same partitions gives the same elements there and here.

Owns: Sampling.
Never: a seed that is drawn in a task.
"""

import math
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, pairwise, repeat
from typing import Any, Final

from engine.rdd.actions import Actions
from engine.rdd.api import RDD, K, T, V

_SMALL_MEAN: Final = 20.0
"""Below it a Poisson number is a product of uniform ones, above it a sum of exponential ones, which cannot underflow."""


class Sampling(Actions[T]):
    """What takes a part of an RDD by chance; `LocalRDD` inherits it."""

    def sample(self, withReplacement: bool, fraction: float, seed: int | None = None) -> RDD[T]:
        """Each element with the probability `fraction`, or as often as a Poisson number of that mean.

        Elements: RDD[T] -> RDD[T]; order and partitions are kept.

        Replay: the same seed gives the same sample of the same partitions; without a seed one is drawn now, once.

        Raises:
            ValueError: the fraction is negative.

        Source: pyspark.RDD.sample.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(100, numSlices=4).sample(False, 0.1, 81).count()
            11
        """
        if not fraction >= 0:
            raise ValueError("Fraction must be nonnegative.")
        times = partial(_poisson, fraction) if withReplacement else partial(_once, fraction)
        return self.mapPartitionsWithIndex(partial(_sampled, _seeded(seed), times), True)

    def sampleByKey(
        self, withReplacement: bool, fractions: Mapping[K, float], seed: int | None = None
    ) -> RDD[tuple[K, V]]:
        """Each pair with the probability of its key, or as often as a Poisson number of that mean.

        Elements: RDD[tuple[K, V]] -> RDD[tuple[K, V]]; every key must have a fraction.

        Replay: as `sample`.

        Raises:
            ValueError: a fraction is negative.

        Source: pyspark.RDD.sampleByKey, where a negative fraction is an AssertionError.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     pairs = sc.parallelize([("a", n) for n in range(50)] + [("b", n) for n in range(50)], 2)
            ...     dict(pairs.sampleByKey(False, {"a": 0.0, "b": 1.0}, 7).countByKey())
            {'b': 50}
        """
        for fraction in fractions.values():
            if not fraction >= 0:
                raise ValueError(f"Negative fraction value: {fraction}")
        draw = _poisson if withReplacement else _once
        return self.mapPartitionsWithIndex(
            partial(_sampled_by_key, _seeded(seed), draw, dict(fractions)), True
        )

    def randomSplit(self, weights: Sequence[float], seed: int | None = None) -> list[RDD[T]]:
        """The elements divided by chance over as many RDDs as there are weights; each element is in one of them.

        Replay: as `sample`; the RDDs stay apart only while their parent gives the same partitions.

        Raises:
            ValueError: a weight is negative, or none is positive.

        Source: pyspark.RDD.randomSplit.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     large, small = sc.range(100, numSlices=2).randomSplit([4, 1], 17)
            ...     large.count() + small.count()
            100
        """
        if not all(weight >= 0 for weight in weights):
            raise ValueError("Weights must be nonnegative")
        total = float(sum(weights))
        if not total > 0:
            raise ValueError("Sum of weights must be positive")
        chosen = random.randint(0, 2**32 - 1) if seed is None else seed
        edges = accumulate((weight / total for weight in weights), initial=0.0)
        return [
            self.mapPartitionsWithIndex(partial(_sampled, chosen, partial(_between, low, high)), True)
            for low, high in pairwise(edges)
        ]

    def takeSample(self, withReplacement: bool, num: int, seed: int | None = None) -> list[T]:
        """That many elements by chance, in a chance order; all of them when there are fewer.

        Replay: as `sample`.

        Raises:
            ValueError: the number is negative, or too large for a list.

        Source: pyspark.RDD.takeSample.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     len(sc.range(100, numSlices=2).takeSample(False, 10, 1))
            10
        """
        largest = sys.maxsize - int(10.0 * math.sqrt(sys.maxsize))
        if num < 0:
            raise ValueError("Sample size cannot be negative.")
        if num > largest:
            raise ValueError(f"Sample size cannot be greater than {largest}.")
        total = self.count() if num else 0
        if total == 0:
            return []
        chance = random.Random(seed)
        if num >= total and not withReplacement:
            taken = self.collect()
            chance.shuffle(taken)
            return taken
        fraction = _fraction_for(num, total, withReplacement)
        taken = self.sample(withReplacement, fraction, seed).collect()
        # The fraction is chosen so that a second round is next to never needed.
        while len(taken) < num:
            taken = self.sample(withReplacement, fraction, chance.randint(0, sys.maxsize)).collect()
        chance.shuffle(taken)
        return taken[:num]


def _seeded(seed: int | None) -> int:
    return random.randint(0, sys.maxsize) if seed is None else seed


def _generator(seed: int, index: int) -> random.Random:
    """The numbers of one partition; as in PySpark the first ten go, since neighbouring seeds begin alike."""
    chance = random.Random(seed ^ index)
    for _ in range(10):
        chance.randint(0, 1)
    return chance


def _once(fraction: float, chance: random.Random) -> int:
    return chance.random() < fraction


def _between(low: float, high: float, chance: random.Random) -> int:
    return low <= chance.random() < high


def _poisson(mean: float, chance: random.Random) -> int:
    """A Poisson number by Knuth's method: how many uniform numbers multiply until they fall below exp(-mean)."""
    count = 0
    if mean < _SMALL_MEAN:
        floor, product = math.exp(-mean), chance.random()
        while product > floor:
            count += 1
            product *= chance.random()
        return count
    total = chance.expovariate(mean)
    while total < 1.0:
        count += 1
        total += chance.expovariate(mean)
    return count


def _sampled(
    seed: int, times: Callable[[random.Random], int], index: int, elements: Iterator[T]
) -> Iterator[T]:
    chance = _generator(seed, index)
    for element in elements:
        yield from repeat(element, times(chance))


def _sampled_by_key(
    seed: int,
    draw: Callable[[float, random.Random], int],
    fractions: Mapping[Any, float],
    index: int,
    pairs: Iterator[tuple[K, V]],
) -> Iterator[tuple[K, V]]:
    chance = _generator(seed, index)
    for pair in pairs:
        yield from repeat(pair, draw(fractions[pair[0]], chance))


def _fraction_for(num: int, total: int, with_replacement: bool) -> float:
    """The fraction whose sample has at least `num` of `total` elements in 99.99 % of all cases."""
    fraction = num / total
    if with_replacement:
        # Standard deviations of a Poisson number above its mean; small samples need more.
        deviations = 9 if num < 12 else 5
        return fraction + deviations * math.sqrt(fraction / total)
    gamma = -math.log(0.00005) / total
    return min(1.0, fraction + gamma + math.sqrt(gamma * gamma + 2 * gamma * fraction))
