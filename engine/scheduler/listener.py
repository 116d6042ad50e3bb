"""Who is told how batches go; observers hang on here, and the engine knows none of them.

What they are told has plain attributes, and PySpark's methods for listeners that were written for it: see `engine.spelling`.

Owns: StreamingListener, its events, StreamingListenerBus.
Never: an effect on the stream; a listener that raises is logged by name and the batch goes on.
"""

import logging
import threading
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
from engine.errors import LifecycleError
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
    submissionTime: int = 0
    """When the batch was due, milliseconds since the epoch."""
    streams: tuple[str, ...] = ()
    """Names of the input streams, in the order in which they were made."""

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
    """Tasks of the committed run by outcome: completed, failed, lost."""
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


class StreamingListener:
    """Base of observers; override what you want to be told.

    Not guaranteed: the thread. Batches are told on the scheduler's, receivers on their own, never two at a time: be quick.
    An exception is logged with the listener's name; neither the stream nor another listener notices.

    Source: `pyspark.streaming.StreamingListener`, which is told wrappers of Java objects and loses its exceptions. Here the events are
    Python objects with attributes, and what they hold can be called for PySpark's methods. The events of executors and the
    checkpoint are ours.

    Example:
        >>> from engine.batch import Batch, BatchInfo, OffsetRange, Time
        >>> info = BatchInfo(Batch(Time(1_000), {"clicks": (OffsetRange("clicks", 0, 0, 5),)}), 1_000, 1_010, 1_030)
        >>> batchCompleted = StreamingListenerBatchCompleted(info)
        >>> batchCompleted.batchInfo.schedulingDelay, batchCompleted.batchInfo.streamIdToInputInfo[0].numRecords
        (10, 5)
        >>> batchCompleted.batchInfo().schedulingDelay(), batchCompleted.batchInfo().streamIdToInputInfo()[0].numRecords()
        (10, 5)
    """

    def onStreamingStarted(self, streamingStarted: StreamingListenerStreamingStarted) -> None:
        """The context has started."""

    def onReceiverStarted(self, receiverStarted: StreamingListenerReceiverStarted) -> None:
        """A receiver has started."""

    def onReceiverError(self, receiverError: StreamingListenerReceiverError) -> None:
        """A receiver has reported an error."""

    def onReceiverStopped(self, receiverStopped: StreamingListenerReceiverStopped) -> None:
        """A receiver has stopped."""

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
    """Tells every listener, in the order in which they were added, one event at a time.

    Guarantees: any method may be called on any thread, also by a listener that is just told something.
    """

    def __init__(self) -> None:
        self._listeners: tuple[StreamingListener, ...] = ()
        self._telling = threading.RLock()
        self._thread: int | None = None
        """That tells just now."""
        self._is_closed = False

    def add(self, listener: StreamingListener) -> None:
        """Tell this listener too, from the next event on."""
        self._listeners = (*self._listeners, listener)

    def remove(self, listener: StreamingListener) -> None:
        """Tell this listener no more; one that is not there changes nothing."""
        self._listeners = tuple(known for known in self._listeners if known is not listener)

    def post(self, method: str, event: object) -> None:
        """Call the method of every listener that has it with the event."""
        with self._telling:
            outer, self._thread = self._thread, threading.get_ident()
            try:
                for listener in () if self._is_closed else self._listeners:
                    self._tell(listener, method, event)
            finally:
                self._thread = outer

    @staticmethod
    def _tell(listener: StreamingListener, method: str, event: object) -> None:
        told = getattr(listener, method, None)
        if told is None:
            return
        try:
            told(event)
        except (Exception, SystemExit):  # an observer must not stop the stream, whatever it raises
            log.exception("listener %s failed in %s", type(listener).__name__, method)

    def refuse_stop(self) -> None:
        """Prove that no listener asks, as it would wait for its own end.

        Raises:
            LifecycleError: one does.
        """
        if self._thread == threading.get_ident():
            raise LifecycleError(
                "Cannot stop StreamingContext within listener bus thread. Let the listener set an event, and stop on another thread"
            )

    def close(self) -> None:
        """Tell nobody anything any more."""
        self._is_closed = True
