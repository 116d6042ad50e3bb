"""The front door: a context makes streams, and starts and stops their batches.

Owns: StreamingContext, StreamingContextState.
Never: the way of a batch; that is the scheduler's.
"""

import enum
import threading
from collections.abc import Callable, MutableSequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

from engine.batch import Duration, Time
from engine.checkpoint.checkpoint import Checkpoint
from engine.checkpoint.volatile import VolatileCheckpoint
from engine.clock import Clock, SystemClock
from engine.dstream.dstream import DStream
from engine.dstream.graph import DStreamGraph
from engine.dstream.nodes import TransformedDStream
from engine.errors import ConfigurationError, LifecycleError
from engine.rdd.api import RDD, Context
from engine.scheduler.listener import StreamingListener, StreamingListenerBus
from engine.scheduler.scheduler import JobScheduler, Ledger
from engine.sources.queues import QueueInputDStream

DEFAULT_SHARDS = 8
"""Shards of each stateful operator; fixed at the first start, so more than the cores of one machine leaves room."""


_LAST_SECONDS = 5.0
"""For a batch to notice that its executors are gone."""


class StreamingContextState(enum.Enum):
    """Where a context is in its life; the names are Spark's."""

    INITIALIZED = "initialized"
    ACTIVE = "active"
    STOPPED = "stopped"


class StreamingContext:
    """Makes streams, and starts and stops their batches.

    Args:
        sparkContext: makes RDDs: a `LocalContext`, or any context with PySpark's methods.
        batchDuration: batch interval, seconds, > 0, in whole milliseconds.
        clock: what time it is; for tests.
        shards: number of shards of each stateful operator, fixed at the first start of an application.
        everyInterval: when behind, run every missed batch time as Spark does, in place of one catch-up batch.

    Raises:
        ConfigurationError: the batch interval or the number of shards is not valid.

    Example:
        >>> from engine import LocalContext
        >>> from engine.testing import run_batches
        >>> run_batches(lambda words: words.countByValue(), [["a", "b", "a"]])
        [[('a', 2), ('b', 1)]]

    Source: `pyspark.streaming.StreamingContext`.
    """

    _active: ClassVar["StreamingContext | None"] = None
    _active_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self,
        sparkContext: Context,
        batchDuration: float = 1.0,
        *,
        clock: Clock | None = None,
        shards: int = DEFAULT_SHARDS,
        everyInterval: bool = False,
    ) -> None:
        interval = Duration.seconds(batchDuration)
        if interval < 1:
            raise ConfigurationError(f"batchDuration is {batchDuration} s; give at least 0.001 s")
        if shards < 1:
            raise ConfigurationError(f"shards is {shards}; give a number of at least 1")
        self.sparkContext = sparkContext
        self.graph = DStreamGraph(sparkContext, interval, shards)
        self._clock = SystemClock() if clock is None else clock
        self._every_interval = everyInterval
        self._bus = StreamingListenerBus()
        self._ledger: Ledger | None = None
        self._folder: Path | None = None
        self._takeover = self._must_exist = False
        self._checkpoint: Checkpoint = VolatileCheckpoint(sparkContext.appName, interval, shards)
        self._scheduler: JobScheduler | None = None
        self._state = StreamingContextState.INITIALIZED

    # Settings.

    def checkpoint(self, directory: str | Path, *, takeover: bool = False, mustExist: bool = False) -> None:
        """Keep journal and state in a folder of this directory, named after the application.

        Args:
            directory: on a volume that outlives the process; local, as network and desktop mounts may lie about fsync.
            takeover: take the folder from a process that still holds it; that process stops before its next task.
            mustExist: refuse to start fresh.
        """
        self._folder, self._takeover, self._must_exist = Path(directory), takeover, mustExist

    def remember(self, duration: float) -> None:
        """Keep the ranges of batches for at least so many seconds."""
        self.graph.remember = Duration.seconds(duration)

    def addStreamingListener(self, streamingListener: StreamingListener) -> None:
        """Tell this listener how batches go."""
        self._bus.add(streamingListener)

    def recordBatches(self, ledger: Ledger) -> None:
        """Write complete batches and put-aside records to this ledger; verify proves the tables from it."""
        self._ledger = ledger

    def job(self, name: str) -> AbstractContextManager[None]:
        """Names of operators made inside `with ssc.job(name):` begin with the job's."""
        return self.graph.naming(name)

    # Streams.

    def queueStream(
        self, rdds: MutableSequence[Any], oneAtATime: bool = True, default: Any | None = None
    ) -> DStream[Any]:
        """A stream of the batches in a list, each a list of elements or an RDD; items appended later are seen.

        Args:
            rdds: the batches.
            oneAtATime: one item a batch; False takes all that wait.
            default: the batch when none waits; empty when not given.
        """
        return DStream(QueueInputDStream(self.graph, rdds, one_at_a_time=oneAtATime, default=default))

    def union(self, *dstreams: DStream[Any]) -> DStream[Any]:
        """The elements of all the streams.

        Raises:
            ConfigurationError: there is none, or their slides differ.
        """
        return self.transform(list(dstreams), self.graph.context.union)

    def transform(
        self, dstreams: list[DStream[Any]], transformFunc: Callable[[list[RDD[Any]]], RDD[Any]]
    ) -> DStream[Any]:
        """A function of the RDDs of several streams.

        Raises:
            ConfigurationError: there is no stream, or their slides differ.
        """
        if not dstreams:
            raise ConfigurationError("should have at least one DStream to union or transform; give one")
        nodes = [stream.node for stream in dstreams]
        return DStream(
            TransformedDStream(self.graph, nodes, lambda _, rdds: transformFunc(list(rdds)), "transform")
        )

    # Life cycle.

    @classmethod
    def getOrCreate(
        cls, checkpointPath: str | Path, setupFunc: Callable[[], "StreamingContext"]
    ) -> "StreamingContext":
        """The context that the function makes, with its checkpoints in this directory.

        The function is called every time: the graph comes from the code, offsets and state from the folder (PySpark
        reads the graph from the folder too, and does not call it again).
        """
        ssc = setupFunc()
        if ssc._folder is None:  # noqa: SLF001 - its own class
            ssc.checkpoint(checkpointPath)
        return ssc

    @classmethod
    def getActive(cls) -> "StreamingContext | None":
        """The context that runs in this process, if one does."""
        return cls._active

    def getState(self) -> StreamingContextState:
        """Where the context is in its life."""
        return self._state

    def start(self, *, thread: bool = True) -> None:
        """Recover from the checkpoint folder and run batches until `stop`.

        Args:
            thread: run them in the background as they are due; False runs one at each call of `runBatch`, for tests and replays.

        Raises:
            ConfigurationError: the graph cannot run.
            CheckpointError: the folder cannot be used as it is.
            LifecycleError: the context was stopped, or another one runs in this process.
        """
        if self._state is StreamingContextState.ACTIVE:
            return
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
        except BaseException:
            self._release()
            raise

    def runBatch(self) -> None:
        """Run the batch that is due now, in this thread, of a context that was started with thread=False.

        Raises:
            LifecycleError: the context was not started.
            Exception: what ended the batch.
        """
        if self._scheduler is None or self._state is not StreamingContextState.ACTIVE:
            raise LifecycleError("the context does not run; call start(thread=False) first")
        self._scheduler.run_next()

    def _open(self) -> JobScheduler:
        interval = self.graph.batch_duration
        if self._folder is not None:
            self._checkpoint = Checkpoint(
                self._folder, self.sparkContext.appName, interval, self.graph.shards
            )
        zero = Time(self._clock.wall_ms()).floor(interval)
        self.graph.zero_time = self._checkpoint.open(
            zero, takeover=self._takeover, must_exist=self._must_exist
        )
        executors = self.sparkContext.defaultParallelism
        scheduler = JobScheduler(
            self.graph, self._checkpoint, self._bus, self._clock, executors, self._ledger
        )
        scheduler.recover(every_interval=self._every_interval)
        return scheduler

    def stop(
        self,
        stopSparkContext: bool = True,
        stopGraceFully: bool = False,  # noqa: ARG002 - PySpark's signature
        *,
        timeout: float | None = None,
    ) -> None:
        """Let the running batch end and commit, then let go of everything; a second call does nothing.

        Args:
            stopSparkContext: stop the executors too.
            stopGraceFully: accepted; a batch that has begun always ends, and what was not begun is still in its source.
            timeout: give up waiting after so many seconds; a batch that is cut off runs again at the next start.

        Raises:
            LifecycleError: a function or listener of a running batch calls it.
        """
        has_ended = self._scheduler is None or self._scheduler.stop(timeout)
        if not has_ended:
            # Without executors the batch cannot go on; the folder is let go only when nothing writes to it any more.
            self.sparkContext.stop()
            has_ended = self._scheduler is None or self._scheduler.stop(_LAST_SECONDS)
        self._release(close=has_ended)
        if stopSparkContext:
            self.sparkContext.stop()

    def _release(self, *, close: bool = True) -> None:
        self._state = StreamingContextState.STOPPED
        with StreamingContext._active_lock:
            if StreamingContext._active is self:
                StreamingContext._active = None
        for stream in self.graph.inputs:
            stream.close()
        if close:
            self._checkpoint.close()

    def awaitTermination(self, timeout: float | None = None) -> None:
        """Wait until the context stops, or for so many seconds.

        Raises:
            Exception: what ended the stream.
        """
        self.awaitTerminationOrTimeout(timeout)

    def awaitTerminationOrTimeout(self, timeout: float | None) -> bool:
        """Wait until the context stops, or for so many seconds; returns whether it stopped.

        Raises:
            Exception: what ended the stream.
        """
        if self._scheduler is None:
            return self._state is StreamingContextState.STOPPED
        ended = self._scheduler.ended.wait(timeout)
        if self._scheduler.error is not None:
            raise self._scheduler.error
        return ended
