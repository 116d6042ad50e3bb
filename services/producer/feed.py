"""One topic's events on their way to its partitions: what is due, is made, appended, and doubted when an append failed.

Owns: Feed, PartitionSink.
Never: a clock, a client of a server, a file.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from services.producer.schedule import NOTHING, Position, Schedule

JUMP_MS = 60_000
"""A schedule that is further behind than this goes on from now, milliseconds."""
APPEND_EVENTS = 2_000
"""Most events in one append; a schedule that is behind catches up in portions of this size."""

Content = Callable[[int, int, int, int], tuple[bytes, bytes]]
"""Seed, partition, seq and event time give key and value."""

_log = logging.getLogger(__name__)


class PartitionSink(Protocol):
    """One partition of a topic, as its one producer sees it.

    Guarantees asked for: an append is all or nothing; what `resume` returns is durable, and nothing that an earlier
    producer (or an earlier append) still has under way comes after it.
    """

    def resume(self) -> Position:
        """Fence every earlier producer, THEN read back the newest event.

        Raises:
            OSError: not now (the server is away); call again.
            ConcurrentRunError: another producer has taken over, or holds the partition.
        """

    def append(self, records: Sequence[tuple[int, bytes, bytes]]) -> None:
        """Append timestamp (milliseconds), key and value of each record; durable when it returns.

        Raises:
            OSError: it is not known whether they are in the log; `resume` comes next.
            ConcurrentRunError: another producer has taken over.
        """

    def close(self) -> None:
        """Let go of the partition."""


class Feed:
    """A topic's producer.

    1. An event is made when it is due and appended to partition k % partitions, so sequences have no gaps.
    2. After a failed append the partition's sequence is what the log says, never what this process believes.

    Args:
        topic: its name, for messages.
        content: makes an event.
        seed: of the content.
        schedule: for a topic without events; one with events has its own start, which is read back.
        sinks: the partitions.
        limit: total number of events in the topic after which it is done.
    """

    def __init__(
        self,
        topic: str,
        content: Content,
        seed: int,
        schedule: Schedule,
        sinks: Sequence[PartitionSink],
        limit: int | None = None,
    ) -> None:
        self.topic = topic
        self.sent = 0
        """Events that this process has appended."""
        self._content = content
        self._seed = seed
        self._schedule = schedule
        self._sinks = sinks
        self._limit = limit
        self._next = [0] * len(sinks)
        self._newest = [NOTHING] * len(sinks)
        self._unsure = set(range(len(sinks)))
        self._resumed = False

    def settle(self) -> None:
        """Find out where every partition that is in doubt stands; the first time, all of them.

        Raises:
            OSError: not now; call again.
        """
        if not self._unsure:
            return
        # Side by side, as a server may take half a second for each.
        with ThreadPoolExecutor(len(self._unsure)) as pool:
            answers = {
                partition: pool.submit(self._sinks[partition].resume) for partition in sorted(self._unsure)
            }
        for partition, answer in answers.items():
            position = self._newest[partition] = answer.result()
            if self._resumed:
                self.sent += position.seq + 1 - self._next[partition]
            self._next[partition] = position.seq + 1
            self._unsure.discard(partition)
        if not self._resumed:
            self._schedule = self._schedule.resumed(self._newest)
            self._resumed = True
            _log.info("%s goes on at %s", self.topic, ", ".join(map(str, self._next)))

    def flush(self, now_ms: int) -> bool:
        """Append what is due; returns whether more is due already.

        Raises:
            OSError: an append may have failed; settle() comes next.
        """
        if self.behind_ms(now_ms) > JUMP_MS:
            _log.warning(
                "%s is %d s behind its schedule, which goes on from now",
                self.topic,
                self.behind_ms(now_ms) // 1_000,
            )
            self._schedule = self._schedule.jumped(self._next, now_ms)
        due = [self._schedule.due(partition, now_ms) for partition in range(len(self._sinks))]
        return self._append_until(due)

    def flush_ahead(self) -> bool:
        """Append the next portion without looking at the time; returns whether there is more."""
        least = min(self._next)
        return self._append_until([least + APPEND_EVENTS] * len(self._sinks))

    def behind_ms(self, now_ms: int) -> int:
        """For how long the next event has been due, milliseconds; negative when it is not due yet, 0 when the topic is done."""
        return 0 if self.is_done else self._schedule.behind_ms(self._next, now_ms)

    @property
    def is_done(self) -> bool:
        """Whether the topic has as many events as the limit asks for."""
        return not self._unsure and all(self._next[p] >= self._bound(p) for p in range(len(self._sinks)))

    def close(self) -> None:
        """Let go of the partitions."""
        for sink in self._sinks:
            sink.close()

    def _bound(self, partition: int) -> float:
        """The sequence number at which a partition has all the events it is to get."""
        return float("inf") if self._limit is None else self._schedule.share(partition, self._limit)

    def _append_until(self, seqs: Sequence[int]) -> bool:
        """Bring each partition up to its sequence number, or one portion nearer; returns whether some are not there yet."""
        more = False
        for partition, wanted in enumerate(seqs):
            begin, end = self._next[partition], int(min(wanted, self._bound(partition)))
            until = min(end, begin + APPEND_EVENTS)
            more |= until < end
            if begin < until:
                self._append(partition, begin, until)
        return more

    def _append(self, partition: int, begin: int, until: int) -> None:
        """Append the events [begin, until) of a partition."""
        records = []
        for seq in range(begin, until):
            time = self._schedule.time_of(partition, seq)
            records.append((time, *self._content(self._seed, partition, seq, time)))
        # In doubt from BEFORE the append until it has returned.
        self._unsure.add(partition)
        self._sinks[partition].append(records)
        self._unsure.discard(partition)
        self._next[partition] = until
        self.sent += len(records)
