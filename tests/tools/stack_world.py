"""A stack of small stand-in processes: real children of a real supervisor, in the place of producer and engine."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from services.settings import Settings
from tests.ports import setting_ports
from tools.stack.api import Stack
from tools.stack.control import looks

STEADY = (
    "sh",
    "-c",
    "echo pipeline: started, it goes on at 0; trap 'exit 0' TERM; while :; do sleep 0.02; done",
)
"""Works until it is told to end, and then ends with 0."""
FAILING = ("sh", "-c", "echo no luck; exit 1")
REFUSING = ("sh", "-c", "echo 'SEED is not valid: it must be a number' >&2; exit 2")
ENDING = ("sh", "-c", "echo pipeline: started; exit 0")
PARENT = ("sh", "-c", "sleep 1000 & echo pipeline: started; wait")
"""Has a child of its own."""


def say_environment(*names: str) -> tuple[str, ...]:
    """A command that prints variables and then works on."""
    said = "; ".join(f'echo "{name}=${name}"' for name in names)
    return ("sh", "-c", f"{said}; echo pipeline: started; while :; do sleep 0.02; done")


@contextmanager
def listening() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def embedded(folder: Path, **more: object) -> Settings:
    """The settings of an embedded stack in a folder of its own."""
    return Settings.model_validate(
        {"stack": "embedded", "data_dir": folder / "stack", **setting_ports(), **more}
    )


def a_stack(
    settings: Settings,
    engine: Sequence[str] = STEADY,
    producer: Sequence[str] = STEADY,
    environment: Mapping[str, str] | None = None,
) -> Stack:
    """A stack of stand-ins that ends with the test run, whatever happens to it."""
    commands = {"engine": engine, "producer": producer}
    return Stack(settings, commands=commands, environment=environment, is_tied=True)


def pid_of(stack: Stack, name: str) -> int:
    """The pid of a process that runs."""
    pid = {status.name: status.pid for status in stack.status()}[name]
    assert pid is not None, f"{name} does not run"
    return pid


def state_of(stack: Stack, name: str) -> str:
    """The state of a process, as the table shows it."""
    return {status.name: status.state.value for status in stack.status()}[name]


def kinds_of(stack: Stack, name: str) -> list[str]:
    """What has happened to a process, oldest first."""
    return [event.kind for event in stack.events() if event.name == name]


def wait_until(is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return as soon as something holds."""
    for _ in looks(seconds):
        if is_so():
            return
    raise AssertionError(f"it did not come to pass within {seconds} s")


def supervisor_pid(settings: Settings) -> int:
    """The pid in the supervisor's file."""
    known: dict[str, int] = json.loads((settings.data_dir / "run" / "supervisor.json").read_text())
    return known["pid"]


def forge_record(settings: Settings, name: str, pid: int) -> None:
    """Make the folder say that a process runs under a pid that the system has given to another by now."""
    path = settings.data_dir / "run" / f"{name}.json"
    record = json.loads(path.read_text())
    record["state"] = "running"
    record["identity"]["pid"] = pid
    record["identity"]["started"] -= 100
    path.write_text(json.dumps(record))


@contextmanager
def stranger() -> Iterator[int]:
    """The pid of a process that no stack has started."""
    with subprocess.Popen(["sleep", "1000"]) as popen:
        try:
            yield popen.pid
        finally:
            popen.kill()


def python(code: str) -> tuple[str, ...]:
    """A command that runs Python code."""
    return (sys.executable, "-c", code)


def now() -> float:
    """Seconds since the epoch, for `wait_for`."""
    return time.time()
