"""Whether the runs of the watcher go on: one that is due begins, and one that has begun uses the processor.

How long a run takes says nothing, as it grows with the log; and a run that waits for an answer looks again all the time. So one
that has used no processor time for a while is stuck.

Owns: RunPulse.
Never: a run.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Final

import psutil

STUCK_SECONDS: Final = 60.0
"""Twice as long as a run waits for a row of the ledger."""


class RunPulse:
    """What is known of the runs; one thread tells, others ask.

    1. Before the first run begins, and between two, it is well until the next one is late.
    2. While one goes on, it is well as long as its processor time moves between two questions.

    Args:
        stuck_seconds: how long nothing may move.
        now: tells the time, seconds.

    Example:
        >>> time = iter([0, 100, 161])
        >>> pulse = RunPulse(now=lambda: next(time))
        >>> pulse.rests(100)
        >>> pulse.ailment(), pulse.ailment()
        ('', 'a run is due for 61 s and has not begun')
    """

    def __init__(
        self, stuck_seconds: float = STUCK_SECONDS, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = stuck_seconds
        self._now = now
        self._due = float("inf")
        self._run: psutil.Process | None = None
        self._used = (0, 0.0)
        """Process id of the run and the seconds it had used when that last changed."""
        self._moved = 0.0
        """When it changed."""

    def rests(self, seconds: float) -> None:
        """No run goes on, and the next one is due in so many seconds."""
        self._run, self._due = None, self._now() + seconds

    def runs(self, pid: int) -> None:
        """A run has begun in this process."""
        self._moved = self._now()
        self._run = psutil.Process(pid)

    def ailment(self) -> str:
        """Why the runs do not go on; empty when they do."""
        run, now = self._run, self._now()
        if run is None:
            late = now - self._due
            return f"a run is due for {late:.0f} s and has not begun" if late > self._limit else ""
        # Over since a moment ago: the next word comes from the watcher.
        with contextlib.suppress(psutil.NoSuchProcess):
            times = run.cpu_times()
            used = (run.pid, times.user + times.system)
            if used != self._used:
                self._used, self._moved = used, now
        still = now - self._moved
        return f"the run has used no processor time for {still:.0f} s" if still > self._limit else ""
