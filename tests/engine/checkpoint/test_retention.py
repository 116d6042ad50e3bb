"""Snapshots and retention: what is kept, what goes, and what a restart does without."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.batch import Time
from engine.checkpoint import checkpoint as checkpoint_module
from engine.checkpoint.due import KEPT_SEGMENTS
from engine.errors import CorruptLogError
from tests.engine.checkpoint.volume import (
    BIG,
    OPERATOR,
    SHARDS,
    Volume,
    damage,
    make_unreadable,
    without_waiting,
)


def test_outgrown_shard_is_snapshotted(volume: Volume) -> None:
    """A shard whose deltas have outgrown it gets a snapshot, one for each executor at a time."""
    for executors, due in ((1, [(OPERATOR, 0)]), (SHARDS, [(OPERATOR, 0), (OPERATOR, 1)])):
        volume.commit(volume.begin(), dict.fromkeys(range(4), BIG))
        tasks = volume.checkpoint.snapshots_due(executors)
        assert [(task.operator, task.shard) for task in tasks] == due


@pytest.mark.slow
def test_small_deltas_are_snapshotted_in_the_end(volume: Volume) -> None:
    """Deltas that stay small make a snapshot due by their number."""
    for n in range(63):
        volume.run({0: n})
    assert volume.snapshots() == []
    volume.run({0: 63})

    assert len(volume.snapshots()) == 1


def test_two_generations_of_snapshots_are_kept(volume: Volume) -> None:
    """Of each shard the two newest snapshots stay and the older ones go."""
    versions = []
    for n in range(5):
        volume.run({0: n, 1: n})
        volume.snapshot_all()
        volume.checkpoint.purge(volume.time)
        versions.append(volume.version)

    kept = [int(path.stem.split("-")[0]) for path in volume.snapshots()]
    assert kept == versions[-2:] * SHARDS


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(
            damage,
            "fails its checksum",
            marks=pytest.mark.fault(19, "a bit in the newest snapshot of each shard"),
            id="damaged",
        ),
        pytest.param(
            make_unreadable,
            "cannot be read: Input/output error",
            marks=pytest.mark.fault(26, "EIO of every read of the newest snapshots"),
            id="unreadable",
        ),
    ],
)
def test_spoilt_newest_snapshot_falls_back_to_the_older(
    volume: Volume, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None], words: str
) -> None:
    """With the newest snapshots damaged or on bad sectors the state is rebuilt from the older ones and the deltas behind them, and the log says so."""
    for n in range(4):
        volume.run({0: n, 1: n, n + 2: "new"})
        if n in {0, 2}:
            volume.snapshot_all()
    state = volume.state()
    for path in volume.snapshots()[1::2]:
        spoil(path)
    with caplog.at_level(logging.WARNING):
        volume.reopen()

    assert volume.state() == state
    assert [shard.fallbacks for shard in volume.shards] == [1] * SHARDS
    assert len(re.findall(rf"{words}.*; falling back to an older generation", caplog.text)) == SHARDS


def test_all_snapshots_damaged_is_refused_when_deltas_are_gone(volume: Volume) -> None:
    """When both generations are damaged and the first deltas are gone, the start is refused with the files and the remedy."""
    for n in range(3):
        volume.run({0: n, 1: n})
        volume.snapshot_all()
    for path in volume.snapshots():
        damage(path)
    volume.close()

    with pytest.raises(
        CorruptLogError, match=rf"operator '{OPERATOR}': none of its snapshots .* restore one from a copy"
    ):
        volume.open()


def test_all_snapshots_damaged_is_healed_by_the_deltas(volume: Volume) -> None:
    """As long as the deltas reach back to the first batch, no snapshot is needed."""
    volume.run({0: "a", 1: "b"})
    volume.snapshot_all()
    volume.run({0: "c"})
    for path in volume.snapshots():
        damage(path)

    assert volume.reopen().state() == {0: "c", 1: "b"}


@pytest.mark.fault(19, "a bit in a delta of an older segment")
def test_damaged_delta_is_refused(volume: Volume) -> None:
    """A flipped bit in a delta of an older segment is refused with file and offset."""
    volume.run({0: "needed"})
    volume.reopen()
    segment = volume.segments()[0]
    damage(segment, segment.read_bytes().index(b"needed"))
    volume.close()

    with pytest.raises(
        CorruptLogError, match=rf"{segment.name} is damaged: the delta at byte \d+ fails its checksum"
    ):
        volume.open()


def test_segments_go_when_no_restore_needs_them(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment goes once two newer snapshots of every shard exist, and not before; then a restart is still whole."""
    monkeypatch.setattr(checkpoint_module, "SEGMENT_BYTES", 1)
    volume.run({0: "a", 1: "b"})
    first = volume.segments()[0]
    volume.snapshot_all()
    volume.run({0: "c", 1: "d"})
    assert first in volume.segments()
    volume.snapshot_all()
    volume.run({0: "e"})

    assert first not in volume.segments()
    assert volume.reopen().state() == {0: "e", 1: "d"}


def test_segments_stay_for_a_shard_without_snapshots(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that holds the deltas of one shard stays, however many snapshots the other shards have."""
    monkeypatch.setattr(checkpoint_module, "SEGMENT_BYTES", 1)
    volume.run({0: "a", 1: "b"})
    first = volume.segments()[0]
    for n in range(6):
        volume.run({0: n})
        version, epoch = volume.version, volume.checkpoint._journal.epoch
        path = volume.checkpoint._snapshot_path(OPERATOR, 0, version, epoch)
        volume.snapshot(checkpoint_module.SnapshotTask(OPERATOR, 0, version, path))

    assert first in volume.segments()
    assert volume.reopen().state() == {0: 5, 1: "b"}


@pytest.mark.slow
def test_segments_stay_few_under_a_shard_that_hardly_changes(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that changes once in a segment, beside one whose shard is always due, keeps a few segments, and a restart is exact."""
    monkeypatch.setattr(checkpoint_module, "SEGMENT_BYTES", 2 * len(BIG))
    model = {}
    for n in range(120):
        changes = {0: f"{n}{BIG}"} | ({1: n} if n % 3 == 0 else {})
        model |= changes
        with without_waiting():
            volume.commit(volume.begin(), changes)
            for task in volume.checkpoint.snapshots_due(1):
                volume.snapshot(task)
            volume.checkpoint.purge(volume.time)
        # Four more: the open one, the one before it, and those of the two batches that make a shard's snapshots.
        snapshots = sum(kept.size for kept in volume.checkpoint.catalog.snapshots) // (2 * len(BIG))
        assert len(volume.segments()) <= KEPT_SEGMENTS + snapshots + 4
        if n % 40 == 39:
            assert volume.reopen().state() == model
    assert snapshots <= 2


def test_shard_that_keeps_an_old_segment_gets_two_snapshots(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard that changed once, long ago, is written twice, at two versions, and then not again."""
    monkeypatch.setattr(checkpoint_module, "SEGMENT_BYTES", 1 << 20)
    volume.run({1: "once"})
    first = volume.segments()[0]
    for n in range(KEPT_SEGMENTS + 6):
        volume.run({0: n})
        volume.rotate()

    written = [task.shard for task in volume.checkpoint.catalog.snapshots if task.shard == 1]
    assert written == [1, 1]
    assert first not in volume.segments()
    before = [path for path in volume.snapshots() if path.parent.name == "0001"]
    for n in range(KEPT_SEGMENTS + 2):
        volume.run({0: n})
        volume.rotate()
    assert [path for path in volume.snapshots() if path.parent.name == "0001"] == before
    assert volume.reopen().state() == {0: KEPT_SEGMENTS + 1, 1: "once"}


def test_snapshot_of_a_worker_that_died_is_never_written_over(volume: Volume) -> None:
    """A version whose snapshot was begun and not recorded is not due again; the next one is, in a file of its own, and the old one goes."""
    volume.commit(volume.begin(), {0: BIG})
    (task,) = volume.checkpoint.snapshots_due(1)
    volume.shards[0].settle(task.version)
    volume.shards[0].snapshot(task.path)
    left = task.path.read_bytes()
    assert volume.checkpoint.snapshots_due(1) == []
    assert task.path.read_bytes() == left
    volume.run({2: "on"})

    assert task.path not in volume.snapshots()
    assert [path.parent.name for path in volume.snapshots()] == ["0000"]
    assert volume.reopen().state() == {0: BIG, 2: "on"}


def test_damaged_first_frame_of_a_new_segment_loses_nothing(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new segment whose only frame is damaged is passed over: the one before it is kept and tells the same."""
    volume.run({0: "a", 1: "b"})
    volume.snapshot_all()
    volume.run({})
    volume.snapshot_all()
    monkeypatch.setattr(checkpoint_module, "SEGMENT_BYTES", 1)
    # No restore needs a delta any more: but for this the first segment would go.
    volume.checkpoint.purge(volume.time)
    damage(volume.segments()[-1])

    assert volume.reopen().state() == {0: "a", 1: "b"}
    assert volume.checkpoint.last_commit is not None
    assert volume.checkpoint.last_commit.batch.time == 2_000


def test_journal_without_a_whole_segment_is_refused(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal of which parts were removed and the rest is damaged is refused, and never taken for a fresh one."""
    monkeypatch.setattr(checkpoint_module, "SEGMENT_BYTES", 1)
    for n in range(4):
        volume.run({0: n, 1: n})
        volume.snapshot_all()
    volume.close()
    for path in volume.segments():
        path.write_bytes(path.read_bytes()[:10])

    with pytest.raises(CorruptLogError, match="no segment before it is whole; restore it from a copy"):
        volume.open()


def test_history_reaches_back_to_the_horizon(volume: Volume) -> None:
    """Committed batches stay known until they are purged, also over restarts and new segments."""
    for n in range(4):
        volume.commit(volume.begin(), {0: n})
    volume.checkpoint.purge(Time(2_000))
    assert [batch.time for batch in volume.checkpoint.history()] == [3_000, 4_000]
    volume.checkpoint._begin_segment(volume.checkpoint._journal)

    assert [batch.time for batch in volume.reopen().checkpoint.history()] == [3_000, 4_000]
