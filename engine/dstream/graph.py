"""The graph of one application's streams: what a batch asks of it, in the order in which it is asked.

Owns: DStreamGraph, NodeDescription.
Never: I/O, a clock, a thread.
"""

import itertools
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from engine.batch import Batch, Duration, Interval, Time
from engine.checkpoint.checkpoint import Delta, Maxima
from engine.checkpoint.upgrade import DeclaredState, StateChanges
from engine.dstream.access import access_of
from engine.dstream.backfill import GivenBatches
from engine.dstream.nodes import ForEachDStream, InputDStream, Node, Observed, StatefulNode, naming_errors
from engine.dstream.policy import STOP, Retry
from engine.dstream.run import announce, announce_owner
from engine.errors import ConfigurationError, LifecycleError, StateVersionError
from engine.failpoints import fail_point
from engine.rdd.api import Context

Patiently = Callable[[Retry, Callable[[], None]], None]
"""Does the work as often as the policy allows."""


def _once(_: Retry, work: Callable[[], None]) -> None:
    work()


_TIME = attrgetter("time")
_TIMES = attrgetter("times")
_starts = itertools.count(1)
"""Numbers the graphs that this process starts: executors tell by it whose state they hold."""


class NodeDescription(NamedTuple):
    """One node of the graph as plain data."""

    name: str
    """Unique in the graph."""
    kind: str
    """input, operator or output."""
    operator: str
    """What it is in the lineage: filter, reduceByKey, updateStateByKey."""
    lineage: str
    """How it came to be, from its inputs on."""
    job: str
    """The `with ssc.job(...)` that it was made in; empty without one."""
    parents: tuple[str, ...]
    """Names of the nodes that it is made of."""
    slide_ms: int
    """How often it has an RDD, milliseconds."""
    is_stateful: bool


class DStreamGraph:
    """Inputs, operators and outputs, and the batches that a window may still look back to.

    Args:
        context: makes RDDs and runs their jobs.
        batch_duration: the batch interval.
        shards: number of shards of each stateful operator.
    """

    def __init__(self, context: Context, batch_duration: Duration, shards: int) -> None:
        self.context = context
        self.batch_duration = batch_duration
        self.shards = shards
        self.access = access_of(context, shards)
        self.zero_time = Time(0)
        self.remember = Duration(0)
        self.owner: Any = None
        self.given: GivenBatches | None = None
        """Batches that come before those that are planned."""
        self.changes = StateChanges()
        """What the job says of the state of its older versions."""
        self._nodes: dict[str, Node] = {}
        self._jobs: dict[str, str] = {}
        """By node the job that it was made in."""
        self._prefix: list[str] = []
        self.is_fixed = False
        self.is_stopped = False
        """Whether the context was stopped, started or not."""
        self._history: list[Batch] = []
        """The committed batches that are remembered, oldest first; never changed in place, as `slice` is free to ask on any thread."""
        self._reach = 0
        """As of the start."""
        self._horizon = Time(0)
        """Every batch after it is remembered."""
        self._versions: Mapping[str, int] = {}
        self._watermarks: Mapping[str, int] = {}
        """Of the last committed batch."""
        self._patience: dict[str, Retry] = {}
        """By node the policy with the fewest runs of the outputs that are made of it, as of the start."""
        self._running: Batch | None = None
        self._deltas: list[Delta] = []
        self._has_folder = True

    # Building.

    @contextmanager
    def naming(self, job: str) -> Iterator[None]:
        """Names of nodes made inside begin with the job's."""
        self._prefix.append(job)
        try:
            yield
        finally:
            self._prefix.pop()

    def add(self, node: Node) -> str:
        """Register a node; returns its name, unique in the graph.

        Raises:
            LifecycleError: the graph runs already, or its context was stopped.
            ConfigurationError: a node of this name is there.
        """
        if self.is_fixed or self.is_stopped:
            raise LifecycleError(
                "Adding new inputs, transformations, and output operations after "
                f"{'stopping' if self.is_stopped else 'starting'} a context is not supported; {node.given_name or node.lineage!r} "
                "came too late: make streams before start(), in a new context"
            )
        name = ".".join([*self._prefix, node.given_name or node.lineage])
        if name in self._nodes:
            if node.given_name:
                raise ConfigurationError(f"two operators are named {name!r}; give one of them another name=")
            same = sum(known == name or known.startswith(f"{name}#") for known in self._nodes)
            name = f"{name}#{same}"
        self._nodes[name] = node
        self._jobs[name] = ".".join(self._prefix)
        return name

    @property
    def inputs(self) -> list[InputDStream]:
        """The inputs, in the order in which they were made."""
        return [node for node in self._nodes.values() if isinstance(node, InputDStream)]

    @property
    def outputs(self) -> list[ForEachDStream]:
        """The outputs, in the order in which they were made."""
        return [node for node in self._nodes.values() if isinstance(node, ForEachDStream)]

    @property
    def stateful(self) -> list[StatefulNode]:
        """The nodes with shards of state; each comes after those it is made of."""
        return [node for node in self._nodes.values() if isinstance(node, StatefulNode) and node.is_stateful]

    def operators(self) -> dict[str, str]:
        """Lineage of each stateful operator by name: what the checkpoint holds this graph against."""
        return {node.name: node.lineage for node in self.stateful}

    def reach(self) -> int:
        """How far back any stream looks, and `slice` behind that, in milliseconds."""
        return max((node.total_reach() for node in self._nodes.values()), default=Duration(0)) + self.remember

    def validate(self, has_checkpoint: bool) -> None:
        """Prove before the start that the graph can run; without a checkpoint folder no delta is made.

        Raises:
            ConfigurationError: there is no output, or state without a checkpoint folder, or blocks without one on a cluster, or
                given batches are of other inputs.
        """
        self._has_folder = has_checkpoint
        if not self.outputs:
            raise ConfigurationError(
                "No output operations registered, so nothing to execute; add one, such as pprint()"
            )
        in_need = [node.name for node in self.stateful if node.needs_checkpoint or self.access.needs_folder]
        if in_need and not has_checkpoint:
            raise ConfigurationError(
                "The checkpoint directory has not been set. Please set it by StreamingContext.checkpoint(). "
                f"{in_need[0]!r} keeps state"
            )
        if self.given is not None:
            self.given.refuse_other_inputs(stream.name for stream in self.inputs)
        logged = [stream.name for stream in self.inputs if stream.tasks_read_folder]
        if logged and not has_checkpoint and not self.context.master.startswith("local"):
            raise ConfigurationError(
                "The checkpoint directory has not been set. Please set it by StreamingContext.checkpoint(). "
                f"{logged[0]!r} writes blocks that the executors of {self.context.master} read from there"
            )

    def declared(self, known: Mapping[str, str]) -> DeclaredState:
        """What becomes of the operators that the checkpoint holds, by name with their lineages, and the types of all.

        Raises:
            ConfigurationError: what the job says of older state does not fit it.
            StateVersionError: state would be lost, or an operator is of another kind than it was.
        """
        upgrade = self.changes.upgrade_of(known, self.operators())
        self.refuse_lost_state(
            {upgrade.renamed.get(name, name): known[name] for name in known if name not in upgrade.dropped}
        )
        nodes = self.stateful
        for node in nodes:
            node.codec.migrate(self.changes.migrations.get(node.name, {}))
        return DeclaredState(
            upgrade,
            {node.name: node.codec.types for node in nodes},
            {node.name: node.codec.former for node in nodes},
        )

    def refuse_lost_state(self, known: Mapping[str, str]) -> None:
        """Prove that every operator that the checkpoint holds state of is still there.

        Raises:
            StateVersionError: one is gone, or its lineage changed and it has no name of its own, or it is of another kind.
        """
        mine = self.operators()
        for name, lineage in known.items():
            if name in mine and kind_of(mine[name]) != kind_of(lineage):
                raise StateVersionError(
                    f"the checkpoint holds state of operator {name!r} as {kind_of(lineage)} (lineage {lineage}); in this job it is "
                    f"{kind_of(mine[name])} (lineage {mine[name]}); give the new operator another name=, or use another "
                    "checkpoint folder"
                )
            if name not in mine:
                added = sorted(set(mine) - set(known))
                raise StateVersionError(
                    f"the checkpoint holds state of operator {name!r} (lineage {lineage}), which this job does not have; "
                    f"it has {', '.join(f'{new!r} (lineage {mine[new]})' for new in added) or 'no other'}; "
                    "give the operator its name back with name=, or say what becomes of its state with renameState or dropState"
                )

    def refuse_lost_input(self, pending: Batch | None) -> None:
        """Prove that a batch that runs again has all inputs that it was begun with: its commit says that every range was read.

        Raises:
            StateVersionError: an input with records in the batch is gone.
        """
        known = {stream.name for stream in self.inputs}
        if pending is None:
            return
        for name, parts in pending.ranges.items():
            if name not in known and any(part.count() for part in parts):
                raise StateVersionError(
                    f"batch {int(pending.time)} was begun with records of input {name!r} and not committed, and this job does not have "
                    "that input; start once with the job that has it, until the batch is committed, or use another checkpoint folder"
                )

    def start(
        self,
        zero_time: Time,
        history: Sequence[Batch],
        versions: Mapping[str, int],
        watermarks: Mapping[str, int] | None = None,
    ) -> None:
        """Fix the graph; slides count from the zero time, windows may look back to these batches.

        Args:
            zero_time: of the application's first start.
            history: committed batches, oldest first.
            versions: of every stateful operator as of the last commit.
            watermarks: of the last committed batch.
        """
        for number, output in enumerate(self.outputs):
            output.operation = replace(output.operation, id=number)
            for node in output.ancestors():
                policies = (output.policy, self._patience.get(node.name, output.policy))
                self._patience[node.name] = min(policies, key=_TIMES)
        self._watermarks = dict(watermarks or {})
        self.zero_time = zero_time
        self._history = list(history)
        self._reach = self.reach()
        self._horizon = Time(history[-1].time - self._reach) if history else zero_time
        self._versions = versions
        self.is_fixed = True
        for stream in self.inputs:
            stream.rereads = self._rereads(stream)
        announce_owner(self.context, next(_starts), has_folder=self._has_folder)

    def _rereads(self, stream: InputDStream) -> Duration:
        """How far back windows read the ranges of an input again, in milliseconds; those behind a state keep elements."""
        windows = [node for node in self._nodes.values() if node.reach and not node.has_state_upstream()]
        return max((node.total_reach() for node in windows if stream in node.inputs()), default=Duration(0))

    # A batch.

    def topics(self) -> dict[str, Mapping[str, str]]:
        """By input and topic what tells the topic from another one of its name, as of the last plan."""
        return {stream.name: stream.topics for stream in self.inputs}

    def plan(self, time: Time, maxima: Maxima) -> Batch:
        """The batch of a time: the ranges of every input, and the watermarks as of the last commit.

        A watermark never falls: a partition that is added brings old records, and must not open a closed window again.
        """
        given = self.given.ranges(time) if self.given else None
        ranges = {
            stream.name: stream.plan(time) if given is None else stream.accept(given.get(stream.name, ()))
            for stream in self.inputs
        }
        watermarks = dict(self._watermarks)
        for name, largest in maxima.items():
            partitions = [part.topicPartition() for part in ranges.get(name, ())]
            if partitions and all(partition in largest for partition in partitions):
                lowest = min(largest[partition] for partition in partitions)
                watermarks[name] = max(lowest, watermarks.get(name, lowest))
        return Batch(time, ranges, 0, watermarks)

    def given_after(self, time: Time) -> Time | None:
        """The time of the next batch that is given and not planned."""
        return None if self.given is None else self.given.after(time)

    def begin(self, batch: Batch) -> None:
        """A run of a batch begins; whatever an unfinished run of it left is dropped."""
        self._running = batch
        self._deltas = []
        for node in self._nodes.values():
            node.drop(batch.time)
        announce(self.context, batch)
        for stream in self.inputs:
            stream.begin(batch)

    def advance(self, batch: Batch, patiently: Patiently = _once) -> tuple[list[Delta], dict[str, int]]:
        """Compute every shard of every stateful operator once; returns the deltas and the versions after this batch.

        An operator that fails runs again as often as the least patient output allows that is made of it; one that has advanced stays so.
        """
        versions = dict(self._versions)
        for node in self.stateful:
            if node.parents[0].is_due(batch.time):
                patiently(self._patience.get(node.name, STOP), partial(_advance, node, batch.time))
                versions[node.name] = batch.write_timestamp
        return self._deltas, versions

    def finish(self, batch: Batch) -> dict[str, Observed]:
        """What the records of each input showed, every range read to its end."""
        return {stream.name: stream.finish(batch) for stream in self.inputs}

    def committed(self, batch: Batch, versions: Mapping[str, int]) -> Time:
        """The batch is done; returns the horizon, at or before which no batch is needed any more."""
        self._versions = versions
        self._watermarks = batch.watermarks
        self._running = None
        self._horizon = horizon = batch.time.plus(-self._reach)
        # The newest stays in any case: `slice` may ask for it.
        self._history = [*self._history[bisect_right(self._history, horizon, key=_TIME) :], batch]
        for node in self._nodes.values():
            node.forget(horizon)
        for stream in self.inputs:
            fail_point("before_hint")
            stream.committed(batch)
            fail_point("after_hint")
        return horizon

    # What a node asks (the BatchScope protocol).

    def batch(self, time: Time) -> Batch:
        """The running batch, or a committed one that is still remembered."""
        if self._running is not None and self._running.time == time:
            return self._running
        history = self._history
        place = bisect_right(history, time, key=_TIME) - 1
        if place < 0 or history[place].time != time:
            raise KeyError(time)
        return history[place]

    def first_remembered(self) -> Batch | None:
        """The oldest batch that is remembered, or runs; None before the first."""
        return self._history[0] if self._history else self._running

    def batches_in(self, interval: Interval) -> list[Batch]:
        """The remembered batches with a time in the interval, oldest first."""
        history, running = self._history, self._running
        found = history[
            bisect_right(history, interval.begin, key=_TIME) : bisect_right(history, interval.end, key=_TIME)
        ]
        # It comes after all that are committed.
        return [*found, running] if running is not None and running.time in interval else found

    def is_whole(self, time: Time, reach: Duration) -> bool:
        """Whether every batch of (time - reach, time] is still remembered."""
        return time.plus(-reach) >= self._horizon

    def is_running(self, time: Time) -> bool:
        """Whether this is the batch that runs now."""
        return self._running is not None and self._running.time == time

    def base_version(self, operator: str) -> int:
        """The version of an operator's state as of the last commit."""
        return self._versions.get(operator, 0)

    def advanced(self, operator: str, deltas: Iterable[Delta]) -> None:  # noqa: ARG002  each delta names its operator
        """Take what the running batch changed in the operator's shards."""
        self._deltas.extend(deltas)

    def describe(self) -> list[NodeDescription]:
        """Every node as plain data, for people and pages; parents come before what is made of them.

        Not guaranteed: a whole answer while another thread still adds nodes; ask after the start.
        """
        return [
            NodeDescription(
                name=name,
                kind=_kind_of(node),
                operator=node.lineage.partition("(")[0],
                lineage=node.lineage,
                job=self._jobs[name],
                parents=tuple(parent.name for parent in node.parents),
                slide_ms=int(node.slide),
                is_stateful=node.is_stateful,
            )
            for name, node in self._nodes.items()
        ]


def _advance(node: StatefulNode, time: Time) -> None:
    with naming_errors(f"operator {node.name!r}", time):
        node.advance_once(time)


def kind_of(lineage: str) -> str:
    """The operator at the end of a lineage, without its durations.

    Example:
        >>> kind_of("reduceByKeyAndWindow[3000,1000](map(queue))")
        'reduceByKeyAndWindow'
    """
    return re.split(r"[\[(]", lineage, maxsplit=1)[0]


def _kind_of(node: Node) -> str:
    """Where a node stands between source and result."""
    if isinstance(node, InputDStream):
        return "input"
    return "output" if isinstance(node, ForEachDStream) else "operator"
