"""The one thread that runs batches, one after another; `run_batch` is the system read from top to bottom.

Owns: JobScheduler.
Never: a source or a sink by name.
"""

import logging
import threading
from collections.abc import Mapping
from typing import Protocol

from engine.batch import Batch, BatchInfo, OutputInfo, Time, TopicPartition
from engine.checkpoint.checkpoint import Checkpoint
from engine.clock import Clock
from engine.dstream.graph import DStreamGraph
from engine.dstream.nodes import DeadLetter, ForEachDStream, Observed, naming_errors
from engine.dstream.state import Restore, WriteSnapshot
from engine.errors import ExecutorLostError, LifecycleError
from engine.failpoints import fail_point
from engine.scheduler import listener as events
from engine.scheduler.generator import JobGenerator

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 10
"""Runs of one batch in one process; a batch that kills its executor every time must not loop for ever."""


class Ledger(Protocol):
    """Where complete batches and put-aside records are written down, in the results store."""

    def put_aside(self, batch: Batch, letters: list[DeadLetter]) -> None:
        """Write the records that were put aside in a batch."""

    def record(self, batch: Batch, zero_time: Time) -> None:
        """Write the batch's row."""


class JobScheduler:
    """Runs the batches of one application.

    Args:
        graph: what a batch is made of.
        checkpoint: where intent and completion are written down.
        bus: who is told.
        clock: what time it is.
        executors: number of executors, for staggering snapshots.
        ledger: where complete batches are recorded in the results store; None without one.
    """

    def __init__(
        self,
        graph: DStreamGraph,
        checkpoint: Checkpoint,
        bus: events.StreamingListenerBus,
        clock: Clock,
        executors: int,
        ledger: Ledger | None,
    ) -> None:
        self._graph = graph
        self._checkpoint = checkpoint
        self._bus = bus
        self._clock = clock
        self._executors = executors
        self._ledger = ledger
        self._maxima: dict[str, dict[TopicPartition, int]] = {}
        self._has_state = False
        """Whether the executors hold every shard as of the last commit."""
        self._is_planning = False
        self._runner: threading.Thread | None = None
        self._stopping = threading.Event()
        self.ended = threading.Event()
        """Set when no batch runs any more."""
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="job-scheduler", daemon=True)
        self._generator = JobGenerator(graph.batch_duration, graph.zero_time)

    # Life cycle.

    def recover(self, *, every_interval: bool) -> None:
        """Bring graph, shards and generator to where the journal ends, and fix the graph."""
        commit = self._checkpoint.last_commit
        self._graph.refuse_lost_state(commit.operators if commit else {})
        self._graph.start(
            self._graph.zero_time,
            self._checkpoint.history(),
            commit.versions if commit else {},
            commit.batch.watermarks if commit else {},
        )
        self._maxima = self._checkpoint.maxima()
        last = Time(commit.batch.time) if commit else self._graph.zero_time
        if commit:
            ranges = commit.batch.batch().ranges
            for stream in self._graph.inputs:
                if stream.name in ranges:
                    stream.resume(ranges[stream.name])
        self._generator = JobGenerator(self._graph.batch_duration, last, every_interval=every_interval)

    def start(self, *, thread: bool) -> None:
        """Run batches until `stop` on a thread of its own, or one by one as `run_next` is called."""
        self._bus.post("onStreamingStarted", events.StreamingListenerStreamingStarted(self._clock.wall_ms()))
        if thread:
            self._thread.start()
        else:
            self.resume()

    def resume(self) -> None:
        """Restore the shards, and run the batch again that was begun and not committed."""
        try:
            self._restore_state()
        except ExecutorLostError as error:
            log.warning("while state was restored: %s", error)
        pending = self._checkpoint.pending()
        if pending is not None:
            log.info("batch %d was begun and not committed; it runs again", pending.time)
            self._generator.took(pending.time)
            self.run_batch(pending, pending.attempt + 1)

    def run_next(self) -> None:
        """Run the batch that is due now.

        Raises:
            LifecycleError: a batch failed; only a new start runs it again with its own time and ranges.
        """
        if self.error is not None:
            raise LifecycleError(
                f"the stream has ended with an error ({self.error}); stop it and start a new context"
            )
        try:
            self._is_planning = True
            batch = self._graph.plan(self._generator.due(self._clock.wall_ms()), self._maxima)
            self._is_planning = False
            self.run_batch(batch)
        except Exception as error:
            if self._is_planning and self._stopping.is_set():
                return  # `stop` closed the inputs; nothing had begun
            self.error = error
            raise

    def stop(self, timeout: float | None = None) -> bool:
        """Let the running batch end, and no other begin; returns whether it ended within the seconds.

        Raises:
            LifecycleError: a batch itself asks for it, and would wait for its own end.
        """
        if threading.current_thread() is self._runner:
            raise LifecycleError(
                "a batch cannot stop the context that runs it; call stop() from another thread"
            )
        self._stopping.set()
        if self._is_planning:
            # A plan waits for a server that is away for as long as it is; no batch has begun, so nothing is cut off.
            for stream in self._graph.inputs:
                stream.close()
        if self._thread.is_alive():
            self._thread.join(timeout)
        else:
            self.ended.set()
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.resume()
            while not self._wait_until_due():
                self.run_next()
        except Exception as error:  # noqa: BLE001 - the thread's end: whoever awaits the context gets the error
            self.error = error
        finally:
            self.ended.set()

    def _wait_until_due(self) -> bool:
        """Wait until the next batch is due; returns whether the scheduler stops instead."""
        return self._clock.wait(self._stopping, self._generator.wait_ms(self._clock.wall_ms()) / 1_000)

    # A batch.

    def run_batch(self, batch: Batch, attempt: int = 0) -> None:
        """Run a batch to its commit; when an executor dies under it, run it again as the next attempt."""
        submitted = self._clock.wall_ms() if attempt else int(batch.time)
        self._runner = threading.current_thread()
        try:
            self._bus.post("onBatchSubmitted", events.StreamingListenerBatchSubmitted(batch))
            self._between_batches(self._run_attempts(batch, attempt, submitted))
        finally:
            self._runner = None

    def _run_attempts(self, batch: Batch, attempt: int, submitted: int) -> Time:
        """Run a batch until a run of it is committed; returns the horizon, behind which no batch is needed."""
        for run in range(attempt, attempt + MAX_ATTEMPTS):
            current = Batch(batch.time, batch.ranges, run, batch.watermarks)
            try:
                if not self._has_state:
                    self._restore_state()
                return self._run_attempt(current, submitted)
            except ExecutorLostError as error:
                log.warning("batch %d, attempt %d: %s", batch.time, run, error)
                self._bus.post("onBatchFailed", events.StreamingListenerBatchFailed(current, error))
                self._has_state = False
            except Exception as error:
                self._bus.post("onBatchFailed", events.StreamingListenerBatchFailed(current, error))
                raise
        raise ExecutorLostError(
            f"batch {int(batch.time)} lost an executor in each of {MAX_ATTEMPTS} attempts; see the log"
        )

    def _run_attempt(self, batch: Batch, submitted: int) -> Time:
        started = self._clock.wall_ms()
        self._bus.post("onBatchStarted", events.StreamingListenerBatchStarted(batch))
        # Intent is durable BEFORE the first task, so a crash from here on runs this batch again and no other.
        self._checkpoint.begin(batch)
        self._graph.begin(batch)
        # State: old version + batch = new version, every shard exactly once, whatever the outputs will ask for.
        deltas, versions = self._graph.advance(batch)
        # Each output returns AFTER its store has acknowledged every row.
        outputs = tuple(
            self._run_output(output, batch) for output in self._graph.outputs if output.is_due(batch.time)
        )
        observed = self._graph.finish(batch)
        letters = [letter for seen in observed.values() for letter in seen.dead_letters]
        self._write_ledger(batch, letters)
        # Completion: the commit and the deltas in one append. BEFORE it everything is repeated, AFTER it nothing is.
        begun_commit = self._clock.monotonic()
        maxima = _merged(self._maxima, observed)
        delta_bytes = self._checkpoint.commit(batch, self._graph.operators(), versions, maxima, deltas)
        commit_seconds = self._clock.monotonic() - begun_commit
        self._maxima = maxima
        horizon = self._graph.committed(batch, versions)
        info = BatchInfo(batch, submitted, started, self._clock.wall_ms(), outputs, _by_reason(letters))
        keys = {name: self._checkpoint.keys(name) for name in versions}
        self._bus.post(
            "onBatchCompleted",
            events.StreamingListenerBatchCompleted(info, delta_bytes, commit_seconds, keys),
        )
        return horizon

    def _between_batches(self, horizon: Time) -> None:
        """Snapshots and retention; the batch is committed, so an executor's death here must not run it again."""
        try:
            self._snapshot()
        except ExecutorLostError as error:
            log.warning("while a snapshot was written: %s", error)
            self._has_state = False
        self._checkpoint.purge(horizon)

    def _run_output(self, output: ForEachDStream, batch: Batch) -> OutputInfo:
        started = self._clock.wall_ms()
        with naming_errors(f"output {output.name!r}", batch.time):
            output.run(batch.time)
        info = OutputInfo(output.name, started, self._clock.wall_ms())
        completed = events.StreamingListenerOutputOperationCompleted(batch.time, info)
        self._bus.post("onOutputOperationCompleted", completed)
        return info

    def _write_ledger(self, batch: Batch, letters: list[DeadLetter]) -> None:
        if self._ledger is not None:
            self._ledger.put_aside(batch, letters)
            self._ledger.record(batch, self._graph.zero_time)

    # State on the volume, between batches.

    def _restore_state(self) -> None:
        """Bring every shard to the version of the last commit; those that are there already stay as they are."""
        self._has_state = False
        shards = range(self._graph.shards)
        for node in self._graph.stateful:
            plans = [self._checkpoint.restore_plan(node.name, shard) for shard in shards]
            if any(plan.version for plan in plans):
                rdd = self._graph.context.parallelize(plans, len(plans))
                rdd.mapPartitionsWithIndex(Restore(node.codec)).collect()
        self._has_state = True

    def _snapshot(self) -> None:
        """Write the shards that have outgrown their deltas to files, at most one for each executor."""
        codecs = {node.name: node.codec for node in self._graph.stateful}
        shards = self._graph.context.parallelize(range(self._graph.shards), self._graph.shards)
        for task in self._checkpoint.snapshots_due(self._executors):
            fail_point("before_snapshot")
            write = WriteSnapshot(codecs[task.operator], task.version, task.path)
            for keys, size in self._graph.context.runJob(shards, write, [task.shard]):
                self._checkpoint.snapshotted(task, keys, size)


def _merged(
    known: Mapping[str, Mapping[TopicPartition, int]], observed: Mapping[str, Observed]
) -> dict[str, dict[TopicPartition, int]]:
    """The largest event times so far with those of a batch."""
    merged = {name: dict(parts) for name, parts in known.items()}
    for name, seen in observed.items():
        for place, largest in seen.maxima.items():
            parts = merged.setdefault(name, {})
            parts[place] = max(largest, parts.get(place, largest))
    return merged


def _by_reason(letters: list[DeadLetter]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for letter in letters:
        reason = letter.reason.partition(":")[0]
        counts[reason] = counts.get(reason, 0) + 1
    return counts
