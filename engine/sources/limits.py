"""How many records a batch takes of each partition, when backpressure bounds it.

Owns: RateLimit.
Never: an estimate; that is the scheduler's.
"""

from collections.abc import Callable, Mapping

from engine.batch import TopicPartition


class RateLimit:
    """The rate of one input, shared out among its partitions by what waits in each.

    Example:
        >>> limit = RateLimit()
        >>> limit.rate = 100.0
        >>> old, new = TopicPartition("t", 0), TopicPartition("t", 1)
        >>> shares = limit.shares({old: 900, new: 100}, 2.0, lambda place: 150, lambda place: 1)
        >>> shares[old], shares[new], limit.told
        (150, 20, 100.0)

    Source: DirectKafkaInputDStream.maxMessagesPerPartition.
    """

    def __init__(self) -> None:
        self.rate: float | None = None
        """Records a second that backpressure allows; None for no limit."""
        self.told: float | None = None
        """Records a second that the newest shares allow at most, the partitions' own limits included; None for no limit."""

    def shares(
        self,
        waiting: Mapping[TopicPartition, int],
        seconds: float,
        most: Callable[[TopicPartition], int | None],
        least: Callable[[TopicPartition], int],
    ) -> dict[TopicPartition, int | None]:
        """How many records the next batch takes of each partition at most; None for no limit.

        Args:
            waiting: records that wait in each partition.
            seconds: the batch interval.
            most: records of a partition that a batch takes at most, whatever the rate; None for no limit.
            least: records of a partition that the rate leaves to a batch in any case.
        """
        own = {place: most(place) for place in waiting}
        known = [limit for limit in own.values() if limit is not None]
        self.told = sum(known) / seconds if known and len(known) == len(own) else None
        if self.rate is None:
            return own
        self.told = self.rate if self.told is None else min(self.rate, self.told)
        total = max(1, sum(waiting.values()))
        shares = {place: int(self.rate * seconds * count / total) for place, count in waiting.items()}
        return {
            place: max(least(place), share if own[place] is None else min(share, own[place] or 0))
            for place, share in shares.items()
        }
