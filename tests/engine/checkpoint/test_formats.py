"""Checkpoint folders of every format that was ever released: this version goes on from each, and refuses what came after it."""

import shutil
from pathlib import Path

import msgspec
import pytest

from engine.checkpoint.journal import Journal, segment_names
from engine.checkpoint.records import FORMAT_VERSION
from engine.errors import CorruptLogError, StateVersionError
from tests.engine.checkpoint.volume import Volume
from tests.engine.checkpoint.write_format import FORMATS, STATE, write


def copy_of(number: int, folder: Path) -> Volume:
    """A copy of the folder of a format."""
    shutil.copytree(FORMATS / str(number), folder / "copy")
    return Volume(folder / "copy")


def test_every_format_has_its_folder() -> None:
    """There is a folder for each format up to this version's."""
    assert sorted(int(path.name) for path in FORMATS.iterdir()) == list(range(1, FORMAT_VERSION + 1))


@pytest.mark.fault(50, "a folder that an older version wrote, committed beside the tests")
@pytest.mark.parametrize("number", range(1, FORMAT_VERSION + 1))
def test_folder_of_an_older_version_goes_on(tmp_path: Path, number: int) -> None:
    """From a folder of each format state, pending batch and both generations come back, and its next batches are kept."""
    volume = copy_of(number, tmp_path).open()
    assert volume.state() == STATE
    waiting = volume.checkpoint.pending()
    assert waiting is not None
    assert (waiting.time, [part.untilOffset for part in waiting.ranges["queue"]]) == (4_000, [4])
    assert len(volume.snapshots()) == 4
    volume.run({5: "new", 4: None}, attempt=1)
    volume.snapshot_all()

    assert volume.reopen().state() == {**{key: STATE[key] for key in (0, 1, 3)}, 5: "new"}
    assert volume.checkpoint.fallbacks == 0
    volume.close()


def test_older_generation_of_an_older_version_is_read(tmp_path: Path) -> None:
    """With its newest snapshots damaged a folder of the first format comes back from the older ones and the deltas."""
    volume = copy_of(1, tmp_path)
    for path in volume.snapshots()[1::2]:
        path.write_bytes(path.read_bytes()[:-1])

    assert volume.open().state() == STATE
    assert [shard.fallbacks for shard in volume.shards] == [1, 1]
    volume.close()


@pytest.mark.fault(
    23, "a meta.json with the next format, with a field and a record that this version does not know"
)
def test_folder_of_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    """A newer format is refused with both numbers, before anything is written."""
    volume = copy_of(FORMAT_VERSION, tmp_path)
    path = volume.folder / "app" / "meta.json"
    meta = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**meta, "format": FORMAT_VERSION + 1, "codec": "new"}))
    before = segment_names(volume.journal)

    with pytest.raises(
        StateVersionError,
        match=f"has format {FORMAT_VERSION + 1}, this version knows .*{FORMAT_VERSION}; run",
    ):
        volume.open()
    assert segment_names(volume.journal) == before


@pytest.mark.fault(23, "a record of a kind that this version does not know, torn and whole")
@pytest.mark.slow
def test_unknown_record_is_refused_and_a_torn_one_is_void(tmp_path: Path) -> None:
    """A whole record of an unknown kind is refused with its segment; one whose append was torn is void, whatever it would have been."""
    volume = copy_of(FORMAT_VERSION, tmp_path)
    newest = volume.segments()[-1]
    unknown = Journal(tmp_path / "unknown", 1)
    unknown.begin_segment()
    unknown.append(b'{"type":"merge","shards":[1,2]}', b"body")
    unknown.close()
    frame = (tmp_path / "unknown" / "000001-000000.log").read_bytes()
    content = newest.read_bytes()
    for length in range(0, len(frame), 3):
        newest.write_bytes(content + frame[:length])
        assert volume.open().state() == STATE
        volume.close()
        volume.segments()[-1].unlink()
    newest.write_bytes(content + frame)

    with pytest.raises(
        StateVersionError, match=f"{newest.name} holds a record that this version does not know"
    ):
        volume.open()


@pytest.mark.fault(23, "a snapshot with another magic")
def test_snapshots_of_an_unknown_format_are_refused(tmp_path: Path) -> None:
    """Snapshots whose first bytes are not this format's are never read as if they were; without others the start is refused."""
    volume = copy_of(1, tmp_path)
    for path in volume.snapshots():
        path.write_bytes(b"DSS9" + path.read_bytes()[4:])

    with pytest.raises(CorruptLogError, match="none of its snapshots"):
        volume.open()


def test_this_version_writes_its_format(tmp_path: Path) -> None:
    """What this version writes today has the files of the folder that is committed for its format, and the same state."""
    write(tmp_path / "now")
    now = {path.relative_to(tmp_path / "now") for path in (tmp_path / "now").rglob("*")}
    then = FORMATS / str(FORMAT_VERSION)
    assert now == {path.relative_to(then) for path in then.rglob("*")}
    volume = Volume(tmp_path / "now").open()
    assert volume.state() == STATE
    volume.close()
