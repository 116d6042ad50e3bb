"""What each replica tells of itself on the volume, and whoever reads it.

A file of each replica's own, written anew about once a second and at each change.

Owns: Progress, UnitStatus, ReplicaStatus, Teller, read_told.
Never: a decision; what is told may be old.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.checkpoint.files import make_folder
from engine.clock import SystemClock
from engine.cluster.child import State
from engine.cluster.replica import Replica, Running

log = logging.getLogger("replica")

FOLDER = "replicas"
TELL_SECONDS = 1.0
"""How often a replica tells of itself."""
SILENT_MS = 5_000
"""A replica that has told nothing for so long is dead, or cut off from the volume."""


class UnitStatus(msgspec.Struct):
    """How a unit stands with the replica that holds it."""

    unit: str
    state: str
    """Of its process, or why it has none: drained, paused, fenced, waiting."""
    since: int
    """When it came to this replica, milliseconds since the epoch."""
    restarts: int
    page: str
    """Address of its streaming page; "" while it has none."""
    pid: int | None
    lag: int | None = None
    """Records of its topic that are not committed, as of its newest batch; None until it has told."""
    batch: int | None = None
    """Time of its newest committed batch, milliseconds since the epoch."""


class Progress(NamedTuple):
    """How far a unit has come."""

    batch: int
    """Time of its newest committed batch, milliseconds since the epoch."""
    lag: int
    """Records of its topic that the batch's plan saw and no batch has committed."""


class ReplicaStatus(msgspec.Struct):
    """What a replica tells of itself."""

    name: str
    pid: int
    time: int
    """When this was written, milliseconds since the epoch."""
    state: str
    """joining, member, stopping or drained."""
    units: list[UnitStatus]
    page: str = ""
    """Address of its own page; "" where it listens on all addresses of its machine, and none is known from elsewhere."""


class Teller:
    """Keeps a replica's file on the volume as the replica is.

    Args:
        folder: that the replicas share.
        name: of the replica.
        replica: what is told of.
        clock: what time it is.
    """

    def __init__(self, folder: Path, name: str, replica: Replica, clock: SystemClock) -> None:
        make_folder(folder / FOLDER)
        self._path = folder / FOLDER / f"{name}.json"
        self._name = name
        self._replica = replica
        self._clock = clock
        self.state = "joining"
        self.page = ""
        self.progress: Mapping[str, Progress] = {}
        """By unit, of those that run here and have told."""

    def tell(self) -> None:
        """Write the file anew; a reader finds the old one or the new one."""
        status = ReplicaStatus(
            name=self._name,
            pid=os.getpid(),
            time=self._clock.wall_ms(),
            state=self.state,
            units=[self._unit(running) for running in self._replica.held.values()],
            page=self.page,
        )
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(msgspec.json.encode(status))
            temporary.replace(self._path)
        except OSError as error:
            # A volume that fails stops the units, which say so; what is told of them may be late.
            log.warning("%s could not be written: %s", self._path, error.strerror)

    def forget(self) -> None:
        """Remove the file: the replica has ended as it should, and is missed by nobody."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s could not be removed: %s", self._path, error.strerror)

    def _unit(self, running: Running) -> UnitStatus:
        child, orders, name = running.child, self._replica.orders, running.unit.name
        if child is not None and child.state is not State.ENDED:
            state: str = "paused" if child.state is State.HELD and name in orders.paused else child.state
        elif name in orders.drained:
            state = "drained"
        else:
            state = "paused" if name in orders.paused else "fenced" if running.is_fenced else "waiting"
        come = self.progress.get(name) if child else None
        return UnitStatus(
            unit=name,
            state=state,
            since=running.since,
            restarts=running.restarts,
            page=child.page if child else "",
            pid=child.pid if child else None,
            lag=come.lag if come else None,
            batch=come.batch if come else None,
        )


def read_told(folder: Path) -> list[ReplicaStatus]:
    """What the replicas told last, by name; a file that cannot be read is left out, and the log says so.

    Args:
        folder: that the replicas share.
    """
    told = []
    for path in (folder / FOLDER).glob("[!.]*.json"):
        try:
            told.append(msgspec.json.decode(path.read_bytes(), type=ReplicaStatus))
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("%s cannot be read: %s", path, error)
    return sorted(told, key=lambda status: status.name)
