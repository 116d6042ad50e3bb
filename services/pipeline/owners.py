"""Which replica has run each unit since when, and how long it stood still before: a file for each unit, by whoever runs it.

    owners/UNIT.json    {"replica", "since", "changes", "takeover_ms"}

Owns: Owner, Owners.
Never: a decision; who owns a unit is the group's to say, and the epoch of the unit's checkpoint enforces it.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from engine.checkpoint.files import make_folder
from engine.clock import Clock
from services.pipeline.told import ReplicaStatus

log = logging.getLogger("replica")

FOLDER = "owners"
_WORKS = frozenset({"running", "held", "paused"})


class Owner(msgspec.Struct, frozen=True):
    """Who runs a unit, or ran it last."""

    replica: str
    since: int
    """When its process first ran there, milliseconds since the epoch."""
    changes: int
    """How often the unit has come to another replica."""
    takeover_ms: int | None
    """From the last that the former owner told of the running unit until it ran here; None where nobody has told of it. What is
    told is up to a second old."""


class Owners:
    """Notes the units that come to run at a replica.

    Args:
        folder: that the replicas share.
        name: of the replica.
        clock: what time it is.
    """

    def __init__(self, folder: Path, name: str, clock: Clock) -> None:
        make_folder(folder / FOLDER)
        self._folder = folder / FOLDER
        self._name = name
        self._clock = clock
        self._ran: dict[str, int] = {}
        """By unit when another replica told last that it runs there, milliseconds since the epoch."""
        self._ours: set[str] = set()
        """The units that are noted as ours."""

    def look(self, told: Iterable[ReplicaStatus]) -> None:
        """Remember which units run elsewhere."""
        for status in told:
            if status.name != self._name:
                for unit in status.units:
                    if unit.state in _WORKS:
                        self._ran[unit.unit] = max(status.time, self._ran.get(unit.unit, 0))

    def note(self, running: Iterable[str]) -> None:
        """Note exactly these units as ours.

        Args:
            running: names of the units whose processes run here.
        """
        units = set(running)
        for unit in sorted(units - self._ours):
            self._take(unit)
        self._ours = units

    def read(self) -> dict[str, Owner]:
        """The owners by unit, of those units that have run."""
        owners = ((path.stem, self._read(path)) for path in sorted(self._folder.glob("[!.]*.json")))
        return {unit: owner for unit, owner in owners if owner is not None}

    def _take(self, unit: str) -> None:
        path = self._folder / f"{unit}.json"
        before = self._read(path)
        if before is not None and before.replica == self._name:
            return
        now = self._clock.wall_ms()
        seen = self._ran.get(unit)
        owner = Owner(
            self._name,
            now,
            changes=0 if before is None else before.changes + 1,
            takeover_ms=None if before is None or seen is None else max(now - seen, 0),
        )
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(msgspec.json.encode(owner))
            temporary.replace(path)
        except OSError as error:
            # A volume that fails stops the unit, which says so.
            log.warning("%s could not be written: %s", path, error.strerror)

    @staticmethod
    def _read(path: Path) -> Owner | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Owner)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("%s cannot be read, and counts as none: %s", path, error)
            return None
