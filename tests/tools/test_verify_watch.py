"""The watcher: what it counts, says and shows of runs that are exact, inexact, or could not tell; how it ends."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.settings import REPOSITORY
from tests.ports import free_port
from tests.samples import names_of
from tests.services.producer_world import health, scraped, wait_until
from tests.tools.test_verify_drills import OVER, write
from tests.tools.verify_world import COLUMNS, World, exact_world  # noqa: F401 - a fixture
from tools.verify.drills import DrillFiles, Drills
from tools.verify.metrics import METRICS, VerifierMetrics
from tools.verify.pulse import RunPulse
from tools.verify.watch import CPU_TIMES, Run, Watch, pause_seconds, run_verify

pytestmark = pytest.mark.slow

NOT_TABLES = ("ledger", "closed_form")
"""What is told beside the tables."""


@pytest.fixture
def environment(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world as the environment of this process, which a run has too."""
    monkeypatch.setenv("STACK", "embedded")
    monkeypatch.setenv("DATA_DIR", str(world.settings.data_dir))
    return world


@pytest.fixture
def metrics() -> VerifierMetrics:
    """Metrics without a drill."""
    return VerifierMetrics(Drills)


def value(metrics: VerifierMetrics, name: str, **labels: str) -> float | None:
    """The value of one sample, None when there is none."""
    found: float | None = metrics.registry.get_sample_value(name, labels)
    return found


def rows(metrics: VerifierMetrics, verdict: str) -> list[float | None]:
    """The rows of each table, of ledger and closed form with this verdict."""
    names = (*COLUMNS, *NOT_TABLES)
    return [value(metrics, "verify_rows", table=name, verdict=verdict) for name in names]


def runs(metrics: VerifierMetrics) -> list[float | None]:
    """The runs that were exact, inexact, unknown."""
    return [value(metrics, "verify_runs_total", outcome=name) for name in ("exact", "inexact", "unknown")]


@given(st.floats(0.001, 86_400), st.floats(0, 1e6))
def test_a_run_takes_a_twentieth_of_a_core_at_most(least: float, cpu_seconds: float) -> None:
    """The pause is VERIFY_SECONDS, or as long as makes the run's CPU seconds 5 % of the time."""
    pause = pause_seconds(least, cpu_seconds)
    assert pause >= least
    assert cpu_seconds <= 0.05 * (pause + cpu_seconds) * (1 + 1e-9)
    assert pause in (least, CPU_TIMES * cpu_seconds)


def test_rows_are_counted_when_they_break_and_when_they_heal(
    environment: World, metrics: VerifierMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    """An exact world is exact in the metrics, a changed row wrong and logged once, and a healed one exact again."""
    caplog.set_level("INFO")
    watch, verdict = Watch(metrics), environment.verify()
    assert (runs(metrics), rows(metrics, "exact")) == ([0, 0, 0], [None] * 6)
    assert value(metrics, "verify_dead_letters") is value(metrics, "verify_last_run_time_seconds") is None

    watch.take(run_verify())
    exact = [table.exact for table in verdict.tables] + [0, 0]
    assert (runs(metrics), rows(metrics, "exact")) == ([1, 0, 0], exact)
    assert [rows(metrics, name) for name in ("missing", "over", "wrong")] == [[0] * 6] * 3
    assert value(metrics, "verify_dead_letters") == verdict.dead_letters
    assert caplog.messages == [f"exact: {verdict.line}"]

    environment.sql("UPDATE page_totals SET views = 999 WHERE page = '/page/001'")
    for _ in range(2):
        watch.take(run_verify())
    assert (runs(metrics), rows(metrics, "wrong")) == ([1, 2, 0], [0, 0, 1, 0, 0, 0])
    assert [message.partition(":")[0] for message in caplog.messages[1:]] == [
        "inexact",
        "wrong in page_totals",
    ]
    assert "/page/001: expected views=10" in caplog.messages[-1]
    assert "found views=999" in caplog.messages[-1]
    assert caplog.messages[-1].endswith(", differs views")

    environment.fill()
    watch.take(run_verify())
    assert (runs(metrics), rows(metrics, "exact"), rows(metrics, "wrong")) == ([2, 2, 0], exact, [0] * 6)
    assert len(caplog.messages) == 4
    assert value(metrics, "verify_run_seconds_count") == 4


def test_a_store_that_is_away_is_unknown_until_it_is_back(
    environment: World, metrics: VerifierMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its store a run could not tell, says why once, and leaves the rows of the run before."""
    caplog.set_level("INFO")
    watch, store = Watch(metrics), environment.settings.results_path
    watch.take(run_verify())
    exact, told_at = rows(metrics, "exact"), value(metrics, "verify_last_run_time_seconds")
    away = store.rename(store.with_suffix(".away"))
    for _ in range(2):
        watch.take(run_verify())
    assert (runs(metrics), rows(metrics, "exact")) == ([1, 0, 2], exact)
    assert value(metrics, "verify_last_run_time_seconds") == told_at
    assert [message for message in caplog.messages if "unknown: " in message] == [
        f"unknown: {store} does not exist; start the stack with `make up STACK=embedded`, or set DATA_DIR to where it keeps its data"
    ]
    away.rename(store)
    watch.take(run_verify())
    assert runs(metrics) == [2, 0, 2]
    assert value(metrics, "verify_last_run_time_seconds") > told_at


def test_faults_beside_the_tables_are_counted(environment: World, metrics: VerifierMetrics) -> None:
    """A gap in the ledger is inexact and counted as the ledger's, so that the sums are those of the closing line."""
    environment.sql("DELETE FROM ledger WHERE batch = (SELECT min(batch) + 1000 FROM ledger)")
    watch, verdict = Watch(metrics), environment.verify()
    watch.take(run_verify())
    assert runs(metrics) == [0, 1, 0]
    assert value(metrics, "verify_rows", table="ledger", verdict="wrong") == len(verdict.ledger.faults) > 0
    assert sum(rows(metrics, "wrong")) == verdict.wrong
    assert sum(rows(metrics, "exact")) == verdict.exact


def test_at_most_ten_rows_are_logged(
    environment: World, metrics: VerifierMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    """However many rows are wrong, a run logs ten of them, and the next one those that are new."""
    for table in ("page_totals", "trending_pages", "campaign_windows"):
        environment.sql(f"UPDATE {table} SET views = views + 1")  # noqa: S608 - one of three names
    watch = Watch(metrics)
    for _ in range(2):
        watch.take(run_verify())
    assert sum(rows(metrics, "wrong")) > 20
    assert len([message for message in caplog.messages if message.startswith("wrong in ")]) == 10


def test_a_run_that_breaks_is_unknown(environment: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends without a verdict could not tell, with its last words as the reason."""
    monkeypatch.setenv("SEED", "many")
    run = run_verify()
    assert (run.outcome, run.found) == ("unknown", None)
    assert run.reason.startswith("verify ended with code 2: SEED='many' is not valid")
    assert run.cpu_seconds > 0
    assert environment.verify().code == 0


def test_what_could_not_be_told_is_said_again_when_it_is_another(
    metrics: VerifierMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    """Reasons that differ in numbers alone are one; another reason is a line of its own."""
    caplog.set_level("INFO")
    watch = Watch(metrics)
    for reason in ("no answer for 10 s", "no answer for 11 s", "no ledger", "no answer for 12 s"):
        watch.take(Run("unknown", reason, "", {}, None, 1, 1))
    assert caplog.messages == [
        "unknown: no answer for 10 s",
        "unknown: no ledger",
        "unknown: no answer for 12 s",
    ]


# Its health.


def test_a_run_that_does_not_begin_is_an_ailment() -> None:
    """Between two runs the watcher is well until the next one is a minute late."""
    now = [0.0]
    pulse = RunPulse(now=lambda: now[0])
    found = []
    assert pulse.ailment() == ""
    pulse.rests(100)
    for now[0] in (0.0, 100.0, 160.0, 161.0):
        found.append(pulse.ailment())
    assert found == ["", "", "", "a run is due for 61 s and has not begun"]


def test_a_run_that_stands_still_is_an_ailment_until_it_goes_on() -> None:
    """A run is well while it uses the processor, however long it takes; one that is held is not, and neither is one that nobody collects."""
    now = [0.0]
    pulse = RunPulse(now=lambda: now[0])
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as run:
        pulse.runs(run.pid)
        process = psutil.Process(run.pid)

        def after(seconds: float) -> str:
            now[0] += seconds
            return pulse.ailment()

        def goes_on() -> None:
            used = process.cpu_times().user
            wait_until(lambda: process.cpu_times().user > used, "work")

        for _ in range(3):
            goes_on()
            assert after(3_600) == ""
        run.send_signal(signal.SIGSTOP)
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, "the hold")
        assert (after(0), after(60)) == ("", "")
        assert after(1) == "the run has used no processor time for 61 s"
        run.send_signal(signal.SIGCONT)
        goes_on()
        assert after(1) == ""
        run.kill()
    pulse.rests(1_000)
    assert after(60) == ""


# The process.

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts watchers, and kills at the end what is still running."""
    started: list[subprocess.Popen[str]] = []

    def watcher(**variables: object) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "tools.verify.watch"],
                cwd=REPOSITORY,
                env={"PATH": os.environ["PATH"], **{name: str(value) for name, value in variables.items()}},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield watcher
    for process in started:
        process.kill()
        process.communicate()


def run_count(port: int, outcome: str) -> float:
    """How many runs had this outcome."""
    return scraped(port).get(("verify_runs_total", frozenset({("outcome", outcome)})), 0)


def test_every_row_is_scraped_and_nothing_else(start: Start, world: World) -> None:
    """A watcher outlives a missing store; once it is there, each row of the table is served and no other."""
    folder, port = world.settings.data_dir, free_port()
    write(folder / "drills", OVER)
    store = world.settings.results_path
    away = store.rename(store.with_suffix(".away"))
    watcher = start(STACK="embedded", DATA_DIR=folder, VERIFIER_METRICS_PORT=port, VERIFY_SECONDS=0.1)
    wait_until(lambda: run_count(port, "unknown") == 1, "a run that could not tell")
    assert not [name for name, _ in scraped(port) if name in {"verify_rows", "verify_dead_letters"}]
    away.rename(store)
    wait_until(lambda: run_count(port, "exact") == 1, "an exact run", 120)
    found, expected = scraped(port), set()
    for metric in METRICS:
        expected |= names_of(metric)
    assert {name for name, _ in found if not name.startswith("process_")} == expected
    assert ("process_resident_memory_bytes", frozenset()) in found
    labels = {name: {label for label, _ in pairs} - {"le"} for name, pairs in found}
    for metric in METRICS:
        assert all(labels[name] == set(metric.labels) for name in names_of(metric)), metric.name
    assert found["verify_rows", frozenset({("table", "page_totals"), ("verdict", "exact")})] == 12
    assert health(port) == (200, "ok\n")
    watcher.send_signal(signal.SIGTERM)
    output, _ = watcher.communicate(timeout=10)
    assert watcher.returncode == 0
    assert [line.split("verifier INFO ")[1].partition(":")[0] for line in output.splitlines()] == [
        "unknown",
        "exact",
    ]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_the_middle_of_a_run(start: Start, tmp_path: Path, signum: int) -> None:
    """While a run waits for an answer that does not come, a signal ends the run and the watcher at once, with 0."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        cassandra = silent.getsockname()[1]
        watcher = start(DATA_DIR=tmp_path, CASSANDRA_PORT=cassandra, VERIFIER_METRICS_PORT=free_port())
        connection, _ = silent.accept()
        run = psutil.Process(watcher.pid).children()
        watcher.send_signal(signum)
        output, _ = watcher.communicate(timeout=5)
        connection.close()
    assert (watcher.returncode, output) == (0, "")
    assert len(run) == 1
    assert not run[0].is_running()


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
def test_an_address_that_cannot_be_opened_is_refused(start: Start, tmp_path: Path, host: str) -> None:
    """A taken port or another machine's address ends the watcher with 2 and one sentence that names the variables."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        watcher = start(DATA_DIR=tmp_path, VERIFIER_METRICS_PORT=port, LISTEN_HOST=host)
        output, _ = watcher.communicate(timeout=60)
    assert watcher.returncode == 2
    assert output.startswith(f"VERIFIER_METRICS_PORT={port} cannot be opened on LISTEN_HOST={host} (")
    assert output.count("\n") == 1


def test_drills_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    """A drill is in the metrics with the next scrape after it was written."""
    metrics = VerifierMetrics(DrillFiles(tmp_path).read)
    labels = {"fault": "engine-kill", "verdict": "exact"}
    assert value(metrics, "chaos_drills_total", **labels) is None
    write(tmp_path, OVER)
    assert value(metrics, "chaos_drills_total", **labels) == 1
