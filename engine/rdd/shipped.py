"""How functions and elements stand between the driver and a task: as bytes of their own, loaded by whoever works with them.

So no task sees what another one, the driver, or another part of the same task did to an object in place: as PySpark, which loads the
function and the elements of each task anew.

Owns: LoadedFunctions, Packed, packed, unpacked.
Never: bytes that another run or another machine wrote.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from engine.errors import ConfigurationError
from engine.rdd.captures import is_unchanging
from engine.rdd.fuse import Function
from engine.rdd.serializers import cannot_change, dump_by_value, load


class LoadedFunctions(dict[int, Function]):
    """In an executor: the functions that it has, by number; what a task can change is loaded anew for each task."""

    def __init__(self) -> None:
        super().__init__()
        self._payloads: dict[int, bytes] = {}
        self._anew: set[int] = set()

    def take(self, functions: Mapping[int, bytes]) -> None:
        """Keep new functions."""
        self._payloads.update(functions)

    def __missing__(self, number: int) -> Function:
        function: Function = load(self._payloads[number])
        if number not in self._anew and not is_unchanging(function):
            self._anew.add(number)
        self[number] = function
        return function

    def begin(self) -> None:
        """Let go of what the task before may have changed."""
        for number in self._anew:
            self.pop(number, None)

    def forget(self, number: int) -> None:
        """Drop a function."""
        self.pop(number, None)
        self._payloads.pop(number, None)
        self._anew.discard(number)

    @property
    def count(self) -> int:
        """How many functions are kept."""
        return len(self._payloads)


class Packed(NamedTuple):
    """Elements that can change in place, as they were when they were taken."""

    payload: bytes


def packed(elements: Sequence[Any]) -> Any:
    """The elements as they are now: themselves when none can change, else their bytes.

    Raises:
        ConfigurationError: an element cannot be serialised.

    Example:
        >>> given = [[1]]
        >>> kept = packed(given)
        >>> given[0].append(2)
        >>> unpacked(kept), unpacked(packed((1, 2)))
        ([[1]], (1, 2))
    """
    if type(elements) is Packed or cannot_change(elements):
        return elements
    try:
        return Packed(dump_by_value(elements))
    except (Exception, SystemExit) as cause:  # pickling runs code of users, which may raise anything
        raise ConfigurationError(
            f"an element cannot be shipped to the executors ({cause}); make it picklable, or make it inside a task"
        ) from cause


def unpacked(kept: Any) -> Any:
    """The elements, for one reader."""
    return load(kept.payload) if type(kept) is Packed else kept
