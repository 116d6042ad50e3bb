"""The functions of a partition that RDD operators are made of, named once so that each is serialised and shipped once.

Owns: Combine, Reduce, Take, ForEach, ForEachPartition and the functions beside them.
Never: lineage; what runs them is the task.
"""

import operator
from collections.abc import Callable, Hashable, Iterable, Iterator
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


def as_list(value: T) -> list[T]:
    """A list of the one value."""
    return [value]


def append(values: list[T], value: T) -> list[T]:
    """The list with one value more; it is changed in place."""
    values.append(value)
    return values


class Combine:
    """A partition's pairs combined by key, for pairs that are spread by key already."""

    def __init__(self, create: Function, merge: Function) -> None:
        self._create = create
        self._merge = merge

    def __call__(self, pairs: Iterator[tuple[Any, Any]]) -> Iterable[tuple[Any, Any]]:
        """One pair a key."""
        return combine_of((), (), pairs, self._create, self._merge).items()


GROUP: Final = Combine(as_list, append)
"""The values of each key as one list."""


def product(sides: tuple[list[Any], list[Any]]) -> Iterator[tuple[Any, Any]]:
    """Every pair of a value of the left side and one of the right."""
    left, right = sides
    return ((one, other) for one in left for other in right)


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
        """Hand the partition over."""
        self._f(elements)
