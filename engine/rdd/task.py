"""What runs inside a process for one partition: the evaluation of a plan.

Narrow operators become one loop (see fuse.py); a `Fetch` leaf reads the exchanged rest of an earlier stage.

Owns: TaskContext, Runtime, WHOLE.
Never: a process, a pipe, the driver's lineage.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import chain
from typing import Any, ClassVar, Final, TypeVar

from engine.rdd import serializers
from engine.rdd.fuse import FUSED, Function, chain_of, combine_of
from engine.rdd.grouping import LongGroup, grouped, product, stored
from engine.rdd.plan import (
    Cached,
    Chained,
    Collect,
    Combined,
    Fetch,
    Group,
    Located,
    Narrow,
    Plan,
    Product,
    RangeWrite,
    ShuffleWrite,
    Sorted,
    Split,
    SpreadWrite,
    Task,
    Write,
    Zipped,
)
from engine.rdd.scratch import Disk
from engine.rdd.serializers import Block, cannot_change, dump, dump_by_value, load
from engine.rdd.shipped import LoadedFunctions, unpacked
from engine.rdd.shuffle import (
    Bucket,
    Watch,
    Writer,
    blocks_of,
    combined_here,
    elements_of,
    merged,
    pair_blocks,
)
from engine.rdd.sorting import sort_blocks, write_ranges

R = TypeVar("R")

SCALARS: Final = serializers.SCALARS
"""Types whose values cannot change in place."""


class TaskContext:
    """What a running task knows of itself; the class and its methods are PySpark's.

    Example:
        >>> from engine import LocalContext
        >>> with LocalContext("local") as sc:
        ...     sc.range(3, numSlices=3).map(lambda n: (n, TaskContext.get().partitionId())).collect()
        [(0, 0), (1, 1), (2, 2)]
    """

    _running: ClassVar["_OfThread | _OfProcess"]

    def __init__(self, runtime: "Runtime", task: Task, properties: Mapping[str, str]) -> None:
        self._runtime = runtime
        self._task = task
        self._properties = properties
        self.updates: dict[int, list[Any]] = {}
        """What this task added to accumulators, by accumulator."""

    @classmethod
    def get(cls) -> "TaskContext | None":
        """The context of the task that runs here, or None in the driver.

        Example:
            >>> TaskContext.get() is None
            True
        """
        return cls._running.task

    @classmethod
    def own_process(cls) -> None:
        """In an executor: the running task is that of every thread, also of those that a user's function starts.

        Elsewhere it is that of its own thread alone: the driver's other threads run no task.
        """
        TaskContext._running = _OfProcess()

    @classmethod
    def enter(cls, context: "TaskContext | None") -> None:
        """Set the running task; for the executor."""
        cls._running.task = context

    @classmethod
    def current(cls) -> "TaskContext":
        """The context of the running task.

        Raises:
            RuntimeError: no task runs here.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(1).map(lambda n: TaskContext.current() is TaskContext.get()).collect()
            [True]
        """
        running = cls._running.task
        if running is None:
            raise RuntimeError("there is no running task in this process")
        return running

    def partitionId(self) -> int:
        """Index of the partition that the task computes.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(2, numSlices=2).map(lambda n: TaskContext.get().partitionId()).collect()
            [0, 1]
        """
        return self._task.partition

    def stageId(self) -> int:
        """Number of the stage that the task belongs to; a stage that runs again has another.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     len(set(sc.range(2, numSlices=2).map(lambda n: TaskContext.get().stageId()).collect()))
            1
        """
        return self._task.stage

    def taskAttemptId(self) -> int:
        """A number that no other task of the context has, whichever attempt it is of.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     len(set(sc.range(2, numSlices=2).map(lambda n: TaskContext.get().taskAttemptId()).collect()))
            2
        """
        return self._task.attempt

    def attemptNumber(self) -> int:
        """0: what is computed again is computed by a new stage.

        Source: pyspark.TaskContext.attemptNumber. Difference: Spark runs a task that failed again in its stage, and counts.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(1).map(lambda n: TaskContext.get().attemptNumber()).collect()
            [0]
        """
        return 0

    def cpus(self) -> int:
        """Processors of the task: 1.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(1).map(lambda n: TaskContext.get().cpus()).collect()
            [1]
        """
        return 1

    def cpuAmount(self) -> Decimal:
        """As `cpus`, as an exact number.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(1).map(lambda n: TaskContext.get().cpuAmount()).collect()
            [Decimal('1')]
        """
        return Decimal(1)

    def resources(self) -> dict[str, Any]:
        """None are handed out here.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(1).map(lambda n: TaskContext.get().resources()).collect()
            [{}]
        """
        return {}

    def getLocalProperty(self, key: str) -> str | None:
        """What the driver set under the key before it started the job.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.setLocalProperty("lang", "en")
            ...     sc.range(1).map(lambda n: TaskContext.get().getLocalProperty("lang")).collect()
            ['en']
        """
        return self._properties.get(key)

    def resource(self, kind: Callable[[], R]) -> R:
        """The one object of this kind in this executor, made on first use.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(1).map(lambda n: TaskContext.current().resource(list)).collect()
            [[]]
        """
        return self._runtime.resource(kind)


class _OfThread(threading.local):
    task: TaskContext | None = None


class _OfProcess:
    task: TaskContext | None = None


TaskContext._running = _OfThread()  # noqa: SLF001 - of this module; made here because it speaks of the class


class Runtime:
    """What one executor process keeps between tasks: functions, cached partitions, resources."""

    def __init__(self, disk: Disk) -> None:
        self.functions = LoadedFunctions()
        self._disk = disk
        self._cached: dict[tuple[int, int], list[Any] | bytes | LongGroup] = {}
        self._resources: dict[Any, Any] = {}

    def resource(self, kind: Callable[[], R]) -> R:
        """The one object of this kind in this executor, made on first use."""
        # A function that went by value is another object in each task, of equal bytes.
        key = kind if isinstance(kind, type) else dump_by_value(kind)
        if key not in self._resources:
            self._resources[key] = kind()
        made: R = self._resources[key]
        return made

    def forget(self, functions: Iterable[int], rdds: Iterable[int]) -> None:
        """Drop functions and cached partitions that the driver no longer refers to."""
        for function in functions:
            self.functions.forget(function)
        gone = set(rdds)
        if gone:
            self._cached = {key: kept for key, kept in self._cached.items() if key[0] not in gone}

    def run(self, task: Task, properties: Mapping[str, str]) -> tuple[Any, dict[int, list[Any]]]:
        """Compute one task; returns its result and what it added to accumulators."""
        self.functions.begin()
        if task.inputs:
            task = task._replace(inputs={leaf: unpacked(kept) for leaf, kept in task.inputs.items()})
        context = TaskContext(self, task, properties)
        TaskContext.enter(context)
        try:
            if isinstance(task.end, Collect):
                elements = self._elements(task.plan, task.partition, task.inputs)
                result = self.functions[task.end.function](elements)
            else:
                result = self._write(task, task.end)
            context.updates.update(self._disk.take_written())
            return result, context.updates
        finally:
            TaskContext.enter(None)

    def _elements(self, plan: Plan, index: int, inputs: Mapping[int, Any]) -> Iterator[Any]:  # noqa: PLR0911, C901 - one return a kind of node
        match plan:
            case Split(leaf):
                return iter(inputs[leaf])
            case Narrow(parent, kind, function):
                if kind in FUSED:
                    kinds, functions, base = self._fusible(plan)
                    return chain_of(kinds, functions, self._elements(base, index, inputs))
                return WHOLE[kind](self.functions[function], self._elements(parent, index, inputs), index)
            case Fetch(leaf, merge):
                blocks = blocks_of(inputs[leaf])
                return (
                    elements_of(blocks)
                    if merge is None
                    else merged(blocks, self.functions[merge], self._disk)
                )
            case Combined():
                return self._combined(plan, index, inputs)
            case Group(parents, kind):
                return grouped([self._blocks(parent, index, inputs) for parent in parents], kind, self._disk)
            case Sorted():
                return self._sorted(plan, index, inputs)
            case Cached():
                return self._keep(plan, index, inputs)
            case Located(parent, parent_index):
                return self._elements(parent, parent_index, inputs)
            case Chained(parents):
                return chain.from_iterable(self._elements(parent, index, inputs) for parent in parents)
            case Zipped(left, right):
                return _zipped(self._elements(left, index, inputs), self._elements(right, index, inputs))
            case Product(left, right):
                sides = self._elements(left, index, inputs), self._elements(right, index, inputs)
                return product(*sides, self._disk)

    def _blocks(self, plan: Plan, index: int, inputs: Mapping[int, Any]) -> Iterator[Block]:
        """The pairs of a plan as columns: as they came when they were just exchanged."""
        if isinstance(plan, Fetch) and plan.merge is None:
            return blocks_of(inputs[plan.leaf])
        return pair_blocks(self._elements(plan, index, inputs))

    def _sorted(self, plan: Sorted, index: int, inputs: Mapping[int, Any]) -> Iterator[Any]:
        key = None if plan.key is None else self.functions[plan.key]
        blocks = sort_blocks(
            self._blocks(plan.parent, index, inputs), key, self._disk, is_ascending=plan.is_ascending
        )
        if plan.gives_pairs and key is None:
            return elements_of(blocks)
        return chain.from_iterable(values for _, values in blocks)

    def _fusible(self, plan: Plan) -> tuple[tuple[str, ...], list[Function], Plan]:
        """The longest end of the plan that can be one loop: kinds and functions in order, and the plan before them."""
        kinds: list[str] = []
        functions: list[Function] = []
        while isinstance(plan, Narrow) and plan.kind in FUSED:
            kinds.append(plan.kind)
            functions.append(self.functions[plan.function])
            plan = plan.parent
        return tuple(reversed(kinds)), functions[::-1], plan

    def _write(self, task: Task, end: Write) -> list[Bucket]:
        writer = Writer(self._disk, f"{end.name}-{task.partition}", end.partitions)
        match end:
            case ShuffleWrite():
                self._write_by_key(task, end, writer)
            case SpreadWrite():
                elements = self._elements(task.plan, task.partition, task.inputs)
                writer.dealt(elements, task.partition % end.partitions)
            case RangeWrite(_, partitions, bounds, is_ascending, key):
                write_ranges(
                    self._elements(task.plan, task.partition, task.inputs),
                    writer,
                    task.inputs[bounds],
                    None if key is None else self.functions[key],
                    is_ascending=is_ascending,
                    count=partitions,
                )
        return writer.finish()

    def _write_by_key(self, task: Task, end: ShuffleWrite, writer: Writer) -> None:
        partition = None if end.partition is None else self.functions[end.partition]
        try:
            if end.merge is None:
                writer.pairs(self._elements(task.plan, task.partition, task.inputs), partition)
            else:
                self._combine(task, end, end.merge, writer, partition)
        except TypeError as cause:
            if str(cause).startswith("unhashable type"):
                raise TypeError(
                    f"a key cannot be hashed ({cause}); use None, a number, str, bytes, or a tuple of those"
                ) from cause
            raise

    def _combine(
        self, task: Task, end: ShuffleWrite, merge: int, writer: Writer, partition: Function | None
    ) -> None:
        combined: dict[Any, Any] = {}
        # What is combined so far goes to the next stage as it is, which merges combiners anyway.
        watch = Watch(self._disk, combined, lambda: writer.combined(combined, partition))
        self._combine_into(combined, watch, task.plan, task.partition, task.inputs, end.create, merge)
        writer.combined(combined, partition)

    def _combined(self, plan: Combined, index: int, inputs: Mapping[int, Any]) -> Iterator[Any]:
        def combine(known: dict[Any, Any], watch: Watch) -> None:
            self._combine_into(known, watch, plan.parent, index, inputs, plan.create, plan.merge)

        return combined_here(combine, self.functions[plan.merge_combiners], self._disk)

    def _combine_into(
        self,
        combined: dict[Any, Any],
        watch: Watch,
        plan: Plan,
        index: int,
        inputs: Mapping[int, Any],
        create: int | None,
        merge: int,
    ) -> None:
        kinds, functions, base = self._fusible(plan)
        made = None if create is None else self.functions[create]
        elements = watch(self._elements(base, index, inputs))
        combine_of(kinds, functions, elements, made, self.functions[merge], combined, watch)

    def _keep(self, plan: Cached, index: int, inputs: Mapping[int, Any]) -> Iterator[Any]:
        kept = self._cached.get((plan.rdd, index))
        if kept is None:
            elements = self._elements(plan.parent, index, inputs)
            kept = stored(elements, self._disk) if plan.is_on_disk else _in_memory(elements)
            self._cached[plan.rdd, index] = kept
        return iter(load(kept) if isinstance(kept, bytes) else kept)


def _in_memory(elements: Iterator[Any]) -> list[Any] | bytes:
    # A reader that changes an element in place must not be seen by the next one: what can change is kept pickled.
    kept = list(elements)
    return kept if cannot_change(kept) else dump(kept)


def _zipped(left: Iterator[Any], right: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    for one in left:
        for other in right:
            yield one, other
            break
        else:
            raise ValueError(_UNEQUAL)
    for _ in right:
        raise ValueError(_UNEQUAL)


_UNEQUAL: Final = "Can only zip RDDs with same number of elements in each partition"


def _map_partitions(f: Callable[..., Iterable[Any]], elements: Iterator[Any], _index: int) -> Iterator[Any]:
    return iter(f(elements))


def _map_partitions_with_index(
    f: Callable[..., Iterable[Any]], elements: Iterator[Any], index: int
) -> Iterator[Any]:
    return iter(f(index, elements))


WHOLE: Mapping[str, Callable[[Function, Iterator[Any], int], Iterator[Any]]] = {
    "mapPartitions": _map_partitions,
    "mapPartitionsWithIndex": _map_partitions_with_index,
}
"""The narrow operators that take a partition as a whole; the others are in `fuse.FUSED`."""
