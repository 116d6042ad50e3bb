"""A session with Cassandra for one-shot work: migrations, readiness.

Owns: open_session.
Never: results; those go through engine.sinks.cassandra.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any, Final

import cassandra.cluster
import cassandra.policies
from cassandra import DriverException, UnresolvableContactPoints
from cassandra.cluster import NoHostAvailable

from engine.clock import SystemClock
from engine.errors import ConfigurationError, StreamingError

# The driver has no annotations: its calls are made through these names.
_driver: Final[Any] = cassandra.cluster
_policies: Final[Any] = cassandra.policies

_CLOCK: Final = SystemClock()
_PROTOCOL_VERSION: Final = 4
_CONNECT_SECONDS: Final = 5.0
_REQUEST_SECONDS: Final = 30.0
"""A change of the schema on a busy machine takes seconds."""
_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 1.0


@contextmanager
def open_session(hosts: Sequence[str], port: int, *, wait_seconds: float = 0.0) -> Iterator[Any]:
    """A session of the driver, closed at the end of the block.

    Args:
        hosts: contact points.
        port: of CQL, on every host.
        wait_seconds: how long to try again while no host answers; 0 tries once.

    Raises:
        ConfigurationError: a host's name means nothing to this machine.
        StreamingError: no host answered in time.
    """
    # The driver logs every attempt with a traceback; who calls says what it means.
    logging.getLogger("cassandra").setLevel(logging.CRITICAL)
    deadline = _CLOCK.monotonic() + wait_seconds
    pause = _PAUSE_SECONDS
    while True:
        cluster = _cluster(hosts, port)
        try:
            session = _connect(cluster, f"{','.join(hosts)}:{port}")
            if session is not None:
                session.execute("SELECT release_version FROM system.local")
                yield session
                return
        finally:
            cluster.shutdown()
        if _CLOCK.monotonic() >= deadline:
            raise StreamingError(
                f"no answer from Cassandra at {','.join(hosts)}:{port} within {wait_seconds:g} s; start it or set CASSANDRA_HOSTS"
            )
        _CLOCK.wait(Event(), pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _cluster(hosts: Sequence[str], port: int) -> Any:
    profile = _driver.ExecutionProfile(
        load_balancing_policy=_policies.RoundRobinPolicy(), request_timeout=_REQUEST_SECONDS
    )
    return _driver.Cluster(
        list(hosts),
        port=port,
        protocol_version=_PROTOCOL_VERSION,
        execution_profiles={_driver.EXEC_PROFILE_DEFAULT: profile},
        connect_timeout=_CONNECT_SECONDS,
        executor_threads=2,
    )


def _connect(cluster: Any, place: str) -> Any:
    """A session, or None when nobody answers."""
    try:
        return cluster.connect()
    except UnresolvableContactPoints:
        raise ConfigurationError(
            f"CASSANDRA_HOSTS: {place} means nothing to this machine; correct the name"
        ) from None
    except (NoHostAvailable, DriverException, OSError):
        return None
