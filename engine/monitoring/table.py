"""The table of the engine's metrics: what each is called, what its labels may be, when it moves, and what it means.

Owns: METRICS, as_markdown.
Never: a value; metrics.py keeps those.
"""

from typing import Final

from engine.metrics import OPEN, Metric
from engine.reports import END_TO_END_SECONDS
from engine.scheduler.events import PURGE_STAGES, RUN_STAGES

RECORDS: Final = (0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
"""Upper bounds of numbers of records."""
STAGE_SECONDS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60)
"""Upper bounds of a stage's duration, seconds; few, as there are nine stages and a scrape costs by the series."""

_OUTPUT: Final = {"job": OPEN, "output": OPEN}
_OPERATOR: Final = {"job": OPEN, "operator": OPEN}
_PARTITION: Final = {"topic": OPEN, "partition": OPEN}

METRICS: Final = (
    # The application.
    Metric(
        "engine_build_info",
        "gauge",
        "1, with the engine's and Python's versions.",
        {"version": OPEN, "python": OPEN},
    ),
    Metric(
        "engine_settings_info",
        "gauge",
        "1 from the start of the context, with the application, what computes it, and the batch interval in seconds.",
        {"app": OPEN, "master": OPEN, "batch_interval": OPEN},
    ),
    Metric("engine_batch_interval_seconds", "gauge", "The batch interval; 0 before the start."),
    Metric(
        "engine_start_time_seconds", "gauge", "When the context started, seconds since the epoch; 0 before."
    ),
    # Batches.
    Metric(
        "engine_last_batch_time_seconds",
        "gauge",
        "Time of the last committed batch, seconds since the epoch: at the start that of the process before, or when the "
        "application first started; 0 before the start.",
    ),
    Metric(
        "engine_last_commit_time_seconds",
        "gauge",
        "When the last batch was committed by the wall clock, seconds since the epoch: at the start the last batch's time, or "
        "the start when no batch was ever committed; 0 before the start.",
    ),
    Metric(
        "engine_batches_total",
        "counter",
        "Runs of batches that were committed, and runs that ended with an error; a batch that lost its executor has one of each.",
        {"outcome": ("completed", "failed")},
    ),
    Metric(
        "engine_replayed_batches_total", "counter", "Committed batches whose first run was not their last."
    ),
    Metric("engine_running_batches", "gauge", "1 while a run of a batch is under way, else 0."),
    Metric("engine_records_total", "counter", "Offsets in the ranges of committed batches.", {"topic": OPEN}),
    Metric(
        "engine_batch_records", "histogram", "Offsets in the ranges of a committed batch.", bounds=RECORDS
    ),
    Metric("engine_scheduling_delay_seconds", "histogram", "Of a committed batch, from due to started."),
    Metric("engine_processing_seconds", "histogram", "Of a committed batch, from started to committed."),
    Metric("engine_total_delay_seconds", "histogram", "Of a committed batch, from due to committed."),
    Metric(
        "engine_stage_seconds",
        "histogram",
        "Of the committed run of a batch, what each stage took; snapshot and purge come between two batches.",
        {"stage": (*RUN_STAGES, *PURGE_STAGES)},
        STAGE_SECONDS,
    ),
    # Tasks and executors.
    Metric(
        "engine_tasks_total",
        "counter",
        "Tasks of the runs of batches: those that ended well, those that raised, and those that were with an executor when it "
        "died. Tasks that restore or snapshot state are not counted.",
        {"outcome": ("completed", "failed", "lost")},
    ),
    Metric(
        "engine_executors",
        "gauge",
        "Executors that the engine has; 1 when tasks run in the driver, 0 before the start.",
    ),
    Metric("engine_executor_restarts_total", "counter", "Executors that died and were replaced."),
    Metric(
        "engine_executor_cpu_seconds_total",
        "counter",
        "User and system CPU of an executor process, read at the scrape; begins again with a new process.",
        {"executor": OPEN},
    ),
    Metric(
        "engine_executor_resident_memory_bytes",
        "gauge",
        "Resident memory of an executor process, read at the scrape; absent while it is dead.",
        {"executor": OPEN},
    ),
    # Outputs.
    Metric(
        "engine_output_seconds", "histogram", "One output of one run of a batch until acknowledged.", _OUTPUT
    ),
    Metric(
        "engine_output_failures_total",
        "counter",
        "Runs of an output that ended with an error: retried in place by the output's policy, or stopped with their batch.",
        {**_OUTPUT, "outcome": ("retried", "stopped")},
    ),
    Metric("engine_output_slide_seconds", "gauge", "How often an output runs.", _OUTPUT),
    Metric(
        "engine_end_to_end_seconds",
        "histogram",
        "From a record's creation until the output that shows it was acknowledged in the committed run: of the first and the last "
        "record of each slice of at most about 500 that was read. A record whose batch the output skips waits for its next run.",
        _OUTPUT,
        END_TO_END_SECONDS,
    ),
    # The sources.
    Metric(
        "engine_lag_records",
        "gauge",
        "Offsets that are not committed, of those in the log when the newest batch was planned; not known of a batch that an "
        "earlier process planned.",
        _PARTITION,
    ),
    Metric(
        "engine_lag_seconds",
        "gauge",
        "0 when nothing is behind; else how long ago, at the scrape, the last committed record was created, or the partition "
        "was last read to its end when that is later.",
        _PARTITION,
    ),
    Metric(
        "engine_offset", "gauge", "The offset up to which a partition is committed, exclusive.", _PARTITION
    ),
    Metric(
        "engine_rate_limit_records_per_second",
        "gauge",
        "What a batch may take of an input, by backpressure and by the limits of its partitions; absent without a limit. `topic` "
        "is the name of the input stream.",
        {"topic": OPEN},
    ),
    Metric(
        "engine_watermark_seconds",
        "gauge",
        "Event-time watermark of an input in the last committed batch, seconds since the epoch; absent until each partition has "
        "had a record. `topic` is the name of the input stream, which the pipeline gives its topic's.",
        {"topic": OPEN},
    ),
    Metric(
        "engine_dead_letters_total",
        "counter",
        "Records put aside in committed batches: those that do not decode, those that came after their window was closed, those on "
        "which a function failed that puts them aside, and "
        "offsets that were gone from the log and passed over, as failOnDataLoss=False asks for.",
        {"topic": OPEN, "reason": ("undecodable", "late", "failed", "lost")},
    ),
    # State and checkpoint.
    Metric("engine_state_keys", "gauge", "Keys of a stateful operator after the last batch.", _OPERATOR),
    Metric(
        "engine_state_bytes",
        "gauge",
        "What a restart reads of a stateful operator: the newest snapshots and the changes after them.",
        _OPERATOR,
    ),
    Metric(
        "engine_state_updates_total",
        "counter",
        "Keys that committed batches put or removed.",
        _OPERATOR,
    ),
    Metric("engine_snapshot_seconds", "histogram", "One shard's snapshot until it is durable."),
    Metric("engine_snapshot_bytes_total", "counter", "What snapshots have written."),
    Metric("engine_checkpoint_delta_bytes_total", "counter", "Changes of state that commit records hold."),
    Metric(
        "engine_checkpoint_bytes",
        "gauge",
        "Files of the checkpoint folder, after each purge.",
        {"part": ("journal", "state", "blocks")},
    ),
    Metric(
        "engine_checkpoint_volume_bytes",
        "gauge",
        "The volume of the checkpoint folder, after each purge: what is left for the engine, and its size.",
        {"kind": ("free", "size")},
    ),
    Metric(
        "engine_checkpoint_failures_total",
        "counter",
        "Times that the checkpoint could not begin, commit, snapshot, purge or restore. All but a snapshot that lost its "
        "executor end the process, so a scrape may never see them: watch the age of the last commit as well.",
    ),
    Metric(
        "engine_checkpoint_fallbacks_total",
        "counter",
        "Files of the checkpoint that a start or a restore passed over, torn, damaged or gone, for an older generation: the torn "
        "end or a whole segment of the journal, or a snapshot. A kill in an append or in a start leaves one; any other is a matter "
        "of the volume, and the log names the file.",
        {"part": ("journal", "state")},
    ),
    Metric(
        "engine_restore_seconds",
        "gauge",
        "The last reading of state from the volume; 0 when none was needed.",
    ),
    Metric("engine_restored_keys", "gauge", "Keys that the last reading of state from the volume brought."),
    # The results store.
    Metric(
        "engine_sink_write_seconds",
        "histogram",
        "One request to the results store, from sent until the writer saw the answer; told when its write has ended.",
        {"table": OPEN},
    ),
    Metric("engine_sink_rows_total", "counter", "Rows and removals that were acknowledged.", {"table": OPEN}),
    Metric(
        "engine_sink_retries_total",
        "counter",
        "Pauses before another try of what was not acknowledged; told when the write has ended, not during an outage.",
        {"table": OPEN},
    ),
    Metric(
        "engine_sink_failures_total",
        "counter",
        "Requests without an acknowledgement: refused for good, or left to a retry.",
        {"table": OPEN},
    ),
)
"""Every metric that the engine exports; beside them there are `process_*` and `python_gc_*` of the driver."""


def as_markdown() -> str:
    """The table as the documentation has it."""
    rows = [
        f"| `{metric.name}` | {metric.kind} | {_labels(metric)} | {metric.meaning} |" for metric in METRICS
    ]
    return "\n".join(["| Name | Kind | Labels | Meaning |", "|---|---|---|---|", *rows, ""])


def _labels(metric: Metric) -> str:
    shown = [
        f"`{name}`" + (": " + ", ".join(values) if values else "") for name, values in metric.labels.items()
    ]
    return ", ".join(shown)
