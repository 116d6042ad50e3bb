"""The task that runs in this process, whichever backend runs it: ours, or Apache Spark in a Python worker of an executor.

Owns: RunningTask, current_task, pinning.
Never: an import of pyspark; in a worker of Spark it is loaded already, and elsewhere no task of Spark runs.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from engine.rdd.task import TaskContext

R = TypeVar("R")

_resources: dict[Any, Any] = {}
"""What a worker of Spark keeps between its tasks; ours keeps it in the executor's runtime."""
_pinned: list[Mapping[str, str]] = []
"""Properties that the code that runs brought along; the innermost last."""


class RunningTask(Protocol):
    """What the engine's own functions ask of the task that they run in."""

    def getLocalProperty(self, key: str) -> str | None:
        """What the driver set under the key before it started the job."""

    def resource(self, kind: Callable[[], R]) -> R:
        """The one object of this kind in this process, made on first use."""


class _SparkTask:
    """A running task of Spark."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def getLocalProperty(self, key: str) -> str | None:
        """What the driver set under the key before it started the job."""
        if _pinned and key in _pinned[-1]:
            return _pinned[-1][key]
        value: str | None = self._context.getLocalProperty(key)
        return value

    def resource(self, kind: Callable[[], R]) -> R:
        """The one object of this kind in this worker, made on first use."""
        if kind not in _resources:
            _resources[kind] = kind()
        made: R = _resources[kind]
        return made


def current_task() -> RunningTask:
    """The running task.

    Raises:
        RuntimeError: no task runs here.
    """
    own = TaskContext.get()
    if own is not None:
        return own
    loaded = sys.modules.get("pyspark.taskcontext")
    context = None if loaded is None else loaded.TaskContext.get()
    if context is None:
        raise RuntimeError("there is no running task in this process")
    return _SparkTask(context)


@contextmanager
def pinning(properties: Mapping[str, str]) -> Iterator[None]:
    """Code inside sees these properties of a task of Spark, whichever job computes it.

    Spark computes again what it has lost, perhaps in a job of another operator or a later batch.
    """
    _pinned.append(properties)
    try:
        yield
    finally:
        _pinned.pop()
