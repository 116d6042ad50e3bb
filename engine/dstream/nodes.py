"""The kinds of node in a graph of streams; every operator is one of them or composed from them.

    InputDStream            ranges of a source
    TransformedDStream      a function of its parents' RDDs of the same batch
    ForEachDStream          an output operation
    StatefulNode            one that runs a job in each batch to advance its shards; its kinds are in
                            `windowed` (over several batches) and `keyed` (a state for each key)

A node is asked for its RDD of a batch time and remembers it until the batch is over. A stateful node runs a job when it is first
asked in a batch: it computes every shard once and hands the deltas to the graph, whether an output asks or not.

Owns: Node and its kinds, BatchScope.
Never: I/O, a clock, a thread.
"""

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from engine.batch import (
    Batch,
    Duration,
    Interval,
    OffsetRange,
    OutputOperation,
    Time,
    TopicPartition,
)
from engine.checkpoint.checkpoint import Delta
from engine.checkpoint.codec import StateCodec
from engine.checkpoint.declared import refuse_unkept
from engine.dstream.access import StateAccess
from engine.dstream.policy import STOP, Retry
from engine.dstream.run import announce_base
from engine.dstream.state import StateFunction
from engine.dstream.steps import Step
from engine.errors import ConfigurationError, StreamingError, UserFunctionError
from engine.rdd.api import RDD, Context
from engine.rdd.backends import translated
from engine.storage import StorageLevel

Transform = Callable[[Time, Sequence[RDD[Any]]], RDD[Any]]


class BatchScope(Protocol):
    """What a node asks of the graph that it stands in."""

    @property
    def context(self) -> Context:
        """What makes RDDs."""

    @property
    def access(self) -> StateAccess:
        """How tasks come to the shards of state."""

    @property
    def zero_time(self) -> Time:
        """The time that slides are counted from."""

    @property
    def is_fixed(self) -> bool:
        """Whether the graph runs, or ran, and takes no change."""

    @property
    def owner(self) -> Any:
        """The StreamingContext that the graph belongs to; None for a graph alone."""

    @property
    def shards(self) -> int:
        """Number of shards of each stateful operator."""

    @property
    def batch_duration(self) -> Duration:
        """The batch interval."""

    @property
    def remember(self) -> Duration:
        """How long batches are kept at least."""

    def batch(self, time: Time) -> Batch:
        """The running batch, or a committed one that is still remembered."""

    def first_remembered(self) -> Batch | None:
        """The oldest batch that is remembered, or runs; None before the first."""

    def batches_in(self, interval: Interval) -> list[Batch]:
        """The remembered batches with a time in the interval, oldest first."""

    def is_whole(self, time: Time, reach: Duration) -> bool:
        """Whether every batch of (time - reach, time] is still remembered."""

    def is_running(self, time: Time) -> bool:
        """Whether this is the batch that runs now."""

    def base_version(self, operator: str) -> int:
        """The version of an operator's state as of the last commit."""

    def advanced(self, operator: str, deltas: Iterable[Delta]) -> None:
        """Take what the running batch changed in the operator's shards."""

    def add(self, node: "Node") -> str:
        """Register a node; returns its name, unique in the graph."""


class Node(ABC):
    """One stream in the graph: when it has an RDD, and which.

    Args:
        scope: the graph.
        parents: the streams that it is made of.
        slide: how often it has an RDD; a multiple of the batch interval.
        label: the operator's name in the lineage.
        name: given by the user; None takes the lineage.
    """

    is_stateful = False
    needs_checkpoint = False
    """Whether Spark asks for a checkpoint directory for it."""

    def __init__(
        self,
        scope: BatchScope,
        parents: Sequence["Node"],
        slide: Duration,
        label: str,
        name: str | None = None,
    ) -> None:
        self.scope = scope
        self.parents = tuple(parents)
        self.slide = slide
        inner = ", ".join(parent.lineage for parent in parents)
        self.lineage: str = f"{label}({inner})" if parents else label
        self.given_name = name
        self.storage_level: StorageLevel | None = None
        """Where its RDDs are kept; None computes them for each reader."""
        self.name = scope.add(self)
        self._computed: dict[Time, RDD[Any] | None] = {}

    @abstractmethod
    def compute(self, time: Time) -> RDD[Any] | None:
        """The RDD of a batch time at which the node is due."""

    def is_due(self, time: Time) -> bool:
        """Whether the node has an RDD at this batch time: every `slide` since the zero time."""
        return Duration(time - self.scope.zero_time).is_multiple_of(self.slide)

    def rdd(self, time: Time) -> RDD[Any] | None:
        """The RDD of a batch time, computed once; None when the node is not due."""
        if not self.is_due(time):
            return None
        if time not in self._computed:
            made = self.compute(time)
            if made is not None and self.storage_level is not None:
                made = _kept(made, self.storage_level)
            self._computed[time] = made
        return self._computed[time]

    def remembered(self, begin: Time, end: Time) -> list[RDD[Any]]:
        """The RDDs of the batches in [begin, end] that are there or can be computed again, oldest first.

        A state stands as the newest batch left it: behind it there is only the batch that runs.
        """
        scope, has_state = self.scope, self.has_state_upstream()
        times = [batch.time for batch in scope.batches_in(Interval(begin.plus(-1), end))]
        rdds = [
            self.rdd(time)
            for time in times
            if (scope.is_running(time) if has_state else scope.is_whole(time, self.total_reach()))
        ]
        return [rdd for rdd in rdds if rdd is not None]

    def drop(self, time: Time) -> None:
        """Drop the RDD of a batch time, which runs again."""
        self._computed.pop(time, None)

    def forget(self, horizon: Time) -> None:
        """Drop the RDDs up to and including the horizon; those not cached go with their batch."""
        self._computed = {
            time: kept
            for time, kept in self._computed.items()
            if time > horizon and self.storage_level is not None
        }

    def inputs(self) -> list["InputDStream"]:
        """The inputs that this node is made of, each once."""
        return [node for node in self.ancestors() if isinstance(node, InputDStream)]

    def ancestors(self) -> list["Node"]:
        """The nodes that this node is made of, each once, the first parent with all behind it first."""
        found: dict[int, Node] = {}
        behind = [*reversed(self.parents)]
        while behind:
            node = behind.pop()
            if id(node) not in found:
                found[id(node)] = node
                behind += reversed(node.parents)
        return list(found.values())

    def has_state_upstream(self) -> bool:
        """Whether this node or one that it is made of keeps state, so that its RDDs cannot be computed again."""
        return self.is_stateful or any(node.is_stateful for node in self.ancestors())

    @property
    def reach(self) -> Duration:
        """How far back this node looks, in milliseconds, beside what its parents look."""
        return Duration(0)

    def total_reach(self) -> Duration:
        """How far back this node and what it is made of look, in milliseconds."""
        return Duration(self.reach + max((parent.total_reach() for parent in self.parents), default=0))


def _kept(rdd: RDD[Any], level: StorageLevel) -> RDD[Any]:
    """The RDD, kept once computed; another backend's own kind of level has the same fields."""
    if level == StorageLevel.MEMORY_ONLY:
        return rdd.cache()
    kind = type(rdd.getStorageLevel())
    return rdd.persist(
        kind(level.useDisk, level.useMemory, level.useOffHeap, level.deserialized, level.replication)
    )


@contextmanager
def naming_errors(what: str, time: Time) -> Iterator[None]:
    """Whatever the user's functions raise inside leaves as a UserFunctionError that names the stream and the batch.

    Raises:
        UserFunctionError: a function of the user raised, here or in a task.
    """
    try:
        yield
    except (Exception, SystemExit) as raised:  # the job boundary: a user's function may raise anything
        error = translated(raised)
        if isinstance(error, UserFunctionError):
            named = type(error)(f"{what}, batch {int(time)}: {error}", error.user_traceback)
            if error.__cause__ is None:
                # It came from another process: what a traceback shows of the user's code travels as text.
                named.add_note(f"In the executor:\n{error.user_traceback}")
            raise named from error.__cause__
        if isinstance(error, StreamingError):
            raise error from error.__cause__
        raise UserFunctionError(
            f"{what}, batch {int(time)}: {type(raised).__name__}: {raised}", traceback.format_exc()
        ) from raised


class DeadLetter(NamedTuple):
    """A record that was put aside: it counts nowhere, and is kept with its reason."""

    topic: str
    partition: int
    offset: int
    reason: str
    value: bytes | None


class Observed(NamedTuple):
    """What the records of one batch showed beside their values."""

    dead_letters: list[DeadLetter]
    maxima: dict[TopicPartition, int]
    """The largest event time of each partition, milliseconds since the epoch; empty without event time."""
    created: dict[TopicPartition, list[int]]
    """When the first and the last record of each slice were created, milliseconds since the epoch, by partition in offset
    order; empty when records do not tell."""
    lost: Mapping[str, int] = MappingProxyType({})
    """By topic how many offsets were gone from the log and passed over, as the input was told to."""


class InputDStream(Node):
    """A source: it plans the ranges of a batch, and makes an RDD of ranges."""

    tasks_read_folder = False
    """Whether tasks read what the driver wrote into the folder of the application."""
    rereads = Duration(0)
    """How far back windows read its ranges again, milliseconds; known from the start of the graph."""

    def inputs(self) -> list["InputDStream"]:
        """Itself."""
        return [self]

    @abstractmethod
    def plan(self, time: Time) -> tuple[OffsetRange, ...]:
        """The ranges of the next batch, one for every partition of the input; cheap, reads no record."""

    def accept(self, ranges: Sequence[OffsetRange]) -> tuple[OffsetRange, ...]:
        """The ranges of a batch that is given and not planned; those that do not go on where the input is are refused."""
        return tuple(ranges)

    @abstractmethod
    def range_rdd(self, batch: Batch, ranges: Sequence[OffsetRange]) -> RDD[Any]:
        """The records of the ranges, one partition each."""

    def put_aside(
        self,
        stream: str,
        steps: Sequence[Step],  # noqa: ARG002  an input of records with offsets takes them
    ) -> Callable[[Batch, Sequence[OffsetRange]], RDD[Any]]:
        """Compute a stream that puts records aside, by its name, with the steps from here on; returns what gives its elements.

        Raises:
            ConfigurationError: the records have no offsets of their own.
        """
        raise ConfigurationError(
            f"{stream!r} cannot put records aside: those of input {self.name!r} have no offsets that outlast a batch; use a direct stream"
        )

    @property
    def ends(self) -> Mapping[TopicPartition, int]:
        """The end of each partition's log as the last plan saw it; empty before the first and for inputs without a log."""
        return {}

    @property
    def topics(self) -> Mapping[str, str]:
        """By topic what tells it from another one of its name; empty before the first plan and for inputs without topics."""
        return {}

    def expect(self, topics: Mapping[str, str]) -> None:
        """These topics were read before, and are refused when they are others now; called once, before `resume`."""

    @property
    def has_backlog(self) -> bool:
        """Whether the input took what is in no batch yet, so that a graceful stop has to run one more."""
        return False

    @property
    def limit(self) -> float | None:
        """Records a second that the newest plan allowed at most; None for no limit."""
        return None

    def limit_to(self, rate: float) -> None:
        """Bring at most so many records a second from the next plan on; without effect where nothing can be left for later."""

    def resume(self, ranges: Sequence[OffsetRange]) -> None:
        """Go on after the last committed ranges; called once, before the first plan."""

    def begin_receiving(self, number: int, tell: Callable[[str, object], None]) -> None:
        """The context runs: take what comes.

        Args:
            number: of the stream among the inputs.
            tell: told of receivers: the name of a listener's method, and the event.
        """

    def end_receiving(self) -> None:
        """Take no more; what was taken stays for the batches to come."""

    def begin(self, batch: Batch) -> None:
        """A run of a batch begins: forget what an unfinished run of it observed."""

    def finish(self, batch: Batch) -> Observed:  # noqa: ARG002  an input without records of its own observes nothing
        """The outputs are done: see to it that every range was read to its end, and tell what was seen in them."""
        return Observed([], {}, {})

    def committed(self, batch: Batch) -> None:
        """The batch is committed; a hint for the source."""

    def close(self) -> None:
        """Let go of clients."""

    def compute(self, time: Time) -> RDD[Any] | None:
        """The records of the batch's ranges."""
        batch = self.scope.batch(time)
        ranges = batch.ranges.get(self.name, ())
        return self.range_rdd(batch, ranges) if ranges else self.scope.context.emptyRDD()


class TransformedDStream(Node):
    """A function of its parents' RDDs of the same batch."""

    def __init__(
        self,
        scope: BatchScope,
        parents: Sequence[Node],
        function: Transform,
        label: str,
        name: str | None = None,
    ) -> None:
        slides = {parent.slide for parent in parents}
        if len(slides) != 1:
            raise ConfigurationError(
                f"{label}: Some of the DStreams have different slide durations {sorted(map(int, slides))} ms; window them to one slide"
            )
        super().__init__(scope, parents, parents[0].slide, label, name)
        self._function = function
        self.step: tuple[str, Callable[..., Any]] | None = None
        """Kind and function of an operator that takes elements one by one."""

    def compute(self, time: Time) -> RDD[Any] | None:
        """The function of the parents' RDDs."""
        rdds = [parent.rdd(time) for parent in self.parents]
        return self._function(time, [rdd for rdd in rdds if rdd is not None])


class StatefulNode(Node):
    """A node with shards of state: it runs one job in each batch that advances every shard.

    State: per shard a dict, as of the last commit, and the overlay of the batch that runs.
    Replay: a batch that runs again builds on the same version and gives the same shards.
    """

    is_stateful = True
    needs_checkpoint = True

    def __init__(
        self,
        scope: BatchScope,
        parent: Node,
        slide: Duration,
        label: str,
        name: str | None,
        types: tuple[Any, Any],
    ) -> None:
        super().__init__(scope, [parent], slide, label, name)
        refuse_unkept(self.name, *types)
        self.codec = StateCodec(self.name, *types)
        self._advanced = 0
        """The run in which the shards were last computed."""

    def drop(self, time: Time) -> None:
        """Drop the RDD and the shards of a batch time, which runs again."""
        super().drop(time)
        self._advanced = 0

    def advance_once(self, time: Time) -> None:
        """Compute every shard of the running batch, unless this run has done so."""
        run = self.scope.batch(time).write_timestamp
        if self._advanced != run:
            self.advance(time)
            self._advanced = run

    @abstractmethod
    def advance(self, time: Time) -> None:
        """Compute every shard of a batch."""

    def _advance_with(self, rdd: RDD[Any], function: StateFunction) -> None:
        announce_base(self.scope.context, self.scope.base_version(self.name))
        results = self.scope.access.advance(self.codec, rdd, function)
        self.scope.advanced(self.name, [Delta(self.name, *result) for result in results])

    def _read_with(self, function: StateFunction) -> RDD[Any]:
        return self.scope.access.read(self.codec, function)


class ForEachDStream(Node):
    """An output operation: a function of the RDD of each batch."""

    def __init__(
        self,
        scope: BatchScope,
        parent: Node,
        function: Callable[[Time, RDD[Any]], object],
        label: str,
        name: str | None,
        policy: Retry = STOP,
    ) -> None:
        super().__init__(scope, [parent], parent.slide, label, name)
        self._function = function
        self.policy = policy
        """What becomes of a run that failed."""
        self.operation = OutputOperation(
            self.name,
            tuple(stream.name for stream in self.inputs()),
            int(self.slide),
            description=self.lineage,
        )
        """What listeners are told of it; the graph numbers it at the start."""

    def compute(self, time: Time) -> RDD[Any] | None:
        """An output has no RDD."""
        raise ConfigurationError(f"output {self.name!r} at {time!r} has no RDD; ask its parent")

    def run(self, time: Time) -> None:
        """Call the function with the parent's RDD, if the parent is due."""
        rdd = self.parents[0].rdd(time)
        if rdd is not None:
            self._function(time, rdd)
