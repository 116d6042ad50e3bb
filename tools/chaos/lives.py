"""Faults of the engine's processes: a worker's death, an orderly end, a death in the middle of a recovery, a zombie.

Owns: KillWorker, TerminateEngine, KillRecovery, Zombie.
Never: a fault of data; those are in spoilt.py.
"""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from engine.errors import ConfigurationError, StreamingError
from services.settings import REFUSED, REPOSITORY, base_environment
from tools.chaos.hits import Plain, await_new_life, hold_driver, kill_service, resume
from tools.chaos.page import state_of_engine
from tools.chaos.scene import DETECT_SECONDS, Outcome, Scene
from tools.stack.compose import ComposeStack
from tools.stack.control import looks
from tools.stack.docker import docker
from tools.stack.events import Event

ENGINE = (sys.executable, "-m", "services.pipeline.main")
FENCED = "has taken over"
"""What an engine says that was fenced; engine.checkpoint.journal has the sentence."""

_MOST_KILLS = 5
"""So often a recovery is tried to be hit before its first commit."""
_WORKER_SECONDS = 60.0
_LOOK_SECONDS = 0.03
_FREE_SECONDS = 20.0
_END_SECONDS = 40.0


class KillWorker(Plain):
    """SIGKILL to one of the engine's worker processes; the engine replaces it and runs the batch again."""

    def strike(self, outcome: Outcome) -> None:
        """Kill, and see the same engine go on with another worker."""
        scene = self.scene
        engine, before = scene.pid("engine"), self._workers()
        if not before:
            raise ConfigurationError("the engine has no worker processes; start it with MASTER=local[2]")
        victim = min(before)
        scene.say(f"killing worker {victim}")
        newest = scene.progress.newest().time
        scene.begin(Event(time.time(), "engine", "worker", {"pid": victim}))
        self._kill(victim)
        for _ in looks(_WORKER_SECONDS, _LOOK_SECONDS):
            if outcome.first_batch is None and scene.progress.newest().time > newest:
                outcome.first_batch = scene.since()
            if outcome.restart is None and self._has_another(victim):
                outcome.restart = scene.since()
            if outcome.first_batch is not None and outcome.restart is not None:
                break
        else:
            outcome.doubts.append(f"worker {victim} was not replaced, or no batch came after it")
        if len(self._workers()) != len(before):
            outcome.doubts.append(f"the engine has {len(self._workers())} workers and not {len(before)}")
        if scene.pid("engine") != engine:
            outcome.doubts.append("the engine is another process, so it did not outlive its worker")

    def _has_another(self, victim: int) -> bool:
        workers = self._workers()
        return bool(workers) and victim not in workers

    def _workers(self) -> set[int]:
        """Their pids, as the engine counts them."""
        return {told["pid"] for told in state_of_engine(self.scene.stack.settings).get("executors") or ()}

    def _kill(self, pid: int) -> None:
        stack = self.scene.stack
        if isinstance(stack, ComposeStack):
            docker("exec", stack.container("engine").id, "sh", "-c", f"kill -9 {pid}")
        else:
            os.kill(pid, signal.SIGKILL)


class TerminateEngine(Plain):
    """SIGTERM: the engine lets its batch commit and ends with 0; then somebody starts it."""

    def strike(self, outcome: Outcome) -> None:
        """Ask it to end, see how it ended, start it, and see it go on in another epoch."""
        scene = self.scene
        epoch = scene.progress.epoch()
        scene.say("ending the engine")
        order = scene.begin(scene.stack.kill("engine", signal.SIGTERM))
        death = scene.stack.wait_for("engine", "death", after=order.time, timeout_seconds=_END_SECONDS)
        outcome.detect = death.time - scene.struck
        if death.facts["exit_code"] != 0:
            outcome.doubts.append(f"the engine ended otherwise than with exit code 0: {dict(death.facts)}")
        # In containers the engine is asked, and was last asked before its end.
        if scene.stack.settings.stack != "compose" and scene.progress.newest().in_flight:
            outcome.doubts.append("a batch was begun and not committed")
        scene.say("starting the engine")
        scene.stack.start("engine")
        outcome.restart = scene.since()
        await_new_life(scene, outcome, epoch)

    def heal(self) -> None:
        """Start the engine, if it was left down."""
        if self.scene.pid("engine") is None:
            self.scene.stack.start("engine")


class KillRecovery(Plain):
    """SIGKILL, and again when the new process has begun to recover and has not committed anything."""

    def strike(self, outcome: Outcome) -> None:
        """Kill, kill what recovers, and see the next one go on."""
        scene = self.scene
        epoch = scene.progress.epoch()
        before = kill_service(scene, outcome)
        if before is None:
            return
        for _ in range(_MOST_KILLS):
            if not scene.await_epoch(epoch):
                outcome.doubts.append(f"no process recovered: the journal is still in epoch {epoch}")
                return
            epoch = scene.progress.epoch()
            scene.say("killing the engine while it recovers")
            again = scene.stack.kill("engine")
            scene.stack.wait_for("engine", "death", after=again.time, timeout_seconds=DETECT_SECONDS)
            found = scene.progress.newest().time
            restart = scene.stack.wait_for("engine", "restart", after=again.time)
            outcome.restart = restart.time - scene.struck
            if found == before:
                break
            before = found
        else:
            outcome.doubts.append(f"each of {_MOST_KILLS} recoveries had committed before it was killed")
        await_new_life(scene, outcome, epoch)


class Zombie(Plain):
    """The engine is held; a second one takes over; the first wakes up, and must find that it is not the engine any more.

    Args:
        scene: where it strikes; a stack of plain processes.
    """

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._second: subprocess.Popen[bytes] | None = None
        self._held: Event | None = None
        self._epoch = 0
        """Of the first engine."""
        self._log = scene.stack.settings.data_dir / "logs" / "engine-second.log"

    def strike(self, outcome: Outcome) -> None:
        """Hold, see another one commit, wake the first and see it fenced; then the second hands over to the stack's engine."""
        scene, log = self.scene, self._log.with_name("engine.log")
        epoch, before = scene.progress.epoch(), scene.progress.newest().time
        self._epoch = epoch
        held = self._held = scene.begin(self._hold(outcome))
        scene.say("a second engine takes over")
        self._second = self._start_second()
        if not scene.await_epoch(epoch):
            outcome.doubts.append(f"the second engine has not begun an epoch after {epoch}")
        outcome.restart = scene.since()
        scene.await_first_batch(outcome, before)
        said = log.stat().st_size
        scene.say("waking the first engine")
        resume(scene)
        self._doubt_end(outcome, held, _since(log, said))
        if FENCED not in _since(log, said):
            outcome.doubts.append("the first engine did not say that another has taken over")
        if scene.progress.epoch() != epoch + 1:
            outcome.doubts.append(f"the journal is in epoch {scene.progress.epoch()} and not in {epoch + 1}")
        # The second one must still be at work: what the first did last has not harmed it.
        scene.progress.await_newer(scene.progress.newest().time, DETECT_SECONDS, self._hopeless)
        self.heal()

    def heal(self) -> None:
        """End the second engine and have the stack's own go on."""
        scene, second, code = self.scene, self._second, 0
        if self._held is None:
            return
        resume(scene)
        if second is not None:
            scene.say("the second engine hands over")
            code = _end(second)
            self._second = None
        if scene.pid("engine") and scene.progress.epoch() > self._epoch:  # fenced, and about to find out
            scene.stack.wait_for("engine", "death", after=self._held.time, timeout_seconds=DETECT_SECONDS)
        scene.stack.start("engine")
        self._held = None
        if code:
            raise StreamingError(f"the second engine ended with exit code {code} on SIGTERM; see {self._log}")

    def _hold(self, outcome: Outcome) -> Event:
        """Hold the first engine, but not while it has the embedded store locked: SQLite waits for a lock for ever."""
        settings = self.scene.stack.settings
        for _ in looks(_FREE_SECONDS, _LOOK_SECONDS):
            held = hold_driver(self.scene, outcome)
            if settings.stack != "embedded" or _is_free(settings.results_path):
                break
            resume(self.scene)
        return held

    def _start_second(self) -> subprocess.Popen[bytes]:
        settings = self.scene.stack.settings
        with socket.socket() as probe:  # the first one still holds the port of its page
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {**base_environment(), **settings.environment(), "METRICS_PORT": str(port)}
        with self._log.open("wb") as log:
            return subprocess.Popen(
                [*ENGINE, "--takeover"],
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the drill, which then ends it as it should
            )

    def _doubt_end(self, outcome: Outcome, held: Event, said: str) -> None:
        """See that the first engine ends by itself, refused."""
        scene = self.scene
        try:
            death = scene.stack.wait_for("engine", "death", after=held.time, timeout_seconds=DETECT_SECONDS)
        except StreamingError:
            outcome.doubts.append(f"the first engine did not end within {DETECT_SECONDS:g} s: {said[-200:]}")
            return
        outcome.detect = death.time - scene.struck
        if death.facts["exit_code"] != REFUSED:
            outcome.doubts.append(
                f"the first engine ended otherwise than with exit code 2: {dict(death.facts)}"
            )

    def _hopeless(self) -> str:
        gone = self._second is None or self._second.poll() is not None
        return f"the second engine has ended; see {self._log}" if gone else ""


def _end(process: subprocess.Popen[bytes]) -> int:
    """End a process, by SIGKILL when SIGTERM does not; its exit code."""
    process.terminate()
    try:
        return process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _is_free(results: Path) -> bool:
    """Whether a SQLite file can be written."""
    with contextlib.closing(sqlite3.connect(results, timeout=1, isolation_level=None)) as store:
        try:
            store.execute("BEGIN IMMEDIATE")
            store.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return False
        return True


def _since(log: Path, position: int) -> str:
    """What a log has got after a position."""
    with log.open("rb") as file:
        file.seek(position)
        return file.read().decode(errors="replace")
