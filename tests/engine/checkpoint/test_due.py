"""Which shards are due, over many batches of many shards, without a volume."""

import pytest

from engine.checkpoint.due import KEPT_SEGMENTS, due_shards, pinning
from engine.checkpoint.records import Catalog, DeltaRecord, SnapshotRecord

SEGMENT_BYTES = 64 << 20
BATCH_BYTES = 20 << 20
EXECUTORS = 2
SHARDS = 64


class Retention:
    """The deltas and snapshots that a checkpoint keeps of equal shards, of which every batch changes as much as there is."""

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self.catalog = Catalog()
        self._grown = {("totals", shard): [0, 0] for shard in range(shards)}

    def run(self, number: int) -> None:
        """One batch, the snapshots that are due after it, and the purge."""
        segment = f"{number * BATCH_BYTES // SEGMENT_BYTES:06d}.log"
        size = BATCH_BYTES // self._shards
        for place, grown in self._grown.items():
            self.catalog.deltas.append(DeltaRecord(*place, 0, size, 0, number, segment))
            grown[:] = grown[0] + size, grown[1] + 1
        first = pinning(self.catalog, SEGMENT_BYTES)
        for place in due_shards(self._grown, self.catalog.snapshots, first, (), EXECUTORS):
            self._grown[place] = [0, 0]
            older = [kept for kept in self.catalog.snapshots if (kept.operator, kept.shard) == place][-1:]
            others = [kept for kept in self.catalog.snapshots if (kept.operator, kept.shard) != place]
            self.catalog.snapshots = [*others, *older, SnapshotRecord(*place, number, "", 1, size)]
            if older:
                self.catalog.deltas = [
                    delta
                    for delta in self.catalog.deltas
                    if (delta.operator, delta.shard) != place or delta.version > older[0].version
                ]

    def segments(self) -> int:
        """How many segments of the journal the deltas keep."""
        return len({delta.segment for delta in self.catalog.deltas})

    def newest(self) -> list[int]:
        """By shard the batch of its newest snapshot."""
        newest = {kept.shard: kept.version for kept in self.catalog.snapshots}
        return [newest[shard] for shard in sorted(newest)]


@pytest.mark.parametrize("shards", [8, 32, SHARDS])
def test_no_shard_waits_for_ever_and_segments_stay_few(shards: int) -> None:
    """Where more shards are due than executors can write, each gets its turn, and the deltas keep as many segments as two rounds take."""
    retention, segments = Retention(shards), []
    for number in range(300):
        retention.run(number)
        segments.append(retention.segments())

    rounds = 2 * shards / EXECUTORS * BATCH_BYTES / SEGMENT_BYTES
    assert max(segments) <= max(KEPT_SEGMENTS, rounds) + 4
    assert len(retention.newest()) == shards
    assert min(retention.newest()) >= 300 - 2 * shards / EXECUTORS
