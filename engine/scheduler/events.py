"""What listeners are told: one class for each event, with plain attributes.

Where PySpark's listeners call methods of an event, those are there too: see `engine.spelling`.

Owns: the events of a StreamingListener, RUN_STAGES, PURGE_STAGES.
Never: who is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from engine.batch import (
    Batch,
    BatchInfo,
    OutputInfo,
    OutputOperation,
    OutputOperationInfo,
    ReceiverInfo,
    Time,
    TopicPartition,
    UnfinishedBatchInfo,
    operation_info,
)
from engine.reports import Lag, StateReport, Volume, WriteReport

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
    fallbacks: int = 0
    """Segments of the journal, and torn ends of one, that were passed over."""


@dataclass(frozen=True, slots=True)
class StreamingListenerStateRestored:
    """Shards of state were read from the volume: at a start, and when an executor was replaced."""

    seconds: float
    keys: int
    """In the shards that were read."""
    shards: int
    """That were read; those that an executor still held are not among them."""
    fallbacks: int = 0
    """Snapshots that were passed over, damaged or gone; an older generation has the same state."""


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
    submissionTime: int = 0
    """When the batch was due, milliseconds since the epoch."""
    streams: tuple[str, ...] = ()
    """Names of the input streams, in the order in which they were made."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """By input stream the records a second that the plan allowed at most; those without a limit are absent."""

    @property
    def batchInfo(self) -> UnfinishedBatchInfo:
        """The batch with Spark's names."""
        return UnfinishedBatchInfo(self.batch, self.submissionTime, None, self.streams)


@dataclass(frozen=True, slots=True)
class StreamingListenerBatchStarted:
    """A run of a batch begins; its attempt says which."""

    batch: Batch
    submissionTime: int = 0
    """When the batch was due, milliseconds since the epoch."""
    processingStartTime: int = 0
    """When this run began, milliseconds since the epoch."""
    streams: tuple[str, ...] = ()
    """Names of the input streams, in the order in which they were made."""

    @property
    def batchInfo(self) -> UnfinishedBatchInfo:
        """The batch with Spark's names."""
        return UnfinishedBatchInfo(self.batch, self.submissionTime, self.processingStartTime, self.streams)


@dataclass(frozen=True, slots=True)
class StreamingListenerOutputOperationStarted:
    """One output of a batch begins."""

    batchTime: Time
    output: OutputOperation
    startTime: int
    """Milliseconds since the epoch."""

    @property
    def outputOperationInfo(self) -> OutputOperationInfo:
        """The output with Spark's names."""
        return operation_info(self.batchTime, self.output, self.startTime)


@dataclass(frozen=True, slots=True)
class StreamingListenerOutputOperationCompleted:
    """One output of a batch is acknowledged, or failed (`output.failureReason`)."""

    batchTime: Time
    output: OutputInfo

    @property
    def outputOperationInfo(self) -> OutputOperationInfo:
        """The output with Spark's names."""
        done = self.output
        return operation_info(
            self.batchTime, done.operation, done.startTime, done.endTime, done.failureReason
        )


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
    """Tasks of the committed run by outcome: completed, failed, lost; empty on a cluster, which keeps count itself."""
    ledger: Mapping[str, WriteReport] = field(default_factory=dict)
    """By table what the ledger wrote into the results store."""


@dataclass(frozen=True, slots=True)
class StreamingListenerBatchFailed:
    """A run of a batch ended with an error; it runs again when the error is an executor's death, else the stream stops."""

    batch: Batch
    error: BaseException
    stage: str = ""
    """In which of the `RUN_STAGES`, or restore when state was read for the run."""
    tasks: Mapping[str, int] = field(default_factory=dict)
    """Tasks of the run by outcome: completed, failed, lost; empty on a cluster."""


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
    error: BaseException


@dataclass(frozen=True, slots=True)
class StreamingListenerReceiverStarted:
    """A receiver has started."""

    receiverInfo: ReceiverInfo


@dataclass(frozen=True, slots=True)
class StreamingListenerReceiverError:
    """A receiver has reported an error; it may go on."""

    receiverInfo: ReceiverInfo


@dataclass(frozen=True, slots=True)
class StreamingListenerReceiverStopped:
    """A receiver has stopped."""

    receiverInfo: ReceiverInfo
