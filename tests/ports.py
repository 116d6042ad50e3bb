"""Ports for servers of tests: nobody listens on them, none is given twice before all were, and no two processes of pytest-xdist draw the same.

Owns: free_port, free_ports, setting_ports.
"""

import os
import random
import re
import socket
from collections import deque

from services.settings import Settings

_PORTS = range(20_000, 32_000)
"""Below those of outgoing connections: a client that tries again while its server is down must not get the server's port."""
_PROCESSES = 2

_number = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) % _PROCESSES
_ours = deque(random.SystemRandom().sample(_PORTS[_number::_PROCESSES], len(_PORTS) // _PROCESSES))


def free_port() -> int:
    """A port of the loopback address."""
    _ours.rotate()
    while not _is_free(_ours[0]):
        _ours.rotate()
    return _ours[0]


def free_ports(count: int) -> list[int]:
    """Several, all different."""
    return [free_port() for _ in range(count)]


def setting_ports() -> dict[str, int]:
    """One for every setting that is a port."""
    return {name: free_port() for name in Settings.model_fields if name.endswith("_port")}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
