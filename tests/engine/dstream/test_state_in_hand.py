"""The State in the hands of the function of mapWithState: what it tells, what it refuses, and what of it is kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, State, StateSpec, StreamingContext
from engine.dstream.dstream import DStream
from engine.errors import LifecycleError, StateNotSetError, UserFunctionError
from engine.testing import run_batches
from tests.engine.app import App
from tests.engine.dstream.mapped import job_of


def test_state_tells_what_it_is() -> None:
    """A state exists from its first update on, until it is removed."""
    state: State[int] = State.of()
    assert (state.exists(), state.getOption(), repr(state)) == (False, None, "State()")
    state.update(5)
    assert (state.exists(), state.get(), state.getOption(), repr(state)) == (True, 5, 5, "State(5)")
    state.remove()
    assert (state.exists(), state.getOption(), state.isTimingOut()) == (False, None, False)


def test_none_is_a_state() -> None:
    """A state that was set to None exists."""
    state: State[None] = State.of(None)
    state.update(None)

    assert state.exists()
    assert state.get() is None


def test_asking_for_no_state_is_an_error() -> None:
    """A state that is not there is an error of the engine and a LookupError, with Spark's words."""
    for state in (State.of(), removed()):
        with pytest.raises(StateNotSetError, match="State is not set"):
            state.get()
        with pytest.raises(LookupError):
            state.get()


def removed() -> State[int]:
    """A state after its removal."""
    state = State.of(1)
    state.remove()
    return state


def timing_out() -> State[int]:
    """A state that is timing out."""
    state: State[int] = State.of()
    state.open_timing_out(1)
    return state


@pytest.mark.parametrize(
    ("state", "call", "message"),
    [
        (removed(), lambda s: s.update(2), "Cannot update the state after it has been removed"),
        (removed(), lambda s: s.remove(), "Cannot remove the state that has already been removed"),
        (timing_out(), lambda s: s.update(2), "Cannot update the state that is timing out"),
        (timing_out(), lambda s: s.remove(), "Cannot remove the state that is timing out"),
    ],
)
def test_changes_too_late_are_refused(state: State[int], call: Callable[[Any], None], message: str) -> None:
    """An update or removal after a removal, or while the key times out, is refused with Spark's words."""
    with pytest.raises(LifecycleError, match=message):
        call(state)


def stops(_key: Any, _value: Any, _state: State[int]) -> Any:
    """Reads on where nothing is."""
    return next(iter(()))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (stops, "StopIteration"),
        (lambda _key, _value, state: state.get(), "StateNotSetError: State is not set"),
        (
            lambda _key, _value, state: (state.remove(), state.update(1)),
            "LifecycleError: Cannot update the state",
        ),
        (lambda _key, value, _state: value / 0, "ZeroDivisionError"),
    ],
    ids=["stop", "unset", "removed", "other"],
)
def test_error_in_the_function_names_operator_and_batch(
    context: LocalContext, function: Any, message: str
) -> None:
    """Whatever the function raises ends the batch as its own error, with the operator's name and the batch."""
    with pytest.raises(UserFunctionError, match=rf"operator 'totals', batch \d+: {message}"):
        run_batches(
            lambda s: s.mapWithState(StateSpec.function(function), name="totals"),
            [[("a", 1), ("b", 1)]],
            context=context,
        )


def test_changes_in_place_count_after_update_only(context: LocalContext, tmp_path: Path) -> None:
    """A value changed in place after `update` is kept as it is in the end, one that was not handed to it is not."""

    def change(_key: Any, value: str, state: State[list[str]]) -> None:
        known = state.getOption() or []
        known.append(value)
        if value != "lost":
            state.update(known)
            known.append("late")

    job = job_of(lambda: StateSpec.function(change))
    with App(context, tmp_path, job, [[("a", "x"), ("a", "lost"), ("a", "y")], [("a", "lost")], []]) as app:
        app.run(2).crash().run()

    assert app.out["states"] == [[("a", ["x", "late", "y", "late"])]] * 3


def test_a_state_is_what_its_value_held_at_the_return(context: LocalContext, tmp_path: Path) -> None:
    """An object that the function hands to `update` again and again is kept for each key as it was then."""
    shared: list[int] = []

    def keep(_key: Any, value: int, state: State[list[int]]) -> None:
        shared.append(value)
        state.update(shared)

    job = job_of(lambda: StateSpec.function(keep))
    with App(context, tmp_path, job, [[("a", 1), ("b", 2)]], shards=1) as app:
        app.run()

    assert app.out["states"] == [[("a", [1]), ("b", [1, 2])]]


def test_elements_and_state_share_nothing(context: LocalContext, tmp_path: Path) -> None:
    """A reader that changes an element in place spoils neither the state, nor another reader, nor a snapshot."""

    def grow(_key: Any, value: int, state: State[list[int]]) -> list[int]:
        state.update([*(state.getOption() or []), value])
        return state.get()

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        states = stream.mapWithState(StateSpec.function(grow))
        for name in ("first", "second"):
            app.collect(states.map(lambda n: n.append(-1) or n), name)
            app.collect(states.stateSnapshots().mapValues(lambda n: n.append(-1) or n), f"{name} states")

    with App(context, tmp_path, job, [[("a", 1)], [("a", 2)], []]) as app:
        app.run(3)

    assert app.out["first"] == app.out["second"] == [[[1, -1]], [[1, 2, -1]], []]
    assert (
        app.out["first states"]
        == app.out["second states"]
        == [
            [("a", [1, -1])],
            [("a", [1, 2, -1])],
            [("a", [1, 2, -1])],
        ]
    )
