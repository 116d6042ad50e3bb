"""The board for breaking the pipeline on purpose: what happened, how long it took, whether every row is still exact.

Owns: BOARD.
Never: a way to draw; panels.py has those.
"""

from typing import Final

from grafana.board import Board, Panels, Row
from grafana.expressions import (
    INTERVAL,
    REPLAYED,
    RESTARTS,
    SLACK_SECONDS,
    STALLED,
    STALLED_AFTER,
    STATE,
    STATES,
    rate,
    while_none,
)
from grafana.panels import AMBER, GREEN, RED, Help, Query, bars, lines, stat, table, timeline

KNOWN: Final = "verify_runs_total"
"""Of the verifier, who tells of drills: it is there before the first one."""
AGAIN: Final = "`make chaos FAULT=engine-kill` runs a drill"

DRILL_BAND, CALM_BAND = 10, 11
"""Values of the timeline that no state of the engine has: while a drill runs, and else."""
RUNNING: Final = while_none("chaos_drill_running", KNOWN, fault="no drill yet")
NEWEST: Final = while_none(
    "max by (fault, phase) (chaos_drill_phase_seconds)", KNOWN, fault="no drill yet", phase="none"
)
LONG: Final = 30
"""Intervals that a recovery may take."""


_HAPPENS: Final[Panels] = [
    (
        12,
        timeline(
            "Engine and drill",
            Help(
                "What the engine is doing, and which fault runs: at work, down, restoring, catching up, at work.",
                "restoring or catching up does not end.",
                "`scripts/logs engine`; docs/alerts.md#enginedown.",
            ),
            [
                Query(STATE, "engine"),
                Query(f"{CALM_BAND} - max by (fault) ({RUNNING})", "{{fault}}"),
            ],
            {**STATES, DRILL_BAND: ("drill", "purple"), CALM_BAND: ("no drill", "text")},
        ),
    ),
    (
        12,
        timeline(
            "Services",
            Help(
                "Whether Prometheus reaches each service; it asks every 2 s.",
                "more red bands than the drill has made: one failure has caused another.",
                "`docker compose ps`, then the logs of that service; docs/alerts.md#restartloop.",
            ),
            [
                Query(
                    'max by (service) (up{service=~"kafka|cassandra|producer|engine|verifier"})',
                    "{{service}}",
                )
            ],
            {0: ("down", RED), 1: ("up", GREEN)},
        ),
    ),
]


_DURATIONS: Final[Panels] = [
    (
        7,
        table(
            "Newest drill of each fault",
            Help(
                "Seconds from the fault until it was noticed, until the process ran again, until its state was restored, until the first new commit, and until "
                "the engine had caught up. Older drills are lines of drills/history.jsonl in DATA_DIR.",
                "caught_up of minutes, or one phase far above the others.",
                f"{AGAIN}, RUNS=5 gives median and worst; docs/chaos.md.",
            ),
            [Query(NEWEST)],
            "s",
            decimals=1,
            names={
                "fault\\phase": "fault",
                "detect": "noticed",
                "restart": "runs again",
                "restored": "state restored",
                "first_batch": "first commit",
                "caught_up": "caught up",
            },
            matrix=("fault", "phase"),
        ),
    ),
    (
        6,
        bars(
            "Phases of the newest drills",
            Help(
                "The same as bars; each phase is counted from the fault, so they grow downwards.",
                "a step between two bars that is new.",
                f"{AGAIN}; compare with the past drills beside it.",
            ),
            [Query(NEWEST, "{{fault}} {{phase}}")],
            "s",
        ),
    ),
    (
        7,
        lines(
            "Past drills",
            Help(
                "Seconds until caught up of the newest drill of each fault, as a step at each drill's end.",
                "steps upwards: recovery gets slower, mostly because state or backlog grew.",
                "see keys and size on board 2; `make chaos RUNS=5`.",
            ),
            [
                Query(
                    while_none(
                        'max by (fault) (chaos_drill_phase_seconds{phase="caught_up"})',
                        KNOWN,
                        fault="no drill yet",
                    ),
                    "{{fault}}",
                )
            ],
            "s",
            stepped=True,
        ),
    ),
    (
        4,
        stat(
            "Longest outage in range",
            Help(
                "Longest time without a commit.",
                f"red from {LONG} intervals and {SLACK_SECONDS} s: longer than a restart should take.",
                f"see which phase it was; {AGAIN}.",
            ),
            [Query("max(max_over_time(engine:checkpoint_age:seconds[$__range]))")],
            "s",
            decimals=1,
            limit=f"{LONG} * {INTERVAL} + {SLACK_SECONDS}",
            gone="no commit yet",
        ),
    ),
]


_BACKLOG: Final[Panels] = [
    (
        8,
        lines(
            "Time without a commit",
            Help(
                "Seconds since the last commit, also while the engine is down.",
                f"a ramp that does not end; dashed are {STALLED} intervals and {SLACK_SECONDS} s.",
                "`docker compose ps`; docs/alerts.md#enginestalled.",
            ),
            [
                Query("engine:checkpoint_age:seconds", "since the last commit"),
                Query(STALLED_AFTER, "limit", is_limit=True),
            ],
            "s",
        ),
    ),
    (
        8,
        lines(
            "Backlog",
            Help(
                "Records in Kafka that are not committed, by topic, also while the engine is down.",
                "it does not fall after the restart: the engine is slower than its input.",
                "see utilisation on board 2; docs/alerts.md#laggrowing.",
            ),
            [Query("topic:backlog_records:sum", "{{topic}}")],
            "short",
            decimals=0,
            stack=True,
        ),
    ),
    (
        8,
        lines(
            "Drain",
            Help(
                "Records committed a second against events made; between them is how fast the backlog goes.",
                "committed is not above made after a restart.",
                "MAX_RATE_PER_PARTITION bounds a batch; see utilisation on board 2.",
            ),
            [
                Query(rate("engine_records_total"), "committed"),
                Query(rate("producer_events_total"), "made"),
            ],
            "recps",
            decimals=0,
        ),
    ),
]


_OUTCOME: Final[Panels] = [
    (
        4,
        stat(
            "Backlog, peak in range",
            Help(
                "Most records that waited at once.",
                "no bound is right for all: compare with the input times the outage.",
                f"{AGAIN} to see whether it is always so.",
            ),
            [Query("max_over_time(sum(topic:backlog_records:sum)[$__range:2s])")],
            "short",
            is_good=False,
        ),
    ),
    (
        4,
        stat(
            "Replayed batches",
            Help(
                "Most batches that one start had to run again: begun before a crash, with the same records and the same time.",
                "more than one: the engine dies in the same batch again and again.",
                "`scripts/logs engine`; docs/alerts.md#restartloop.",
            ),
            [Query(REPLAYED)],
            "short",
            gone="engine down",
            is_good=False,
        ),
    ),
    (
        4,
        stat(
            "Restarts in range",
            Help(
                "How often the engine has started anew in range.",
                "more than the drills have made.",
                "`scripts/logs engine`; docs/alerts.md#restartloop.",
            ),
            [
                Query(RESTARTS, "restarts"),
            ],
            "short",
            ratios=((1, AMBER), (3, RED)),
        ),
    ),
    (
        4,
        stat(
            "Restored",
            Help(
                "Keys that the last reading of the checkpoint brought: all of them at a start, an executor's after its death.",
                "0 after a restart: the checkpoint is gone, and `make verify` will say what that cost.",
                "`make verify`; docs/alerts.md#windowmismatch.",
            ),
            [Query("max(engine_restored_keys)")],
            "short",
            gone="engine down",
            is_good=False,
        ),
    ),
    (
        4,
        stat(
            "Restore took",
            Help(
                "Seconds of the last reading of the checkpoint, at a start or after an executor's death.",
                "longer than some intervals.",
                "see the checkpoint's size on board 2.",
            ),
            [Query("max(engine_restore_seconds)")],
            "s",
            decimals=2,
            limit=f"5 * {INTERVAL}",
            gone="engine down",
        ),
    ),
    (
        4,
        stat(
            "Drills",
            Help(
                "All drills of drills/history.jsonl by verdict, whenever they ran: exact, inexact, unknown, or no effect.",
                "inexact: rows were lost, doubled or wrong.",
                "`make verify` names the rows; docs/chaos.md.",
            ),
            [
                Query(
                    while_none("sum by (verdict) (chaos_drills_total)", KNOWN, verdict="none yet"),
                    "{{verdict}}",
                )
            ],
            "short",
            is_good=False,
        ),
    ),
    (
        12,
        lines(
            "Rows, exact",
            Help(
                "Rows that agree with the truth recomputed from Kafka, by table. It stands still while the verifier cannot tell.",
                "it falls.",
                "`make verify`.",
            ),
            [Query('max by (table) (verify_rows{verdict="exact"})', "{{table}}")],
            "short",
            decimals=0,
        ),
    ),
]


BOARD: Final = Board(
    uid="dstreams-recovery-drill",
    title="4 Recovery drill",
    description="Break it, watch it come back, see that every row is exact. `make chaos` starts a drill.",
    variables=(),
    rows=(
        Row("What happens", 7, _HAPPENS),
        Row("How long it takes", 7, _DURATIONS),
        Row("What piles up and how it drains", 8, _BACKLOG),
        Row("What came of it", 7, _OUTCOME),
    ),
)
"""The board of the drills."""
