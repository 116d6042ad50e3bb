"""A stack in containers as a test may treat it: by the commands that a person types.

Owns: ComposeWorld, Grafana.
Never: a container of another project.
"""

import base64
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

from services.settings import REPOSITORY, Settings

_UP_SECONDS = 900
"""The first start builds the image."""


class ComposeWorld:
    """One stack with a project name, ports and a DATA_DIR of its own.

    Args:
        folder: its DATA_DIR.
        ports: as many free ones as PORTS has names.
        name: what tells its project from those of others.
    """

    PORTS: ClassVar = (
        "KAFKA_PORT",
        "CASSANDRA_PORT",
        "METRICS_PORT",
        "PRODUCER_METRICS_PORT",
        "VERIFIER_METRICS_PORT",
        "KAFKA_METRICS_PORT",
        "CASSANDRA_METRICS_PORT",
        "PROMETHEUS_PORT",
        "GRAFANA_PORT",
    )

    def __init__(self, folder: Path, ports: list[int], name: str = "test") -> None:
        self.folder = folder
        self.project = f"dstreams-{name}-{os.getpid()}"
        self.ports = dict(zip(self.PORTS, ports, strict=True))
        self.settings = Settings.model_validate(
            {
                "STACK": "compose",
                "DATA_DIR": folder,
                **{name: port for name, port in self.ports.items() if name != "GRAFANA_PORT"},
            }
        )
        """As a program on the host that uses this stack has them."""
        self.environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": self.project,
            "DATA_DIR": str(folder),
            **{name: str(port) for name, port in self.ports.items()},
        }
        self.environment.pop("STACK", None)
        self.seconds_to_health = 0.0
        """How long the last `up` took."""
        self.healthy_at = 0.0
        """When it returned, by the monotonic clock."""
        self.found: dict[str, dict[str, Any]] = {}
        """What Docker knew of each container when the last `up` returned, by service."""

    def run(
        self, *command: str, timeout_seconds: float = 120, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the repository's folder with this stack's environment; its output is text."""
        return subprocess.run(
            command,
            cwd=REPOSITORY,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )

    def up(self, **variables: str) -> str:
        """`make up`, which must succeed; returns what it said."""
        began = time.monotonic()
        done = self.run("make", "up", timeout_seconds=_UP_SECONDS, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        self.healthy_at = time.monotonic()
        self.seconds_to_health = self.healthy_at - began
        self.found = self.containers()
        return done.stdout

    def down(self, **variables: str) -> None:
        """`make down`, which must succeed."""
        done = self.run("make", "down", timeout_seconds=300, **variables)
        assert done.returncode == 0, done.stdout + done.stderr

    def remove(self) -> None:
        """End and remove all of it, whatever state it is in."""
        self.run(*self._compose(), "down", "--volumes", "--remove-orphans", timeout_seconds=300)

    def verify(self, wait_seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """`scripts/verify`, as a person runs it."""
        return self.run("scripts/verify", "--wait", str(wait_seconds), timeout_seconds=400)

    def compose(self, *arguments: str) -> str:
        """What `docker compose` says on every service of the stack; it must succeed."""
        done = self.run(*self._compose(), *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def containers(self) -> dict[str, dict[str, Any]]:
        """What Docker knows of each container of the stack, by service."""
        ids = self.compose("ps", "--all", "--quiet").split()
        found = json.loads(self.run("docker", "inspect", *ids).stdout) if ids else []
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in found}

    def left(self, kind: str) -> list[str]:
        """Names of the stack's containers, networks or volumes that there are.

        Args:
            kind: container, network or volume.
        """
        more = ["--all"] if kind == "container" else []
        return self.run(
            "docker",
            kind,
            "ls",
            "--quiet",
            *more,
            "--filter",
            f"label=com.docker.compose.project={self.project}",
        ).stdout.split()

    def memory_mib(self) -> dict[str, float]:
        """What `docker stats` says of each service's memory, MiB."""
        names = {one["Name"].lstrip("/"): service for service, one in self.containers().items()}
        lines = self.run("docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}").stdout
        units = {"KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}
        found = {}
        for name, used, *_ in map(str.split, lines.splitlines()):
            if name in names and used[-3:] in units:
                found[names[name]] = float(used[:-3]) * units[used[-3:]]
        return found

    def network(self, name: str) -> dict[str, Any]:
        """What Docker knows of a network, by its full name."""
        done = self.run("docker", "network", "inspect", name)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return found

    def get(self, variable: str, path: str) -> bytes:
        """The body that a service answers on its port of the host.

        Raises:
            OSError: it does not answer, or with an error.
        """
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[variable]}{path}", timeout=20) as answer:
            body: bytes = answer.read()
        return body

    @staticmethod
    def _compose() -> tuple[str, ...]:
        return ("docker", "compose", "--profile", "full", "--profile", "tools")


class Grafana:
    """A Grafana at an address, asked as somebody who has a password, or none."""

    def __init__(self, address: str) -> None:
        self._address = address

    def status(self, path: str, password: str | None = None) -> int:
        """The status that it answers with; 0 while it does not answer."""
        try:
            with urllib.request.urlopen(self._request(path, password), timeout=10) as answer:  # noqa: S310 - of a container of ours
                found: int = answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0
        return found

    def ask(self, path: str, password: str | None = None) -> Any:
        """What it answers.

        Raises:
            OSError: it does not, or refuses.
        """
        with urllib.request.urlopen(self._request(path, password), timeout=10) as answer:  # noqa: S310 - see above
            return json.loads(answer.read())

    def _request(self, path: str, password: str | None) -> urllib.request.Request:
        request = urllib.request.Request(f"{self._address}{path}")  # noqa: S310 - see above
        if password is not None:
            word = base64.b64encode(f"admin:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {word}")
        return request
