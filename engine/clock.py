"""The only place that reads a clock.

Owns: Clock, SystemClock, ManualClock.
Never: a decision; who asks for the time decides what it means.
"""

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What the scheduler knows of time.

    Guarantees: `monotonic` never goes back. Not guaranteed: `wall_ms` may jump either way.
    """

    def wall_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; only differences mean anything."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until the event is set or the seconds are over; returns whether it is set."""


class SystemClock:
    """The machine's clock."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; only differences mean anything."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until the event is set or the seconds are over; returns whether it is set."""
        return event.wait(seconds)


class ManualClock:
    """A clock that stands still until it is told to move; for tests and replays.

    Example:
        >>> clock = ManualClock(1_000)
        >>> clock.advance(500)
        >>> clock.wall_ms()
        1500
    """

    def __init__(self, start_ms: int = 0) -> None:
        self._now_ms = start_ms
        self._set_by_ms = 0
        """How far the wall clock was set on or back."""
        self._moved = threading.Condition()

    def wall_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        with self._moved:
            return self._now_ms + self._set_by_ms

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; only differences mean anything."""
        with self._moved:
            return self._now_ms / 1_000

    def jump(self, milliseconds: int) -> None:
        """Set the wall clock on or back, as NTP or a person does; no time passes."""
        with self._moved:
            self._set_by_ms += milliseconds

    def advance(self, milliseconds: int) -> None:
        """Move the time on and wake whoever waits for it."""
        with self._moved:
            self._now_ms += milliseconds
            self._moved.notify_all()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until the event is set or the clock has been moved on by the seconds."""
        with self._moved:
            until_ms = self._now_ms + seconds * 1_000
            # The event is not tied to the condition: look at it a hundred times a second.
            while not event.is_set() and self._now_ms < until_ms:
                self._moved.wait(0.01)
        return event.is_set()
