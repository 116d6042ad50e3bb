"""Receivers: a user's class takes records from anywhere and stores them; what is stored is durable and replayed exactly.

A receiver runs in the driver, in threads of its own. What it stores goes to the block log of its stream: many records at once are one
block, durable when `store` returns; single ones are gathered and become a block each 200 ms, and at each batch.

Owns: Receiver, ReceiverInputDStream.
Never: a record in two batches, or one that was durable in none.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from engine.batch import Batch, OffsetRange, ReceiverInfo, Time, TopicPartition
from engine.clock import Clock
from engine.dstream.nodes import BatchScope, Observed
from engine.errors import ConfigurationError, LifecycleError
from engine.sources.blocks import Blocks, LoggedInputDStream
from engine.sources.elements import decode_element, encode_element
from engine.sources.supervisor import RESTART_SECONDS, ReceiverSettings, ReceiverSupervisor, Tell


class Receiver(ABC):
    """Takes records from somewhere; subclass it, and hand an object of the class to `ssc.receiverStream`.

    `onStart` starts threads and returns; they store what they take and end when `isStopped()`. A reliable receiver stores a list and
    acknowledges it to its source when `store` has returned: a kill before that gives the list again (at least once). It gets
    exactly once where it stores its position with the list, as metadata, and goes on from `lastMetadata`.

    Elements: None, bool, int, float, str, bytes, or tuples, lists, dicts and sets of them.
    Replay: what was durable is in exactly one batch, and a batch that runs again has the same.

    Args:
        storageLevel: accepted for ports; blocks are in the block log, on disk, whatever it is.

    Guarantees: `onStart` and `onStop` are called by one thread, in turn. Not guaranteed: that `onStop` is called when the process dies.

    Example:
        >>> import threading
        >>> from engine import LocalContext, ManualClock, StreamingContext
        >>> class Numbers(Receiver):
        ...     def onStart(self) -> None:
        ...         self.store([1, 2, 3])
        >>> clock, seen = ManualClock(), []
        >>> ssc = StreamingContext(LocalContext("local"), 1, clock=clock)
        >>> ssc.receiverStream(Numbers()).foreachRDD(lambda rdd: seen.append(rdd.collect()))
        >>> ssc.start(thread=False)
        >>> ssc.stop(stopGraceFully=True)
        >>> seen
        [[1, 2, 3]]

    Source: `org.apache.spark.streaming.receiver.Receiver`, which Python never had; here it runs in the driver and not in an executor.
    """

    _supervisor: "ReceiverSupervisor | None" = None

    storageLevel: Any
    """As it was given."""

    def __init__(self, storageLevel: Any = None) -> None:
        self.storageLevel = storageLevel

    @abstractmethod
    def onStart(self) -> None:
        """Start to receive, and return: what waits for records belongs into a thread that this starts.

        Example:
            >>> from engine.testing import received
            >>> class Two(Receiver):
            ...     def onStart(self) -> None:
            ...         self.store([1, 2])
            >>> received(Two())
            [1, 2]
        """

    def onStop(self) -> None:  # noqa: B027  a receiver may have nothing to end
        """End what `onStart` began: close connections, so that threads which wait for them end.

        Example:
            >>> from engine.testing import received
            >>> class Two(Receiver):
            ...     def onStart(self) -> None:
            ...         self.store([1, 2])
            ...     def onStop(self) -> None:
            ...         print("ended")
            >>> received(Two())
            ended
            [1, 2]
        """

    def preferredLocation(self) -> str | None:
        """Where it would like to run; accepted for ports, it runs in the driver.

        Example:
            >>> class Two(Receiver):
            ...     def onStart(self) -> None:
            ...         self.store([1, 2])
            >>> Two().preferredLocation() is None
            True
        """
        return None

    @property
    def _attached(self) -> "ReceiverSupervisor":
        if self._supervisor is None:
            raise LifecycleError(
                "the receiver belongs to no context that runs; hand it to ssc.receiverStream() and start the context"
            )
        return self._supervisor

    @property
    def streamId(self) -> int:
        """Number of its stream among the inputs of the context.

        Example:
            >>> from engine.testing import received
            >>> class Number(Receiver):
            ...     def onStart(self) -> None:
            ...         self.store([self.streamId])
            >>> received(Number())
            [0]
        """
        return self._attached.info.streamId

    @property
    def lastMetadata(self) -> Any:
        """The metadata of the last block that is durable, also of an earlier process; None without one.

        Example:
            >>> from engine.testing import received
            >>> class Position(Receiver):
            ...     def onStart(self) -> None:
            ...         self.store(["a", "b"], metadata=2)
            ...         self.store([self.lastMetadata])
            >>> received(Position())
            ['a', 'b', 2]
        """
        return self._attached.last_metadata()

    def store(self, dataItem: Any, metadata: Any = None) -> None:
        """Store what was received.

        Args:
            dataItem: a list, or an iterator: many records, durable when this returns. Bytes: one record, durable when this returns.
                Anything else, a tuple too: one record, which is durable with its block, at most `blockInterval` later.
                A list of up to 60 MiB is stored whole or not at all; a larger one, and an iterator, in portions.
            metadata: kept with the block for `lastMetadata`; of portions with the last one, so it tells of what is there whole.

        Raises:
            ConfigurationError: a record has a type that the block log does not know, or is larger than 62 MiB.
            CheckpointWriteError: the volume is full, or fails; nothing of the block is stored, and of portions those before.
            ConcurrentRunError: another process has taken over the checkpoint folder; it decides whether the block counts.
            LifecycleError: the context has stopped; nothing is stored.

        Example:
            >>> from engine.testing import received
            >>> class Three(Receiver):
            ...     def onStart(self) -> None:
            ...         self.store([1, 2])
            ...         self.store(3)
            >>> received(Three())
            [1, 2, 3]
        """
        self._attached.store(dataItem, metadata)

    def restart(
        self, message: str, error: BaseException | None = None, delay: float = RESTART_SECONDS
    ) -> None:
        """Stop it and start it again after the delay in seconds, without waiting for either; listeners are told why.

        Example:
            >>> from engine.testing import received
            >>> class Lost(Receiver):
            ...     def onStart(self) -> None:
            ...         self.restart("the connection was lost", delay=60)
            >>> received(Lost())
            []
        """
        self._attached.restart(message, error, delay)

    def stop(self, message: str, error: BaseException | None = None) -> None:
        """Stop it for good, without waiting for it; the stream goes on without new records.

        Example:
            >>> from engine.testing import received
            >>> class One(Receiver):
            ...     def onStart(self) -> None:
            ...         self.store([1])
            ...         self.stop("that was all")
            >>> received(One())
            [1]
        """
        self._attached.stop(message, error)

    def reportError(self, message: str, throwable: BaseException | None = None) -> None:
        """Tell the listeners and the log of an error; the receiver goes on.

        Example:
            >>> from engine.testing import received
            >>> class Odd(Receiver):
            ...     def onStart(self) -> None:
            ...         self.reportError("a line could not be read")
            ...         self.store([1])
            >>> received(Odd())
            [1]
        """
        self._attached.report(message, throwable)

    def isStarted(self) -> bool:
        """Whether it was started, and not stopped since.

        Example:
            >>> from engine.testing import received
            >>> class Started(Receiver):
            ...     def onStart(self) -> None:
            ...         self.store([self.isStarted()])
            >>> received(Started())
            [True]
        """
        return self._supervisor is not None and self._supervisor.is_started

    def isStopped(self) -> bool:
        """Whether it is to end what it does: it was stopped, or is about to start again.

        Example:
            >>> from engine.testing import received
            >>> class Stopped(Receiver):
            ...     def onStart(self) -> None:
            ...         self.store([self.isStopped()])
            >>> received(Stopped())
            [False]
        """
        return not self.isStarted()


class ReceiverInputDStream(LoggedInputDStream):
    """The records that a receiver stored, one for each batch to the end of its block log.

    Args:
        scope: the graph.
        receiver: of the user.
        settings: how it works.
        label: the operator's name in the lineage.
        name: of the stream; None takes the label.
        codec: (bytes of a record, record of bytes).
    """

    def __init__(
        self,
        scope: BatchScope,
        receiver: Receiver,
        settings: ReceiverSettings,
        label: str,
        name: str | None = None,
        codec: tuple[Callable[[Any], bytes], Callable[[bytes], Any]] = (encode_element, decode_element),
    ) -> None:
        if not isinstance(receiver, Receiver):
            raise ConfigurationError(
                f"receiverStream: {receiver!r:.60} is no Receiver; give an object of a class of it"
            )
        super().__init__(scope, [], scope.batch_duration, label, name)
        self._receiver = receiver
        self._settings = settings
        self._encode, self.decode = codec
        self._supervisor: ReceiverSupervisor | None = None
        self._clock: Clock | None = None
        self._ends: dict[TopicPartition, int] = {}
        self._rate: float | None = None
        """Records a second that backpressure allows."""

    @property
    def ends(self) -> Mapping[TopicPartition, int]:
        """The end of the log as the last plan saw it."""
        return self._ends

    @property
    def limit(self) -> float | None:
        """Records a second that the receiver may store now; None for no limit."""
        return self._settings.max_rate if self._supervisor is None else self._supervisor.rate

    def limit_to(self, rate: float) -> None:
        """Let the receiver store at most so many records a second."""
        self._rate = rate
        if self._supervisor is not None:
            self._supervisor.limit_to(rate)

    def open(self, blocks: Blocks) -> None:
        """Open the log, and take over what an earlier process left in it."""
        super().open(blocks)
        self._clock = blocks.clock

    def begin_receiving(self, number: int, tell: Tell) -> None:
        """Start the receiver."""
        if self._clock is None:
            raise LifecycleError(f"the receiver of {self.name!r} starts with its context; call start()")
        info = ReceiverInfo(number, self.name, active=False, location="", executorId="")
        self._supervisor = ReceiverSupervisor(
            self._receiver, self.log, self._clock, self._encode, self._settings, info, tell
        )
        self._receiver._supervisor = self._supervisor  # noqa: SLF001  a class of this module
        if self._rate is not None:
            self._supervisor.limit_to(self._rate)
        self._supervisor.start()

    def end_receiving(self) -> None:
        """Stop the receiver; what it stored is in the log when this returns."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.end()

    def plan(self, time: Time) -> tuple[OffsetRange, ...]:
        """From where the last batch ended to the end of the log, single records that wait included."""
        supervisor = self._supervisor  # a stop on another thread takes it away
        if supervisor is not None:
            supervisor.flush()
        ranges = super().plan(time)
        self._ends = {part.topicPartition(): part.untilOffset for part in ranges}
        return ranges

    def finish(self, batch: Batch) -> Observed:
        """When the records of the batch were stored."""
        ranges = batch.ranges.get(self.name, ())
        stored = {
            part.topicPartition(): self.log.stored(part.fromOffset, part.untilOffset)
            for part in ranges
            if part.count()
        }
        return Observed([], {}, stored)

    def committed(self, batch: Batch) -> None:
        """Go on after the batch, and let go of what no window needs any more."""
        super().committed(batch)
        self.log.forget_stored(self._position)
