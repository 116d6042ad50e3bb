"""One engine process from its start to its death by SIGKILL.

Owns: Victim, ENGINE.
Never: a restart; every life is a Victim of its own.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from engine.errors import StreamingError
from services.settings import REPOSITORY, Settings, base_environment
from tools.killloop.phases import Trace
from tools.progress import LOOK_SECONDS, Progress
from tools.stack.control import looks
from tools.stack.processes import has_ended

ENGINE = (sys.executable, "-m", "services.pipeline.main")

_END_SECONDS = 30.0


class Victim:
    """An engine that was just started.

    Args:
        settings: of the stack.
        folder: for its log and its trace.
        environment: more variables.
        command: what to run.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        environment: Mapping[str, str],
        command: tuple[str, ...] = ENGINE,
    ) -> None:
        trace = folder / "trace"
        trace.unlink(missing_ok=True)  # an executor of the life before may still write into the old one
        self._trace = Trace(trace)
        self._log = folder / "engine.log"
        self.started = time.monotonic()
        more = {"FAIL_POINT_TRACE": str(trace), **environment}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**base_environment(), **settings.environment(), **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._family: list[psutil.Process] = []

    @property
    def point(self) -> str:
        """The fail point that it reached last."""
        return self._trace.point()

    def is_hopeless(self) -> str:
        """Why waiting for it makes no sense: it has ended; "" while it runs."""
        code = self._process.poll()
        if code is None:
            return ""
        said = self._log.read_text(errors="replace").splitlines()[-1:]
        last = f"its last line is {said[0]!r}; " if said else ""
        return f"the engine ended by itself with exit code {code}; {last}see {self._log}"

    def await_commit(self, progress: Progress, after_ms: int, seconds: float) -> float:
        """Wait for the commit of a batch later than this one; returns the seconds since its start.

        Raises:
            StreamingError: there was none.
        """
        progress.await_newer(after_ms, seconds, self.is_hopeless)
        return time.monotonic() - self.started

    def await_point(self, point: str, seconds: float) -> bool:
        """Wait until it is at a fail point; returns whether it got there in time."""
        deadline = time.monotonic() + seconds
        while self.point != point:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.0005)
        return True

    def kill(self, *, is_whole_tree: bool) -> str:
        """End it with SIGKILL; returns the fail point that it had reached last.

        Args:
            is_whole_tree: whether its executors get the signal too; if not, they must end by themselves.

        Raises:
            StreamingError: it had died before.
        """
        if reason := self.is_hopeless():
            raise StreamingError(reason)
        self._family = psutil.Process(self._process.pid).children(recursive=True)
        if is_whole_tree:
            os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        code = self._process.wait()
        if code != -signal.SIGKILL:
            raise StreamingError(f"the engine ended with {code} before its SIGKILL; see {self._log}")
        point = self.point
        self._trace.close()
        return point

    def await_orphans(self) -> None:
        """Wait until its executors have noticed its death.

        Raises:
            StreamingError: one lives on.
        """
        for _ in looks(_END_SECONDS, LOOK_SECONDS):
            alive = [process for process in self._family if not has_ended(process)]
            if not alive:
                return
        raise StreamingError(f"executor {alive[0].pid} outlived its engine by {_END_SECONDS:g} s")

    def stop(self) -> int:
        """Ask it to end with SIGTERM; returns its exit code."""
        self._process.terminate()
        return self._process.wait(_END_SECONDS)

    def abandon(self) -> None:
        """End it in whatever state it is, after an error."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def await_drained(victim: Victim, progress: Progress, seconds: float) -> None:
    """Wait until the log holds nothing that is not committed.

    Raises:
        StreamingError: it still does after so many seconds.
    """
    for _ in looks(seconds, LOOK_SECONDS):
        if not any(progress.backlog().values()):
            return
        if reason := victim.is_hopeless():
            raise StreamingError(reason)
    raise StreamingError(f"after {seconds:g} s the engine is still {progress.backlog()} records behind")
