"""One drill: strike at a moment that the seed picks, have the effect proven, heal, wait until the engine has caught up, verify.

Owns: Drill, least_hold.
Never: a process that the stack did not start.
"""

import random
import time
from collections.abc import Callable

from engine.errors import StreamingError
from tools.chaos.faults import FAULTS
from tools.chaos.history import History, Key
from tools.chaos.scene import FIRST_BATCH_SECONDS, FLIGHT_SECONDS, Outcome, Scene
from tools.progress import LOOK_SECONDS, Progress
from tools.stack.control import looks
from tools.stack.revision import revision_of
from tools.stack.verbs import Verbs
from tools.verify import verify

HOLD_SECONDS = 10.0
"""How long a fault lasts that the stack does not heal by itself."""

_VERIFY_SECONDS = 30.0
"""A server that has just come back may refuse the first reader; so long it is tried again."""
_COULD_NOT_TELL = 2
"""The verdict's code."""


def least_hold(batch_seconds: float) -> float:
    """Seconds that a fault must last, so that commits which stay away can be seen.

    Example:
        >>> least_hold(1.0)
        5.0
    """
    return FLIGHT_SECONDS + 2 * batch_seconds + 1


class Drill:
    """One kind of fault on one stack that is up.

    Args:
        stack: whose process is hit.
        fault: a name of FAULTS.
        seed: picks the moments.
        say: is told in a few words what goes on.
        hold_seconds: how long the fault lasts, where the stack does not heal it.
        series: of the runs that stand in one table.
    """

    def __init__(
        self,
        stack: Verbs,
        fault: str,
        seed: int,
        say: Callable[[str], None],
        hold_seconds: float = HOLD_SECONDS,
        *,
        series: int = 0,
    ) -> None:
        self._stack = stack
        self._fault = FAULTS[fault]
        self._seed = seed
        self._say = say
        self._hold_seconds = hold_seconds
        self._progress = Progress(stack.settings)
        key = Key(stack.settings.stack, fault, seed, hold_seconds, series, revision_of(stack.settings))
        self._history = History(stack.settings.data_dir, key)

    def run(self, number: int) -> Outcome:
        """Strike once.

        Raises:
            StreamingError: the stack did not come back, or was not at work before the fault.
        """
        outcome = Outcome(number)
        self._history.begin(number)
        try:
            self._strike(outcome)
        except StreamingError as error:
            outcome.failure = str(error)
            self._history.end(outcome)
            raise
        finally:
            self._history.close()
        return outcome

    def _strike(self, outcome: Outcome) -> None:
        scene = Scene(self._stack, self._fault.victim, self._progress, self._say, self._hold_seconds)
        hit = self._fault.make(scene)
        try:
            self._say("waiting until the engine has caught up")
            hit.prepare()
            scene.await_caught_up()
            self._await_moment(outcome.run)
            hit.strike(outcome)
            self._say("catching up")
            scene.await_caught_up()
            outcome.caught_up = scene.since()
            self._say(f"caught up {outcome.caught_up:.1f} s after the fault")
        finally:
            hit.heal()
        scene.await_caught_up()
        self._say("verifying every row")
        began = time.monotonic()
        for _ in looks(_VERIFY_SECONDS, 1.0):
            outcome.verdict = verify(self._stack.settings)
            if outcome.verdict.code != _COULD_NOT_TELL:
                break
        self._say(f"verified in {time.monotonic() - began:.1f} s")
        self._history.end(outcome)

    def close(self) -> None:
        """Let go of the log."""
        self._progress.close()

    def _await_moment(self, number: int) -> None:
        """Wait for a moment of the seed's, and then until a batch is in flight."""
        pick = random.Random(f"{self._seed}-{number}")
        seconds = pick.uniform(0, 3 * self._stack.settings.batch_seconds)
        self._say(f"striking in {seconds:.2f} s")
        self._progress.await_newer(self._progress.newest().time, FIRST_BATCH_SECONDS)
        time.sleep(seconds)
        for _ in looks(FIRST_BATCH_SECONDS, LOOK_SECONDS):
            if self._progress.newest().in_flight:
                return
        raise StreamingError("no batch was in flight; is the engine at work?")
