"""Keys go to the same partition in every process and version: the hash is part of the checkpoint format."""

import math
import os
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigurationError
from engine.rdd.partitioner import HashPartitioner, portable_hash

PINNED: list[tuple[Any, int]] = [
    (None, 0),
    (True, 1),
    (0, 0),
    (1, 1),
    (-1, 18446744073709551614),
    (1180591620717411303424, 512),
    (0.5, 1152921504606846976),
    ("", 3244421341483603138),
    ("a", 16629034431890738719),
    ("page-7", 17583633228105422005),
    ("ä", 6066459093398238388),
    (b"", 3244421341483603138),
    (b"a", 16629034431890738719),
    ((), 3430008),
    (("a",), 8619332299835568374),
    (("a", 1), 6308927237630819428),
    (("a", (1, None)), 17564568323557162428),
    ((1, 2), 3430029580088870095),
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"))
    | st.binary()
)
keys = st.recursive(scalars, lambda inner: st.tuples(inner) | st.tuples(inner, inner), max_leaves=5)


@pytest.mark.parametrize(("key", "expected"), PINNED)
def test_hashes_are_pinned(key: Any, expected: int) -> None:
    """The hash of a key is this number; another one would send keys to shards that do not hold them."""
    assert portable_hash(key) == expected


@given(keys, keys)
def test_equal_keys_hash_alike(one: Any, other: Any) -> None:
    """Keys that are one key of a dict have one hash."""
    assert portable_hash(one) == portable_hash(one)
    if one == other:
        assert portable_hash(one) == portable_hash(other)


@pytest.mark.parametrize("number", [0, 1, -1, 5, 2**53])
def test_numbers_of_all_kinds_hash_alike(number: int) -> None:
    """Equal numbers hash alike whatever their type."""
    kinds = [number, float(number), Decimal(number), Fraction(number), complex(number)]

    assert len({portable_hash(kind) for kind in kinds}) == 1
    assert len({portable_hash(("k", kind)) for kind in kinds}) == 1


def test_subclasses_hash_as_what_they_equal() -> None:
    """A str or tuple subclass hashes as the plain value that it equals."""

    class Page(str):
        __slots__ = ()

    class Pair(tuple[Any, ...]):
        __slots__ = ()

    assert portable_hash(Page("a")) == portable_hash("a")
    assert portable_hash(Pair(("a", 1))) == portable_hash(("a", 1))


def test_not_a_number_has_one_hash() -> None:
    """Every NaN has the same hash, which Python does not promise."""
    assert portable_hash(math.nan) == portable_hash(float("nan")) == portable_hash(-math.nan)


@pytest.mark.slow
def test_hashes_are_equal_in_every_process() -> None:
    """Hashes do not depend on the process's hash seed."""
    program = (
        "from engine.rdd.partitioner import portable_hash; print(portable_hash(('a', b'b', 'ä', 1.5, None)))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert found == {f"{portable_hash(('a', b'b', 'ä', 1.5, None))}\n"}


@pytest.mark.parametrize(
    "key", [["a"], {"a": 1}, {1}, object(), ("a", ["b"])], ids=["list", "dict", "set", "object", "in tuple"]
)
def test_keys_without_a_portable_hash_are_refused(key: Any) -> None:
    """A key of another type is refused with the kinds that are possible."""
    with pytest.raises(TypeError, match="use None, a number, str, bytes, or a tuple of those"):
        portable_hash(key)


def test_partitions_are_evenly_filled() -> None:
    """Many keys spread over all partitions alike."""
    partitioner = HashPartitioner(8)
    counts = [0] * 8
    for number in range(8_000):
        counts[partitioner.getPartition(f"user-{number}")] += 1
        counts[partitioner.getPartition(("user", number))] += 1

    assert all(1_600 < count < 2_400 for count in counts)


def test_partitioner_needs_a_partition() -> None:
    """A number of partitions below 1 is refused."""
    with pytest.raises(ConfigurationError, match="numPartitions is 0; give a number of at least 1"):
        HashPartitioner(0)
