"""Which batch times are due: pure arithmetic over the two clocks.

Owns: JobGenerator.
Never: a clock, a thread; both times are arguments.
"""

from collections.abc import Callable

from engine.batch import Duration, Time


class JobGenerator:
    """The batch times of one application, each later than the one before it.

    A batch is due one interval after the last one was, on the grid of the epoch. Behind schedule, one catch-up batch takes over all
    missed times and has the newest of them. A wall clock that jumps ahead and returns neither stalls nor reorders: each time is at least
    one interval after the last. Set back by little, the next batches come a little later until they are on the grid again; set back by
    more than an interval, there is one an interval by the monotonic clock, and their times run ahead of the wall clock.

    Args:
        interval: batch interval.
        last: time of the last batch.
        every_interval: run every missed time one by one, as Spark does.
        given: the next of the times that are given, if there is one after this time; those are due at once.

    Example:
        >>> generator = JobGenerator(Duration(1_000), Time(5_000))
        >>> generator.wait_ms(wall_ms=5_400, since_ms=400), generator.due(wall_ms=6_010), generator.due(wall_ms=9_700)
        (600, Time(6000), Time(9000))
    """

    def __init__(
        self,
        interval: Duration,
        last: Time,
        *,
        every_interval: bool = False,
        given: Callable[[Time], Time | None] | None = None,
    ) -> None:
        self._interval = interval
        self.last = last
        """Time of the newest batch that was due."""
        self._every_interval = every_interval
        self._given = given

    def _next_given(self) -> Time | None:
        return None if self._given is None else self._given(self.last)

    def wait_ms(self, wall_ms: int, since_ms: int) -> int:
        """Milliseconds until the next batch is due, at most one interval.

        Args:
            wall_ms: the wall clock.
            since_ms: how long ago the last batch began, by the monotonic clock.
        """
        if self._next_given() is not None:
            return 0
        was_set_back = wall_ms < self.last - self._interval
        left = self._interval - since_ms if was_set_back else self.last + self._interval - wall_ms
        return max(0, min(left, self._interval))

    def due(self, wall_ms: int) -> Time:
        """The time of the batch that is to run now."""
        given = self._next_given()
        following = self.last.plus(self._interval) if given is None else given
        if given is None and not self._every_interval:
            following = max(following, Time(wall_ms).floor(self._interval))
        self.took(following)
        return following

    def took(self, time: Time) -> None:
        """A batch of this time runs; the next is due after it."""
        self.last = time
