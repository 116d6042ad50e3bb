"""What a checkpoint folder says that it holds is what it holds, whatever was written and removed."""

from pathlib import Path

from engine.clock import ManualClock
from engine.sources.blocks import BlockLog
from tests.engine.checkpoint.volume import OPERATOR, SHARDS, Volume

HEADER_BYTES = 12
"""Of a snapshot's file, before the shard's bytes."""


def read_by_a_restart(volume: Volume) -> int:
    """Bytes of the newest snapshot of each shard and of the deltas after it."""
    total = 0
    for shard in range(SHARDS):
        plan = volume.checkpoint.restore_plan(OPERATOR, shard)
        path, version = plan.snapshots[0] if plan.snapshots else ("", 0)
        total += Path(path).stat().st_size - HEADER_BYTES if path else 0
        total += sum(delta.length for delta in plan.deltas if delta.version > version)
    return total


def check(volume: Volume) -> None:
    """Hold what the checkpoint says against the files."""
    told = volume.checkpoint.volume()
    assert told is not None
    assert told.journal_bytes == sum(path.stat().st_size for path in volume.segments())
    assert told.state_bytes == sum(path.stat().st_size for path in volume.snapshots())
    assert 0 < told.free_bytes < told.size_bytes
    state = volume.checkpoint.sizes.state(OPERATOR)
    assert state.size_bytes == read_by_a_restart(volume)


def test_sizes_follow_every_write_and_removal(volume: Volume) -> None:
    """Over batches, snapshots, segments that go, and restarts the sums are those of the files."""
    for n in range(4):
        volume.run({0: n, 1: n, n + 2: "new" * n})
        check(volume)
        volume.snapshot_all()
        check(volume)
        volume.run({0: -n})
        volume.rotate()
        check(volume)
        volume.reopen()
        check(volume)

    assert len(volume.snapshots()) == 2 * SHARDS
    assert len(volume.segments()) < 8


def test_keys_are_counted_over_shards(volume: Volume) -> None:
    """Keys of an operator are those of all its shards as the last commit, snapshot or restore told them."""
    volume.run({0: "a", 1: "b", 2: "c"})
    volume.run({0: None, 3: "d"})

    assert volume.checkpoint.sizes.state(OPERATOR).keys == 3
    volume.reopen()
    assert volume.checkpoint.sizes.state(OPERATOR).keys == 0
    volume.checkpoint.sizes.count_keys(OPERATOR, 0, 1)
    volume.checkpoint.sizes.count_keys(OPERATOR, 1, 2)
    assert volume.checkpoint.sizes.state(OPERATOR, updated=7) == (3, read_by_a_restart(volume), 7)


def test_block_logs_are_counted(volume: Volume) -> None:
    """What inputs write to their block logs, and cut again, is in the sizes."""
    log = BlockLog(volume.checkpoint.folder / "blocks", "lines", ManualClock())
    for _ in range(2):
        log.append([b"x" * 1_000])
        told = volume.checkpoint.volume()
        assert told is not None
        assert told.block_bytes == sum(
            path.stat().st_size for path in volume.checkpoint.folder.glob("blocks/lines/0/*.log")
        )
    log.close()

    assert told.block_bytes > 2_000
