"""The driver's table of user functions: each is serialised once and shipped once to each executor.

Two functions of equal bytes are one entry. An entry lives as long as one of its functions; after that the executors are
told to forget it, so a transform that makes a new lambda in every batch does not fill their memory.

Owns: FunctionTable.
Never: a call of a user's function.
"""

import threading
import weakref
from collections import deque

from engine.errors import ConfigurationError
from engine.rdd.fuse import Function
from engine.rdd.serializers import dump_by_value


class FunctionTable:
    """Functions by number.

    Not guaranteed: a change of a captured variable after the first use is not seen by executors (PySpark serialises
    a closure again for every batch; share what changes through a broadcast variable or a local property).
    """

    def __init__(self) -> None:
        self._by_identity: dict[int, int] = {}
        self._by_bytes: dict[bytes, int] = {}
        self._payloads: dict[int, bytes] = {}
        self._users: dict[int, int] = {}
        self._kept: list[Function] = []
        self._next = 0
        self._released: list[int] = []
        # Finalizers run on whichever thread drops the last reference, in the middle of anything: they only append here.
        self._gone: deque[tuple[int, int]] = deque()
        self._lock = threading.Lock()

    def reference(self, function: Function) -> int:
        """The number of a function; the caller keeps the function alive while it uses the number.

        Raises:
            ConfigurationError: the function, or something that it captures, cannot be serialised.
        """
        with self._lock:
            self._settle()
            known = self._by_identity.get(id(function))
            if known is not None:
                return known
            payload = _dump(function)
            number = self._by_bytes.get(payload)
            if number is None:
                number = self._next
                self._next += 1
                self._by_bytes[payload] = number
                self._payloads[number] = payload
                self._users[number] = 0
            self._by_identity[id(function)] = number
            self._users[number] += 1
            self._watch(function, number)
            return number

    def payload(self, number: int) -> bytes:
        """The function's bytes."""
        return self._payloads[number]

    def take_released(self) -> list[int]:
        """Numbers whose functions are gone since the last call."""
        with self._lock:
            self._settle()
            released, self._released = self._released, []
            return released

    def _watch(self, function: Function, number: int) -> None:
        try:
            weakref.finalize(function, self._gone.append, (id(function), number)).atexit = False
        except TypeError:  # an object without weak references lives as long as the table
            self._kept.append(function)

    def _settle(self) -> None:
        """Drop the entries of functions that are gone, before an identity is looked up that a new function may have got."""
        while self._gone:
            identity, number = self._gone.popleft()
            self._by_identity.pop(identity, None)
            self._users[number] -= 1
            if self._users[number] == 0:
                del self._users[number]
                del self._by_bytes[self._payloads.pop(number)]
                self._released.append(number)


def _dump(function: Function) -> bytes:
    try:
        return dump_by_value(function)
    except (
        Exception,
        SystemExit,
    ) as cause:  # pickling runs code of the user's objects, which may raise anything
        name = getattr(function, "__qualname__", repr(function))
        raise ConfigurationError(
            f"function {name} cannot be shipped to the executors ({cause}); "
            "make what it captures picklable, or create it inside the function"
        ) from cause
