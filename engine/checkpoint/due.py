"""Which shards are due for a snapshot, and whether the volume has room for it.

Owns: due_shards, pinning, Room.
Never: a write.
"""

import logging
import math
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from engine.checkpoint.records import Catalog, SnapshotRecord

log = logging.getLogger(__name__)

Place = tuple[str, int]
"""An operator and the number of one of its shards."""

KEPT_SEGMENTS = 8
"""Of the journal, beside as many as the snapshots would fill: two generations of deltas of a large state are no more than that."""


def due_shards(
    grown: Mapping[Place, Sequence[int]],
    snapshots: Iterable[SnapshotRecord],
    first: Iterable[Place],
    waiting: Container[Place],
    executors: int,
) -> list[Place]:
    """Shards that are to come first or outgrew their newest snapshots, the most outgrown first, at most one for each executor.

    Args:
        grown: by shard bytes and number of the deltas since its newest snapshot.
        snapshots: of every shard the newest last.
        first: shards that are due whatever their deltas are; those that always outgrow theirs must not keep them back.
        waiting: shards that are not due yet all the same.
        executors: their number.

    Example:
        >>> grown = {("op", 0): [9_000, 1], ("op", 1): [10, 64], ("op", 2): [10, 1]}
        >>> due_shards(grown, [], [], [], 2)
        [('op', 0), ('op', 1)]
        >>> due_shards(grown, [], [("op", 2)], [("op", 1)], 2)
        [('op', 2)]
    """
    sizes = {(kept.operator, kept.shard): kept.size for kept in snapshots}
    weight = {
        place: max(size / (0.3 * sizes.get(place, 0) + 4096), count / 64)
        for place, (size, count) in grown.items()
    }
    weight.update(dict.fromkeys(first, math.inf))
    chosen: dict[int, Place] = {}
    for place in sorted(weight, key=lambda place: (-weight[place], place)):
        if weight[place] >= 1 and place not in waiting:
            chosen.setdefault(place[1] % executors, place)
    return list(chosen.values())


def pinning(catalog: Catalog, segment_bytes: int) -> set[Place]:
    """Shards whose deltas keep the oldest segment of the journal, where those are more than a few and the snapshots' bytes.

    They change too little to be due. One segment after the other: what comes first must not keep back what is due anyhow.

    Example:
        >>> from engine.checkpoint.records import DeltaRecord
        >>> deltas = [DeltaRecord("op", n % 2, 0, 1, 0, n, f"{n:06d}-000000.log") for n in range(KEPT_SEGMENTS + 1)]
        >>> pinning(Catalog(deltas=deltas), 64 << 20)
        {('op', 0)}
    """
    kept = KEPT_SEGMENTS + sum(snapshot.size for snapshot in catalog.snapshots) // segment_bytes
    oldest = sorted({delta.segment for delta in catalog.deltas})[:-kept][:1]
    return {(delta.operator, delta.shard) for delta in catalog.deltas if delta.segment in oldest}


class Room:
    """The room of a volume, looked at BEFORE a snapshot is written, not found out by half a file.

    Args:
        folder: on the volume.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_short = False

    def for_snapshots(
        self,
        due: Sequence[Place],
        grown: Mapping[Place, Sequence[int]],
        snapshots: Iterable[SnapshotRecord],
    ) -> list[Place]:
        """Those of the shards that fit; the others wait, while their deltas go on, and the log says so once.

        Args:
            due: the shards.
            grown: as of `due_shards`.
            snapshots: of every shard the newest last.
        """
        if not due:
            return []
        sizes = {(kept.operator, kept.shard): kept.size for kept in snapshots}
        found = os.statvfs(self._folder)
        free, needed, taken, fitting = found.f_bavail * found.f_frsize, 0, 0, []
        for place in due:
            # What changes a key's state counts twice: a snapshot is never larger than this.
            size = sizes.get(place, 0) + grown.get(place, (0,))[0]
            needed += size
            if taken + size < free:
                taken += size
                fitting.append(place)
        is_short = len(fitting) < len(due)
        if is_short and not self._is_short:
            log.warning(
                "%s has %d bytes free, and its due snapshots may need %d: they wait until there is room",
                *(self._folder, free, needed),
            )
        self._is_short = is_short
        return fitting
