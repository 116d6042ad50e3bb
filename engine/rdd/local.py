"""The embedded backend's RDD: PySpark's methods over plans that our executors compute.

An RDD is lineage and nothing else. A narrow operator adds a node to the plan; a wide one remembers its parents, and their
map stages run when a job first needs them and once only (later jobs on the same RDD reuse the buckets).

Owns: LocalRDD.
Never: a process or a pipe; those are the context's.
"""

import operator
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Protocol, TypeVar, cast

from engine.errors import ConfigurationError
from engine.rdd import operators
from engine.rdd.api import RDD, T, U
from engine.rdd.fuse import Function
from engine.rdd.partitioner import HashPartitioner
from engine.rdd.task import (
    Cached,
    CoGroup,
    Collect,
    Fetch,
    Located,
    Narrow,
    Plan,
    ShuffleWrite,
    Split,
)

R = TypeVar("R")


class PlanBuilder:
    """What a task needs beside its plan: the functions, and the inputs of the plan's leaves."""

    def __init__(self, backend: "Backend") -> None:
        self._backend = backend
        self.functions: dict[int, Function] = {}
        self.inputs: dict[int, Any] = {}

    def function(self, function: Function) -> int:
        """The number of a function, which travels with the stage if the executor lacks it."""
        number = self._backend.reference(function)
        self.functions[number] = function
        return number

    def leaf(self, inputs: Any) -> int:
        """A new leaf with these inputs."""
        self.inputs[len(self.inputs)] = inputs
        return len(self.inputs) - 1


class Backend(Protocol):
    """What an RDD asks of its context."""

    @property
    def defaultParallelism(self) -> int:
        """Number of tasks that run at the same time."""

    def reference(self, function: Function) -> int:
        """The number of a function."""

    def next_rdd_id(self) -> int:
        """A number that no other RDD of this context has."""

    def release_rdd(self, rdd: int) -> None:
        """Let executors drop the RDD's kept partitions."""

    def run_stage(
        self,
        rdd: "LocalRDD[Any]",
        end: Callable[[PlanBuilder], Collect | ShuffleWrite],
        partitions: Sequence[int],
    ) -> list[Any]:
        """The result of each of the partitions, in the order given."""


class LocalRDD(RDD[T]):
    """A lazily evaluated, partitioned collection on the embedded backend; see `engine.rdd.api.RDD`.

    Example:
        >>> from engine import LocalContext
        >>> with LocalContext("local") as sc:
        ...     sc.parallelize(["a", "b", "a"], 2).map(lambda word: (word, 1)).reduceByKey(lambda x, y: x + y).collect()
        [('a', 2), ('b', 1)]
    """

    def __init__(
        self, backend: Backend, numPartitions: int, partitioner: HashPartitioner | None = None
    ) -> None:
        self.context = backend
        self.partitioner = partitioner
        """How keys were spread, when that is known; pair operations of the same partitioner then exchange nothing."""
        self._num_partitions = numPartitions
        self._id = backend.next_rdd_id()
        self._is_cached = False

    # What subclasses write.

    def plan_own(self, builder: PlanBuilder, index: int) -> Plan:
        """The plan of one partition, without the RDD's own cache."""
        raise NotImplementedError(type(self).__name__)

    def prepare(self) -> None:
        """Run the map stages that this RDD's plan fetches from, those that have not run yet."""
        raise NotImplementedError(type(self).__name__)

    def place(self, index: int) -> int:
        """The number that decides which executor computes the partition: equal numbers, equal executor."""
        return index

    # What all share.

    def plan(self, builder: PlanBuilder, index: int) -> Plan:
        """The plan of one partition."""
        plan = self.plan_own(builder, index)
        return Cached(plan, self._id) if self._is_cached else plan

    def getNumPartitions(self) -> int:
        """Number of partitions."""
        return self._num_partitions

    def id(self) -> int:
        """A number that no other RDD of this context has."""
        return self._id

    def cache(self) -> "LocalRDD[T]":
        """Keep the partitions in the executors' memory once computed, until `unpersist` or the RDD is gone.

        A partition whose elements could be changed in place is kept serialised, so each reader gets its own copy.
        """
        if not self._is_cached:
            self._is_cached = True
            weakref.finalize(self, self.context.release_rdd, self._id).atexit = False
        return self

    persist = cache

    def unpersist(self) -> "LocalRDD[T]":
        """Let go of the kept partitions."""
        if self._is_cached:
            self._is_cached = False
            self.context.release_rdd(self._id)
        return self

    # Narrow operators.

    def _narrow(self, kind: str, f: Function, keeps_keys: bool = False) -> "LocalRDD[Any]":
        return NarrowRDD(self, kind, f, self.partitioner if keeps_keys else None)

    def map(self, f: Callable[[T], U], preservesPartitioning: bool = False) -> "LocalRDD[U]":
        """The function of each element."""
        return self._narrow("map", f, preservesPartitioning)

    def filter(self, f: Callable[[T], bool]) -> "LocalRDD[T]":
        """The elements for which the function is true."""
        return self._narrow("filter", f, keeps_keys=True)

    def flatMap(self, f: Callable[[T], Iterable[U]], preservesPartitioning: bool = False) -> "LocalRDD[U]":
        """All elements of the function of each element."""
        return self._narrow("flatMap", f, preservesPartitioning)

    def mapPartitions(
        self, f: Callable[[Iterator[T]], Iterable[U]], preservesPartitioning: bool = False
    ) -> "LocalRDD[U]":
        """The function of each whole partition."""
        return self._narrow("mapPartitions", f, preservesPartitioning)

    def mapPartitionsWithIndex(
        self, f: Callable[[int, Iterator[T]], Iterable[U]], preservesPartitioning: bool = False
    ) -> "LocalRDD[U]":
        """The function of each partition's index and the partition."""
        return self._narrow("mapPartitionsWithIndex", f, preservesPartitioning)

    def mapValues(self, f: Callable[[Any], U]) -> "LocalRDD[tuple[Any, U]]":
        """The pairs with the function of each value."""
        return self._narrow("mapValues", f, keeps_keys=True)

    def flatMapValues(self, f: Callable[[Any], Iterable[U]]) -> "LocalRDD[tuple[Any, U]]":
        """A pair for each element of the function of each value."""
        return self._narrow("flatMapValues", f, keeps_keys=True)

    def glom(self) -> "LocalRDD[list[T]]":
        """Each partition as one list."""
        return self.mapPartitions(operators.as_one_list)

    def keys(self) -> "LocalRDD[Any]":
        """The key of each pair."""
        return self.map(operators.KEY)

    def values(self) -> "LocalRDD[Any]":
        """The value of each pair."""
        return self.map(operators.VALUE)

    def union(self, other: RDD[Any]) -> "LocalRDD[Any]":
        """The partitions of both, this one's first."""
        return UnionRDD(self.context, [self, own(self.context, other)])

    # Wide operators.

    def _partitioner(self, numPartitions: int | None) -> HashPartitioner:
        return HashPartitioner(self.context.defaultParallelism if numPartitions is None else numPartitions)

    def partitionBy(self, numPartitions: int | None) -> "LocalRDD[tuple[Any, Any]]":
        """The pairs, those of one key in one partition, in the order of the source partitions."""
        partitioner = self._partitioner(numPartitions)
        if self.partitioner == partitioner:
            return cast("LocalRDD[tuple[Any, Any]]", self)
        return ShuffledRDD(self, partitioner)

    def combineByKey(
        self,
        createCombiner: Callable[[Any], Any],
        mergeValue: Callable[[Any, Any], Any],
        mergeCombiners: Callable[[Any, Any], Any],
        numPartitions: int | None = None,
    ) -> "LocalRDD[tuple[Any, Any]]":
        """One pair a key with its combined values; values combine before anything is exchanged."""
        partitioner = self._partitioner(numPartitions)
        if self.partitioner == partitioner:
            return self._narrow(
                "mapPartitions", operators.Combine(createCombiner, mergeValue), keeps_keys=True
            )
        return ShuffledRDD(
            self, partitioner, create=createCombiner, merge=mergeValue, merge_combiners=mergeCombiners
        )

    def reduceByKey(
        self, func: Callable[[Any, Any], Any], numPartitions: int | None = None
    ) -> "LocalRDD[tuple[Any, Any]]":
        """One pair a key with its reduced values; values reduce before anything is exchanged."""
        partitioner = self._partitioner(numPartitions)
        if self.partitioner == partitioner:
            return self._narrow("reduceByKey", func, keeps_keys=True)
        return ShuffledRDD(self, partitioner, merge=func, merge_combiners=func)

    def groupByKey(self, numPartitions: int | None = None) -> "LocalRDD[tuple[Any, list[Any]]]":
        """One pair a key with the list of its values, in the order of the source partitions."""
        if self.partitioner == self._partitioner(numPartitions):
            return self._narrow("mapPartitions", operators.GROUP, keeps_keys=True)
        return self.combineByKey(operators.as_list, operators.append, operator.iadd, numPartitions)

    def cogroup(
        self, other: RDD[Any], numPartitions: int | None = None
    ) -> "LocalRDD[tuple[Any, tuple[list[Any], list[Any]]]]":
        """One pair a key with the list of its values on each side."""
        count = self._partitioner(numPartitions).numPartitions
        return CoGroupedRDD([self.partitionBy(count), own(self.context, other).partitionBy(count)])

    def join(
        self, other: RDD[Any], numPartitions: int | None = None
    ) -> "LocalRDD[tuple[Any, tuple[Any, Any]]]":
        """A pair (key, (left, right)) for each two pairs of one key."""
        return self.cogroup(other, numPartitions).flatMapValues(operators.product)

    # Actions.

    def run(self, f: Callable[[Iterator[T]], R], partitions: Sequence[int] | None = None) -> list[R]:
        """The function of each partition (all of them by default), computed in the executors."""
        self.prepare()
        indexes = range(self._num_partitions) if partitions is None else partitions
        return self.context.run_stage(self, lambda builder: Collect(builder.function(f)), indexes)

    def collect(self) -> list[T]:
        """All elements, in partition order."""
        return list(chain.from_iterable(self.run(operators.to_list)))

    def collectAsMap(self) -> dict[Any, Any]:
        """All pairs as one dict."""
        return dict(cast("list[tuple[Any, Any]]", self.collect()))

    def count(self) -> int:
        """Number of elements."""
        return sum(self.run(operators.count))

    def countByValue(self) -> dict[Any, int]:
        """How often each element occurs."""
        counts: defaultdict[Any, int] = defaultdict(int)
        for part in self.run(operators.count_values):
            for element, number in part.items():
                counts[element] += number
        return counts

    def reduce(self, f: Callable[[T, T], T]) -> T:
        """All elements reduced to one.

        Raises:
            ValueError: there is no element.
        """
        partials = list(chain.from_iterable(self.run(operators.Reduce(f))))
        for result in operators.Reduce(f)(iter(partials)):
            return result
        raise ValueError("Can not reduce() empty RDD")

    def take(self, num: int) -> list[T]:
        """The first elements, from as few partitions as it takes: one, then four times as many as before."""
        taken: list[T] = []
        next_index, width = 0, 1
        while len(taken) < num and next_index < self._num_partitions:
            indexes = range(next_index, min(next_index + width, self._num_partitions))
            taken.extend(chain.from_iterable(self.run(operators.Take[T](num - len(taken)), indexes)))
            next_index, width = indexes.stop, width * 4
        return taken[:num]

    def first(self) -> T:
        """The first element.

        Raises:
            ValueError: there is no element.
        """
        for element in self.take(1):
            return element
        raise ValueError("RDD is empty")

    def isEmpty(self) -> bool:
        """Whether there is no element."""
        return not self.take(1)

    def foreach(self, f: Callable[[T], object]) -> None:
        """Call the function on each element, in the executors."""
        self.run(operators.ForEach(f))

    def foreachPartition(self, f: Callable[[Iterator[T]], object]) -> None:
        """Call the function on each partition, in the executors."""
        self.run(operators.ForEachPartition(f))


def own(backend: Backend, rdd: RDD[Any]) -> LocalRDD[Any]:
    """The RDD, which must be one of this backend's.

    Raises:
        ConfigurationError: it was made by another context.
    """
    if not isinstance(rdd, LocalRDD) or rdd.context is not backend:
        raise ConfigurationError(
            f"an RDD of another context ({type(rdd).__name__}) cannot be combined with one of this; make both with one context"
        )
    return rdd


class ParallelizedRDD(LocalRDD[T]):
    """Elements of the driver, in slices that are shipped to the tasks."""

    def __init__(self, backend: Backend, slices: Sequence[Sequence[T]]) -> None:
        super().__init__(backend, len(slices))
        self._slices = slices

    def prepare(self) -> None:
        """Nothing comes before the driver's own elements."""

    def plan_own(self, builder: PlanBuilder, index: int) -> Plan:
        """A leaf with the partition's slice."""
        return Split(builder.leaf(self._slices[index]))


class NarrowRDD(LocalRDD[Any]):
    """One narrow operator over its parent."""

    def __init__(
        self, parent: LocalRDD[Any], kind: str, f: Function, partitioner: HashPartitioner | None
    ) -> None:
        super().__init__(parent.context, parent.getNumPartitions(), partitioner)
        self._parent = parent
        self._kind = kind
        self._function = f

    def prepare(self) -> None:
        """The parent's map stages."""
        self._parent.prepare()

    def place(self, index: int) -> int:
        """Where the parent's partition is."""
        return self._parent.place(index)

    def plan_own(self, builder: PlanBuilder, index: int) -> Plan:
        """The operator over the parent's partition."""
        return Narrow(self._parent.plan(builder, index), self._kind, builder.function(self._function))


class UnionRDD(LocalRDD[Any]):
    """The partitions of its parents, one parent after the other."""

    def __init__(self, backend: Backend, parents: Sequence[LocalRDD[Any]]) -> None:
        super().__init__(backend, sum(parent.getNumPartitions() for parent in parents))
        self._parents = parents
        self._places = [(parent, index) for parent in parents for index in range(parent.getNumPartitions())]

    def prepare(self) -> None:
        """The parents' map stages."""
        for parent in self._parents:
            parent.prepare()

    def place(self, index: int) -> int:
        """Where the parent's partition is."""
        parent, parent_index = self._places[index]
        return parent.place(parent_index)

    def plan_own(self, builder: PlanBuilder, index: int) -> Plan:
        """The partition of the parent that it lies in."""
        parent, parent_index = self._places[index]
        return Located(parent.plan(builder, parent_index), parent_index)


class ShuffledRDD(LocalRDD[tuple[Any, Any]]):
    """The parent's pairs spread by key, combined on both sides of the exchange when a merge is given."""

    def __init__(
        self,
        parent: LocalRDD[Any],
        partitioner: HashPartitioner,
        *,
        create: Function | None = None,
        merge: Function | None = None,
        merge_combiners: Function | None = None,
    ) -> None:
        super().__init__(parent.context, partitioner.numPartitions, partitioner)
        self._parent = parent
        self._create = create
        self._merge = merge
        self._merge_combiners = merge_combiners
        self._buckets: list[list[bytes]] | None = None
        """By map partition and then by own partition; pickled in the executors, never opened in the driver."""

    def prepare(self) -> None:
        """Run the map stage once, after those before it."""
        if self._buckets is None:
            self._parent.prepare()
            self._buckets = self.context.run_stage(
                self._parent, self._write, range(self._parent.getNumPartitions())
            )

    def _write(self, builder: PlanBuilder) -> ShuffleWrite:
        return ShuffleWrite(
            self._num_partitions,
            None if self._create is None else builder.function(self._create),
            None if self._merge is None else builder.function(self._merge),
        )

    def plan_own(self, builder: PlanBuilder, index: int) -> Plan:
        """A leaf that fetches the partition's buckets."""
        buckets = [row[index] for row in self._buckets or ()]
        merge = None if self._merge_combiners is None else builder.function(self._merge_combiners)
        return Fetch(builder.leaf(buckets), merge)


class CoGroupedRDD(LocalRDD[Any]):
    """The values of each key in each of its parents, which have one partitioner."""

    def __init__(self, parents: Sequence[LocalRDD[Any]]) -> None:
        super().__init__(parents[0].context, parents[0].getNumPartitions(), parents[0].partitioner)
        self._parents = parents

    def prepare(self) -> None:
        """The parents' map stages."""
        for parent in self._parents:
            parent.prepare()

    def plan_own(self, builder: PlanBuilder, index: int) -> Plan:
        """The parents' partitions of the same index, grouped."""
        return CoGroup(tuple(parent.plan(builder, index) for parent in self._parents))
