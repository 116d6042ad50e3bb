"""Begin, commit, recover, purge: what a restart finds is what was committed, and what cannot be used is refused by name."""

import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Duration, Time, TopicPartition
from engine.checkpoint import checkpoint as checkpoint_module
from engine.checkpoint.checkpoint import Checkpoint
from engine.errors import (
    CheckpointError,
    CheckpointWriteError,
    ConcurrentRunError,
    CorruptLogError,
    StateVersionError,
)
from tests.engine.checkpoint.volume import INTERVAL, OPERATOR, SHARDS, Volume, damage
from tests.engine.children import python

BIG = "x" * 6_000
"""A value that makes a snapshot due; "big" stands for it in generated batches."""


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    """An open folder."""
    made = Volume(tmp_path).open()
    yield made
    made.close()


# What a restart finds.


def test_committed_batches_come_back(volume: Volume) -> None:
    """After a restart state, ranges, operators and event-time maxima are those of the last commit."""
    volume.run({0: "a", 1: "b"})
    volume.run({1: None, 2: "c"})
    volume.reopen()

    assert volume.state() == {0: "a", 2: "c"}
    assert volume.checkpoint.last_commit is not None
    assert volume.checkpoint.last_commit.batch.time == 2_000
    assert volume.checkpoint.last_commit.operators == {OPERATOR: "updateStateByKey(queue)"}
    assert volume.checkpoint.maxima() == {"queue": {TopicPartition("queue", 0): 2_000}}
    assert volume.checkpoint.pending() is None


def test_begun_batch_is_pending_with_its_own_ranges(volume: Volume) -> None:
    """A batch that was begun and not committed is there after a restart as it was begun; a committed one is not."""
    volume.run({0: "a"})
    begun = volume.begin(attempt=3)
    volume.reopen()

    assert volume.checkpoint.pending() == begun
    assert volume.state() == {0: "a"}
    volume.run({0: "b"}, attempt=4)
    assert volume.reopen().checkpoint.pending() is None


def test_very_first_batch_can_be_pending(volume: Volume) -> None:
    """A first batch that was begun is pending although nothing was ever committed."""
    begun = volume.begin()

    assert volume.reopen().checkpoint.pending() == begun


def test_zero_time_is_that_of_the_first_start(tmp_path: Path) -> None:
    """The zero time is fixed by the first start."""
    first = Checkpoint(tmp_path, "app", INTERVAL, SHARDS)
    assert first.open(Time(7_000)) == 7_000
    first.close()
    second = Checkpoint(tmp_path, "app", INTERVAL, SHARDS)
    assert second.open(Time(9_000)) == 7_000
    second.close()


def test_each_start_has_an_epoch_of_its_own(volume: Volume) -> None:
    """Each start begins a segment of a new epoch, and leaves the older ones as they are."""
    volume.run({0: "a"})
    before = {path.name: path.read_bytes() for path in volume.segments()}
    volume.reopen().run({0: "b"})

    assert {path.name: path.read_bytes() for path in volume.segments() if path.name in before} == before
    assert volume.segments()[-1].name == "000002-000000.log"


def test_batch_makes_no_new_file(volume: Volume) -> None:
    """A batch is two appends to the open segment, and no new file."""
    volume.run({0: "a"})
    files = sorted(path for path in volume.folder.rglob("*") if path.is_file())
    for n in range(5):
        volume.run({0: n})

    assert sorted(path for path in volume.folder.rglob("*") if path.is_file()) == files


OPERATIONS = st.lists(
    st.dictionaries(st.integers(0, 7), st.none() | st.integers(0, 99) | st.just("big"), max_size=4)
    | st.sampled_from(
        [
            Volume.reopen,
            Volume.begin,
            Volume.snapshot_all,
            Volume.rotate,
            Volume.tear,
            Volume.lose_newest_snapshots,
        ]
    ),
    max_size=24,
)


@pytest.mark.slow
@settings(max_examples=30)
@given(operations=OPERATIONS)
def test_state_is_that_of_the_last_commit_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, operations: list[Any]
) -> None:
    """Batches, crashes, snapshots, rotated and torn segments and lost snapshots in any order: a restart finds the last commit."""
    volume = Volume(tmp_path_factory.mktemp("volume")).open()
    model: dict[int, Any] = {}
    for operation in operations:
        if isinstance(operation, dict):
            changes = {key: BIG if value == "big" else value for key, value in operation.items()}
            volume.run(changes, attempt=1)
            model = {key: value for key, value in (model | changes).items() if value is not None}
        else:
            operation(volume)
        assert volume.state() == model
    assert volume.reopen().state() == model
    volume.close()


# Snapshots and retention.


def test_outgrown_shard_is_snapshotted(volume: Volume) -> None:
    """A shard whose deltas have outgrown it gets a snapshot, one for each executor at a time."""
    volume.commit(volume.begin(), dict.fromkeys(range(4), BIG))

    assert [(task.operator, task.shard) for task in volume.checkpoint.snapshots_due(SHARDS)] == [
        (OPERATOR, 0),
        (OPERATOR, 1),
    ]
    assert len(volume.checkpoint.snapshots_due(1)) == 1


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


def test_damaged_newest_snapshot_falls_back_to_the_older(
    volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    """With the newest snapshots damaged the state is rebuilt from the older ones and the deltas behind them, and the log says so."""
    for n in range(4):
        volume.run({0: n, 1: n, n + 2: "new"})
        if n in {0, 2}:
            volume.snapshot_all()
    state = volume.state()
    for path in volume.snapshots()[1::2]:
        damage(path)
    with caplog.at_level(logging.WARNING):
        volume.reopen()

    assert volume.state() == state
    assert caplog.text.count("falling back to an older generation") == SHARDS


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


def test_leftovers_of_a_killed_process_are_removed(volume: Volume) -> None:
    """Half-written files of a process that was killed go at the next start, also those that this process would write."""
    volume.run({0: "a"})
    volume.snapshot_all()
    left = [
        volume.folder / "app" / "meta.json.tmp-1",
        volume.snapshots()[0].with_name("1-000001.snap.tmp-77"),
    ]
    for path in left:
        path.write_bytes(b"half")
    volume.reopen()

    assert not any(path.exists() for path in left)


def test_first_start_that_was_killed_can_be_repeated(tmp_path: Path) -> None:
    """A process with the same id as the one that was killed in its very first write starts (in a container every one has id 1)."""
    folder = tmp_path / "app"
    folder.mkdir()
    own_pid = re.search(r"tmp-(\d+)", _temporary_name_of(folder))
    assert own_pid is not None
    (folder / f"meta.json.tmp-{own_pid[1]}").write_bytes(b"half")

    Volume(tmp_path).open().close()


def _temporary_name_of(folder: Path) -> str:
    """The name under which this process writes a new file, seen by letting it fail."""
    (folder / "probe").mkdir()
    with pytest.raises(CheckpointError, match="Is a directory") as raised:
        checkpoint_module.write_durably(folder / "probe", b"")
    (folder / "probe").rmdir()
    cause = raised.value.__cause__
    assert isinstance(cause, IsADirectoryError)
    return str(cause.filename)


# What is refused.


def test_another_applications_folder_is_refused(tmp_path: Path) -> None:
    """A folder whose meta.json names another application is refused with both names."""
    Volume(tmp_path).open().close()
    (tmp_path / "app").rename(tmp_path / "other")

    with pytest.raises(
        StateVersionError, match=r"was written with app='app', this process has app='other'; start with 'app'"
    ):
        Checkpoint(tmp_path, "other", INTERVAL, SHARDS).open(Time(0))


@pytest.mark.parametrize(
    ("batch", "shards", "words"),
    [
        (
            INTERVAL,
            3,
            "written with shards=2, this process has shards=3; start with 2, or use another checkpoint folder",
        ),
        (Duration(500), SHARDS, "written with batch_ms=1000, this process has batch_ms=500; start with 1000"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, batch: Duration, shards: int, words: str) -> None:
    """Another number of shards or batch interval than that of the first start is refused with both values."""
    Volume(tmp_path).open().close()
    checkpoint = Checkpoint(tmp_path, "app", batch, shards)

    with pytest.raises(StateVersionError, match=re.escape(words)):
        checkpoint.open(Time(0))
    checkpoint.close()


def test_newer_format_is_refused(tmp_path: Path) -> None:
    """A folder of a newer format is refused with both versions and the remedy."""
    Volume(tmp_path).open().close()
    path = tmp_path / "app" / "meta.json"
    meta = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**meta, "format": 99, "new_field": True}))
    checkpoint = Checkpoint(tmp_path, "app", INTERVAL, SHARDS)

    with pytest.raises(
        StateVersionError, match="has format 99, this version knows 1; run the version that wrote it"
    ):
        checkpoint.open(Time(0))
    checkpoint.close()


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": "one"}'])
def test_damaged_meta_is_refused(tmp_path: Path, content: bytes) -> None:
    """A meta.json that cannot be read is refused, and never written anew."""
    Volume(tmp_path).open().close()
    (tmp_path / "app" / "meta.json").write_bytes(content)
    checkpoint = Checkpoint(tmp_path, "app", INTERVAL, SHARDS)

    with pytest.raises(StateVersionError, match=r"meta.json cannot be read .* restore it from a copy"):
        checkpoint.open(Time(0))
    checkpoint.close()


def test_missing_meta_beside_a_journal_is_refused(tmp_path: Path) -> None:
    """A journal without its meta.json is no fresh folder."""
    Volume(tmp_path).open().close()
    (tmp_path / "app" / "meta.json").unlink()
    checkpoint = Checkpoint(tmp_path, "app", INTERVAL, SHARDS)

    with pytest.raises(
        CheckpointError, match=r"meta.json is missing beside a journal; restore it from a copy"
    ):
        checkpoint.open(Time(0))
    checkpoint.close()


def test_missing_folder_is_refused_where_one_is_expected(tmp_path: Path) -> None:
    """With must_exist a missing folder is refused, named, and not made."""
    with pytest.raises(
        CheckpointError, match=rf"checkpoint folder {tmp_path}/app is missing and was expected; restore it"
    ):
        Volume(tmp_path).open(must_exist=True)
    assert not (tmp_path / "app").exists()
    volume = Volume(tmp_path).open()
    volume.run({0: "a"})
    volume.close()

    Volume(tmp_path).open(must_exist=True).close()


def test_folder_without_its_journal_is_refused_where_batches_are_expected(tmp_path: Path) -> None:
    """With must_exist a folder whose journal is gone or empty is refused: it would count everything again."""
    volume = Volume(tmp_path).open()
    volume.run({0: "a"})
    volume.close()
    shutil.rmtree(tmp_path / "app" / "journal")

    with pytest.raises(
        CheckpointError, match="holds no batch and batches were expected; restore its journal"
    ):
        Volume(tmp_path).open(must_exist=True)


def test_record_of_a_newer_version_is_refused(volume: Volume) -> None:
    """A record of an unknown kind is refused with the segment and the remedy."""
    volume.checkpoint._journal.append(b'{"type":"merge"}')
    volume.close()

    with pytest.raises(
        StateVersionError, match=r"000001-000000.log holds a record that this version does not know"
    ):
        volume.open()


HOLDER = """
    import sys
    from pathlib import Path
    from tests.engine.checkpoint.volume import Volume
    volume = Volume(Path(sys.argv[1])).open()
    volume.run({0: "theirs"})
    print("open", flush=True)
    for _ in sys.stdin:
        try:
            volume.run({0: "late"})
        except Exception as error:
            print(type(error).__name__, error, flush=True)
"""


@pytest.mark.slow
def test_folder_in_use_is_refused_and_takeover_fences(tmp_path: Path) -> None:
    """A second process is refused; with takeover it gets the folder, and the first one is stopped before its next task."""
    with python(HOLDER, tmp_path, stdin=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"

        with pytest.raises(
            ConcurrentRunError,
            match=rf"{tmp_path}/app is in use by another process; stop it, or start with takeover",
        ):
            Volume(tmp_path).open()
        mine = Volume(tmp_path).open(takeover=True)
        assert mine.state() == {0: "theirs"}
        holder.stdin.write("batch\n")
        holder.stdin.flush()
        answer = holder.stdout.readline()
        mine.run({1: "mine"})
        holder.stdin.close()
    # The fenced process is gone: the folder is locked again by the one that took it over.
    mine.run({2: "mine"})
    with pytest.raises(ConcurrentRunError, match="in use by another process"):
        Volume(tmp_path).open()

    assert answer.startswith("ConcurrentRunError epoch 2 has taken over")
    assert mine.reopen().state() == {0: "theirs", 1: "mine", 2: "mine"}
    mine.close()


def test_fenced_process_neither_commits_nor_removes(tmp_path: Path) -> None:
    """A process that was fenced while its batch ran is stopped at its commit and at its purge; its successor goes on."""
    old = Volume(tmp_path).open()
    old.run({0: "before"})
    running = old.begin()
    new = Volume(tmp_path).open(takeover=True)
    with pytest.raises(ConcurrentRunError, match="epoch 2 has taken over"):
        old.commit(running, {0: "void"})
    with pytest.raises(ConcurrentRunError, match="epoch 2 has taken over"):
        old.checkpoint.purge(running.time)
    old.close()

    assert new.checkpoint.pending() == running
    new.run({0: "rerun"}, attempt=1)
    assert new.reopen().state() == {0: "rerun"}
    new.close()


def test_append_that_fails_gives_the_segment_up(volume: Volume) -> None:
    """After a failed append the next one goes to a new segment, and a restart finds what was acknowledged."""
    volume.run({0: "a"})
    volume.checkpoint._journal.close()
    with pytest.raises(CheckpointWriteError, match="Bad file descriptor"):
        volume.begin()
    volume.run({0: "b"}, attempt=1)

    assert volume.segments()[-1].name == "000001-000001.log"
    assert volume.reopen().state() == {0: "b"}


def test_closed_folder_takes_no_batch(tmp_path: Path) -> None:
    """A checkpoint that was closed refuses to begin, rather than to write beside its successor."""
    volume = Volume(tmp_path).open()
    volume.close()

    with pytest.raises(CheckpointError, match="is not open"):
        volume.begin()
