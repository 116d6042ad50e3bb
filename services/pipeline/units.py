"""The units of the pipeline: which job is sharded, where the units are kept.

Owns: JOBS, Sharing, sharing_of, units_of_jobs, refuse_units.
Never: a job's code; a replica that shares the work out needs none of it.
"""

from pathlib import Path
from typing import NamedTuple

from engine.cluster.units import Job, Unit, fixed_units, units_of
from engine.errors import ConfigurationError
from services.settings import Settings
from services.topics import AD_EVENTS, PAGE_VIEWS, topics

JOBS = (
    # Its keys are campaigns, whose ads come in every partition.
    Job("campaign_windows", AD_EVENTS, is_sharded=False),
    # It ranks the pages of all partitions.
    Job("trending_pages", PAGE_VIEWS, is_sharded=False),
    # Its keys are the messages' own: the views of a page lie in one partition.
    Job("page_totals", PAGE_VIEWS, is_sharded=True),
)


UNITS = "units.json"
"""The list of units, in the folder that replicas share."""


class Sharing(NamedTuple):
    """What the replicas of a pipeline share, and where."""

    folder: Path
    """On the volume of the checkpoints: the list of units, what each replica tells of itself, and what it was ordered."""
    units: tuple[Unit, ...]


def refuse_units(settings: Settings) -> None:
    """Refuse to run all jobs in one process where units have begun: it would count every record a second time.

    Raises:
        ConfigurationError: the volume has units.
    """
    folder = _folder(settings)
    if (folder / UNITS).exists():
        raise ConfigurationError(
            f"{folder} has the units of replicas, which one engine with all jobs cannot take over; "
            "set ENGINES=2 or more, or start on a new DATA_DIR"
        )


def _folder(settings: Settings) -> Path:
    return settings.checkpoint_dir / f"{settings.app}.units"


def units_of_jobs(settings: Settings) -> tuple[Unit, ...]:
    """The units that a first start makes of the settings' jobs."""
    jobs = [job for name in settings.jobs for job in JOBS if job.name == name]
    return units_of(jobs, {topic.name: topic.partitions for topic in topics(settings)})


def sharing_of(settings: Settings) -> Sharing:
    """The units of the settings' jobs; the first start fixes them.

    Raises:
        ConfigurationError: they were fixed otherwise, or the work was begun without units.
        CheckpointError: the folder cannot be used.
    """
    folder = _folder(settings)
    wanted = units_of_jobs(settings)
    begun = settings.checkpoint_dir / settings.app
    return Sharing(folder, fixed_units(folder / UNITS, wanted, refuse=[begun]))
