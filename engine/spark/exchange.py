"""How pairs come to their shards on Spark: in chunks that say where they come from, so that every run sees one order.

Spark hands a task the blocks of a shuffle as they arrive. A state that is made in another order may be another state, and a batch
that runs again must give the same: chunks are put in the order of the partitions that they come from.

Owns: Bundles, Scatter, Gather, GroupValues, Merge.
Never: a record by itself in the shuffle.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from operator import itemgetter
from typing import Any, NamedTuple

from engine.rdd.partitioner import partitions_of

CHUNK_RECORDS = 5_000
"""Records that a map task looks at before it hands on what it has for each shard."""

Chunk = tuple[int, int, list[Any]]
"""(partition that it comes from, its number there, pairs)."""
_PLACE = itemgetter(0, 1)
_KEY = itemgetter(0)


class Bundles(NamedTuple):
    """Which task takes which shards: neighbours go to one task, so their order stays.

    Example:
        >>> bundles = Bundles(shards=5, tasks=2)
        >>> [bundles.task_of(shard) for shard in range(5)], bundles.shards_of(0)
        ([0, 0, 0, 1, 1], [0, 1, 2])
    """

    shards: int
    tasks: int

    def task_of(self, shard: int) -> int:
        """The task that takes a shard."""
        return shard * self.tasks // self.shards

    def shards_of(self, task: int) -> list[int]:
        """The shards that a task takes."""
        return [shard for shard in range(self.shards) if self.task_of(shard) == task]


class Scatter:
    """The pairs of a partition as chunks by shard; with a function each chunk has one pair a key.

    Args:
        shards: how many.
        function: reduces the values of a key; None keeps every pair.
    """

    def __init__(self, shards: int, function: Callable[[Any, Any], Any] | None = None) -> None:
        self._shards = shards
        self._function = function

    def __call__(self, index: int, pairs: Iterator[tuple[Any, Any]]) -> Iterable[tuple[int, Chunk]]:
        """(shard, chunk)."""
        number = 0
        if self._function is not None:
            pairs = iter(reduced(pairs, self._function).items())
        while batch := list(islice(pairs, CHUNK_RECORDS)):
            buckets: dict[int, list[Any]] = {}
            shards = partitions_of(list(map(_KEY, batch)), self._shards, None)
            for shard, pair in zip(shards, batch, strict=True):
                buckets.setdefault(shard, []).append(pair)
            for shard, bucket in buckets.items():
                yield shard, (index, number, bucket)
            number += 1


class Gather:
    """The pairs of a shard, in the order of the partitions that they come from."""

    def __call__(self, chunks: Iterator[tuple[int, Chunk]]) -> Iterator[tuple[Any, Any]]:
        """The pairs."""
        ordered = sorted((chunk for _, chunk in chunks), key=_PLACE)
        return chain.from_iterable(pairs for _, _, pairs in ordered)


class GroupValues(Gather):
    """One pair a key of a shard, with the list of its values."""

    def __call__(self, chunks: Iterator[tuple[int, Chunk]]) -> Iterator[tuple[Any, Any]]:
        """(key, values)."""
        groups: dict[Any, list[Any]] = {}
        for key, value in super().__call__(chunks):
            groups.setdefault(key, []).append(value)
        return iter(groups.items())


class Merge(Gather):
    """One pair a key of a shard, with its values reduced."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        self._function = function

    def __call__(self, chunks: Iterator[tuple[int, Chunk]]) -> Iterator[tuple[Any, Any]]:
        """(key, value)."""
        return iter(reduced(super().__call__(chunks), self._function).items())


def reduced(pairs: Iterable[tuple[Any, Any]], function: Callable[[Any, Any], Any]) -> dict[Any, Any]:
    """Each key with its values reduced.

    Example:
        >>> reduced([("a", 1), ("b", 2), ("a", 3)], lambda x, y: x + y)
        {'a': 4, 'b': 2}
    """
    found: dict[Any, Any] = {}
    for key, value in pairs:
        found[key] = function(found[key], value) if key in found else value
    return found
