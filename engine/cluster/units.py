"""Units of work: a job, and the partitions of its topic that one process reads for it.

Where every key of a job's state lives in one partition of its topic, the job is sharded: a unit for each partition. Any other job is
one unit. A unit is an application of its own: its own checkpoint folder, its own rows in the ledger.

The units are fixed at the first start, in a file beside the checkpoints: a key's state would not follow it into another unit.

Owns: Job, Unit, units_of, fixed_units, read_units.
Never: who holds a unit.
"""

import fcntl
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from engine.checkpoint.files import make_folder, write_durably, writing
from engine.errors import ConfigurationError, StateVersionError

FORMAT = 1


class Job(msgspec.Struct, frozen=True):
    """What is known of a job before it runs."""

    name: str
    topic: str
    is_sharded: bool
    """Whether no key of its state is in two partitions of the topic."""


class Unit(msgspec.Struct, frozen=True):
    """One part of the work, held by one process at a time."""

    number: int
    """Its partition of the topic that stands for the units, from 0."""
    name: str
    job: str
    topic: str
    partitions: tuple[int, ...]

    def app(self, app: str) -> str:
        """The application that the unit is: the name of its checkpoint folder and of its ledger.

        Example:
            >>> Unit(0, "page_totals-1", "page_totals", "page-views", (1,)).app("pipeline")
            'pipeline-page_totals-1'
        """
        return f"{app}-{self.name}"


class _File(msgspec.Struct, frozen=True):
    format: int
    units: tuple[Unit, ...]


def units_of(jobs: Sequence[Job], partitions: Mapping[str, int]) -> tuple[Unit, ...]:
    """The units of the jobs, in their order.

    Args:
        jobs: each once.
        partitions: by topic the number of its partitions.

    Example:
        >>> jobs = [Job("trending", "views", is_sharded=False), Job("totals", "views", is_sharded=True)]
        >>> [(unit.name, unit.partitions) for unit in units_of(jobs, {"views": 2})]
        [('trending', (0, 1)), ('totals-0', (0,)), ('totals-1', (1,))]
    """
    units: list[Unit] = []
    for job in jobs:
        every = range(partitions[job.topic])
        parts = [(f"{job.name}-{n}", (n,)) for n in every] if job.is_sharded else [(job.name, tuple(every))]
        units += [
            Unit(len(units) + place, name, job.name, job.topic, part)
            for place, (name, part) in enumerate(parts)
        ]
    return tuple(units)


def fixed_units(path: Path, wanted: Sequence[Unit], *, refuse: Collection[Path] = ()) -> tuple[Unit, ...]:
    """The units of the file, which the first start writes; of several that start at once, one does.

    Args:
        path: of the file.
        wanted: what the settings ask for.
        refuse: folders that a first start must not find: the work was begun without units.

    Raises:
        ConfigurationError: the settings ask for others than the first start.
        StateVersionError: the file is of another version, or damaged.
        CheckpointWriteError: the volume is full, or fails.
    """
    make_folder(path.parent)
    with writing(path):
        lock = os.open(path.parent / "units.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            begun = [folder for folder in refuse if folder.exists()]
            if begun:
                raise ConfigurationError(
                    f"{begun[0]} is the checkpoint of one engine with all jobs, which replicas cannot share; "
                    "set ENGINES=1, or start on a new DATA_DIR"
                )
            write_durably(path, msgspec.json.encode(_File(FORMAT, tuple(wanted))))
    finally:
        os.close(lock)
    units = read_units(path)
    if units != tuple(wanted):
        raise ConfigurationError(
            f"the units were fixed at the first start as {_told(units)}, and the settings ask for {_told(wanted)}; "
            "set JOBS and the partition counts to what they were, or start on a new DATA_DIR"
        )
    return units


def read_units(path: Path) -> tuple[Unit, ...]:
    """The units that were fixed.

    Raises:
        StateVersionError: the file is of another version, or damaged.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except msgspec.MsgspecError as error:
        raise StateVersionError(
            f"{path} is no list of units ({error}); restore it, or start on a new DATA_DIR"
        ) from error
    if found.format != FORMAT:
        raise StateVersionError(
            f"{path} has format {found.format} and this version reads {FORMAT}; use the version that wrote it"
        )
    return found.units


def _told(units: Sequence[Unit]) -> str:
    return ", ".join(f"{unit.name} (partitions {','.join(map(str, unit.partitions))})" for unit in units)
