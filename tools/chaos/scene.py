"""What every fault works with: the stack, the engine's progress, the moment of the fault, and all that is waited for.

All times are seconds since the fault.

Owns: Outcome, Scene.
Never: a fault; those are in hits.py.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.errors import StreamingError
from tools.chaos.page import state_of_engine
from tools.progress import LOOK_SECONDS, Progress
from tools.stack.control import looks
from tools.stack.engines import engines_of
from tools.stack.events import Event
from tools.stack.programs import State
from tools.stack.verbs import Verbs
from tools.verify import Verdict

DETECT_SECONDS = 30.0
FIRST_BATCH_SECONDS = 120.0
CAUGHT_UP_SECONDS = 180.0
FLIGHT_SECONDS = 2.0
"""After the loss of a server, batches whose reads or writes it had answered may still be committed for so long."""

_WATCH_SECONDS = 0.1


@dataclass(slots=True)
class Outcome:
    """What one run of a drill has seen; None for what did not happen."""

    run: int
    detect: float | None = None
    """Until the death was noted; where nothing dies, until commits had stayed away for two intervals."""
    restart: float | None = None
    """Until what was broken was whole again: started, and a server answering; resumed; joined; quick."""
    restored: float | None = None
    """Until the state was in memory again, where a new engine had to read it."""
    first_batch: float | None = None
    """Until the first new commit."""
    caught_up: float | None = None
    """Until the engine was no further behind than it is at work."""
    doubts: list[str] = field(default_factory=list)
    """What should have been seen of a fault that takes effect, and was not."""
    remarks: list[str] = field(default_factory=list)
    """What is worth a look and is no fault of the results."""
    failure: str = ""
    """Why the run ended before its proof: the stack did not come back, or was not at work."""
    verdict: Verdict | None = None

    @property
    def is_good(self) -> bool:
        """Whether the fault had its effect and every row is exact."""
        return self.word == "exact"

    @property
    def word(self) -> str:
        """The whole run in a word: exact, inexact, unknown, no-effect or failed."""
        if self.failure:
            return "failed"
        if self.doubts:
            return "no-effect"
        return ("exact", "inexact", "unknown")[self.verdict.code if self.verdict else 2]


@dataclass(slots=True)
class Scene:
    """One run of one fault on one stack that is up."""

    stack: Verbs
    victim: str
    """Whom the fault hits."""
    progress: Progress
    say: Callable[[str], None]
    """Is told in a few words what goes on."""
    hold_seconds: float
    """How long the fault lasts, where somebody else than the stack has to heal it."""
    struck: float = 0.0
    """When the fault began, in seconds since the epoch."""

    def since(self) -> float:
        """Seconds since the fault."""
        return time.time() - self.struck

    def begin(self, event: Event) -> Event:
        """The fault is there; its event tells since when."""
        self.struck = event.time
        return event

    def kill(self) -> Event:
        """SIGKILL to the victim."""
        self.say(f"killing {self.victim}")
        self.progress.close()  # its client must not go on looking for a server that is dead
        return self.begin(self.stack.kill(self.victim))

    def pid(self, name: str) -> int | None:
        """The pid of a process that runs."""
        return {status.name: status.pid for status in self.stack.status()}[name]

    def state(self, name: str) -> State:
        """How a process stands."""
        return {status.name: status.state for status in self.stack.status()}[name]

    def is_held(self) -> bool:
        """Whether the victim is paused: a signal was sent, and the process stops when it is next scheduled."""
        return any(self.state(self.victim) == State.PAUSED for _ in looks(DETECT_SECONDS, LOOK_SECONDS))

    def engines(self) -> dict[str, int | None]:
        """The pids of the engine, or of all replicas, by name."""
        names = engines_of(self.stack.settings)
        return {status.name: status.pid for status in self.stack.status() if status.name in names}

    def refusal(self) -> str:
        """Why no engine will come back; "" while one may."""
        names = engines_of(self.stack.settings)
        engines = [status for status in self.stack.status() if status.name in names]
        if any(status.state not in {State.REFUSED, State.ENDED} for status in engines):
            return ""
        return "; ".join(f"{status.name}: {status.reason}" for status in engines)

    # What is waited for.

    def await_death(self, outcome: Outcome, kill: Event) -> Event | None:
        """The victim's death; None, and a doubt, when it did not die."""
        try:
            death = self.stack.wait_for(self.victim, "death", after=kill.time, timeout_seconds=DETECT_SECONDS)
        except StreamingError:
            outcome.doubts.append(f"{self.victim} did not die within {DETECT_SECONDS:g} s of its SIGKILL")
            return None
        outcome.detect = death.time - self.struck
        return death

    def hold(self, outcome: Outcome, seconds: float, check: Callable[[], object] = lambda: None) -> list[int]:
        """Let the fault last until so long after it began; returns the times of the batches that were committed meanwhile.

        Args:
            outcome: gets the moment at which commits had stayed away for two intervals.
            seconds: since the fault.
            check: called with each look, for whatever else must hold meanwhile.
        """
        commits: list[int] = []
        newest, quiet_since = self.progress.newest().time, time.monotonic()
        limit = 2 * self.stack.settings.batch_seconds
        for _ in looks(seconds - self.since(), _WATCH_SECONDS):
            check()
            found = self.progress.newest().time
            if found != newest:
                newest, quiet_since = found, time.monotonic()
                commits.append(found)
            if outcome.detect is None and time.monotonic() - quiet_since > limit:
                outcome.detect = self.since()
        return commits

    def hold_silent(
        self, outcome: Outcome, seconds: float, how: str, check: Callable[[], object] = lambda: None
    ) -> int:
        """Let the fault last; a commit after the first two seconds is a doubt. Returns the time of the newest batch.

        Args:
            outcome: gets the doubts.
            seconds: since the fault.
            how: the victim stands meanwhile, in a word.
            check: called with each look.
        """
        self.say(f"{self.victim} stays {how} for {seconds:g} s")
        self.hold(outcome, min(FLIGHT_SECONDS, seconds), check)
        for commit in self.hold(outcome, seconds, check):
            outcome.doubts.append(
                f"batch {commit} was committed within the {seconds:g} s in which {self.victim} was away"
            )
        return self.progress.newest().time

    def await_first_batch(self, outcome: Outcome, before: int) -> None:
        """The first commit of a batch later than this one.

        Raises:
            StreamingError: there was none in time, or there will be none.
        """
        self.say("waiting for the first new commit")
        self.progress.await_newer(before, FIRST_BATCH_SECONDS, self._hopeless())
        outcome.first_batch = self.since()

    def await_epoch(self, epoch: int) -> bool:
        """Wait for the journal's next epoch; returns whether it came.

        Raises:
            StreamingError: the engine will not come back.
        """
        hopeless = self._hopeless()
        for _ in looks(FIRST_BATCH_SECONDS, LOOK_SECONDS):
            if self.progress.epoch() > epoch:
                return True
            if reason := hopeless():
                raise StreamingError(reason)
        return False

    def note_restored(self, outcome: Outcome, opened: float) -> None:
        """Ask the new engine, AFTER its first commit, how long it read state; so the question costs nothing that is measured.

        Args:
            outcome: gets the moment.
            opened: when its epoch was there, in seconds since the fault; it reads from then on.
        """
        checkpoint = state_of_engine(self.stack.settings).get("checkpoint") or {}
        seconds = checkpoint.get("restoreSeconds")
        if seconds is not None and outcome.first_batch is not None:
            outcome.restored = min(opened + seconds, outcome.first_batch)

    def await_caught_up(self) -> None:
        """Wait until everything that is in the log is committed within about two batches.

        Raises:
            StreamingError: it takes longer every time.
        """
        patience = 2.5 * self.stack.settings.batch_seconds + 0.5
        deadline = time.monotonic() + CAUGHT_UP_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(StreamingError):  # a server that has just come back may still refuse
                ends = self.progress.ends()
                for _ in looks(patience, LOOK_SECONDS):
                    taken = self.progress.newest().ends
                    if all(taken.get(place, 0) >= end for place, end in ends.items()):
                        return
            if reason := self.refusal():
                raise StreamingError(reason)
        raise StreamingError(f"the engine has not caught up within {CAUGHT_UP_SECONDS:g} s")

    def _hopeless(self) -> Callable[[], str]:
        """`refusal`, asked twice a second at most: in containers each time is a command of its own."""
        due = 0.0

        def look() -> str:
            nonlocal due
            if time.monotonic() < due:
                return ""
            due = time.monotonic() + 0.5
            return self.refusal()

        return look
