"""Whose turn it is: a batch's, or that of whoever holds batches back.

Owns: Turn.
Never: a batch.
"""

import threading
from types import TracebackType


class Turn:
    """A lock that one batch after another takes, and that a hold keeps from all that follow.

    The thread that has it may take it again: a stop that drains runs batches of its own.

    Example:
        >>> turn = Turn()
        >>> with turn:
        ...     "a batch"
        'a batch'
        >>> turn.hold(timeout=1)
        True
        >>> turn.go_on()
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._may_go_on = threading.Event()
        self._may_go_on.set()

    def __enter__(self) -> None:
        while True:
            self._may_go_on.wait()
            self._lock.acquire()
            # A hold that came between the two has found the lock free, and believes that nothing runs.
            if self._may_go_on.is_set():
                return
            self._lock.release()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def acquire(self, timeout: float) -> bool:
        """Take it within the seconds, -1 for ever, held back or not; returns whether that worked."""
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        """Give it back."""
        self._lock.release()

    def hold(self, timeout: float) -> bool:
        """Let no batch begin from now on; returns whether the one that runs ended within the seconds."""
        self._may_go_on.clear()
        if not self._lock.acquire(timeout=timeout):
            return False
        self._lock.release()
        return True

    def go_on(self) -> None:
        """Let batches begin again."""
        self._may_go_on.set()
