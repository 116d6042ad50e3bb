"""How a process comes to hold units: the contract between the group of replicas and what runs the units.

    release     every unit that is held stops between two batches, durable; what does not stop in time is no longer waited for. The group
                may give the units to others as soon as this returns
    hold        these are the units from now on, until the next call; what was stopped goes on, the rest begins or ends

Nobody is safe by this alone: a process that was frozen may believe for long that it holds a unit. What keeps two from writing are the
epochs of the checkpoint folder; membership only says who should try.

Owns: Holder, Membership, Alone.
Never: a unit's work.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Protocol


class Holder(Protocol):
    """What runs the units that this process holds."""

    async def release(self) -> None:
        """Stop every unit between two batches, within a bounded time."""

    def hold(self, units: AbstractSet[int]) -> None:
        """Have exactly these units; returns at once, whatever that takes."""

    def lost(self) -> AbstractSet[int]:
        """The units that others have taken over from this process: it must not claim them as its own."""


class Membership(Protocol):
    """A process's place in the group that shares the units."""

    async def start(self, holder: Holder) -> None:
        """Join; from then on the holder is told what it holds."""

    async def stop(self) -> None:
        """Have every unit released, then leave, so that the others take over at once."""


class Alone:
    """The membership of a process that shares with nobody: it holds every unit from start to stop.

    Args:
        units: their numbers.
    """

    def __init__(self, units: Iterable[int]) -> None:
        self._units = frozenset(units)
        self._holder: Holder | None = None

    async def start(self, holder: Holder) -> None:
        """Hold every unit."""
        self._holder = holder
        holder.hold(self._units)

    async def stop(self) -> None:
        """Release every unit."""
        if self._holder is not None:
            await self._holder.release()
            self._holder.hold(frozenset())
