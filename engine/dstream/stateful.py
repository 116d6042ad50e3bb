"""Operations that keep a state for each key.

Owns: StatefulOperations.
Never: a computation; the nodes do that.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine.dstream.handle import Handle
from engine.dstream.keyed import KeyedState, MapWithStateDStream, StateDStream, StateSnapshotsDStream
from engine.dstream.signatures import WithoutTime
from engine.dstream.state import UpdatePartition, UpdateState
from engine.dstream.statespec import StateSpec, accepts, refuse_no_partitions
from engine.errors import ConfigurationError
from engine.rdd.api import T

if TYPE_CHECKING:
    # Only for annotations: the handle is made of this class.
    from engine.dstream.dstream import DStream


class StatefulOperations(Handle[T]):
    """A stream of every key with what its batches so far have made of it."""

    def updateStateByKey(
        self,
        updateFunc: Callable[..., Any],
        numPartitions: Any = None,
        initialRDD: Any = None,
        *,
        rememberPartitioner: bool = True,  # noqa: ARG002 - Scala's signature
        name: str | None = None,
        keyType: Any = None,
        stateType: Any = None,
    ) -> "DStream[tuple[Any, Any]]":
        """Every key with its state, updated by each batch.

        Elements: DStream[tuple[K, V]] -> DStream[tuple[K, S]], every known key in every batch, no order.
        State: one S a key; a key lives until the function returns None for it. The delta of a batch holds the states that changed.

        Args:
            updateFunc: one of three forms, told apart by how many arguments it can be called with, the first that fits:
                2: (values, state) -> state or None.
                4: Scala's (time, key, values, state) -> state or None, with the batch time as `engine.batch.Time`.
                1: Scala's iterator form: it gets an iterator over (key, values, state) of all keys of a shard, and gives
                (key, state) for those that stay, each under the key that it got.
                Each is called for every known key in every batch, with [] for an idle one, and with None as the state of a new
                one. It may change the state in place.
            numPartitions: a number or a partitioner; accepted. State has the application's number of shards, fixed at its
                first start, and which of them a key belongs to is part of the checkpoint.
            initialRDD: an RDD, a list or a dict of (key, state) to begin with; the first one of a key counts. Keys without
                values in the first batch go through the function too. Used in the first batch of the operator, until that is
                committed, and never again, whatever the code gives at a later start.
            rememberPartitioner: accepted; keys stay in their shards.
            name: of the operator in the checkpoint; without one the lineage is its name, and may then not change.
            keyType: of a key, for the checkpoint; needed for other than plain values.
            stateType: of a state, likewise.
        Replay: `updateFunc` runs again over the same state and must give the same.

        Raises:
            ConfigurationError: the function has none of the forms, or an argument is not valid.

        Example:
            >>> from engine.testing import run_batches
            >>> total = lambda values, state: sum(values) + (state or 0)
            >>> run_batches(lambda s: s.updateStateByKey(total), [[("a", 1)], [("a", 2)], []])
            [[('a', 1)], [('a', 3)], [('a', 3)]]

        Source: `pyspark.streaming.DStream.updateStateByKey`; the other forms are those of `PairDStreamFunctions`. Difference:
            keys and states that are no plain values (None, bool, int, float, str, bytes, and tuples, lists and dicts of them) need
            keyType and stateType; PySpark pickles whatever they are. In Scala the iterator form may rename keys; here that is an
            error.
        """
        refuse_no_partitions(numPartitions)
        declared = KeyedState("updateStateByKey", name, (keyType, stateType), initialRDD)
        update, function = _update_of(updateFunc)
        return self._stream(StateDStream(self._scope, self.node, update, function, declared))

    def mapWithState(self, spec: StateSpec, *, name: str | None = None) -> "DStream[Any]":
        """What the function of the spec gives for each record, with the state of the record's key in its hands.

        Elements: DStream[tuple[K, V]] -> DStream[U], for each record one element, or at most one when the function takes the
            time; then those of keys that timed out, the longest idle first. Records of a key come in the order of the batch.
        Time: with `StateSpec.timeout`, every batch removes the keys that were idle for longer.
        State: one S a key, with the time of the batch that last touched it; a key lives until `State.remove` or the timeout. A
            batch costs as much as it has records and timeouts, whatever the number of keys. The delta holds the keys that
            were updated, removed, or, with a timeout, touched. See `State` for changes in place.

        Args:
            spec: the function, and the rest.
            name: of the operator in the checkpoint; without one the lineage is its name, and may then not change.
        Replay: the function is called once for each record and timeout of a run of a batch, whatever reads the stream; a batch
            that runs again calls it with the same.

        Raises:
            ConfigurationError: it is no StateSpec.

        Example:
            >>> from engine import StateSpec
            >>> from engine.testing import run_batches
            >>> def running_total(key, value, state):
            ...     state.update((state.getOption() or 0) + value)
            ...     return key, state.get()
            >>> spec = StateSpec.function(running_total)
            >>> run_batches(lambda s: s.mapWithState(spec), [[("a", 1), ("a", 2)], [], [("a", 3)]])
            [[('a', 1), ('a', 3)], [], [('a', 6)]]

        Source: `PairDStreamFunctions.mapWithState`. Difference: Spark looks for timeouts only in batches that it checkpoints,
            every tenth by default. Keys and states that are no plain values need `StateSpec.keyType` and `stateType`.
        """
        if not isinstance(spec, StateSpec):
            raise ConfigurationError(f"mapWithState got {spec!r:.60}; give StateSpec.function(...)")
        return self._stream(MapWithStateDStream(self._scope, self.node, spec, name))

    def stateSnapshots(self) -> "DStream[tuple[Any, Any]]":
        """Every key with its state after each batch, of a stream that mapWithState gave.

        Elements: DStream[U] -> DStream[tuple[K, S]], every key in every batch, no order; costs as much as there are keys.

        Raises:
            ConfigurationError: the stream is not the one that mapWithState gave, but one made of it or another.

        Example:
            >>> from engine import StateSpec
            >>> from engine.testing import run_batches
            >>> last = StateSpec.function(lambda key, value, state: state.update(value))
            >>> run_batches(lambda s: s.mapWithState(last).stateSnapshots(), [[("a", 1)], [("a", 2)], []])
            [[('a', 1)], [('a', 2)], [('a', 2)]]

        Source: `MapWithStateDStream.stateSnapshots`.
        """
        if not isinstance(self.node, MapWithStateDStream):
            raise ConfigurationError(
                f"stateSnapshots: {self.node.name!r} is no stream of mapWithState; call it on what mapWithState gave"
            )
        return self._stream(StateSnapshotsDStream(self.node))


def _update_of(function: Callable[..., Any]) -> tuple[type[UpdateState], Callable[..., Any]]:
    """How a shard is advanced with the user's function, and the function in that form."""
    if accepts(function, 2):
        return UpdateState, WithoutTime(function)
    if accepts(function, 4):
        return UpdateState, function
    if accepts(function, 1):
        return UpdatePartition, function
    raise ConfigurationError(
        f"updateStateByKey: {function!r:.60} can be called with neither (values, state) nor (time, key, values, state) nor "
        "an iterator; give it one of these forms"
    )
