"""Which process is meant, and how it is signalled and ended.

A pid alone is not a process: it is used again after the process has died. So a pid is kept together with the time at which
its process started, and nothing is signalled that started at another time.

Owns: Identity, find, signal_tree, end_processes.
Never: a search by a program's name.
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import psutil

_SAME_START_SECONDS = 1.0
"""The start time is computed from the wall clock's idea of when the machine was booted, which may be put right by a little."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One process, for ever."""

    pid: int
    created: float
    """Seconds since the epoch."""

    @classmethod
    def of(cls, pid: int) -> "Identity":
        """The identity of a process that runs now, or has ended and was not waited for.

        Raises:
            psutil.NoSuchProcess: there is none.
        """
        return cls(pid, psutil.Process(pid).create_time())


def find(identity: Identity) -> psutil.Process | None:
    """The process when it still runs; None when it has ended, even if its pid belongs to another by now."""
    try:
        process = psutil.Process(identity.pid)
        is_same = abs(process.create_time() - identity.created) < _SAME_START_SECONDS
        return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def is_stopped(process: psutil.Process) -> bool:
    """Whether the process is held by SIGSTOP."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_STOPPED)
    return False


def family(process: psutil.Process) -> list[psutil.Process]:
    """The process and everything it has started, itself first."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return [process]


def signal_tree(process: psutil.Process, number: signal.Signals) -> None:
    """Signal the process and everything it has started."""
    for member in family(process):
        send(member, number)


def send(process: psutil.Process, number: signal.Signals) -> None:
    """Signal one process, if it is still there; psutil looks at its start time first."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def end_processes(
    processes: Sequence[psutil.Process],
    grace_seconds: float,
    wait: Callable[[], object] = lambda: time.sleep(0.02),
) -> None:
    """End processes with all they have started: SIGTERM to each, SIGKILL to whatever is left after the grace.

    Args:
        processes: those to end.
        grace_seconds: how long they have for it together.
        wait: a short pause, in which the caller may look after its children.
    """
    members = [member for process in processes for member in family(process)]
    for process in processes:
        send(process, signal.SIGTERM)
    for member in members:
        send(member, signal.SIGCONT)  # a process that is held does not see its SIGTERM
    _await_end(processes, grace_seconds, wait)
    members += [member for process in processes for member in family(process)]
    for member in members:
        send(member, signal.SIGKILL)
    _await_end(members, grace_seconds, wait)


def has_ended(process: psutil.Process) -> bool:
    """Whether a process is gone, or waits only for its parent to look."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _await_end(processes: Iterable[psutil.Process], seconds: float, wait: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    left = list(processes)
    while left and time.monotonic() < deadline:
        left = [process for process in left if not has_ended(process)]
        if left:
            wait()
