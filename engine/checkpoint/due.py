"""Which shards are due for a snapshot, and whether the volume has room for it.

Owns: due_shards, Room.
Never: a write.
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from engine.checkpoint.records import SnapshotRecord

log = logging.getLogger(__name__)

Place = tuple[str, int]
"""An operator and the number of one of its shards."""


def due_shards(
    grown: Mapping[Place, Sequence[int]],
    snapshots: Iterable[SnapshotRecord],
    outdated: Iterable[Place],
    executors: int,
) -> list[Place]:
    """Shards that outgrew their newest snapshots, at most one for each executor, the most outgrown first.

    Args:
        grown: by shard bytes and number of the deltas since its newest snapshot.
        snapshots: of every shard the newest last.
        outdated: shards that are due whatever their deltas are.
        executors: their number.

    Example:
        >>> due_shards({("op", 0): [9_000, 1], ("op", 1): [10, 64], ("op", 2): [10, 1]}, [], [], 2)
        [('op', 0), ('op', 1)]
    """
    sizes = {(kept.operator, kept.shard): kept.size for kept in snapshots}
    weight = {
        place: max(size / (0.3 * sizes.get(place, 0) + 4096), count / 64)
        for place, (size, count) in grown.items()
    }
    weight.update({place: max(weight.get(place, 0.0), 1.0) for place in outdated})
    chosen: dict[int, Place] = {}
    for place in sorted(weight, key=lambda place: (-weight[place], place)):
        if weight[place] >= 1:
            chosen.setdefault(place[1] % executors, place)
    return list(chosen.values())


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
