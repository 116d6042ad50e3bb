"""The nodes that keep a state for each key of a stream: updateStateByKey and mapWithState.

Owns: StateDStream, MapWithStateDStream, StateSnapshotsDStream.
Never: I/O, a clock, a thread.
"""

from abc import abstractmethod
from typing import Any, NamedTuple

from engine.batch import Time
from engine.checkpoint.codec import TimedCodec
from engine.dstream.mapstate import MapState, ReadMapped, ReadSnapshots
from engine.dstream.nodes import BatchScope, Node, StatefulNode
from engine.dstream.state import ReadState, Seed, StateFunction, UpdateState
from engine.dstream.statespec import StateSpec, pairs_of
from engine.rdd.api import RDD


class KeyedState(NamedTuple):
    """What a stateful operator was declared with, beside its function."""

    label: str
    name: str | None
    """Of the operator in the checkpoint; None takes the lineage."""
    types: tuple[Any, Any]
    """Of key and state; None for plain values."""
    initial: Any
    """(key, state) to begin with: an RDD, a list, a dict, or None."""


class KeyedNode(StatefulNode):
    """A node with a state for each key, and perhaps with states to begin with.

    Replay: the initial states count in the first batch, in every run of it until one is committed, and never again.
    """

    def __init__(self, scope: BatchScope, parent: Node, declared: KeyedState) -> None:
        super().__init__(scope, parent, parent.slide, declared.label, declared.name, declared.types)
        self._initial = pairs_of(declared.initial, f"the initial state of {self.name!r}")

    @abstractmethod
    def _function(self, *, has_seeds: bool) -> StateFunction:
        """What advances a shard."""

    @abstractmethod
    def _spread(self, rdd: RDD[Any]) -> RDD[Any]:
        """The records of a batch as the function takes them, each key's in its shard."""

    def advance(self, time: Time) -> None:
        """Hand the batch's records to the shards."""
        parent = self.parents[0].rdd(time)
        if parent is None:
            return
        seeds = self._seeds()
        if seeds is None:
            self._advance_with(self._spread(parent), self._function(has_seeds=False))
        else:
            # First the seeds: a partition keeps the order of those that it is made of.
            both = self.scope.context.union([seeds.mapValues(Seed), parent])
            self._advance_with(self._spread(both), self._function(has_seeds=True))

    def _seeds(self) -> RDD[Any] | None:
        if self._initial is None or self.scope.base_version(self.name):
            # There is a commit with this operator's state, and so with its initial states.
            self._initial = None
            return None
        if isinstance(self._initial, list):
            return self.scope.context.parallelize(self._initial, self.scope.shards)
        rdd: RDD[Any] = self._initial
        return rdd


class StateDStream(KeyedNode):
    """Keyed state, updated by each batch; its RDD is every key with its state."""

    def __init__(
        self, scope: BatchScope, parent: Node, update: type[UpdateState], function: Any, declared: KeyedState
    ) -> None:
        super().__init__(scope, parent, declared)
        self._update = update(self.codec, function)
        self._update_seeded = update(self.codec, function, has_seeds=True)
        self._read = ReadState(self.codec)

    def _function(self, *, has_seeds: bool) -> StateFunction:
        return self._update_seeded if has_seeds else self._update

    def _spread(self, rdd: RDD[Any]) -> RDD[Any]:
        return self.scope.access.grouped(rdd)

    def compute(self, time: Time) -> RDD[Any] | None:
        """Every key with its state after this batch."""
        self.advance_once(time)
        return self._read_with(self._read)


class MapWithStateDStream(KeyedNode):
    """Keyed state that only its own records and its timeout touch; its RDD is what the function gave."""

    def __init__(self, scope: BatchScope, parent: Node, spec: StateSpec, name: str | None) -> None:
        super().__init__(scope, parent, KeyedState("mapWithState", name, spec.types, spec.initial))
        codec = self.codec = TimedCodec(self.name, *spec.types)
        self._map, self._map_seeded = (
            MapState(
                codec,
                spec.mapping,
                takes_time=spec.takes_time,
                timeout_ms=spec.timeout_ms,
                has_seeds=has_seeds,
            )
            for has_seeds in (False, True)
        )
        self._read = ReadMapped(codec)
        self._read_states = ReadSnapshots(codec)

    def _function(self, *, has_seeds: bool) -> StateFunction:
        return self._map_seeded if has_seeds else self._map

    def _spread(self, rdd: RDD[Any]) -> RDD[Any]:
        return self.scope.access.spread(rdd)

    def compute(self, time: Time) -> RDD[Any] | None:
        """What the function gave in this batch."""
        self.advance_once(time)
        return self._read_with(self._read)

    def snapshots(self, time: Time) -> RDD[Any]:
        """Every key with its state after this batch."""
        self.advance_once(time)
        return self._read_with(self._read_states)


class StateSnapshotsDStream(Node):
    """Every key of a mapWithState with its state after each batch."""

    def __init__(self, states: MapWithStateDStream) -> None:
        super().__init__(states.scope, [states], states.slide, "stateSnapshots")
        self._states = states

    def compute(self, time: Time) -> RDD[Any] | None:
        """The pairs."""
        return self._states.snapshots(time)
