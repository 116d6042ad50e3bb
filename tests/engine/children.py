"""Processes that tests start, kill and wait for."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


def python(
    program: str, *arguments: object, stdin: bool = False, **environment: str
) -> subprocess.Popen[str]:
    """A Python process that runs the program, with its output, and its input if asked for, as text."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait until something is so, looking two hundred times a second."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        threading.Event().wait(0.005)


def runs(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(pid: int) -> None:
    """End a process of this test with SIGKILL and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not runs(pid), f"process {pid} gone")
