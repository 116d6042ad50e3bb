"""The board that somebody opens first: is the pipeline well, where are the events, is anything lost.

Owns: BOARD.
Never: a way to draw; panels.py has those.
"""

from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.models import dashboard

from grafana.board import Board, Panels, Row
from grafana.expressions import (
    ALERTS,
    BEHIND,
    END_TO_END_LIMIT,
    INTERVAL,
    RESTARTS,
    RULES,
    SLACK_SECONDS,
    STALLED,
    STALLED_AFTER,
    STALLED_INTERVALS,
    STATE,
    STATES,
    increase,
    rate,
    while_none,
)
from grafana.panels import AMBER, GREEN, RED, STREAMING, Help, Query, lines, stat, table, timeline

DOWN: Final = "engine down"

_HEALTH: Final[Sequence[dashboard.Panel]] = (
    stat(
        "Status",
        Help(
            "What the engine is doing: at work, catching up, restoring its state, or down.",
            f"down or restoring for long; catching up means more than {BEHIND} batch intervals of lag.",
            "`docker compose ps engine`, then `scripts/logs engine`; docs/alerts.md#enginedown.",
        ),
        [Query(STATE)],
        "short",
        values=STATES,
        gone="no Prometheus",
    ),
    stat(
        "End to end, p95",
        Help(
            "From the creation of an event to its acknowledged row, the slowest output, 95th percentile.",
            "red: three times the slide and the interval that a row waits by design.",
            f"look at the outputs on board 2, and {STREAMING}; docs/alerts.md#endtoendlatencyhigh.",
        ),
        [Query("max(job:end_to_end_seconds:p95)")],
        "s",
        decimals=2,
        limit=END_TO_END_LIMIT,
        gone=DOWN,
    ),
    stat(
        "Lag, records",
        Help(
            "Records that are in Kafka and not committed by the engine.",
            f"red: more than {BEHIND} intervals of input.",
            "see which partition on board 3; docs/alerts.md#laggrowing.",
        ),
        [Query("sum(topic:lag_records:sum)")],
        "short",
        limit=f"{BEHIND} * {INTERVAL} * sum(topic:events_produced:rate)",
        gone=DOWN,
    ),
    stat(
        "Lag, seconds",
        Help(
            "Age of the newest committed record, the largest of all partitions; whatever waits is younger.",
            f"red: more than {BEHIND} intervals.",
            "compare processing time with the interval on board 2; docs/alerts.md#laggrowing.",
        ),
        [Query("engine:lag_seconds:max")],
        "s",
        decimals=1,
        limit=f"{BEHIND} * {INTERVAL}",
        gone=DOWN,
    ),
    stat(
        "Batches behind",
        Help(
            "Intervals since the newest committed batch.",
            f"red: more than {STALLED} and {SLACK_SECONDS} s: batches take longer than they may, or stand still.",
            f"{STREAMING}, it shows the batch that runs; docs/alerts.md#enginestalled.",
        ),
        [Query("engine:batches_behind:count")],
        "short",
        decimals=1,
        limit=STALLED_INTERVALS,
        gone=DOWN,
    ),
    stat(
        "Checkpoint age",
        Help(
            "Seconds since the last commit reached the checkpoint volume.",
            f"red: more than {STALLED} intervals and {SLACK_SECONDS} s; what came since would be done again after a crash.",
            "look at the servers on board 3 and the volume on board 2; docs/alerts.md#enginestalled.",
        ),
        [Query("engine:checkpoint_age:seconds")],
        "s",
        decimals=1,
        limit=STALLED_AFTER,
        gone=DOWN,
    ),
    stat(
        "Restarts in range",
        Help(
            "How often the engine has started anew within the dashboard's time range.",
            "any that no drill has made; more than 2 in 5 minutes are a loop.",
            "`scripts/logs engine` for the reason; docs/alerts.md#restartloop.",
        ),
        [Query(RESTARTS)],
        "short",
        ratios=((1, AMBER),),
    ),
    stat(
        "Alerts firing",
        Help(
            "Alerts that fire now. Empty, not zero, when Prometheus has no rules.",
            "any.",
            "read the list below; [Prometheus](${prometheus_page}/alerts) has value and section of the runbook.",
        ),
        [
            Query(
                while_none('count(ALERTS{alertstate="firing"})', RULES),
            )
        ],
        "short",
        ratios=((1, RED),),
        gone="no rules",
    ),
)


_FLOW: Final[Panels] = [
    (
        4,
        stat(
            "Producers made →",
            Help(
                "Events that the producers have had acknowledged by Kafka.",
                "less than the target rates; they are the settings AD_RATE and PAGE_RATE.",
                "`scripts/logs producer`; docs/alerts.md#producersilent.",
            ),
            [Query("sum(topic:events_produced:rate)")],
            "eps",
            gone="no producer",
            is_good=False,
        ),
    ),
    (
        4,
        stat(
            "→ Kafka took →",
            Help(
                "Records that the broker has appended, by its own count.",
                "differs from what the producers made for longer than some seconds.",
                "`scripts/logs kafka`; board 3.",
            ),
            [Query(rate("kafka_messages_in_total"))],
            "mps",
            gone="kafka down",
            is_good=False,
        ),
    ),
    (
        4,
        stat(
            "→ engine committed →",
            Help(
                "Records in the ranges of committed batches; markers of transactions count.",
                "stays below what Kafka takes: the lag grows.",
                f"{STREAMING}; docs/alerts.md#laggrowing.",
            ),
            [Query("sum(topic:records:rate)")],
            "recps",
            gone=DOWN,
            is_good=False,
        ),
    ),
    (
        4,
        stat(
            "→ sink wrote →",
            Help(
                "Rows that the engine's sink has had acknowledged. Jobs aggregate, so they are fewer than events.",
                "0 while the engine commits records: outputs fail or have nothing to write.",
                "`scripts/logs engine`; docs/alerts.md#sinkerrors.",
            ),
            [Query(rate("engine_sink_rows_total"))],
            "rowsps",
            gone=DOWN,
            is_good=False,
        ),
    ),
    (
        4,
        stat(
            "→ Cassandra served",
            Help(
                "Write requests that Cassandra has served, by its own count; one request holds many rows.",
                "0 while the sink writes.",
                "`scripts/logs cassandra`; docs/alerts.md#cassandradown.",
            ),
            [Query(rate("cassandra_client_requests_total", where='request="Write"'))],
            "wps",
            gone="cassandra down",
            is_good=False,
        ),
    ),
    (
        4,
        stat(
            "Set aside in range",
            Help(
                "Records that were put aside: undecodable, late or failed. They are kept with their bytes.",
                "more than 1 % of the input, or any that nobody has sent on purpose.",
                "`docker compose exec cassandra cqlsh -e 'SELECT topic, reason FROM pipeline.dead_letters LIMIT 20'`; "
                "docs/alerts.md#deadletterrate.",
            ),
            [Query(increase("engine_dead_letters_total"))],
            "short",
            gone=DOWN,
            is_good=False,
        ),
    ),
]

_ENDED: Final = 'sum by (topic) (kafka_log_end_offset{topic=~"$topic"})'
_TAKEN: Final = (
    "sum by (topic) (min by (topic, partition) ("
    'max by (topic, partition, unit) (last_over_time(engine_offset{topic=~"$topic"}[$__range]))))'
)
_BALANCE: Final[Panels] = [
    (
        7,
        table(
            "Input and what was taken of it",
            Help(
                "By topic: where Kafka's log ends, where the engine's commits end, and what is open between. Offsets, over "
                "all partitions; they go on over restarts, as counters do not.",
                "open grows. A little below 0 is the time between two scrapes; far below, the checkpoint is of another Kafka.",
                "`make verify` proves the rest of the way; docs/alerts.md#laggrowing.",
            ),
            [Query(_ENDED), Query(_TAKEN), Query(f"{_ENDED} - {_TAKEN}")],
            "short",
            names={"topic": "topic", "Value #A": "in Kafka", "Value #B": "committed", "Value #C": "open"},
        ),
    ),
    (
        7,
        table(
            "Rows verified",
            Help(
                "Every row of every table against a truth that is recomputed from Kafka without the engine.",
                "anything in missing, over or wrong.",
                "`make verify` names the rows; docs/alerts.md#windowmismatch.",
            ),
            [Query("sum by (table, verdict) (verify_rows)")],
            "short",
            names={
                "table\\verdict": "table",
                "exact": "exact",
                "missing": "missing",
                "over": "over",
                "wrong": "wrong",
            },
            matrix=("table", "verdict"),
        ),
    ),
    (
        3,
        stat(
            "Not exact",
            Help(
                "Rows that are missing, over or wrong, in all tables.",
                "any: then a result is false.",
                "`make verify` names the rows; docs/alerts.md#windowmismatch.",
            ),
            [Query('sum(verify_rows{verdict!="exact"})')],
            "short",
            ratios=((1, RED),),
            gone="no verdict",
        ),
    ),
    (
        3,
        stat(
            "Verified",
            Help(
                "When the last run of the verifier has ended.",
                "minutes ago: VERIFY_SECONDS is the pause between two runs.",
                "`scripts/logs verifier`, or `make verify` by hand; docs/alerts.md#verifiersilent.",
            ),
            [Query("verify_last_run_time_seconds * 1000")],
            "dateTimeFromNow",
            gone="no verdict",
            is_good=False,
        ),
    ),
    (
        4,
        table(
            "Alerts that fire",
            Help(
                'Name, severity and service of every alert that fires. "none" stands there only while rules are loaded.',
                "any row but none.",
                "find its name in docs/alerts.md, or follow it from [Prometheus](${prometheus_page}/alerts).",
            ),
            [Query(ALERTS)],
            "short",
            names={"alertname": "alert", "Value": "series"},
        ),
    ),
]

_DELAYS: Final[Panels] = [
    (
        9,
        lines(
            "End to end, by output",
            Help(
                "95th percentile from the creation of an event to its acknowledged row; a result of a slide waits for it.",
                "above the dashed line: three times the slide and the interval.",
                f"{STREAMING}; docs/alerts.md#endtoendlatencyhigh.",
            ),
            [
                Query('job:end_to_end_seconds:p95{job=~"$job"}', "{{job}} {{output}}"),
                Query(END_TO_END_LIMIT, "limit", is_limit=True),
            ],
            "s",
            decimals=2,
        ),
    ),
    (
        8,
        lines(
            "Made, taken, written",
            Help(
                "Events made, records committed and rows written a second.",
                "committed below made for long; a gap is an engine that is down, and the peak after it is the backlog.",
                f"{STREAMING}; board 4 measures a recovery.",
            ),
            [
                Query("sum(topic:events_produced:rate)", "made"),
                Query("sum(topic:records:rate)", "committed"),
                Query(rate("engine_sink_rows_total"), "rows written"),
            ],
            "short",
            decimals=0,
        ),
    ),
    (
        7,
        timeline(
            "Services",
            Help(
                "Whether Prometheus reaches each service.",
                "red bands that no drill has made.",
                "`docker compose ps`, then the logs of that service; docs/alerts.md#enginedown.",
            ),
            [Query("max by (service) (up)", "{{service}}")],
            {0: ("down", RED), 1: ("up", GREEN)},
        ),
    ),
]


BOARD: Final = Board(
    uid="dstreams-overview",
    title="1 Pipeline overview",
    description="Is the pipeline well, where are its events, is anything lost or counted twice. Start here.",
    variables=("topic", "job"),
    rows=(
        Row("Is it well", 4, [(3, panel) for panel in _HEALTH]),
        Row("From the producer's clock to the row: events a second", 4, _FLOW),
        Row("Nothing lost, nothing twice", 7, _BALANCE),
        Row("Delays and services", 8, _DELAYS),
    ),
)
"""The home board."""
