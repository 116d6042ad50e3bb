"""New files that are whole or not there, and frames with checksums.

A new file: temp name in the same folder, write all, fsync, rename, fsync of the folder. If any step fails the name does not appear.

Owns: write_durably, make_folder, sync_file, sync_folder, checksum.
Never: the second use of a name for different bytes.
"""

import contextlib
import os
from pathlib import Path

from xxhash import xxh3_64_intdigest


def checksum(*parts: bytes | memoryview) -> int:
    """XXH3 of the parts, each mixed with the one before it."""
    seed = 0
    for part in parts:
        seed = xxh3_64_intdigest(part, seed)
    return seed


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make what a file holds durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, durable under its name."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def write_durably(path: Path, *parts: bytes) -> None:
    """Write a new file that is whole and durable when this returns, and absent when it raises."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    sync_folder(path.parent)
