"""How a command talks to the supervisor of a folder: through files and one signal, so that either side may be killed.

A request is the program itself, written as run/requests/NAME and announced by SIGUSR1; it is gone when the program was started.
An empty file run/requests/.ping asks whether anybody is there, and is gone when somebody is.

Owns: Control, looks.
Never: a setting; what is started, and when it is ready, is decided in api.py.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import psutil

from engine.errors import StreamingError
from services.settings import REPOSITORY, base_environment
from tools.stack.events import EventLog
from tools.stack.folder import Folder, read_json, write_json
from tools.stack.processes import Identity, end_processes, find, has_ended, send
from tools.stack.programs import Program, Record, State

_ANSWER_SECONDS = 15.0
_END_SECONDS = 150.0
_LOOK_SECONDS = 0.03


def looks(seconds: float, pause: float = _LOOK_SECONDS) -> Iterator[None]:
    """A look every so many seconds for so long, one at least.

    Example:
        >>> sum(1 for _ in looks(0))
        1
    """
    deadline = time.monotonic() + seconds
    while True:
        yield
        if time.monotonic() >= deadline:
            return
        time.sleep(pause)


class Control:
    """What can be known of a folder's processes from outside, and what can be asked of their supervisor.

    Args:
        folder: of the stack.
        events: its history.
        is_tied: whether a supervisor that is started from here ends when this process dies.
    """

    def __init__(self, folder: Folder, events: EventLog, *, is_tied: bool = False) -> None:
        self._folder = folder
        self._events = events
        self._is_tied = is_tied
        self._log = folder.logs / "supervisor.log"

    def record(self, name: str) -> Record | None:
        """What the supervisor wrote of a process last."""
        return Record.read(self._folder.record(name))

    def process(self, name: str) -> psutil.Process | None:
        """The process, if it runs."""
        record = self.record(name)
        return find(record.identity) if record and record.identity else None

    def supervisor(self) -> psutil.Process | None:
        """The supervisor, if there is one."""
        known = read_json(self._folder.supervisor)
        return find(Identity(**known)) if known else None

    def ensure_supervisor(self) -> None:
        """Start a supervisor where none answers; it takes over what an earlier one has left.

        Raises:
            StreamingError: it does not come up, or the one that is there does not answer.
        """
        if self._has_answered():
            return
        command = [sys.executable, "-m", "tools.stack.supervisor", str(self._folder.root)]
        if self._is_tied:
            command.append(json.dumps(asdict(Identity.of(os.getpid()))))
        with self._log.open("ab") as log:
            subprocess.run(
                command,
                cwd=REPOSITORY,
                env=base_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                check=False,
            )
        for _ in looks(_ANSWER_SECONDS):
            if self.supervisor() is not None:
                return
        raise StreamingError(f"the supervisor did not start; see {self._log}")

    def _has_answered(self) -> bool:
        """Whether there is a supervisor that does its work: one that was killed a moment ago may still look alive."""
        supervisor = self.supervisor()
        if supervisor is None:
            return False
        self._folder.ping.touch()
        for _ in looks(_ANSWER_SECONDS):
            if not self._folder.ping.exists():
                return True
            if has_ended(supervisor):
                return False
            send(supervisor, signal.SIGUSR1)
        raise StreamingError(
            f"the supervisor, process {supervisor.pid}, does not answer; run `scripts/stack down` and then `up` again"
        )

    def request(self, program: Program) -> None:
        """Have a program started, unless it runs.

        Raises:
            StreamingError: the supervisor is gone or does not answer.
        """
        path = self._folder.requests / program.name
        write_json(path, asdict(program))
        for _ in looks(_ANSWER_SECONDS):
            supervisor = self.supervisor()
            if not path.exists() or supervisor is None:
                break
            send(supervisor, signal.SIGUSR1)
        if path.exists():
            raise StreamingError(f"the supervisor did not start {program.name}; see {self._log}")

    def await_death(self, name: str, process: psutil.Process) -> None:
        """Return when a process that was killed is gone with its ports, and the supervisor has seen it."""
        for _ in looks(_ANSWER_SECONDS):
            record = self.record(name)
            if not record or record.state != State.RUNNING or not record.identity:
                return
            if record.identity.pid != process.pid or (self.supervisor() is None and has_ended(process)):
                return

    def end_supervisor(self) -> bool:
        """Have the supervisor end every process and itself; returns whether there was one."""
        supervisor = self.supervisor()
        if supervisor is None:
            return False
        send(supervisor, signal.SIGTERM)
        send(supervisor, signal.SIGCONT)
        for _ in looks(_END_SECONDS):
            if has_ended(supervisor):
                return True
        send(supervisor, signal.SIGKILL)
        return True

    def end_orphans(self, names: Sequence[str]) -> None:
        """End what a killed supervisor has left, in the order given."""
        self._folder.supervisor.unlink(missing_ok=True)
        for name in names:
            record, process = self.record(name), self.process(name)
            if record and process:
                end_processes([process], record.program.grace_seconds)
                self._events.append(name, "death", pid=process.pid, exit_code=None, signal=None)
            if record and record.state != State.STOPPED:
                record.state, record.reason, record.restarts = State.STOPPED, "", 0
                record.write(self._folder.record(name))
