"""New files that are whole or not there, and frames with checksums.

A new file: temp name in the same folder, write all, fsync, close, rename, fsync of the folder. If any step fails, nothing refers
to the file: who names it elsewhere does so AFTER `write_durably` has returned. A descriptor whose fsync failed is never used again.

Every write goes through functions of `os`, so that a test can record them and replay what a power cut leaves.

Owns: writing, write_durably, read_back, write_all, make_folder, set_aside, sync_file, sync_folder, checksum.
Never: the second use of a name for different bytes.
"""

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from xxhash import xxh3_64, xxh3_64_intdigest

from engine.errors import CheckpointError, CheckpointWriteError
from engine.failpoints import fail_point

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FOR_GOOD = frozenset(
    {errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM}
)
"""What no waiting cures."""
_CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Has a write that the system refuses told in one sentence; what the block leaves behind is the block's to see to.

    Args:
        path: what is written.

    Raises:
        CheckpointWriteError: the volume is full, or fails; a new start goes on as soon as it does not.
        CheckpointError: the path cannot be written as it is, by this user or by nobody.
    """
    try:
        yield
    except OSError as cause:
        refused = f"{path} could not be written ({os.strerror(cause.errno or errno.EIO)})"
        if cause.errno in _FOR_GOOD:
            raise CheckpointError(
                f"{refused}; see that the checkpoint folder is there and is this user's"
            ) from cause
        if cause.errno in _FULL:
            raise CheckpointWriteError(
                f"{refused}: the checkpoint's volume is full; free some space on it, and the engine goes on where it stopped"
            ) from cause
        raise CheckpointWriteError(
            f"{refused}: the checkpoint's volume fails; mend it, and the engine goes on where it stopped"
        ) from cause


def checksum(*parts: bytes | memoryview) -> int:
    """XXH3 of the parts, each mixed with the one before it."""
    seed = 0
    for part in parts:
        seed = xxh3_64_intdigest(part, seed)
    return seed


def read_back(path: Path, *parts: bytes) -> None:
    """Prove that the volume holds these parts under a durable name; the copy in memory is given up before.

    Raises:
        CheckpointWriteError: it holds something else, or cannot be read.
    """
    expected, found = xxh3_64(), xxh3_64()
    for part in parts:
        expected.update(part)
    with writing(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            while chunk := os.read(descriptor, _CHUNK_BYTES):
                found.update(chunk)
        finally:
            os.close(descriptor)
    if found.digest() != expected.digest():
        raise CheckpointWriteError(
            f"{path} was not read back as it was written: the checkpoint's volume fails; "
            "mend it, and the engine goes on where it stopped"
        )


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Make what a file holds durable."""
    _sync(path, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    with writing(path):
        descriptor = os.open(path, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, durable under its name."""
    if not folder.is_dir():
        make_folder(folder.parent)
        with writing(folder):
            folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def set_aside(folder: Path) -> Path:
    """Rename a folder, durably, to the first name that is free of those with .damaged-1, .damaged-2 and so on behind; returns it.

    Raises:
        CheckpointError: it is not there, or cannot be renamed by this user.
    """
    names = (folder.with_name(f"{folder.name}.damaged-{number}") for number in itertools.count(1))
    with writing(folder):
        aside = folder.rename(next(name for name in names if not name.exists()))
    sync_folder(folder.parent)
    return aside


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, however many calls that takes."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def write_durably(path: Path, *parts: bytes) -> None:
    """Write a new file that is whole and durable when this returns; when it raises, it is absent or not durable.

    Raises:
        CheckpointWriteError: the volume is full, or fails.
    """
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with writing(path):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                for part in parts:
                    write_all(descriptor, part)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            fail_point("before_rename")
            temporary.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):  # it is not there, or the next start sweeps it away
            temporary.unlink()
        raise
    fail_point("after_rename")
    sync_folder(path.parent)
