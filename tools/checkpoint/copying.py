"""A savepoint: a whole copy of an application's checkpoint folder, also of one that a process runs on.

The journal's newest segment is copied first, up to its last whole frame: from then on the copy is fixed. What it names is never
changed, but may be removed by the process meanwhile; then the copy begins anew. What blocks have come since does no harm.

Owns: copy, Copied.
Never: the lock, or a write beside the copy.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from engine.batch import Duration
from engine.checkpoint.checkpoint import Checkpoint
from engine.checkpoint.files import make_folder, sync_folder, write_durably
from engine.checkpoint.journal import read_segment, segment_names
from engine.checkpoint.meta import found_meta
from engine.errors import CheckpointError, ConfigurationError
from tools.checkpoint.folder import find_app

TRIES = 20
"""How often a copy begins anew before it gives up: what it needs is removed at most every few batches."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy that is there."""

    folder: Path
    """The application's folder in the new checkpoint directory."""
    files: int
    size_bytes: int
    batch: int
    """Time of its newest commit, milliseconds since the epoch; 0 without one."""


def copy(source: Path, directory: Path) -> Copied:
    """Copy an application's folder into a new checkpoint directory; an application of the same name starts there.

    Args:
        source: an application's folder, or the checkpoint directory of only one.
        directory: the new checkpoint directory; it may be there, without this application.

    Raises:
        ConfigurationError: there is nothing to copy, or something where it would go.
        CheckpointError: the folder cannot be read, or its files are removed faster than they can be copied.
    """
    app = find_app(source)
    target = directory / app.name
    if target.exists():
        raise ConfigurationError(f"{target} is there already; name another checkpoint directory")
    make_folder(directory.absolute())
    unfinished = directory / f"{app.name}.copy-{app.stat().st_ino}"
    for _ in range(TRIES):
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            batch = _copy_once(app, unfinished)
        except FileNotFoundError:
            continue  # the process that runs has purged it: it has newer ones
        unfinished.rename(target)
        sync_folder(directory)
        files = [path for path in target.rglob("*") if path.is_file()]
        return Copied(target, len(files), sum(path.stat().st_size for path in files), batch)
    shutil.rmtree(unfinished, ignore_errors=True)
    raise CheckpointError(
        f"{app} was purged under {TRIES} copies, one after another; try again when it has less to do, or stop it"
    )


def _copy_once(app: Path, target: Path) -> int:
    """Copy what a start needs; returns the time of the newest commit.

    Raises:
        FileNotFoundError: a file was removed meanwhile.
    """
    meta = found_meta(app / "meta.json")
    blocks = sorted(app.glob("blocks/**/*.*"))
    newest = _copy_newest_segment(app / "journal", target / "journal")
    checkpoint = Checkpoint(target.parent, meta.app, Duration(meta.batch_ms), meta.shards)
    checkpoint.folder = target
    if newest:
        checkpoint.look()
    catalog = checkpoint.catalog
    segments = {f"journal/{delta.segment}" for delta in catalog.deltas} - {f"journal/{newest}"}
    for name in sorted(segments | {kept.file for kept in catalog.snapshots}):
        _copy_file(app / name, target / name)
    # Those of before the journal's copy hold what its batches name; those that are new since then may, too.
    for path in sorted({*blocks, *app.glob("blocks/**/*.*")}):
        if path.is_file():
            _copy_file(path, target / path.relative_to(app))
    missing = [path for path in blocks if not path.exists()]
    if missing:
        raise FileNotFoundError(missing[0])
    _copy_file(app / "meta.json", target / "meta.json")
    return catalog.commit.batch.time if catalog.commit else 0


def _copy_newest_segment(source: Path, target: Path) -> str:
    """Copy the segment that a start would read, up to its last whole frame; returns its name, empty without one."""
    for name in reversed(segment_names(source) if source.is_dir() else []):
        path = source / name.file
        # Of one look at the file; what is appended later is not of this copy.
        content = path.read_bytes()
        make_folder((target / name.file).parent)
        write_durably(target / name.file, content)
        frames = read_segment(target / name.file)
        end = frames[-1].body_offset + frames[-1].body_length if frames else 0
        if end == len(content):
            return name.file
        (target / name.file).unlink()
        if frames:
            write_durably(target / name.file, content[:end])
            return name.file
    return ""


def _copy_file(source: Path, target: Path) -> None:
    content = source.read_bytes()
    make_folder(target.parent)
    write_durably(target, content)
