"""The way of pairs to their shards on Spark, without a cluster."""

import itertools
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest

from engine.rdd.partitioner import HashPartitioner
from engine.spark import exchange
from engine.spark.exchange import Gather, GroupValues, Merge, Scatter

SHARDS = 3
PARTITIONS = [
    [("a", 1), ("b", 2), ("a", 3)],
    [],
    [("c", 4), ("a", 5), (1, 6), (1.0, 7), (True, 8), (None, 9)],
]


def shuffled(
    scatter: Scatter, partitions: Iterable[Iterable[Any]], *, is_reversed: bool = False
) -> dict[int, list[Any]]:
    """The chunks by shard, in the order of their partitions or in the reverse one."""
    found: dict[int, list[Any]] = defaultdict(list)
    for index, partition in enumerate(partitions):
        for shard, chunk in scatter(index, iter(partition)):
            found[shard].append((shard, chunk))
    return {shard: chunks[::-1] if is_reversed else chunks for shard, chunks in found.items()}


def test_each_pair_comes_to_the_shard_of_its_key() -> None:
    """A pair comes to the shard that the checkpoint's partitioner names, so state moves between backends."""
    for shard, chunks in shuffled(Scatter(SHARDS), PARTITIONS).items():
        for key, _ in Gather()(iter(chunks)):
            assert HashPartitioner(SHARDS).getPartition(key) == shard


@pytest.mark.parametrize("end", [Gather(), GroupValues(), Merge(lambda x, y: x * 10 + y)])
def test_the_order_of_arrival_is_not_seen(end: Gather, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that arrive in another order give the same elements in the same order."""
    monkeypatch.setattr(exchange, "CHUNK_RECORDS", 2)
    scatter = Scatter(SHARDS, end._function if isinstance(end, Merge) else None)
    forth, back = (shuffled(scatter, PARTITIONS, is_reversed=is_reversed) for is_reversed in (False, True))

    assert {shard: list(end(iter(chunks))) for shard, chunks in forth.items()} == {
        shard: list(end(iter(chunks))) for shard, chunks in back.items()
    }


def test_values_of_a_key_keep_the_order_of_their_partitions() -> None:
    """The values of a key are in the order of the batch, and keys that are equal across types are one key."""
    groups = [
        pair
        for chunks in shuffled(Scatter(SHARDS), PARTITIONS).values()
        for pair in GroupValues()(iter(chunks))
    ]

    assert dict(groups) == {"a": [1, 3, 5], "b": [2], "c": [4], 1: [6, 7, 8], None: [9]}


def test_values_are_reduced_before_they_travel() -> None:
    """With a function a map task sends one pair a key, and the shard reduces what the tasks sent."""
    chunks = shuffled(Scatter(SHARDS, lambda x, y: x + y), PARTITIONS)
    sent = list(
        itertools.chain.from_iterable(pairs for parts in chunks.values() for _, (_, _, pairs) in parts)
    )
    merged = [pair for parts in chunks.values() for pair in Merge(lambda x, y: x + y)(iter(parts))]

    assert sorted(key for key, _ in sent if isinstance(key, str)) == ["a", "a", "b", "c"]
    assert dict(merged) == {"a": 9, "b": 2, "c": 4, 1: 21, None: 9}
