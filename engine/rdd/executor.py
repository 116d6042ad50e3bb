"""The processes that compute tasks, and the driver's ends of their pipes.

An executor is a fresh interpreter (never a fork: client libraries do not survive one). It reads stages from a socket, runs
their tasks one after another and answers once a stage. It ends by itself when its driver is gone, even in the
middle of a task: a thread waits for the end of a pipe that only the driver holds open.

Owns: Stage, InProcessExecutor, ExecutorProcess, the executor's main loop.
Never: a decision which task runs where.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping, Sequence
from itertools import starmap
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from engine.errors import ExecutorLostError, StreamingError, UserFunctionError
from engine.rdd.plan import Task
from engine.rdd.scratch import Disk
from engine.rdd.serializers import dump, load
from engine.rdd.shared import Broadcast
from engine.rdd.task import Runtime, TaskContext


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

_BOOT = "import sys; from engine.rdd.executor import main; main(*map(int, sys.argv[1:4]), sys.argv[4])"


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
        self, index: int, memory_bytes: int, folder: str, variables: Mapping[str, str] | None = None
    ) -> None:
        self.index = index
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
            [sys.executable, "-c", _BOOT, *map(str, (theirs.fileno(), watched, memory_bytes, folder))],
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
        self.shipped |= stage.functions.keys()
        self.shipped -= set(stage.forget_functions)

    def receive(self) -> Outcome:
        """Wait for the outcome of the stage that was sent.

        Raises:
            ExecutorLostError: the process died.
            UserFunctionError: a function of the user raised.
            StreamingError: any other error of the engine in the task.
        """
        try:
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

    def _lost(self) -> ExecutorLostError:
        return ExecutorLostError(
            f"executor {self.index} (pid {self.pid}) died with status {self._process.wait()}; it is replaced"
        )


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
    return _run_tasks(runtime, stage.tasks, stage.properties)


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


def main(connection_fd: int, watched_fd: int, memory_bytes: int, folder: str) -> None:
    """Serve stages until the driver closes the socket or dies."""
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
