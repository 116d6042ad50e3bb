"""An application whose code is exchanged between two runs over one checkpoint folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from engine import LocalContext, StreamingContext
from engine.dstream.dstream import DStream
from tests.engine.app import App

Code = Callable[[StreamingContext, DStream[Any], App], None]
KEYS = [f"page-{number}" for number in range(20)]


class Total(msgspec.Struct):
    """A state of the newer code."""

    views: int
    batches: int = 0


class Versions:
    """An application whose code is exchanged between two runs.

    Args:
        context: runs it.
        folder: of the checkpoints.
        batches: with one record of each key.
        empty: batches after them.
    """

    def __init__(self, context: LocalContext, folder: Path, batches: int = 60, empty: int = 0) -> None:
        self._code: Code = _nothing
        full: list[list[Any]] = [[(key, 1) for key in KEYS]] * batches
        self.app = App(context, folder, self._build, [*full, *[[]] * empty])
        self.out = self.app.out

    def _build(self, ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        self._code(ssc, stream, app)

    def run(self, code: Code, batches: int = 2) -> Any:
        """Start this code over the folder, run batches, stop; what its last batch gave."""
        self._code = code
        with self.app as app:
            app.run(batches)
        return self.out["all"][-1]

    def journal(self) -> bytes:
        """Every byte of the journal but the `open` records of starts."""
        segments = sorted((self.app.folder / "test" / "journal").iterdir())
        return b"".join(path.read_bytes() for path in segments)


def _nothing(_ssc: StreamingContext, _stream: DStream[Any], _app: App) -> None:
    raise AssertionError("run gives the code")


def counted(
    name: str, update: Callable[..., Any], state: Any, *before: Callable[[StreamingContext], None]
) -> Code:
    """Code with one updateStateByKey."""

    def code(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        for say in before:
            say(ssc)
        app.collect(stream.updateStateByKey(update, name=name, keyType=str, stateType=state), "all")

    return code


def add(values: list[int], state: int | None) -> int:
    """The sum."""
    return (state or 0) + sum(values)


def add_total(values: list[int], state: Total | None) -> Total:
    """The sum, and how many batches it is of."""
    return Total((state.views if state else 0) + sum(values), (state.batches if state else 0) + 1)


def migrating(functions: dict[Any, Any]) -> Callable[[StreamingContext], None]:
    """Says how the states of `totals` become those of the declared type."""
    return lambda ssc: ssc.migrateState("totals", functions)


def renaming(old: str, new: str) -> Callable[[StreamingContext], None]:
    """Says that an operator has another name now."""
    return lambda ssc: ssc.renameState(old, new)


TO_TOTAL = counted("totals", add_total, Total, migrating({int: Total}))
"""Totals whose states were numbers."""


def all_with(state: Any) -> list[tuple[str, Any]]:
    """Every key with this state."""
    return sorted((key, state) for key in KEYS)
