"""The time that tasks wait for a server that is away or slow: it does not count against the limit of a task.

Owns: Waits, waiting, seconds_waited.
Never: a limit.
"""

import os
import struct
import threading
from pathlib import Path
from typing import Final

from engine.clock import SystemClock

_clock = SystemClock()
_NUMBER: Final = struct.Struct("d")
"""Seconds waited so far; during a wait less the moment at which it began, which is below 0. One number is never half written."""


class Waits:
    """The waits of a process, each a `with` block; several at once count once. Without a file they are not counted.

    Example:
        >>> import tempfile
        >>> waits = Waits()
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     waits.tell(file.name)
        ...     with waits, waits:
        ...         during = seconds_waited(file.name)
        ...     0 < during < seconds_waited(file.name)
        True
    """

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._fd = -1
        self._open = 0
        self._seconds = self._began = 0.0

    def tell(self, path: str) -> None:
        """Count in this file from now on, so that another process sees it at any moment, also while a task hangs."""
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        self._write(0.0)

    def __enter__(self) -> None:
        if self._fd < 0:
            return
        with self._changing:
            self._open += 1
            if self._open == 1:
                self._began = _clock.monotonic()
                self._write(self._seconds - self._began)

    def __exit__(self, *_: object) -> None:
        if self._fd < 0:
            return
        with self._changing:
            self._open -= 1
            if self._open == 0:
                self._seconds += _clock.monotonic() - self._began
                self._write(self._seconds)

    def _write(self, number: float) -> None:
        os.pwrite(self._fd, _NUMBER.pack(number), 0)


waiting: Final = Waits()
"""Of this process."""


def seconds_waited(path: str) -> float:
    """How long the process that counts in the file has waited so far, a wait that lasts counted up to now."""
    number: float
    (number,) = _NUMBER.unpack(Path(path).read_bytes())
    return number if number >= 0 else number + _clock.monotonic()
