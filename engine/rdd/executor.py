"""The processes that compute tasks, and the driver's ends of their pipes.

An executor is a fresh interpreter (never a fork: client libraries do not survive one). It reads stages from a socket, runs
their tasks one after another and answers once a stage. It ends by itself when its driver is gone, even in the
middle of a task: a thread waits for the end of a pipe that only the driver holds open.

Owns: Stage, InProcessExecutor, ExecutorProcess, the executor's main loop.
Never: a decision which task runs where.
"""

import faulthandler
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping, Sequence
from itertools import starmap
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from engine.clock import SystemClock
from engine.errors import ExecutorLostError, StreamingError, TaskTimeoutError, UserFunctionError
from engine.failpoints import fail_point
from engine.rdd.plan import Task
from engine.rdd.scratch import Disk
from engine.rdd.serializers import dump, load
from engine.rdd.shared import Broadcast
from engine.rdd.task import Runtime, TaskContext
from engine.waits import seconds_waited, waiting


class Stage(NamedTuple):
    """What one executor gets for one stage: everything in one message, answered by one."""

    functions: Mapping[int, bytes]
    """Functions that this executor has not had yet."""
    forget_functions: Sequence[int]
    forget_rdds: Sequence[int]
    forget_broadcasts: Sequence[str]
    """Their files."""
    properties: Mapping[str, str]
    tasks: Iterable[Task]


Outcome = list[tuple[Any, dict[int, list[Any]]]]
"""For each task its result and what it added to accumulators."""

_BOOT = "import sys; from engine.rdd.executor import main; main(*map(int, sys.argv[1:4]), *sys.argv[4:])"
_clock = SystemClock()
_STACK_SECONDS = 1.0
"""How long a process that hangs has to show where."""
_LOOK_SECONDS = 0.02


class InProcessExecutor:
    """The executor of `local`: tasks run in the driver's own thread, with functions and elements of their own as in a process."""

    index = 0

    def __init__(self, memory_bytes: int, folder: str) -> None:
        self._runtime = Runtime(Disk(folder, memory_bytes))
        self._folder = folder
        self.shipped: set[int] = set()
        """Numbers of the functions that it has."""

    def run(self, stage: Stage) -> Outcome:
        """Run the tasks of a stage."""
        self.shipped |= stage.functions.keys()
        self.shipped -= set(stage.forget_functions)
        return _computed(self._runtime, stage)

    def stop(self) -> None:
        """Let go of what it holds of the context: the process goes on."""
        Broadcast.forget_folder(self._folder)


class ExecutorProcess:
    """The driver's end of one executor process."""

    def __init__(
        self,
        index: int,
        memory_bytes: int,
        folder: str,
        variables: Mapping[str, str] | None = None,
        task_timeout: float | None = None,
    ) -> None:
        self.index = index
        self._task_timeout = task_timeout
        self._sent = self._allowed = 0.0
        """When the stage was sent, in monotonic seconds, and how long it may take beside its waits."""
        self._waited_before = 0.0
        """Seconds, in earlier stages."""
        self._stack = f"{folder}/{secrets.token_hex(8)}.stack" if folder and task_timeout is not None else ""
        """Made by the process when it is up, and written when it is asked where it is."""
        self._is_up = not self._stack
        self.shipped: set[int] = set()
        """Numbers of the functions that the process has."""
        self.is_killed = False
        """Whether `kill` was called."""
        ours, theirs = socket.socketpair()
        # The process watches the read end of this pipe; the write end is open in the driver alone.
        watched, self._alive = os.pipe()
        environment = {
            **os.environ,
            **(variables or {}),
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-c", _BOOT),
                *map(str, (theirs.fileno(), watched, memory_bytes, folder, self._stack)),
            ],
            pass_fds=(theirs.fileno(), watched),
            env=environment,
        )
        theirs.close()
        os.close(watched)
        self.connection = Connection(ours.detach())

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, stage: Stage) -> None:
        """Hand the process a stage.

        Raises:
            ExecutorLostError: the process is dead.
        """
        try:
            self.connection.send_bytes(_message(stage))
        except OSError as cause:
            raise self._lost() from cause
        if self._task_timeout is not None:
            self._allowed = self._task_timeout * max(1, len(list(stage.tasks)))
            self._waited_before = self._waited()
            self._sent = _clock.monotonic()
        self.shipped |= stage.functions.keys()
        self.shipped -= set(stage.forget_functions)

    def receive(self) -> Outcome:
        """Wait for the outcome of the stage that was sent.

        Raises:
            ExecutorLostError: the process died.
            TaskTimeoutError: there was none in time; the process is dead.
            UserFunctionError: a function of the user raised.
            StreamingError: any other error of the engine in the task.
        """
        try:
            if self._task_timeout is not None and not self._answers():
                raise self._hung()
            payload = self.connection.recv_bytes()
        except (EOFError, OSError) as cause:
            raise self._lost() from cause
        answer = _loaded(payload)
        if isinstance(answer, StreamingError):
            raise answer
        return answer

    def kill(self) -> None:
        """End the process, whatever it computes; for any thread."""
        self.is_killed = True
        self._process.kill()

    def stop(self) -> None:
        """End the process and wait until it is gone."""
        self.connection.close()
        os.close(self._alive)
        self._process.wait()

    def _answers(self) -> bool:
        """Wait for an answer, or the end of the process; whether there was one in time, which begins when the process is up.

        Time that tasks wait for a server does not count: that is no fault of a user's function.
        """
        while not self._is_up:
            if self.connection.poll(_LOOK_SECONDS):
                return True
            self._sent, self._is_up = _clock.monotonic(), Path(self._stack).exists()
        while (left := self._left()) > 0:
            if self.connection.poll(max(left, _LOOK_SECONDS)):
                return True
        return self.connection.poll(0)

    def _left(self) -> float:
        """Seconds that the stage has left; while it waits for a server they become no fewer."""
        return self._allowed + self._waited() - self._waited_before - (_clock.monotonic() - self._sent)

    def _waited(self) -> float:
        return seconds_waited(_waits_of(self._stack)) if self._stack and self._is_up else 0.0

    def _hung(self) -> TaskTimeoutError:
        """End the process, which is given a moment to show where it was."""
        stack = ""
        if self._stack:
            self._process.send_signal(signal.SIGUSR1)
            until = _clock.monotonic() + _STACK_SECONDS
            while "in _run_tasks" not in stack and _clock.monotonic() < until:
                _clock.wait(threading.Event(), 0.01)
                stack = Path(self._stack).read_text(encoding="utf-8", errors="replace")
        self.kill()
        self._process.wait()
        thread = next((part for part in stack.split("\n\n") if "in _run_tasks" in part), "")
        return TaskTimeoutError(
            f"executor {self.index} (pid {self.pid}) had no answer within {self._task_timeout:g} s a task (taskTimeout), "
            f"{_users_frame(thread) or 'nobody knows where'}; it was killed: mend the function, or raise taskTimeout",
            thread,
        )

    def _lost(self) -> ExecutorLostError:
        return ExecutorLostError(
            f"executor {self.index} (pid {self.pid}) died with status {self._process.wait()}; it is replaced"
        )


def _users_frame(thread: str) -> str:
    r"""The outermost frame of a thread's stack, newest first, that is not the engine's: the user's function.

    Example:
        >>> _users_frame('  File "job.py", line 7 in hang\n  File "<fused map>", line 3 in fused')
        'in File "job.py", line 7 in hang'
    """
    own = (f'File "{Path(__file__).parents[1]}', 'File "<')
    frames = [line.strip() for line in thread.splitlines() if line.startswith("  File ")]
    return next((f"in {frame}" for frame in reversed(frames) if not frame.startswith(own)), "")


def _waits_of(stack: str) -> str:
    """The file of an executor's waits, by that of its stack."""
    return f"{stack}.waits"


def _message(stage: Stage) -> bytes:
    # As plain tuples, which are half the work of named ones; what has to go by value is packed already.
    return dump((*stage[:-1], list(map(tuple, stage.tasks))))


def _stage(message: bytes) -> Stage:
    parts = load(message)
    return Stage._make((*parts[:-1], list(starmap(Task, parts[-1]))))


def _run_tasks(runtime: Runtime, tasks: Iterable[Task], properties: Mapping[str, str]) -> Outcome:
    """Run the tasks; whatever a user's function raises, or loading it, leaves as a UserFunctionError with its traceback."""
    try:
        return [runtime.run(task, properties) for task in tasks]
    except StreamingError:
        raise
    except (Exception, SystemExit) as cause:  # the job boundary: a user's function may raise anything
        raise UserFunctionError(f"{type(cause).__name__}: {cause}", traceback.format_exc()) from cause


def _computed(runtime: Runtime, stage: Stage) -> Outcome:
    runtime.forget(stage.forget_functions, stage.forget_rdds)
    for path in stage.forget_broadcasts:
        Broadcast.forget(path)
    runtime.functions.take(stage.functions)
    outcome = _run_tasks(runtime, stage.tasks, stage.properties)
    fail_point("reply")
    return outcome


def _answer(runtime: Runtime, stage: Stage) -> Outcome | StreamingError:
    try:
        return _computed(runtime, stage)
    except StreamingError as error:
        return error


def _dumped(answer: Outcome | StreamingError) -> bytes:
    try:
        return dump(answer)
    except (Exception, SystemExit) as cause:  # noqa: BLE001 - pickling runs code of the user's objects, which may raise anything
        return dump(
            UserFunctionError(
                f"the task's result cannot be sent to the driver ({type(cause).__name__}: {cause})",
                traceback.format_exc(),
            )
        )


def _loaded(payload: bytes) -> Outcome | StreamingError:
    try:
        answer: Outcome | StreamingError = load(payload)
    except (Exception, SystemExit) as cause:  # noqa: BLE001 - as above; the executor is idle again, and the next stage must find it so
        return UserFunctionError(
            f"the task's result cannot be read in the driver ({type(cause).__name__}: {cause})",
            traceback.format_exc(),
        )
    return answer


def _exit_with_driver(watched: int) -> None:
    os.read(watched, 1)  # returns when the driver's end closes, however the driver ended
    os._exit(1)


def main(connection_fd: int, watched_fd: int, memory_bytes: int, folder: str, stack: str = "") -> None:
    """Serve stages until the driver closes the socket or dies."""
    if stack:
        waiting.tell(_waits_of(stack))
        # Written by the signal's handler itself, so that a function which holds the interpreter is shown too.
        faulthandler.register(signal.SIGUSR1, file=Path(stack).open("wb"), all_threads=True)  # noqa: SIM115 - open for the process's life
    # Ctrl-C and SIGTERM go to the driver, which drains; the executors leave when it closes their sockets.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # The executors' lines go where the driver's standard error goes, with the process that wrote them.
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s [executor %(process)d]: %(message)s")
    logging.getLogger("engine").setLevel(logging.INFO)
    threading.Thread(target=_exit_with_driver, args=(watched_fd,), daemon=True).start()
    runtime = Runtime(Disk(folder, memory_bytes))
    TaskContext.own_process()
    connection = Connection(connection_fd)
    while True:
        try:
            stage = _stage(connection.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            connection.send_bytes(_dumped(_answer(runtime, stage)))
        except OSError:
            return
