"""The applications that wrote the tables: one with all jobs, or units that replicas share, each with a ledger of its own.

    one engine      APP                      every job, every partition
    replicas        APP-campaign_windows     that job, every partition of its topic
                    APP-trending_pages       the same
                    APP-page_totals-N        that job, partition N: its keys are the messages' own

Which of both it is, the ledger says. Written down here a second time on purpose, like the truth.

Owns: Reader, readers_of.
Never: I/O.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from services.settings import Settings
from tools.verify.ledger import Partition
from tools.verify.schema import TABLES
from tools.verify.truth import AD_EVENTS, PAGE_VIEWS
from tools.verify.verdict import CannotTellError

TOPICS = {"campaign_windows": AD_EVENTS, "trending_pages": PAGE_VIEWS, "page_totals": PAGE_VIEWS}
"""The topic that a job reads."""
SHARDED = "page_totals"
"""The job that has a unit for each partition."""
LETTERS = "dead_letters"
"""The table that every application writes."""


@dataclass(frozen=True, slots=True)
class Reader:
    """An application: it reads partitions, and writes tables as of its own batches."""

    app: str
    """Whose rows of the ledger are its own."""
    unit: str = ""
    """Its name among the units; "" where there is one application only."""
    tables: frozenset[str] = frozenset(TABLES)
    partitions: frozenset[Partition] | None = None
    """Those that it may read; None for every one."""

    def reads(self, where: tuple[object, object]) -> bool:
        """Whether it may read a partition."""
        return self.partitions is None or where in self.partitions


def readers_of(settings: Settings, apps: Collection[str]) -> list[Reader]:
    """The applications to verify.

    Args:
        settings: which application, jobs and partitions.
        apps: of which the ledger has batches.

    Raises:
        CannotTellError: the ledger has both batches of one engine with all jobs and of units.

    Example:
        >>> [reader.app for reader in readers_of(Settings(jobs="page_totals"), ["pipeline-page_totals-0"])]
        ['pipeline-page_totals-0', 'pipeline-page_totals-1']
    """
    units = list(_units(settings))
    begun = [unit.app for unit in units if unit.app in apps]
    if not begun and (settings.engines == 1 or settings.app in apps):
        return [Reader(settings.app)]
    if settings.app in apps:
        raise CannotTellError(
            f"the ledger has batches of {settings.app} and of {', '.join(begun)}: one engine with all jobs and replicas wrote the "
            "same tables; empty the tables and begin on a new DATA_DIR"
        )
    return units


def _units(settings: Settings) -> Iterator[Reader]:
    partitions = {AD_EVENTS: settings.ad_partitions, PAGE_VIEWS: settings.page_partitions}
    for job in settings.jobs:
        topic = TOPICS[job]
        every = [(topic, number) for number in range(partitions[topic])]
        parts = [(f"{job}-{place[1]}", [place]) for place in every] if job == SHARDED else [(job, every)]
        for name, part in parts:
            yield Reader(f"{settings.app}-{name}", name, frozenset({job, LETTERS}), frozenset(part))
