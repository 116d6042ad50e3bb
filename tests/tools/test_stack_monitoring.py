"""What MONITORING=true adds to a stack of plain processes, and what it refuses; a small server stands in for Prometheus."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.errors import ConfigurationError
from services.settings import Settings
from tests.tools.stack_world import STEADY, embedded, listening, now, pid_of
from tools.progress import Progress
from tools.stack.api import Stack
from tools.stack.cli import main

ANSWERING = """
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *words): pass
port = next(word.rpartition(":")[2] for word in sys.argv if word[-1].isdigit() and ":" in word)
http.server.HTTPServer(("127.0.0.1", int(port)), Page).serve_forever()
"""
"""Answers every question on the port at the end of an argument."""
MONITORS = ["verifier", "prometheus"]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The settings of an embedded stack with monitoring that is ended after the test; `prometheus` on PATH is a stand-in."""
    program = tmp_path / "bin" / "prometheus"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{ANSWERING}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    made = embedded(tmp_path, monitoring=True)
    yield made
    Stack(made).down()


def a_stack(settings: Settings) -> Stack:
    """A stack of stand-ins."""
    verifier = (sys.executable, "-c", ANSWERING, f"at:{settings.verifier_metrics_port}")
    return Stack(
        settings, commands={"engine": STEADY, "producer": STEADY, "verifier": verifier}, is_tied=True
    )


def test_stack_without_monitoring_has_no_monitors(tmp_path: Path) -> None:
    """Prometheus and the verifier are members of a stack only when MONITORING says so."""
    assert Stack(Settings(data_dir=tmp_path)).names == ("kafka", "cassandra", "producer", "engine")
    assert Stack(Settings(data_dir=tmp_path, monitoring=True)).names[4:] == tuple(MONITORS)
    assert Stack(embedded(tmp_path, monitoring=True)).names == ("producer", "engine", *MONITORS)


@pytest.mark.slow
def test_monitors_start_beside_the_services_and_end_with_them(settings: Settings) -> None:
    """`up` returns when the monitors answer; one that is killed is started again; `down` ends them."""
    stack = a_stack(settings)
    stack.up()
    assert {status.name: status.state.value for status in stack.status()} == dict.fromkeys(
        ("producer", "engine", *MONITORS), "running"
    )

    began, first = now(), pid_of(stack, "prometheus")
    stack.kill("prometheus")
    restart = stack.wait_for("prometheus", "restart", after=began)
    assert restart.facts["pid"] != first
    assert next(status.restarts for status in stack.status() if status.name == "engine") == 0

    stack.down()
    assert {status.pid for status in stack.status()} == {None}


@pytest.mark.fault(
    47, "SIGKILL of a stand-in for Prometheus beside a real embedded engine; it does not come back"
)
@pytest.mark.slow
def test_engine_commits_while_prometheus_is_away(settings: Settings) -> None:
    """An engine goes on committing, in the same process, when Prometheus is killed and every new start of it fails."""
    verifier = (sys.executable, "-c", ANSWERING, f"at:{settings.verifier_metrics_port}")
    stack = Stack(settings, commands={"verifier": verifier}, is_tied=True)
    progress = Progress(settings)
    stack.up()
    progress.await_newer(0, 60.0)
    engine, killed = pid_of(stack, "engine"), now()
    (settings.data_dir.parent / "bin" / "prometheus").write_text("#!/bin/sh\nexit 1\n")
    stack.kill("prometheus")
    stack.wait_for("prometheus", "restart", after=killed)
    away = progress.newest().time
    progress.await_newer(progress.await_newer(away, 60.0).time, 60.0)

    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", settings.prometheus_port)) != 0
    assert pid_of(stack, "engine") == engine
    progress.close()


@pytest.mark.slow
def test_targets_of_an_embedded_stack_are_its_own_processes(settings: Settings) -> None:
    """Prometheus finds the processes that there are, on the ports of the settings, and no server."""
    a_stack(settings).up(["prometheus"])
    written = json.loads((settings.data_dir / "conf" / "prometheus" / "targets" / "stack.json").read_text())

    assert {target["labels"]["service"]: target["targets"] for target in written} == {
        "engine": [f"127.0.0.1:{settings.metrics_port}"],
        "producer": [f"127.0.0.1:{settings.producer_metrics_port}"],
        "verifier": [f"127.0.0.1:{settings.verifier_metrics_port}"],
        "prometheus": [f"127.0.0.1:{settings.prometheus_port}"],
    }


@pytest.mark.slow
def test_who_does_not_say_gets_the_monitoring_that_runs(settings: Settings) -> None:
    """Where MONITORING is not given, the running stack's holds; given otherwise, it is refused; after `down` it is off."""
    stack = a_stack(settings)
    stack.up(["producer"])
    silent = Settings.model_validate(settings.model_dump(exclude={"monitoring"}))

    assert Stack(silent).names == stack.names
    with pytest.raises(ConfigurationError, match="MONITORING='False', but the stack in"):
        a_stack(settings.model_copy(update={"monitoring": False})).up()

    stack.down()
    assert Stack(silent).names == ("producer", "engine")


def test_missing_prometheus_is_named_with_its_package(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the program nothing starts, and one sentence says what to install."""
    monkeypatch.setenv("PATH", str(settings.data_dir))
    with pytest.raises(
        ConfigurationError,
        match=r"needs prometheus, not found on PATH; install it \(Debian: .*prometheus\) or set",
    ):
        a_stack(settings).up()


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("PRODUCER_METRICS_PORT", "producer"),
        ("VERIFIER_METRICS_PORT", "verifier"),
        ("PROMETHEUS_PORT", "prometheus"),
    ],
)
def test_each_port_of_metrics_is_looked_at(settings: Settings, variable: str, name: str) -> None:
    """Every port on which metrics are served is checked under its variable's name before anything starts."""
    with listening() as port, pytest.raises(ConfigurationError, match=f"{variable}={port} is taken by"):
        a_stack(settings.model_copy(update={variable.lower(): port})).up([name])


def test_stack_in_containers_is_not_started_as_processes(tmp_path: Path) -> None:
    """STACK=compose is refused in one sentence that names the command for it."""
    with pytest.raises(
        ConfigurationError, match=r"STACK='compose' runs in containers .* start it with `make up`"
    ):
        Stack(Settings(stack="compose", data_dir=tmp_path))


@pytest.mark.slow
def test_up_with_monitoring_says_where_to_look(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """`up --monitoring` starts the monitors that are asked for and prints both addresses within 80 columns."""
    for variable, value in settings.model_copy(update={"monitoring": False}).environment().items():
        monkeypatch.setenv(variable, value)

    said = CliRunner().invoke(main, ["up", "prometheus", "--monitoring"]).output

    assert f"streaming page http://127.0.0.1:{settings.metrics_port}/" in said
    assert f"Prometheus http://127.0.0.1:{settings.prometheus_port}/" in said
    assert max(len(line) for line in said.splitlines() if not line.startswith("logs in")) <= 80
