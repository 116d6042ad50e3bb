"""Which keys have been idle for so long, without a look at the others.

Owns: Timers.
Never: a state, a clock; times are those of batches.
"""

import heapq
from collections.abc import Callable, Hashable, Iterable
from itertools import chain
from typing import Any

from engine.rdd.partitioner import portable_hash


class Timers:
    """The keys of a shard by the time at which they were last looked at: each waits in one bucket.

        bucket of time   1000: a b    2000: c    5000: d
        now 9000, idle since before 4000: look at a, b and c; those touched since then move to the bucket of their last touch

    A touch costs nothing, as the bucket of the key does not change. A key is looked at when its bucket is due and moves at most
    once for each touch, so all looks together cost as much as touches and expiries, however many keys are idle.
    A key that was removed waits on in its bucket, as nobody knows which; `let_go` drops such keys when they are more than the others.

    Args:
        touched: each key with the time of its last touch.
        spare: so many more than twice the keys that are there may wait.

    Example:
        >>> timers = Timers([("a", 1_000), ("b", 1_000)])
        >>> touched = {"a": 1_000, "b": 3_000}
        >>> timers.expired(2_000, touched.get)
        ['a']
        >>> timers.expired(3_000, touched.get), timers.expired(3_001, touched.get)
        ([], ['b'])
    """

    def __init__(self, touched: Iterable[tuple[Hashable, int]], spare: int = 1_000) -> None:
        self._spare = spare
        self._waiting = 0
        """Keys in all buckets."""
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
        self._waiting += 1

    def __len__(self) -> int:
        """How many keys wait, those included that are gone."""
        return self._waiting

    def let_go(self, live: int, touched: Callable[[Any], int | None]) -> None:
        """Drop the keys that are gone, once they are too many; what expires, and in which order, stays as it is.

        Args:
            live: how many keys are there.
            touched: when a key was last touched, None for one that is gone.
        """
        if self._waiting <= 2 * live + self._spare:
            return
        keys = dict.fromkeys(chain.from_iterable(self._buckets.values()))
        self._buckets, self._times, self._waiting = {}, [], 0
        for key in keys:
            time = touched(key)
            if time is not None:
                self.add(key, time)

    def expired(self, threshold: int, touched: Callable[[Any], int | None]) -> list[Any]:
        """The keys that were last touched before the threshold, oldest first; they wait no more.

        Args:
            threshold: exclusive; may not fall from call to call.
            touched: when a key was last touched, None for one that is gone.
        """
        found: dict[Hashable, int] = {}
        while self._times and self._times[0] < threshold:
            # A key that was removed and came back waits twice; here the two become one again.
            bucket = self._buckets.pop(heapq.heappop(self._times))
            self._waiting -= len(bucket)
            for key in dict.fromkeys(bucket):
                time = touched(key)
                if time is not None and time < threshold:
                    found[key] = time
                elif time is not None:
                    self.add(key, time)
        # The same order in every run, also after a restart, which puts keys into their buckets anew.
        return sorted(found, key=lambda key: (found[key], portable_hash(key)))
