"""What a user declares of mapWithState, and what the function holds of one key while it runs.

Owns: StateSpec, State, accepts, pairs_of, refuse_no_partitions.
Never: a shard; that is `state`'s and `mapstate`'s.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic

from engine.batch import Duration
from engine.errors import ConfigurationError, LifecycleError, StateNotSetError
from engine.rdd.api import S
from engine.rdd.task import SCALARS

ABSENT, KEPT, OPENED, UPDATED, REMOVED = range(5)
"""Of a State: the key has none; it has one that nobody looked at; that was handed out; a new one; it was removed."""


class State(Generic[S]):
    """The state of one key, as the function of mapWithState sees and changes it; good for one call of the function.

    A value that `get` gave may be changed in place, and so may one after it was handed to `update`: what counts is what the
    value of the last `update` holds when the function returns. A change without `update` is not kept.

    Source: `org.apache.spark.streaming.State`.

    Example:
        >>> state = State.of(1)
        >>> state.update(state.get() + 1)
        >>> state.exists(), state.get(), state.isTimingOut()
        (True, 2, False)
    """

    __slots__ = ("_is_timing_out", "_own", "status", "value")

    def __init__(self, own: Callable[[Any], Any]) -> None:
        self._own = own
        self._is_timing_out = False
        self.value: Any = None
        """For what calls the function; the function itself asks `get`."""
        self.status = ABSENT
        """For what calls the function: one of the five above."""

    @classmethod
    def of(cls, *value: S) -> "State[S]":
        """A state of its own, set to the value if there is one; for tests of a user's function.

        Example:
            >>> State.of(1), State.of()
            (State(1), State())
        """
        state: State[S] = cls(_same)
        if value:
            state.value, state.status = value[0], KEPT
        return state

    def exists(self) -> bool:
        """Whether the key has a state.

        Example:
            >>> State.of(None).exists(), State.of().exists()
            (True, False)
        """
        return ABSENT < self.status < REMOVED

    def get(self) -> S:
        """The state.

        Raises:
            StateNotSetError: the key has none; it is a LookupError too.

        Example:
            >>> State.of(1).get()
            1
        """
        if self.status == KEPT:
            if type(self.value) not in SCALARS:
                self.value = self._own(self.value)
            self.status = OPENED
        elif self.status in {ABSENT, REMOVED}:
            raise StateNotSetError("State is not set; ask exists(), or use getOption()")
        value: S = self.value
        return value

    def getOption(self) -> S | None:
        """The state, None when the key has none.

        Example:
            >>> State.of(1).getOption(), State.of().getOption()
            (1, None)
        """
        return self.get() if self.exists() else None

    def update(self, newState: S) -> None:
        """Set the state; any value is one, None too.

        Raises:
            LifecycleError: it was removed in this call, or is timing out.

        Example:
            >>> state = State.of(1)
            >>> state.update(2)
            >>> state
            State(2)
        """
        if self._is_timing_out:
            raise LifecycleError("Cannot update the state that is timing out; it is removed after this call")
        if self.status == REMOVED:
            raise LifecycleError(
                "Cannot update the state after it has been removed; do one or the other in a call"
            )
        self.value = newState
        self.status = UPDATED

    def remove(self) -> None:
        """Remove the key.

        Raises:
            LifecycleError: it was removed in this call, or is timing out.

        Example:
            >>> state = State.of(1)
            >>> state.remove()
            >>> state
            State()
        """
        if self._is_timing_out:
            raise LifecycleError("Cannot remove the state that is timing out; it is removed after this call")
        if self.status == REMOVED:
            raise LifecycleError(
                "Cannot remove the state that has already been removed; do it once in a call"
            )
        self.value = None
        self.status = REMOVED

    def isTimingOut(self) -> bool:
        """Whether the key is about to be removed because nothing touched it for the timeout.

        Example:
            >>> State.of(1).isTimingOut()
            False
        """
        return self._is_timing_out

    def open_timing_out(self, value: Any) -> None:
        """Be the state of a key that is about to be removed."""
        self.value, self.status, self._is_timing_out = value, KEPT, True

    def __repr__(self) -> str:
        return f"State({self.getOption()!r})" if self.exists() else "State()"


class StateSpec:
    """What mapWithState does with each record and with idle keys; each method returns the spec itself.

    Example:
        >>> StateSpec.function(lambda key, value, state: state.update(value)).timeout(30).timeout_ms
        30000

    Source: `org.apache.spark.streaming.StateSpec`.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.mapping = function
        self.takes_time = _takes_time(function)
        """Whether the function is one of (time, key, value, state)."""
        self.initial: Any = None
        self.timeout_ms: int | None = None
        self.types: tuple[Any, Any] = (None, None)
        """Of key and state; None for plain values."""

    @classmethod
    def function(cls, mappingFunction: Callable[..., Any]) -> "StateSpec":
        """A spec of this function, which is called for every record, in arrival order within its key.

        Args:
            mappingFunction: (key, value, state) -> mapped: what it returns is an element of the stream, None too; or
                (time, key, value, state) -> mapped: what it returns is an element, and None means no element, as Scala's
                Option. `time` is the batch's `engine.batch.Time`; `value` is None when the key is timing out. A function
                that can be called with three arguments is the first form.
        Replay: the function runs again over the same state and must give the same.

        Raises:
            ConfigurationError: it takes neither three nor four arguments.

        Example:
            >>> spec = StateSpec.function(lambda key, value, state: state.update(value))
            >>> spec.takes_time
            False
        """
        return cls(mappingFunction)

    def initialState(self, rdd: Any) -> "StateSpec":
        """The states to begin with: an RDD, a list or a dict of (key, state); the last one of a key counts.

        State: used in the first batch of the operator, until that is committed, and never again. An initial state is as old
            as that batch.

        Example:
            >>> spec = StateSpec.function(lambda key, value, state: state.update(value))
            >>> spec.initialState({"a": 1}).initial
            {'a': 1}
        """
        self.initial = rdd
        return self

    def numPartitions(self, numPartitions: int) -> "StateSpec":
        """Accepted: state has the application's number of shards, fixed at its first start.

        Raises:
            ConfigurationError: it is no number of at least 1.

        Example:
            >>> spec = StateSpec.function(lambda key, value, state: state.update(value))
            >>> spec.numPartitions(4) is spec
            True
        """
        refuse_no_partitions(numPartitions)
        return self

    def partitioner(self, partitioner: Any) -> "StateSpec":
        """Accepted: which shard a key belongs to is part of the checkpoint, and the engine's choice.

        Raises:
            ConfigurationError: it is no partitioner.

        Example:
            >>> spec = StateSpec.function(lambda key, value, state: state.update(value))
            >>> spec.partitioner(4) is spec
            True
        """
        refuse_no_partitions(partitioner)
        return self

    def timeout(self, idleDuration: float) -> "StateSpec":
        """Remove a key that no record touched for so long, having called the function with None for its value.

        Time: seconds > 0, or an `engine.batch.Duration`. A key goes in the first batch whose time is later than the time of
            the batch that last had a record of it by MORE than this; a batch that has a record of it touches it first.

        Raises:
            ConfigurationError: it is not greater than 0.

        Example:
            >>> spec = StateSpec.function(lambda key, value, state: state.update(value))
            >>> spec.timeout(1.5).timeout_ms
            1500
        """
        duration = idleDuration if isinstance(idleDuration, Duration) else Duration.seconds(idleDuration)
        if duration <= 0:
            raise ConfigurationError(f"timeout is {idleDuration}; give seconds greater than 0, or a Duration")
        self.timeout_ms = int(duration)
        return self

    def keyType(self, keyType: Any) -> "StateSpec":
        """The type of a key, for the checkpoint; needed for other than plain values.

        Example:
            >>> spec = StateSpec.function(lambda key, value, state: state.update(value))
            >>> spec.keyType(str).types
            (<class 'str'>, None)
        """
        self.types = (keyType, self.types[1])
        return self

    def stateType(self, stateType: Any) -> "StateSpec":
        """The type of a state, likewise.

        Example:
            >>> spec = StateSpec.function(lambda key, value, state: state.update(value))
            >>> spec.stateType(list[int]).types
            (None, list[int])
        """
        self.types = (self.types[0], stateType)
        return self


def accepts(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many positional arguments; one that cannot tell can.

    Example:
        >>> accepts(lambda values, state=None: 0, 2), accepts(lambda values, state: 0, 4)
        (True, False)
    """
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True


def _takes_time(function: Any) -> bool:
    if not callable(function):
        raise ConfigurationError(
            f"StateSpec.function got {function!r:.60}; give a function of (key, value, state)"
        )
    if not accepts(function, 3) and not accepts(function, 4):
        raise ConfigurationError(
            f"the function {function!r:.60} of StateSpec can be called with neither three arguments (key, value, state) nor "
            "four (time, key, value, state); give it one of these forms"
        )
    return not accepts(function, 3)


def refuse_no_partitions(given: Any) -> None:
    """Prove that an argument tells a number of partitions: nothing, a number, or a partitioner.

    Raises:
        ConfigurationError: it does not.
    """
    count = getattr(given, "numPartitions", given)
    if count is not None and (not isinstance(count, int) or count < 1):
        raise ConfigurationError(
            f"numPartitions is {given!r:.60}; give a number of at least 1 or a partitioner, or leave it out"
        )


def pairs_of(initial: Any, name: str) -> list[tuple[Any, Any]] | Any:
    """Initial states as a list of pairs, or the RDD as it is.

    Raises:
        ConfigurationError: they are neither.
    """
    if isinstance(initial, Mapping):
        return list(initial.items())
    if isinstance(initial, Iterable):
        return list(initial)
    if initial is not None and not hasattr(initial, "mapPartitions"):
        raise ConfigurationError(f"{name} is {initial!r:.60}; give an RDD, a list or a dict of (key, state)")
    return initial


def _same(value: Any) -> Any:
    return value
