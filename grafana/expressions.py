"""Expressions that several boards share, and the annotations of all of them.

A bound is a multiple of a metric (the batch interval, an output's slide, the rate of the input), and the multiples are those of
the alerts in services/prometheus. `by`, `rate` and `quantile` only spare repetition.

Owns: JOB, TOPIC, INTERVAL, SLIDE, STALLED_AFTER, STATE, STATES, ALERTS, ANNOTATIONS, rate, increase, quantile, buckets, while_none.
Never: a number that depends on the machine or on the load.
"""

from collections.abc import Mapping
from typing import Any, Final

from grafana.panels import AMBER, BLUE, GREEN, RED

JOB: Final = 'job=~"$job"'
TOPIC: Final = 'topic=~"$topic"'
INTERVAL: Final = "max(engine:batch_interval:seconds)"
"""As recorded, so that a bound does not vanish with the engine."""
SLIDE: Final = "max(engine_output_slide_seconds)"
END_TO_END_LIMIT: Final = f"3 * ({SLIDE} + {INTERVAL})"
"""A row waits for its output's slide and for its batch; three times that is late."""

BEHIND: Final = 4
"""Intervals of lag from which on the engine is catching up; two are normal, one of collecting and one of work."""


STALLED: Final = 5
"""Intervals without a commit from which on the engine counts as standing still."""
SLACK_SECONDS: Final = 5
"""How much older than it is a commit may look from here: two scrapes of 2 s, and one second more."""
STALLED_AFTER: Final = f"{STALLED} * {INTERVAL} + {SLACK_SECONDS}"
"""Seconds without a commit that are too many, as the alert EngineStalled has it; for short batches the scrapes are most of it."""
STALLED_INTERVALS: Final = f"{STALLED} + {SLACK_SECONDS} / {INTERVAL}"
"""The same in intervals."""


def rate(metric: str, by: str = "", where: str = "") -> str:
    """Increase per second of counters, summed by labels."""
    return _sum(f"rate({metric}{_braces(where)}[$__rate_interval])", by)


def increase(metric: str, by: str = "", where: str = "") -> str:
    """Increase of counters over the dashboard's time range, summed by labels."""
    return _sum(f"increase({metric}{_braces(where)}[$__range])", by)


def quantile(share: str, metric: str, by: str = "", where: str = "") -> str:
    """A quantile of a histogram's last moments.

    Example:
        >>> quantile("0.5", "engine_processing_seconds")
        'histogram_quantile(0.5, sum by (le) (rate(engine_processing_seconds_bucket[$__rate_interval])))'
    """
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', labels, where)})"


def buckets(metric: str, where: str = "") -> str:
    """What a heat map shows of a histogram."""
    return f"sum by (le) (increase({metric}_bucket{_braces(where)}[$__rate_interval]))"


def while_none(expr: str, known: str, **labels: str) -> str:
    """An expression that is empty while nothing has happened, with one zero in its place, which the labels explain.

    The zero is not made up: it is there only while `known` is, the metric of whoever would know.

    Example:
        >>> while_none("a", "b", c="none yet")
        'a or on () label_replace(0 * max(b), "c", "none yet", "", "")'
    """
    zero = f"0 * max({known})"
    for name, text in labels.items():
        zero = f'label_replace({zero}, "{name}", "{text}", "", "")'
    return f"{expr} or on () {zero}"


def _sum(expr: str, by: str) -> str:
    return f"sum by ({by}) ({expr})" if by else f"sum({expr})"


def _braces(where: str) -> str:
    return f"{{{where}}}" if where else ""


def _state(offset: str = "") -> str:
    """The engine's state now, or some time ago: see STATES."""
    up, start = f'up{{service="engine"}}{offset}', f"engine_start_time_seconds{offset}"
    worked = f"engine_last_commit_time_seconds{offset} > {start}"
    # Of replicas each may be away as long as one is there; each unit has its own start, and a replica without units none.
    return (
        f"(max({up}) == 0) + 3"
        f" or on () (max({up}) + 1 and on () ({start} unless on (instance, unit) {worked}))"
        f" or on () (max(engine_lag_seconds{offset}) > bool {BEHIND} * max(engine:batch_interval:seconds{offset}))"
    )


STATE: Final = _state()
STATES: Final[Mapping[int, tuple[str, str]]] = {
    0: ("at work", GREEN),
    1: ("catching up", AMBER),
    2: ("restoring", BLUE),
    3: ("down", RED),
}
"""Not scraped is down; scraped and nothing committed since its start is restoring; further behind than BEHIND is catching up."""

RESTARTS: Final = 'sum(changes(process_start_time_seconds{service="engine"}[$__range]))'
"""The engine's own start time is 0 until its context has started; that of the process is right from its first scrape."""
REPLAYED: Final = "max(max_over_time(engine_replayed_batches_total[$__range]))"
"""A counter of one process: over a restart an increase would miss what came before the first scrape."""

RULES: Final = "prometheus_rule_group_rules"
"""Of Prometheus itself: it is there only while alert rules are loaded."""

ALERTS: Final = while_none(
    'count by (alertname, severity, service) (ALERTS{alertstate="firing"})', RULES, alertname="none"
)
BATCHES_PER_SECOND: Final = 'rate(engine_batches_total{outcome="completed"}[$__rate_interval])'

ANNOTATIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "Engine start": {
        "expr": "(engine_start_time_seconds > 0) * 1000",
        "useValueForTime": True,
        "iconColor": BLUE,
        "titleFormat": "engine started",
        "textFormat": "{{instance}}",
    },
    "Drill": {
        "expr": "chaos_drill_running > 0",
        "iconColor": "purple",
        "titleFormat": "drill {{fault}}",
        "textFormat": "from the fault to the verdict",
        "tagKeys": "fault",
    },
    "Drill begins": {
        "expr": "chaos_drill_started_time_seconds * 1000",
        "useValueForTime": True,
        "iconColor": "purple",
        "titleFormat": "drill {{fault}} begins",
        "tagKeys": "fault",
    },
    "Drill ends": {
        "expr": "chaos_drill_ended_time_seconds * 1000",
        "useValueForTime": True,
        "iconColor": "purple",
        "titleFormat": "drill {{fault}} ends",
        "tagKeys": "fault",
    },
    "Recovered": {
        "expr": f"(({STATE}) == 0) and on () (({_state(' offset 2s')}) > 0)",
        "iconColor": GREEN,
        "titleFormat": "caught up again",
    },
    "Alert": {
        "expr": 'ALERTS{alertstate="firing"}',
        "iconColor": RED,
        "titleFormat": "{{alertname}}",
        "textFormat": "severity {{severity}}; docs/alerts.md says what to do",
        "tagKeys": "alertname,severity",
    },
    "Checkpoint failure": {
        # Four scrapes, as Grafana's own $__rate_interval spans.
        "expr": "increase(engine_checkpoint_failures_total[8s]) > 0",
        "iconColor": RED,
        "titleFormat": "checkpoint failed",
    },
}
"""By name what Grafana needs besides: the points and spans that every board draws into its charts."""
