"""The storage levels have the names and the meaning of Spark's."""

import pyspark
import pytest

from engine import StorageLevel

NAMED = {
    "NONE": StorageLevel.NONE,
    "DISK_ONLY": StorageLevel.DISK_ONLY,
    "DISK_ONLY_2": StorageLevel.DISK_ONLY_2,
    "DISK_ONLY_3": StorageLevel.DISK_ONLY_3,
    "MEMORY_ONLY": StorageLevel.MEMORY_ONLY,
    "MEMORY_ONLY_2": StorageLevel.MEMORY_ONLY_2,
    "MEMORY_AND_DISK": StorageLevel.MEMORY_AND_DISK,
    "MEMORY_AND_DISK_2": StorageLevel.MEMORY_AND_DISK_2,
    "MEMORY_AND_DISK_DESER": StorageLevel.MEMORY_AND_DISK_DESER,
    "OFF_HEAP": StorageLevel.OFF_HEAP,
}


def test_every_level_of_pyspark_is_there() -> None:
    """No level of PySpark's is missing."""
    assert {name for name in dir(pyspark.StorageLevel) if name.isupper()} == set(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_levels_mean_what_pysparks_mean(name: str) -> None:
    """A level has the flags and the description of PySpark's of the same name."""
    theirs, ours = getattr(pyspark.StorageLevel, name), NAMED[name]

    assert (repr(ours), str(ours)) == (repr(theirs), str(theirs))


def test_levels_of_scala_are_those_without_objects() -> None:
    """The levels with _SER, which Scala has, are other names of PySpark's, which always serialise."""
    assert StorageLevel.MEMORY_ONLY_SER == StorageLevel.MEMORY_ONLY
    assert StorageLevel.MEMORY_ONLY_SER_2 == StorageLevel.MEMORY_ONLY_2
    assert StorageLevel.MEMORY_AND_DISK_SER == StorageLevel.MEMORY_AND_DISK
    assert StorageLevel.MEMORY_AND_DISK_SER_2 == StorageLevel.MEMORY_AND_DISK_2
