"""Whether a process is at its work, served beside its metrics.

The thread that serves lives on when the work stands still, so an answer alone says nothing: /healthz tells what the work itself
has told last.

Owns: Pulse, serve.
Never: what the work is.
"""

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from engine.clock import Clock

HEALTH_PATH: Final = "/healthz"


class Pulse:
    """Work that is known to go on as long as it says so often enough.

    Args:
        clock: tells how long ago the last beat was.
        work: what goes on, for the sentence.
        limit_seconds: how long it may be silent.

    Example:
        >>> from engine.clock import ManualClock
        >>> clock = ManualClock(0)
        >>> pulse = Pulse(clock, "append", 15)
        >>> pulse.ailment()
        'there was no append yet'
        >>> pulse.beat()
        >>> pulse.ailment()
        ''
    """

    def __init__(self, clock: Clock, work: str, limit_seconds: float) -> None:
        self._clock = clock
        self._work = work
        self._limit = limit_seconds
        self._beat_at: float | None = None

    def beat(self) -> None:
        """The work goes on as of now."""
        self._beat_at = self._clock.monotonic()

    def ailment(self) -> str:
        """Why the work does not go on; empty when it does."""
        if self._beat_at is None:
            return f"there was no {self._work} yet"
        silent = self._clock.monotonic() - self._beat_at
        return f"there was no {self._work} for {silent:.0f} s" if silent > self._limit else ""


def serve(host: str, port: int, registry: CollectorRegistry, ailment: Callable[[], str]) -> None:
    """Serve /metrics and /healthz (200, or 503 with the reason), on threads that end with the process.

    Args:
        host: address to listen on.
        port: 0 takes a free one.
        registry: what /metrics tells.
        ailment: why the process is not at its work; empty when it is.

    Raises:
        OSError: the port is taken, or the host is not this machine.
    """
    metrics = make_wsgi_app(registry)

    def answer(request: dict[str, Any], begin: Callable[..., Any]) -> Iterable[bytes]:
        if request["PATH_INFO"] != HEALTH_PATH:
            found: Iterable[bytes] = metrics(request, begin)
            return found
        why = ailment()
        begin("503 Service Unavailable" if why else "200 OK", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{why or 'ok'}\n".encode()]

    server = make_server(host, port, answer, _Server, _Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each request, by IPv4 or IPv6."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        super().__init__(address, handler)


class _Handler(WSGIRequestHandler):
    """Requests are not logged."""

    def log_message(self, *_: object) -> None:
        """Nothing."""
