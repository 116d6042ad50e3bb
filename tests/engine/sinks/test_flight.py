"""A flight keeps to its window, and leaves behind what was not acknowledged."""

import itertools
from dataclasses import dataclass, field

import pytest

from engine.sinks.flight import Flight, Tally, Window


@dataclass
class Parcel:
    """A request that is answered with an error, or with None."""

    size_bytes: int = 1
    error: Exception | None = None


@dataclass
class Line:
    """Takes parcels and counts those that wait for an answer."""

    sent: list[Parcel] = field(default_factory=list)
    flying: int = 0
    most_flying: int = 0
    flying_bytes: int = 0
    most_bytes: int = 0

    def send(self, parcel: Parcel) -> "Answer":
        """Take a parcel."""
        self.sent.append(parcel)
        self.flying += 1
        self.flying_bytes += parcel.size_bytes
        self.most_flying = max(self.most_flying, self.flying)
        self.most_bytes = max(self.most_bytes, self.flying_bytes)
        return Answer(self, parcel)


@dataclass
class Answer:
    """The answer to a parcel."""

    line: Line
    parcel: Parcel

    def result(self) -> None:
        """Give the answer."""
        self.line.flying -= 1
        self.line.flying_bytes -= self.parcel.size_bytes
        if self.parcel.error:
            raise self.parcel.error


def fly(line: Line, window: Window, parcels: list[Parcel]) -> Flight[Parcel]:
    """Fly the parcels; a ValueError is permanent, every OSError is not."""
    flight = Flight[Parcel](line.send, window, Tally(lambda: 0.0), (ValueError,), (OSError,))
    flight.fly(parcels)
    return flight


@pytest.mark.parametrize("requests", [1, 2, 7, 500])
def test_window_bounds_the_requests(requests: int) -> None:
    """Never more requests wait than the window allows, and all of it is used."""
    line = Line()
    flight = fly(line, Window(requests, 1_000_000), [Parcel() for _ in range(300)])
    assert line.most_flying == min(requests, 300)
    assert flight.acknowledged == 300
    assert flight.unacknowledged == []


def test_window_bounds_the_bytes() -> None:
    """Never more bytes wait than the window allows, but one larger request goes alone."""
    line = Line()
    fly(line, Window(100, 10), [*(Parcel(4) for _ in range(20)), Parcel(50), Parcel(4)])
    assert line.most_bytes == 50
    assert max(line.most_flying, 2) == 2
    assert len(line.sent) == 22


def test_nothing_is_sent_after_trouble() -> None:
    """After a transient error only what is on its way is waited for; failed and unsent requests stay."""
    parcels = [Parcel() for _ in range(100)]
    parcels[20].error = TimeoutError("late")
    line = Line()
    flight = fly(line, Window(10, 1_000), parcels)
    assert flight.trouble is parcels[20].error
    assert flight.unacknowledged[0] is parcels[20]
    assert len(line.sent) <= 31
    assert flight.acknowledged == len(line.sent) - 1
    assert flight.unacknowledged[1:] == parcels[len(line.sent) :]
    assert line.flying == 0


def test_tally_counts_what_became_of_each_request() -> None:
    """Each acknowledged request gives the seconds from its sending to its answer, each other one is a failure."""
    parcels = [Parcel() for _ in range(6)]
    parcels[2].error = TimeoutError("late")
    parcels[3].error = ValueError("never")
    ticks = itertools.count()
    tally = Tally(lambda: float(next(ticks)))
    flight = Flight[Parcel](Line().send, Window(6, 1_000), tally, (ValueError,), (OSError,))
    flight.fly(parcels)

    assert (tally.seconds.count, tally.failures) == (4, 2)
    # Sent at 0 to 5; those that were acknowledged are collected at 6, 7, 8 and 9.
    assert tally.seconds.total == (6 - 0) + (7 - 1) + (8 - 4) + (9 - 5)


def test_refusal_is_kept_with_its_request() -> None:
    """A permanent error is told with the request it answers, also beside a transient one."""
    parcels = [Parcel() for _ in range(50)]
    parcels[3].error = ConnectionResetError()
    parcels[5].error = ValueError("never")
    flight = fly(Line(), Window(10, 1_000), parcels)
    assert flight.refusal == (parcels[5], parcels[5].error)


@pytest.mark.fault(
    40, "one of many requests fails for a while, on a stand-in for the line: fewer fly at a time"
)
def test_one_request_probes_after_trouble() -> None:
    """After trouble a single request is in flight, and each acknowledgement lets one more fly, up to the most."""
    window = Window(100, 1)
    window.restart()
    line = Line()
    parcels = [Parcel(0, TimeoutError()), *(Parcel(0) for _ in range(5))]
    assert len(fly(line, window, parcels).unacknowledged) == 6
    assert line.sent == parcels[:1]
    fly(line, window, [Parcel(0) for _ in range(500)])
    assert window.requests == line.most_flying == 100
