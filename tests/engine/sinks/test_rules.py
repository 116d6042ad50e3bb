"""Outages are waited out with growing pauses and told once a second."""

import logging
import threading
import uuid

import pytest

from engine.errors import SinkError
from engine.sinks.api import Table
from engine.sinks.rules import ANYTHING, INTEGER, TEXT, Outage, changes_of, describe, shown

LOG = logging.getLogger("test.outage")


class PausingClock:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now_seconds = 1_000.0
        self.pauses: list[float] = []

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.now_seconds * 1_000)

    def monotonic(self) -> float:
        """Seconds."""
        return self.now_seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Move on at once."""
        self.pauses.append(seconds)
        self.now_seconds += seconds
        return event.is_set()


class Flaky:
    """Fails a number of times, then returns."""

    def __init__(self, failures: int) -> None:
        self.left = failures

    def __call__(self) -> str:
        """Fail, or return."""
        if self.left:
            self.left -= 1
            raise ConnectionResetError("gone")
        return "done"


def outage(clock: PausingClock) -> Outage:
    """An outage of a store that no other test knows."""
    return Outage(f"Store {uuid.uuid4().hex}", "a write", LOG, clock=clock)


def test_attempt_that_succeeds_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """Without trouble there is no pause and no line."""
    clock = PausingClock()
    assert outage(clock).retry(Flaky(0), (OSError,)) == "done"
    assert clock.pauses == []
    assert caplog.records == []


def test_pauses_grow_to_a_second_with_jitter() -> None:
    """The pauses double from 50 ms to at most 1 s, each cut by a random part of at most half."""
    clock = PausingClock()
    assert outage(clock).retry(Flaky(50), (OSError,)) == "done"
    bounds = [min(0.05 * 2**step, 1.0) for step in range(50)]
    assert all(bound / 2 <= pause <= bound for pause, bound in zip(clock.pauses, bounds, strict=True))
    assert len(set(clock.pauses)) > 40


def test_progress_makes_the_next_pause_short() -> None:
    """A store that takes some of the work is asked again soon."""
    clock = PausingClock()
    trouble = outage(clock)
    flaky = Flaky(9)

    def attempt() -> str:
        if flaky.left == 2:
            trouble.progress()
        return flaky()

    trouble.retry(attempt, (OSError,))
    assert clock.pauses[7] <= 0.05


def test_outage_is_told_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    """However often the store is tried, a line comes once a second, with since when and for how long."""
    clock = PausingClock()
    outage(clock).retry(Flaky(200), (OSError,))
    told = [record.getMessage() for record in caplog.records if "waits since" in record.getMessage()]
    assert clock.now_seconds - 1_000 >= len(told) - 1
    assert len(told) >= (clock.now_seconds - 1_000) / 2
    assert all("a write waits since 1970-01-01T00:16:40+00:00" in line for line in told)
    assert all(line.endswith("ConnectionResetError: 'gone'") for line in told)
    assert "answers again after" in caplog.records[-1].getMessage()


def test_calls_share_the_line_of_a_second(caplog: pytest.LogCaptureFixture) -> None:
    """Two calls that wait for one store do not tell it twice."""
    clock = PausingClock()
    store = uuid.uuid4().hex
    for _ in range(2):
        Outage(store, "a write", LOG, clock=clock).retry(Flaky(1), (OSError,))
    assert len([record for record in caplog.records if "waits since" in record.getMessage()]) == 1


def test_other_errors_pass() -> None:
    """An error that is not transient is not retried."""
    clock = PausingClock()
    with pytest.raises(ConnectionResetError):
        outage(clock).retry(Flaky(1), (TimeoutError,))
    assert clock.pauses == []


def test_long_values_are_cut_in_messages() -> None:
    """A value of megabytes does not fill a message."""
    assert len(shown(b"x" * 1_000_000)) < 300
    assert len(describe(ValueError("x" * 1_000_000))) < 300


def test_type_left_to_the_driver_takes_anything() -> None:
    """A column of a type that is not known here takes any value, true and false too."""
    table = Table("t", columns=("id", "tags"), key=("id",))
    rows = [("a", ["x"]), ("b", True), ("c", None)]
    changes = changes_of(table, [TEXT, ANYTHING], rows)
    assert [change.values for change in changes] == rows


def test_true_is_no_number() -> None:
    """A truth value in a column of numbers is refused: it is a mistake, whatever Python thinks."""
    with pytest.raises(SinkError, match="column 'n' takes int, not bool True"):
        changes_of(Table("t", columns=("id", "n"), key=("id",)), [TEXT, INTEGER], [("a", True)])
