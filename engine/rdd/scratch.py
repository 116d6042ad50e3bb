"""The folder on disk that a context's tasks spill to, and how they know when.

`<root>/dstreams-<user>/<pid>-<random>/` with a file `lock`, which the driver holds locked for its life. So a folder whose lock can be had
belongs to a driver that is gone, however it ended, and the next context of that root removes it. Files of a shuffle
have the name of the shuffle; what only one task reads has no name at all and is gone with the process.

Owns: Scratch, Disk, Growth, Appended.
Never: the format of what is written.
"""

import fcntl
import os
import resource
import shutil
import sys
import tempfile
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from engine.errors import ConfigurationError
from engine.rdd.serializers import HEAD_BYTES, Block, block_bytes, load_block

_MANY_RECORDS: Final = 64
"""Below so many records nobody looks at memory."""
_LEAST_RECORD_BYTES: Final = 40
"""What a record takes at least: an int in a list."""
_STATM: Final = "/proc/self/statm"
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


SHUFFLED: Final = -1
"""Number of the accumulator of bytes in files of shuffles."""
SPILLED: Final = -2
"""Number of the accumulator of bytes that were laid aside for want of memory."""


class Place(NamedTuple):
    """Where blocks stand in a file: (offset, bytes) of each stretch of them."""

    path: str
    stretches: tuple[tuple[int, int], ...]


class Scratch:
    """The driver's side: makes the folder, sweeps those of drivers that are gone, removes files and at last itself.

    Args:
        root: the folder to make it in; the system's folder of temporary files when None.

    Raises:
        ConfigurationError: the root was given and nothing can be made in it.
    """

    def __init__(self, root: str | None) -> None:
        self.path = ""
        """Empty when the system has no folder of temporary files; then nothing can spill."""
        self._remove: Callable[[], object] = _nothing
        try:
            parent = Path(root or tempfile.gettempdir()) / f"dstreams-{os.getuid()}"
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep(parent)
            self._make(parent)
        except OSError as cause:
            if root is not None:
                raise ConfigurationError(
                    f"temporaryFolder {root!r} cannot be written ({cause.strerror}); name a folder that can"
                ) from cause

    def _make(self, parent: Path) -> None:
        final = parent / f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        draft = parent / f".{final.name}"
        draft.mkdir(mode=0o700)
        lock = os.open(draft / "lock", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Under its final name the folder is locked from the first moment: no sweep can take it for a dead one.
        draft.rename(final)
        self.path = str(final)
        # Also at the end of the interpreter, for a context that nobody stopped.
        self._remove = weakref.finalize(self, _remove, self.path, lock, os.getpid())

    @staticmethod
    def _sweep(parent: Path) -> None:
        for folder in parent.iterdir():
            if folder.name.startswith("."):
                continue
            try:
                with (folder / "lock").open("rb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            except OSError:  # its driver lives, or another context sweeps it
                continue

    def remove(self, name: str) -> None:
        """Remove the files of a shuffle."""
        if self.path:
            for path in Path(self.path).glob(f"{name}-*"):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder."""
        self._remove()


def _nothing() -> None:
    """There is no folder to remove."""


def _remove(path: str, lock: int, pid: int) -> None:
    if os.getpid() == pid:  # not in a child that was forked
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


class Appended:
    """A file that blocks are appended to, and read from by stretch; it is closed when nobody refers to it any more."""

    def __init__(self, fd: int, path: str = "") -> None:
        self._fd = fd
        self._path = path
        self._end = 0
        weakref.finalize(self, os.close, fd).atexit = False

    def append(self, payload: bytes) -> tuple[int, int]:
        """Write bytes; returns where they stand."""
        offset = self._end
        rest = memoryview(payload)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        self._end += len(payload)
        return offset, len(payload)

    def blocks(self, stretches: Sequence[tuple[int, int]]) -> Iterator[Block]:
        """The blocks of the stretches in order, one in memory at a time."""
        for offset, length in stretches:
            at, end = offset, offset + length
            while at < end:
                size = block_bytes(os.pread(self._fd, HEAD_BYTES, at))
                yield load_block(os.pread(self._fd, size, at))
                at += size

    def place(self, stretches: list[tuple[int, int]]) -> Place:
        """What another process needs to read the stretches."""
        return Place(self._path, tuple(stretches))


def blocks_at(place: Place) -> Iterator[Block]:
    """The blocks of a place, one in memory at a time."""
    return Appended(os.open(place.path, os.O_RDONLY | os.O_CLOEXEC), place.path).blocks(place.stretches)


class Disk:
    """The tasks' side: the files that they may write, and the memory that they may use before."""

    def __init__(self, folder: str, limit_bytes: int) -> None:
        self._folder = folder
        self.limit_bytes = limit_bytes
        """What one operation may hold before it spills."""
        self.shuffled_bytes = 0
        """Written to files of shuffles since `take_written`."""
        self.spilled_bytes = 0
        """Laid aside for want of memory since then."""

    def shuffle_file(self, name: str) -> Appended:
        """A new file that other executors read."""
        path = f"{self._required()}/{name}"
        return Appended(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), path)

    def temporary(self) -> Appended:
        """A new file without a name, for this process alone."""
        fd, path = tempfile.mkstemp(dir=self._required())
        os.unlink(path)  # noqa: PTH108 - a path of the system's own making
        return Appended(fd)

    def growth(self) -> "Growth":
        """A watch over what an operation is about to hold."""
        return Growth(self.limit_bytes)

    def take_written(self) -> dict[int, list[int]]:
        """Bytes since the last call, as additions to the driver's accumulators of these numbers; empty when nothing was written."""
        if not self.shuffled_bytes and not self.spilled_bytes:
            return {}
        taken = {SHUFFLED: [self.shuffled_bytes], SPILLED: [self.spilled_bytes]}
        self.shuffled_bytes = self.spilled_bytes = 0
        return taken

    def _required(self) -> str:
        if not self._folder:
            raise ConfigurationError(
                "a shuffle is larger than memory allows and there is no folder of temporary files; "
                "give LocalContext a temporaryFolder"
            )
        return self._folder


class Growth:
    """Whether what an operation holds has outgrown its limit: by the process's resident memory.

    Freed memory does not always go back to the system, and what was free before does not show. So the number of records counts as
    well, at 40 bytes each at first; once it was too much, that number is the most, and resident memory has to grow beyond what was left.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._ceiling: int | None = None
        self._most = max(limit_bytes // _LEAST_RECORD_BYTES, 1)

    def is_over(self, records: int) -> bool:
        """Whether this many records, which the operation holds now, are too much."""
        if records >= self._most:
            return True
        if self._ceiling is None:
            if records >= _MANY_RECORDS:
                self._ceiling = resident_bytes() + self._limit
            return False
        if records and resident_bytes() > self._ceiling:
            self._most = records
            return True
        return False

    def let_go(self) -> None:
        """The operation has let go of what it held."""
        if self._ceiling is not None:
            self._ceiling = max(self._ceiling, resident_bytes() + self._limit // 8)


def resident_bytes() -> int:
    """Memory of this process that is in use; where the system does not tell, the most that ever was."""
    try:
        with open(_STATM, "rb", buffering=0) as statm:  # noqa: PTH123 - 3 us in place of 10
            return int(statm.read(64).split()[1]) * _PAGE
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1_024
