"""What a machine does to processes: its clock is set, and its kernel kills what takes too much memory.

Owns: FAKETIME, SystemTime, MemoryGroup.
"""

import os
from pathlib import Path
from typing import NamedTuple

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
"""What Debian's package libfaketime has."""
_LIMIT_BYTES = 64 << 20


class _Files(NamedTuple):
    """The files of a control group."""

    limit: str
    swap: str
    """Not there where the kernel does not account for swap."""
    swap_bytes: int
    events: str


_FIRST = _Files("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", _LIMIT_BYTES, "memory.oom_control")
"""In the first version of the file system of control groups, whose limit of swap counts the memory too."""
_SECOND = _Files("memory.max", "memory.swap.max", 0, "memory.events")


class SystemTime:
    """The system's clock as processes see it that have the environment: it can be set while they run.

    What is no wall clock stays as it is: the monotonic clock, waits, and the times of files.

    Args:
        library: that of libfaketime.
        file: where it looks for the time.
    """

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        self.set(0)

    def set(self, seconds: int) -> None:
        """Set it so many seconds ahead of the real one, or behind; the file is replaced, and never half written."""
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{seconds:+d}\n")
        beside.replace(self._file)


class MemoryGroup:
    """A control group in which the kernel kills what takes more than 64 MB.

    Raises:
        OSError: this machine lets us make none.
    """

    def __init__(self) -> None:
        first = Path("/sys/fs/cgroup/memory")
        self._files, top = (_FIRST, first) if first.is_dir() else (_SECOND, first.parent)
        self.folder = top / f"dstreams-test-{os.getpid()}"
        self.folder.mkdir()
        try:
            (self.folder / self._files.limit).write_text(str(_LIMIT_BYTES))
            swap = self.folder / self._files.swap
            if swap.exists():
                swap.write_text(str(self._files.swap_bytes))
        except OSError:
            self.remove()
            raise

    def kills(self) -> int:
        """How many processes the kernel has killed."""
        told = dict(line.split() for line in (self.folder / self._files.events).read_text().splitlines())
        return int(told["oom_kill"])

    def remove(self) -> None:
        """Remove it, empty."""
        self.folder.rmdir()
