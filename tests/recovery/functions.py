"""Functions that harm the process in which they run; a module of few imports, which an executor loads at once."""

import ctypes
import re
import resource
from pathlib import Path

import psutil

from engine import State

LIMIT_BYTES = 256 << 20
"""What a leaking task may take above what its process has."""


def total(values: list[int], state: int | None) -> int:
    """Adds up."""
    return sum(values) + (state or 0)


def hang(pair: tuple[str, int]) -> tuple[str, int]:
    """Compute for ever on 2."""
    while pair[1] == 2:
        pass
    return pair


def hold(pair: tuple[str, int]) -> tuple[str, int]:
    """Hold the interpreter on 2 for hours, in one call of C code."""
    if pair[1] == 2:
        re.match(r"(a|a)*$", "a" * 64 + "b")
    return pair


class Supply:
    """How often a function is to fail yet, as files: an executor that dies with it does not forget."""

    def __init__(self, folder: Path, times: int) -> None:
        self._folder = folder
        self._times = times
        for number in range(times):
            (folder / f"failure-{number}").touch()

    def left(self) -> int:
        """How often it will fail yet."""
        return len(list(self._folder.glob("failure-*")))

    def used(self) -> int:
        """How often it has failed."""
        return self._times - self.left()

    def take(self) -> bool:
        """Whether it is to fail now; it is one failure less then."""
        files = sorted(self._folder.glob("failure-*"))
        if files:
            files[0].unlink()
        return bool(files)


class Leaking(Supply):
    """Takes memory without end on 2, as often as it is told; its process has a limit, above which the kernel ends it."""

    def __call__(self, pair: tuple[str, int]) -> tuple[str, int]:
        """Leak, if it is time."""
        if pair[1] == 2 and self.take():
            limit = psutil.Process().memory_info().vms + LIMIT_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            allocate = ctypes.CDLL(None).malloc
            allocate.restype = ctypes.c_void_p
            kept = []
            while True:
                # As a C library does that does not look: the null pointer that comes at the limit is written to.
                kept.append(allocate(ctypes.c_size_t(8 << 20)))
                ctypes.memset(kept[-1] or 0, 1, 8 << 20)
        return pair


class Flaky(Supply):
    """Adds up, and raises on 3 as often as it is told."""

    def _fail(self, number: int) -> None:
        if number == 3 and self.take():
            raise ConnectionError("the service is away")

    def update(self, values: list[int], state: int | None) -> int:
        """For updateStateByKey."""
        self._fail(sum(values))
        return total(values, state)

    def add(self, left: int, right: int) -> int:
        """For a window, of what enters it."""
        self._fail(right)
        return left + right

    def subtract(self, left: int, right: int) -> int:
        """For a window, of what leaves it."""
        self._fail(right)
        return left - right

    def map(self, _key: str, value: int | None, state: State[int]) -> int:
        """For mapWithState."""
        self._fail(value or 0)
        state.update((value or 0) + (state.getOption() or 0))
        return state.get()
