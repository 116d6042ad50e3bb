"""Files of the checkpoint cut, turned and removed: an older generation and a loud word, or an error; never a wrong state."""

import logging
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.batch import Time
from engine.checkpoint.journal import read_segment
from engine.errors import CheckpointError, CorruptLogError, StateVersionError
from tests.engine.checkpoint.volume import OPERATOR, Volume, damage, room_in_memory, without_waiting

pytestmark = pytest.mark.slow

SEED = 6
BITS = 300
STATES = [{}, {0: "a", 1: "b"}, {0: "c", 1: "b", 2: "d"}, {0: "c", 1: "b", 3: "e"}]
"""The state after each batch."""


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Path]:
    """A folder of three batches, with a generation of snapshots after each of the first two; nobody holds it."""
    with room_in_memory(tmp_path) as room, without_waiting():
        yield three_batches(room / "kept")


def three_batches(folder: Path) -> Path:
    """Run them."""
    volume = Volume(folder).open()
    volume.run(STATES[1])
    volume.snapshot_all()
    volume.reopen()
    volume.run({0: "c", 2: "d"})
    volume.snapshot_all()
    volume.reopen()
    volume.run({2: None, 3: "e"})
    volume.close()
    return volume.folder


class Trial:
    """A copy of a folder on which each start is made anew."""

    def __init__(self, kept: Path) -> None:
        self._kept = kept
        self.folder = kept.with_name("trial")

    def start(self, spoil: Callable[[Volume], None]) -> Volume:
        """Spoil a fresh copy, and start on it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self._kept, self.folder)
        volume = Volume(self.folder)
        spoil(volume)
        return volume.open()

    def outcome(self, spoil: Callable[[Volume], None]) -> int | str:
        """The batch that the start found, whose state it must have exactly; or the name of the error that refused it."""
        try:
            volume = self.start(spoil)
        except (CorruptLogError, StateVersionError) as error:
            return type(error).__name__
        found = volume.time // 1_000
        assert volume.state() == STATES[found]
        volume.run({7: "after"}, attempt=1)
        assert volume.reopen().state() == {**STATES[found], 7: "after"}
        volume.close()
        return found


@pytest.fixture
def trial(kept: Path) -> Trial:
    """Copies of the folder."""
    return Trial(kept)


def newest_commit(volume: Volume) -> tuple[Path, int, int]:
    """The segment of the newest commit record, and where its frame begins and ends."""
    path = volume.segments()[-1]
    frames = read_segment(path)
    last = frames[-1]
    assert b'"type":"commit"' in last.head
    begin = frames[-2].body_offset + frames[-2].body_length
    return path, begin, last.body_offset + last.body_length


def cut(path: Path, length: int) -> None:
    """Keep so many bytes."""
    path.write_bytes(path.read_bytes()[:length])


def turn(path: Path, bit: int) -> None:
    """Turn a bit."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.mark.fault(18, "its frame cut after every byte")
def test_newest_commit_cut_at_every_length_is_void(
    trial: Trial, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A commit record that lacks any of its bytes is void: its batch is pending with its ranges, the state is that before it, and the log says so."""
    _, begin, end = newest_commit(Volume(kept))
    for length in range(begin, end):
        caplog.clear()
        volume = trial.start(lambda it, length=length: cut(newest_commit(it)[0], length))
        assert (volume.time, volume.state()) == (2_000, STATES[2])
        waiting = volume.checkpoint.pending()
        assert waiting is not None
        assert waiting.time == 3_000
        assert ("passed over" in caplog.text, volume.checkpoint.fallbacks) == (
            length > begin,
            int(length > begin),
        )
        volume.close()
    assert end - begin > 200


@pytest.mark.fault(19, "300 bits of the newest commit turned, one by one, by a seed")
def test_turned_bit_of_the_newest_commit_is_never_another_state(trial: Trial, kept: Path) -> None:
    """With a bit of the newest commit record turned the start finds the batch before it."""
    _, begin, end = newest_commit(Volume(kept))
    every = range(8 * begin, 8 * end)
    bits = sorted(random.Random(SEED).sample(every, BITS))
    assert {trial.outcome(lambda it, bit=bit: turn(newest_commit(it)[0], bit)) for bit in bits} == {2}


@pytest.mark.fault(19, "every bit of a small snapshot turned, one by one")
def test_turned_bit_of_a_snapshot_is_an_older_generation(
    trial: Trial, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With any bit of a newest snapshot turned the state is the same, from the older one and the deltas after it, and the log names both."""
    newest = Volume(kept).snapshots()[-1]
    place = newest.relative_to(kept)
    bits = range(8 * newest.stat().st_size)
    for bit in bits:
        caplog.clear()
        assert trial.outcome(lambda _, bit=bit: turn(trial.folder / place, bit)) == 3
        assert f"{place} fails its checksum; falling back to an older generation" in caplog.text
        assert f"operator {OPERATOR!r}: state restored from " in caplog.text
    assert len(bits) > 100


@pytest.mark.fault(19, "every bit of a delta turned, one by one")
def test_turned_bit_of_a_delta_is_refused(trial: Trial, kept: Path) -> None:
    """With any bit of a delta turned that a restore needs the start is refused, and never reads it in part."""
    volume = Volume(kept).open()
    commits = [delta for delta in volume.checkpoint.catalog.deltas if delta.version == volume.version]
    volume.close()
    for delta in commits:
        bits = range(8 * delta.offset, 8 * (delta.offset + delta.length))
        path = trial.folder / "app" / "journal" / delta.segment
        # It is the last frame but for the epoch that has just begun: as damage of the tail it would be void.
        outcomes = {trial.outcome(lambda _, path=path, bit=bit: turn(path, bit)) for bit in bits}
        assert outcomes == {"CorruptLogError"}
    assert commits != []


@pytest.mark.fault(19, "300 bits all over the folder turned, by a seed")
def test_turned_bit_anywhere_is_an_error_or_an_older_state(
    trial: Trial, kept: Path, figures: Callable[[str], None]
) -> None:
    """A bit turned anywhere in the folder gives the last state, the one before, or an error that names the file; no other state."""
    chance = random.Random(SEED)
    files = [
        path.relative_to(kept) for path in sorted(kept.rglob("*")) if path.is_file() and path.stat().st_size
    ]
    outcomes: dict[int | str, int] = {}
    for _ in range(BITS):
        place = chance.choice(files)
        bit = chance.randrange(8 * (kept / place).stat().st_size)
        outcome = trial.outcome(lambda _, place=place, bit=bit: turn(trial.folder / place, bit))
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    figures(f"turned bits of a checkpoint folder by what the start found (seed {SEED}): {outcomes}")
    assert outcomes.keys() <= {2, 3, "CorruptLogError", "StateVersionError"}
    assert outcomes.keys() >= {2, 3}


@pytest.mark.fault(20, "its frame taken off the journal's end")
def test_removed_newest_commit_runs_its_batch_again(trial: Trial) -> None:
    """Without the newest commit record its batch is pending as it was begun, and runs again over the state before it."""
    volume = trial.start(lambda it: cut(newest_commit(it)[0], newest_commit(it)[1]))
    waiting = volume.checkpoint.pending()
    assert waiting is not None
    assert (waiting.time, volume.time, volume.state()) == (3_000, 2_000, STATES[2])
    volume.run({2: None, 3: "e"}, attempt=1)
    assert volume.reopen().state() == STATES[3]
    volume.close()


@pytest.mark.fault(21, "the newest snapshot of a shard, then both, removed")
def test_removed_snapshot_is_an_older_generation_or_refused(
    trial: Trial, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its newest snapshot a shard comes from the older one, loudly; without any, once deltas are gone, the start is refused."""
    newest = trial.start(lambda it: it.snapshots()[-1].unlink())
    assert newest.state() == STATES[3]
    assert "is gone; falling back to an older generation" in caplog.text
    assert [shard.fallbacks for shard in newest.shards] == [0, 1]
    newest.close()

    def remove_both(volume: Volume) -> None:
        for path in volume.snapshots()[-2:]:
            path.unlink()

    with pytest.raises(CorruptLogError, match=r"none of its snapshots .* restore one from a copy"):
        trial.start(remove_both)


def test_torn_end_is_counted_and_a_whole_one_is_not(trial: Trial) -> None:
    """The start counts a segment without a whole first frame and a torn end; a journal that ends with a frame counts nothing."""
    whole = trial.start(lambda _: None)
    assert whole.checkpoint.fallbacks == 0
    whole.close()

    def spoil(volume: Volume) -> None:
        (volume.journal / "000009-000000.log").write_bytes(b"DSJ1 half")
        with volume.segments()[-2].open("ab") as file:
            file.write(b"DSJ1 half")

    torn = trial.start(spoil)
    assert (torn.checkpoint.fallbacks, torn.state()) == (2, STATES[3])
    torn.close()


def test_refused_start_leaves_no_segment(trial: Trial) -> None:
    """A start that ends too early takes its segment back, also in a takeover: who comes to look later is not stopped, and no start counts it."""
    volume = trial.start(lambda _: None)
    before = volume.segments()
    for _ in range(3):
        with pytest.raises(CheckpointError, match="ends with batch 3000"):
            Volume(trial.folder).open(takeover=True, must_reach=Time(4_000))
    assert volume.segments() == before
    volume.run({7: "on"})
    volume.close()
    with pytest.raises(CheckpointError, match="ends with batch 4000"):
        volume.open(must_reach=Time(5_000))
    volume.open()

    assert (volume.checkpoint.fallbacks, volume.state()) == (0, {**STATES[3], 7: "on"})
    volume.close()


@pytest.mark.parametrize("left", [0, 10])
def test_only_segment_damaged_beside_snapshots_is_refused(tmp_path: Path, left: int) -> None:
    """A journal whose very first segment is cut is no new folder when there are snapshots: the start is refused."""
    volume = Volume(tmp_path).open()
    volume.run({0: "a", 1: "b"})
    volume.snapshot_all()
    volume.close()
    cut(volume.segments()[0], left)
    with pytest.raises(CorruptLogError, match="is damaged at byte 0 and no segment before it is whole"):
        volume.open()
    shutil.rmtree(volume.journal)
    with pytest.raises(CorruptLogError, match="journal is empty and no segment before it is whole"):
        volume.open()


def test_older_generation_is_kept_until_the_newer_is_read_back(
    volume: Volume, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A snapshot that the volume gives back with another bit is refused, not recorded, and no older one is removed for it."""
    for n in range(2):
        volume.run({0: n, 1: n})
        volume.snapshot_all()
    before = volume.snapshots()
    volume.run({0: "c"})

    def spoiled(folder: Path) -> None:
        for path in set(volume.snapshots()) - set(before):
            damage(path)

    caplog.set_level(logging.WARNING)
    # A fake: no volume here turns bits of what it was given.
    monkeypatch.setattr("engine.checkpoint.files.sync_folder", spoiled)
    with pytest.raises(Exception, match="was not read back as it was written") as raised:
        volume.snapshot_all()
    monkeypatch.undo()
    assert type(raised.value).__name__ == "CheckpointWriteError"
    assert set(before) < set(volume.snapshots())
    assert {volume.folder / "app" / kept.file for kept in volume.checkpoint.catalog.snapshots} == set(before)
    assert volume.reopen().state() == {0: "c", 1: 1}
