"""Takes the ledger's batches through the log and the truth, one after the other.

Owns: Replay, Log, Progress, ledger_verdict.
Never: a row of a result table.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

from tools.verify.ledger import Bounds, LedgerBatch, Partition, Range, Stored, Tiling
from tools.verify.producers import Producers
from tools.verify.readers import Reader
from tools.verify.schema import show_time
from tools.verify.truth import Changes, Record, Truth, decode
from tools.verify.verdict import CannotTellError, LedgerVerdict, Offender

RECORDS = 500
"""So many records are held at once."""

Progress = Callable[[int, int], None]
"""Is told how many of how many offsets were read."""


class Log(Protocol):
    """Where the events are kept."""

    def bounds(self, topics: Collection[str]) -> Bounds:
        """First offset and end of the committed part of every partition of the topics."""

    def read(self, item: Range) -> Iterable[Stored]:
        """The records of a range that lies within the bounds, in offset order, AFTER bounds() was asked for its topic; what was asked first holds on."""

    def keys(self, where: Partition, offsets: Collection[int]) -> dict[int, bytes | None]:
        """The keys of the records at these offsets, those that are there, AFTER bounds() was asked for the topic."""

    def close(self) -> None:
        """Let go of the connections."""


class Replay:
    """The batches of the ledger, each taken once: its ranges are compared with the log, its records decoded and counted.

    State: how far it came, the truth as of there.

    Args:
        log: where the records are.
        reader: whose ledger it is.
        progress: called after each batch.
        producers: are shown the records of each partition by the replay that comes to it first, and by no other.
    """

    def __init__(self, log: Log, reader: Reader, progress: Progress, producers: Producers) -> None:
        self.time = -1
        """The newest batch, milliseconds since the epoch."""
        self.batches = 0
        self.records: Counter[Partition] = Counter()
        """How many its ranges hold."""
        self._reader = reader
        self._producers = producers
        self._log = log
        self._progress = progress
        self._bounds: Bounds = {}
        self._tiling = Tiling(reader.unit)
        self._truth = Truth(reader.tables)

    def take(self, ledger: Iterable[list[LedgerBatch]], tell: Callable[[int, Changes], None]) -> None:
        """Go on with pieces of the ledger, in batch order.

        Args:
            ledger: the pieces; each is what the ledger held when it is given, so that the log has what it names.
            tell: is told the time of each batch and what it changed.
        """
        for piece in ledger:
            self._know(piece)
            for batch in piece:
                if batch.time <= self.time:
                    raise CannotTellError(
                        f"the ledger's row of batch {show_time(batch.time)} stands under the wrong day; restore it"
                    )
                self._tiling.take(batch, self._bounds)
                tell(batch.time, self._truth.apply(batch, self._read))
                self.time = batch.time
                self.batches += 1
                self._progress(*self._offsets())

    def _know(self, piece: Iterable[LedgerBatch]) -> None:
        """Ask for the bounds again when a range is not within those that are known."""
        items = [item for batch in piece for item in batch.ranges]
        if any(item.until > self._bounds.get((item.topic, item.partition), (0, -1))[1] for item in items):
            self._look({topic for topic, _ in self._bounds} | {item.topic for item in items})

    def _look(self, topics: Collection[str]) -> None:
        bounds = self._log.bounds(sorted(topics))
        self._bounds = {where: bound for where, bound in bounds.items() if self._reader.reads(where)}
        for (topic, partition), (first, _) in sorted(self._bounds.items()):
            if first > 0:
                raise CannotTellError(
                    f"the log of {topic}[{partition}] begins at offset {first}, its older records are gone; "
                    "the truth needs all of them from 0, so keep them longer (retention) to verify"
                )

    def _read(self, item: Range) -> Iterator[Record]:
        """The records of a range as far as the log goes; each is decoded once and shown to producers."""
        where = (item.topic, item.partition)
        until = min(item.until, self._bounds.get(where, (0, 0))[1])
        if item.start >= until:
            return
        stored = iter(self._log.read(item._replace(until=until)))
        while records := [(offset, value, decode(value)) for offset, value in islice(stored, RECORDS)]:
            self.records[where] += len(records)
            self._producers.observe(where, records, self)
            yield from records

    def _offsets(self) -> tuple[int, int]:
        """How many offsets were taken, of how many in the log."""
        ends = {where: end for where, (_, end) in self._bounds.items()}
        taken = sum(min(self._tiling.reached.get(where, 0), end) for where, end in ends.items())
        return taken, sum(ends.values())

    @property
    def faults(self) -> list[Offender]:
        """Where the ledger does not tile the log."""
        return self._tiling.faults

    def behind(self) -> dict[Partition, int]:
        """Offsets at the end of each partition as it is now that no batch has taken."""
        self._look({topic for topic, _ in self._bounds})
        reached = self._tiling.reached
        return {where: max(0, end - reached.get(where, 0)) for where, (_, end) in self._bounds.items()}


def ledger_verdict(replays: Sequence[Replay], cut: int) -> LedgerVerdict:
    """How all ledgers compare with the log as it is now, AFTER the last batch; what two of them have counts once."""
    records: Counter[Partition] = Counter()
    behind: Counter[Partition] = Counter()
    for replay in replays:
        records |= replay.records
        behind |= Counter(replay.behind())
    return LedgerVerdict(
        sum(replay.batches for replay in replays),
        cut,
        records.total(),
        behind.total(),
        tuple(fault for replay in replays for fault in replay.faults),
        len(replays),
    )
