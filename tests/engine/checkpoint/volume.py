"""A checkpoint folder with two shards of one operator, as the scheduler drives it, without streams."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from engine.batch import Batch, Duration, OffsetRange, Time, TopicPartition
from engine.checkpoint.checkpoint import Checkpoint, Delta, SnapshotTask
from engine.checkpoint.codec import StateCodec
from engine.checkpoint.journal import segment_names
from engine.checkpoint.shards import Shard

OPERATOR = "totals"
SHARDS = 2
LINEAGE = {OPERATOR: "updateStateByKey(queue)"}
INTERVAL = Duration(1_000)
BIG = "x" * 6_000
"""A value that makes a snapshot due; "big" stands for it in generated batches."""


class Volume:
    """Runs batches of changes against a checkpoint and the shards that an executor would hold.

    Args:
        folder: the checkpoint directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoint: Checkpoint
        self.shards: list[Shard] = []
        self.version = 0
        self.time = Time(0)

    @property
    def journal(self) -> Path:
        """The folder of the segments."""
        return self.folder / "app" / "journal"

    def segments(self) -> list[Path]:
        """The segments, oldest first."""
        return [self.journal / name.file for name in segment_names(self.journal)]

    def snapshots(self) -> list[Path]:
        """The snapshot files, by shard and age."""
        return sorted(
            self.folder.glob("app/state/*/*/*.snap"), key=lambda path: (path.parent.name, _age(path))
        )

    def open(self, **how: Any) -> Self:
        """Open the folder and restore every shard as a process that starts does."""
        self.checkpoint = Checkpoint(self.folder, "app", INTERVAL, SHARDS)
        try:
            self.checkpoint.open(Time(0), **how)
        except BaseException:
            self.checkpoint.close()
            raise
        self.restore()
        return self

    def restore(self) -> None:
        """Rebuild the shards from the volume."""
        commit = self.checkpoint.last_commit
        self.version = commit.versions[OPERATOR] if commit else 0
        self.time = Time(commit.batch.time) if commit else Time(0)
        self.shards = [Shard(StateCodec(OPERATOR)) for _ in range(SHARDS)]
        for index, shard in enumerate(self.shards):
            shard.restore(self.checkpoint.restore_plan(OPERATOR, index))

    def close(self) -> None:
        """Let the folder go, as a process that ends does."""
        self.checkpoint.close()

    def reopen(self) -> Self:
        """Close, and open again."""
        self.close()
        return self.open()

    def begin(self, attempt: int = 0) -> Batch:
        """Begin the next batch."""
        time = self.time.plus(INTERVAL)
        number = time // INTERVAL
        batch = Batch(time, {"queue": (OffsetRange("queue", 0, number - 1, number),)}, attempt)
        self.checkpoint.begin(batch)
        return batch

    def commit(self, batch: Batch, changes: Mapping[int, Any]) -> None:
        """Commit a batch that sets each key to its value, or removes it for None."""
        run = batch.write_timestamp
        deltas = []
        for index, shard in enumerate(self.shards):
            shard.open(self.version, run)
            for key, value in changes.items():
                if key % SHARDS == index:
                    shard.remove(key) if value is None else shard.put(key, value)
            deltas.append(Delta(OPERATOR, index, shard.delta(), shard.count()))
        maxima = {"queue": {TopicPartition("queue", 0): int(batch.time)}}
        self.checkpoint.commit(batch, LINEAGE, {OPERATOR: run}, maxima, deltas)
        self.version, self.time = run, batch.time

    def run(self, changes: Mapping[int, Any], attempt: int = 0) -> None:
        """A whole batch, with the snapshots that are due and the purge after it."""
        self.commit(self.begin(attempt), changes)
        for task in self.checkpoint.snapshots_due(SHARDS):
            self.snapshot(task)
        self.checkpoint.purge(self.time)

    def snapshot(self, task: SnapshotTask) -> None:
        """Write one snapshot."""
        shard = self.shards[task.shard]
        shard.settle(task.version)
        self.checkpoint.snapshotted(task, *shard.snapshot(task.path))

    def snapshot_all(self) -> None:
        """Write a snapshot of each shard, due or not, unless it has one of this version, and purge."""
        if not self.version:
            return
        there = {kept.shard for kept in self.checkpoint.catalog.snapshots if kept.version == self.version}
        for index in set(range(SHARDS)) - there:
            path = self.checkpoint._snapshot_path(
                OPERATOR, index, self.version, self.checkpoint._journal.epoch
            )
            self.snapshot(SnapshotTask(OPERATOR, index, self.version, path))
        self.checkpoint.purge(self.time)

    def rotate(self) -> None:
        """Begin a new segment, as a purge does when one is large."""
        self.checkpoint._begin_segment(self.checkpoint._journal)
        self.checkpoint.purge(self.time)

    def tear(self) -> None:
        """Die in the middle of an append."""
        with self.segments()[-1].open("ab") as file:
            file.write(b"DSJ1 torn")
        self.reopen()

    def lose_newest_snapshots(self) -> None:
        """Damage the newest snapshot of each shard, and restart."""
        self.snapshot_all()
        for kept in self.checkpoint.catalog.snapshots[-SHARDS:]:
            damage(self.folder / "app" / kept.file)
        self.reopen()
        # Two whole generations, so that the next loss finds an older one.
        for _ in range(2):
            self.run({}, attempt=1)
            self.snapshot_all()

    def state(self) -> dict[int, Any]:
        """Every key with its value as of the last commit."""
        for shard in self.shards:
            shard.settle(self.version)
        return {key: value for shard in self.shards for key, value in shard.values.items()}


def _age(path: Path) -> tuple[int, ...]:
    return tuple(map(int, path.stem.split("-")))


def damage(path: Path, position: int = -1) -> None:
    """Flip a bit of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def make_unreadable(path: Path) -> None:
    """Have every read of a file fail with EIO, as on a bad sector: what it leads to is this process's memory at address 0."""
    path.unlink()
    path.symlink_to("/proc/self/mem")


@contextlib.contextmanager
def room_in_memory(otherwise: Path) -> Iterator[Path]:
    """A folder for thousands of small ones: in memory, where that can be."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder with a name of its own is made in it
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else otherwise) as folder:
        yield Path(folder)


@contextlib.contextmanager
def without_waiting() -> Iterator[None]:
    """What this process writes need not survive: its fsyncs do not wait for a disk."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _fd: None)
        patched.setattr(os, "fdatasync", lambda _fd: None)
        yield
