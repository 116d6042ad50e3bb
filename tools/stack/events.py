"""The history of a stack: one JSON object a line, only ever appended, read by the demo and the chaos drills.

    {"time": 1795383816.487, "name": "engine", "kind": "death", "pid": 4711, "exit_code": null, "signal": "SIGKILL"}

A line is valid when it ends with a newline and is a JSON object with time, name and kind. Each is one write of O_APPEND, so
lines of several processes never mix. The supervisor writes start, death, restart, wait, refused, adopted; the commands write
up, down, ready, kill, pause, resume.

Owns: Event, EventLog.
Never: a change to what was written.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a process of the stack."""

    time: float
    """Seconds since the epoch by the wall clock."""
    name: str
    """Of the process; "stack" for the stack as a whole."""
    kind: str
    """start, death, restart, wait, refused, adopted, up, down, ready, kill, pause or resume."""
    facts: Mapping[str, Any]
    """The rest of the line: pid, exit_code, signal, restarts, delay_seconds, lived_seconds, ..."""


class EventLog:
    """The file of events.

    Args:
        path: the file; made by the first event.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, name: str, kind: str, **facts: Any) -> Event:
        """Write an event down with the time of now, and return it."""
        return self.append_at(time.time(), name, kind, **facts)

    def append_at(self, moment: float, name: str, kind: str, **facts: Any) -> Event:
        """Write down an event of another moment, in seconds since the epoch, and return it."""
        event = Event(moment, name, kind, facts)
        line = json.dumps({"time": round(event.time, 4), "name": name, "kind": kind, **facts}) + "\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
        return event

    def read(self) -> list[Event]:
        """Every event, oldest first; a last line that is still being written is left out."""
        if not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8").split("\n")[:-1]
        return [_event(json.loads(line)) for line in lines]


def _event(line: dict[str, Any]) -> Event:
    return Event(line.pop("time"), line.pop("name"), line.pop("kind"), line)
