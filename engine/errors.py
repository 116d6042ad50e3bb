"""Every exception that the engine raises, in one tree.

    StreamingError
    ├── ConfigurationError        a setting, name or argument is wrong; raised before any work; exit code 2
    ├── LifecycleError            a call in the wrong state of the context
    ├── SourceError               a source cannot give what was asked
    │   └── OffsetOutOfRangeError the source no longer (or not yet) has an offset
    ├── SinkError                 a result store refuses a write for good
    ├── UserFunctionError         a user's function raised; the original is its cause
    │   └── TaskTimeoutError      a task took longer than the context's taskTimeout
    ├── StateNotSetError          a function of mapWithState asked for a state that its key does not have
    ├── JobCancelledError         another thread cancelled the job that this one waited for
    ├── ExecutorLostError         an executor process died; the batch is retried
    ├── CheckpointWriteError      the checkpoint's volume took no write: it is full, or fails; a new start goes on
    └── CheckpointError           the checkpoint folder cannot be used as it is
        ├── CorruptLogError       bytes on the volume fail their checksum
        ├── StateVersionError     state of another job, type or format
        └── ConcurrentRunError    another process holds the folder, or a newer epoch does

Owns: the tree. Never: logic beyond the text of a message.
"""


class StreamingError(Exception):
    """Any error of the engine; `except StreamingError` catches all of them."""


class ConfigurationError(StreamingError, ValueError):
    """Raised before any work when a setting, a name or an argument is wrong; a ValueError too, as PySpark raises for most of them.

    The message names the thing, the value and the remedy in one sentence. The person who
    configures the job can recover, nobody else.
    """


class LifecycleError(StreamingError):
    """Raised by a call that the context's state forbids, such as a new output after start()."""


class SourceError(StreamingError):
    """Raised when a source cannot give what was asked and waiting will not help."""


class OffsetOutOfRangeError(SourceError):
    """Raised when a source no longer has an offset that a batch needs, or does not have it yet."""


class SinkError(StreamingError):
    """Raised when a result store refuses a write for good: a key twice in a batch, an unknown column."""

    table = ""
    """Which table the write was for, when that is known."""


class UserFunctionError(StreamingError):
    """Raised when a function of the user raised; `__cause__` holds the original with its traceback.

    Example:
        >>> str(UserFunctionError("KeyError: 'page'", "Traceback ..."))
        "KeyError: 'page'"
    """

    def __init__(self, message: str, user_traceback: str = "") -> None:
        super().__init__(message, user_traceback)
        self.user_traceback = user_traceback
        """The traceback as text, from the process in which the function ran."""

    def __str__(self) -> str:
        return str(self.args[0])


class TaskTimeoutError(UserFunctionError):
    """Raised when a task took longer than the context's `taskTimeout`; its executor was killed, and the stream stops.

    The traceback shows where the task was. No policy of an output retries it: what hangs once hangs again.
    """


class StateNotSetError(StreamingError, LookupError):
    """Raised by `State.get` of a key that has no state; the function that calls it can ask `exists` first."""


class JobCancelledError(StreamingError):
    """Raised in a thread whose job another cancelled, by its group, by a tag, or with all others; run it again if it is still wanted."""


class ExecutorLostError(StreamingError):
    """Raised when an executor process died under a task; the scheduler replaces it and retries the batch."""


class CheckpointWriteError(StreamingError):
    """Raised when the checkpoint's volume does not take a write now: it is full, or it fails.

    What was acknowledged is there, and nothing else counts: a new start goes on where this one stopped, as soon as the
    volume takes writes again. So it is no CheckpointError, after which a new start changes nothing.
    """


class CheckpointError(StreamingError):
    """Raised when the checkpoint folder cannot be used as it is."""


class CorruptLogError(CheckpointError):
    """Raised when bytes that were durable fail their checksum; names file, offset and remedy."""


class StateVersionError(CheckpointError):
    """Raised when state on the volume belongs to another job, shard count, type or format."""


class ConcurrentRunError(CheckpointError):
    """Raised when another process holds the checkpoint folder or has fenced this one by a newer epoch."""
