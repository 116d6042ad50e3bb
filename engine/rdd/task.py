"""What runs inside a process for one partition: the plan of a stage, and its evaluation.

A plan is a small tree of tuples with references to functions in place of functions; it is what travels to an executor.
Narrow operators become one loop (see fuse.py); a `Fetch` leaf merges the exchanged rest of an earlier stage.

Owns: the plan nodes, TaskContext, Runtime.
Never: a process, a pipe, the driver's lineage.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from engine.rdd.fuse import FUSED, Function, chain_of, combine_of
from engine.rdd.partitioner import portable_hash
from engine.rdd.serializers import dump, load

R = TypeVar("R")
Pairs = Iterable[tuple[Any, Any]]


class Split(NamedTuple):
    """Leaf: the elements that the driver ships with the task, such as one offset range."""

    leaf: int


class Fetch(NamedTuple):
    """Leaf: the buckets of this partition from every map task, in map order, merged by key when `merge` is given."""

    leaf: int
    merge: int | None


class Narrow(NamedTuple):
    """One narrow operator over its parent's partition of the same index."""

    parent: "Plan"
    kind: str
    function: int


class CoGroup(NamedTuple):
    """The values of each key in each parent: (key, (list, list, ...))."""

    parents: tuple["Plan", ...]


class Cached(NamedTuple):
    """The parent's elements, kept in this process after their first computation."""

    parent: "Plan"
    rdd: int


class Located(NamedTuple):
    """The parent's partition of another index, for unions."""

    parent: "Plan"
    partition: int


Plan = Split | Fetch | Narrow | CoGroup | Cached | Located


class Collect(NamedTuple):
    """End of a job: the function of the partition's iterator, as the task's result."""

    function: int


class ShuffleWrite(NamedTuple):
    """End of a map stage: one bucket of pickled pairs for each partition of the next stage."""

    partitions: int
    create: int | None
    """Makes a combiner of a value; None when the value is the combiner (reduceByKey)."""
    merge: int | None
    """Merges a value into a combiner; None when nothing is combined (partitionBy)."""


class Task(NamedTuple):
    """One partition of one stage."""

    plan: Plan
    partition: int
    inputs: Mapping[int, Any]
    """By leaf: the elements of a Split, or the list of buckets of a Fetch."""
    end: Collect | ShuffleWrite


class TaskContext:
    """What a running task knows of itself; the class and its methods are PySpark's.

    Example:
        >>> TaskContext.get() is None
        True
    """

    _current: "TaskContext | None" = None

    def __init__(self, runtime: "Runtime", index: int, properties: Mapping[str, str]) -> None:
        self._runtime = runtime
        self._index = index
        self._properties = properties
        self.updates: dict[int, list[Any]] = {}
        """What this task added to accumulators, by accumulator."""

    @classmethod
    def get(cls) -> "TaskContext | None":
        """The context of the task that runs in this process, or None in the driver."""
        return TaskContext._current

    @classmethod
    def current(cls) -> "TaskContext":
        """The context of the running task.

        Raises:
            RuntimeError: no task runs here.
        """
        if TaskContext._current is None:
            raise RuntimeError("there is no running task in this process")
        return TaskContext._current

    def partitionId(self) -> int:
        """Index of the partition that the task computes."""
        return self._index

    def getLocalProperty(self, key: str) -> str | None:
        """What the driver set under the key before it started the job."""
        return self._properties.get(key)

    def resource(self, kind: Callable[[], R]) -> R:
        """The one object of this kind in this executor, made on first use."""
        return self._runtime.resource(kind)


class Runtime:
    """What one executor process keeps between tasks: functions, cached partitions, resources."""

    def __init__(self) -> None:
        self.functions: dict[int, Callable[..., Any]] = {}
        self._cached: dict[tuple[int, int], list[Any] | bytes] = {}
        self._resources: dict[Any, Any] = {}

    def resource(self, kind: Callable[[], R]) -> R:
        """The one object of this kind in this executor, made on first use."""
        if kind not in self._resources:
            self._resources[kind] = kind()
        made: R = self._resources[kind]
        return made

    def forget(self, functions: Iterable[int], rdds: Iterable[int]) -> None:
        """Drop functions and cached partitions that the driver no longer refers to."""
        for function in functions:
            self.functions.pop(function, None)
        gone = set(rdds)
        if gone:
            self._cached = {key: kept for key, kept in self._cached.items() if key[0] not in gone}

    def run(self, task: Task, properties: Mapping[str, str]) -> tuple[Any, dict[int, list[Any]]]:
        """Compute one task; returns its result and what it added to accumulators."""
        context = TaskContext(self, task.partition, properties)
        TaskContext._current = context  # noqa: SLF001  the runtime is what sets the current task
        try:
            if isinstance(task.end, ShuffleWrite):
                return self._write_buckets(task, task.end), context.updates
            elements = self._elements(task.plan, task.partition, task.inputs)
            return self.functions[task.end.function](elements), context.updates
        finally:
            TaskContext._current = None  # noqa: SLF001

    def _elements(self, plan: Plan, index: int, inputs: Mapping[int, Any]) -> Iterator[Any]:  # noqa: PLR0911 - one return a kind of node
        match plan:
            case Split(leaf):
                return iter(inputs[leaf])
            case Narrow(parent, kind, function):
                if kind in FUSED:
                    kinds, functions, base = self._fusible(plan)
                    return chain_of(kinds, functions, self._elements(base, index, inputs))
                return WHOLE[kind](self.functions[function], self._elements(parent, index, inputs), index)
            case Fetch(leaf, merge):
                return self._fetch(inputs[leaf], merge)
            case CoGroup(parents):
                return _cogroup([self._elements(parent, index, inputs) for parent in parents])
            case Cached(parent, rdd):
                return self._keep(parent, index, inputs, rdd)
            case Located(parent, parent_index):
                return self._elements(parent, parent_index, inputs)

    def _fetch(self, buckets: list[bytes], merge: int | None) -> Iterator[Any]:
        parts = [load(bucket) for bucket in buckets if bucket]
        if merge is None:
            return chain.from_iterable(parts)
        function = self.functions[merge]
        merged: dict[Any, Any] = {}
        for part in parts:
            for key, combiner in part:
                merged[key] = function(merged[key], combiner) if key in merged else combiner
        return iter(merged.items())

    def _fusible(self, plan: Plan) -> tuple[tuple[str, ...], list[Function], Plan]:
        """The longest end of the plan that can be one loop: kinds and functions in order, and the plan before them."""
        kinds: list[str] = []
        functions: list[Function] = []
        while isinstance(plan, Narrow) and plan.kind in FUSED:
            kinds.append(plan.kind)
            functions.append(self.functions[plan.function])
            plan = plan.parent
        return tuple(reversed(kinds)), functions[::-1], plan

    def _combined(self, task: Task, merge: int, create: int | None) -> Pairs:
        kinds, functions, base = self._fusible(task.plan)
        made = None if create is None else self.functions[create]
        elements = self._elements(base, task.partition, task.inputs)
        return combine_of(kinds, functions, elements, made, self.functions[merge]).items()

    def _write_buckets(self, task: Task, end: ShuffleWrite) -> list[bytes]:
        if end.merge is None:
            pairs: Pairs = self._elements(task.plan, task.partition, task.inputs)
        else:
            pairs = self._combined(task, end.merge, end.create)
        buckets: list[list[tuple[Any, Any]]] = [[] for _ in range(end.partitions)]
        for pair in pairs:
            buckets[portable_hash(pair[0]) % end.partitions].append(pair)
        return [dump(bucket) if bucket else b"" for bucket in buckets]

    def _keep(self, parent: Plan, index: int, inputs: Mapping[int, Any], rdd: int) -> Iterator[Any]:
        kept = self._cached.get((rdd, index))
        if kept is None:
            elements = list(self._elements(parent, index, inputs))
            # A reader that changes an element in place must not be seen by the next one: what can change is kept pickled.
            kept = elements if cannot_change(elements) else dump(elements)
            self._cached[rdd, index] = kept
        return iter(load(kept) if isinstance(kept, bytes) else kept)


def _cogroup(parents: list[Iterator[tuple[Any, Any]]]) -> Iterator[tuple[Any, tuple[list[Any], ...]]]:
    groups: dict[Any, tuple[list[Any], ...]] = {}
    for side, pairs in enumerate(parents):
        for key, value in pairs:
            if key not in groups:
                groups[key] = tuple([] for _ in parents)
            groups[key][side].append(value)
    return iter(groups.items())


SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})
"""Types whose values cannot change in place."""


def cannot_change(elements: Sequence[Any]) -> bool:
    """Whether no element, nor an item of an element that is a tuple, can change in place; one pass in C."""
    kinds = set(map(type, elements))
    if tuple in kinds:
        kinds.discard(tuple)
        kinds |= set(map(type, chain.from_iterable(item for item in elements if type(item) is tuple)))
    return kinds <= SCALARS


def _map_partitions(f: Callable[..., Iterable[Any]], elements: Iterator[Any], _index: int) -> Iterator[Any]:
    return iter(f(elements))


def _map_partitions_with_index(
    f: Callable[..., Iterable[Any]], elements: Iterator[Any], index: int
) -> Iterator[Any]:
    return iter(f(index, elements))


def _reduce_by_key(f: Function, elements: Iterator[Any], _index: int) -> Iterator[Any]:
    return iter(combine_of((), (), elements, None, f).items())


WHOLE: Mapping[str, Callable[[Function, Iterator[Any], int], Iterator[Any]]] = {
    "mapPartitions": _map_partitions,
    "mapPartitionsWithIndex": _map_partitions_with_index,
    "reduceByKey": _reduce_by_key,
}
"""The narrow operators that take a partition as a whole; the others are in `fuse.FUSED`."""
