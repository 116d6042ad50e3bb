"""What the parts of the engine tell of their own work: plain values that travel with results and merge.

Owns: Buckets, WriteReport, StateReport, Lag, Volume, the bounds of the histograms.
Never: a clock, a metric's name.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, NamedTuple

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Upper bounds of durations, seconds."""
END_TO_END_SECONDS: Final = (
    *(0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600),
)
"""Upper bounds of latencies from a record's creation to its visible row, seconds."""


@dataclass(slots=True)
class Buckets:
    """How many observations fell under each bound; those of several processes add up.

    Example:
        >>> buckets = Buckets((1, 5))
        >>> buckets.observe_all([0.5, 1, 7])
        >>> buckets.counts, buckets.total, buckets.cumulative()
        ([2, 0, 1], 8.5, [2, 2, 3])
    """

    bounds: tuple[float, ...] = SECONDS
    """Upper bounds, inclusive, ascending."""
    counts: list[int] = field(default_factory=list)
    """Observations above the bound before and not above this one; the last count is of those above every bound."""
    total: float = 0.0
    """Sum of the observations."""

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    @property
    def count(self) -> int:
        """Number of observations."""
        return sum(self.counts)

    def observe(self, value: float, times: int = 1) -> None:
        """Count one observation, or so many equal ones."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def observe_all(self, values: Iterable[float]) -> None:
        """Count each observation."""
        for value in values:
            self.observe(value)

    def merge(self, other: "Buckets") -> None:
        """Add the observations of another with the same bounds."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def cumulative(self) -> list[int]:
        """Observations up to each bound; the last is their number."""
        return list(accumulate(self.counts))


@dataclass(frozen=True, slots=True)
class WriteReport:
    """How writes into one table of the results store went, in the process that made them."""

    table: str
    rows: int = 0
    """Rows and removals that the store acknowledged."""
    requests: int = 0
    """Requests that the store acknowledged."""
    retries: int = 0
    """Pauses after transient trouble, each followed by another try of what was not acknowledged."""
    failures: int = 0
    """Requests that the store refused or left without an answer, those that a retry healed too."""
    seconds: Buckets = field(default_factory=Buckets)
    """From the sending of an acknowledged request until the writer saw its answer."""


class StateReport(NamedTuple):
    """A stateful operator after a batch, over all shards."""

    keys: int
    size_bytes: int
    """What a restart reads of it: the newest snapshots and the deltas after them."""
    updated: int
    """Keys that the batch put or removed."""


class Lag(NamedTuple):
    """How far one partition is behind its log."""

    records: int
    """End of the log when the batch was planned, minus what is committed; an upper bound of the records."""
    since: int
    """When the last committed record was created, or the last batch time at which nothing was behind when that is later:
    what waits came after it. Milliseconds since the epoch."""

    def seconds(self, now_ms: int) -> float:
        """0 when nothing is behind, else the age of the last committed record, as far as something has waited since."""
        return max(0, now_ms - self.since) / 1_000 if self.records else 0.0


class Volume(NamedTuple):
    """What the checkpoint folder takes of its volume, bytes."""

    journal_bytes: int
    state_bytes: int
    """Of the snapshots."""
    free_bytes: int
    """Left on the volume for this process."""
    size_bytes: int
    """Of the whole volume."""
    block_bytes: int = 0
    """Of the block logs: what inputs that cannot replay have taken."""


def by_table(reports: Iterable[WriteReport]) -> Mapping[str, WriteReport]:
    """One report a table."""
    totals: dict[str, WriteReport] = {}
    for report in reports:
        known = totals.get(report.table)
        if known is None:
            known = totals[report.table] = WriteReport(report.table)
        known.seconds.merge(report.seconds)
        totals[report.table] = WriteReport(
            report.table,
            known.rows + report.rows,
            known.requests + report.requests,
            known.retries + report.retries,
            known.failures + report.failures,
            known.seconds,
        )
    return totals
