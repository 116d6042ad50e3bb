"""What the tests of mapWithState share: a function that adds up, and a job over it."""

from collections.abc import Callable
from typing import Any

from engine import State, StateSpec, StreamingContext
from engine.dstream.dstream import DStream
from tests.engine.app import App


def running(key: Any, value: int | None, state: State[int]) -> Any:
    """Adds up; tells when a key goes."""
    if state.isTimingOut():
        return key, "gone", state.get()
    state.update((state.getOption() or 0) + (value or 0))
    return key, state.get()


def job_of(
    spec: Callable[[], StateSpec], name: str | None = None
) -> Callable[[StreamingContext, DStream[Any], App], None]:
    """A job with a mapWithState whose elements and snapshots are collected."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        states = stream.mapWithState(spec(), name=name)
        app.collect(states.map(repr), "mapped")
        app.collect(states.stateSnapshots(), "states")

    return job


def shown(*batches: list[Any]) -> list[list[str]]:
    """Elements as `job_of` collects them."""
    return [sorted(map(repr, batch)) for batch in batches]
