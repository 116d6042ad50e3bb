"""One fault: strike at a moment that the seed picks, prove the effect, heal, wait until the engine has caught up, verify.

All times are seconds since the kill.

Owns: FAULTS, Outcome, Drill.
Never: a process that the stack did not start.
"""

import contextlib
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from engine.errors import StreamingError
from tools.progress import LOOK_SECONDS, Progress
from tools.stack.api import Stack
from tools.stack.control import looks
from tools.stack.events import Event
from tools.stack.programs import State
from tools.stack.ready import is_answering
from tools.verify import Verdict, verify

FAULTS: Mapping[str, str] = MappingProxyType(
    {"engine-kill": "engine", "kafka-restart": "kafka", "cassandra-restart": "cassandra"}
)
"""By fault the process that gets the SIGKILL."""

HOLD_SECONDS = 10.0
"""How long a server stays down."""

_FLIGHT_SECONDS = 2.0
"""After the death of a server, batches whose reads or writes it had answered may still be committed for so long."""
_CAUGHT_UP_SECONDS = 180.0
_FIRST_BATCH_SECONDS = 120.0
_DETECT_SECONDS = 30.0
_WATCH_SECONDS = 0.1


@dataclass(slots=True)
class Outcome:
    """What one run of a drill has seen."""

    run: int
    detect: float = 0.0
    """Until the supervisor noted the death."""
    restart: float = 0.0
    """Until the process was started again; a server until it answered."""
    first_batch: float = 0.0
    """Until the first new commit."""
    caught_up: float = 0.0
    """Until the engine was no further behind than it is at work."""
    doubts: list[str] = field(default_factory=list)
    """What should have been seen of a fault that takes effect, and was not."""
    remarks: list[str] = field(default_factory=list)
    """What is worth a look and is no fault of the results."""
    verdict: Verdict | None = None

    @property
    def is_good(self) -> bool:
        """Whether the fault had its effect and every row is exact."""
        return not self.doubts and self.verdict is not None and self.verdict.code == 0


class Drill:
    """One kind of fault on one stack that is up.

    Args:
        stack: whose process is hit.
        fault: a name of FAULTS.
        seed: picks the moments.
        say: is told in a few words what goes on.
        hold_seconds: how long a server stays down.
    """

    def __init__(
        self,
        stack: Stack,
        fault: str,
        seed: int,
        say: Callable[[str], None],
        hold_seconds: float = HOLD_SECONDS,
    ) -> None:
        self._stack = stack
        self._victim = FAULTS[fault]
        self._seed = seed
        self._say = say
        self._hold_seconds = hold_seconds
        self._progress = Progress(stack.settings)
        self._killed = 0.0

    def run(self, number: int) -> Outcome:
        """Strike once.

        Raises:
            StreamingError: the stack did not come back, or was not at work before the fault.
        """
        outcome = Outcome(number)
        self._say("waiting until the engine has caught up")
        self._await_caught_up(_CAUGHT_UP_SECONDS)
        self._await_moment(number)
        try:
            if self._victim == "engine":
                self._hit_engine(outcome)
            else:
                self._hit_server(outcome)
        finally:
            self._heal()
        self._say("catching up")
        self._await_caught_up(_CAUGHT_UP_SECONDS)
        outcome.caught_up = self._since_kill()
        self._say("verifying")
        outcome.verdict = verify(self._stack.settings)
        return outcome

    def close(self) -> None:
        """Let go of the log."""
        self._progress.close()

    # The moment.

    def _await_moment(self, number: int) -> None:
        """Wait for a moment of the seed's, and then until a batch is in flight."""
        pick = random.Random(f"{self._seed}-{number}")
        seconds = pick.uniform(0, 3 * self._stack.settings.batch_seconds)
        self._say(f"striking in {seconds:.2f} s")
        self._progress.await_newer(self._progress.newest().time, _FIRST_BATCH_SECONDS)
        time.sleep(seconds)
        for _ in looks(_FIRST_BATCH_SECONDS, LOOK_SECONDS):
            if self._progress.newest().in_flight:
                return
        raise StreamingError("no batch was in flight; is the engine at work?")

    # The faults.

    def _hit_engine(self, outcome: Outcome) -> None:
        epoch = self._progress.epoch()
        kill = self._kill()
        death = self._await_event("engine", "death", kill)
        outcome.detect = death.time - self._killed
        before = self._progress.newest().time
        if (death.facts["pid"], death.facts["signal"]) != (kill.facts["pid"], "SIGKILL"):
            outcome.doubts.append(f"the engine did not die by SIGKILL but so: {dict(death.facts)}")
        restart = self._await_event("engine", "restart", kill)
        outcome.restart = restart.time - self._killed
        if restart.facts["pid"] == kill.facts["pid"]:
            outcome.doubts.append(f"the engine has the pid {kill.facts['pid']} as before")
        self._await_first_batch(outcome, before)
        if self._progress.epoch() <= epoch:
            outcome.doubts.append(f"the journal is still in epoch {epoch}, so the same process went on")

    def _hit_server(self, outcome: Outcome) -> None:
        engine = self._pid("engine")
        kill = self._kill()
        death = self._await_event(self._victim, "death", kill)
        outcome.detect = death.time - self._killed
        before = self._hold_down(outcome)
        self._say(f"starting {self._victim}")
        self._stack.start(self._victim)
        outcome.restart = self._since_kill()
        if self._pid(self._victim) == kill.facts["pid"]:
            outcome.doubts.append(f"{self._victim} has the pid {kill.facts['pid']} as before")
        self._await_first_batch(outcome, before)
        if self._pid("engine") != engine:
            outcome.remarks.append(
                f"the engine did not wait for {self._victim} but died and was started again"
            )

    def _hold_down(self, outcome: Outcome) -> int:
        """Leave the server dead for a while, and watch; returns the time of the last batch that was committed."""
        self._say(f"{self._victim} is down for {self._hold_seconds:g} s")
        for _ in looks(_FLIGHT_SECONDS, _WATCH_SECONDS):
            before = self._progress.newest().time
        for _ in looks(self._hold_seconds - self._since_kill(), _WATCH_SECONDS):
            if is_answering(self._victim, self._stack.settings):
                outcome.doubts.append(f"{self._victim} answered {self._since_kill():.1f} s after its death")
            if self._progress.newest().time != before:
                before = self._progress.newest().time
                outcome.doubts.append(
                    f"a batch was committed {self._since_kill():.1f} s after {self._victim} died"
                )
        return before

    def _kill(self) -> Event:
        self._say(f"killing {self._victim}")
        self._progress.close()  # its client must not go on looking for a server that is dead
        event = self._stack.kill(self._victim)
        self._killed = event.time
        return event

    def _heal(self) -> None:
        """Start a server that this drill has left down, however it ended; a dead engine is the supervisor's."""
        if self._victim != "engine" and self._pid(self._victim) is None:
            self._say(f"starting {self._victim} again")
            self._stack.start(self._victim)

    # What is waited for.

    def _await_first_batch(self, outcome: Outcome, before: int) -> None:
        self._say("waiting for the first new commit")
        self._progress.await_newer(before, _FIRST_BATCH_SECONDS, self._refusal)
        outcome.first_batch = self._since_kill()

    def _await_caught_up(self, seconds: float) -> None:
        """Wait until everything that is in the log is committed within about two batches.

        Raises:
            StreamingError: it takes longer every time.
        """
        patience = 2.5 * self._stack.settings.batch_seconds + 0.5
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(StreamingError):  # a server that has just come back may still refuse
                ends = self._progress.ends()
                for _ in looks(patience, LOOK_SECONDS):
                    taken = self._progress.newest().ends
                    if all(taken.get(place, 0) >= end for place, end in ends.items()):
                        return
            if reason := self._refusal():
                raise StreamingError(reason)
        raise StreamingError(f"the engine has not caught up within {seconds:g} s")

    def _await_event(self, name: str, kind: str, kill: Event) -> Event:
        return self._stack.wait_for(name, kind, after=kill.time, timeout_seconds=_DETECT_SECONDS)

    def _refusal(self) -> str:
        """Why the engine will not come back; "" while it may."""
        status = next(status for status in self._stack.status() if status.name == "engine")
        return f"engine: {status.reason}" if status.state in {State.REFUSED, State.ENDED} else ""

    def _pid(self, name: str) -> int | None:
        return next(status.pid for status in self._stack.status() if status.name == name)

    def _since_kill(self) -> float:
        return time.time() - self._killed
