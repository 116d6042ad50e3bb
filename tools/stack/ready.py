"""Whether ports are free, and whether a server or a service really answers.

Owns: check_ports, free_port, is_answering, is_healthy, has_said.
Never: a start of anything.
"""

import errno
import http.client
import random
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import psutil

from engine.errors import ConfigurationError, StreamingError
from services.cassandra.session import open_session
from services.health import HEALTH_PATH
from services.settings import Settings
from services.topics import KafkaAdmin

_ASK_SECONDS = 2.0
_LOOPBACK = "127.0.0.1"
_PORTS = range(20_000, 32_000)
"""Below the ports of outgoing connections on most systems."""


def check_ports(ports: Mapping[str, int]) -> None:
    """Prove that nobody listens on the ports.

    Args:
        ports: by the variable that gives each.

    Raises:
        ConfigurationError: one is taken; the message has the variable, the port, who holds it and the remedy.
    """
    for variable, port in ports.items():
        error = _refusal(port)
        if error is None:
            continue
        if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
            raise error
        who = _holder(port) if error.errno == errno.EADDRINUSE else "the system, which keeps it for root"
        raise ConfigurationError(
            f"{variable}={port} is taken by {who}; end that or set {variable} to a free port"
        )


def free_port(wanted: int, taken: set[int]) -> int:
    """The wanted port of the loopback address if nobody listens on it, else another one."""
    for port in chain([wanted], iter(lambda: random.choice(_PORTS), None)):
        if port not in taken and _refusal(port) is None:
            taken.add(port)
            return port
    raise AssertionError("the candidates never end")


def is_healthy(port: int) -> bool:
    """Whether a service's health check on the loopback address says that it is at its work."""
    try:
        with urllib.request.urlopen(f"http://{_LOOPBACK}:{port}{HEALTH_PATH}", timeout=_ASK_SECONDS):
            return True
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return False


def is_answering(server: str, settings: Settings) -> bool:
    """Whether a server answers a client: a metadata request for Kafka, a query for Cassandra."""
    port = settings.kafka_port if server == "kafka" else settings.cassandra_port
    # A client is only made once somebody listens: looking is cheap, a failed client is not.
    if not _is_open(port):
        return False
    try:
        if server == "kafka":
            KafkaAdmin(f"{_LOOPBACK}:{port}").partitions(_ASK_SECONDS)
        else:
            with open_session([_LOOPBACK], port):
                pass
    except StreamingError:
        return False
    return True


def has_said(log: Path, line: str, position: int) -> bool:
    """Whether a log has a line with this text behind the position in bytes."""
    with log.open("rb") as file:
        # A log that is shorter by now was begun anew.
        file.seek(position if position <= log.stat().st_size else 0)
        return line.encode() in file.read()


def _is_open(port: int) -> bool:
    try:
        socket.create_connection((_LOOPBACK, port), _ASK_SECONDS).close()
    except OSError:
        return False
    return True


def _holder(port: int) -> str:
    """Who listens on a port, as far as the system tells."""
    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.laddr
                and connection.laddr[1] == port
                and connection.status == psutil.CONN_LISTEN
                and connection.pid
            ):
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        pass
    return "another process"


def _refusal(port: int) -> OSError | None:
    """Why nobody can listen on a port of the loopback address; None when it is free."""
    with socket.socket() as probe:
        # As the servers do: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError as error:
            return error
    return None
