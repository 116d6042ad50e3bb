"""Checkpoint folders that are refused by name: of another application, setting or version, damaged, missing, or in use."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from engine.batch import Duration, Time
from engine.checkpoint.checkpoint import Checkpoint
from engine.checkpoint.journal import read_segment
from engine.errors import CheckpointError, ConcurrentRunError, StateVersionError
from tests.engine.checkpoint.volume import INTERVAL, SHARDS, Volume, make_unreadable
from tests.engine.children import python


def test_another_applications_folder_is_refused(tmp_path: Path) -> None:
    """A folder whose meta.json names another application is refused with both names."""
    Volume(tmp_path).open().close()
    (tmp_path / "app").rename(tmp_path / "other")

    with pytest.raises(
        StateVersionError, match=r"was written with app='app', this process has app='other'; start with 'app'"
    ):
        Checkpoint(tmp_path, "other", INTERVAL, SHARDS).open(Time(0))


def test_another_name_begins_anew_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An application of another name has no state in a folder that holds others, and the log names them."""
    Volume(tmp_path).open().close()
    assert caplog.messages == []
    renamed = Checkpoint(tmp_path, "renamed", INTERVAL, SHARDS)
    renamed.open(Time(0))
    renamed.close()

    assert caplog.messages == [
        f"application 'renamed' begins anew in {tmp_path}, beside app: state belongs to the application's name"
    ]


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


@pytest.mark.fault(23, "format 99 in meta.json")
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


def test_unreadable_meta_is_refused(tmp_path: Path) -> None:
    """A meta.json on a bad sector is refused as a damaged one is."""
    Volume(tmp_path).open().close()
    make_unreadable(tmp_path / "app" / "meta.json")

    with pytest.raises(
        StateVersionError, match=r"meta.json cannot be read \(.*Input/output error\); restore"
    ):
        Volume(tmp_path).open()


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


@pytest.mark.fault(22, "the folder removed, where the results have batches")
def test_missing_folder_is_refused_where_one_is_expected(tmp_path: Path) -> None:
    """With must_reach a missing folder is refused, named, and not made."""
    with pytest.raises(
        CheckpointError,
        match=rf"checkpoint folder {tmp_path}/app is missing, and .* up to batch 1000 .*; restore",
    ):
        Volume(tmp_path).open(must_reach=Time(1_000))
    assert not (tmp_path / "app").exists()


def lose_newest_segment(volume: Volume, _copy: Path) -> None:
    """Remove the segment that has the last batches."""
    before, newest = volume.segments()
    assert any(b"2000" in frame.head for frame in read_segment(newest))
    assert not any(b"2000" in frame.head for frame in read_segment(before))
    newest.unlink()


def put_older_copy(volume: Volume, copy: Path) -> None:
    """Put a copy in the folder's place that was made before the last batches."""
    shutil.rmtree(volume.folder / "app")
    copy.rename(volume.folder / "app")


@pytest.mark.fault(20, "the newest segment removed: the ledger knows more batches than the one before it")
@pytest.mark.fault(22, "an older copy of the folder put in its place: the ledger knows more batches")
@pytest.mark.parametrize("lose", [lose_newest_segment, put_older_copy])
def test_folder_that_ends_too_early_is_refused(tmp_path: Path, lose: Callable[[Volume, Path], None]) -> None:
    """With must_reach a folder is taken up to the batch that it knows, begun or committed; refused once that one is lost."""
    volume = Volume(tmp_path / "own").open()
    volume.run({0: "a"})
    copy = shutil.copytree(volume.folder / "app", tmp_path / "copy")
    volume.rotate()
    volume.run({0: "b"})
    volume.begin()
    volume.close()
    whole = shutil.copytree(volume.folder, tmp_path / "whole")
    Volume(whole).open(must_reach=Time(3_000)).close()
    with pytest.raises(
        CheckpointError, match=r"app ends with batch 3000 .*, and results .* up to batch 4000 .*; restore"
    ):
        Volume(whole).open(must_reach=Time(4_000))
    lose(volume, copy)

    for batch in (2_000, 3_000):
        with pytest.raises(
            CheckpointError,
            match=rf"app ends with batch 1000 .*, and results .* up to batch {batch} .*; restore",
        ):
            volume.open(must_reach=Time(batch))
    assert volume.open(must_reach=Time(1_000)).state() == {0: "a"}
    volume.close()


@pytest.mark.fault(22, "its journal removed, the rest left")
def test_folder_without_its_journal_is_refused_where_batches_are_expected(tmp_path: Path) -> None:
    """With must_reach a folder whose journal is gone or empty is refused: it would count everything again."""
    volume = Volume(tmp_path).open()
    volume.run({0: "a"})
    volume.close()
    shutil.rmtree(tmp_path / "app" / "journal")

    with pytest.raises(CheckpointError, match="holds no batch, and results are written up to batch 1000"):
        Volume(tmp_path).open(must_reach=Time(1_000))


@pytest.mark.fault(23, "a record of another kind in the journal")
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
