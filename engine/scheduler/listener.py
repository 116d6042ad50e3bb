"""Who is told how batches go; observers hang on here, and the engine knows none of them.

Owns: StreamingListener, its events, StreamingListenerBus.
Never: an effect on the stream; a listener that raises is logged by name and the batch goes on.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from engine.batch import Batch, BatchInfo, OutputInfo, OutputOperation, Time, TopicPartition
from engine.reports import Lag, StateReport, Volume, WriteReport

log = logging.getLogger(__name__)

RUN_STAGES: Final = ("plan", "begin", "state", "outputs", "finish", "ledger", "commit")
"""The stages of a batch in their order."""
PURGE_STAGES: Final = ("snapshot", "purge")
"""What comes between two batches."""


@dataclass(frozen=True, slots=True)
class StreamingListenerStreamingStarted:
    """The context has started; state is not restored yet, and no batch has begun."""

    time: int
    """Milliseconds since the epoch."""
    app: str = ""
    """Name of the application."""
    master: str = ""
    """What makes and computes RDDs, such as local[2]."""
    batch_interval: int = 0
    """Milliseconds."""
    epoch: int = 0
    """Number of this start in the checkpoint folder, from 1; 0 without a folder."""
    zero_time: Time = Time(0)  # noqa: RUF009 - an int
    """From which slides are counted: that of the application's first start."""
    executors: tuple[int, ...] = ()
    """Process ids of the executors by their number; empty when tasks run in this process or elsewhere."""
    outputs: tuple[OutputOperation, ...] = ()
    """Every output, in the order in which they run."""
    operators: tuple[str, ...] = ()
    """Name of every stateful operator."""
    committed: Batch | None = None
    """The last batch that an earlier process committed."""


@dataclass(frozen=True, slots=True)
class StreamingListenerStateRestored:
    """Shards of state were read from the volume: at a start, and when an executor was replaced."""

    seconds: float
    keys: int
    """In the shards that were read."""
    shards: int
    """That were read; those that an executor still held are not among them."""


@dataclass(frozen=True, slots=True)
class StreamingListenerExecutorsReplaced:
    """Executors died and were replaced."""

    executors: tuple[int, ...]
    """Process ids of all executors now, by their number."""
    replaced: tuple[int, ...]
    """Numbers of those that are new."""


@dataclass(frozen=True, slots=True)
class StreamingListenerBatchSubmitted:
    """A batch is due and its ranges are planned."""

    batch: Batch
    lags: Mapping[TopicPartition, Lag] = field(default_factory=dict)
    """How far each partition is behind before this batch; empty when a batch of an earlier process runs again."""


@dataclass(frozen=True, slots=True)
class StreamingListenerBatchStarted:
    """A run of a batch begins; its attempt says which."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class StreamingListenerOutputOperationStarted:
    """One output of a batch begins."""

    batchTime: Time
    output: OutputOperation
    startTime: int
    """Milliseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class StreamingListenerOutputOperationCompleted:
    """One output of a batch is acknowledged, or failed (`output.failureReason`)."""

    batchTime: Time
    output: OutputInfo


@dataclass(frozen=True, slots=True)
class StreamingListenerBatchCompleted:
    """A batch is committed."""

    batchInfo: BatchInfo
    delta_bytes: int = 0
    """Bytes of state that the commit holds."""
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    """How long each of the `RUN_STAGES` took in the committed run, seconds; without the plan when a batch of an earlier process
    ran again."""
    state: Mapping[str, StateReport] = field(default_factory=dict)
    """Each stateful operator after the batch."""
    lags: Mapping[TopicPartition, Lag] = field(default_factory=dict)
    """How far each partition is behind after this batch; empty when a batch of an earlier process runs again."""
    created: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """By input stream when records of the batch were created, milliseconds since the epoch: the first and the last record of
    each slice of at most about 500, so that the oldest and the newest are among them; in no order."""
    tasks: Mapping[str, int] = field(default_factory=dict)
    """Tasks of the committed run by outcome: completed, failed, lost."""
    ledger: Mapping[str, WriteReport] = field(default_factory=dict)
    """By table what the ledger wrote into the results store."""


@dataclass(frozen=True, slots=True)
class StreamingListenerBatchFailed:
    """A run of a batch ended with an error; it runs again when the error is an executor's death, else the stream stops."""

    batch: Batch
    error: Exception
    stage: str = ""
    """In which of the `RUN_STAGES`, or restore when state was read for the run."""
    tasks: Mapping[str, int] = field(default_factory=dict)
    """Tasks of the run by outcome: completed, failed, lost."""


@dataclass(frozen=True, slots=True)
class StreamingListenerSnapshotWritten:
    """One shard of state is durable in a file of its own."""

    operator: str
    shard: int
    keys: int
    size_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class StreamingListenerVolumePurged:
    """What comes between two batches is done: snapshots are written, and what no restart needs is removed."""

    batchTime: Time
    """Of the batch before."""
    stage_seconds: Mapping[str, float]
    """How long each of the `PURGE_STAGES` took, seconds."""
    volume: Volume | None
    """As it is now; None without a checkpoint folder."""


@dataclass(frozen=True, slots=True)
class StreamingListenerCheckpointFailed:
    """The checkpoint could not do something: a full or failing disk, damage, another process that took over."""

    stage: str
    """begin, commit, snapshot, purge or restore."""
    error: Exception


class StreamingListener:
    """Base of observers; override what you want to be told. Called on the scheduler's thread: be quick.

    Source: `pyspark.streaming.StreamingListener`; the events are plain Python objects here, and those of executors and the
    checkpoint are ours.
    """

    def onStreamingStarted(self, streamingStarted: StreamingListenerStreamingStarted) -> None:
        """The context has started."""

    def onStateRestored(self, stateRestored: StreamingListenerStateRestored) -> None:
        """Shards of state were read from the volume."""

    def onExecutorsReplaced(self, executorsReplaced: StreamingListenerExecutorsReplaced) -> None:
        """Executors died and were replaced."""

    def onBatchSubmitted(self, batchSubmitted: StreamingListenerBatchSubmitted) -> None:
        """A batch is due and its ranges are planned."""

    def onBatchStarted(self, batchStarted: StreamingListenerBatchStarted) -> None:
        """A run of a batch begins."""

    def onOutputOperationStarted(
        self, outputOperationStarted: StreamingListenerOutputOperationStarted
    ) -> None:
        """One output of a batch begins."""

    def onOutputOperationCompleted(
        self, outputOperationCompleted: StreamingListenerOutputOperationCompleted
    ) -> None:
        """One output of a batch is acknowledged, or failed."""

    def onBatchCompleted(self, batchCompleted: StreamingListenerBatchCompleted) -> None:
        """A batch is committed."""

    def onBatchFailed(self, batchFailed: StreamingListenerBatchFailed) -> None:
        """A run of a batch ended with an error."""

    def onSnapshotWritten(self, snapshotWritten: StreamingListenerSnapshotWritten) -> None:
        """One shard of state is durable in a file of its own."""

    def onVolumePurged(self, volumePurged: StreamingListenerVolumePurged) -> None:
        """What comes between two batches is done."""

    def onCheckpointFailed(self, checkpointFailed: StreamingListenerCheckpointFailed) -> None:
        """The checkpoint could not do something."""


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
