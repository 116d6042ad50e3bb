"""How much a checkpoint folder holds, kept up as it changes so that nobody has to walk it.

Owns: Sizes.
Never: a choice of what goes.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engine.checkpoint.files import writing
from engine.failpoints import fail_point
from engine.reports import StateReport, Volume


@dataclass(slots=True)
class _Sums:
    """One operator over all shards."""

    keys: int = 0
    size_bytes: int = 0


class Sizes:
    """Keys and bytes of every operator, and bytes of the files of one checkpoint folder.

    Args:
        folder: the application's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blocks = folder / "blocks"
        self._keys: dict[tuple[str, int], int] = {}
        self._sums: dict[str, _Sums] = {}
        self._journal_bytes = self._snapshot_bytes = 0
        """Of the files that were there, less what was removed; this process's journal is not in it."""

    def measure(self) -> None:
        """Look at every file, once, BEFORE this process writes the first one."""
        self._journal_bytes = sum(path.stat().st_size for path in self._folder.glob("journal/*.log"))
        self._snapshot_bytes = sum(path.stat().st_size for path in self._folder.glob("state/*/*/*.snap"))

    def wrote_snapshot(self, path: Path) -> None:
        """This file is new."""
        self._snapshot_bytes += path.stat().st_size

    def remove_segment(self, path: Path) -> None:
        """Remove a segment of the journal."""
        self._journal_bytes -= _removed(path)

    def remove_snapshot(self, path: Path) -> None:
        """Remove a snapshot's file."""
        self._snapshot_bytes -= _removed(path)

    def count_keys(self, operator: str, shard: int, keys: int) -> None:
        """A shard has so many keys now."""
        self._of(operator).keys += keys - self._keys.get((operator, shard), 0)
        self._keys[operator, shard] = keys

    def grew(self, operator: str, size_bytes: int) -> None:
        """A restart reads so many bytes more of the operator, or fewer."""
        self._of(operator).size_bytes += size_bytes

    def recount(self, snapshots: Iterable[tuple[str, int]]) -> None:
        """Count what a restart reads anew, from each operator's newest snapshots and their bytes."""
        for sums in self._sums.values():
            sums.size_bytes = 0
        for operator, size_bytes in snapshots:
            self.grew(operator, size_bytes)

    def state(self, operator: str, updated: int = 0) -> StateReport:
        """An operator over all shards, as far as this process has seen them."""
        sums = self._of(operator)
        return StateReport(sums.keys, sums.size_bytes, updated)

    def volume(self, written_bytes: int) -> Volume:
        """What the folder takes of its volume, and what is left; this process has written so much to its journal."""
        found = os.statvfs(self._folder)
        free_bytes, size_bytes = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        journal_bytes = self._journal_bytes + written_bytes
        return Volume(journal_bytes, self._snapshot_bytes, free_bytes, size_bytes, self._block_bytes())

    def _block_bytes(self) -> int:
        """Of the block logs, which inputs write and cut: their segments are few, so they are looked at each time."""
        if not self._blocks.is_dir():
            return 0
        # Another process that has taken over may remove a segment meanwhile.
        with contextlib.suppress(FileNotFoundError):
            return sum(path.stat().st_size for path in self._blocks.glob("*/*/*.log"))
        return 0

    def _of(self, operator: str) -> _Sums:
        sums = self._sums.get(operator)
        if sums is None:
            sums = self._sums[operator] = _Sums()
        return sums


def _removed(path: Path) -> int:
    """Remove a file; returns its size."""
    size = path.stat().st_size
    with writing(path):
        path.unlink()
    fail_point("in_purge")
    return size
