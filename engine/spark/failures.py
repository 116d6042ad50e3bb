"""What a failed job of Spark was: the user's function, an error of the engine in a task, or an executor that is gone.

Spark tries a task four times before the job fails; what arrives is one text with the worker's Python traceback in it.

Owns: translated.
Never: a retry.
"""

import re

from engine import errors
from engine.errors import (
    ConfigurationError,
    ExecutorLostError,
    LifecycleError,
    StreamingError,
    UserFunctionError,
)

_TRACEBACK = re.compile(
    r"^.*?(Traceback \(most recent call last\):\n.*?)(?=\n SQLSTATE|\n\n?\tat |\n\nDriver stacktrace|\Z)",
    re.DOTALL,
)
_FRAME = re.compile(r'  File "(.*?)", line')
_SPARKS_OWN = ("/pyspark.zip/pyspark/", "/site-packages/pyspark/", "/py4j")
_RAISED = re.compile(r"^([\w.]+)(?:: (.*))?\Z", re.DOTALL)
_LOST = (
    "ExecutorLostFailure",
    "Python worker exited unexpectedly",
    "Python worker failed to connect back",
    "Remote RPC client disassociated",
    "FetchFailed",
)
_STOPPED = (
    "SparkContext was shut down",
    "cancelled as part of cancellation of all jobs",
    "cancelled because SparkContext",
    "stopped SparkContext",
)


def translated(error: Exception) -> Exception:
    """The error as the engine knows it; one that no job raised stays as it is."""
    text = str(error)
    found = _TRACEBACK.match(text)
    if found:
        return _raised_in_task(found[1].rstrip())
    if any(sign in text for sign in _LOST):
        return ExecutorLostError(f"Spark lost what ran a task, in each of its attempts: {_first_line(text)}")
    if any(sign in text for sign in _STOPPED):
        return LifecycleError(
            "the SparkContext was stopped, or its jobs cancelled, while a batch ran; make a new one and start again"
        )
    return error


def _raised_in_task(trace: str) -> StreamingError:
    """The error of a worker's traceback: one of ours by its name, else the user's."""
    frames, last = _parts(trace)
    if last.startswith("ModuleNotFoundError") and all(map(_is_of_the_engine, frames)):
        return ConfigurationError(
            f"a worker's Python cannot load the job ({last}); install the engine and the job's modules there, or name "
            "the right Python with spark.pyspark.python or PYSPARK_PYTHON"
        )
    trace = "\n".join(["Traceback (most recent call last):", *frames, last])
    match = _RAISED.match(last)
    name, message = (match[1], match[2] or "") if match else ("", last)
    kind = getattr(errors, name.removeprefix("engine.errors."), None) if name.startswith("engine.") else None
    if isinstance(kind, type) and issubclass(kind, UserFunctionError):
        return UserFunctionError(message, trace)
    if isinstance(kind, type) and issubclass(kind, StreamingError):
        return kind(message)
    return UserFunctionError(last, trace)


def _parts(trace: str) -> tuple[list[str], str]:
    """The frames of a traceback from the first that is not Spark's own, and what stands behind the last."""
    lines = trace.splitlines()
    behind = max((number for number, line in enumerate(lines) if line.startswith("  ")), default=-1) + 1
    starts = [number for number, line in enumerate(lines[:behind]) if _is_foreign(line)]
    return lines[starts[0] : behind] if starts else [], "\n".join(lines[behind:])


def _is_foreign(line: str) -> bool:
    """Whether a line begins a frame that is not Spark's own."""
    frame = _FRAME.match(line)
    return frame is not None and not any(part in frame[1] for part in _SPARKS_OWN)


def _is_of_the_engine(line: str) -> bool:
    """Whether a line does not begin a frame of the user's."""
    frame = _FRAME.match(line)
    return frame is None or "/engine/" in frame[1] or frame[1].startswith("<frozen ") or not _is_foreign(line)


def _first_line(text: str) -> str:
    lines = [line for line in text.splitlines() if any(sign in line for sign in _LOST)]
    return lines[0].strip() if lines else text[:200]
