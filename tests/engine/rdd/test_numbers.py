"""Sums, moments and histograms beside what equals PySpark: merging, bounds, edges."""

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import LocalContext
from engine.rdd.numbers import StatCounter

SOME = st.lists(st.integers(-1_000, 1_000), max_size=30)


@pytest.mark.slow
@given(SOME, SOME)
def test_counters_merge_as_if_they_were_one(left: list[int], right: list[int]) -> None:
    """Two counters that are merged tell what one counter of all values tells."""
    merged = StatCounter(left).mergeStats(StatCounter(right))
    whole = StatCounter([*left, *right])

    assert merged.count() == whole.count()
    assert (merged.min(), merged.max()) == (whole.min(), whole.max())
    assert math.isclose(merged.mean(), whole.mean(), abs_tol=1e-9)
    if whole.count():
        assert math.isclose(merged.variance(), whole.variance(), abs_tol=1e-6)


@pytest.mark.slow
@given(st.lists(st.integers(-1_000, 1_000), min_size=2, max_size=30))
def test_variances_are_those_of_exact_numbers(values: list[int]) -> None:
    """The variances of a counter are those of the definition, computed in fractions."""
    mean = Fraction(sum(values), len(values))
    squares = sum((value - mean) ** 2 for value in values)

    assert math.isclose(StatCounter(values).variance(), squares / len(values), abs_tol=1e-6)
    assert math.isclose(StatCounter(values).sampleVariance(), squares / (len(values) - 1), abs_tol=1e-6)


def test_a_counter_merges_with_itself() -> None:
    """A counter that is merged with itself counts its values twice."""
    counter = StatCounter([1.0, 3.0])
    counter.mergeStats(counter)

    assert (counter.count(), counter.mean(), counter.variance()) == (4, 2.0, 1.0)
    assert counter.copy().merge(7.0).count() == 5
    assert counter.count() == 4


def test_estimates_are_exact(context: LocalContext) -> None:
    """The sums and means that PySpark estimates are exact numbers with their own value as bounds."""
    rdd = context.range(1, 101, numSlices=4)
    total, mean = rdd.sumApprox(1), rdd.meanApprox(1)

    assert (rdd.countApprox(1), total, mean) == (100, 5_050.0, 50.5)
    assert (total.low, total.high, total.confidence) == (5_050.0, 5_050.0, 1.0)
    assert (mean.mean, mean.low, mean.high) == (50.5, 50.5, 50.5)


def test_distinct_counts_are_exact(context: LocalContext) -> None:
    """Different elements are counted exactly, and an impossible precision is refused as in PySpark."""
    rdd = context.parallelize([n % 700 for n in range(2_000)], 3)

    assert rdd.countApproxDistinct(0.3) == 700
    with pytest.raises(ValueError, match=r"relativeSD should be greater than 0\.000017"):
        rdd.countApproxDistinct(0.00001)


@pytest.mark.parametrize("buckets", [2, 3, 7, 10])
def test_elements_count_by_the_edges_that_are_returned(context: LocalContext, buckets: int) -> None:
    """An element of a histogram lies between the edges of its bucket, whatever rounding made of the edges."""
    values = [n / 10 for n in range(31)]
    edges, counts = context.parallelize(values, 3).histogram(buckets)
    inside = [
        sum(low <= value < high or value == high == edges[-1] for value in values)
        for low, high in pairwise(edges)
    ]

    assert counts == inside
    assert sum(counts) == len(values)


def test_edges_of_ints_stay_ints(context: LocalContext) -> None:
    """Edges between ints are ints when the width is one."""
    edges, _ = context.parallelize([0, 10]).histogram(5)

    assert edges == [0, 2, 4, 6, 8, 10]
    assert set(map(type, edges)) == {int}


def test_infinite_widths_are_refused(context: LocalContext) -> None:
    """Buckets between infinities are refused."""
    with pytest.raises(ValueError, match="infinite value"):
        context.parallelize([-1e308, 1e308, math.inf]).histogram(2)
    with pytest.raises(ValueError, match="can not generate buckets from empty RDD"):
        context.parallelize([None, math.nan]).histogram(2)
