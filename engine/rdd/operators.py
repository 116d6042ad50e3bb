"""The functions of a partition that RDD operators are made of, named once so that each is serialised and shipped once.

Owns: ReduceByKey, Reduce, Take, ForEach, ForEachPartition and the functions beside them.
Never: lineage; what runs them is the task.
"""

import operator
from collections.abc import Callable, Hashable, Iterator
from itertools import islice
from typing import Any, Final, Generic

from engine.rdd.api import T
from engine.rdd.fuse import Function, combine_of

KEY: Final[Callable[[Any], Any]] = operator.itemgetter(0)
"""The key of a pair."""
VALUE: Final[Callable[[Any], Any]] = operator.itemgetter(1)
"""The value of a pair."""


def as_one_list(elements: Iterator[T]) -> list[list[T]]:
    """The partition as one list."""
    return [list(elements)]


def with_key(f: Callable[[T], Any], element: T) -> tuple[Any, T]:
    """The pair of the function of an element and the element."""
    return f(element), element


def key_of_pair(f: Callable[[Any], Any], pair: tuple[Any, Any]) -> Any:
    """The function of a pair's key."""
    return f(pair[0])


def as_value(element: T) -> tuple[None, T]:
    """The element as the value of no key."""
    return None, element


class ReduceByKey:
    """A partition's pairs reduced by key."""

    def __init__(self, f: Function) -> None:
        self._f = f

    def __call__(self, pairs: Iterator[tuple[Any, Any]]) -> dict[Any, Any]:
        """The result of each key."""
        return combine_of((), (), pairs, None, self._f)


def to_list(elements: Iterator[T]) -> list[T]:
    """The partition's elements."""
    return list(elements)


def count(elements: Iterator[Any]) -> int:
    """Number of elements."""
    return sum(1 for _ in elements)


def count_values(elements: Iterator[Hashable]) -> dict[Hashable, int]:
    """How often each element occurs."""
    counts: dict[Hashable, int] = {}
    for element in elements:
        counts[element] = counts.get(element, 0) + 1
    return counts


class Reduce(Generic[T]):
    """A partition's elements reduced to one, or none."""

    def __init__(self, f: Callable[[T, T], T]) -> None:
        self._f = f

    def __call__(self, elements: Iterator[T]) -> list[T]:
        """The one element, in a list that is empty when there is none."""
        for result in elements:
            for element in elements:
                result = self._f(result, element)  # noqa: PLW2901  the fold's running result
            return [result]
        return []


class Take(Generic[T]):
    """The first elements of a partition."""

    def __init__(self, num: int) -> None:
        self._num = num

    def __call__(self, elements: Iterator[T]) -> list[T]:
        """The elements."""
        return list(islice(elements, self._num))


class ForEach(Generic[T]):
    """Calls a function on each element."""

    def __init__(self, f: Callable[[T], object]) -> None:
        self._f = f

    def __call__(self, elements: Iterator[T]) -> None:
        """Read the partition to its end."""
        for element in elements:
            self._f(element)


class ForEachPartition(Generic[T]):
    """Calls a function on a partition."""

    def __init__(self, f: Callable[[Iterator[T]], object]) -> None:
        self._f = f

    def __call__(self, elements: Iterator[T]) -> None:
        """Hand the partition over, and read what a generator gives to its end."""
        given = self._f(elements)
        if isinstance(given, Iterator):
            for _ in given:
                pass
