"""How the processes of a stack stand, as somebody from outside sees it.

Owns: Status, status_of, addresses, pages.
Never: a change to anything.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from services.settings import Settings
from tools.stack.control import Control
from tools.stack.engines import engines_of, page_port
from tools.stack.processes import is_stopped
from tools.stack.programs import Record, State


@dataclass(frozen=True, slots=True)
class Status:
    """How a process of the stack stands now."""

    name: str
    state: State
    pid: int | None
    uptime_seconds: float | None
    restarts: int
    """How often the supervisor started it again."""
    address: str
    log: Path
    reason: str
    """Why it does not run; "" when it does, or was never started."""


def status_of(name: str, control: Control, settings: Settings) -> Status:
    """How one process stands: what the supervisor wrote last, and whether that process still lives."""
    record, process = control.record(name), control.process(name)
    state, reason = (record.state, record.reason) if record else (State.STOPPED, "")
    if process:
        state, reason = State.PAUSED if is_stopped(process) else State.RUNNING, ""
    elif state == State.RUNNING:
        state, reason = State.DOWN, "it has just died, or died while no supervisor was there"
    return Status(
        name=name,
        state=state,
        pid=process.pid if process else None,
        uptime_seconds=time.time() - record.started if record and process else None,
        restarts=record.restarts if record else 0,
        address=addresses(_as_started(settings, record)).get(name, ""),
        log=settings.data_dir / "logs" / f"{name}.log",
        reason=reason,
    )


def _as_started(settings: Settings, record: Record | None) -> Settings:
    """The settings with the ports that a process was started with, which the caller's environment may not have."""
    given = record.program.environment if record else {}
    ports = {name: given.get(name.upper()) for name in Settings.model_fields if name.endswith("_port")}
    if settings.engines > 1:
        ports.pop("metrics_port")  # a replica's own, which follows from that of the first
    return settings.model_copy(update={name: int(port) for name, port in ports.items() if port})


def addresses(settings: Settings) -> dict[str, str]:
    """Where those that listen are found."""
    return {
        "kafka": f"127.0.0.1:{settings.kafka_port}",
        "cassandra": f"127.0.0.1:{settings.cassandra_port}",
        "producer": f"127.0.0.1:{settings.producer_metrics_port}",
        **{name: f"127.0.0.1:{page_port(settings, name)}" for name in engines_of(settings)},
        "verifier": f"127.0.0.1:{settings.verifier_metrics_port}",
        "prometheus": f"127.0.0.1:{settings.prometheus_port}",
    }


def pages(settings: Settings) -> dict[str, str]:
    """What a browser can look at."""
    known = {"streaming page": f"http://127.0.0.1:{settings.metrics_port}/"}
    if settings.monitoring:
        known["Prometheus"] = f"http://127.0.0.1:{settings.prometheus_port}/"
    return known
