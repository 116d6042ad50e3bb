"""What can be done to a stack, of processes or of containers alike: the verbs that the chaos drills are written in.

Owns: Standing, Verbs.
Never: how it is done; api.Stack does it to processes, compose.ComposeStack to containers.
"""

import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from services.settings import Settings
from tools.stack.events import Event
from tools.stack.programs import State


class Standing(Protocol):
    """How one process or container stands."""

    @property
    def name(self) -> str:
        """Of the service."""
        ...

    @property
    def state(self) -> State:
        """Whether it runs, and if not, why not."""
        ...

    @property
    def pid(self) -> int | None:
        """Of the process, by the host's count; None when it does not run."""
        ...

    @property
    def reason(self) -> str:
        """Why it does not run; "" when it does."""
        ...


class Verbs(Protocol):
    """A stack that can be started, broken and mended.

    1. A kill of producer or engine is a death that the stack heals by itself; a killed server stays down until `start`.
    2. Each verb that is an act writes an event, and so does each death and each restart that follows.
    """

    settings: Settings

    def up(self, names: Iterable[str] = ()) -> None:
        """Start what does not run, and return when all of it is at work."""
        ...

    def start(self, name: str, environment: Mapping[str, str] | None = None, *, wait: bool = True) -> None:
        """Start one process that does not run."""
        ...

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> Event:
        """Signal one process; returns the event of kind "kill"."""
        ...

    def pause(self, name: str) -> Event:
        """Hold a process and its children where they are."""
        ...

    def resume(self, name: str) -> Event:
        """Let a process and its children go on."""
        ...

    def down(self, *, wipe: bool = False) -> None:
        """End everything; the data stays unless it is wiped."""
        ...

    def status(self) -> Sequence[Standing]:
        """How each process stands."""
        ...

    def events(self) -> Sequence[Event]:
        """What has happened, oldest first."""
        ...

    def wait_for(self, name: str, kind: str, *, after: float, timeout_seconds: float = 60.0) -> Event:
        """The first event of a kind later than `after`, in seconds since the epoch, waited for."""
        ...
