"""Rows of the engine's board about what it holds: state, checkpoint, processes.

Owns: LIMIT, STATE_ROW, CHECKPOINT_ROW, PROCESSES_ROW.
Never: a way to draw; panels.py has those.
"""

from typing import Final

from grafana.board import Panels
from grafana.expressions import (
    INTERVAL,
    JOB,
    REPLAYED,
    SLACK_SECONDS,
    STALLED,
    STALLED_AFTER,
    TOPIC,
    increase,
    quantile,
    rate,
)
from grafana.panels import AMBER, RED, STREAMING, Help, Query, lines, stat

LIMIT: Final = Query(INTERVAL, "batch interval", is_limit=True)
_AGE: Final = 'max by (service) (time() - process_start_time_seconds{service="engine"})'

STATE_ROW: Final[Panels] = [
    (
        6,
        lines(
            "State, keys",
            Help(
                "Keys that each stateful operator holds.",
                "grows without end: nothing ever leaves; memory and checkpoint grow with it.",
                "see its job under services/pipeline/jobs, and `docker stats`; docs/alerts.md#stategrowth.",
            ),
            [Query(f"sum by (job, operator) (engine_state_keys{{{JOB}}})", "{{job}} {{operator}}")],
            "short",
            decimals=0,
        ),
    ),
    (
        6,
        lines(
            "State, bytes",
            Help(
                "What a restart reads of each operator: its newest snapshots and the changes after them.",
                "grows faster than the keys: the values grow.",
                "`docker stats` for the memory beside it; docs/alerts.md#stategrowth.",
            ),
            [Query(f"sum by (job, operator) (engine_state_bytes{{{JOB}}})", "{{job}} {{operator}}")],
            "bytes",
        ),
    ),
    (
        6,
        lines(
            "State, updates",
            Help(
                "Keys that each operator changed or removed a second.",
                "0 while records come in: the operator's input is empty.",
                f"{STREAMING}, its graph shows where the records go.",
            ),
            [Query(rate("engine_state_updates_total", "job, operator", JOB), "{{job}} {{operator}}")],
            "ops",
        ),
    ),
    (
        6,
        lines(
            "Event-time skew",
            Help(
                "How far the watermark is behind the clock: the smallest of the partitions' largest event times.",
                "one topic runs away: one of its partitions has no new records, and windows do not close.",
                "look for the silent partition on board 3; docs/alerts.md#producersilent.",
            ),
            [Query(f"time() - max by (topic) (engine_watermark_seconds{{{TOPIC}}})", "{{topic}}")],
            "s",
        ),
    ),
    (
        6,
        lines(
            "Set aside, by reason",
            Help(
                "Records a second that were put aside: undecodable, late, or failed in a function that puts aside.",
                "any that nobody sent on purpose; late rises after clocks jump.",
                "`docker compose exec cassandra cqlsh -e 'SELECT reason FROM pipeline.dead_letters LIMIT 20'`; "
                "docs/alerts.md#deadletterrate.",
            ),
            [Query(rate("engine_dead_letters_total", "topic, reason", TOPIC), "{{topic}} {{reason}}")],
            "recps",
            decimals=2,
        ),
    ),
    (
        6,
        lines(
            "Set aside, share of the input",
            Help(
                "Records that were put aside over records in committed batches.",
                "more than a hundredth: a producer sends something else than the jobs read.",
                "`scripts/logs producer`; docs/alerts.md#deadletterrate.",
            ),
            [
                Query(
                    f"{rate('engine_dead_letters_total', 'topic', TOPIC)}"
                    f" / {rate('engine_records_total', 'topic', TOPIC)}",
                    "{{topic}}",
                )
            ],
            "percentunit",
            decimals=3,
        ),
    ),
    (
        6,
        stat(
            "Batches in range",
            Help(
                "Batches by outcome, and batches that ran again after a crash.",
                "failed is not 0. Replayed is right after a kill, and no row suffers.",
                f"`scripts/logs engine`; {STREAMING}, it shows the error; docs/alerts.md#batchfailed.",
            ),
            [
                Query(increase("engine_batches_total", "outcome"), "{{outcome}}"),
                Query(REPLAYED, "replayed, most by one start"),
            ],
            "short",
            is_good=False,
        ),
    ),
    (
        6,
        stat(
            "Running as",
            Help(
                "Version of the engine, application, what computes it (MASTER), and the time since the process began.",
                "another version than you think; a start that nobody has made.",
                "`scripts/logs engine`: each start says its jobs, its stack and its MASTER; docs/settings.md has them all.",
            ),
            [
                Query(
                    f"{_AGE} * on () group_left (version) max by (version) (engine_build_info)",
                    "version {{version}}",
                ),
                Query(
                    f"{_AGE} * on () group_left (app, master) max by (app, master) (engine_settings_info)",
                    "{{app}} on {{master}}",
                ),
            ],
            "s",
            decimals=1,
            is_good=False,
            gone="engine down",
        ),
    ),
]


CHECKPOINT_ROW: Final[Panels] = [
    (
        6,
        lines(
            "Checkpoint age",
            Help(
                "Seconds since the last commit. A saw, as high as the interval.",
                f"above the dashed line of {STALLED} intervals and {SLACK_SECONDS} s.",
                "`scripts/logs engine`; docs/alerts.md#enginestalled.",
            ),
            [
                Query("engine:checkpoint_age:seconds", "age"),
                Query(STALLED_AFTER, "limit", is_limit=True),
            ],
            "s",
        ),
    ),
    (
        6,
        lines(
            "Begin, commit, snapshot",
            Help(
                "What begin and commit records take until they are durable, and snapshots and purge between batches.",
                "a commit of a tenth of an interval and more: the volume is slow.",
                "`docker compose exec engine df -h /var/lib/dstreams/checkpoints`; docs/alerts.md#checkpointslow.",
            ),
            [
                Query(
                    quantile(
                        "$percentile",
                        "engine_stage_seconds",
                        "stage",
                        'stage=~"begin|commit|snapshot|purge"',
                    ),
                    "{{stage}}",
                ),
                LIMIT,
            ],
            "s",
            decimals=4,
        ),
    ),
    (
        6,
        lines(
            "Checkpoint, size",
            Help(
                "Bytes on the volume: the journal with the deltas, and the snapshots of the state.",
                "grows without end: nothing is purged.",
                "`scripts/logs engine`; docs/alerts.md#checkpointdiskfilling.",
            ),
            [Query("max by (part) (engine_checkpoint_bytes)", "{{part}}")],
            "bytes",
            stack=True,
        ),
    ),
    (
        6,
        lines(
            "Checkpoint, written",
            Help(
                "Bytes a second of deltas in commit records and of snapshots.",
                "more than the input's bytes: the state changes more than the input justifies.",
                "see the updates of the state above; docs/alerts.md#checkpointslow.",
            ),
            [
                Query(rate("engine_checkpoint_delta_bytes_total"), "deltas"),
                Query(rate("engine_snapshot_bytes_total"), "snapshots"),
            ],
            "Bps",
        ),
    ),
    (
        6,
        stat(
            "Volume in use",
            Help(
                "Share of the checkpoint volume that is in use, by whatever.",
                "amber from 70 %, red from 85 %; the alert asks for less than 2 GiB or a trend as well. Without room no commit.",
                "`docker compose exec engine df -h /var/lib/dstreams/checkpoints`, make room; docs/alerts.md#checkpointdiskfilling.",
            ),
            [
                Query(
                    '1 - max(engine_checkpoint_volume_bytes{kind="free"}) / max(engine_checkpoint_volume_bytes{kind="size"})'
                )
            ],
            "percentunit",
            decimals=1,
            ratios=((0.7, AMBER), (0.85, RED)),
            gone="engine down",
        ),
    ),
    (
        6,
        stat(
            "Checkpoint failures in range",
            Help(
                "Times that the checkpoint could not be written and the engine lived on to be scraped; most such failures end it.",
                "any. A volume that is full or gone shows as restarts.",
                "`scripts/logs engine`; docs/alerts.md#checkpointfailing.",
            ),
            [Query(increase("engine_checkpoint_failures_total"))],
            "short",
            ratios=((1, RED),),
            gone="engine down",
        ),
    ),
    (
        6,
        stat(
            "Restored at the last start",
            Help(
                "How long the last reading of the checkpoint took: at a start all shards, after an executor's death its own.",
                "longer than some intervals: recovery is no longer quick.",
                "see size and keys on this board; `make chaos FAULT=engine-kill` measures a recovery.",
            ),
            [Query("max(engine_restore_seconds)")],
            "s",
            decimals=2,
            gone="engine down",
            is_good=False,
        ),
    ),
    (
        6,
        stat(
            "Keys restored",
            Help(
                "Keys that the last reading of the checkpoint brought: all at a start, an executor's after its death; 0 at the first start.",
                "0 after a restart: the checkpoint was lost or another folder is mounted.",
                "`docker compose exec engine ls /var/lib/dstreams/checkpoints`; `make verify`.",
            ),
            [Query("max(engine_restored_keys)")],
            "short",
            gone="engine down",
            is_good=False,
        ),
    ),
]


PROCESSES_ROW: Final[Panels] = [
    (
        6,
        lines(
            "Tasks",
            Help(
                "Tasks of the executors a second by outcome; a lost one ran in an executor that died, and runs again.",
                "failed or lost are not 0.",
                "`scripts/logs engine` has the traceback; docs/alerts.md#batchfailed.",
            ),
            [Query(rate("engine_tasks_total", "outcome"), "{{outcome}}")],
            "ops",
        ),
    ),
    (
        6,
        lines(
            "Executors",
            Help(
                "Executor processes that live, and how many had to be started anew since the engine started.",
                "fewer than MASTER asks for; restarts rise.",
                "`scripts/logs engine`; `docker stats` (a memory limit kills executors first); docs/alerts.md#executorsdying.",
            ),
            [
                Query("max(engine_executors)", "living"),
                Query("max(engine_executor_restarts_total)", "started anew"),
            ],
            "short",
            decimals=0,
            stepped=True,
        ),
    ),
    (
        6,
        lines(
            "Processor",
            Help(
                "Cores in use by the driver and by each executor.",
                "an executor at 1: it can do no more; the driver at 1: more executors would not help.",
                "raise MASTER when executors are full; board 2's stages say what the driver does.",
            ),
            [
                Query(rate("process_cpu_seconds_total", where='service="engine"'), "driver"),
                Query(rate("engine_executor_cpu_seconds_total", "executor"), "executor {{executor}}"),
            ],
            "short",
            decimals=2,
            stack=True,
        ),
    ),
    (
        6,
        lines(
            "Memory",
            Help(
                "Resident memory of the driver and of each executor.",
                "grows without end while keys do not.",
                "`docker stats` shows the limit beside it; docs/alerts.md#stategrowth.",
            ),
            [
                Query('max(process_resident_memory_bytes{service="engine"})', "driver"),
                Query("max by (executor) (engine_executor_resident_memory_bytes)", "executor {{executor}}"),
            ],
            "bytes",
            stack=True,
        ),
    ),
]
