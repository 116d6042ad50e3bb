"""The board of the micro-batch engine: does it keep up, where does the time go, what does it hold.

Owns: BOARD.
Never: a way to draw; panels.py has those.
"""

from typing import Final

from grafana.board import Board, Panels, Row
from grafana.engine_inside import CHECKPOINT_ROW, LIMIT, PROCESSES_ROW, STATE_ROW
from grafana.expressions import (
    BATCHES_PER_SECOND,
    INTERVAL,
    JOB,
    SLACK_SECONDS,
    STALLED,
    STALLED_INTERVALS,
    TOPIC,
    buckets,
    quantile,
    rate,
)
from grafana.panels import AMBER, RED, STREAMING, Help, Query, heat, lines
from grafana.replicas import REPLICAS_ROW

_PACE: Final[Panels] = [
    (
        8,
        lines(
            "Processing time",
            Help(
                "From a batch's start to its commit.",
                "above the dashed line for long: a batch takes longer than it may, and the lag grows.",
                f"see below which stage and which output, and {STREAMING}; docs/alerts.md#batchoverrun.",
            ),
            [
                Query(quantile("0.5", "engine_processing_seconds"), "p50"),
                Query(quantile("$percentile", "engine_processing_seconds"), "${percentile:text}"),
                LIMIT,
            ],
            "s",
            decimals=3,
        ),
    ),
    (
        8,
        lines(
            "Utilisation",
            Help(
                "Processing time as a share of the batch interval; 1 is the definition of too slow.",
                "above 0.8 there is no room for a peak; above 1 the engine falls behind.",
                "raise MASTER's executors or BATCH_SECONDS, or lower the rates; docs/alerts.md#batchoverrun.",
            ),
            [
                Query("engine:utilisation:ratio", "mean"),
                Query(f"max(engine:processing_seconds:p95) / {INTERVAL}", "p95"),
            ],
            "percentunit",
            decimals=2,
            ratios=((0.8, AMBER), (1.0, RED)),
        ),
    ),
    (
        8,
        lines(
            "Scheduling delay",
            Help(
                "From the time at which a batch is due to its start.",
                "rises: the batches before it take too long, whatever their mean says.",
                f"{STREAMING} and look for the slow batch; docs/alerts.md#schedulingdelayhigh.",
            ),
            [
                Query(quantile("0.5", "engine_scheduling_delay_seconds"), "p50"),
                Query(quantile("$percentile", "engine_scheduling_delay_seconds"), "${percentile:text}"),
                LIMIT,
            ],
            "s",
            decimals=3,
        ),
    ),
    (
        6,
        lines(
            "Total delay",
            Help(
                "From due to committed: scheduling delay and processing time.",
                "above the dashed line for long.",
                f"{STREAMING}; docs/alerts.md#batchoverrun.",
            ),
            [
                Query(quantile("0.5", "engine_total_delay_seconds"), "p50"),
                Query(quantile("$percentile", "engine_total_delay_seconds"), "${percentile:text}"),
                LIMIT,
            ],
            "s",
            decimals=3,
        ),
    ),
    (
        6,
        lines(
            "Batches behind and running",
            Help(
                "Intervals since the newest committed batch, and whether a batch runs.",
                f"behind stays above the dashed line of {STALLED} intervals and {SLACK_SECONDS} s, or running stays at 1 without a break.",
                f"{STREAMING}; docs/alerts.md#enginestalled.",
            ),
            [
                Query("engine:batches_behind:count", "behind"),
                Query("max(engine_running_batches)", "running"),
                Query(STALLED_INTERVALS, "limit", is_limit=True),
            ],
            "short",
        ),
    ),
    (
        6,
        lines(
            "Input and processed",
            Help(
                "Events that the producers make and records that the engine commits a second, by topic.",
                "processed stays below input. Above it is right after an outage only.",
                "see the lag on board 3; docs/alerts.md#laggrowing.",
            ),
            [
                Query(f"topic:events_produced:rate{{{TOPIC}}}", "{{topic}} input"),
                Query(f"topic:records:rate{{{TOPIC}}}", "{{topic}} processed"),
            ],
            "recps",
            decimals=0,
        ),
    ),
    (
        6,
        lines(
            "Rate limit",
            Help(
                "What a batch may take of a topic a second, by backpressure and by the limits of its partitions, beside what it takes.",
                "processed stays at the limit while the lag grows: the limit is too low, or batches have become slow.",
                "see the processing time above; MAX_RATE_PER_PARTITION bounds it; docs/alerts.md#laggrowing.",
            ),
            [
                Query(f"max by (topic) (engine_rate_limit_records_per_second{{{TOPIC}}})", "{{topic}} limit"),
                Query(f"topic:records:rate{{{TOPIC}}}", "{{topic}} processed"),
            ],
            "recps",
            decimals=0,
        ),
    ),
]


_TIME: Final[Panels] = [
    (
        8,
        lines(
            "Stages of a batch",
            Help(
                "Mean time of a batch by stage, stacked: planning, begin record, state, outputs, dead letters, ledger, commit, "
                "and snapshots and purge between batches.",
                "the sum comes near the dashed line. outputs: the store is slow; commit or begin: the volume is slow.",
                f"{STREAMING} and open the batch; docs/alerts.md#batchoverrun.",
            ),
            [
                Query(
                    f"{rate('engine_stage_seconds_sum', 'stage')} / on () group_left () sum({BATCHES_PER_SECOND})",
                    "{{stage}}",
                ),
                LIMIT,
            ],
            "s",
            decimals=3,
            stack=True,
        ),
    ),
    (
        8,
        lines(
            "Outputs",
            Help(
                "One output of one batch until it is acknowledged.",
                "one output grows while the others do not.",
                f"{STREAMING} and open the batch: it says what the output wrote; docs/alerts.md#sinkslow.",
            ),
            [
                Query(
                    quantile("$percentile", "engine_output_seconds", "job, output", JOB),
                    "{{job}} {{output}}",
                ),
                LIMIT,
            ],
            "s",
            decimals=3,
        ),
    ),
    (
        8,
        lines(
            "End to end, by output",
            Help(
                "From the creation of an event to its acknowledged row; dashed is three times the slide and the interval.",
                "above the dashed line.",
                f"compare with the outputs beside it, and {STREAMING}; docs/alerts.md#endtoendlatencyhigh.",
            ),
            [
                Query(
                    quantile("$percentile", "engine_end_to_end_seconds", "job, output", JOB),
                    "{{job}} {{output}}",
                ),
                Query(
                    f"3 * (max(engine_output_slide_seconds{{{JOB}}}) + {INTERVAL})",
                    "limit",
                    is_limit=True,
                ),
            ],
            "s",
            decimals=2,
        ),
    ),
    (
        8,
        heat(
            "Processing time, all batches",
            Help(
                "How many batches took how long. A percentile hides the single slow batch; this does not.",
                "a second band above the first: some batches wait for something.",
                f"{STREAMING} and open one of them.",
            ),
            Query(buckets("engine_processing_seconds"), "{{le}}"),
            "s",
            decimals=3,
        ),
    ),
    (
        8,
        heat(
            "Records in a batch",
            Help(
                "How many batches had how many records.",
                "two bands: batches of nothing and batches of much, the engine works in jumps.",
                "compare with the scheduling delay; MAX_RATE_PER_PARTITION bounds a batch; docs/alerts.md#schedulingdelayhigh.",
            ),
            Query(buckets("engine_batch_records"), "{{le}}"),
            "short",
            decimals=0,
        ),
    ),
    (
        8,
        heat(
            "End to end, all samples",
            Help(
                "From creation to acknowledged row, of the first and last record of each slice that was read.",
                "the band rises: the engine is behind, and a percentile of minutes would not show it yet.",
                f"{STREAMING}; docs/alerts.md#endtoendlatencyhigh.",
            ),
            Query(buckets("engine_end_to_end_seconds", JOB), "{{le}}"),
            "s",
        ),
    ),
]


BOARD: Final = Board(
    uid="dstreams-engine",
    title="2 Micro-batch engine",
    description="Does the engine keep up with its interval, where does the time of a batch go, what does it hold.",
    variables=("job", "topic", "percentile"),
    rows=(
        Row("Does it keep up", 8, _PACE),
        Row("Where the time goes", 8, _TIME),
        Row("State and event time", 7, STATE_ROW),
        Row("Checkpoint", 7, CHECKPOINT_ROW),
        Row("Tasks and processes", 7, PROCESSES_ROW),
        Row("Replicas", 7, REPLICAS_ROW),
    ),
)
"""The board of the engine."""
