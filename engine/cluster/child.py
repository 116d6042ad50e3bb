"""One unit's process, as its replica sees it: started, told, watched, ended.

Owns: Child, State.
Never: the choice which units run; that is the replica's.
"""

import asyncio
import enum
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Self

log = logging.getLogger(__name__)

FENCED = 3
"""Exit code of a unit whose folder another process has taken over."""
STOP_SECONDS = 30.0
"""How long a unit may take to end once its replica has let go of it; then it is killed, and its batch runs again at the next start."""


class State(enum.StrEnum):
    """How a unit's process stands."""

    WARM = "warm"
    """Its libraries are loaded, and it waits for its unit."""
    STARTING = "starting"
    RUNNING = "running"
    HELD = "held"
    """No batch runs, and none begins."""
    STOPPING = "stopping"
    ENDED = "ended"


class Child:
    """A process that runs one unit, tied to this one by a socket: whatever ends this process, the unit ends after its batch.

    1. Its methods are called from the event loop that started it.

    Made by `start`.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        tie: socket.socket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.state = State.WARM
        self.unit = ""
        """Its name, once it has one."""
        self.executors: int | None = None
        """How many it was told to have."""
        self.page = ""
        """Address of its streaming page, once it is up."""
        self.is_held_back = False
        """Whether it was told to hold, and not to go on."""
        self.code: int | None = None
        """Its exit code; negative for the number of a signal."""
        self._process = process
        self._tie = tie
        self._reader, self._writer = reader, writer
        self._held = asyncio.Event()
        self._tasks = {asyncio.create_task(self._listen()), asyncio.create_task(self._watch())}
        self._ended = asyncio.Event()
        self._on_end: Callable[[], None] = _nothing
        self._on_change: Callable[[], None] = _nothing

    @classmethod
    async def start(cls, command: Sequence[str]) -> Self:
        """Start a process that waits for its unit.

        Args:
            command: to which `--control FD` is added.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            descriptor = theirs.fileno()
            # A session of its own: Ctrl-C is for the replica, which lets its units end in order.
            process = await asyncio.create_subprocess_exec(
                *command, "--control", str(descriptor), pass_fds=[descriptor], start_new_session=True
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, ours, reader, writer)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or is to."""
        return self.state in {State.STOPPING, State.ENDED}

    def run(
        self, unit: str, executors: int | None, on_end: Callable[[], None], on_change: Callable[[], None]
    ) -> None:
        """Have it run the unit of this name.

        Args:
            unit: its name.
            executors: how many it is to have; None for what the settings say.
            on_end: called when the process has ended.
            on_change: called when it has told how it stands.
        """
        self.unit, self.executors, self._on_end, self._on_change = unit, executors, on_end, on_change
        if self.state is State.ENDED:
            on_end()
            return
        self.state = State.STARTING
        self._say(f"unit {unit}" if executors is None else f"unit {unit} {executors}")

    async def hold(self) -> None:
        """Return when no batch runs and none begins; one that has not begun yet is not waited for, a takeover fences it."""
        if self.ask_to_hold():
            await self._held.wait()

    def ask_to_hold(self) -> bool:
        """Have no batch begin; returns whether there is an answer to wait for."""
        if self.state not in {State.RUNNING, State.HELD}:
            return False
        if not self.is_held_back:
            self.is_held_back = True
            self._held.clear()
            self._say("hold")
        return True

    def go_on(self) -> None:
        """Let its batches begin again."""
        if self.is_held_back:
            self.is_held_back = False
            if self.state is State.HELD:
                self.state = State.RUNNING
            self._say("go")

    def end(self) -> None:
        """Let go of it: it ends after its batch, and at the latest after STOP_SECONDS."""
        if self.is_over:
            return
        self.state = State.STOPPING
        self._held.set()
        # A transport that is closed may still wait for its buffer; the other end must see the end now.
        self._tie_off()
        task = asyncio.create_task(self._see_off())
        self._tasks.add(task)

    async def ended(self) -> None:
        """Return when the process has ended."""
        await self._ended.wait()

    def _tie_off(self) -> None:
        self._writer.close()

    def _say(self, word: str) -> None:
        if not self._writer.is_closing():
            self._writer.write(f"{word}\n".encode())

    async def _listen(self) -> None:
        """Take in what it tells, until it closes its end."""
        try:
            while line := await self._reader.readline():
                self._hear(line.decode().strip())
        except OSError as error:
            log.debug("unit %s: %s", self.unit, error)

    def _hear(self, word: str) -> None:
        if word.startswith("page "):
            self.page = word.removeprefix("page ")
        elif word == "started" and self.state is State.STARTING:
            self.state = State.RUNNING
        elif word == "held" and self.is_held_back and not self.is_over:
            self.state = State.HELD
            self._held.set()
        self._on_change()

    async def _watch(self) -> None:
        self.code = await self._process.wait()
        self.state = State.ENDED
        self._writer.close()
        self._held.set()
        self._ended.set()
        self._on_end()

    async def _see_off(self) -> None:
        try:
            await asyncio.wait_for(self._ended.wait(), STOP_SECONDS)
        except TimeoutError:
            log.warning("unit %s did not end within %g s and is killed", self.unit, STOP_SECONDS)
            self._process.kill()


def _nothing() -> None:
    """Nobody watches."""
