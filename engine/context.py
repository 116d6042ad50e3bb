"""The front door: a context makes streams, and starts and stops their batches.

Owns: StreamingContext.
Never: the way of a batch; that is the scheduler's.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from engine.batch import Duration, Time
from engine.checkpoint.checkpoint import Checkpoint
from engine.checkpoint.files import set_aside
from engine.checkpoint.volatile import VolatileCheckpoint
from engine.clock import Clock, SystemClock
from engine.dstream.graph import DStreamGraph
from engine.errors import (
    CheckpointError,
    CheckpointWriteError,
    ConcurrentRunError,
    ConfigurationError,
    LifecycleError,
)
from engine.inputs import InputStreams
from engine.preparation import Preparations, StreamingContextState, chosen_context, streaming_settings
from engine.rdd.api import Context
from engine.rdd.backends import backend_of
from engine.rdd.driver import DriverOnly
from engine.scheduler.listener import StreamingListenerBus
from engine.scheduler.rate import Backpressure
from engine.scheduler.scheduler import JobScheduler
from engine.sources.blocks import Blocks, LoggedInputDStream
from engine.sources.supervisor import ReceiverSettings

log = logging.getLogger(__name__)

DEFAULT_SHARDS = 8
"""Shards of each stateful operator; fixed at the first start, so more than the cores of one machine leaves room."""
_LAST_SECONDS = 5.0
"""For a batch to notice that its executors are gone."""


class StreamingContext(DriverOnly, InputStreams, Preparations):
    """Makes streams, and starts and stops their batches.

    Args:
        sparkContext: makes RDDs: a `LocalContext`, or any context with PySpark's methods. None makes a `LocalContext` of the two
            arguments below, Scala's third constructor.
        batchDuration: batch interval, seconds, > 0, in whole milliseconds; 1 when not given.
        jssc: none can be given: it is an object of PySpark's Java machine.
        master: "local", "local[N]" or "local[*]"; only without a sparkContext. For a cluster make a `pyspark.SparkContext`.
        appName: name of the application; only without a sparkContext.
        clock: what time it is; for tests.
        shards: number of shards of each stateful operator, fixed at the first start of an application.
        everyInterval: when behind, run every missed batch time as Spark does, in place of one catch-up batch.
        blockInterval: how long a single record of a receiver waits for its block, seconds (spark.streaming.blockInterval).
        receiverMaxRate: records a second that a receiver may store (spark.streaming.receiver.maxRate); None for no limit.
        backpressure: hold inputs back to what batches get done in an interval (spark.streaming.backpressure.enabled, as when None).
        initialRate: records a second of each input until that is known (spark.streaming.backpressure.initialRate, as when None).

    Raises:
        ConfigurationError: the batch interval or the number of shards is not valid, or the context is none.

    Example:
        >>> from engine import LocalContext
        >>> from engine.testing import run_batches
        >>> run_batches(lambda words: words.countByValue(), [["a", "b", "a"]])
        [[('a', 2), ('b', 1)]]

    Source: `pyspark.streaming.StreamingContext`. Difference: batchDuration may be left out, and everything behind jssc is ours.
    """

    _active: ClassVar["StreamingContext | None"] = None
    _active_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self,
        sparkContext: Context | None = None,
        batchDuration: float | None = None,
        jssc: Any = None,
        *,
        master: str | None = None,
        appName: str | None = None,
        clock: Clock | None = None,
        shards: int = DEFAULT_SHARDS,
        everyInterval: bool = False,
        blockInterval: float = 0.2,
        receiverMaxRate: float | None = None,
        backpressure: bool | None = None,
        initialRate: float | None = None,
    ) -> None:
        super().__init__()
        if jssc is not None:
            raise ConfigurationError(f"jssc is {jssc!r:.60}; leave it out: streams have no Java object here")
        interval = Duration.seconds(1 if batchDuration is None else batchDuration, "batchDuration")
        if interval < 1:
            raise ConfigurationError(f"batchDuration is {batchDuration} s; give at least 0.001 s")
        if not isinstance(shards, int) or shards < 1:
            raise ConfigurationError(f"shards is {shards!r:.60}; give a number of at least 1")
        self._receivers = ReceiverSettings(blockInterval, receiverMaxRate)
        self._receivers.validate()
        made = chosen_context(sparkContext, master, appName)
        self._spark_context: Context = made
        self._backpressure = Backpressure.of(streaming_settings(made), backpressure, initialRate)
        self.graph = DStreamGraph(backend_of(made), interval, shards)
        self.graph.owner = self
        self._clock = SystemClock() if clock is None else clock
        self._every_interval = everyInterval
        self._bus = StreamingListenerBus()
        self._checkpoint: Checkpoint = VolatileCheckpoint(made.appName, interval, shards)
        self._create_on_error = False
        self._blocks: Blocks | None = None
        self._scheduler: JobScheduler | None = None
        self._state = StreamingContextState.INITIALIZED
        self._ended = threading.Event()
        self._has_begun = threading.Event()
        """The start is over, whatever came of it."""
        self._releasing = threading.RLock()
        """Of the end: of several threads that stop the context, one after another lets go of what is left."""

    @property
    def sparkContext(self) -> Context:
        """What makes the RDDs.

        Example:
            >>> from engine import LocalContext
            >>> sc = LocalContext("local")
            >>> StreamingContext(sc, 1).sparkContext is sc
            True
            >>> sc.stop()

        Source: `pyspark.streaming.StreamingContext.sparkContext`.
        """
        return self._spark_context

    # Life cycle.

    @classmethod
    def getOrCreate(
        cls,
        checkpointPath: str | Path,
        setupFunc: Callable[[], "StreamingContext"],
        createOnError: bool = False,
    ) -> "StreamingContext":
        """The context that the function makes, with its checkpoints in this directory.

        The graph comes from the code, offsets and state from the folder. The folder is read by `start`.

        Args:
            checkpointPath: directory of the checkpoints.
            setupFunc: makes the context and its streams.
            createOnError: when the application's folder there is damaged, or of another job, move it aside and start fresh: results
                count everything again that the sources still hold. Where `checkpoint` has a mustReach, only if a backfill reaches it.

        Raises:
            TypeError: the function is none, or gives no context.
            ConfigurationError: the path is none, or names another file system.

        Example:
            >>> import tempfile
            >>> from engine import LocalContext
            >>> def setup():
            ...     ssc = StreamingContext(LocalContext("local"), 1)
            ...     ssc.queueStream([[1]]).pprint()
            ...     return ssc
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     ssc = StreamingContext.getOrCreate(folder, setup)
            ...     ssc.start(thread=False)
            ...     ssc.stop()

        Source: `pyspark.streaming.StreamingContext.getOrCreate`. Difference: PySpark reads the graph from the folder and then does not
            call the function; here it is called every time, so code may change between two starts. When it calls `checkpoint` with
            another directory, that one counts.
        """
        ssc = cls._made(setupFunc)
        if ssc._folder is None:  # noqa: SLF001 - its own class
            ssc.checkpoint(checkpointPath)
        ssc._create_on_error = createOnError  # noqa: SLF001 - as above
        return ssc

    @classmethod
    def getActiveOrCreate(
        cls, checkpointPath: str | Path | None, setupFunc: Callable[[], "StreamingContext"]
    ) -> "StreamingContext":
        """The context that runs in this process; where none does, that of `getOrCreate`, or of the function where the path is None.

        Raises:
            TypeError: the function is none, or gives no context.

        Example:
            >>> from engine import LocalContext
            >>> def setup():
            ...     return StreamingContext(LocalContext("local"), 1)
            >>> ssc = StreamingContext.getActiveOrCreate(None, setup)
            >>> ssc.queueStream([[1]]).pprint()
            >>> ssc.start(thread=False)
            >>> StreamingContext.getActiveOrCreate(None, setup) is ssc
            True
            >>> ssc.stop()

        Source: `pyspark.streaming.StreamingContext.getActiveOrCreate`.
        """
        active = cls.getActive()
        if active is not None and callable(setupFunc):
            return active
        return cls._made(setupFunc) if checkpointPath is None else cls.getOrCreate(checkpointPath, setupFunc)

    @staticmethod
    def _made(setup: Callable[[], Any]) -> "StreamingContext":
        if not callable(setup):
            raise TypeError("setupFunc should be callable.")
        ssc = setup()
        if not isinstance(ssc, StreamingContext):
            raise TypeError(f"setupFunc should return a StreamingContext, and returned {ssc!r:.60}.")
        return ssc

    @classmethod
    def getActive(cls) -> "StreamingContext | None":
        """The context that runs in this process, if one does; one that ended with an error does not.

        Example:
            >>> StreamingContext.getActive() is None
            True

        Source: `pyspark.streaming.StreamingContext.getActive`.
        """
        return cls._active

    def getState(self) -> StreamingContextState:
        """Where the context is in its life; STOPPED also after an error of a batch.

        Example:
            >>> from engine import LocalContext
            >>> ssc = StreamingContext(LocalContext("local"), 1)
            >>> ssc.getState().name
            'INITIALIZED'
            >>> ssc.stop()
            >>> ssc.getState().name
            'STOPPED'

        Source: `org.apache.spark.streaming.StreamingContext.getState`. Difference: there a failed batch leaves the context ACTIVE.
        """
        return self._state

    def start(self, *, thread: bool = True) -> None:
        """Recover from the checkpoint folder, start the receivers and run batches until `stop`; a second call does nothing.

        A start that is refused before the folder is opened (no output, no checkpoint directory, another context runs) leaves the
        context as it was: mend it and start it again. After any other error it is stopped.

        Args:
            thread: run them in the background as they are due; False runs one at each call of `runBatch`, for tests and replays.

        Raises:
            ConfigurationError: the graph cannot run.
            CheckpointError: the folder cannot be used as it is.
            LifecycleError: the context was stopped, or another one runs in this process.
            Exception: what ended the stream, of a context that has run.

        Example:
            >>> from engine import LocalContext, ManualClock
            >>> clock = ManualClock(1_000_000)
            >>> ssc = StreamingContext(LocalContext("local"), 1, clock=clock)
            >>> ssc.queueStream([["a", "b"]]).foreachRDD(lambda rdd: print(rdd.collect()))
            >>> ssc.start(thread=False)
            >>> clock.advance(1_000)
            >>> ssc.runBatch()
            ['a', 'b']
            >>> ssc.stop()

        Source: `pyspark.streaming.StreamingContext.start`. Difference: a start that was refused can be tried again, where Spark's context
            is stopped by it, and one after an error of a batch raises that error.
        """
        if self._state is StreamingContextState.ACTIVE:
            return
        if self._scheduler is not None and self._scheduler.error is not None:
            raise self._scheduler.error
        if self._state is StreamingContextState.STOPPED:
            raise LifecycleError("StreamingContext has already been stopped; make a new one")
        self.graph.validate(self._folder is not None)
        with StreamingContext._active_lock:
            if StreamingContext._active is not None:
                raise LifecycleError(
                    "Only one StreamingContext may be started in this process; stop the other one first"
                )
            StreamingContext._active = self
        try:
            self._scheduler = self._open()
            self._state = StreamingContextState.ACTIVE
            self._scheduler.start(thread=thread)
            for number, stream in enumerate(self.graph.inputs):
                stream.begin_receiving(number, self._bus.post)
            if self._scheduler.error is not None:
                # A batch that ran again has failed while they were started, and may have ended those that had been.
                for stream in self.graph.inputs:
                    stream.end_receiving()
        except BaseException:
            self._has_begun.set()
            if self._scheduler is not None:
                self._scheduler.stop(_LAST_SECONDS)
            self._release()
            raise
        self._has_begun.set()

    def runBatch(self) -> None:
        """Run the batch that is due now, in this thread, of a context that was started with thread=False.

        Raises:
            LifecycleError: the context was not started, or an earlier batch failed.
            Exception: what ended the batch.

        Example:
            >>> from engine import LocalContext, ManualClock
            >>> clock = ManualClock(1_000_000)
            >>> ssc = StreamingContext(LocalContext("local"), 1, clock=clock)
            >>> ssc.queueStream([[1], [2]]).foreachRDD(lambda rdd: print(rdd.collect()))
            >>> ssc.start(thread=False)
            >>> for _ in range(2):
            ...     clock.advance(1_000)
            ...     ssc.runBatch()
            [1]
            [2]
            >>> ssc.stop()
        """
        has_failed = self._scheduler is not None and self._scheduler.error is not None
        if self._scheduler is None or (self._state is not StreamingContextState.ACTIVE and not has_failed):
            raise LifecycleError("the context does not run; call start(thread=False) first")
        self._scheduler.run_next()

    def _open(self) -> JobScheduler:
        given, reach = self.graph.given, self._must_reach
        reach = None if given is not None and given.reaches(reach) else reach
        try:
            return self._recover(reach)
        except (ConcurrentRunError, CheckpointWriteError):
            raise
        except CheckpointError as error:
            # A fresh start would not reach it either: the folder stays where it is.
            if not self._create_on_error or self._folder is None or reach is not None:
                raise
            for stream in self.graph.inputs:
                stream.close()
            self._checkpoint.close()
            log.warning(
                "%s; createOnError is set: the folder is moved to %s, and the application starts fresh",
                *(error, set_aside(self._checkpoint.folder)),
            )
            return self._recover(reach)

    def _recover(self, reach: Time | None) -> JobScheduler:
        interval, app = self.graph.batch_duration, self.sparkContext.appName
        if self._folder is not None:
            self._checkpoint = Checkpoint(self._folder, app, interval, self.graph.shards)
        graph, given = self.graph, self.graph.given
        zero = Time(self._clock.wall_ms()).floor(interval) if given is None else given.zero
        graph.zero_time = self._checkpoint.open(zero, takeover=self._takeover, must_reach=reach)
        if given is not None:
            given.refuse_other_zero(graph.zero_time)
        if self._folder is None:
            self._blocks = Blocks(None, self._clock)
        else:
            self._blocks = Blocks(self._checkpoint.folder, self._clock, self._checkpoint.open_journal())
        for stream in self.graph.inputs:
            if isinstance(stream, LoggedInputDStream):
                stream.open(self._blocks)
        executors = self.sparkContext.defaultParallelism
        scheduler = JobScheduler(
            *(self.graph, self._checkpoint, self._bus, self._clock, executors, self._ledger),
            *(self._backpressure, self._turn),
        )
        scheduler.recover(every_interval=self._every_interval)
        scheduler.ended = self._ended
        scheduler.failed = self._end_failed
        return scheduler

    def _end_failed(self) -> None:
        """Let go of everything after an error; a start that is still under way is waited for, as it uses what would be closed."""
        self._has_begun.wait()
        self._release()

    def stop(
        self,
        stopSparkContext: bool = True,
        stopGraceFully: bool = False,
        *,
        timeout: float | None = None,
        gracefulStopTimeout: float | None = None,
    ) -> None:
        """Let the running batch end and commit, then let go of everything; a second call does nothing.

        A graceful stop first stops the receivers, then runs batches of what they stored. What no input has taken stays where it is:
        items in a queue, records in Kafka, files in a folder. Without it, what receivers stored is in the block log for the next
        start; an application without a checkpoint folder loses it.

        Args:
            stopSparkContext: stop the executors too.
            stopGraceFully: process what receivers have stored.
            timeout: give up waiting for a batch after so many seconds; a batch that is cut off runs again at the next start.
            gracefulStopTimeout: begin no more batches of a graceful stop after so many seconds; ten batch intervals when not given
                (spark.streaming.gracefulStopTimeout).

        Raises:
            LifecycleError: a function of a running batch, or a listener, calls it.

        Example:
            >>> from engine import LocalContext
            >>> ssc = StreamingContext(LocalContext("local"), 1)
            >>> ssc.queueStream([[1]]).pprint()
            >>> ssc.start(thread=False)
            >>> ssc.stop(stopGraceFully=True)

        Source: `pyspark.streaming.StreamingContext.stop`.
        """
        self._bus.refuse_stop()
        drain: float | None = None
        if self._scheduler is not None:
            self._scheduler.refuse_own_stop()
            if stopGraceFully and self._state is StreamingContextState.ACTIVE:
                intervals = 10 * self.graph.batch_duration / 1_000
                drain = intervals if gracefulStopTimeout is None else gracefulStopTimeout
                for stream in self.graph.inputs:
                    stream.end_receiving()
        has_ended = self._scheduler is None or self._scheduler.stop(timeout, drain=drain)
        if self._scheduler is not None and not has_ended:
            # Without executors the batch cannot go on; the folder is let go only when nothing writes to it any more.
            has_ended = self._scheduler.cut_off(self.sparkContext.stop, _LAST_SECONDS)
        self._release(close=has_ended)
        if stopSparkContext:
            self.sparkContext.stop()

    def _release(self, *, close: bool = True) -> None:
        with self._releasing:
            self._let_go(close=close)

    def _let_go(self, *, close: bool) -> None:
        self._state = StreamingContextState.STOPPED
        self.graph.is_stopped = True
        with StreamingContext._active_lock:
            if StreamingContext._active is self:
                StreamingContext._active = None
        for stream in self.graph.inputs:
            stream.close()
        if close:
            self._checkpoint.close()
        if self._blocks is not None:
            self._blocks.close()
        self._bus.close()
        self._ended.set()

    def awaitTermination(self, timeout: float | None = None) -> None:
        """Wait until the context stops, or for so many seconds.

        Raises:
            Exception: what ended the stream.

        Example:
            >>> from engine import LocalContext
            >>> from engine.errors import UserFunctionError
            >>> ssc = StreamingContext(LocalContext("local"), 0.01)
            >>> ssc.queueStream([[0]]).foreachRDD(lambda rdd: rdd.map(lambda n: 1 // n).collect())
            >>> ssc.start()
            >>> try:
            ...     ssc.awaitTermination()
            ... except UserFunctionError as error:
            ...     print(str(error).rpartition(": ")[2])
            integer division or modulo by zero
            >>> ssc.stop()

        Source: `pyspark.streaming.StreamingContext.awaitTermination`.
        """
        self.awaitTerminationOrTimeout(timeout)

    def awaitTerminationOrTimeout(self, timeout: float | None) -> bool:
        """Wait until the context stops, or for so many seconds; returns whether it stopped.

        Raises:
            Exception: what ended the stream.

        Example:
            >>> from engine import LocalContext
            >>> ssc = StreamingContext(LocalContext("local"), 1)
            >>> ssc.queueStream([]).foreachRDD(lambda rdd: None)
            >>> ssc.start()
            >>> ssc.awaitTerminationOrTimeout(0.01)
            False
            >>> ssc.stop()
            >>> ssc.awaitTerminationOrTimeout(0.01)
            True

        Source: `pyspark.streaming.StreamingContext.awaitTerminationOrTimeout`.
        """
        ended = self._ended.wait(timeout)
        if self._scheduler is not None and self._scheduler.error is not None:
            raise self._scheduler.error
        return ended
