"""Where an RDD's partitions are kept once computed: PySpark's storage levels, and those of Scala that Python lacks.

Owns: StorageLevel.
Never: the keeping itself; executors do that.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class StorageLevel:
    """Whether to keep partitions in memory, on disk, as objects or serialised, and in how many copies.

    On the embedded backend an executor keeps a partition in its memory, serialised where an element could be changed in
    place; a level with disk and without memory keeps it in a file of its own folder. The levels with `_SER` are other
    names of those without: in Python no level keeps a JVM's objects. There is one machine, so a replication of 2 or 3
    keeps one copy.

    Source: pyspark.StorageLevel, with the `_SER` levels of org.apache.spark.storage.StorageLevel.

    Example:
        >>> StorageLevel.MEMORY_AND_DISK_2
        StorageLevel(True, True, False, False, 2)
        >>> print(StorageLevel.DISK_ONLY)
        Disk Serialized 1x Replicated
    """

    useDisk: bool
    useMemory: bool
    useOffHeap: bool
    deserialized: bool
    replication: int = 1

    NONE: ClassVar["StorageLevel"]
    DISK_ONLY: ClassVar["StorageLevel"]
    DISK_ONLY_2: ClassVar["StorageLevel"]
    DISK_ONLY_3: ClassVar["StorageLevel"]
    MEMORY_ONLY: ClassVar["StorageLevel"]
    MEMORY_ONLY_2: ClassVar["StorageLevel"]
    MEMORY_ONLY_SER: ClassVar["StorageLevel"]
    MEMORY_ONLY_SER_2: ClassVar["StorageLevel"]
    MEMORY_AND_DISK: ClassVar["StorageLevel"]
    MEMORY_AND_DISK_2: ClassVar["StorageLevel"]
    MEMORY_AND_DISK_SER: ClassVar["StorageLevel"]
    MEMORY_AND_DISK_SER_2: ClassVar["StorageLevel"]
    MEMORY_AND_DISK_DESER: ClassVar["StorageLevel"]
    OFF_HEAP: ClassVar["StorageLevel"]

    def __repr__(self) -> str:
        flags = (self.useDisk, self.useMemory, self.useOffHeap, self.deserialized, self.replication)
        return f"StorageLevel({', '.join(map(str, flags))})"

    def __str__(self) -> str:
        words = [
            *(["Disk"] if self.useDisk else []),
            *(["Memory"] if self.useMemory else []),
            *(["OffHeap"] if self.useOffHeap else []),
            "Deserialized" if self.deserialized else "Serialized",
            f"{self.replication}x Replicated",
        ]
        return " ".join(words)


StorageLevel.NONE = StorageLevel(False, False, False, False)
StorageLevel.DISK_ONLY = StorageLevel(True, False, False, False)
StorageLevel.DISK_ONLY_2 = StorageLevel(True, False, False, False, 2)
StorageLevel.DISK_ONLY_3 = StorageLevel(True, False, False, False, 3)
StorageLevel.MEMORY_ONLY = StorageLevel(False, True, False, False)
StorageLevel.MEMORY_ONLY_2 = StorageLevel(False, True, False, False, 2)
StorageLevel.MEMORY_ONLY_SER = StorageLevel(False, True, False, False)
StorageLevel.MEMORY_ONLY_SER_2 = StorageLevel(False, True, False, False, 2)
StorageLevel.MEMORY_AND_DISK = StorageLevel(True, True, False, False)
StorageLevel.MEMORY_AND_DISK_2 = StorageLevel(True, True, False, False, 2)
StorageLevel.MEMORY_AND_DISK_SER = StorageLevel(True, True, False, False)
StorageLevel.MEMORY_AND_DISK_SER_2 = StorageLevel(True, True, False, False, 2)
StorageLevel.MEMORY_AND_DISK_DESER = StorageLevel(True, True, False, True)
StorageLevel.OFF_HEAP = StorageLevel(True, True, True, False, 1)
