"""A shard: the state as of a version, and the overlay of the batch that runs."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.checkpoint.codec import StateCodec
from engine.checkpoint.files import make_folder, write_durably
from engine.checkpoint.shards import RestorePlan, Shard, Shards
from engine.errors import CorruptLogError, StateVersionError

CODEC = StateCodec("op")


def shard_at(version: int, values: dict[Any, Any]) -> Shard:
    """A shard with these values as of a version."""
    shard = Shard(CODEC)
    shard.open(0, version)
    for key, value in values.items():
        shard.put(key, value)
    shard.settle(version)
    return shard


changes = st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 3)), max_size=8)


@given(first=changes, lost=changes, second=changes)
def test_overlay_is_seen_by_its_own_run_only(
    first: list[tuple[int, Any]], lost: list[tuple[int, Any]], second: list[tuple[int, Any]]
) -> None:
    """A run sees its own changes over the committed state, and nothing of a run that did not commit."""
    shard, model = Shard(CODEC), {}
    for base, run, applied, is_committed in ((0, 1, first, True), (1, 2, lost, False), (1, 3, second, True)):
        shard.open(base, run)
        seen = dict(model)
        for key, value in applied:
            assert shard.get(key) == seen.get(key)
            if value is None:
                shard.remove(key)
                seen.pop(key, None)
            else:
                shard.put(key, value)
                seen[key] = value
        assert dict(shard.items()) == seen
        assert shard.count() == len(seen)
        assert len(list(shard.items())) == len(seen)
        if is_committed:
            model = seen
    shard.settle(3)

    assert shard.values == model


@given(first=changes, second=changes)
def test_delta_turns_the_old_state_into_the_new(
    first: list[tuple[int, Any]], second: list[tuple[int, Any]]
) -> None:
    """A delta applied to the state before its run gives the state after it, and is empty when nothing changed."""
    shard = shard_at(1, {key: value for key, value in first if value is not None})
    before = dict(shard.values)
    shard.open(1, 2)
    for key, value in second:
        shard.remove(key) if value is None else shard.put(key, value)
    delta = shard.delta()
    shard.settle(2)
    if delta:
        pairs, gone = CODEC.decode(delta)
        before.update(pairs)
        for key in gone:
            before.pop(key, None)

    assert before == shard.values


def test_shard_of_another_version_is_refused() -> None:
    """A run over a version that the shard does not have is refused with operator and versions."""
    shard = shard_at(5, {"a": 1})

    with pytest.raises(StateVersionError, match="operator 'op': a shard is at version 5, not at 6"):
        shard.open(6, 7)


def test_reader_of_another_run_is_refused() -> None:
    """A reader that belongs to another run than the overlay is refused."""
    shard = shard_at(5, {"a": 1})
    shard.open(5, 6)
    shard.refuse_other_run(6)

    with pytest.raises(StateVersionError, match="state of run 7 was asked for in run 6"):
        shard.refuse_other_run(7)


def test_snapshot_comes_back(tmp_path: Path) -> None:
    """A shard restored from its snapshot equals it."""
    shard = shard_at(9, {"a": [1, ("x", None)], ("k", 1): {"n": 2.5}})
    keys, size = shard.snapshot(tmp_path / "deep" / "9-1.snap")
    restored = Shard(CODEC)
    restored.restore(RestorePlan(9, ((str(tmp_path / "deep" / "9-1.snap"), 9),), (), complete=False))

    assert restored.values == shard.values
    assert (keys, restored.version) == (2, 9)
    assert size > 0


@pytest.mark.parametrize("position", [0, 4, 11, 12, -1])
def test_damaged_snapshot_falls_back_loudly(
    tmp_path: Path, position: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A bit flip anywhere in the newest snapshot makes the restore fall back to the older one, and say so."""
    shard_at(1, {"a": 1}).snapshot(tmp_path / "1-1.snap")
    shard_at(2, {"a": 2}).snapshot(tmp_path / "2-1.snap")
    content = bytearray((tmp_path / "2-1.snap").read_bytes())
    content[position] ^= 1
    (tmp_path / "2-1.snap").write_bytes(content)
    snapshots = ((str(tmp_path / "2-1.snap"), 2), (str(tmp_path / "1-1.snap"), 1))
    shard = Shard(CODEC)
    shard.restore(RestorePlan(1, snapshots, (), complete=False))

    assert shard.values == {"a": 1}
    assert "2-1.snap fails its checksum; falling back to an older generation" in caplog.text


def test_restore_without_any_readable_snapshot_is_refused(tmp_path: Path) -> None:
    """When no snapshot can be read and the first deltas are gone, the restore names the files and the remedy."""
    (tmp_path / "2-1.snap").write_bytes(b"short")
    snapshots = ((str(tmp_path / "2-1.snap"), 2), (str(tmp_path / "1-1.snap"), 1))

    with pytest.raises(
        CorruptLogError, match=r"none of its snapshots \[.*2-1.snap.*1-1.snap.*restore one from a copy"
    ):
        Shard(CODEC).restore(RestorePlan(2, snapshots, (), complete=False))


def test_shards_of_another_owner_are_dropped() -> None:
    """An executor gives a context its own shards, and those of an earlier context to nobody."""
    shards = Shards()
    mine = shards.get(1, CODEC, 0)

    assert shards.get(1, CODEC, 0) is mine
    assert shards.get(2, CODEC, 0) is not mine
    assert shards.get(1, CODEC, 0) is not mine


def test_new_file_is_whole_or_absent(tmp_path: Path) -> None:
    """A file that cannot be written does not appear, and leaves nothing behind."""
    with pytest.raises(TypeError):
        write_durably(tmp_path / "file", b"part", "no bytes")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    write_durably(tmp_path / "file", b"one", b"two")

    assert (tmp_path / "file").read_bytes() == b"onetwo"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_folders_are_made_with_those_above_them(tmp_path: Path) -> None:
    """A folder is made with all that are missing above it, once and again."""
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")

    assert (tmp_path / "a" / "b" / "c").is_dir()
