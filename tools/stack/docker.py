"""The Docker commands that the tools use, and what `docker inspect` tells of a container.

Owns: docker, docker_logs, kill_inside, Container, Happening, containers_of, look, happenings, project_labels, make_twin.
Never: a decision; compose.ComposeStack makes those.
"""

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import ConfigurationError, StreamingError
from tools.stack.programs import REFUSED, State

_SERVICE = "com.docker.compose.service"
_PROJECT = "com.docker.compose.project"
_ONE_OFF = "com.docker.compose.oneoff"
_TWIN_OF = "dstreams.twin-of"
"""Label of a container that takes a service's place for a while: the service's name."""
_COMMAND_SECONDS = 120.0
_STOP_SECONDS = 10
"""How long Docker gives a container that does not say."""
_KILLED = 137
"""The exit code of a container whose first process died by SIGKILL: 128 + 9."""

KILL_CHILD = """
for stat in /proc/[0-9]*/stat; do
  read -r pid name state parent rest <"$stat" || continue
  if [ "$parent" = 1 ]; then date +%s.%N && kill -9 "$pid" && exit 0; fi
done
echo "it has no process under its init" >&2
exit 1
"""
"""Runs inside the container: SIGKILL to the first child of init, whose death init turns into its own."""


@dataclass(frozen=True, slots=True)
class Container:
    """How one container of a project stands."""

    name: str
    """Of its service."""
    id: str
    state: State
    pid: int | None
    """Of its first process, by the host's count."""
    reason: str
    restarts: int
    """By its restart policy, since it was last started by hand."""
    is_lasting: bool
    """Whether it is meant to run on: no one-shot."""
    image: str
    networks: frozenset[str]
    environment: Mapping[str, str]
    ports: Mapping[int, int]
    """By the port inside the container the one that the host publishes for it."""
    volumes: Mapping[str, str]
    """By the folder inside the container the name of the volume that is mounted there."""
    user: str
    is_twin: bool
    """Whether it takes the place of the service's own container for a while."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that Docker noted of a container."""

    kind: str
    """death or start."""
    time: float
    """Seconds since the epoch."""
    exit_code: int
    """Of a death."""


def docker(*arguments: str, seconds: float = _COMMAND_SECONDS) -> str:
    """What a command of Docker prints.

    Raises:
        ConfigurationError: there is no Docker.
        StreamingError: the command failed, with the last line that it said.
    """
    try:
        done = subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, check=False, timeout=seconds
        )
    except FileNotFoundError:
        raise ConfigurationError(
            "STACK='compose' needs Docker, and there is no `docker`; install it, or use STACK=processes"
        ) from None
    except subprocess.TimeoutExpired as error:
        raise StreamingError(
            f"`docker {arguments[0]}` took more than {seconds:g} s; look at Docker's log"
        ) from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise StreamingError(f"`docker {' '.join(arguments[:2])}` failed: {said[-1]}")
    return done.stdout


def docker_logs(id_: str, after: float) -> str:
    """What a container has said since a moment, on both of its streams."""
    done = subprocess.run(
        ["docker", "logs", f"--since={after:.9f}", id_],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_COMMAND_SECONDS,
    )
    return done.stdout


def kill_inside(id_: str) -> float:
    """SIGKILL to the process that a container's init has started; returns when, in seconds since the epoch.

    The time is taken beside the process, by the clock that host and containers share: the command itself takes a quarter of a
    second. Its exit code says nothing, as it may die with the container.

    Raises:
        StreamingError: nobody was killed.
    """
    done = subprocess.run(
        ["docker", "exec", id_, "sh", "-c", KILL_CHILD],
        capture_output=True,
        text=True,
        check=False,
        timeout=_COMMAND_SECONDS,
    )
    if not done.stdout.strip():
        raise StreamingError(
            f"nothing was killed in the container: {done.stderr.strip() or 'it said nothing'}"
        )
    return float(done.stdout)


def containers_of(project: str) -> list[Container]:
    """The containers of a project, one-shots included, those of `docker compose run` left out."""
    ids = docker(
        "ps",
        "--all",
        "--quiet",
        "--filter",
        f"label={_PROJECT}={project}",
        "--filter",
        f"label={_ONE_OFF}=False",
    ).split()
    return look(ids)


def look(ids: Sequence[str]) -> list[Container]:
    """How containers stand now."""
    return [container_of(told) for told in json.loads(docker("inspect", *ids))] if ids else []


def container_of(told: dict[str, Any]) -> Container:
    """One entry of `docker inspect`."""
    state, labels = told["State"], told["Config"]["Labels"]
    standing, reason = _standing(state)
    return Container(
        name=labels.get(_TWIN_OF, labels[_SERVICE]),
        id=told["Id"],
        state=standing,
        pid=state["Pid"] or None,
        reason=reason,
        restarts=told["RestartCount"],
        is_lasting=told["HostConfig"]["RestartPolicy"]["Name"] not in {"", "no"},
        image=told["Config"]["Image"],
        networks=frozenset(told["NetworkSettings"]["Networks"]),
        environment=dict(pair.split("=", 1) for pair in told["Config"]["Env"]),
        ports={
            int(inside.partition("/")[0]): int(outside[0]["HostPort"])
            for inside, outside in (told["HostConfig"]["PortBindings"] or {}).items()
        },
        volumes=_volumes(told),
        user=told["Config"]["User"],
        is_twin=_TWIN_OF in labels,
    )


def _volumes(told: dict[str, Any]) -> dict[str, str]:
    return {mount["Destination"]: mount["Name"] for mount in told["Mounts"] if mount["Type"] == "volume"}


def project_labels(project: str, service: str) -> list[str]:
    """Options that make a container one of the project, so that `make down` removes it whatever becomes of its maker."""
    return [f"--label={_PROJECT}={project}", f"--label={_SERVICE}={service}", f"--label={_ONE_OFF}=False"]


def make_twin(id_: str, name: str, volumes: Mapping[str, str]) -> None:
    """Make a container as this one, which must be one of ours; it is not started, and they cannot run at the same time.

    Args:
        id_: of the container.
        name: of the new one.
        volumes: by name of a volume of the container the one that takes its place.
    """
    told = json.loads(docker("inspect", id_))[0]
    config, host, labels = told["Config"], told["HostConfig"], told["Config"]["Labels"]
    service, (first, *others) = labels[_SERVICE], sorted(told["NetworkSettings"]["Networks"])
    docker(
        "create",
        f"--name={name}",
        *project_labels(labels[_PROJECT], f"{service}-twin"),
        f"--label={_TWIN_OF}={service}",
        f"--user={config['User']}",
        f"--restart={host['RestartPolicy']['Name']}",
        f"--stop-timeout={config.get('StopTimeout') or _STOP_SECONDS}",
        f"--memory={host['Memory']}",
        f"--memory-swap={host['MemorySwap']}",
        f"--pids-limit={host['PidsLimit'] or 0}",
        *(["--init"] if host["Init"] else []),
        *(["--read-only"] if host["ReadonlyRootfs"] else []),
        "--no-healthcheck",
        *(f"--cap-drop={capability}" for capability in host["CapDrop"] or ()),
        *(f"--security-opt={option}" for option in host["SecurityOpt"] or ()),
        *(f"--tmpfs={path}:{options}" for path, options in (host["Tmpfs"] or {}).items()),
        *(f"--env={pair}" for pair in config["Env"]),
        *(
            f"--publish={outside['HostIp']}:{outside['HostPort']}:{inside}"
            for inside, (outside,) in (host["PortBindings"] or {}).items()
        ),
        *(f"--volume={volumes.get(volume, volume)}:{path}" for path, volume in _volumes(told).items()),
        f"--network={first}",
        f"--network-alias={service}",
        told["Image"],
        *config["Cmd"],
    )
    for network in others:
        docker("network", "connect", f"--alias={service}", network, name)


def happenings(id_: str, after: float) -> list[Happening]:
    """The deaths and starts of a container since a moment, oldest first; Docker keeps the newest 256 events of all kinds."""
    lines = docker(
        "events",
        f"--since={after:.9f}",
        f"--until={time.time():.9f}",
        f"--filter=container={id_}",
        "--filter=event=die",
        "--filter=event=start",
        "--format={{json .}}",
    ).splitlines()
    return [
        Happening(
            "death" if event["Action"] == "die" else "start",
            event["timeNano"] / 1e9,
            int(event["Actor"]["Attributes"].get("exitCode", 0)),
        )
        for event in map(json.loads, lines)
    ]


def signal_of(exit_code: int) -> str | None:
    """The signal that ended a container's first process; None when it ended by itself.

    Example:
        >>> signal_of(137), signal_of(1)
        ('SIGKILL', None)
    """
    return "SIGKILL" if exit_code == _KILLED else None


def _standing(state: dict[str, Any]) -> tuple[State, str]:
    status, code = state["Status"], state["ExitCode"]
    died = f"it died (exit code {code})"
    if status in {"exited", "restarting"} and code == REFUSED:
        return State.REFUSED, "it refused to start (exit code 2); see its log"
    if status == "exited" and code == 0:
        return State.ENDED, "it ended by itself (exit code 0)"
    known = {
        "running": (State.RUNNING, ""),
        "paused": (State.PAUSED, ""),
        "created": (State.STOPPED, "it was never started"),
        "restarting": (State.WAITING, f"{died} and is started again in a moment"),
    }
    return known.get(status, (State.DOWN, died))
