"""The driver's table of user functions: each is serialised as it is when a stage begins, and shipped once while its bytes stay the same.

To serialise a lambda costs 25 microseconds; whether anything that it holds has changed is not asked otherwise, as a wrong answer would be
a value that is silently out of date. Two functions of equal bytes are one entry. An entry lives as long as one of its functions stays
as it is; after that the executors are told to forget it, so neither a transform that makes a new lambda in every batch nor a variable
that changes in every batch fills their memory.

Owns: FunctionTable, StageFunctions.
Never: a call of a user's function.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final

from engine.errors import ConfigurationError, StreamingError
from engine.rdd.fuse import Function
from engine.rdd.serializers import dump_by_value

_MOST_KEPT: Final = 256
"""Functions without weak references that are remembered from one stage to the next."""


class FunctionTable:
    """Functions by number; one that has changed since the last stage has a new one."""

    def __init__(self) -> None:
        self._by_identity: dict[int, int] = {}
        self._by_bytes: dict[bytes, int] = {}
        self._payloads: dict[int, bytes] = {}
        self._users: dict[int, int] = {}
        self._kept: deque[Function] = deque()
        self._next = 0
        self._released: list[int] = []
        # Finalizers run on whichever thread drops the last reference, in the middle of anything: they only append here.
        self._gone: deque[int] = deque()
        self._lock = threading.Lock()

    def begin(self) -> "StageFunctions":
        """The functions of a stage that begins."""
        with self._lock:
            while len(self._kept) > _MOST_KEPT:
                self._gone.append(id(self._kept[0]))
                # Only when it is unknown may its identity be another's.
                self._settle()
                self._kept.popleft()
        return StageFunctions(self.reference)

    def reference(self, function: Function) -> int:
        """The number of a function as it is now; the caller keeps the function alive while it uses the number.

        Raises:
            ConfigurationError: the function, or something that it captures, cannot be serialised.
        """
        with self._lock:
            self._settle()
            known = self._by_identity.get(id(function))
            number = self._numbered(_dump(function))
            if number == known:
                return number
            self._users[number] += 1
            self._by_identity[id(function)] = number
            if known is None:
                self._watch(function)
            else:
                self._leave(known)
            return number

    def payload(self, number: int) -> bytes:
        """The function as it travels."""
        return self._payloads[number]

    def _numbered(self, payload: bytes) -> int:
        number = self._by_bytes.get(payload)
        if number is None:
            number = self._next
            self._next += 1
            self._by_bytes[payload] = number
            self._payloads[number] = payload
            self._users[number] = 0
        return number

    def take_released(self) -> list[int]:
        """Numbers whose functions are gone since the last call."""
        with self._lock:
            self._settle()
            released, self._released = self._released, []
            return released

    def _watch(self, function: Function) -> None:
        try:
            weakref.finalize(function, self._gone.append, id(function)).atexit = False
        except TypeError:  # an object without weak references is kept alive for as long as it is known
            self._kept.append(function)

    def _settle(self) -> None:
        """Drop the entries of functions that are gone, before an identity is looked up that a new function may have got."""
        while self._gone:
            number = self._by_identity.pop(self._gone.popleft(), None)
            if number is not None:
                self._leave(number)

    def _leave(self, number: int) -> None:
        """One function less has these bytes."""
        self._users[number] -= 1
        if self._users[number] == 0:
            del self._users[number]
            del self._by_bytes[self._payloads.pop(number)]
            self._released.append(number)


class StageFunctions:
    """The numbers of the functions of one stage: each function is serialised once, and stays alive until the stage is done."""

    def __init__(self, reference: Callable[[Function], int]) -> None:
        self._reference = reference
        self._known: dict[int, tuple[Function, int]] = {}

    def number(self, function: Function) -> int:
        """The number of a function, the same in all tasks of the stage."""
        known = self._known.get(id(function))
        if known is None:
            known = self._known[id(function)] = (function, self._reference(function))
        return known[1]


def _dump(function: Function) -> bytes:
    try:
        return dump_by_value(function)
    except ConfigurationError as cause:  # such as a context that it refers to
        raise ConfigurationError(
            f"function {_name_of(function)} cannot be shipped to the executors: {cause}"
        ) from None
    except StreamingError:  # such as a broadcast that was destroyed
        raise
    except (
        Exception,
        SystemExit,
    ) as cause:  # pickling runs code of the user's objects, which may raise anything
        raise ConfigurationError(
            f"function {_name_of(function)} cannot be shipped to the executors ({cause}); "
            "make what it captures picklable, or create it inside the function"
        ) from cause


def _name_of(function: Function) -> str:
    return str(getattr(function, "__qualname__", repr(function)))
