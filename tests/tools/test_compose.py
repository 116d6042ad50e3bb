"""What the tools read from Docker: how a container stands, which project is meant, and what is said when there is none."""

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigurationError, StreamingError
from services.settings import Settings
from tools.chaos.volume import SmallVolume
from tools.stack.api import Stack
from tools.stack.compose import ComposeStack, project_of
from tools.stack.docker import container_of, docker, signal_of
from tools.stack.folder import write_json
from tools.stack.programs import State


def told(status: str, exit_code: int = 0, pid: int = 0, policy: str = "unless-stopped") -> dict[str, Any]:
    """What `docker inspect` tells of a container, as far as it is read."""
    return {
        "Id": "4f1c",
        "State": {"Status": status, "ExitCode": exit_code, "Pid": pid},
        "RestartCount": 3,
        "HostConfig": {
            "RestartPolicy": {"Name": policy},
            "PortBindings": {"9092/tcp": [{"HostIp": "127.0.0.1", "HostPort": "19092"}]},
        },
        "Config": {
            "Labels": {"com.docker.compose.service": "kafka"},
            "Image": "apache/kafka:4.3.1",
            "Env": ["A=b=c", "EMPTY="],
            "User": "1000:1000",
        },
        "Mounts": [
            {"Type": "volume", "Name": "x_kafka-data", "Destination": "/var/lib/kafka/data"},
            {"Type": "bind", "Source": "/etc/x", "Destination": "/x"},
        ],
        "NetworkSettings": {"Networks": {"x_data": {}, "x_servers": {}}},
    }


@pytest.mark.parametrize(
    ("status", "exit_code", "state", "reason"),
    [
        ("running", 0, State.RUNNING, ""),
        ("paused", 0, State.PAUSED, ""),
        ("created", 0, State.STOPPED, "it was never started"),
        ("exited", 0, State.ENDED, "it ended by itself (exit code 0)"),
        ("exited", 137, State.DOWN, "it died (exit code 137)"),
        ("exited", 2, State.REFUSED, "it refused to start (exit code 2); see its log"),
        ("restarting", 2, State.REFUSED, "it refused to start (exit code 2); see its log"),
        ("restarting", 1, State.WAITING, "it died (exit code 1) and is started again in a moment"),
        ("dead", 1, State.DOWN, "it died (exit code 1)"),
    ],
)
def test_standing_of_a_container(status: str, exit_code: int, state: State, reason: str) -> None:
    """Each state that Docker has is one of the stack's, with the reason for a container that does not run."""
    container = container_of(told(status, exit_code))
    assert (container.state, container.reason) == (state, reason)


def test_container_tells_what_the_drills_need() -> None:
    """A container has its service's name, pid, networks, variables and published ports; a one-shot does not last."""
    container = container_of(told("running", pid=41))
    assert (container.name, container.pid, container.restarts) == ("kafka", 41, 3)
    assert container.networks == {"x_data", "x_servers"}
    assert container.environment == {"A": "b=c", "EMPTY": ""}
    assert container.ports == {9092: 19092}
    assert container.volumes == {"/var/lib/kafka/data": "x_kafka-data"}
    assert (container.user, container.is_twin) == ("1000:1000", False)
    assert container.is_lasting
    assert container_of(told("exited")).pid is None
    assert not container_of(told("exited", policy="no")).is_lasting


def test_death_by_kill_is_told_from_any_other() -> None:
    """Exit code 137 is a SIGKILL; any other code is the program's own."""
    assert [signal_of(code) for code in (137, 1, 0)] == ["SIGKILL", None, None]


def test_project_is_the_running_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The marker in DATA_DIR names the project; without it the variable does, and then the compose file's name holds."""
    settings = Settings(stack="compose", data_dir=tmp_path)
    monkeypatch.delenv("COMPOSE_PROJECT_NAME", raising=False)
    assert project_of(settings) == "dstreams"
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "mine")
    assert project_of(settings) == "mine"
    write_json(tmp_path / "compose", {"profile": "light", "project": "theirs"})
    assert project_of(settings) == "theirs"


@pytest.fixture
def fake_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that is found as `docker`; it does what its text says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "docker"
    program.write_text("#!/bin/sh\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))
    assert shutil.which("docker") == str(program)
    return program


def test_machine_without_docker_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there is no `docker`, the sentence names it and the remedy."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ConfigurationError, match="STACK='compose' needs Docker, and there is no `docker`; install it"
    ):
        docker("ps")


def test_failed_command_is_told_by_its_last_line(fake_docker: Path) -> None:
    """A command that Docker refuses is an error with Docker's own last line."""
    fake_docker.write_text(
        "#!/bin/sh\necho first >&2\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n"
    )
    with pytest.raises(
        StreamingError, match="`docker network connect` failed: Cannot connect to the Docker daemon"
    ):
        docker("network", "connect", "x", "y")


def test_twin_hides_the_container_whose_place_it_takes(fake_docker: Path, tmp_path: Path) -> None:
    """While a service has a twin, whoever asks for the service gets that one and not its own container."""
    own, twin = told("exited"), told("running", pid=7)
    twin["Config"]["Labels"] = {"com.docker.compose.service": "kafka-twin", "dstreams.twin-of": "kafka"}
    fake_docker.write_text(
        "#!/bin/sh\n"
        f"case $1 in ps) echo twin own ;; inspect) echo '{json.dumps([twin | {'Id': 'twin'}, own])}' ;; esac\n"
    )
    stack = ComposeStack(Settings(stack="compose", data_dir=tmp_path), project="x")
    assert [(one.name, one.id, one.pid, one.is_twin) for one in stack.status()] == [
        ("kafka", "twin", 7, True)
    ]


def test_small_volume_is_for_containers(tmp_path: Path) -> None:
    """A stack of plain processes is refused with the reason."""
    stack = Stack(Settings(stack="embedded", data_dir=tmp_path))
    with pytest.raises(ConfigurationError, match="cannot be filled without root; use STACK=compose"):
        SmallVolume(stack, print)


def test_project_without_containers_is_refused(fake_docker: Path, tmp_path: Path) -> None:
    """A stack that is not there is refused with the command that makes it."""
    assert fake_docker.exists()
    stack = ComposeStack(Settings(stack="compose", data_dir=tmp_path), project="nobody")
    with pytest.raises(ConfigurationError, match="project 'nobody' has no containers; run `make up`"):
        stack.up()


def test_services_at_work_are_told_in_one_line(fake_docker: Path, tmp_path: Path) -> None:
    """Services that nobody had to wait for are told of together and not each by name."""
    producer, verifier = told("running", pid=7), told("running", pid=8)
    producer["Config"]["Labels"] = {"com.docker.compose.service": "producer"}
    verifier["Config"]["Labels"] = {"com.docker.compose.service": "verifier"}
    fake_docker.write_text(
        f"#!/bin/sh\ncase $1 in ps) echo a b ;; inspect) echo '{json.dumps([producer, verifier])}' ;; esac\n"
    )
    said: list[str] = []
    ComposeStack(Settings(stack="compose", data_dir=tmp_path), project="x", report=said.append).up()
    assert [line.split(" after ")[0] for line in said] == ["all services are at work"]
