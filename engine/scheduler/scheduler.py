"""The one thread that runs batches, one after another; `run_batch` is the system read from top to bottom.

Owns: JobScheduler.
Never: a source or a sink by name.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from engine.batch import Batch, OutputInfo, Time, TopicPartition
from engine.checkpoint.checkpoint import Checkpoint, SnapshotTask
from engine.clock import Clock
from engine.dstream.graph import DStreamGraph
from engine.dstream.nodes import DeadLetter, ForEachDStream, Observed, naming_errors
from engine.dstream.policy import Retry
from engine.dstream.run import collecting_writes
from engine.dstream.state import Restore, WriteSnapshot
from engine.errors import (
    CheckpointError,
    CheckpointWriteError,
    ExecutorLostError,
    LifecycleError,
    TaskTimeoutError,
)
from engine.failpoints import fail_point
from engine.rdd.backends import translating
from engine.reports import WriteReport, by_table
from engine.scheduler.accounting import Behind
from engine.scheduler.generator import JobGenerator
from engine.scheduler.listener import StreamingListenerBus
from engine.scheduler.rate import Backpressure, RateControl
from engine.scheduler.retries import RETRIED, patiently
from engine.scheduler.telling import Done, Teller
from engine.scheduler.turn import Turn

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 4
"""Runs of one batch in one process, as Spark's spark.task.maxFailures: one that kills its executor every time must not loop for ever."""

_NO_BACKPRESSURE = Backpressure()


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
        backpressure: how inputs are held back, and turn: batches.
    """

    def __init__(
        self,
        graph: DStreamGraph,
        checkpoint: Checkpoint,
        bus: StreamingListenerBus,
        clock: Clock,
        executors: int,
        ledger: Ledger | None,
        backpressure: Backpressure = _NO_BACKPRESSURE,
        turn: Turn | None = None,
    ) -> None:
        self._graph = graph
        self._checkpoint = checkpoint
        self._clock = clock
        self._executors = executors
        self._ledger = ledger
        self._maxima: dict[str, dict[TopicPartition, int]] = {}
        self._has_state = False
        """Whether the executors hold every shard as of the last commit."""
        self._turn = Turn() if turn is None else turn
        """Of whoever runs batches, or holds them back: two that stop a context without a thread take turns."""
        self._edge = threading.RLock()
        """Of what `stop` and a plan tell each other: where a plan begins and ends."""
        self._is_planning = False
        self._runner: threading.Thread | None = None
        self._stopping = threading.Event()
        self._drain_until: float | None = None
        """Until when, in monotonic seconds, a stop runs batches of what inputs have taken."""
        self.ended = threading.Event()
        """Set when no batch runs any more."""
        self.error: BaseException | None = None
        """What ended the stream."""
        self._is_cut_off = False
        """Whether the batch that runs is ended from outside."""
        self.failed: Callable[[], None] = _nothing
        """Called once the stream has ended with an error, or was cut off, on the thread that ran the batch, receivers stopped."""
        self._thread = threading.Thread(target=self._run, name="job-scheduler", daemon=True)
        self._generator = JobGenerator(graph.batch_duration, graph.zero_time)
        self._behind = Behind(graph)
        self._tell = Teller(bus, clock, graph, checkpoint)
        self._rates = RateControl(backpressure, graph.batch_duration, graph.inputs)
        self._begun = 0.0
        """When the newest run of a batch began, or the recovery ended, in monotonic seconds."""

    # Life cycle.

    def recover(self, *, every_interval: bool) -> None:
        """Bring graph, shards and generator to where the journal ends, and fix the graph."""
        fail_point("recover")
        # BEFORE anything is written: the job that has the input finds the folder as it left it.
        self._graph.refuse_lost_input(self._checkpoint.pending())
        commit = self._checkpoint.last_commit
        self._graph.access.plan_with(self._checkpoint.restore_plan)
        self._checkpoint.upgrade(self._graph.declared(commit.operators if commit else {}))
        commit = self._checkpoint.last_commit
        self._graph.start(
            self._graph.zero_time,
            self._checkpoint.history(),
            commit.versions if commit else {},
            commit.batch.watermarks if commit else {},
        )
        self._maxima = self._checkpoint.maxima()
        last = Time(commit.batch.time) if commit else self._graph.zero_time
        catalog = self._checkpoint.catalog
        ranges = catalog.last_ranges()
        for stream in self._graph.inputs:
            stream.expect(catalog.topics.get(stream.name, {}))
            if stream.name in ranges:
                stream.resume(ranges[stream.name])
        self._generator = JobGenerator(
            self._graph.batch_duration, last, every_interval=every_interval, given=self._graph.given_after
        )
        self._begun = self._clock.monotonic()

    def start(self, *, thread: bool) -> None:
        """Run batches until `stop` on a thread of its own, or one by one as `run_next` is called."""
        self._tell.start()
        if thread:
            self._thread.start()
        else:
            self.resume()

    def resume(self) -> None:
        """Restore the shards, and run the batch again that was begun and not committed."""
        try:
            with translating():
                self._restore_state()
        except ExecutorLostError as error:
            log.warning("while state was restored: %s", error)
            self._tell.executors()
        except BaseException as error:  # told and raised again, here and below: listeners hear of every end
            self._tell.checkpoint_failed("restore", error)
            raise
        pending = self._checkpoint.pending()
        if pending is not None:
            log.info("the batch of %s was begun and not committed; it runs again", pending.time.as_datetime())
            self._generator.took(pending.time)
            with self._turn:
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
            with self._turn:
                batch = self._plan()
                if batch is not None:
                    self.run_batch(batch)
        except BaseException as error:  # an interrupt too: only a new start can go on
            self._end_with(error)
            self._end_receiving()
            if threading.current_thread() is not self._thread:
                self.failed()
            raise

    def _plan(self) -> Batch | None:
        """The batch that is due; None when the context stops, whose inputs may be closed."""
        if not self._set_planning(begins=True):
            return None
        self._tell.stages.enter("plan")
        last, time = self._generator.last, self._generator.due(self._clock.wall_ms())
        self._behind.takes_over(last, time)
        try:
            batch = self._graph.plan(time, self._maxima)
        except Exception:
            if self._set_planning(begins=False):
                raise
            return None  # `stop` closed the inputs; nothing had begun
        self._tell.stages.leave()
        return batch if self._set_planning(begins=False) else None

    def _set_planning(self, *, begins: bool) -> bool:
        """A plan begins or ends; returns whether batches go on."""
        with self._edge:
            goes_on = not self._stopping.is_set() or self._drain_until is not None
            self._is_planning = begins and goes_on
            return goes_on

    def _end_receiving(self) -> None:
        for stream in self._graph.inputs:
            stream.end_receiving()

    def refuse_own_stop(self) -> None:
        """Prove that it is no batch that asks for the stop.

        Raises:
            LifecycleError: it is; it would wait for its own end.
        """
        if threading.current_thread() is self._runner:
            raise LifecycleError(
                "a batch cannot stop the context that runs it; call stop() from another thread"
            )

    def stop(self, timeout: float | None = None, *, drain: float | None = None) -> bool:
        """Let the running batch end, and no other begin; returns whether it ended within the seconds.

        Args:
            timeout: seconds to wait; None waits for ever.
            drain: run batches of what inputs have taken, for at most so many seconds; None runs none.

        Raises:
            LifecycleError: a batch itself asks for it, and would wait for its own end.
        """
        self.refuse_own_stop()
        if drain is not None:
            self._drain_until = self._clock.monotonic() + drain
        self._stopping.set()
        self._turn.go_on()
        if drain is not None and self._thread.is_alive():
            self._thread.join(drain)
        with self._edge:
            is_planning = self._is_planning
            if is_planning:
                self._drain_until = None
        if is_planning:
            # A plan waits for a server that is away for as long as it is; no batch has begun, so nothing is cut off.
            for stream in self._graph.inputs:
                stream.close()
        if self._thread.is_alive():
            self._thread.join(timeout)
        else:
            if not self._turn.acquire(timeout=-1 if timeout is None else timeout):
                return False
            try:
                self._drain()
                self.ended.set()
            finally:
                self._turn.release()
        return not self._thread.is_alive()

    def cut_off(self, end_executors: Callable[[], object], timeout: float) -> bool:
        """End a batch that does not end by itself; returns whether it did so within the seconds."""
        self._is_cut_off = True
        self._drain_until = None
        end_executors()
        has_ended = self.stop(timeout)
        pending = self._checkpoint.pending()
        if pending is not None:
            log.warning("batch %d was cut off and runs again at the next start", pending.time)
        return has_ended

    def _end_with(self, error: BaseException) -> None:
        """The stream has ended with this error; what becomes of a batch that was cut off is none, but for the checkpoint's."""
        if not self._is_cut_off or isinstance(error, CheckpointError | CheckpointWriteError):
            self.error = error

    def _drain(self) -> None:
        """Run batches until the inputs have nothing left that they took, or the time for it is over."""
        while self._drain_until is not None and self.error is None:
            if not any(stream.has_backlog for stream in self._graph.inputs):
                return
            if self._clock.monotonic() >= self._drain_until:
                log.warning("the time for a graceful stop is over; what was received stays in the block log")
                return
            self.run_next()

    def _run(self) -> None:
        try:
            self.resume()
            while not self._wait_until_due():
                self.run_next()
            self._drain()
        except BaseException as error:  # noqa: BLE001 - the thread's end: whoever awaits the context gets what it was, an exit too
            self._end_with(error)
        finally:
            self._end_receiving()
            if self.error is not None or self._is_cut_off:
                self.failed()
            self.ended.set()

    def _wait_until_due(self) -> bool:
        """Wait until the next batch is due; returns whether the scheduler stops instead."""
        since_ms = int((self._clock.monotonic() - self._begun) * 1_000)
        wait_ms = self._generator.wait_ms(self._clock.wall_ms(), since_ms)
        return self._clock.wait(self._stopping, wait_ms / 1_000)

    # A batch.

    def run_batch(self, batch: Batch, attempt: int = 0) -> None:
        """Run a batch to its commit; when an executor dies under it, run it again as the next attempt."""
        self._runner = threading.current_thread()
        try:
            begun = self._clock.wall_ms()
            # One that runs again has waited for its process, which says nothing of its input.
            due = begun if attempt else int(batch.time)
            self._tell.submitted(batch, due)
            horizon = self._run_attempts(batch, attempt)
            self._between_batches(batch.time, horizon)
            now = self._clock.monotonic()
            self._rates.completed(batch, now, now - self._begun, max(0, begun - due) / 1_000)
        finally:
            self._runner = None

    def _run_attempts(self, batch: Batch, attempt: int) -> Time:
        """Run a batch until a run of it is committed; returns the horizon, behind which no batch is needed."""
        for run in range(attempt, attempt + MAX_ATTEMPTS):
            current = Batch(batch.time, batch.ranges, run, batch.watermarks)
            if run >= self._graph.batch_duration * 1_000:
                raise CheckpointError(
                    f"batch {int(batch.time)} was begun {run} times and never committed, and one more would have the write timestamps of "
                    "the next batch; mend what ends it, and start with a copy of the checkpoint folder from before it"
                )
            self._tell.attempt()
            self._begun = self._clock.monotonic()
            try:
                with translating():
                    if not self._has_state:
                        self._restore_state()
                    return self._run_attempt(current)
            except ExecutorLostError as error:
                log.warning("batch %d, attempt %d: %s", batch.time, run, error)
                self._tell.failed(current, error)
                if self._is_cut_off:
                    raise
                self._has_state = False
            except BaseException as error:
                self._tell.failed(current, error)
                raise
        raise ExecutorLostError(
            f"batch {int(batch.time)} lost an executor in each of {MAX_ATTEMPTS} attempts; see the log"
        )

    def _run_attempt(self, batch: Batch) -> Time:
        stages = self._tell.stages
        self._tell.started(batch)
        # Intent is durable BEFORE the first task, so a crash from here on runs this batch again and no other.
        stages.enter("begin")
        self._checkpoint.begin(batch, self._graph.topics())
        self._graph.begin(batch)
        # State: old version + batch = new version, every shard exactly once, whatever the outputs will ask for.
        stages.enter("state")
        fail_point("before_state")
        deltas, versions = self._graph.advance(batch, self._patiently)
        fail_point("after_state")
        # Each output returns AFTER its store has acknowledged every row.
        stages.enter("outputs")
        due = [output for output in self._graph.outputs if output.is_due(batch.time)]
        outputs = tuple(self._run_output(output, batch) for output in due)
        stages.enter("finish")
        observed = self._graph.finish(batch)
        stages.enter("ledger")
        written = self._write_ledger(batch, observed)
        # Completion: the commit and the deltas in one append. BEFORE it everything is repeated, AFTER it nothing is.
        stages.enter("commit")
        maxima = _largest(self._maxima, observed, batch.time)
        delta_bytes = self._checkpoint.commit(batch, self._graph.operators(), versions, maxima, deltas)
        stages.leave()
        self._maxima = maxima
        horizon = self._graph.committed(batch, versions)
        state = self._tell.state(versions, deltas)
        self._tell.completed(batch, Done(outputs, observed, written, delta_bytes, state))
        return horizon

    def _between_batches(self, time: Time, horizon: Time) -> None:
        """Snapshots and retention; the batch is committed, so an executor's death here must not run it again."""
        stages = self._tell.stages
        try:
            stages.enter("snapshot")
            self._snapshot()
            stages.enter("purge")
            self._checkpoint.purge(horizon)
        except BaseException as error:
            self._tell.checkpoint_failed(stages.leave(), error)
            raise
        self._tell.purged(time)

    def _run_output(self, output: ForEachDStream, batch: Batch) -> OutputInfo:
        """Run an output until it is done, as often as its policy allows; how each run went is told, also when it failed."""
        return patiently(
            output.policy,
            lambda may_retry: self._run_output_once(output, batch, may_retry=may_retry),
            self._pause,
        )

    def _patiently(self, policy: Retry, work: Callable[[], None]) -> None:
        patiently(policy, lambda _may_retry: work(), self._pause)

    def _pause(self, seconds: float) -> None:
        """Wait; a stop lets the batch end, so what retries are left follow at once."""
        self._clock.wait(self._stopping, seconds)

    def _run_output_once(self, output: ForEachDStream, batch: Batch, *, may_retry: bool) -> OutputInfo:
        started, failure, is_retried = self._tell.output_started(batch.time, output.operation), None, False
        with collecting_writes() as writes:
            try:
                with naming_errors(f"output {output.name!r}", batch.time):
                    output.run(batch.time)
            except BaseException as error:
                failure = str(error) or type(error).__name__
                is_retried = (
                    may_retry and isinstance(error, RETRIED) and not isinstance(error, TaskTimeoutError)
                )
                raise
            finally:
                reports = by_table(writes)
                info = OutputInfo(
                    output.operation, started, self._clock.wall_ms(), failure, reports, is_retried
                )
                self._tell.output_completed(batch.time, info)
        return info

    def _write_ledger(self, batch: Batch, observed: Mapping[str, Observed]) -> list[WriteReport]:
        letters = [letter for seen in observed.values() for letter in seen.dead_letters]
        fail_point("before_ledger")
        with collecting_writes() as writes:
            if self._ledger is not None:
                self._ledger.put_aside(batch, letters)
                self._ledger.record(batch, self._graph.zero_time)
        fail_point("after_ledger")
        return writes

    # State on the volume, between batches.

    def _restore_state(self) -> None:
        """Bring every shard to the version of the last commit; those that are there already stay as they are."""
        self._has_state = False
        self._tell.stages.enter("restore")
        fail_point("restore")
        restored: dict[tuple[str, int], tuple[int, bool, int]] = {}
        for node in self._graph.stateful:
            plans = [self._checkpoint.restore_plan(node.name, shard) for shard in range(self._graph.shards)]
            if any(plan.version for plan in plans):
                rdd = self._graph.context.parallelize(plans, len(plans))
                shards = rdd.mapPartitionsWithIndex(Restore(node.codec)).collect()
                restored.update({(node.name, shard): read for shard, read in enumerate(shards)})
        self._has_state = True
        self._tell.restored(restored)

    def _snapshot(self) -> None:
        """Write the shards that have outgrown their deltas to files, at most one for each executor."""
        try:
            with translating():
                for task in self._checkpoint.snapshots_due(self._executors):
                    self._write_snapshot(task)
        except ExecutorLostError as error:
            log.warning("while a snapshot was written: %s", error)
            self._has_state = False
            self._tell.checkpoint_failed("snapshot", error)
            self._tell.executors()

    def _write_snapshot(self, task: SnapshotTask) -> None:
        fail_point("before_snapshot")
        begun = self._clock.monotonic()
        codec = next(node.codec for node in self._graph.stateful if node.name == task.operator)
        write = WriteSnapshot(codec, task.version, task.path)
        for keys, size in self._graph.access.snapshot(codec, task.shard, write):
            self._checkpoint.snapshotted(task, keys, size)
            self._tell.snapshot(task, keys, size, self._clock.monotonic() - begun)


def _nothing() -> None:
    """Nobody waits for the end."""


def _largest(
    known: Mapping[str, Mapping[TopicPartition, int]], observed: Mapping[str, Observed], most: int
) -> dict[str, dict[TopicPartition, int]]:
    """The largest event times so far with those of a batch; none is ahead of its batch, or one wrong clock would close all windows."""
    largest = {name: dict(parts) for name, parts in known.items()}
    for name, seen in observed.items():
        for place, time in seen.maxima.items():
            parts = largest.setdefault(name, {})
            held = min(time, int(most))
            parts[place] = max(held, parts.get(place, held))
    return largest
