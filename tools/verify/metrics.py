"""The verifier's metrics: one table, of its runs, of what the last one found, and of the chaos drills.

What a run found is absent until one could tell: no claim is made before. From then on every table of results has all
four verdicts, and so have `ledger` (its faults are wrong) and `closed_form` (totals other than the producers' closed form are wrong), so that
the sums over all tables are the figures of verify's closing line. A run that could not tell leaves what the one before it has
found; `verify_last_run_time_seconds` says how old that is.

Drills are read when the metrics are asked for. A drill's series begin with the first drill of its fault.

Owns: METRICS, Found, VerifierMetrics.
Never: a rule of the proof.
"""

import threading
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from tools.verify.drills import PHASES, VERDICTS, Drills

OUTCOMES: Final = ("exact", "inexact", "unknown")
"""How a run may end; its exit code is the place in this row."""
ROW_VERDICTS: Final = ("exact", "missing", "over", "wrong")
"""What may be found of a row."""
SECONDS: Final = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800)
"""Upper bounds of the histogram's buckets, seconds."""

Family = CounterMetricFamily | GaugeMetricFamily


class Row(NamedTuple):
    """One row of the table; that of the engine's tables is the engine's, with whom the judge shares nothing."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str


METRICS: Final = (
    Row(
        "verify_rows",
        "gauge",
        ("table", "verdict"),
        "Rows by verdict (exact, missing, over, wrong) in the last run that could tell.",
    ),
    Row("verify_runs_total", "counter", ("outcome",), "Runs by outcome: exact, inexact, unknown."),
    Row("verify_run_seconds", "histogram", (), "One run of verify, a process of its own."),
    Row(
        "verify_last_run_time_seconds",
        "gauge",
        (),
        "When the last run that could tell ended, seconds since the epoch.",
    ),
    Row(
        "verify_next_run_time_seconds",
        "gauge",
        (),
        "When the next run is due, or the running one began, seconds since the epoch.",
    ),
    Row("verify_dead_letters", "gauge", (), "Rows of dead_letters in the last run that could tell."),
    Row("chaos_drill_running", "gauge", ("fault",), "1 while a drill of the fault runs, else 0."),
    Row("chaos_drills_total", "counter", ("fault", "verdict"), "Drills that are over by verdict."),
    Row(
        "chaos_drill_phase_seconds",
        "gauge",
        ("fault", "phase"),
        "From the fault until a phase ended, in the newest drill that is over.",
    ),
    Row(
        "chaos_drill_started_time_seconds",
        "gauge",
        ("fault",),
        "When the newest drill began, seconds since the epoch.",
    ),
    Row(
        "chaos_drill_ended_time_seconds",
        "gauge",
        ("fault",),
        "When the newest drill that is over ended, seconds since the epoch.",
    ),
)
"""Every metric that the verifier exports, those of the process (process_*) aside."""

_ROWS = {metric.name: metric for metric in METRICS}


class Found(NamedTuple):
    """What a run that could tell has found."""

    rows: Mapping[str, Mapping[str, int]]
    """By table and verdict."""
    dead_letters: int
    time: float
    """When the run ended, seconds since the epoch."""


class VerifierMetrics:
    """The metrics of the table, in a registry of their own with those of the process.

    Args:
        drills: gives the drills as of now; called by the threads that serve the metrics, one at a time.
    """

    def __init__(self, drills: Callable[[], Drills]) -> None:
        self.registry = CollectorRegistry()
        row = _ROWS["verify_runs_total"]
        self._runs = Counter(row.name, row.meaning, row.labels, registry=self.registry)
        for outcome in OUTCOMES:
            self._runs.labels(outcome)
        row = _ROWS["verify_run_seconds"]
        self._seconds = Histogram(row.name, row.meaning, registry=self.registry, buckets=SECONDS)
        row = _ROWS["verify_next_run_time_seconds"]
        self._next = Gauge(row.name, row.meaning, registry=self.registry)
        self._found = _FoundCollector()
        self.registry.register(self._found)
        self.registry.register(_DrillCollector(drills))
        ProcessCollector(registry=self.registry)

    def ran(self, outcome: str, seconds: float, found: Found | None) -> None:
        """Count a run, and show what it has found if it could tell."""
        if found is not None:
            self._found.newest = found
        self._seconds.observe(seconds)
        self._runs.labels(outcome).inc()

    def next_run(self, time: float) -> None:
        """A run is due then, seconds since the epoch."""
        self._next.set(time)


class _FoundCollector(Collector):
    """What the newest run that could tell has found, replaced as a whole."""

    def __init__(self) -> None:
        self.newest: Found | None = None

    def collect(self) -> Iterator[Family]:
        """Nothing before the first such run."""
        found = self.newest
        if found is None:
            return
        rows = {
            (table, verdict): count
            for table, counts in found.rows.items()
            for verdict, count in counts.items()
        }
        yield _family("verify_rows", rows)
        yield _family("verify_dead_letters", {(): found.dead_letters})
        yield _family("verify_last_run_time_seconds", {(): found.time})


class _DrillCollector(Collector):
    """The drills, as of the moment of the question."""

    def __init__(self, drills: Callable[[], Drills]) -> None:
        self._drills = drills
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Family]:
        """Nothing but the families' names before the first drill."""
        with self._lock:
            drills = self._drills()
        running = drills.running.fault if drills.running else None
        yield _family("chaos_drill_running", {(fault,): fault == running for fault in drills.faults})
        tally = Tally((drill.fault, drill.verdict) for drill in drills.over)
        pairs = ((fault, verdict) for fault in drills.faults for verdict in VERDICTS)
        yield _family("chaos_drills_total", {pair: tally[pair] for pair in pairs})
        ended = drills.ended()
        phases = {
            (fault, phase): drill.phases[phase]
            for fault, drill in ended.items()
            for phase in PHASES
            if drill.phases and phase in drill.phases
        }
        yield _family("chaos_drill_phase_seconds", phases)
        yield _family(
            "chaos_drill_started_time_seconds",
            {(fault,): drill.started for fault, drill in drills.started().items()},
        )
        yield _family(
            "chaos_drill_ended_time_seconds", {(fault,): drill.ended or 0 for fault, drill in ended.items()}
        )


def _family(name: str, values: Mapping[Any, float]) -> Family:
    """A row of the table with its samples."""
    row = _ROWS[name]
    kind: Any = CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily
    family: Family = kind(row.name, row.meaning, labels=row.labels)
    for labels, value in values.items():
        family.add_metric(labels, float(value))
    return family


def rows_found(tables: Iterable[Mapping[str, Any]], others: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """The rows by table and verdict.

    Args:
        tables: each with its name and a count for each verdict.
        others: what is wrong beside the tables, by its name.
    """
    rows = {
        str(table["table"]): {verdict: int(table[verdict]) for verdict in ROW_VERDICTS} for table in tables
    }
    for name, wrong in others.items():
        rows[name] = {**dict.fromkeys(ROW_VERDICTS, 0), "wrong": wrong}
    return rows
