"""State and windows stay where their executor is, and operations that bring partitions together get them all the same."""

from collections.abc import Callable
from operator import add, sub
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext
from engine.dstream.dstream import DStream
from tests.engine.app import collected

BATCHES = [[("a", 1), ("b", 2)], [("c", 3)], [("a", 4)]]
SUMS = [
    [("a", 1), ("b", 2)],
    [("a", 1), ("b", 2), ("c", 3)],
    [("a", 5), ("b", 2), ("c", 3)],
]
"""After each batch."""


def summed(values: list[int], before: int | None) -> int:
    """The sum so far."""
    return sum(values) + (before or 0)


KINDS: dict[str, Callable[[DStream[Any]], DStream[Any]]] = {
    "state": lambda pairs: pairs.updateStateByKey(summed),
    "window": lambda pairs: pairs.reduceByKeyAndWindow(add, None, 9),
    "window with an inverse": lambda pairs: pairs.reduceByKeyAndWindow(add, sub, 9),
}
CHANGES: dict[str, tuple[Callable[[Any], Any], Callable[[list[Any]], list[Any]]]] = {
    "coalesce": (lambda rdd: rdd.coalesce(1), lambda sums: sums),
    "coalesce of a union": (lambda rdd: rdd.union(rdd).coalesce(2), lambda sums: [*sums, *sums]),
    "cartesian": (
        lambda rdd: rdd.cartesian(rdd),
        lambda sums: [(left, right) for left in sums for right in sums],
    ),
}
"""What is done to the RDD, and what it gives."""


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_state_is_brought_together(context: LocalContext, tmp_path: Path, kind: str, change: str) -> None:
    """What coalesce and cartesian make of state or a window is what they make of its elements."""
    function, expected = CHANGES[change]

    found = collected(context, tmp_path, lambda pairs: KINDS[kind](pairs).transform(function), BATCHES)

    assert found == [sorted(expected(sums)) for sums in SUMS]


def test_sides_of_a_zip_may_be_at_other_places(context: LocalContext, tmp_path: Path) -> None:
    """State zipped with state whose partitions are those of other executors gives the elements of both."""

    def shifted(rdd: Any) -> Any:
        sizes = rdd.glom().map(len)
        one = rdd.context.parallelize([0], 1)
        return one.union(sizes).zip(sizes.union(one))

    sizes = collected(
        context, tmp_path, lambda pairs: KINDS["state"](pairs).transform(shifted), BATCHES, shards=3
    )

    assert [(sum(left for left, _ in each), sum(right for _, right in each)) for each in sizes] == [
        (2, 2),
        (3, 3),
        (3, 3),
    ]
