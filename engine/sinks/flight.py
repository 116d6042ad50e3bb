"""A bounded window of requests on their way to a store; the caller's own thread sends and collects them.

A window of futures that the caller drains costs a third less CPU than callbacks on the driver's event loop.

Owns: Window, Tally, Flight.
Never: a driver of a database, a retry.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from engine.reports import Buckets

ErrorTypes = tuple[type[Exception], ...]
"""As an except clause takes them."""


class Sized(Protocol):
    """A request as a flight sees it."""

    @property
    def size_bytes(self) -> int:
        """How much it adds to the bytes in flight."""


class Future(Protocol):
    """The answer to a request, which comes later."""

    def result(self) -> Any:
        """Wait for the answer, and raise it when it is an error."""


R = TypeVar("R", bound=Sized)
"""What a flight sends."""


@dataclass(slots=True)
class Window:
    """How much may be in flight; after trouble one request probes, and each acknowledgement lets one more fly.

    Example:
        >>> window = Window(requests=200, size_bytes=1_000_000)
        >>> window.restart()
        >>> window.grow()
        >>> window.requests
        2
    """

    requests: int
    """Requests that may wait for an answer now."""
    size_bytes: int
    """Bytes of these requests; a larger request goes alone."""
    most_requests: int = 0
    """What `requests` grows back to; its first value."""

    def __post_init__(self) -> None:
        self.most_requests = self.most_requests or self.requests

    def grow(self) -> None:
        """Let one request more be in flight, up to the most."""
        self.requests = min(self.requests + 1, self.most_requests)

    def restart(self) -> None:
        """Let a single request be in flight: a server that is away or overloaded is asked by one."""
        self.requests = 1


@dataclass(slots=True)
class Tally:
    """What became of the requests of one write, over all rounds."""

    monotonic: Callable[[], float]
    """Seconds from an arbitrary start."""
    failures: int = 0
    """Requests that were refused or left without an answer."""
    seconds: Buckets = field(default_factory=Buckets)
    """Of each acknowledged request, from its sending until its answer was collected: an answer may have waited its turn
    behind those before it."""


class Flight(Generic[R]):
    """One round of requests; after the first error the rest is not sent.

    Args:
        execute: sends a request and returns its answer to come.
        window: how much may be in flight.
        tally: takes what becomes of each request.
        permanent: errors that no retry heals; looked at before the transient ones.
        transient: errors that leave a request unacknowledged.
    """

    def __init__(
        self,
        execute: Callable[[R], Future],
        window: Window,
        tally: Tally,
        permanent: ErrorTypes,
        transient: ErrorTypes,
    ) -> None:
        self._execute = execute
        self._tally = tally
        self._window = window
        self._permanent = permanent
        self._transient = transient
        self._flying: deque[tuple[R, Future, float]] = deque()
        self._flying_bytes = 0
        self.acknowledged = 0
        """Number of requests."""
        self.unacknowledged: list[R] = []
        """Those that failed for a while, and those that were not sent after it."""
        self.trouble: Exception | None = None
        """The first transient error."""
        self.refusal: tuple[R, Exception] | None = None
        """The first permanent error, and whose it is."""

    def fly(self, requests: Iterable[R]) -> None:
        """Send the requests and wait for every answer."""
        for request in requests:
            self._make_room(request.size_bytes)
            if self.trouble or self.refusal:
                self.unacknowledged.append(request)
            else:
                sent = self._tally.monotonic()
                self._flying.append((request, self._execute(request), sent))
                self._flying_bytes += request.size_bytes
        while self._flying:
            self._collect()

    def _make_room(self, size_bytes: int) -> None:
        if len(self._flying) < self._window.requests and not self._is_too_much(size_bytes):
            return
        # A quarter at once: each turn from this thread to the driver's and back costs more than the row.
        kept = len(self._flying) * 3 // 4
        while len(self._flying) > kept or self._is_too_much(size_bytes):
            self._collect()

    def _is_too_much(self, size_bytes: int) -> bool:
        return bool(self._flying) and self._flying_bytes + size_bytes > self._window.size_bytes

    def _collect(self) -> None:
        request, future, sent = self._flying.popleft()
        self._flying_bytes -= request.size_bytes
        try:
            future.result()
        except self._permanent as error:
            self.refusal = self.refusal or (request, error)
            self._tally.failures += 1
        except self._transient as error:
            self.unacknowledged.append(request)
            self.trouble = self.trouble or error
            self._tally.failures += 1
        else:
            self.acknowledged += 1
            self._tally.seconds.observe(self._tally.monotonic() - sent)
            self._window.grow()
