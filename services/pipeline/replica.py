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

import click

from engine.clock import SystemClock
from engine.cluster.faust import FaustMembership
from engine.cluster.replica import Replica
from engine.errors import StreamingError
from services.pipeline.told import TELL_SECONDS, Teller
from services.pipeline.units import Sharing, sharing_of
from services.settings import Settings, exit_code, load_settings
from services.topics import ENGINE_CONTROL, ENGINE_UNITS

log = logging.getLogger("replica")


def membership_of(settings: Settings, sharing: Sharing, name: str) -> FaustMembership:
    """The group of the settings' replicas."""
    return FaustMembership(
        bootstrap=settings.kafka_bootstrap,
        group=f"{settings.app}-replicas",
        topic=ENGINE_UNITS,
        units=len(sharing.units),
        control_topic=ENGINE_CONTROL,
        folder=sharing.folder / "faust" / name,
    )


async def serve(settings: Settings) -> int:
    """Be a replica until a signal."""
    clock, sharing, name = SystemClock(), sharing_of(settings), settings.replica or socket.gethostname()
    replica = Replica(sharing.units, (sys.executable, "-m", "services.pipeline.main"), clock)
    teller = Teller(sharing.folder, name, replica, clock)
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    membership = membership_of(settings, sharing, name)
    await replica.start()
    replica.on_change = teller.tell
    try:
        await membership.start(replica)
        teller.state = "member"
        click.echo(f"pipeline: started replica {name} of {len(sharing.units)} units, pid {os.getpid()}")
        while not asked_to_stop.is_set():
            if membership.failure is not None:
                raise StreamingError(
                    f"replica {name} lost its place in the group ({membership.failure}); it is started again by what runs it"
                ) from membership.failure
            teller.tell()
            await _wait(asked_to_stop, TELL_SECONDS)
    finally:
        teller.state = "stopping"
        replica.refuse_more()
        teller.tell()
        await membership.stop()
        await replica.stop()
        teller.tell()
    log.info("replica %s: stopped", name)
    return 0


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until the event, or for so many seconds."""
    await asyncio.wait({task := asyncio.ensure_future(event.wait())}, timeout=seconds)
    task.cancel()


def _run() -> int:
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
    sys.exit(exit_code(_run))


if __name__ == "__main__":
    command()
