"""Who is told how batches go; observers hang on here, and the engine knows none of them.

Owns: StreamingListener, StreamingListenerBus.
Never: an effect on the stream; a listener that raises is logged by name and the batch goes on.
"""

import logging
import threading
from typing import Final

from engine.errors import ConfigurationError, LifecycleError
from engine.scheduler.events import (
    StreamingListenerBatchCompleted,
    StreamingListenerBatchFailed,
    StreamingListenerBatchStarted,
    StreamingListenerBatchSubmitted,
    StreamingListenerCheckpointFailed,
    StreamingListenerExecutorsReplaced,
    StreamingListenerOutputOperationCompleted,
    StreamingListenerOutputOperationStarted,
    StreamingListenerReceiverError,
    StreamingListenerReceiverStarted,
    StreamingListenerReceiverStopped,
    StreamingListenerSnapshotWritten,
    StreamingListenerStateRestored,
    StreamingListenerStreamingStarted,
    StreamingListenerVolumePurged,
)

log = logging.getLogger(__name__)


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
        """The context has started.

        Example:
            >>> from engine.testing import run_batches
            >>> class Told(StreamingListener):
            ...     def onStreamingStarted(self, streamingStarted):
            ...         print(streamingStarted.app)
            >>> run_batches(lambda s: s.context().addStreamingListener(Told()) or s, [[1]])
            test
            [[1]]

        Source: `pyspark.streaming.listener.StreamingListener.onStreamingStarted`.
        """

    def onReceiverStarted(self, receiverStarted: StreamingListenerReceiverStarted) -> None:
        """A receiver has started.

        Example:
            >>> from engine import Receiver
            >>> from engine.testing import run_batches
            >>> class Told(StreamingListener):
            ...     def onReceiverStarted(self, receiverStarted):
            ...         print(receiverStarted.receiverInfo.name)
            >>> class Numbers(Receiver):
            ...     def onStart(self):
            ...         self.store([1, 2])
            >>> def job(stream):
            ...     stream.context().addStreamingListener(Told())
            ...     return stream.context().receiverStream(Numbers())
            >>> run_batches(job, [[]])
            receiver
            [[1, 2]]

        Source: `pyspark.streaming.listener.StreamingListener.onReceiverStarted`.
        """

    def onReceiverError(self, receiverError: StreamingListenerReceiverError) -> None:
        """A receiver has reported an error.

        Example:
            >>> from engine import Receiver
            >>> from engine.testing import run_batches
            >>> class Told(StreamingListener):
            ...     def onReceiverError(self, receiverError):
            ...         print(receiverError.receiverInfo.lastErrorMessage)
            >>> class Numbers(Receiver):
            ...     def onStart(self):
            ...         self.reportError("the source is away")
            >>> def job(stream):
            ...     stream.context().addStreamingListener(Told())
            ...     return stream.context().receiverStream(Numbers())
            >>> run_batches(job, [[]])
            the source is away
            [[]]

        Source: `pyspark.streaming.listener.StreamingListener.onReceiverError`.
        """

    def onReceiverStopped(self, receiverStopped: StreamingListenerReceiverStopped) -> None:
        """A receiver has stopped.

        Example:
            >>> from engine import Receiver
            >>> from engine.testing import run_batches
            >>> class Told(StreamingListener):
            ...     def onReceiverStopped(self, receiverStopped):
            ...         print(receiverStopped.receiverInfo.active)
            >>> class Numbers(Receiver):
            ...     def onStart(self):
            ...         self.store([1, 2])
            >>> def job(stream):
            ...     stream.context().addStreamingListener(Told())
            ...     return stream.context().receiverStream(Numbers())
            >>> run_batches(job, [[]])
            False
            [[1, 2]]

        Source: `pyspark.streaming.listener.StreamingListener.onReceiverStopped`.
        """

    def onStateRestored(self, stateRestored: StreamingListenerStateRestored) -> None:
        """Shards of state were read from the volume.

        Example:
            >>> class Told(StreamingListener):
            ...     def onStateRestored(self, stateRestored):
            ...         print(stateRestored.keys)
            >>> Told().onStateRestored(StreamingListenerStateRestored(seconds=0.2, keys=1_000, shards=8))
            1000
        """

    def onExecutorsReplaced(self, executorsReplaced: StreamingListenerExecutorsReplaced) -> None:
        """Executors died and were replaced.

        Example:
            >>> class Told(StreamingListener):
            ...     def onExecutorsReplaced(self, executorsReplaced):
            ...         print(executorsReplaced.replaced)
            >>> Told().onExecutorsReplaced(StreamingListenerExecutorsReplaced(executors=(71, 72), replaced=(1,)))
            (1,)
        """

    def onBatchSubmitted(self, batchSubmitted: StreamingListenerBatchSubmitted) -> None:
        """A batch is due and its ranges are planned.

        Example:
            >>> from engine.testing import run_batches
            >>> class Told(StreamingListener):
            ...     def onBatchSubmitted(self, batchSubmitted):
            ...         print(batchSubmitted.batchInfo.numRecords)
            >>> run_batches(lambda s: s.context().addStreamingListener(Told()) or s, [[1, 2], [3]])
            2
            1
            [[1, 2], [3]]

        Source: `pyspark.streaming.listener.StreamingListener.onBatchSubmitted`.
        """

    def onBatchStarted(self, batchStarted: StreamingListenerBatchStarted) -> None:
        """A run of a batch begins.

        Example:
            >>> from engine.testing import run_batches
            >>> class Told(StreamingListener):
            ...     def onBatchStarted(self, batchStarted):
            ...         print(batchStarted.batch.attempt)
            >>> run_batches(lambda s: s.context().addStreamingListener(Told()) or s, [[1], [2]])
            0
            0
            [[1], [2]]

        Source: `pyspark.streaming.listener.StreamingListener.onBatchStarted`. Difference: PySpark names the argument batchSubmitted.
        """

    def onOutputOperationStarted(
        self, outputOperationStarted: StreamingListenerOutputOperationStarted
    ) -> None:
        """One output of a batch begins.

        Example:
            >>> from engine.testing import run_batches
            >>> class Told(StreamingListener):
            ...     def onOutputOperationStarted(self, outputOperationStarted):
            ...         print(outputOperationStarted.outputOperationInfo.name)
            >>> run_batches(lambda s: s.context().addStreamingListener(Told()) or s, [[1]])
            foreachRDD(queue)
            [[1]]

        Source: `pyspark.streaming.listener.StreamingListener.onOutputOperationStarted`.
        """

    def onOutputOperationCompleted(
        self, outputOperationCompleted: StreamingListenerOutputOperationCompleted
    ) -> None:
        """One output of a batch is acknowledged, or failed.

        Example:
            >>> from engine.testing import run_batches
            >>> class Told(StreamingListener):
            ...     def onOutputOperationCompleted(self, outputOperationCompleted):
            ...         print(outputOperationCompleted.outputOperationInfo.failureReason)
            >>> run_batches(lambda s: s.context().addStreamingListener(Told()) or s, [[1]])
            None
            [[1]]

        Source: `pyspark.streaming.listener.StreamingListener.onOutputOperationCompleted`.
        """

    def onBatchCompleted(self, batchCompleted: StreamingListenerBatchCompleted) -> None:
        """A batch is committed.

        Example:
            >>> from engine.testing import run_batches
            >>> class Told(StreamingListener):
            ...     def onBatchCompleted(self, batchCompleted):
            ...         print(batchCompleted.batchInfo.totalDelay >= 0)
            >>> run_batches(lambda s: s.context().addStreamingListener(Told()) or s, [[1]])
            True
            [[1]]

        Source: `pyspark.streaming.listener.StreamingListener.onBatchCompleted`.
        """

    def onBatchFailed(self, batchFailed: StreamingListenerBatchFailed) -> None:
        """A run of a batch ended with an error.

        Example:
            >>> from engine.errors import UserFunctionError
            >>> from engine.testing import run_batches
            >>> class Told(StreamingListener):
            ...     def onBatchFailed(self, batchFailed):
            ...         print(batchFailed.stage)
            >>> try:
            ...     run_batches(lambda s: s.context().addStreamingListener(Told()) or s.map(lambda n: 1 // n), [[0]])
            ... except UserFunctionError as error:
            ...     print(type(error).__name__)
            outputs
            UserFunctionError
        """

    def onSnapshotWritten(self, snapshotWritten: StreamingListenerSnapshotWritten) -> None:
        """One shard of state is durable in a file of its own.

        Example:
            >>> class Told(StreamingListener):
            ...     def onSnapshotWritten(self, snapshotWritten):
            ...         print(snapshotWritten.operator, snapshotWritten.keys)
            >>> Told().onSnapshotWritten(StreamingListenerSnapshotWritten("sums", 0, keys=10, size_bytes=100, seconds=0.1))
            sums 10
        """

    def onVolumePurged(self, volumePurged: StreamingListenerVolumePurged) -> None:
        """What comes between two batches is done.

        Example:
            >>> from engine.testing import run_batches
            >>> class Told(StreamingListener):
            ...     def onVolumePurged(self, volumePurged):
            ...         print(sorted(volumePurged.stage_seconds))
            >>> run_batches(lambda s: s.context().addStreamingListener(Told()) or s, [[1]])
            ['purge', 'snapshot']
            [[1]]
        """

    def onCheckpointFailed(self, checkpointFailed: StreamingListenerCheckpointFailed) -> None:
        """The checkpoint could not do something.

        Example:
            >>> class Told(StreamingListener):
            ...     def onCheckpointFailed(self, checkpointFailed):
            ...         print(checkpointFailed.stage)
            >>> Told().onCheckpointFailed(StreamingListenerCheckpointFailed("commit", OSError("no space left")))
            commit
        """


_METHODS: Final = tuple(name for name in vars(StreamingListener) if name.startswith("on"))


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
        """Tell this listener too, from the next event on.

        Raises:
            ConfigurationError: it has no method of a listener.
        """
        if not any(callable(getattr(listener, method, None)) for method in _METHODS):
            raise ConfigurationError(
                f"the listener is {listener!r:.60}; give an object of a class of StreamingListener"
            )
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
