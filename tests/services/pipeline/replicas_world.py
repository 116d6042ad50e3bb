"""A replica's page in a thread of its own; the units' processes are stand-ins that speak as real ones do, and read no record.

Owns: Shown, shown, UNITS.
"""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.clock import SystemClock
from engine.cluster.replica import Replica
from engine.cluster.units import Job, units_of
from services.pipeline.control import Command, apply, checked, orders_of, read_desired
from services.pipeline.owners import Owners
from services.pipeline.told import Teller, read_told
from services.pipeline.units import Sharing
from services.pipeline.web import Facts, ReplicaPage
from tests import engine as tests_of_engine

UNITS = units_of(
    [Job("trending", "views", is_sharded=False), Job("totals", "views", is_sharded=True)], {"views": 2}
)
"""trending, totals-0 and totals-1."""
STAND_IN = Path(str(tests_of_engine.__file__)).parent / "cluster" / "unit.py"
_SECONDS = 20.0
_TURN_SECONDS = 0.02


class Shown:
    """A replica that holds all units, obeys what it is commanded, and tells of itself many times a second.

    Args:
        folder: that replicas share.
    """

    def __init__(self, folder: Path) -> None:
        self.sharing = Sharing(folder, UNITS)
        self.sent: list[dict[str, Any]] = []
        """The commands that were handed to the group."""
        self.state = "member"
        self.page: ReplicaPage
        self.replica: Replica
        self.is_up = threading.Event()
        self.is_over = threading.Event()

    @property
    def address(self) -> str:
        """Of the page."""
        return self.page.address

    def run(self) -> None:
        """The life of the thread."""
        asyncio.run(self._live())

    def check(self, message: dict[str, Any]) -> Command:
        """The command that a message is."""
        return checked(message, UNITS, [told.name for told in read_told(self.sharing.folder)])

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        apply(self.sharing.folder, self.check(message))

    async def _live(self) -> None:
        clock = SystemClock()
        self.replica = Replica(UNITS, (sys.executable, str(STAND_IN)), clock)
        owners = Owners(self.sharing.folder, "engine-1", clock)
        teller = Teller(self.sharing.folder, "engine-1", self.replica, clock)
        facts = Facts(
            lambda: self.state, lambda: 7, lambda: read_desired(self.sharing.folder), self.check, self._send
        )
        self.page = ReplicaPage("127.0.0.1", 0, "engine-1", self.sharing, self.replica, owners, facts, clock)
        await self.page.start()
        await self.replica.start()
        self.replica.hold({unit.number for unit in UNITS})
        try:
            async with asyncio.timeout(_SECONDS * 3):
                while not self.is_over.is_set():
                    self.replica.obey(orders_of(read_desired(self.sharing.folder), UNITS))
                    teller.state = self.state
                    teller.tell()
                    if all(
                        unit.state == "running"
                        for told in read_told(self.sharing.folder)
                        for unit in told.units
                    ):
                        owners.note(unit.name for unit in UNITS)
                        self.is_up.set()
                    await asyncio.sleep(_TURN_SECONDS)
        finally:
            await self.replica.stop()
            await self.page.stop()


@contextlib.contextmanager
def shown(folder: Path) -> Iterator[Shown]:
    """The page of a replica whose units all run."""
    one = Shown(folder)
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        assert one.is_up.wait(_SECONDS), "the units do not run"
        yield one
    finally:
        one.is_over.set()
        thread.join()
