"""Keyed state against a plain dict: any records, pauses, timeouts, failed batches and restarts give the same."""

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import LocalContext, State, StateSpec, StreamingContext
from engine.dstream.dstream import DStream
from engine.errors import UserFunctionError
from tests.engine.app import START_MS, App

ACTIONS = ("add", "late", "peek", "remove", "restart", "nothing")


class Step(NamedTuple):
    """One batch."""

    gap: int
    """Intervals since the one before."""
    records: list[tuple[str, tuple[str, int]]]
    fails: bool
    """Whether its output fails once."""
    restarts: bool
    """Whether the application is started again after it."""


records = st.lists(
    st.tuples(st.sampled_from("abcde"), st.tuples(st.sampled_from(ACTIONS), st.integers(0, 9))), max_size=8
)
steps = st.lists(
    st.builds(Step, st.integers(1, 4), records, st.booleans(), st.booleans()), min_size=1, max_size=8
)


@pytest.fixture(scope="module")
def local() -> Iterator[LocalContext]:
    """One context for all examples."""
    with LocalContext("local", "test") as made:
        yield made


def act(time: Any, key: str, value: tuple[str, int] | None, state: State[list[int]]) -> Any:
    """Does as the record says, and tells what it saw."""
    if value is None:
        return int(time), key, "gone", tuple(state.get())
    action, number = value
    known = state.getOption()
    seen = None if known is None else tuple(known)
    known = known or []
    known.append(number)
    if action in {"add", "late"}:
        state.update(known)
    if action == "late":
        known.append(-1)
    if action == "remove":
        state.remove()
    if action == "restart":
        state.update([])
    return None if action == "nothing" else (int(time), key, action, seen)


class Model:
    """The same with a dict."""

    def __init__(self, timeout_ms: int | None, initial: dict[str, list[int]]) -> None:
        self.timeout_ms = timeout_ms
        self.states: dict[str, tuple[int, list[int]]] = {}
        self._initial: dict[str, list[int]] | None = initial

    def run(self, time: int, batch: list[tuple[str, tuple[str, int]]]) -> list[Any]:
        """The elements of a batch."""
        for key, state in (self._initial or {}).items():
            self.states[key] = time, state
        self._initial = None
        mapped: list[Any] = []
        for key, (action, number) in batch:
            self._touch(time, key, action, number, mapped)
        if self.timeout_ms is not None:
            for key, (touched, state) in list(self.states.items()):
                if touched < time - self.timeout_ms:
                    mapped.append((time, key, "gone", tuple(state)))
                    del self.states[key]
        return mapped

    def _touch(self, time: int, key: str, action: str, number: int, mapped: list[Any]) -> None:
        known = self.states[key][1] if key in self.states else None
        if action != "nothing":
            mapped.append((time, key, action, None if known is None else tuple(known)))
        changed = {"add": [*(known or []), number], "late": [*(known or []), number, -1], "restart": []}
        if action in changed:
            self.states[key] = time, changed[action]
        elif action == "remove":
            self.states.pop(key, None)
        elif known is not None:
            self.states[key] = time, known

    @property
    def snapshot(self) -> list[tuple[str, list[int]]]:
        """Every key with its state."""
        return sorted((key, state) for key, (_, state) in self.states.items())


def run_engine(
    context: LocalContext, folder: Path, spec: StateSpec, steps: list[Step]
) -> dict[str, list[Any]]:
    """What the outputs saw, a batch that ran twice twice."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        states = stream.mapWithState(copy.copy(spec), name="states")
        app.collect(states.map(repr), "mapped")
        app.collect(states.stateSnapshots(), "snapshots")

    batches = [step.records for step in steps]
    with App(context, folder, job, batches, every_interval=False, shards=2) as app:
        for step in steps:
            app.clock.advance((step.gap - 1) * 1_000)
            if step.fails:
                app.crash_in = "snapshots"
                with pytest.raises(UserFunctionError):
                    app.run()
                app.crash()
            else:
                app.run()
            if step.restarts:
                app.crash()
    return app.out


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    steps,
    st.none() | st.integers(1, 5),
    st.dictionaries(st.sampled_from("abz"), st.lists(st.integers(0, 9), max_size=2)),
    st.booleans(),
)
def test_map_with_state_is_a_dict(
    local: LocalContext, steps: list[Step], timeout: int | None, initial: dict[str, list[int]], typed: bool
) -> None:
    """Elements, timeouts and snapshots are those of a dict that is updated record by record."""
    spec = StateSpec.function(act).initialState(initial)
    if timeout is not None:
        spec.timeout(timeout)
    if typed:
        spec.keyType(str).stateType(list[int])
    with tempfile.TemporaryDirectory() as folder:
        out = run_engine(local, Path(folder), spec, steps)

    model, time = Model(timeout and timeout * 1_000, initial), START_MS
    mapped: list[Any] = []
    snapshots: list[Any] = []
    for step in steps:
        time += step.gap * 1_000
        runs = 2 if step.fails else 1
        mapped += [sorted(map(repr, model.run(time, step.records)))] * runs
        snapshots += [model.snapshot] * runs
    assert out == {"mapped": mapped, "snapshots": snapshots}
