"""The demo: which stack it takes, what it shows, that it kills, proves and leaves nothing behind."""

import io
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from services.settings import REPOSITORY, Settings, base_environment, load_settings
from tests.ports import free_port
from tests.tools.stack_world import listening, wait_until
from tools.demo.__main__ import INTERRUPTED
from tools.demo.choice import choose
from tools.demo.view import LEGEND, PROOF_LEGEND, Story, closing_rows, plain_line, screen, shortfalls
from tools.demo.watch import Batches, Sample, Topic, newest_ranking, newest_windows, top_pages
from tools.progress import Committed
from tools.stack.events import EventLog
from tools.stack.monitors import has_prometheus
from tools.stack.processes import has_ended
from tools.stack.ready import free_port as chosen_port
from tools.verify.schema import Fact, Rows

WINDOWS: Rows = {
    ("campaign-01", 10_000): Fact((3,), 1),
    ("campaign-02", 20_000): Fact((5,), 2),
    ("campaign-03", 20_000): Fact((7,), 2),
}
RANKING: Rows = {
    (4_000, 2): Fact(("/b", 1), 4),
    (4_000, 1): Fact(("/a", 2), 4),
    (2_000, 1): Fact(("/c", 9), 2),
}
TOTALS: Rows = {("/page/001",): Fact((70_000,), 4), ("/page/002",): Fact((80_000,), 4)}


def demo(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """The command on a free port, without a terminal and without monitoring."""
    environment = {
        **base_environment(),
        "METRICS_PORT": str(free_port()),
        "MONITORING": "false",
        **variables,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tools.demo", "--data-dir", str(folder), *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def pids(folder: Path) -> list[int]:
    """Every process that a stack in the folder has started."""
    events = EventLog(folder / "events.jsonl").read()
    return [event.facts["pid"] for event in events if event.kind in {"start", "restart"}]


def running(folder: Path) -> list[int]:
    """Those of them that still run."""
    return [pid for pid in pids(folder) if psutil.pid_exists(pid) and not has_ended(psutil.Process(pid))]


def sample(**more: object) -> Sample:
    """A look at a pipeline that has been busy for long."""
    jobs = {"campaign_windows": 1_000_000, "trending_pages": 100_000, "page_totals": 100_000}
    busy = Batches(100_000, 1_000, 10, 12.345, jobs)
    values = {
        "topics": {
            "ad-events": Topic(1_234_567.0, 10**10, 10**9),
            "page-views": Topic(None, 10**9, None),
        },
        "batches": busy,
        "commit": Committed(1_795_383_816_000),
        "starts": 1_000,
        "tables": {"campaign_windows": WINDOWS, "trending_pages": RANKING, "page_totals": TOTALS},
    }
    return Sample(**{**values, **more})  # type: ignore[arg-type]  # a test may replace any of them


def shown(story: Story, look: Sample) -> list[str]:
    """The lines on a screen of 80 columns."""
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(screen(story, look, Settings()))
    return capture.get().splitlines()


@pytest.mark.slow
def test_demo_on_the_embedded_stack_ends_with_the_verdict(tmp_path: Path) -> None:
    """It says its stack, has Prometheus where installed, kills the engine, shows recovery and rows, proves all, ends all."""
    process = demo(tmp_path, "--kill-after", "5", "--go-on", "4", STACK="embedded", MONITORING="")
    printed, said = process.communicate(timeout=100)
    assert process.returncode == 0, printed + said
    lines = printed.splitlines()
    assert lines[0] == "stack: embedded, because STACK=embedded was asked for"
    assert any("kill -9 of the engine, pid" in line for line in lines)
    assert any("restarted as pid" in line and "first new commit after" in line for line in lines)
    assert lines[-1].startswith("verify: windows=")
    assert "missing=0 over=0 wrong=0" in lines[-1]
    for table in ("campaign_windows", "trending_pages", "page_totals"):
        assert any(line.startswith(table) and "rows 0 " not in line for line in lines)
    assert max(map(len, lines)) <= 80
    assert len(pids(tmp_path)) == (5 if has_prometheus() else 3)
    assert any(line.startswith("streaming page http://127.0.0.1:") for line in lines)
    assert any("  Prometheus http://127.0.0.1:" in line for line in lines) == has_prometheus()
    assert (
        any(line.startswith("for Prometheus as well: apt-get install") for line in lines) != has_prometheus()
    )
    assert any(line.startswith("top pages of the window") for line in lines)
    assert any(line.startswith("  1  /page/") and line.endswith(" views") for line in lines)
    assert running(tmp_path) == []


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.timeout(300)
def test_demo_on_real_servers_ends_with_the_verdict(tmp_path: Path) -> None:
    """With Java it starts a Kafka and a Cassandra of its own, and stops them too."""
    settings = load_settings()
    process = demo(tmp_path, "--kill-after", "6", "--go-on", "5", JARS_DIR=str(settings.jars_dir))
    printed, said = process.communicate(timeout=280)
    assert process.returncode == 0, printed + said
    lines = printed.splitlines()
    assert lines[0] == "stack: processes, a real Kafka and Cassandra"
    assert "missing=0 over=0 wrong=0" in lines[-1]
    assert len(pids(tmp_path)) == 5
    assert running(tmp_path) == []


@pytest.mark.slow
@pytest.mark.spark
@pytest.mark.timeout(500)
def test_demo_on_spark_survives_a_worker_and_the_driver(tmp_path: Path) -> None:
    """With BACKEND=spark the jobs run on a cluster, a worker and then the driver are killed, and every row is exact."""
    process = demo(tmp_path, "--kill-after", "8", STACK="embedded", BACKEND="spark")
    printed, said = process.communicate(timeout=480)
    assert process.returncode == 0, printed + said
    lines = printed.splitlines()
    assert lines[1] == "backend: a standalone Spark cluster, one master and two workers"
    assert any("kill -9 of Spark's worker-" in line for line in lines)
    assert any("next commit" in line and "after the worker's death" in line for line in lines)
    assert any("restarted as pid" in line for line in lines)
    assert "missing=0 over=0 wrong=0" in lines[-1]
    assert running(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_stops_what_it_started(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C or SIGTERM ends the demo, and every process that it has started."""
    process = demo(tmp_path, STACK="embedded")
    wait_until(lambda: len(pids(tmp_path)) == 2, 60)
    process.send_signal(number)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, printed + said
    assert "interrupted; everything that the demo started has been stopped" in printed
    assert running(tmp_path) == []


@pytest.mark.slow
def test_killed_demo_leaves_no_process(tmp_path: Path) -> None:
    """Even a demo that is killed with -9 takes everything that it has started with it."""
    process = demo(tmp_path, STACK="embedded")
    wait_until(lambda: len(pids(tmp_path)) == 2, 60)
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: running(tmp_path) == [], 60)


@pytest.mark.slow
def test_second_demo_in_a_folder_is_refused(tmp_path: Path) -> None:
    """Two demos at once never empty each other's folder."""
    first = demo(tmp_path, STACK="embedded")
    wait_until(lambda: len(pids(tmp_path)) == 2, 60)
    second = demo(tmp_path, STACK="embedded")
    printed, said = second.communicate(timeout=60)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert second.returncode == 2
    assert f"--data-dir='{tmp_path}' is used by a demo that runs now" in said
    assert printed.count("\n") == 1


def test_machine_without_java_gets_the_embedded_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Java and Maven are not on PATH the demo takes the embedded stack and says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    settings, line, _ = choose(Settings(jars_dir=tmp_path / "jars"), tmp_path / "demo")
    assert settings.stack == "embedded"
    assert line == (
        "stack: embedded, because Java and Maven were not found (install a JDK 17 and Maven for the real servers)"
    )


def test_another_java_gets_the_embedded_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Java that Cassandra does not run on counts as none, and its version is named."""
    for name, said in (("java", 'openjdk version "21.0.2" 2024-01-16'), ("mvn", "")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    choice = choose(Settings(jars_dir=tmp_path / "jars"), tmp_path / "demo")
    assert choice.settings.stack == "embedded"
    assert (
        choice.line == "stack: embedded, because the Java found is 21 (install a JDK 17 for the real servers)"
    )


def test_demo_has_its_own_folder_and_ports(tmp_path: Path) -> None:
    """Folder and checkpoints are the demo's, a taken port is replaced, a free one kept, and Kafka is found at its own port."""
    with listening() as taken:
        wanted = Settings(stack="embedded", kafka_port=taken, metrics_port=free_port(), seed=5)
        settings = choose(wanted, tmp_path / "demo").settings
        assert settings.kafka_port != taken
    assert settings.metrics_port == wanted.metrics_port
    assert settings.kafka_bootstrap == f"127.0.0.1:{settings.kafka_port}"
    assert (settings.data_dir, settings.checkpoint_dir) == (
        tmp_path / "demo",
        tmp_path / "demo" / "checkpoints",
    )
    assert settings.seed == 5


def test_demo_watches_itself_where_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Monitoring is on where Prometheus is installed and nobody has said otherwise; else one line says how to have it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    asked = Settings(stack="embedded")
    without = choose(asked, tmp_path / "demo")
    assert (without.settings.monitoring, without.hint) == (
        False,
        "for Prometheus as well: apt-get install prometheus (Debian)",
    )
    program = tmp_path / "prometheus"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert choose(asked, tmp_path / "demo").settings.monitoring
    unwanted = choose(Settings(stack="embedded", monitoring=False), tmp_path / "demo")
    assert (unwanted.settings.monitoring, unwanted.hint) == (False, "")


def test_chosen_ports_all_differ() -> None:
    """The same port is never given twice."""
    taken: set[int] = set()
    ports = [chosen_port(31_999, taken) for _ in range(3)]
    assert len(set(ports)) == 3


def test_screen_fits_into_eighty_columns_and_twenty_four_lines() -> None:
    """Large numbers, a long story and a slow engine do not break the screen, and no engine shows as such."""
    addresses = "streaming page http://127.0.0.1:19108/  Prometheus http://127.0.0.1:19090/"
    story = Story(seconds=83.4, now="running; kill -9 of the engine at 0:20", addresses=addresses)
    for number in range(9):
        story.tell(f"restarted as pid 4000{number} after 0.02 s, first new commit after 1.31 s")
    for look in (sample(), sample(batches=None), sample(tables={"page_totals": {}})):
        lines = shown(story, look)
        assert len(lines) <= 22  # with the first line and the cursor's: 24
        assert max(map(len, lines)) <= 80
    assert any("the engine is down" in line for line in shown(story, sample(batches=None)))


def test_plain_line_fits_into_eighty_columns() -> None:
    """Without a terminal a look is one line."""
    usual = sample(
        topics={"ad-events": Topic(1_027.0, 23_012, 980), "page-views": Topic(513.0, 11_500, 490)},
        batches=Batches(20, 0, 0, 0.14, {}),
    )
    line = plain_line(Story(seconds=20), usual, Settings())
    assert line == "0:20  ad-events 1,027/s lag 980  page-views 513/s lag 490  batch 0.14/1 s"
    assert plain_line(Story(), sample(batches=None), Settings()) == "0:00  the engine is down"
    young = sample(topics={"ad-events": Topic(None, 0, 0)}, batches=Batches(0, 0, 0, 0.0, {}))
    assert plain_line(Story(), young, Settings()) == "0:00  ad-events starts  no batch yet"
    assert max(map(len, (LEGEND, *PROOF_LEGEND))) <= 80


def test_closing_rows_are_the_newest_top_pages() -> None:
    """The demo ends with the newest window's pages by rank; without a row it shows none."""
    assert list(closing_rows(sample())) == [
        "top pages of the window that ended at 00:00:04 (trending_pages)",
        "  1  /a  2 views",
        "  2  /b  1 views",
    ]
    assert list(closing_rows(sample(tables={}))) == []


def test_newest_rows_are_shown() -> None:
    """Of each table the rows of its newest window, the most viewed first."""
    assert newest_windows(WINDOWS, 1) == [(20_000, "campaign-03", 7)]
    assert newest_ranking(RANKING, 5) == [(4_000, "/a", 2), (4_000, "/b", 1)]
    assert top_pages(TOTALS, 1) == [("/page/002", 80_000)]
    assert newest_windows({}, 5) == []


def test_shortfalls_name_empty_tables_and_a_missing_kill() -> None:
    """A demo in which a job wrote nothing, or nobody was killed, has not shown its point."""
    assert list(shortfalls({"a": 1, "b": 0}, 0, ["a", "b", "c"])) == [
        "table b has no row",
        "table c has no row",
        "the engine was not killed",
    ]
    assert list(shortfalls({"a": 1}, 1, ["a"])) == []
