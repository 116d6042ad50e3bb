"""Which keys have been idle for so long, without a look at the others.

Owns: Timers.
Never: a state, a clock; times are those of batches.
"""

import heapq
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from engine.rdd.partitioner import portable_hash


class Timers:
    """The keys of a shard by the time at which they were last looked at: each waits in one bucket.

        bucket of time   1000: a b    2000: c    5000: d
        now 9000, idle since before 4000: look at a, b and c; those touched since then move to the bucket of their last touch

    A touch costs nothing, as the bucket of the key does not change. A key is looked at when its bucket is due and moves at most
    once for each touch, so all looks together cost as much as touches and expiries, however many keys are idle.

    Example:
        >>> timers = Timers([("a", 1_000), ("b", 1_000)])
        >>> touched = {"a": 1_000, "b": 3_000}
        >>> timers.expired(2_000, touched.get)
        ['a']
        >>> timers.expired(3_000, touched.get), timers.expired(3_001, touched.get)
        ([], ['b'])
    """

    def __init__(self, touched: Iterable[tuple[Hashable, int]]) -> None:
        self._buckets: dict[int, list[Hashable]] = {}
        self._times: list[int] = []
        """A heap of the buckets' times."""
        for key, time in touched:
            self.add(key, time)

    def add(self, key: Hashable, time: int) -> None:
        """A key that is new was touched at this time; one that waits already may be added again."""
        bucket = self._buckets.get(time)
        if bucket is None:
            bucket = self._buckets[time] = []
            heapq.heappush(self._times, time)
        bucket.append(key)

    def expired(self, threshold: int, touched: Callable[[Any], int | None]) -> list[Any]:
        """The keys that were last touched before the threshold, oldest first; they wait no more.

        Args:
            threshold: exclusive; may not fall from call to call.
            touched: when a key was last touched, None for one that is gone.
        """
        found: dict[Hashable, int] = {}
        while self._times and self._times[0] < threshold:
            # A key that was removed and came back waits twice; here the two become one again.
            for key in dict.fromkeys(self._buckets.pop(heapq.heappop(self._times))):
                time = touched(key)
                if time is not None and time < threshold:
                    found[key] = time
                elif time is not None:
                    self.add(key, time)
        # The same order in every run, also after a restart, which puts keys into their buckets anew.
        return sorted(found, key=lambda key: (found[key], portable_hash(key)))
