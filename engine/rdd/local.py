"""The embedded backend's RDD: PySpark's methods over plans that our executors compute.

An RDD is lineage and nothing else. A narrow operator adds a node to the plan; a wide one remembers its exchanges, whose
map stages run when a job first needs them and once only (later jobs on the same RDD reuse the buckets).

Owns: LocalRDD, the narrow operators.
Never: a process or a pipe; those are the context's.
"""

import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, TypeVar

from engine.errors import ConfigurationError, LifecycleError
from engine.rdd.api import T, U
from engine.rdd.driver import DriverOnly
from engine.rdd.elements import Elements
from engine.rdd.fuse import Function
from engine.rdd.keeping import Keeping
from engine.rdd.lineage import Backend, Lineage, PlanBuilder, PlanOf, Prepared
from engine.rdd.numbers import Numbers
from engine.rdd.partitioner import Partitioner
from engine.rdd.plan import Cached, Chained, Collect, Located, Narrow, Plan, Split
from engine.rdd.rearranging import Rearranging
from engine.rdd.sampling import Sampling
from engine.rdd.saving import Saving
from engine.rdd.shipped import packed
from engine.storage import StorageLevel

R = TypeVar("R")


class LocalRDD(DriverOnly, Rearranging[T], Elements[T], Numbers[T], Sampling[T], Saving[T], Keeping[T]):
    """A lazily evaluated, partitioned collection on the embedded backend; see `engine.rdd.api.RDD`.

    Example:
        >>> from engine import LocalContext
        >>> with LocalContext("local") as sc:
        ...     sc.parallelize(["a", "b", "a"], 2).map(lambda word: (word, 1)).reduceByKey(lambda x, y: x + y).collect()
        [('a', 2), ('b', 1)]
    """

    def __init__(
        self,
        backend: Backend,
        numPartitions: int,
        partitioner: Partitioner | None = None,
        parents: Sequence[Prepared] = (),
    ) -> None:
        self.context = backend
        self.partitioner = partitioner
        self.parents = parents
        self.is_pinned = any(parent.is_pinned for parent in parents)
        self._num_partitions = numPartitions
        self._id = backend.next_rdd_id()
        self._level = StorageLevel.NONE
        self._is_watched = False

    # What subclasses write.

    def plan_own(self, builder: PlanBuilder, index: int) -> Plan:
        """The plan of one partition, without the RDD's own cache."""
        raise NotImplementedError(type(self).__name__)

    def place(self, index: int) -> int:
        """The number that decides which executor computes the partition: equal numbers, equal executor."""
        return index

    # What all share.

    def prepare(self) -> None:
        """Run the map stages that this RDD's plan fetches from, those that have not run yet."""
        if self._checkpoint is not None:
            self.settle()
        for parent in self.parents:
            parent.prepare()

    def plan(self, builder: PlanBuilder, index: int) -> Plan:
        """The plan of one partition."""
        plan = (
            self.plan_own(builder, index)
            if self._files is None
            else self.restored(builder, self._files[index])
        )
        if self._level is StorageLevel.NONE:
            return plan
        return Cached(plan, self._id, not self._level.useMemory)

    def run(self, f: Callable[[Iterator[T]], R], partitions: Sequence[int] | None = None) -> list[R]:
        """The function of each partition (all of them by default), computed in the executors."""
        indexes = range(self._num_partitions) if partitions is None else partitions
        # From the first map stage to the last: another thread's job on this RDD must not begin one that has begun.
        with self.context.job():
            self.prepare()
            results: list[R] = self.context.run_stage(
                self, lambda builder: Collect(builder.function(f)), indexes
            )
        return results

    def derive(
        self,
        parents: Sequence[Prepared],
        numPartitions: int,
        plan: PlanOf,
        partitioner: Partitioner | None = None,
        place: Callable[[int], int] | None = None,
    ) -> "LocalRDD[Any]":
        """An RDD of the same context with these plans."""
        return DerivedRDD(self.context, numPartitions, partitioner, parents, plan=plan, place=place)

    def unite(self, rdds: Sequence[Lineage[Any]], partitioner: Partitioner | None) -> "LocalRDD[Any]":
        """The partitions of the RDDs one after the other; with a partitioner, which is theirs, each with its likes."""
        return UnitedRDD(self.context, rdds, partitioner)

    def forget_parents(self) -> None:
        """Let go of what the RDD is computed from: its elements are in files."""
        self.parents = ()
        self.is_pinned = False

    def narrow(self, kind: str, f: Function, keeps_keys: bool = False) -> "LocalRDD[Any]":
        """A narrow operator over this; see `fuse.FUSED` and `task.WHOLE`."""
        return NarrowRDD(self, kind, f, self.partitioner if keeps_keys else None)

    def getNumPartitions(self) -> int:
        """Number of partitions.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3], 2).getNumPartitions()
            2
        """
        return self._num_partitions

    def id(self) -> int:
        """A number that no other RDD of this context has.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(1).id() != sc.range(1).id()
            True
        """
        return self._id

    def offsetRanges(self) -> list[Any]:
        """What a batch reads of each partition of a source: known only to the RDD of a direct stream itself.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(1).offsetRanges()  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            engine.errors.ConfigurationError: offsetRanges() is known only to ...
        """
        raise ConfigurationError(
            "offsetRanges() is known only to the RDD of a direct stream's first operation; "
            "ask for it in a transform or foreachRDD right on the stream"
        )

    def cache(self) -> "LocalRDD[T]":
        """Keep the partitions in the executors' memory once computed, until `unpersist` or the RDD is gone.

        A partition whose elements could be changed in place is kept serialised, so each reader gets its own copy.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2]).cache().is_cached
            True
        """
        return self.persist(StorageLevel.MEMORY_ONLY)

    def persist(self, storageLevel: StorageLevel = StorageLevel.MEMORY_ONLY) -> "LocalRDD[T]":
        """Keep the partitions once computed: in the executors' memory, or on disk where the level has no memory.

        Raises:
            LifecycleError: another level was assigned, and `unpersist` was not called since.

        Source: pyspark.RDD.persist.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     from engine import StorageLevel
            ...     str(sc.parallelize([1, 2]).persist(StorageLevel.DISK_ONLY).getStorageLevel())
            'Disk Serialized 1x Replicated'
        """
        if self._level not in {StorageLevel.NONE, storageLevel}:
            raise LifecycleError(
                "Cannot change storage level of an RDD after it was already assigned a level: it is "
                f"{self._level}, not {storageLevel}; call unpersist() first"
            )
        if not self._is_watched:
            self._is_watched = True
            weakref.finalize(self, self.context.release_rdd, self._id).atexit = False
        self._level = storageLevel
        return self

    def getStorageLevel(self) -> StorageLevel:
        """Where partitions are kept.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     str(sc.parallelize([1, 2]).cache().getStorageLevel())
            'Memory Serialized 1x Replicated'
        """
        return self._level

    @property
    def is_cached(self) -> bool:
        """Whether partitions are kept; PySpark's name.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2]).is_cached
            False
        """
        return self._level is not StorageLevel.NONE

    def unpersist(self, blocking: bool = False) -> "LocalRDD[T]":  # noqa: ARG002 - the next stage lets go before it runs
        """Let go of the kept partitions.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2]).cache().unpersist().is_cached
            False
        """
        if self.is_cached:
            self._level = StorageLevel.NONE
            self.context.release_rdd(self._id)
        return self

    # Narrow operators.

    def map(self, f: Callable[[T], U], preservesPartitioning: bool = False) -> "LocalRDD[U]":
        """The function of each element.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2]).map(lambda n: n * n).collect()
            [1, 4]
        """
        return self.narrow("map", f, preservesPartitioning)

    def filter(self, f: Callable[[T], bool]) -> "LocalRDD[T]":
        """The elements for which the function is true.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3]).filter(lambda n: n > 1).collect()
            [2, 3]
        """
        return self.narrow("filter", f, keeps_keys=True)

    def flatMap(self, f: Callable[[T], Iterable[U]], preservesPartitioning: bool = False) -> "LocalRDD[U]":
        """All elements of the function of each element.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize(["to be", "or"]).flatMap(str.split).collect()
            ['to', 'be', 'or']
        """
        return self.narrow("flatMap", f, preservesPartitioning)

    def mapPartitions(
        self, f: Callable[[Iterator[T]], Iterable[U]], preservesPartitioning: bool = False
    ) -> "LocalRDD[U]":
        """The function of each whole partition.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3], 2).mapPartitions(lambda part: [sum(part)]).collect()
            [1, 5]
        """
        return self.narrow("mapPartitions", f, preservesPartitioning)

    def mapPartitionsWithIndex(
        self, f: Callable[[int, Iterator[T]], Iterable[U]], preservesPartitioning: bool = False
    ) -> "LocalRDD[U]":
        """The function of each partition's index and the partition.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(3, numSlices=2).mapPartitionsWithIndex(lambda i, part: [(i, sum(part))]).collect()
            [(0, 0), (1, 3)]
        """
        return self.narrow("mapPartitionsWithIndex", f, preservesPartitioning)

    def mapValues(self, f: Callable[[Any], U]) -> "LocalRDD[tuple[Any, U]]":
        """The pairs with the function of each value.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1)]).mapValues(lambda n: n + 1).collect()
            [('a', 2)]
        """
        return self.narrow("mapValues", f, keeps_keys=True)

    def flatMapValues(self, f: Callable[[Any], Iterable[U]]) -> "LocalRDD[tuple[Any, U]]":
        """A pair for each element of the function of each value.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([("a", 2)]).flatMapValues(range).collect()
            [('a', 0), ('a', 1)]
        """
        return self.narrow("flatMapValues", f, keeps_keys=True)


class ParallelizedRDD(LocalRDD[T]):
    """Elements of the driver, in slices that are shipped to the tasks."""

    def __init__(self, backend: Backend, slices: Sequence[Sequence[T]]) -> None:
        super().__init__(backend, len(slices))
        self._slices = list(map(packed, slices))

    def plan_own(self, builder: PlanBuilder, index: int) -> Plan:
        """A leaf with the partition's slice."""
        return Split(builder.leaf(self._slices[index], is_read_only=True))


class PinnedRDD(ParallelizedRDD[int]):
    """The number of each partition, for functions that read what the executor at its place keeps."""

    def __init__(self, backend: Backend, numPartitions: int) -> None:
        super().__init__(backend, [range(index, index + 1) for index in range(numPartitions)])
        self.is_pinned = True


class NarrowRDD(LocalRDD[Any]):
    """One narrow operator over its parent."""

    def __init__(
        self, parent: LocalRDD[Any], kind: str, f: Function, partitioner: Partitioner | None
    ) -> None:
        super().__init__(parent.context, parent.getNumPartitions(), partitioner, (parent,))
        self._parent = parent
        self._kind = kind
        self._function = f

    def place(self, index: int) -> int:
        """Where the parent's partition is."""
        return self._parent.place(index)

    def forget_parents(self) -> None:
        """As of every RDD; an empty one stands in for the parent."""
        super().forget_parents()
        self._parent = ParallelizedRDD(self.context, [()] * self.getNumPartitions())

    def plan_own(self, builder: PlanBuilder, index: int) -> Plan:
        """The operator over the parent's partition."""
        return Narrow(self._parent.plan(builder, index), self._kind, builder.function(self._function))


class DerivedRDD(LocalRDD[Any]):
    """What a wide operator made: a function that writes its plans."""

    def __init__(
        self,
        backend: Backend,
        numPartitions: int,
        partitioner: Partitioner | None,
        parents: Sequence[Prepared],
        *,
        plan: PlanOf,
        place: Callable[[int], int] | None,
    ) -> None:
        super().__init__(backend, numPartitions, partitioner, parents)
        self._plan = plan
        self._place = place

    def place(self, index: int) -> int:
        """Where its first parent's partition is, or by its index."""
        return index if self._place is None else self._place(index)

    def forget_parents(self) -> None:
        """As of every RDD; what wrote its plans holds its parents too."""
        super().forget_parents()
        del self._plan
        self._place = None

    def plan_own(self, builder: PlanBuilder, index: int) -> Plan:
        """As the operator wrote it."""
        return self._plan(builder, index)


class UnitedRDD(LocalRDD[Any]):
    """The partitions of several RDDs; unions of unions are one union, however many an application makes one by one."""

    def __init__(
        self, backend: Backend, rdds: Sequence[Lineage[Any]], partitioner: Partitioner | None
    ) -> None:
        counts = [rdd.getNumPartitions() for rdd in rdds]
        super().__init__(backend, sum(counts) if partitioner is None else counts[0], partitioner, rdds)
        self._is_chained = partitioner is not None
        self._parts: Sequence[LocalRDD[Any]] = ()
        self._ends: Sequence[int] = ()
        """Where the partitions of each part end."""

    def prepare(self) -> None:
        """As of every RDD; and which of the unions before it are one with this: a kept one stands for itself."""
        if self._checkpoint is not None:
            self.settle()
        self._parts = self._before()
        self._ends = list(accumulate(part.getNumPartitions() for part in self._parts))
        for part in self._parts:
            part.prepare()

    def _before(self) -> Sequence[LocalRDD[Any]]:
        if self._files is not None:
            return ()
        parts: list[LocalRDD[Any]] = []
        # From the end: the next to look at is the last.
        unseen: list[Any] = [*reversed(self.parents)]
        while unseen:
            rdd = unseen.pop()
            if isinstance(rdd, UnitedRDD) and rdd.is_one_with(self._is_chained):
                unseen += reversed(rdd.parents)
            else:
                parts.append(rdd)
        return parts

    def is_one_with(self, is_chained: bool) -> bool:
        """Whether its parts may stand for it in a union of that kind: nothing of it is kept."""
        return (
            self._is_chained == is_chained and self._level is StorageLevel.NONE and self._checkpoint is None
        )

    def _at(self, index: int) -> tuple[LocalRDD[Any], int]:
        """The part that has the partition, and the partition's index there."""
        number = bisect_right(self._ends, index)
        return self._parts[number], index - (self._ends[number - 1] if number else 0)

    def place(self, index: int) -> int:
        """Where the part's partition is."""
        if self._files is not None:
            return index
        if self._is_chained:
            return self._parts[0].place(index)
        part, own_index = self._at(index)
        return part.place(own_index)

    def forget_parents(self) -> None:
        """As of every RDD; what it found of them too."""
        super().forget_parents()
        self._parts = self._ends = ()

    def plan_own(self, builder: PlanBuilder, index: int) -> Plan:
        """The part's partition; where all are spread alike, that of every part."""
        if self._is_chained:
            return Chained(tuple(part.plan(builder, index) for part in self._parts))
        part, own_index = self._at(index)
        return Located(part.plan(builder, own_index), own_index)
