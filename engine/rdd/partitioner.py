"""Which partition a key belongs to: a hash that is equal in every process and part of the checkpoint format.

Owns: portable_hash, HashPartitioner.
Never: Python's own hash of str and bytes, which differs from process to process.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from numbers import Number

from xxhash import xxh3_64_intdigest

from engine.errors import ConfigurationError

_MASK = (1 << 64) - 1


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


@dataclass(frozen=True, slots=True)
class HashPartitioner:
    """Partition = portable_hash(key) modulo numPartitions; two of equal size are equal.

    Example:
        >>> HashPartitioner(4).getPartition("a") in range(4)
        True
    """

    numPartitions: int

    def __post_init__(self) -> None:
        if self.numPartitions < 1:
            raise ConfigurationError(f"numPartitions is {self.numPartitions}; give a number of at least 1")

    def getPartition(self, key: Hashable) -> int:
        """The partition that the key belongs to."""
        return portable_hash(key) % self.numPartitions
