"""A replica of the engine: it joins the group, and runs the units that the group gives it, each in a process of its own.

`python -m services.pipeline.replica` runs until SIGTERM: then its units let their batches commit, the group hears that it leaves, and the
others take over at once.

Owns: the composition of a replica.
Never: a record; the units' processes read those.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import click

from engine.clock import SystemClock
from engine.cluster.child import State
from engine.cluster.faust import FaustMembership
from engine.cluster.replica import Replica, Running
from engine.errors import ConfigurationError, StateVersionError, StreamingError
from services.pipeline.control import Command, apply, checked, is_drained, orders_of, read_desired
from services.pipeline.owners import Owners
from services.pipeline.told import TELL_SECONDS, Teller, read_told
from services.pipeline.units import Sharing, sharing_of
from services.pipeline.web import Facts, ReplicaPage
from services.settings import Settings, exit_code, load_settings
from services.topics import ENGINE_CONTROL, ENGINE_UNITS

log = logging.getLogger("replica")


def membership_of(
    settings: Settings, sharing: Sharing, name: str, on_command: Callable[[dict[str, Any]], None]
) -> FaustMembership:
    """The group of the settings' replicas."""
    return FaustMembership(
        bootstrap=settings.kafka_bootstrap,
        group=f"{settings.app}-replicas",
        topic=ENGINE_UNITS,
        units=len(sharing.units),
        control_topic=ENGINE_CONTROL,
        folder=sharing.folder / "faust" / name,
        on_command=on_command,
    )


class _Seat:
    """A replica's place in the group: taken, and given up while the replica is drained.

    Args:
        settings: of the stack.
        sharing: what the replicas share.
        name: of the replica.
        replica: what runs the units.
        teller: tells how it stands.
    """

    def __init__(
        self, settings: Settings, sharing: Sharing, name: str, replica: Replica, teller: Teller
    ) -> None:
        self._settings = settings
        self._sharing = sharing
        self._name = name
        self._replica = replica
        self._teller = teller
        self._membership: FaustMembership | None = None
        self._desired = read_desired(sharing.folder)

    async def follow(self) -> None:
        """Bring the replica to what is wanted of it now.

        Raises:
            StreamingError: the group cannot be joined, or the membership has ended by itself.
        """
        self._look()
        self._replica.obey(orders_of(self._desired, self._sharing.units))
        if is_drained(self._desired, self._name):
            if self._membership is not None:
                log.info("replica %s is drained: it leaves the group", self._name)
                await self.leave()
            self._teller.state = "drained"
        elif self._membership is None:
            await self._join()
        elif (failure := self._membership.failure) is not None:
            raise StreamingError(
                f"replica {self._name} lost its place in the group ({failure}); it is started again by what runs it"
            ) from failure

    async def leave(self) -> None:
        """Give the place up; every unit is released first."""
        membership, self._membership = self._membership, None
        self._teller.state = "stopping"
        self._teller.tell()
        if membership is not None:
            await membership.stop()

    async def send(self, message: dict[str, Any]) -> None:
        """Have a command that was found to be right handled by one replica; a drained one is no member and does it itself."""
        if self._membership is None:
            self.handle(message)
        else:
            await self._membership.send_command(message)

    def facts(self) -> Facts:
        """What the page tells and does for it."""
        return Facts(
            state=lambda: self._teller.state,
            generation=lambda: self._membership.generation if self._membership else None,
            desired=lambda: self._desired,
            check=self.check,
            send=self.send,
        )

    def check(self, message: dict[str, Any]) -> Command:
        """The command that a message is.

        Raises:
            ConfigurationError: it is none, or not one for this name.
        """
        known = {told.name for told in read_told(self._sharing.folder)} | self._desired.replicas.keys()
        return checked(message, self._sharing.units, known)

    def handle(self, message: dict[str, Any]) -> None:
        """Note a command for all replicas."""
        try:
            apply(self._sharing.folder, self.check(message))
        except ConfigurationError as error:
            log.warning("a command of the topic %s is passed over: %s", ENGINE_CONTROL, error)

    def _look(self) -> None:
        try:
            self._desired = read_desired(self._sharing.folder)
        except StateVersionError as error:
            # The work goes on as it was ordered; a start with this file is refused.
            log.warning("%s", error)

    async def _join(self) -> None:
        self._teller.state = "joining"
        self._teller.tell()
        membership = membership_of(self._settings, self._sharing, self._name, self.handle)
        await membership.start(self._replica)
        self._membership, self._teller.state = membership, "member"
        click.echo(
            f"pipeline: started replica {self._name} of {len(self._sharing.units)} units, pid {os.getpid()}"
        )


async def serve(settings: Settings) -> int:
    """Be a replica until a signal."""
    clock, sharing, name = SystemClock(), sharing_of(settings), settings.replica or socket.gethostname()
    replica = Replica(sharing.units, (sys.executable, "-m", "services.pipeline.main"), clock)
    teller, owners = Teller(sharing.folder, name, replica, clock), Owners(sharing.folder, name, clock)
    seat = _Seat(settings, sharing, name, replica, teller)
    page = ReplicaPage(
        settings.listen_host, settings.metrics_port, name, sharing, replica, owners, seat.facts(), clock
    )
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)

    def changed() -> None:
        teller.tell()
        owners.note(running.unit.name for running in replica.held.values() if _is_running(running))

    await page.start()
    teller.page = page.address_elsewhere
    await replica.start()
    replica.on_change = changed
    asking = asyncio.create_task(_ask(page, teller))
    try:
        while not asked_to_stop.is_set():
            await seat.follow()
            owners.look(read_told(sharing.folder))
            teller.tell()
            await _wait(asked_to_stop, TELL_SECONDS)
    finally:
        asking.cancel()
        replica.refuse_more()
        await seat.leave()
        await replica.stop()
        teller.forget()
        await page.stop()
    log.info("replica %s: stopped", name)
    return 0


def _is_running(running: Running) -> bool:
    return running.child is not None and running.child.state is State.RUNNING


async def _ask(page: ReplicaPage, teller: Teller) -> None:
    """Ask the units how far they have come, for ever."""
    while True:
        teller.progress = await page.progress()
        await asyncio.sleep(TELL_SECONDS)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until the event, or for so many seconds."""
    await asyncio.wait({task := asyncio.ensure_future(event.wait())}, timeout=seconds)
    task.cancel()


def run() -> int:
    """Be the replica of the settings until a signal."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    return asyncio.run(serve(load_settings()))


@click.command()
def command() -> None:
    """Run a replica of the engine until SIGTERM.

    All settings are environment variables; see `services/settings.py`. ENGINES says how many replicas there are, REPLICA names this one.

    Exit codes: 0 after SIGTERM, 1 when Kafka does not answer, 2 when the settings or the units are refused.
    """
    sys.exit(exit_code(run))


if __name__ == "__main__":
    command()
