"""Batches that are given and not planned: a backfill runs those of a ledger again, at their times and over their ranges.

Owns: GivenBatches.
Never: a clock, a source.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

from engine.batch import OffsetRange, Time
from engine.errors import ConfigurationError

Ranges = Mapping[str, Sequence[OffsetRange]]
"""By input."""


class GivenBatches:
    """Batches by their times; those that are planned come after the last of them.

    Args:
        zero: what the slides of the application count from.
        batches: time and ranges of each, in any order.

    Raises:
        ConfigurationError: two have one time, or one is not later than the zero time.

    Example:
        >>> given = GivenBatches(Time(0), [(Time(2_000), {}), (Time(5_000), {})])
        >>> given.after(Time(2_000)), given.after(Time(5_000))
        (Time(5000), None)
    """

    def __init__(self, zero: Time, batches: Iterable[tuple[Time, Ranges]]) -> None:
        self.zero = zero
        listed = sorted(batches, key=lambda batch: batch[0])
        self._ranges = dict(listed)
        self._times = list(self._ranges)
        if len(self._times) < len(listed) or (self._times and self._times[0] <= zero):
            raise ConfigurationError(
                f"backfill got {len(listed)} batches with {len(self._times)} times since zero time {int(zero)}; "
                "give each batch of one application once"
            )

    def after(self, time: Time) -> Time | None:
        """The time of the next one, None behind the last."""
        place = bisect_right(self._times, time)
        return self._times[place] if place < len(self._times) else None

    def ranges(self, time: Time) -> Ranges | None:
        """The ranges of the one with this time, None where none was given."""
        return self._ranges.get(time)
