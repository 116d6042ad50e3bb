"""A replica: the processes of the units that it holds, beside one that is warm for the next.

What it is told comes from its membership, and from the orders of whoever controls the cluster; `_reconcile` brings the processes to
what both say, and is called after anything that has changed.

    held        the units that the membership gives it
    paused      of those the ones that are to begin no batch
    drained     of those the ones that are to have no process
    fenced      of those the ones that another process has taken over: it is the owner, and this one has not heard of it yet

Owns: Orders, Replica, Running.
Never: who holds what; a unit's work.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from engine.clock import Clock
from engine.cluster.child import FENCED, Child, State
from engine.cluster.units import Unit

log = logging.getLogger(__name__)

GAP_SECONDS = 1.5
"""How long units that are held wait to hear whether they stay. A group that waits longer waits for a member that is dead, and nobody's
units are to stand still for that: should one of ours be given to another meanwhile, its epoch fences us."""
FENCED_SECONDS = 12.0
"""After so long an owner that was fenced, and still is the owner, takes its unit back: twice the session, in which a dead one is noticed."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""Seconds before a unit that died is started again: after each death in a row twice as long, up to the second."""
QUICK_SECONDS = 10.0
"""Who dies sooner is in trouble of its own."""
HEAD_START_SECONDS = 1.0
"""How long a unit that began in the warm process is alone with the cores: others that must load their libraries first would slow it down."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What whoever controls the cluster wants of units, by their names."""

    paused: frozenset[str] = frozenset()
    """They begin no batch; their processes, and what those remember, stay."""
    drained: frozenset[str] = frozenset()
    """They have no process: what ran has ended after its batch."""
    executors: Mapping[str, int] = field(default_factory=dict)
    """Number of executors, for those units that are not to have what the settings say."""


@dataclass(slots=True)
class Running:
    """What is known of a unit that this replica holds."""

    unit: Unit
    since: int
    """When it came here, milliseconds since the epoch."""
    child: Child | None = None
    restarts: int = 0
    quick_deaths: int = 0
    begun: float = 0.0
    """When its newest process was started, monotonic seconds."""
    not_before: float = 0.0
    """When the next may be started, monotonic seconds."""
    is_fenced: bool = False
    code: int | None = None
    """How its newest process ended."""


class Replica:
    """Runs the units that a membership gives it, each in a process of its own.

    1. All methods are called from one event loop.

    Args:
        units: all that there are, in the order of their numbers.
        command: of a unit's process.
        clock: what time it is.
    """

    def __init__(self, units: Sequence[Unit], command: Sequence[str], clock: Clock) -> None:
        self.units = tuple(units)
        self.held: dict[int, Running] = {}
        """By number, the units that it holds."""
        self.orders = Orders()
        self.on_change: Callable[[], None] = _nothing
        """Called when a unit has come, gone, or changed its state."""
        self._command = tuple(command)
        self._clock = clock
        self._spare: Child | None = None
        self._first: Running | None = None
        """The unit that began in the warm process last."""
        self._leaving: set[Child] = set()
        self._lost: set[int] = set()
        self._is_stopping = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._gap: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Warm the first process, and be ready to hold units."""
        self._spare = await Child.start(self._command)
        self._task = asyncio.create_task(self._run())

    # What the membership says.

    async def release(self) -> None:
        """Hold every unit between two batches; those that are not told otherwise within GAP_SECONDS go on."""
        children = [running.child for running in self.held.values() if running.child is not None]
        if self._gap is not None:
            self._gap.cancel()
        await asyncio.gather(*(child.hold() for child in children))
        if not self._is_stopping:
            self._gap = asyncio.get_running_loop().call_later(GAP_SECONDS, self._close_gap)
        self.on_change()

    def hold(self, units: AbstractSet[int]) -> None:
        """Have exactly these units."""
        if self._is_stopping:
            return
        if self._gap is not None:
            self._gap.cancel()
        now = self._clock.wall_ms()
        for number in [number for number in self.held if number not in units]:
            self._let_go(self.held.pop(number))
        for number in sorted(units - self.held.keys()):
            self.held[number] = Running(self.units[number], now)
        self._lost -= units
        self._go_on()
        self._changed()

    def lost(self) -> AbstractSet[int]:
        """The units that others have taken over from this process."""
        return frozenset(self._lost)

    def obey(self, orders: Orders) -> None:
        """From now on do this with the units of these names, of those that it holds."""
        if orders != self.orders:
            self.orders = orders
            self._go_on()
            self._changed()

    def refuse_more(self) -> None:
        """From now on what is held stays so: the membership is about to be given up."""
        self._is_stopping = True

    async def stop(self) -> None:
        """End every process, and return when all have ended."""
        self.refuse_more()
        if self._gap is not None:
            self._gap.cancel()
        for running in self.held.values():
            self._let_go(running)
        if self._task is not None:
            # Not cancelled: it may be starting a process, which would be nobody's.
            self._wake.set()
            await self._task
        if self._spare is not None:
            self._spare.end()
            self._leaving.add(self._spare)
        await asyncio.gather(*(child.ended() for child in self._leaving))

    # What follows from it.

    def _close_gap(self) -> None:
        """Go on with what is held: the group takes longer than it should."""
        log.warning("the group has not settled within %g s; the units go on meanwhile", GAP_SECONDS)
        self._go_on()
        self.on_change()

    def _go_on(self) -> None:
        """Let batches begin again but for those of paused units."""
        for running in self.held.values():
            if running.child is not None and running.unit.name not in self.orders.paused:
                running.child.go_on()

    def _changed(self) -> None:
        self._wake.set()
        self.on_change()

    def _let_go(self, running: Running) -> None:
        child, running.child = running.child, None
        if child is not None:
            self._leaving.add(child)
            child.end()

    async def _run(self) -> None:
        while not self._is_stopping:
            self._wake.clear()
            wait = await self._reconcile()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), wait)

    async def _reconcile(self) -> float | None:
        """Start and end processes until they are what they should be; returns after how many seconds there is more to do."""
        now, waits = self._clock.monotonic(), []
        ending = {child.unit for child in self._leaving if child.state is not State.ENDED}
        for running in list(self.held.values()):
            name, child = running.unit.name, running.child
            if child is not None and (
                name in self.orders.drained or child.executors != self.orders.executors.get(name)
            ):
                self._let_go(running)
            elif child is not None and name in self.orders.paused:
                child.ask_to_hold()
            elif child is not None or name in self.orders.paused | self.orders.drained | ending:
                # An end wakes us.
                continue
            elif running.not_before > now:
                waits.append(running.not_before - now)
            elif (alone := self._alone_seconds()) > 0:
                waits.append(alone)
            elif self.held.get(running.unit.number) is running:
                await self._begin(running)
        if self._spare is None or self._spare.state is State.ENDED:
            # AFTER the units: those are waited for.
            if (alone := self._alone_seconds()) > 0:
                waits.append(alone)
            else:
                self._spare = await Child.start(self._command)
        self._leaving = {child for child in self._leaving if child.state is not State.ENDED}
        return min(waits, default=None)

    def _alone_seconds(self) -> float:
        """How much longer the unit that has just begun in the warm process is to be alone; 0 when it runs, or none is."""
        first = self._first
        if first is None or first.child is None or first.child.state is not State.STARTING:
            return 0.0
        return max(0.0, first.begun + HEAD_START_SECONDS - self._clock.monotonic())

    async def _begin(self, running: Running) -> None:
        """Start a unit's process, in the warm one where there is one."""
        child, self._spare = self._spare, None
        if child is not None and child.state is State.WARM:
            self._first = running
        else:
            child = await Child.start(self._command)
        if self.held.get(running.unit.number) is not running:
            # It was given to another while the process started.
            self._spare = child
            return
        running.child, running.begun, running.is_fenced = child, self._clock.monotonic(), False
        name = running.unit.name
        executors = self.orders.executors.get(name)
        child.run(name, executors, lambda: self._ended(running, child), lambda: self._told(running, child))
        self.on_change()

    def _told(self, running: Running, child: Child) -> None:
        """A unit's process has told how it stands; one that has just started may be paused."""
        if running.child is child:
            self._changed()

    def _ended(self, running: Running, child: Child) -> None:
        """A unit's process has ended: say what of it, and plan the next."""
        if running.child is child and not self._is_stopping:
            running.child, running.code = None, child.code
            now = self._clock.monotonic()
            running.restarts += 1
            if child.code == FENCED:
                self._lost.add(running.unit.number)
                running.is_fenced, running.not_before = True, now + FENCED_SECONDS
                log.warning("unit %s was taken over by another process", running.unit.name)
            else:
                running.quick_deaths = running.quick_deaths + 1 if now - running.begun < QUICK_SECONDS else 0
                running.not_before = now + _pause(running.quick_deaths)
                log.warning("unit %s ended with exit code %s", running.unit.name, child.code)
        self._changed()


def _pause(quick_deaths: int) -> float:
    """Seconds before the next start, after so many deaths in a row.

    Example:
        >>> [_pause(deaths) for deaths in (0, 1, 2, 5, 50)]
        [0.0, 0.25, 0.5, 4.0, 5.0]
    """
    return min(FIRST_PAUSE * 2.0 ** min(quick_deaths - 1, 20), LONGEST_PAUSE) if quick_deaths else 0.0


def _nothing() -> None:
    """Nobody watches."""
