"""Which process is meant, and how it is signalled and ended.

A pid alone is not a process: it is used again after the process has died. So a pid is kept together with the time from the
machine's boot at which its process started, and nothing is signalled that started at another time.

Owns: Identity, find, signal_tree, end_processes.
Never: a search by a program's name.
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_SAME_START_SECONDS = 0.1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Identity:
    """One process, for ever."""

    pid: int
    started: float
    """Seconds from the machine's boot; unlike the time of day it is never put right afterwards."""
    boot: str
    """Which boot that was; "" where the system does not tell."""

    @classmethod
    def of(cls, pid: int) -> "Identity":
        """The identity of a process that runs now, or has ended and was not waited for.

        Raises:
            psutil.NoSuchProcess: there is none.
        """
        return cls(pid, _started(pid), _boot())


def find(identity: Identity) -> psutil.Process | None:
    """The process when it still runs; None when it has ended, even if its pid belongs to another by now."""
    try:
        process = psutil.Process(identity.pid)
        is_same = (
            abs(_started(identity.pid) - identity.started) < _SAME_START_SECONDS and _boot() == identity.boot
        )
        return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _started(pid: int) -> float:
    """When a process started, in seconds from the boot."""
    while True:
        boot = psutil.boot_time()
        created = psutil.Process(pid).create_time()
        # psutil adds the boot's time of day, which the system may put right between two calls.
        if psutil.boot_time() == boot:
            return created - boot


def _boot() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.exists() else ""


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
