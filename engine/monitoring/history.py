"""The last batches of a context, as its listener events tell them: what the streaming page shows.

What a batch needs of memory: an entry of some fields, an output entry for each output, a range and a lag for each partition. The first
two are bounded by the number of batches. Partitions may be thousands, so their number over all batches is bounded too: when it is
reached the oldest batches lose ranges and lags by partition, and keep their sums by input and topic. Tracebacks keep their end.

Revisions count the changes. A page that has seen revision r asks for the entries with a later one, so a live page costs what
has changed and not what there is. The revisions of another process mean nothing: it begins at 0 again.

An entry is replaced and never changed, so a reader takes what there is in microseconds and works on it without the lock.

Owns: History.
Never: more than so many batches and ranges; a question to the engine; a thread.
"""

import threading
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from engine.batch import Batch, OutputInfo, OutputOperation, TopicPartition
from engine.clock import Clock, SystemClock
from engine.errors import UserFunctionError
from engine.monitoring.entries import BatchEntry, Failure, OutputEntry, Recovery, Totals, View
from engine.reports import Lag, StateReport, Volume
from engine.scheduler import events
from engine.scheduler.listener import StreamingListener

BATCHES: Final = 1_000
"""Batches that are kept."""
RANGES: Final = 50_000
"""Ranges and lags of partitions that are kept over all batches; with many partitions older batches keep sums only."""
TRACEBACK_CHARACTERS: Final = 20_000
"""Of one error; the end of it says what happened."""
BEHIND_INTERVALS: Final = 2
"""A batch that is committed later than this after its time has not caught up."""


class History(StreamingListener):
    """Keeps the last batches of one context.

    Events come on the scheduler's thread and cost some ten microseconds each: an entry is replaced, and nothing is computed that nobody
    asked for. What a batch's tasks created or wrote is not kept but for counts, so that a thousand batches stay some megabytes.

    Guarantees: `view` may be called on any thread.
    Not guaranteed: anything of an earlier process but its last commit.

    Args:
        clock: when a run started or failed, which no event tells.
        batches: how many are kept.
        ranges: how many ranges of partitions are kept over all batches.

    Example:
        >>> history = History()
        >>> history.view().entries
        ()
    """

    def __init__(self, clock: Clock | None = None, *, batches: int = BATCHES, ranges: int = RANGES) -> None:
        self._clock = SystemClock() if clock is None else clock
        self._batches, self._ranges = batches, ranges
        self._lock = threading.Lock()
        self._entries: dict[int, BatchEntry] = {}
        self._detailed: dict[int, int] = {}
        """By batch time the ranges that are kept of it, oldest first."""
        self._revision = 0
        self._last_time: int | None = None
        self._totals = Totals()
        self._started: events.StreamingListenerStreamingStarted | None = None
        self._committed: Batch | None = None
        self._committed_at: int | None = None
        self._committed_on = 0.0
        """When that was by the monotonic clock."""
        self._executors: tuple[int, ...] = ()
        self._state: dict[str, StateReport] = {}
        self._lags: dict[TopicPartition, Lag] = {}
        self._volume: Volume | None = None
        self._restored: events.StreamingListenerStateRestored | None = None
        self._recovery: Recovery | None = None
        self._checkpoint_failure: str | None = None

    def view(self) -> View:
        """What there is now."""
        with self._lock:
            totals = replace(
                self._totals, tasks=dict(self._totals.tasks), dead_letters=dict(self._totals.dead_letters)
            )
            return View(
                self._revision,
                tuple(self._entries.values()),
                totals,
                self._started,
                self._committed,
                self._committed_at,
                None if self._committed_at is None else self._clock.monotonic() - self._committed_on,
                self._executors,
                dict(self._state),
                dict(self._lags),
                self._volume,
                self._restored,
                self._recovery,
                self._checkpoint_failure,
            )

    # The context.

    def onStreamingStarted(self, streamingStarted: events.StreamingListenerStreamingStarted) -> None:
        """Keep what the context says of itself."""
        with self._lock:
            self._started = streamingStarted
            self._executors = streamingStarted.executors
            self._committed = streamingStarted.committed
            if streamingStarted.committed is not None:
                self._last_time = int(streamingStarted.committed.time)
                self._recovery = Recovery(self._last_time)

    def onStateRestored(self, stateRestored: events.StreamingListenerStateRestored) -> None:
        """Keep what was read."""
        with self._lock:
            self._restored = stateRestored
            recovery = self._recovery
            if recovery is not None and recovery.restored is None and not recovery.batches:
                self._recovery = replace(recovery, restored=stateRestored)

    def onExecutorsReplaced(self, executorsReplaced: events.StreamingListenerExecutorsReplaced) -> None:
        """Keep the new ones."""
        with self._lock:
            self._executors = executorsReplaced.executors
            self._totals.executors_replaced += len(executorsReplaced.replaced)

    # A batch.

    def onBatchSubmitted(self, batchSubmitted: events.StreamingListenerBatchSubmitted) -> None:
        """A new entry; the oldest goes when there are too many."""
        batch = batchSubmitted.batch
        with self._lock:
            interval = self._started.batch_interval if self._started else 0
            last = self._last_time
            covers = int(batch.time) - last if last is not None and last < batch.time else interval
            self._last_time = int(batch.time)
            if batchSubmitted.lags:
                self._lags = dict(batchSubmitted.lags)
            lag_records, lag_seconds = _lag_by_topic(batchSubmitted.lags, self._clock.wall_ms())
            inputs = {name: sum(part.count() for part in parts) for name, parts in batch.ranges.items()}
            self._put(
                BatchEntry(
                    time=int(batch.time),
                    revision=0,
                    status="QUEUED",
                    attempt=batch.attempt,
                    covers_ms=covers or interval,
                    inputs=inputs,
                    ranges=dict(batch.ranges),
                    submitted=int(batch.time),
                    expected_outputs=sum(self._is_due(output, batch) for output in self._outputs()),
                    lag_records=lag_records,
                    lag_seconds=lag_seconds,
                )
            )
            self._keep_bounds(int(batch.time), sum(map(len, batch.ranges.values())))

    def onBatchStarted(self, batchStarted: events.StreamingListenerBatchStarted) -> None:
        """The batch runs; what an earlier run of it did counts no more."""
        batch = batchStarted.batch
        self._change(
            int(batch.time),
            status="PROCESSING",
            attempt=batch.attempt,
            started=self._clock.wall_ms(),
            outputs=(),
            ended=None,
        )

    def onOutputOperationStarted(
        self, outputOperationStarted: events.StreamingListenerOutputOperationStarted
    ) -> None:
        """An output runs."""
        started = outputOperationStarted
        self._put_output(int(started.batchTime), OutputEntry(started.output.name, started.startTime))

    def onOutputOperationCompleted(
        self, outputOperationCompleted: events.StreamingListenerOutputOperationCompleted
    ) -> None:
        """An output is done, or failed."""
        output = outputOperationCompleted.output
        if output.failureReason is not None:
            with self._lock:
                self._totals.outputs_failed += 1
        self._put_output(int(outputOperationCompleted.batchTime), _entry_of(output))

    def onBatchCompleted(self, batchCompleted: events.StreamingListenerBatchCompleted) -> None:
        """The batch is committed: its delays, its state, how far the inputs are behind."""
        done, info = batchCompleted, batchCompleted.batchInfo
        with self._lock:
            self._committed, self._committed_at = info.batch, info.processingEndTime
            self._committed_on = self._clock.monotonic()
            self._state.update(done.state)
            # Its ends are those of the plan: what came while the batch ran is in none, so what is left would be too few.
            for place, lag in done.lags.items():
                planned = self._lags.get(place, lag)
                self._lags[place] = Lag(planned.records, lag.since)
            self._count_completed(done)
            self._note_recovery(done)
        self._change(
            int(info.batchTime),
            status="COMPLETED",
            attempt=info.batch.attempt,
            submitted=info.submissionTime,
            started=info.processingStartTime,
            ended=info.processingEndTime,
            outputs=tuple(map(_entry_of, info.outputs)),
            stage_seconds=dict(done.stage_seconds),
            tasks=dict(done.tasks),
            state=dict(done.state),
            lags=dict(done.lags),
            dead_letters=_by_reason(info.dead_letters),
            delta_bytes=done.delta_bytes,
        )

    def onBatchFailed(self, batchFailed: events.StreamingListenerBatchFailed) -> None:
        """A run of the batch ended with an error; another one may follow."""
        batch, now = batchFailed.batch, self._clock.wall_ms()
        failure = Failure(
            batch.attempt, now, batchFailed.stage, _sentence(batchFailed.error), _traceback(batchFailed.error)
        )
        with self._lock:
            self._totals.failed_runs += 1
            _add(self._totals.tasks, batchFailed.tasks)
            known = self._entries.get(int(batch.time))
            failures = (*known.failures, failure) if known else (failure,)
        self._change(int(batch.time), status="FAILED", failures=failures, ended=now)

    # The volume.

    def onSnapshotWritten(self, snapshotWritten: events.StreamingListenerSnapshotWritten) -> None:
        """Count it."""
        with self._lock:
            self._totals.snapshots += 1
            self._totals.snapshot_bytes += snapshotWritten.size_bytes

    def onVolumePurged(self, volumePurged: events.StreamingListenerVolumePurged) -> None:
        """Keep what the folder takes, and what came between this batch and the next."""
        with self._lock:
            self._volume = volumePurged.volume or self._volume
            entry = self._entries.get(int(volumePurged.batchTime))
            stages = {**entry.stage_seconds, **volumePurged.stage_seconds} if entry else {}
        self._change(int(volumePurged.batchTime), stage_seconds=stages)

    def onCheckpointFailed(self, checkpointFailed: events.StreamingListenerCheckpointFailed) -> None:
        """Keep the newest."""
        with self._lock:
            self._totals.checkpoint_failures += 1
            self._checkpoint_failure = f"{checkpointFailed.stage}: {_sentence(checkpointFailed.error)}"

    # Entries; the lock is held by whoever calls those that do not take it.

    def _outputs(self) -> tuple[OutputOperation, ...]:
        return self._started.outputs if self._started else ()

    def _is_due(self, output: OutputOperation, batch: Batch) -> bool:
        """Whether the output runs in this batch: every slide since the zero time."""
        zero = self._started.zero_time if self._started else 0
        return not output.slide or (batch.time - zero) % output.slide == 0

    def _put(self, entry: BatchEntry) -> None:
        """Every entry has a revision of its own."""
        self._revision += 1
        self._entries[entry.time] = replace(entry, revision=self._revision)

    def _change(self, time: int, **fields: object) -> None:
        """Put an entry with other fields in the place of the batch's; one that was dropped stays dropped."""
        with self._lock:
            known = self._entries.get(time)
            if known is not None:
                self._put(replace(known, **fields))  # type: ignore[arg-type]  # the callers name fields of the class

    def _put_output(self, time: int, output: OutputEntry) -> None:
        with self._lock:
            known = self._entries.get(time)
            if known is not None:
                others = tuple(kept for kept in known.outputs if kept.name != output.name)
                self._put(replace(known, outputs=(*others, output)))

    def _keep_bounds(self, time: int, ranges: int) -> None:
        """Drop the oldest batches, and the ranges of old ones, until both fit."""
        while len(self._entries) > self._batches:
            oldest = next(iter(self._entries))
            del self._entries[oldest]
            self._detailed.pop(oldest, None)
        self._detailed[time] = ranges
        while len(self._detailed) > 1 and sum(self._detailed.values()) > self._ranges:
            oldest = next(iter(self._detailed))
            del self._detailed[oldest]
            # Its revision stays: a page that has its sums need not hear of it.
            self._entries[oldest] = replace(self._entries[oldest], ranges={}, lags={})

    def _count_completed(self, done: events.StreamingListenerBatchCompleted) -> None:
        totals, info = self._totals, done.batchInfo
        totals.completed += 1
        totals.records += info.numRecords
        totals.replayed += info.batch.attempt > 0
        totals.delta_bytes += done.delta_bytes
        _add(totals.tasks, done.tasks)
        _add(totals.dead_letters, _by_reason(info.dead_letters))

    def _note_recovery(self, done: events.StreamingListenerBatchCompleted) -> None:
        """Caught up is who commits a batch soon after its time, and leaves no more than another batch takes."""
        recovery, info = self._recovery, done.batchInfo
        if recovery is None or recovery.caught_up_at is not None or self._started is None:
            return
        late = info.processingEndTime - int(info.batchTime)
        left = sum(lag.records for lag in done.lags.values())
        is_caught_up = late <= BEHIND_INTERVALS * self._started.batch_interval and left <= info.numRecords
        self._recovery = replace(
            recovery,
            batches=recovery.batches + 1,
            newest_time=int(info.batchTime),
            caught_up_at=info.processingEndTime if is_caught_up else None,
        )


def _entry_of(output: OutputInfo) -> OutputEntry:
    rows = {table: report.rows for table, report in output.writes.items()}
    return OutputEntry(output.name, output.startTime, output.endTime, output.failureReason, rows)


def _lag_by_topic(lags: Mapping[TopicPartition, Lag], now_ms: int) -> tuple[dict[str, int], dict[str, float]]:
    """By topic the records behind, and the seconds of the most belated partition."""
    records: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for place, lag in lags.items():
        records[place.topic] = records.get(place.topic, 0) + lag.records
        seconds[place.topic] = max(seconds.get(place.topic, 0.0), lag.seconds(now_ms))
    return records, seconds


def _by_reason(letters: Mapping[tuple[str, str], int]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for (_, reason), count in letters.items():
        _add(counts, {reason: count})
    return counts


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count


def _sentence(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _traceback(error: BaseException) -> str:
    """The user's own traceback where there is one, else the engine's; of a long one the end."""
    text = error.user_traceback if isinstance(error, UserFunctionError) else ""
    return (text or "".join(traceback.format_exception(error)))[-TRACEBACK_CHARACTERS:]
