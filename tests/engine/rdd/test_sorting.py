"""Sorting over partitions: order, stability, ranges of about equal size, and runs on disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import LocalContext
from engine.errors import UserFunctionError
from engine.rdd.scratch import Disk
from engine.rdd.shuffle import Chunks
from engine.rdd.sorting import Sampled, bounds_of, sort_blocks

elements = st.lists(st.tuples(st.integers(0, 9), st.integers()), max_size=40)


@pytest.fixture(scope="module")
def here() -> Iterator[LocalContext]:
    """A context in this process, for many small jobs."""
    with LocalContext("local", "test") as made:
        yield made


@given(elements, st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_sorts_are_those_of_python(
    here: LocalContext, pairs: list[tuple[int, int]], slices: int, count: int, is_ascending: bool
) -> None:
    """Every sort gives Python's order, in both directions, equal keys in their order before."""
    rdd = here.parallelize(pairs, slices)
    by_key = sorted(pairs, key=lambda pair: pair[0], reverse=not is_ascending)

    assert rdd.sortByKey(is_ascending, count).collect() == by_key
    assert rdd.sortBy(lambda pair: pair[0], is_ascending, count).collect() == by_key
    assert rdd.sortByKey(is_ascending, count, lambda key: -key).collect() == sorted(
        pairs, key=lambda pair: -pair[0], reverse=not is_ascending
    )
    assert rdd.sortBy(lambda pair: pair, is_ascending, count).collect() == sorted(
        pairs, reverse=not is_ascending
    )
    assert rdd.sortByKey(is_ascending, count).getNumPartitions() == count


@given(elements, st.integers(1, 4), st.booleans())
def test_partitions_are_sorted_each(
    here: LocalContext, pairs: list[tuple[int, int]], count: int, is_ascending: bool
) -> None:
    """RepartitionAndSortWithinPartitions spreads by its function and sorts each partition, stably."""
    rdd = here.parallelize(pairs, 3)
    for key in (None, lambda number: number // 2):
        parts = rdd.repartitionAndSortWithinPartitions(count, lambda number: number * 3, is_ascending, key)
        expected = [
            sorted(
                (pair for pair in pairs if pair[0] * 3 % count == index),
                key=lambda pair: pair[0] if key is None else key(pair[0]),
                reverse=not is_ascending,
            )
            for index in range(count)
        ]
        assert parts.glom().collect() == expected


@given(elements, st.booleans(), st.booleans(), st.integers(1, 5))
def test_runs_on_disk_merge_stably(
    tmp_path_factory: pytest.TempPathFactory,
    pairs: list[tuple[int, int]],
    is_ascending: bool,
    has_key: bool,
    size: int,
) -> None:
    """Sorted runs on disk, one for each block, merge into Python's order."""
    disk = Disk(str(tmp_path_factory.getbasetemp()), 0)
    chunks = [pairs[at : at + size] for at in range(0, len(pairs), size)]
    blocks = [([key for key, _ in chunk], [value for _, value in chunk]) for chunk in chunks]
    key = (lambda number: number // 2) if has_key else None
    found: list[Any] = []
    for own_keys, values in sort_blocks(blocks, key, disk, is_ascending=is_ascending):
        found += values if has_key else zip(own_keys or [], values, strict=True)

    expected = sorted(pairs, key=lambda pair: pair[0] // 2 if has_key else pair[0], reverse=not is_ascending)
    assert found == expected
    assert bool(disk.spilled_bytes) == bool(pairs)


@pytest.mark.slow
@pytest.mark.parametrize("master", ["local", "local[2]"])
def test_sort_beyond_memory(tmp_path: Path, master: str) -> None:
    """A sort of more than its memory gives everything in order, by way of the disk."""
    records = 80_000
    with LocalContext(master, memory=1, temporaryFolder=str(tmp_path)) as context:
        numbers = context.parallelize(range(4), 4).flatMap(lambda part: range(part, records, 4))
        mixed = numbers.map(lambda n: n * 7_919 % records)

        assert mixed.sortBy(lambda n: n, True, 2).collect() == list(range(records))
        assert mixed.sortBy(lambda n: -n, True, 2).collect() == list(range(records))[::-1]
        assert context.spilled_bytes > 0


def test_ranges_are_of_about_equal_size(context: LocalContext) -> None:
    """A sample decides the ranges: none of four has more than a third of the elements, in the same way each time."""
    rdd = context.parallelize([n * 7_919 % 20_011 for n in range(20_000)], 3)
    sizes = [len(part) for part in rdd.sortBy(lambda n: n, True, 4).glom().collect()]

    assert sum(sizes) == 20_000
    assert max(sizes) < 20_000 / 3
    assert sizes == [len(part) for part in rdd.sortBy(lambda n: n, True, 4).glom().collect()]


def test_sorts_run_when_a_job_needs_them(context: LocalContext) -> None:
    """A sort that nobody reads computes nothing, and one that is read twice is computed for a sample and once more."""
    computed = context.accumulator(0)

    def noted(n: int) -> int:
        computed.add(1)
        return n

    ordered = context.parallelize([3, 1, 2], 2).map(noted).sortBy(lambda n: n, True, 2)

    assert computed.value == 0
    assert (ordered.collect(), ordered.first(), ordered.count()) == ([1, 2, 3], 1, 3)
    assert computed.value == 6


def test_keys_without_an_order_are_an_error(context: LocalContext) -> None:
    """Keys that Python cannot order are its own error."""
    with pytest.raises(UserFunctionError, match="'<' not supported between"):
        context.parallelize([1, "a", None, 2], 2).sortBy(lambda n: n, True, 1).collect()


def test_sample_is_uniform_and_repeatable() -> None:
    """A sample has the size asked for, comes from all over the partition, and is the same each time."""
    sample = Sampled(500, lambda n: n)
    seen, chosen = sample(iter(range(100_000)))

    assert seen == 100_000
    assert len(chosen) == 500
    assert 45_000 < sum(chosen) / 500 < 55_000
    assert sample(iter(range(100_000))) == (seen, chosen)
    assert sample(iter(range(3))) == (3, [0, 1, 2])
    assert sample(iter([])) == (0, [])


def test_bounds_weigh_partitions_by_their_size() -> None:
    """A sample of a large partition counts for more than one of equal length of a small partition."""
    assert bounds_of([(10, [1, 2]), (1_000, [5, 6])], 2) == [5]
    assert bounds_of([(2, [7, 7])], 4) == [7, 7, 7][: len(bounds_of([(2, [7, 7])], 4))]
    assert bounds_of([], 3) == []
    assert bounds_of([(0, [])], 3) == []


def test_chunks_follow_the_size_of_records() -> None:
    """Chunks grow while records are small and shrink to a few when they are large."""
    chunks = Chunks()
    lengths = []
    for chunk in chunks.of(range(200_000)):
        lengths.append(len(chunk))
        chunks.learn(len(chunk), len(chunk) * (10 if len(lengths) < 4 else 1_000_000))

    assert lengths[:4] == [512, 4_096, 32_768, 65_536]
    assert set(lengths[4:]) == {8}
