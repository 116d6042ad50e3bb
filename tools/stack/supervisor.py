"""The one background process of a stack, which owns its processes; `python -m tools.stack.supervisor DATA_DIR`.

It starts what it is asked to (run/requests/NAME, then SIGUSR1), notices a death at once, starts engine and producer again,
and on SIGTERM ends everything and then itself. Should it be killed, the processes live on; the next supervisor of the
folder takes them over, and `down` ends them without one.

A program that dies is started again at once. When it dies again within seconds, the pause before the next start grows; a death
by `scripts/stack kill` does not count. Exit codes 0 and 2 are answers: it is not started again.

Owns: Supervisor.
Never: a setting, a client of a server; what is ready is judged by who asked.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import psutil

from tools.stack.events import EventLog
from tools.stack.folder import Folder, read_json, write_json
from tools.stack.processes import Identity, end_processes, find, has_ended
from tools.stack.programs import REFUSED, Program, Record, State

QUICK_SECONDS = 5.0
"""Who dies sooner than this after its start is in trouble of its own."""
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 5.0

_LOG_BYTES = 20_000_000
_IDLE_SECONDS = 1.0
_ADOPTED_SECONDS = 0.1
"""A death of a process that is not our child makes no signal: it is looked for."""


def pause_seconds(quick_deaths: int) -> float:
    """How long to wait before the next start, after so many deaths in a row within seconds of a start.

    Example:
        >>> [pause_seconds(deaths) for deaths in (0, 1, 2, 3, 4, 5, 6, 60)]
        [0.0, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 5.0]
    """
    if quick_deaths <= 1:
        return 0.0
    return min(FIRST_PAUSE_SECONDS * 2.0 ** min(quick_deaths - 2, 20), LONGEST_PAUSE_SECONDS)


class Child:
    """One process under supervision.

    Args:
        record: what is known of it.
        folder: of the stack.
        events: where its history goes.
    """

    def __init__(self, record: Record, folder: Folder, events: EventLog) -> None:
        self.record = record
        self.due: float | None = None
        """When it is to be started again, on the monotonic clock."""
        self._folder = folder
        self._events = events
        self._popen: subprocess.Popen[bytes] | None = None
        self._process: psutil.Process | None = None

    @property
    def process(self) -> psutil.Process | None:
        """The process while it runs."""
        return self._process

    @property
    def is_adopted(self) -> bool:
        """Whether it runs and was started by an earlier supervisor."""
        return self._process is not None and self._popen is None

    def adopt(self) -> None:
        """Take over the process of an earlier supervisor, or note that it died meanwhile."""
        identity = self.record.identity
        self._process = find(identity) if identity else None
        if self._process is not None:
            self._note(State.RUNNING)
            self._events.append(self.record.program.name, "adopted", pid=self._process.pid)
        elif self.record.state in {State.RUNNING, State.WAITING}:
            self._note(State.DOWN, "it ended while no supervisor was there")

    def start(self, kind: str) -> None:
        """Start the program; the event is of the kind given."""
        self.due = None
        program = self.record.program
        _roll_over(Path(program.log))
        try:
            with Path(program.log).open("ab") as log:
                self._popen = subprocess.Popen(
                    program.command,
                    cwd=program.folder,
                    env=dict(program.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # it gets the signals that are meant for it, and no others
                )
        except OSError as error:
            self._note(State.REFUSED, f"it cannot be started: {error}")
            self._events.append(program.name, "refused", reason=self.record.reason)
            return
        self._process = psutil.Process(self._popen.pid)
        self.record.identity = Identity.of(self._popen.pid)
        self.record.started = time.time()
        self.record.restarts += kind == "restart"
        self._note(State.RUNNING)
        self._events.append(program.name, kind, pid=self._popen.pid, restarts=self.record.restarts)

    def look(self, now: float) -> None:
        """Notice a death and decide what follows; start again what is due."""
        if self._process is not None and self._is_over(self._process):
            self._bury(now)
        if self.due is not None and now >= self.due:
            self.start("restart")

    def stopped(self) -> None:
        """Note that `down` has ended it."""
        self.due = None
        code = self._popen.wait() if self._popen else None
        program = self.record.program
        if self._process is not None:
            self._events.append(program.name, "death", pid=self._process.pid, **_manner(code))
        # Java answers a SIGTERM with 143 after its last work is done.
        if program.keep and code in {0, 128 + signal.SIGTERM}:
            with contextlib.suppress(FileNotFoundError):
                Path(program.keep[0]).replace(program.keep[1])
        self._popen = self._process = None
        self.record.restarts = 0
        self._note(State.STOPPED)

    def _is_over(self, process: psutil.Process) -> bool:
        return self._popen.poll() is not None if self._popen else has_ended(process)

    def _bury(self, now: float) -> None:
        """Write the death down; then: restart now, restart later, or leave it."""
        program, lived = self.record.program, time.time() - self.record.started
        code = self._popen.returncode if self._popen else None
        pid = self.record.identity.pid if self.record.identity else 0
        self._popen = self._process = None
        self._events.append(program.name, "death", pid=pid, lived_seconds=round(lived, 3), **_manner(code))
        if code == REFUSED and program.restarts:
            self._note(State.REFUSED, f"it refused to start (exit code 2): {_last_line(Path(program.log))}")
            self._events.append(program.name, "refused", reason=self.record.reason)
        elif code == 0 and program.restarts:
            self._note(State.ENDED, "it ended by itself (exit code 0)")
        elif not program.restarts:
            self._note(State.DOWN, f"it died ({_told(code)})")
        else:
            self._plan_restart(now, lived, code, is_wanted=self._was_killed(pid))

    def _plan_restart(self, now: float, lived: float, code: int | None, *, is_wanted: bool) -> None:
        self.record.quick_deaths = self.record.quick_deaths + 1 if lived < QUICK_SECONDS else 1
        if is_wanted:
            self.record.quick_deaths = 0
        pause = pause_seconds(self.record.quick_deaths)
        self.due = now + pause
        if pause:
            self._note(State.WAITING, f"it died ({_told(code)}) and is started again in {pause:g} s")
            self._events.append(self.record.program.name, "wait", delay_seconds=pause)

    def _was_killed(self, pid: int) -> bool:
        """Whether this death was ordered by `kill`."""
        return bool(read_json(self._folder.run / f"{self.record.program.name}.killed") == pid)

    def _note(self, state: State, reason: str = "") -> None:
        self.record.state, self.record.reason = state, reason
        self.record.write(self._folder.record(self.record.program.name))


class Supervisor:
    """Watches over the processes of one folder until it is told to end.

    Args:
        folder: of the stack.
        owner: the process whose end is an order to end everything; None for a supervisor that stays.
    """

    def __init__(self, folder: Folder, owner: Identity | None = None) -> None:
        self._folder = folder
        self._owner = owner
        self._events = EventLog(folder.events)
        self._children: dict[str, Child] = {}
        self._is_ending = False
        # A signal writes a byte here, so that waiting for it and waiting for time are one wait.
        self._wakeup, self._signalled = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Adopt, then start, watch and restart until SIGTERM; then end every process."""
        self._watch_signals()
        for stale in self._folder.requests.iterdir():
            stale.unlink()
        for name in self._folder.names():
            record = Record.read(self._folder.record(name))
            if record:
                self._children[name] = Child(record, self._folder, self._events)
                self._children[name].adopt()
        # AFTER the adoption: whoever finds this file may rely on it that every death is seen.
        write_json(self._folder.supervisor, asdict(Identity.of(os.getpid())))
        while not self._is_ending:
            for child in self._children.values():
                child.look(time.monotonic())
            self._take_requests()
            self._wait(self._pause())
            if self._owner and find(self._owner) is None:
                self._is_ending = True
        self._end()
        self._folder.supervisor.unlink()

    def _watch_signals(self) -> None:
        signal.set_wakeup_fd(self._signalled, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)  # the byte alone is wanted
        signal.signal(signal.SIGTERM, self._order_end)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _order_end(self, *_: object) -> None:
        self._is_ending = True

    def _pause(self) -> float:
        pause = (
            _ADOPTED_SECONDS if any(child.is_adopted for child in self._children.values()) else _IDLE_SECONDS
        )
        due = [child.due - time.monotonic() for child in self._children.values() if child.due is not None]
        return max(min([pause, *due]), 0)

    def _wait(self, seconds: float) -> None:
        select.select([self._wakeup], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup, 1024)

    def _take_requests(self) -> None:
        """Answer, and start what was asked for and does not run."""
        self._folder.ping.unlink(missing_ok=True)
        for path in sorted(self._folder.requests.glob("[a-z]*")):
            program = Program.from_json(read_json(path))
            child = self._children.get(program.name)
            if child is None:
                child = Child(Record(program), self._folder, self._events)
                self._children[program.name] = child
            if child.process is None:
                child.record.program = program
                child.record.quick_deaths = 0
                child.start("start")
            # AFTER the start: who asked waits for the request to go, and finds the record.
            path.unlink()

    def _end(self) -> None:
        """End those that use the servers first, then the servers."""
        for is_service in (True, False):
            children = [
                child
                for child in self._children.values()
                if child.process and child.record.program.restarts == is_service
            ]
            grace = max((child.record.program.grace_seconds for child in children), default=0.0)
            end_processes(
                [child.process for child in children if child.process], grace, lambda: self._wait(0.05)
            )
            for child in children:
                child.stopped()
        for child in self._children.values():
            if child.record.state != State.STOPPED:
                child.stopped()


def main() -> None:
    """Become the supervisor of the folder in the first argument, unless it has one; the second is its owner's identity."""
    folder = Folder(Path(sys.argv[1]))
    owner = Identity(**json.loads(sys.argv[2])) if len(sys.argv) > 2 else None
    if os.fork():
        os._exit(0)  # the caller's child ends here; what goes on is nobody's child
    os.setsid()
    lock = os.open(folder.run / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    Supervisor(folder, owner).run()


def _manner(code: int | None) -> dict[str, object]:
    """A death as facts of an event; the code of a process that was adopted is not known."""
    is_signal = code is not None and code < 0
    return {
        "exit_code": None if is_signal else code,
        "signal": signal.Signals(-code).name if code is not None and code < 0 else None,
    }


def _told(code: int | None) -> str:
    if code is None:
        return "exit code unknown"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _roll_over(log: Path) -> None:
    """Begin a new log file when the old one is large; one old one is kept."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))


def _last_line(log: Path) -> str:
    """What a program said last."""
    lines = log.read_text(encoding="utf-8", errors="replace")[-4_000:].strip().splitlines()
    return lines[-1] if lines else "it said nothing"


if __name__ == "__main__":
    main()
