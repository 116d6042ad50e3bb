"""Batches that are given and not planned: a backfill runs those of a ledger again, at their times and over their ranges.

Owns: GivenBatches.
Never: a clock, a source.
"""

import logging
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

from engine.batch import Duration, OffsetRange, Time
from engine.errors import ConfigurationError

log = logging.getLogger(__name__)

_TOLD_BATCHES = 100
"""A line for so many."""

Ranges = Mapping[str, Sequence[OffsetRange]]
"""By input."""


class GivenBatches:
    """Batches by their times; those that are planned come after the last of them.

    Args:
        zero: what the slides of the application count from.
        batches: time and ranges of each, in any order.
        interval: of this application's batches.

    Raises:
        ConfigurationError: two have one time, or one is not later than the zero time, or lies between two of this application's.

    Example:
        >>> given = GivenBatches(Time(0), [(Time(2_000), {}), (Time(5_000), {})], Duration(1_000))
        >>> given.after(Time(2_000)), given.after(Time(5_000))
        (Time(5000), None)
    """

    def __init__(self, zero: Time, batches: Iterable[tuple[Time, Ranges]], interval: Duration) -> None:
        self.zero = zero
        listed = sorted(batches, key=lambda batch: batch[0])
        self._ranges = dict(listed)
        self._times = list(self._ranges)
        if len(self._times) < len(listed) or (self._times and self._times[0] <= zero):
            raise ConfigurationError(
                f"backfill got {len(listed)} batches with {len(self._times)} times since zero time {int(zero)}; "
                "give each batch of one application once"
            )
        # No stream is due at such a time: the batch would be counted as done, and nothing would have read it.
        off = next((time for time in (zero, *self._times) if time % interval), None)
        if off is not None:
            raise ConfigurationError(
                f"backfill got time {int(off)}, which is no batch time of this application, whose interval is {int(interval)} ms; "
                "give the context the batchDuration of the application that the batches are of"
            )

    def refuse_other_zero(self, zero: Time) -> None:
        """Prove that the checkpoint is of an application that began with these batches.

        Raises:
            ConfigurationError: its slides count from another time.
        """
        if zero != self.zero:
            raise ConfigurationError(
                f"backfill got batches since zero time {int(self.zero)}, the checkpoint folder has batches since {int(zero)}; "
                "run them as an application of another name, or start without backfill"
            )

    def refuse_other_inputs(self, inputs: Iterable[str]) -> None:
        """Prove that these inputs are those that the batches have ranges of.

        Raises:
            ConfigurationError: one is in no batch, or a batch has ranges of one that is not there.
        """
        if not self._ranges:
            return
        there, given = set(inputs), {name for ranges in self._ranges.values() for name in ranges}
        for name in sorted(there ^ given):
            what = "which no batch of the backfill has" if name in there else "which this job does not have"
            known = ", ".join(map(repr, sorted(given if name in there else there))) or "none"
            raise ConfigurationError(
                f"backfill: input {name!r}, {what} (there: {known}), would be passed over; "
                "give inputs the names= that they had, and leave the others out of both"
            )

    def after(self, time: Time) -> Time | None:
        """The time of the next one, None behind the last."""
        place = bisect_right(self._times, time)
        return self._times[place] if place < len(self._times) else None

    def reaches(self, time: Time | None) -> bool:
        """Whether this is one of them, or earlier; None is always reached."""
        return time is None or (bool(self._times) and time <= self._times[-1])

    def ranges(self, time: Time) -> Ranges | None:
        """The ranges of the one with this time, None where none was given; says in the log how far it is."""
        found = self._ranges.get(time)
        left = len(self._times) - bisect_right(self._times, time)
        if found is not None and left % _TOLD_BATCHES == 0:
            rest = (
                f"{left} batches are left" if left else "it ends here; what follows is planned as it is due"
            )
            log.info("backfill: batch %d (%s); %s", time, time.as_datetime(), rest)
        return found
