"""What `scripts/stack` prints and refuses, and which folders and ports it leaves alone."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from engine.errors import ConfigurationError
from services.settings import REPOSITORY, Settings, base_environment
from tests.ports import setting_ports
from tests.tools.stack_world import a_stack, embedded, listening, pid_of, state_of
from tools.stack import jars
from tools.stack.api import Stack
from tools.stack.cli import main
from tools.stack.events import EventLog
from tools.stack.folder import Folder
from tools.stack.programs import Program, Record
from tools.stack.ready import check_ports
from tools.stack.servers import server_ports
from tools.stack.supervisor import Child

COMMANDS = ("up", "down", "start", "kill", "pause", "resume", "status", "env")


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """The settings of an embedded stack that is ended after the test."""
    made = embedded(tmp_path)
    yield made
    a_stack(made).down()


def run_stack(
    settings: Settings, *arguments: str, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    """`scripts/stack`, run to its end with these settings."""
    environment = base_environment() | settings.environment()
    return subprocess.run(
        [str(REPOSITORY / "scripts" / "stack"), *arguments],
        cwd="/",
        env=environment if path is None else environment | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def width(text: str) -> int:
    """Columns of the widest line."""
    return max(map(len, text.splitlines()))


@pytest.mark.slow
def test_script_explains_itself_from_any_folder() -> None:
    """`scripts/stack --help` lists the commands and the exit codes, wherever it is called from, within 80 columns."""
    overview = run_stack(Settings(), "--help").stdout
    assert all(f"  {command} " in overview for command in COMMANDS)
    assert "Exit codes: 0 done, 1 failed, 2 refused" in overview
    assert width(overview) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_in_eighty_columns(command: str) -> None:
    """`--help` of a command says what it does, within 80 columns."""
    done = CliRunner().invoke(main, [command, "--help"], prog_name="scripts/stack")
    assert done.exit_code == 0
    assert f"Usage: scripts/stack {command}" in done.output
    assert width(done.output) <= 80


def test_status_names_a_stack_in_containers(settings: Settings) -> None:
    """Where a stack in containers is up, `status` says whom to ask and shows no table of processes that do not run."""
    settings.data_dir.mkdir(parents=True)
    (settings.data_dir / "compose").write_text('{"profile": "full", "project": "mine"}')

    done = CliRunner().invoke(main, ["status"], env=settings.environment())

    assert (done.exit_code, done.output) == (
        0,
        "the stack that is up runs in containers; ask docker compose ps\n",
    )


@pytest.mark.slow
def test_status_is_a_table_of_eighty_columns(settings: Settings) -> None:
    """`status` shows each process with state, pid, uptime, restarts, log and the address that it was given, and why one does not run."""
    stack = a_stack(settings, producer=("sh", "-c", "echo AD_RATE is wrong; exit 2"))
    with pytest.raises(ConfigurationError):
        stack.up()
    stack.start("engine")
    done = run_stack(settings, "status")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["name", "state", "pid", "uptime", "restarts", "address", "log"]
    assert lines[1].split()[:5] == ["producer", "refused", "-", "-", "0"]
    assert lines[1].split()[5:] == [f"127.0.0.1:{settings.producer_metrics_port}", "producer.log"]
    engine = lines[2].split()
    assert engine[:3] == ["engine", "running", str(pid_of(stack, "engine"))]
    assert engine[4:] == ["0", f"127.0.0.1:{settings.metrics_port}", "engine.log"]
    elsewhere = settings.model_copy(update={"metrics_port": 1})
    assert run_stack(elsewhere, "status").stdout.splitlines()[2].split()[4:] == engine[4:]
    assert width("\n".join(lines[:3])) <= 80
    assert lines[3] == f"logs in {settings.data_dir / 'logs'}"
    assert lines[4] == "producer: it refused to start (exit code 2): AD_RATE is wrong"


@pytest.mark.slow
def test_env_is_what_a_shell_can_read(settings: Settings) -> None:
    """`env` prints every setting as an export, and a shell that evaluates them has the settings."""
    done = run_stack(settings, "env")
    shell = subprocess.run(
        ["sh", "-c", f'{done.stdout}\necho "$DATA_DIR $KAFKA_BOOTSTRAP $METRICS_PORT $JOBS"'],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    told = (
        f"{settings.data_dir} {settings.kafka_bootstrap} {settings.metrics_port} {','.join(settings.jobs)}\n"
    )
    assert shell.stdout == told
    assert len(done.stdout.splitlines()) == len(Settings.model_fields)


@pytest.mark.slow
def test_kill_pause_and_resume_say_what_they_did(settings: Settings) -> None:
    """Each command prints one line; the signal can be chosen, and one that does not exist is refused."""
    stack = a_stack(settings)
    stack.up()
    pid = pid_of(stack, "engine")
    assert run_stack(settings, "pause", "engine").stdout == f"engine: paused, pid {pid}\n"
    assert run_stack(settings, "resume", "engine").stdout == f"engine: resumed, pid {pid}\n"
    assert run_stack(settings, "kill", "engine", "--signal", "term").stdout == "engine: sent SIGTERM\n"
    refused = run_stack(settings, "kill", "engine", "--signal", "NOTHING")
    assert refused.returncode == 2
    assert "'NOTHING' is not a signal; try KILL or TERM" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("start", "kafka"), "STACK='embedded' has no process 'kafka'; choose from producer, engine\n"),
        (
            ("up", "engine", "grafana"),
            "STACK='embedded' has no process 'grafana'; choose from producer, engine\n",
        ),
        (("kill", "engine"), "engine does not run; start it with `scripts/stack start engine`\n"),
        (
            ("down", "--wipe"),
            "DATA_DIR='{0}' has no stack.json and does not look like a stack's folder; nothing was removed\n",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    """An unknown name, a process that does not run, a folder of somebody else: one sentence, exit code 2, nothing else."""
    settings = embedded(tmp_path)
    settings.data_dir.mkdir()
    (settings.data_dir / "notes.txt").write_text("mine")
    done = run_stack(settings, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == sentence.format(settings.data_dir)
    assert (settings.data_dir / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_missing_java_is_named_with_its_package(tmp_path: Path) -> None:
    """Where java and mvn are not on PATH, `up` of the real servers says what to install and ends with 2."""
    settings = Settings(data_dir=tmp_path / "stack", jars_dir=tmp_path / "jars")
    done = run_stack(settings, "up", path=str(tools_without_java(tmp_path)))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "STACK='processes' needs java and mvn, not found on PATH; install it "
        "(Debian: apt-get install openjdk-17-jre-headless maven) or set STACK=embedded\n"
    )


def tools_without_java(folder: Path) -> Path:
    """A folder for PATH with what a shell script needs, and no more."""
    tools = folder / "bin"
    tools.mkdir()
    for name in ("sh", "dirname"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    return tools


def test_wrong_java_is_named_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Java on which Cassandra does not run is refused with the version that was found."""
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"21.0.2\" 2024-01-16' >&2\n")
    java.chmod(0o755)
    (tmp_path / "mvn").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(ConfigurationError, match=r"needs Java 17 .* is 21; put Java 17 first on PATH"):
        jars.check_programs(tmp_path / "jars")


@pytest.mark.slow
def test_taken_port_is_named_before_anything_starts(settings: Settings) -> None:
    """A port that somebody holds is refused with variable, port, holder and remedy, and nothing was started."""
    with listening() as port:
        stack = a_stack(settings.model_copy(update={"metrics_port": port}))
        with pytest.raises(ConfigurationError) as refusal:
            stack.up()
    assert str(refusal.value) == (
        f"METRICS_PORT={port} is taken by process {os.getpid()} ({psutil.Process().name()}); end that or set METRICS_PORT to a free port"
    )
    assert [status.state.value for status in stack.status()] == ["stopped", "stopped"]


@pytest.mark.parametrize(
    "variable",
    [
        "KAFKA_PORT",
        "KAFKA_CONTROLLER_PORT",
        "KAFKA_METRICS_PORT",
        "CASSANDRA_PORT",
        "CASSANDRA_STORAGE_PORT",
        "CASSANDRA_JMX_PORT",
        "CASSANDRA_METRICS_PORT",
    ],
)
def test_each_port_of_the_servers_is_looked_at(variable: str) -> None:
    """Every port that a server listens on is checked under its variable's name."""
    with listening() as port:
        settings = Settings.model_validate(setting_ports() | {variable.lower(): port, "monitoring": True})
        with pytest.raises(ConfigurationError, match=f"{variable}={port} is taken by"):
            check_ports(server_ports(settings, "kafka") | server_ports(settings, "cassandra"))


@pytest.mark.slow
def test_other_settings_are_refused_while_the_stack_runs(settings: Settings) -> None:
    """A running stack cannot be extended with other settings: the first that differs is named; after `down` they hold."""
    a_stack(settings).up(["producer"])
    other = a_stack(settings.model_copy(update={"ad_rate": 7}))
    with pytest.raises(
        ConfigurationError,
        match=r"AD_RATE='7', but the stack in .* runs with '1000'; set AD_RATE to that, or run .* down",
    ):
        other.up()
    other.down()
    other.up(["producer"])
    assert state_of(other, "producer") == "running"


@pytest.mark.slow
def test_wipe_removes_all_but_the_jars(tmp_path: Path) -> None:
    """`down --wipe` empties DATA_DIR and leaves the jars that lie in it."""
    settings = embedded(tmp_path, jars_dir=tmp_path / "stack" / "jars")
    settings.jars_dir.mkdir(parents=True)
    (settings.jars_dir / "one.jar").touch()
    stack = a_stack(settings)
    stack.up()
    stack.down(wipe=True)
    assert [path.name for path in settings.data_dir.rglob("*")] == ["jars", "one.jar"]
    stack.down(wipe=True)


def test_folder_of_somebody_else_is_not_filled(tmp_path: Path) -> None:
    """`up` refuses a folder that holds something foreign, by that thing's name."""
    (tmp_path / "stack").mkdir()
    (tmp_path / "stack" / "thesis.tex").touch()
    with pytest.raises(ConfigurationError, match=r"not a stack's folder, it holds 'thesis\.tex'"):
        Stack(embedded(tmp_path)).up()
    assert [path.name for path in (tmp_path / "stack").iterdir()] == ["thesis.tex"]


def test_down_of_a_stack_that_never_was_does_nothing(tmp_path: Path) -> None:
    """`down` in a folder that is not there makes no folder and no error."""
    stack = Stack(embedded(tmp_path))
    stack.down()
    stack.down(wipe=True)
    assert not (tmp_path / "stack").exists()


def test_event_that_is_half_written_is_left_out(tmp_path: Path) -> None:
    """A reader of the history sees whole lines only."""
    log = EventLog(tmp_path / "events.jsonl")
    log.append("engine", "start", pid=1)
    log.append("engine", "death", pid=1, signal="SIGKILL")
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"time": 1')
    assert [(event.kind, dict(event.facts)) for event in log.read()] == [
        ("start", {"pid": 1}),
        ("death", {"pid": 1, "signal": "SIGKILL"}),
    ]


@pytest.mark.slow
def test_large_log_is_begun_anew_at_a_start(tmp_path: Path) -> None:
    """A log of more than 20 MB is put aside before a process starts; one old log is kept."""
    folder = Folder(tmp_path)
    folder.make()
    log = folder.logs / "engine.log"
    with log.open("w") as file:
        file.truncate(20_000_001)
    child = Child(Record(Program("engine", ("true",), {}, str(log))), folder, EventLog(folder.events))
    child.start("start")
    child.stopped()
    assert log.stat().st_size == 0
    assert (folder.logs / "engine.log.1").stat().st_size == 20_000_001


def test_changed_version_means_another_folder_for_its_jars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jars are kept under the checksum of what the pom says of them: a new version of one server fetches that one alone."""
    monkeypatch.setenv("PATH", str(tmp_path))
    pom = tmp_path / "pom.xml"
    pom.write_text(jars.POM.read_text())
    monkeypatch.setattr(jars, "POM", pom)
    for profile in (*jars.SERVERS, jars.AGENT):
        jars._jar_folder(tmp_path, profile).mkdir()
    assert jars.missing_programs(tmp_path, (*jars.SERVERS, jars.AGENT)) == ["java"]
    pom.write_text(re.sub(r"<version.jmx>.*?<", "<version.jmx>0<", pom.read_text()))
    assert jars.missing_programs(tmp_path) == ["java"]
    assert jars.missing_programs(tmp_path, [jars.AGENT]) == ["java", "mvn"]
    pom.write_text(re.sub(r"<version.kafka>.*?<", "<version.kafka>0<", pom.read_text()))
    assert jars.missing_programs(tmp_path) == ["java", "mvn"]
