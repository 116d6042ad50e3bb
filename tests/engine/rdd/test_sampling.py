"""Samples: alike by seed and partition, of the size that was asked for, in no two parts of a split."""

from collections import Counter

import pytest

from engine import LocalContext
from engine.errors import UserFunctionError


def test_samples_repeat_by_seed(context: LocalContext) -> None:
    """The same seed gives the same sample again, and another seed another one."""
    rdd = context.range(1_000, numSlices=4)

    assert rdd.sample(False, 0.3, 1).collect() == rdd.sample(False, 0.3, 1).collect()
    assert rdd.sample(False, 0.3, 1).collect() != rdd.sample(False, 0.3, 2).collect()


def test_samples_without_a_seed_draw_one(context: LocalContext) -> None:
    """A sample without a seed is the same in all of its jobs, and two of them differ."""
    rdd = context.range(1_000, numSlices=4)
    sample = rdd.sample(False, 0.5)

    assert sample.collect() == sample.collect()
    assert sample.collect() != rdd.sample(False, 0.5).collect()


def test_partitions_draw_different_numbers(context: LocalContext) -> None:
    """Equal partitions of one RDD give different samples."""
    first, second = context.parallelize([*range(200), *range(200)], 2).sample(False, 0.5, 3).glom().collect()

    assert first != second


def test_splits_share_nothing_and_lose_nothing(context: LocalContext) -> None:
    """Each element is in one part of a split, and the parts have about the sizes of their weights."""
    parts = [part.collect() for part in context.range(3_000, numSlices=3).randomSplit([1, 2, 3], 11)]

    assert sorted(n for part in parts for n in part) == list(range(3_000))
    assert [round(len(part) / 500) for part in parts] == [1, 2, 3]


def test_poisson_numbers_have_their_mean(context: LocalContext) -> None:
    """A sample with replacement has each element as often as its fraction on average, below 20 and above."""
    for fraction in (0.5, 3.0, 25.0):
        counts = Counter(context.range(400, numSlices=2).sample(True, fraction, 5).collect())

        assert abs(sum(counts.values()) / 400 - fraction) < 0.2 * fraction


def test_fractions_go_by_key(context: LocalContext) -> None:
    """Each key has its own fraction, and a key without one fails the job."""
    pairs = context.parallelize([(n % 2, n) for n in range(400)], 2)

    assert set(pairs.sampleByKey(False, {0: 1.0, 1: 0.0}, 1).keys().collect()) == {0}
    with pytest.raises(UserFunctionError, match="KeyError: 1"):
        pairs.sampleByKey(False, {0: 1.0}, 1).collect()
    with pytest.raises(ValueError, match=r"Negative fraction value: -1"):
        pairs.sampleByKey(False, {0: -1}, 1)


def test_taken_samples_have_the_number_asked_for(context: LocalContext) -> None:
    """A sample without replacement has different elements, all of them when there are fewer."""
    rdd = context.range(100, numSlices=3)
    taken = rdd.takeSample(False, 30, 2)

    assert len(set(taken)) == len(taken) == 30
    assert sorted(rdd.takeSample(False, 200, 2)) == list(range(100))
    assert len(rdd.takeSample(True, 200, 2)) == 200
    assert rdd.takeSample(False, 0) == context.emptyRDD().takeSample(False, 3) == []
    with pytest.raises(ValueError, match="Sample size cannot be greater than"):
        rdd.takeSample(False, 2**63)
