"""What a table's row of a metric looks like in a scrape."""

from typing import Protocol


class Row(Protocol):
    """A row of whichever table."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def kind(self) -> str:
        """One of counter, gauge, histogram."""


def names_of(row: Row) -> set[str]:
    """The names of a row's samples.

    Example:
        >>> from engine.metrics import Metric
        >>> sorted(names_of(Metric("wait_seconds", "histogram", "How long.")))
        ['wait_seconds_bucket', 'wait_seconds_count', 'wait_seconds_sum']
    """
    ends = ("_bucket", "_count", "_sum") if row.kind == "histogram" else ("",)
    return {row.name + end for end in ends}
