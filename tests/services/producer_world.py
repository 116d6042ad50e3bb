"""What the tests of the producer share: its process, and the judgement over a topic."""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.settings import REPOSITORY
from tests.ports import free_port

MAIN = ("-m", "services.producer.main")

_NEVER = threading.Event()
"""Set by nobody; waiting for it lets others run."""


class Producer:
    """A process of the producer, with its output in a file.

    Args:
        output: the file.
        arguments: of the command line.
        variables: settings.
        command: what Python runs.
    """

    def __init__(
        self,
        output: Path,
        arguments: Sequence[str],
        variables: dict[str, str],
        command: Sequence[str],
    ) -> None:
        self._output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *command, *arguments],
                cwd=REPOSITORY,
                env={"PATH": os.environ["PATH"], **variables},
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self._output.read_text()

    def ended(self, seconds: float = 60) -> int:
        """Its exit code, once it has ended by itself."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Send SIGKILL, and wait until the process is gone."""
        self.process.kill()
        self.process.wait(10)


class Spawn(Protocol):
    """Starts a process of the producer."""

    def __call__(
        self, arguments: Sequence[str], variables: dict[str, str], command: Sequence[str] = ..., /
    ) -> Producer:
        """The process with these arguments and settings."""


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Starts processes of the producer, each with a port of its own, and kills at the end what is still running."""
    started: list[Producer] = []

    def start(arguments: Sequence[str], variables: dict[str, str], command: Sequence[str] = MAIN) -> Producer:
        variables = {"PRODUCER_METRICS_PORT": str(free_port()), **variables}
        started.append(Producer(tmp_path / f"output-{len(started)}", arguments, variables, command))
        return started[-1]

    yield start
    for producer in started:
        producer.kill()


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Return when the condition holds; fail when it has not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        _NEVER.wait(0.02)


def events(values: Iterable[bytes | None]) -> list[dict[str, int]]:
    """The events among the values of a partition; the others are left out."""
    found = []
    for value in values:
        try:
            found.append(json.loads(value or b""))
        except ValueError:
            continue
    return found


def starts(partitions: Sequence[Sequence[dict[str, int]]], rate: int) -> set[int]:
    """When the schedules began that the topic's events follow, after proving that each partition is whole and in order."""
    for items in partitions:
        assert [item["seq"] for item in items] == list(range(len(items)))
    count = len(partitions)
    return {
        item["event_time"] - (item["seq"] * count + partition) * 1_000 // rate
        for partition, items in enumerate(partitions)
        for item in items
    }


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def health(port: int) -> tuple[int, str]:
    """What a process says of its health: the status, 0 when it does not answer, and the text."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def scraped(port: int) -> Samples:
    """Every sample that a process serves, by name and labels; none when it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
