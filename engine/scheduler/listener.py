"""Who is told how batches go; observers hang on here, and the engine knows none of them.

Owns: StreamingListener, its events, StreamingListenerBus.
Never: an effect on the stream; a listener that raises is logged by name and the batch goes on.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from engine.batch import Batch, BatchInfo, OutputInfo, Time

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StreamingListenerStreamingStarted:
    """The context has started; `time` in milliseconds since the epoch."""

    time: int


@dataclass(frozen=True, slots=True)
class StreamingListenerBatchSubmitted:
    """A batch is due and its ranges are planned."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class StreamingListenerBatchStarted:
    """A run of a batch begins; its attempt says which."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class StreamingListenerOutputOperationCompleted:
    """One output of a batch is acknowledged."""

    batchTime: Time
    output: OutputInfo


@dataclass(frozen=True, slots=True)
class StreamingListenerBatchCompleted:
    """A batch is committed."""

    batchInfo: BatchInfo
    delta_bytes: int
    """Bytes of state that the commit holds."""
    commit_seconds: float
    """How long the commit took, seconds."""
    state_keys: Mapping[str, int]
    """Keys of each stateful operator."""


@dataclass(frozen=True, slots=True)
class StreamingListenerBatchFailed:
    """A run of a batch ended with an error; it runs again when the error is an executor's death, else the stream stops."""

    batch: Batch
    error: Exception


class StreamingListener:
    """Base of observers; override what you want to be told. Called on the scheduler's thread: be quick.

    Source: `pyspark.streaming.StreamingListener`; the events are plain Python objects here.
    """

    def onStreamingStarted(self, streamingStarted: StreamingListenerStreamingStarted) -> None:
        """The context has started."""

    def onBatchSubmitted(self, batchSubmitted: StreamingListenerBatchSubmitted) -> None:
        """A batch is due and its ranges are planned."""

    def onBatchStarted(self, batchStarted: StreamingListenerBatchStarted) -> None:
        """A run of a batch begins."""

    def onOutputOperationCompleted(
        self, outputOperationCompleted: StreamingListenerOutputOperationCompleted
    ) -> None:
        """One output of a batch is acknowledged."""

    def onBatchCompleted(self, batchCompleted: StreamingListenerBatchCompleted) -> None:
        """A batch is committed."""

    def onBatchFailed(self, batchFailed: StreamingListenerBatchFailed) -> None:
        """A run of a batch ended with an error."""


class StreamingListenerBus:
    """Tells every listener, in the order in which they were added."""

    def __init__(self) -> None:
        self._listeners: list[StreamingListener] = []

    def add(self, listener: StreamingListener) -> None:
        """Tell this listener too."""
        self._listeners.append(listener)

    def post(self, method: str, event: object) -> None:
        """Call the method of every listener with the event."""
        for listener in self._listeners:
            try:
                getattr(listener, method)(event)
            except Exception:  # an observer must not stop the stream, whatever it raises
                log.exception("listener %s failed in %s", type(listener).__name__, method)
