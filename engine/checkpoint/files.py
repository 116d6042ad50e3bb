"""New files that are whole or not there, and frames with checksums.

A new file: temp name in the same folder, write all, fsync, rename, fsync of the folder. If any step fails the name does not appear.

Owns: writing, write_durably, make_folder, sync_file, sync_folder, checksum.
Never: the second use of a name for different bytes.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from xxhash import xxh3_64_intdigest

from engine.errors import CheckpointError, CheckpointWriteError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FOR_GOOD = frozenset(
    {errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM}
)
"""What no waiting cures."""


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


def write_durably(path: Path, *parts: bytes) -> None:
    """Write a new file that is whole and durable when this returns, and absent when it raises.

    Raises:
        CheckpointWriteError: the volume is full, or fails.
    """
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with writing(path):
            with temporary.open("xb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):  # it is not there, or the next start sweeps it away
            temporary.unlink()
        raise
    sync_folder(path.parent)
