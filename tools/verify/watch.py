"""Verifies again and again, and serves what it finds as metrics.

    python -m tools.verify.watch

Each run is a process of its own, `python -m tools.verify --json -`: its memory is free when it is over, and whatever happens to it
is one run that could not tell. It has lower priority than the rest of the stack.

What it costs. Verify reads the whole log each time, so a run takes longer as the log grows. Before the next one the watcher
waits for VERIFY_SECONDS, and for at least 19 times the CPU seconds that the last one took: it takes at most 5 % of a core
over time, however long the log has become, and looks less often instead.

What it logs. A line when the outcome changes, or the reason why a run could not tell; each row that is not exact once, ten a
run at most.

Owns: command, pause_seconds.
Never: a rule of the proof; an end because Kafka or Cassandra is away.
"""

import json
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, NoReturn

import click
from prometheus_client import disable_created_metrics

from services.health import serve
from services.settings import REFUSED, REPOSITORY, Settings, exit_code, load_settings
from tools.verify.drills import DrillFiles
from tools.verify.metrics import OUTCOMES, Found, VerifierMetrics, rows_found
from tools.verify.pulse import RunPulse

CPU_TIMES: Final = 19
"""Seconds of rest for each CPU second of a run: 1 of 20 is 5 %."""
SHOWN_ROWS: Final = 10
"""How many of the rows that are not exact are logged after a run."""
_NICENESS: Final = 10

_log = logging.getLogger("verifier")


class Finding(NamedTuple):
    """A row that is not exact, or a fault of ledger or closed form."""

    table: str
    kind: str
    key: str


class Run(NamedTuple):
    """What came of one run of verify."""

    outcome: str
    reason: str
    """Why it could not tell; empty when it could."""
    line: str
    """The closing line."""
    findings: dict[Finding, str]
    """The first rows that are not exact, with what was expected and found."""
    found: Found | None
    """None when it could not tell."""
    seconds: float
    cpu_seconds: float


def pause_seconds(least: float, cpu_seconds: float) -> float:
    """Seconds to wait after a run that took so many CPU seconds.

    Example:
        >>> pause_seconds(15, 0.5), pause_seconds(15, 2)
        (15, 38)
    """
    return max(least, CPU_TIMES * cpu_seconds)


def run_verify(began_as: Callable[[int], None] = lambda _: None) -> Run:
    """Verify once, in a process that has this one's environment; it is killed when this call is interrupted.

    Args:
        began_as: is told the run's process id.
    """
    began, used = time.monotonic(), _children_cpu_seconds()
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.verify", "--json", "-"],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        began_as(process.pid)
        os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
        output, errors = process.communicate()
    except (
        BaseException
    ):  # SystemExit and KeyboardInterrupt too: no run outlives its watcher; it goes on from here
        process.kill()
        process.wait()
        raise
    seconds, cpu_seconds = time.monotonic() - began, _children_cpu_seconds() - used
    try:
        return _told(json.loads(output), process.returncode, seconds, cpu_seconds)
    except (ValueError, KeyError, TypeError):
        last = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
        reason = f"verify ended with code {process.returncode}: {last or 'it wrote nothing'}"
        return Run("unknown", reason, "", {}, None, seconds, cpu_seconds)


def _children_cpu_seconds() -> float:
    """CPU seconds of all runs that are over; the watcher has no other children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _told(verdict: dict[str, Any], code: int, seconds: float, cpu_seconds: float) -> Run:
    """What a verdict's JSON tells."""
    if code != verdict["code"]:
        raise ValueError(code)
    outcome, found = OUTCOMES[code], None
    if outcome != "unknown":
        others = {
            "ledger": len((verdict["ledger"] or {}).get("faults", ())),
            "closed_form": len((verdict["producers"] or {}).get("wrong_totals", ())),
        }
        found = Found(rows_found(verdict["tables"], others), verdict["dead_letters"], time.time())
    return Run(
        outcome, verdict["reason"], verdict["line"], dict(_findings(verdict)), found, seconds, cpu_seconds
    )


def _findings(verdict: dict[str, Any]) -> Iterator[tuple[Finding, str]]:
    """The offenders of a verdict, those of the ledger first."""
    parts = [("ledger", (verdict["ledger"] or {}).get("faults", ()))]
    parts += [(table["table"], table["offenders"]) for table in verdict["tables"]]
    parts += [("closed_form", (verdict["producers"] or {}).get("wrong_totals", ()))]
    for table, offenders in parts:
        for offender in offenders:
            sides = (
                f"{side} {offender[side]}" for side in ("expected", "found", "differs") if offender[side]
            )
            yield Finding(table, offender["kind"], offender["key"]), ", ".join(sides)


class Watch:
    """The runs one after the other.

    State: what was logged last, so that it is not said again.
    """

    def __init__(self, metrics: VerifierMetrics) -> None:
        self._metrics = metrics
        self._said = ""
        self._shown: frozenset[Finding] = frozenset()

    def take(self, run: Run) -> None:
        """Count a run and log what is new."""
        self._metrics.ran(run.outcome, run.seconds, run.found)
        if run.outcome == "unknown":
            self._say(f"unknown: {run.reason}")
            return
        self._say(f"{run.outcome}: ", run.line)
        first = dict(list(run.findings.items())[:SHOWN_ROWS])
        for finding, sides in first.items():
            if finding not in self._shown:
                _log.warning("%s in %s: %s: %s", finding.kind, finding.table, finding.key, sides)
        self._shown = frozenset(first)

    def _say(self, text: str, detail: str = "") -> None:
        """Log a line unless it says what the last one said; numbers and times in it do not count."""
        bare = re.sub(r"\d+", "0", text)
        if bare != self._said:
            self._said = bare
            _log.info("%s%s", text, detail)


def _watch(settings: Settings) -> int:
    """Verify until a signal ends the process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    # Without it every counter has a second series with its time of birth.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's, untyped
    metrics = VerifierMetrics(DrillFiles(settings.data_dir / "drills").read)
    pulse = RunPulse()
    try:
        serve(settings.listen_host, settings.verifier_metrics_port, metrics.registry, pulse.ailment)
    except OSError as error:
        click.echo(
            f"VERIFIER_METRICS_PORT={settings.verifier_metrics_port} cannot be opened on LISTEN_HOST={settings.listen_host} "
            f"({error.strerror}); choose another port or address",
            err=True,
        )
        return REFUSED
    watch, pause = Watch(metrics), 0.0
    while True:
        metrics.next_run(time.time() + pause)
        pulse.rests(pause)
        time.sleep(pause)
        run = run_verify(pulse.runs)
        watch.take(run)
        pause = pause_seconds(settings.verify_seconds, run.cpu_seconds)


def _end(*_: object) -> NoReturn:
    """Leave from wherever the process is."""
    sys.exit(0)


@click.command()
def command() -> None:
    """Verify again and again until SIGTERM, and serve the verdicts and the chaos drills as metrics.

    They are at http://LISTEN_HOST:VERIFIER_METRICS_PORT/metrics; /healthz beside them is 503 when the runs stand still. The variables of scripts/verify say what to verify. Between two
    runs it waits VERIFY_SECONDS and at least 19 times the CPU seconds of the last one, so it takes at most about 5 % of a
    core. DATA_DIR/drills is where the chaos tool tells of its drills.

    Exit codes: 0 stopped, 2 refused, with the reason in one sentence.
    """
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _end)
    sys.exit(exit_code(lambda: _watch(load_settings())))


if __name__ == "__main__":
    command()
