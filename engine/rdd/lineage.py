"""What an RDD knows of where its elements come from: plans, places, and the exchanges that have to run before.

Owns: Lineage, Exchange, PlanBuilder, Backend.
Never: a process or a pipe; those are the context's.
"""

import weakref
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from engine.errors import ConfigurationError
from engine.rdd.actions import Actions
from engine.rdd.api import RDD, T
from engine.rdd.fuse import Function
from engine.rdd.partitioner import Partitioner
from engine.rdd.plan import End, Fetch, Plan, SpreadWrite
from engine.rdd.shipped import packed
from engine.rdd.shuffle import Bucket


class PlanBuilder:
    """What a task needs beside its plan: the functions, and the inputs of the plan's leaves."""

    def __init__(self, number_of: Callable[[Function], int]) -> None:
        self._number_of = number_of
        self.functions: set[int] = set()
        """Numbers of the functions of the plan."""
        self.inputs: dict[int, Any] = {}

    def function(self, function: Function) -> int:
        """The number of a function, which travels with the stage if the executor lacks it."""
        number = self._number_of(function)
        self.functions.add(number)
        return number

    def optional(self, function: Function | None) -> int | None:
        """The number of a function, or None for none."""
        return None if function is None else self.function(function)

    def leaf(self, inputs: Any, *, is_read_only: bool = False) -> int:
        """A new leaf with these inputs; what a function of the user can change, each leaf of each task has to itself."""
        self.inputs[len(self.inputs)] = inputs if is_read_only else packed(inputs)
        return len(self.inputs) - 1


class Backend(Protocol):
    """What an RDD asks of its context."""

    @property
    def defaultParallelism(self) -> int:
        """Number of tasks that run at the same time."""

    @property
    def one_job(self) -> AbstractContextManager[object]:
        """Held by the thread whose job runs; it may be entered again by that thread."""

    def job(self) -> AbstractContextManager[None]:
        """What is inside is a job; it waits for its turn first, and other threads may cancel it."""

    def next_rdd_id(self) -> int:
        """A number that no other RDD of this context has."""

    def release_rdd(self, rdd: int) -> None:
        """Let executors drop the RDD's kept partitions."""

    def remove_shuffle(self, name: str) -> None:
        """Remove the files of a shuffle."""

    def run_stage(
        self, rdd: "Lineage[Any]", end: Callable[[PlanBuilder], End], partitions: Sequence[int]
    ) -> list[Any]:
        """The result of each of the partitions, in the order given."""


class Prepared(Protocol):
    """What comes before an RDD."""

    @property
    def is_pinned(self) -> bool:
        """Whether some partition can be computed nowhere but at its place: it is made of what an executor keeps."""

    def prepare(self) -> None:
        """Run the map stages before it, and its own, those that have not run yet."""


PlanOf = Callable[[PlanBuilder, int], Plan]
"""The plan of one partition."""


class Lineage(Actions[T]):
    """An RDD of the embedded backend as operators see it; `LocalRDD` is the only kind there is."""

    context: Any
    """The context that made it, a Backend."""
    partitioner: Partitioner | None
    """How keys were spread, when that is known; pair operations of an equal partitioner then exchange nothing."""
    parents: Sequence[Prepared]
    """RDDs and exchanges that it is computed from."""
    is_pinned: bool
    """Whether some partition can be computed nowhere but at its place: it is made of what an executor keeps, such as state."""

    @abstractmethod
    def plan(self, builder: PlanBuilder, index: int) -> Plan:
        """The plan of one partition."""

    @abstractmethod
    def place(self, index: int) -> int:
        """The number that decides which executor computes the partition: equal numbers, equal executor."""

    @abstractmethod
    def derive(
        self,
        parents: Sequence[Prepared],
        numPartitions: int,
        plan: PlanOf,
        partitioner: Partitioner | None = None,
        place: Callable[[int], int] | None = None,
    ) -> "Lineage[Any]":
        """An RDD of the same context with these plans."""

    @abstractmethod
    def unite(self, rdds: Sequence["Lineage[Any]"], partitioner: Partitioner | None) -> "Lineage[Any]":
        """The partitions of the RDDs one after the other; with a partitioner, which is theirs, each with its likes."""

    @abstractmethod
    def narrow(self, kind: str, f: Function, keeps_keys: bool = False) -> "Lineage[Any]":
        """A narrow operator over this; see `fuse.FUSED` and `task.WHOLE`."""

    def own(self, other: RDD[Any]) -> "Lineage[Any]":
        """The other RDD, which must be one of this context.

        Raises:
            ConfigurationError: it was made by another context.
        """
        return own(self.context, other)

    def anywhere(self) -> "Lineage[T]":
        """This RDD with partitions that any executor can read: those that are pinned are computed first, each at its place."""
        if not self.is_pinned:
            return self
        exchange = Exchange(self, self.getNumPartitions(), lambda _, name: SpreadWrite(name, 1))
        return self.after(exchange, exchange.fetch_own, self.partitioner)

    def spread(self, numPartitions: int | None, partitionFunc: Function | None = None) -> Partitioner:
        """The partitioner of an operation; as many partitions as tasks run at the same time when no number is given."""
        count = self.context.defaultParallelism if numPartitions is None else numPartitions
        return Partitioner(count) if partitionFunc is None else Partitioner(count, partitionFunc)

    def after(self, exchange: "Exchange", plan: PlanOf, partitioner: Partitioner | None) -> "Lineage[Any]":
        """The RDD that reads an exchange."""
        return self.derive([exchange], exchange.count, plan, partitioner)


def own(backend: Backend, rdd: RDD[Any]) -> Lineage[Any]:
    """The RDD, which must be one of this backend's.

    Raises:
        ConfigurationError: it was made by another context.
    """
    if not isinstance(rdd, Lineage) or rdd.context is not backend:
        raise ConfigurationError(
            f"an RDD of another context ({type(rdd).__name__}) cannot be combined with one of this; make both with one context"
        )
    return rdd


class Exchange:
    """A map stage: it runs once, and later jobs reuse what it wrote. Files of it are gone when it is.

    Args:
        parent: what the map tasks compute.
        count: partitions of the next stage.
        end: what the map tasks do; gets the builder and the shuffle's name.
        before: called in the driver before the stage, when the parent is ready.
    """

    def __init__(
        self,
        parent: Lineage[Any],
        count: int,
        end: Callable[[PlanBuilder, str], End],
        before: Callable[[], None] | None = None,
    ) -> None:
        self.parent = parent
        self.count = count
        self.is_pinned = False
        self._end = end
        self._before = before
        self.buckets: list[list[Bucket]] | None = None
        """By map partition and then by partition of the next stage; never opened in the driver."""
        self._files: weakref.finalize[..., Exchange] | None = None
        """Removes the stage's files, if it wrote any."""

    def prepare(self) -> None:
        """Run the map stage once, after those before it."""
        if self.buckets is not None:
            return
        self.parent.prepare()
        if self._before is not None:
            self._before()
        backend: Backend = self.parent.context
        name = f"shuffle-{backend.next_rdd_id()}"
        try:
            rows = backend.run_stage(
                self.parent, lambda builder: self._end(builder, name), range(self.parent.getNumPartitions())
            )
        except BaseException:
            backend.remove_shuffle(name)
            raise
        self.buckets = rows
        if any(type(bucket) is not bytes for row in rows for bucket in row):
            self._files = weakref.finalize(self, backend.remove_shuffle, name)
            self._files.atexit = False

    def forget(self) -> None:
        """Remove what the stage wrote; it runs again when a job needs it."""
        backend: Backend = self.parent.context
        with backend.one_job:
            self.buckets = None
            if self._files is not None:
                self._files()
                self._files = None

    def fetch(self, builder: PlanBuilder, index: int, merge: Function | None = None) -> Plan:
        """A leaf that reads the partition's buckets."""
        leaf = builder.leaf([row[index] for row in self.buckets or ()], is_read_only=True)
        return Fetch(leaf, builder.optional(merge))

    def fetch_own(self, builder: PlanBuilder, index: int) -> Plan:
        """A leaf that reads all that one map task wrote."""
        return Fetch(builder.leaf((self.buckets or ())[index], is_read_only=True), None)
