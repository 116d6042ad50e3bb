"""Which backend computes the RDDs of a context that a user made, and what its errors mean.

What stands behind another library is loaded when an object of that library comes along, and not before: a job on the embedded
backend does not pay for Spark, and does not need it to be installed.

Owns: backend_of, spark_context, translated, translating.
Never: an import of pyspark.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from engine.errors import ConfigurationError
from engine.rdd.api import Context

_ADAPTERS = {"pyspark": "engine.spark", "py4j": "engine.spark"}
"""By library: the room that adapts its objects."""


def _adapter(value: object, module: str) -> Any:
    """The module that adapts an object, None for one of ours."""
    room = _ADAPTERS.get(type(value).__module__.partition(".")[0])
    return None if room is None else importlib.import_module(f"{room}.{module}")


def backend_of(context: Any) -> Context:
    """What the streams of this context run on: itself when it is ours, else its adapter.

    Example:
        >>> from engine import LocalContext
        >>> with LocalContext("local") as sc:
        ...     backend_of(sc) is sc
        True
    """
    adapter = _adapter(context, "backend")
    backend: Context = context if adapter is None else adapter.SparkBackend(context)
    return backend


def spark_context(master: str, appName: str) -> Any:
    """A `pyspark.SparkContext` on this cluster; its other settings are those of spark-defaults.conf.

    Raises:
        ConfigurationError: pyspark is not installed, or the cluster does not answer.
    """
    try:
        backend = importlib.import_module("engine.spark.backend")
    except ModuleNotFoundError as cause:
        if cause.name != "pyspark":
            raise
        raise ConfigurationError(
            f"master is {master!r} and pyspark is not installed; run pip install '.[spark]', or use local[N]"
        ) from cause
    return backend.connect(master, appName)


def translated(error: BaseException) -> BaseException:
    """The error as the engine knows it: what a job on Spark raised becomes one of `engine.errors`, all others stay.

    Example:
        >>> translated(ValueError("x"))
        ValueError('x')
    """
    adapter = _adapter(error, "failures")
    known: BaseException = error if adapter is None else adapter.translated(error)
    return known


@contextmanager
def translating() -> Iterator[None]:
    """What jobs inside raise leaves as the engine knows it."""
    try:
        yield
    except Exception as raised:
        error = translated(raised)
        if error is raised:
            raise
        raise error from error.__cause__
