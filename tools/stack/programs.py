"""What the supervisor is asked to run, and what it remembers of it.

Owns: Program, Record, State.
Never: a setting; a program carries its whole command and environment.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from tools.stack.folder import read_json, write_json
from tools.stack.processes import Identity

REFUSED = 2
"""The exit code of services.settings.exit_code for a refusal; here again, because the supervisor loads no library for it."""


class State(StrEnum):
    """How a process stands."""

    RUNNING = "running"
    PAUSED = "paused"
    """Held by SIGSTOP."""
    WAITING = "waiting"
    """It died and is started again in a moment."""
    REFUSED = "refused"
    """It ended with exit code 2: starting it again changes nothing before somebody changes something."""
    ENDED = "ended"
    """It ended by itself with exit code 0."""
    DOWN = "down"
    """It died and stays so until it is started."""
    STOPPED = "stopped"
    """It was not started, or was ended by `down`."""


@dataclass(frozen=True, slots=True)
class Program:
    """One process of a stack; all of it is plain data, because it travels to the supervisor as JSON."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    """The whole of it."""
    log: str
    """The file that takes standard output and standard error."""
    folder: str = "."
    """Where it runs."""
    restarts: bool = True
    """Whether it is started again when it dies; servers are not, so that a drill can hold them down."""
    ready_line: str = ""
    """What it prints when it is at work; "" when it does not say."""
    grace_seconds: float = 20.0
    """How long it may take to end on SIGTERM."""
    keep: tuple[str, str] | None = None
    """A file that it writes when it ends on SIGTERM, and the name under which it is kept then."""

    def with_environment(self, more: Mapping[str, str]) -> "Program":
        """The same program with more variables."""
        return replace(self, environment={**self.environment, **more})

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Program":
        """The program that `asdict` made a JSON object of."""
        keep = value["keep"]
        return cls(
            **{**value, "command": tuple(value["command"]), "keep": (keep[0], keep[1]) if keep else None}
        )


@dataclass(slots=True)
class Record:
    """What is known of a process, kept in run/NAME.json; written by the supervisor alone while it lives."""

    program: Program
    state: State = State.STOPPED
    identity: Identity | None = None
    """Of the last start."""
    started: float = 0.0
    """When that was, in seconds since the epoch."""
    restarts: int = 0
    """How often it was started again after a death, since the last `down`."""
    reason: str = ""
    """Why it is not running."""
    quick_deaths: int = field(default=0, compare=False)
    """How often in a row it died within seconds."""

    def write(self, path: Path) -> None:
        """Put the record in place of the file."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        """The record in a file, or None when there is none that this version can read."""
        value = read_json(path)
        if value is None:
            return None
        try:
            identity = value["identity"] and Identity(**value["identity"])
            program, state = Program.from_json(value["program"]), State(value["state"])
            return cls(**{**value, "program": program, "state": state, "identity": identity})
        except (KeyError, TypeError, ValueError):
            # Of another version: what it tells of has no owner any more; if it still runs, its taken port is named.
            return None
