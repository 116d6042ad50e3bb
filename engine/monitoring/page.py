"""What the streaming page and its API say, as plain data for JSON.

    batchId, batchTime       the end of the interval, which no other batch has
    status                   QUEUED (due, or planned and not begun), PROCESSING, COMPLETED (committed), FAILED (its run ended with an
                             error; while the stream goes on another run follows, and the status changes again)
    inputSize                offsets in the ranges, an upper bound of the records; inputs has it by input
    schedulingDelay          from due to started
    processingTime           from started to committed, or to the error
    totalDelay               from due to committed, or to the error
    coversMs, inputRate      time since the batch before, and records a second over it: a catch-up batch stands for more than the interval
    num...OutputOps          of the outputs that are due at this batch time
    attempt, numFailedRuns   number of the newest run, from 0; runs that were not committed
    lagRecords, lagSeconds   by topic when the batch was planned: records in the source and in no commit, age of the last committed
                             one; in ranges what the batch left of what its plan saw
    restart                  the last batch that an earlier process committed, the state that was read, and the batches and the time
                             until this process had caught up: a batch was committed within two intervals of its time and left
                             no more than it took; null when no earlier process has committed
    revision                 of the last change; what a reader has seen it need not be told again

Names are those of Spark's REST API where Spark has one. All times are milliseconds since the epoch, all durations milliseconds
where the name says nothing else; null means not known yet.

Owns: Status, Usage, standstill, statistics, batch_rows, batch_page, graph, state, progress.
Never: I/O, a clock; the time is an argument.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, quantiles
from typing import Any, Final, NamedTuple

from engine.batch import Batch, TopicPartition, job_and_rest
from engine.dstream.graph import NodeDescription
from engine.monitoring.entries import BatchEntry, OutputEntry, View
from engine.reports import Lag

Json = dict[str, Any]
"""An object; its values are what JSON can say."""

WAITING_ROWS: Final = 100
"""Waiting batch times that are listed; their number is told beside."""
STALLED_INTERVALS: Final = 5
STALLED_MS: Final = 30_000
"""Time beyond the intervals. A batch that catches up takes all that waits, within its rate limit; it is long, and not stuck."""
_PLANNING_MS: Final = 250
"""A batch that is due for no longer than this is about to begin, and does not wait."""


class Usage(NamedTuple):
    """What an executor process has used.

    Read from the system when somebody asks; an executor that was replaced begins at 0 again.
    """

    cpu_seconds: float
    """Since it was started."""
    resident_bytes: int


class Status(NamedTuple):
    """Where the engine is in its life.

    starting until the first batch is planned, waiting while a batch is due and cannot be planned, then running; failed and
    stopped are the end of this process's stream.
    """

    phase: str
    """starting, running, waiting, stopped or failed."""
    text: str
    """In a sentence: for what it waits, or what ended it; empty while it runs."""


def standstill(view: View) -> str:
    """Why a stream that has committed counts as standing still, in a sentence; "" while it does not."""
    assert view.commit_age is not None
    interval = view.started.batch_interval if view.started else 0
    if view.commit_age * 1_000 <= STALLED_INTERVALS * interval + STALLED_MS:
        return ""
    said = f"no batch was committed for {view.commit_age:.0f} s"
    if view.running is None:
        return said
    outputs = [output.name for output in view.running.outputs if output.endTime is None]
    where = f" in output {outputs[-1]}" if outputs else ""
    return f"{said}; batch {view.running.time} runs{where}"


def waiting_times(view: View, now_ms: int) -> range:
    """The batch times that are due and not begun, oldest first.

    A scheduler that runs every missed interval takes them one by one; one that catches up takes them all as one batch with the
    time of the newest. Either way they are due, and nothing of them is in a table yet.

    Args:
        view: of the history.
        now_ms: milliseconds since the epoch.

    Returns:
        Nothing before the start, and nothing for a batch that became due a moment ago while none runs.
    """
    if view.started is None:
        return range(0)
    interval = view.started.batch_interval
    newest = view.entries[-1].time if view.entries else _first_time(view)
    due = range(newest + interval, now_ms + 1, interval) if interval else range(0)
    is_about_to_begin = view.running is None and due and now_ms - due[0] < _PLANNING_MS
    return range(0) if is_about_to_begin else due


def _first_time(view: View) -> int:
    """The batch time before the first one of this process."""
    assert view.started is not None
    interval = max(view.started.batch_interval, 1)
    return view.started.time - view.started.time % interval


def statistics(view: View, status: Status, now_ms: int) -> Json:
    """The figures over all kept batches, and the counts since the start.

    Averages and percentiles are of completed batches that are kept; null when there is none.

    Args:
        view: of the history.
        status: where the engine is in its life.
        now_ms: milliseconds since the epoch.

    Source: `GET /applications/<id>/streaming/statistics`; status, percentiles, runs and dead letters are ours.
    """
    done = [entry for entry in view.entries if entry.status == "COMPLETED"]
    started, totals, waiting = view.started, view.totals, len(waiting_times(view, now_ms))
    figures: dict[str, list[float]] = {
        "inputRate": [_rate(entry) for entry in done],
        "schedulingDelay": [entry.scheduling_ms or 0 for entry in done],
        "processingTime": [entry.processing_ms or 0 for entry in done],
        "totalDelay": [entry.total_ms or 0 for entry in done],
    }
    return {
        "status": status.phase,
        "statusText": status.text,
        "now": now_ms,
        "app": started.app if started else None,
        "master": started.master if started else None,
        "startTime": started.time if started else None,
        "restart": _restart(view),
        "batchDuration": started.batch_interval if started else None,
        "numReceivers": 0,
        "numActiveReceivers": 0,
        "numInactiveReceivers": 0,
        "numTotalCompletedBatches": totals.completed,
        "numRetainedCompletedBatches": len(done),
        "numActiveBatches": waiting + (view.running is not None),
        "numRunningBatches": int(view.running is not None),
        "numWaitingBatches": waiting,
        "numFailedRuns": totals.failed_runs,
        "numReplayedBatches": totals.replayed,
        "numProcessedRecords": totals.records,
        "numReceivedRecords": totals.records + (view.running.records if view.running else 0),
        **{f"avg{name[0].upper()}{name[1:]}": _average(values) for name, values in figures.items()},
        "percentiles": {name: _percentiles(values) for name, values in figures.items()},
        "numFailedOutputOps": totals.outputs_failed,
        "numExecutorsReplaced": totals.executors_replaced,
        "tasks": totals.tasks,
        "deadLetters": totals.dead_letters,
    }


def _restart(view: View) -> Json | None:
    """From which commit this start went on, what it read, and how it caught up; null when there was no commit."""
    recovery = view.recovery
    if recovery is None or view.started is None:
        return None
    restored, newest = recovery.restored, recovery.newest_time
    return {
        "time": view.started.time,
        "committedBatchTime": recovery.committed_time,
        "restoreSeconds": round(restored.seconds, 3) if restored else None,
        "restoredKeys": restored.keys if restored else None,
        "caughtUpTime": recovery.caught_up_at,
        "numBatches": recovery.batches,
        "coversMs": None if newest is None else newest - recovery.committed_time,
    }


def _rate(entry: BatchEntry) -> float:
    """Records a second over the time that the batch covers."""
    return entry.records * 1_000 / entry.covers_ms if entry.covers_ms else 0.0


def _average(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return round(fmean(values), 3) if values else None


def _percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """The middle, the 95th and 99th of a hundred, and the largest."""
    if not values:
        return dict.fromkeys(("p50", "p95", "p99", "max"))
    cuts = quantiles(values, n=100, method="inclusive") if len(values) > 1 else list(values) * 99
    named = {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "max": max(values)}
    return {name: round(value, 3) for name, value in named.items()}


def batch_rows(view: View, now_ms: int, since: int = 0) -> list[Json]:
    """Waiting batches, then those that began, newest first.

    Args:
        view: of the history.
        now_ms: decides what waits.
        since: only entries of a later revision.

    Source: `GET /applications/<id>/streaming/batches`; a waiting batch has no size, as nothing of it is planned.
    """
    rows = [_row(entry, view) for entry in reversed(view.entries) if entry.revision > since]
    waiting = waiting_times(view, now_ms)[:WAITING_ROWS]
    return [_waiting_row(time, view) for time in reversed(waiting)] + rows


def _waiting_row(time: int, view: View) -> Json:
    """A batch that is due; what it will read is not known."""
    return {
        "batchId": time,
        "batchTime": time,
        "status": "QUEUED",
        "batchDuration": view.started.batch_interval if view.started else None,
        "inputSize": None,
        "schedulingDelay": None,
        "processingTime": None,
        "totalDelay": None,
    }


def _row(entry: BatchEntry, view: View) -> Json:
    """A batch that has begun, as a line of the list."""
    ended = [output for output in entry.outputs if output.endTime is not None]
    failed = [output for output in ended if output.failureReason is not None]
    return {
        "batchId": entry.time,
        "batchTime": entry.time,
        "status": entry.status,
        "batchDuration": view.started.batch_interval if view.started else None,
        "inputSize": entry.records,
        "schedulingDelay": entry.scheduling_ms,
        "processingTime": entry.processing_ms,
        "totalDelay": entry.total_ms,
        "numActiveOutputOps": len(entry.outputs) - len(ended),
        "numCompletedOutputOps": len(ended) - len(failed),
        "numFailedOutputOps": len(failed),
        "numTotalOutputOps": max(entry.expected_outputs, len(entry.outputs)),
        "firstFailureReason": entry.failures[0].reason if entry.failures else None,
        "attempt": entry.attempt,
        "numFailedRuns": len(entry.failures),
        "coversMs": entry.covers_ms,
        "inputRate": round(_rate(entry), 3),
        "inputs": dict(entry.inputs),
        "lagRecords": dict(entry.lag_records),
        "lagSeconds": {topic: round(seconds, 3) for topic, seconds in entry.lag_seconds.items()},
        "deadLetters": dict(entry.dead_letters),
        "revision": entry.revision,
    }


def batch_page(entry: BatchEntry, view: View) -> Json:
    """Everything that is kept of one batch.

    Args:
        entry: of the batch.
        view: that the entry is of; it knows the batches before and after.

    Source: `GET /applications/<id>/streaming/batches/<id>` with its operations; ranges, stages, state and failures are ours.
    """
    times = [kept.time for kept in view.entries]
    at = times.index(entry.time)
    return {
        **_row(entry, view),
        "submissionTime": entry.submitted,
        "processingStartTime": entry.started,
        "processingEndTime": entry.ended,
        "previousBatch": times[at - 1] if at else None,
        "nextBatch": times[at + 1] if at + 1 < len(times) else None,
        "ranges": _ranges(entry),
        "operations": [_operation(number, output) for number, output in enumerate(entry.outputs)],
        "stages": [
            {"name": name, "seconds": round(seconds, 6)} for name, seconds in entry.stage_seconds.items()
        ],
        "tasks": dict(entry.tasks),
        "state": [
            {"operator": name, "keys": report.keys, "bytes": report.size_bytes, "updated": report.updated}
            for name, report in entry.state.items()
        ],
        "deltaBytes": entry.delta_bytes,
        "failures": [
            {
                "attempt": failure.attempt,
                "time": failure.time,
                "stage": failure.stage,
                "reason": failure.reason,
                "traceback": failure.traceback,
            }
            for failure in entry.failures
        ],
    }


def _operation(number: int, output: OutputEntry) -> Json:
    """An output of a batch; the job's name stands apart from the rest."""
    job, rest = job_and_rest(output.name)
    status = "ACTIVE" if output.endTime is None else "FAILED" if output.failureReason else "COMPLETED"
    return {
        "outputOpId": number,
        "name": output.name,
        "job": job,
        "description": rest,
        "status": status,
        "startTime": output.startTime,
        "endTime": output.endTime,
        "duration": None if output.endTime is None else output.endTime - output.startTime,
        "rows": dict(output.rows),
        "error": output.failureReason,
    }


def _ranges(entry: BatchEntry) -> list[Json]:
    """[fromOffset, untilOffset) of every partition, with how far it was behind when the batch had ended."""
    return [
        {
            "input": name,
            "topic": part.topic,
            "partition": part.partition,
            "fromOffset": part.fromOffset,
            "untilOffset": part.untilOffset,
            "records": part.count(),
            **_lag(entry.lags.get(part.topicPartition()), entry.ended),
        }
        for name, parts in entry.ranges.items()
        for part in parts
    ]


def _lag(lag: Lag | None, now_ms: int | None) -> Json:
    """How far a partition is behind; null when its input does not tell."""
    seconds = None if lag is None or now_ms is None else round(lag.seconds(now_ms), 3)
    return {"lagRecords": lag.records if lag else None, "lagSeconds": seconds}


def graph(nodes: Iterable[NodeDescription]) -> Json:
    """The graph with its nodes numbered; a parent has a lower number than what is made of it.

    Example:
        >>> lines = NodeDescription("lines", "input", "lines", "lines", "", (), 1_000, is_stateful=False)
        >>> words = NodeDescription("words", "output", "foreachRDD", "...", "", ("lines",), 1_000, is_stateful=False)
        >>> [(node["name"], node["id"], node["parents"]) for node in graph([lines, words])["nodes"]]
        [('lines', 0, []), ('words', 1, [0])]
    """
    numbers: dict[str, int] = {}
    rows = []
    for node in nodes:
        number = numbers[node.name] = len(numbers)
        rows.append(
            {
                "id": number,
                "name": node.name,
                "kind": node.kind,
                "operator": node.operator,
                "lineage": node.lineage,
                "job": node.job,
                "slide": node.slide_ms,
                "stateful": node.is_stateful,
                "parents": [numbers[parent] for parent in node.parents],
            }
        )
    return {"nodes": rows}


def state(view: View, now_ms: int, usage: Mapping[int, Usage]) -> Json:
    """State by operator, the checkpoint's figures, lag by partition, executors with what they have used.

    Args:
        view: of the history.
        now_ms: milliseconds since the epoch; the age of what is behind counts to it.
        usage: by the executor's number; one that is gone has none.
    """
    newest = {
        name: entry.time for entry in view.entries if entry.status == "COMPLETED" for name in entry.state
    }
    return {
        "operators": [
            {
                "name": name,
                "job": job_and_rest(name)[0],
                "operator": job_and_rest(name)[1],
                "keys": report.keys,
                "bytes": report.size_bytes,
                "updated": report.updated,
                "batchTime": newest.get(name),
            }
            for name, report in view.state.items()
        ],
        "checkpoint": _checkpoint(view),
        "partitions": [
            {"topic": place.topic, "partition": place.partition, **_lag(lag, now_ms)}
            for place, lag in sorted(view.lags.items())
        ],
        "executors": [_executor(number, pid, usage.get(number)) for number, pid in enumerate(view.executors)],
        "numExecutorsReplaced": view.totals.executors_replaced,
        "watermarks": _watermarks(view),
    }


def _executor(number: int, pid: int, used: Usage | None) -> Json:
    """A process of the backend."""
    return {
        "id": number,
        "pid": pid,
        "cpuSeconds": used.cpu_seconds if used else None,
        "residentBytes": used.resident_bytes if used else None,
    }


def _checkpoint(view: View) -> Json:
    """Epoch, last commit, what the folder takes of its volume, what was restored."""
    volume, restored, totals = view.volume, view.restored, view.totals
    return {
        "epoch": view.started.epoch if view.started else None,
        "lastCommitTime": view.committed_at,
        "lastCommitAge": None if view.commit_age is None else int(view.commit_age * 1_000),
        "deltaBytesTotal": totals.delta_bytes,
        "journalBytes": volume.journal_bytes if volume else None,
        "stateBytes": volume.state_bytes if volume else None,
        "freeBytes": volume.free_bytes if volume else None,
        "sizeBytes": volume.size_bytes if volume else None,
        "numSnapshots": totals.snapshots,
        "snapshotBytesTotal": totals.snapshot_bytes,
        "restoreSeconds": round(restored.seconds, 3) if restored else None,
        "restoredKeys": restored.keys if restored else None,
        "numFailures": totals.checkpoint_failures,
        "lastFailure": view.checkpoint_failure,
    }


def _watermarks(view: View) -> Mapping[str, int]:
    """By input with event time that of the last committed batch."""
    newest = view.entries[-1] if view.entries else None
    return {} if newest is None or view.committed is None else dict(view.committed.watermarks)


def progress(view: View) -> Json:
    """What is committed and what runs: enough to see from outside how far the engine has come.

    After a restart `committed` is what the checkpoint folder holds, until this process has committed a batch of its own.
    """
    committed, running = view.committed, view.running
    return {
        "epoch": view.started.epoch if view.started else 0,
        "committed": None
        if committed is None
        else {"time": int(committed.time), "attempt": committed.attempt, "ends": _ends(committed)},
        "running": None if running is None else {"time": running.time, "attempt": running.attempt},
    }


def _ends(batch: Batch) -> dict[str, dict[str, int]]:
    """By topic and partition the offset after the last record that was taken."""
    ends: dict[str, dict[str, int]] = {}
    for place, until in _until(batch):
        ends.setdefault(place.topic, {})[str(place.partition)] = until
    return ends


def _until(batch: Batch) -> Iterable[tuple[TopicPartition, int]]:
    """Each partition with the end of its range."""
    return ((part.topicPartition(), part.untilOffset) for parts in batch.ranges.values() for part in parts)
