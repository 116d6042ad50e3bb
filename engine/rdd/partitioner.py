"""Which partition a key belongs to: a hash that is equal in every process and part of the checkpoint format.

Owns: portable_hash, hashes_of, Partitioner, HashPartitioner, RangePartitioner.
Never: Python's own hash of str and bytes, which differs from process to process.
"""

from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from numbers import Number
from typing import Any

from xxhash import xxh3_64_intdigest

from engine.errors import ConfigurationError

_MASK = (1 << 64) - 1
_OWN_HASH = (1 << 61) - 1
"""An int from 0 and below this is its own hash."""


def portable_hash(key: Hashable) -> int:  # noqa: PLR0911 - one return a kind of key
    """The hash of a key, equal in every process and for equal keys.

    Numbers that are equal hash alike (1, 1.0 and True), as they are one key of a dict. str and bytes go through
    XXH3; str("a") and b"a" are different keys and may share a hash.

    Raises:
        TypeError: the key is none of None, number, str, bytes, tuple of such.

    Example:
        >>> portable_hash(1) == portable_hash(1.0) == portable_hash(True)
        True
        >>> portable_hash(("a", 1)) == portable_hash(("a", 1.0))
        True
    """
    kind = type(key)
    if kind is str:
        return xxh3_64_intdigest(key.encode())  # type: ignore[attr-defined]  # its exact type is str
    if kind is int:
        # Python's hash of numbers has no seed and is equal for equal values of all number types.
        return hash(key) & _MASK
    if isinstance(key, tuple):
        mixed = 0x345678
        for item in key:
            mixed = ((mixed ^ portable_hash(item)) * 1_000_003 + len(key)) & _MASK
        return mixed
    if key is None:
        return 0
    if isinstance(key, str):
        return xxh3_64_intdigest(key.encode())
    if isinstance(key, bytes):
        return xxh3_64_intdigest(key)
    if isinstance(key, Number):
        # Not a number is not equal to itself, and Python hashes it by its address.
        return hash(key) & _MASK if key == key else 1  # noqa: PLR0124 - see above
    raise TypeError(
        f"a key of type {type(key).__name__} ({key!r:.60}) has no hash that is equal in every process; "
        "use None, a number, str, bytes, or a tuple of those"
    )


def hashes_of(keys: Sequence[Any]) -> Sequence[int]:
    """`portable_hash` of each key; keys of one type take a fast way.

    Example:
        >>> hashes_of([("a", 1), ("b", 2)]) == [portable_hash(("a", 1)), portable_hash(("b", 2))]
        True
    """
    kinds = set(map(type, keys))
    if kinds == {int}:
        if min(keys) >= 0 and max(keys) < _OWN_HASH:
            return keys
        return [number & _MASK for number in map(hash, keys)]
    if kinds == {str}:
        return [xxh3_64_intdigest(key.encode()) for key in keys]
    if kinds == {tuple} and len(sizes := set(map(len, keys))) == 1:
        (size,) = sizes
        mixed = [0x345678] * len(keys)
        for column in zip(*keys, strict=True) if size else ():
            items = hashes_of(column)
            mixed = [((old ^ new) * 1_000_003 + size) & _MASK for old, new in zip(mixed, items, strict=True)]
        return mixed
    return [portable_hash(key) for key in keys]


class Partitioner:
    """Which partition a key belongs to: a function of the key, modulo the number of partitions.

    Two are equal when their numbers are equal and their functions are: a function equals itself only. Pairs that
    equal partitioners spread are exchanged no second time.

    Args:
        numPartitions: at least 1.
        partitionFunc: an int of each key, alike for equal keys and in every process.

    Raises:
        ConfigurationError: numPartitions is below 1.

    Source: `pyspark.core.rdd.Partitioner`.

    Example:
        >>> Partitioner(2, len).getPartition("abc")
        1
        >>> Partitioner(2, len) == Partitioner(2, len), Partitioner(2, len) == Partitioner(3, len)
        (True, False)
    """

    def __init__(self, numPartitions: int, partitionFunc: Callable[[Any], int] = portable_hash) -> None:
        if numPartitions < 1:
            raise ConfigurationError(f"numPartitions is {numPartitions}; give a number of at least 1")
        self.numPartitions = numPartitions
        self.partitionFunc = partitionFunc

    def getPartition(self, key: Any) -> int:
        """The partition that the key belongs to."""
        return self.partitionFunc(key) % self.numPartitions

    def __call__(self, key: Any) -> int:
        """As `getPartition`, which is how PySpark's is asked."""
        return self.getPartition(key)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Partitioner)
            and self.numPartitions == other.numPartitions
            and self.partitionFunc == other.partitionFunc
        )

    def __hash__(self) -> int:
        return hash((self.numPartitions, self.partitionFunc))

    def __repr__(self) -> str:
        name = getattr(self.partitionFunc, "__qualname__", repr(self.partitionFunc))
        return f"Partitioner({self.numPartitions}, {name})"


class HashPartitioner(Partitioner):
    """The partitioner by `portable_hash`; two of equal size are equal.

    Example:
        >>> HashPartitioner(4).getPartition("a") in range(4)
        True
        >>> HashPartitioner(4) == Partitioner(4)
        True
    """

    def __init__(self, numPartitions: int) -> None:
        super().__init__(numPartitions)


class RangePartitioner(Partitioner):
    """The partitioner of a sort: by ranges of keys, which a sample decides when the sort first runs; it equals itself only.

    Example:
        >>> ranges = RangePartitioner(2, is_ascending=False)
        >>> ranges.bounds = [5]
        >>> [ranges.getPartition(key) for key in (9, 5, 1)]
        [0, 1, 1]
    """

    def __init__(self, numPartitions: int, is_ascending: bool) -> None:
        super().__init__(numPartitions, self._range_of)
        self.is_ascending = is_ascending
        self.bounds: list[Any] = []
        """The greatest key of each range but the last, ascending."""

    def _range_of(self, key: Any) -> int:
        index = bisect_left(self.bounds, key)
        return index if self.is_ascending else self.numPartitions - 1 - index


def partitions_of(keys: Sequence[Any], count: int, function: Callable[[Any], int] | None) -> list[int]:
    """The partition of each key, of so many; by `portable_hash` when there is no function.

    Example:
        >>> partitions_of([0, 1, 5], 2, None)
        [0, 1, 1]
    """
    if function is not None:
        return [function(key) % count for key in keys]
    return [number % count for number in hashes_of(keys)]
