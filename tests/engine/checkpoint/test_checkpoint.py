"""Begin, commit, recover: what a restart finds is what was committed."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Time, TopicPartition
from engine.checkpoint.checkpoint import Checkpoint
from engine.checkpoint.files import write_durably
from engine.errors import CheckpointError, CheckpointWriteError
from tests.engine.checkpoint.volume import BIG, INTERVAL, OPERATOR, SHARDS, Volume


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
        write_durably(folder / "probe", b"")
    (folder / "probe").rmdir()
    cause = raised.value.__cause__
    assert isinstance(cause, IsADirectoryError)
    return str(cause.filename)


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
