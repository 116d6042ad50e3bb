"""Sorting: a sample that decides the ranges, what a map task writes of each range, and a sort that need not fit in memory.

A map task sorts each chunk and cuts it at the bounds, so a partition's task reads sorted runs, which Python's sort merges. Beyond the
executor's memory the task writes sorted runs to disk and merges those, a block of each in memory.

Sorts are stable: of equal keys the one of the earlier partition, or earlier in it, comes first, in descending order too.

Owns: Sampled, bounds_of, write_ranges, sort_blocks.
Never: the shuffle of what it writes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from math import exp, log
from operator import is_, itemgetter
from random import Random
from typing import Any, Final

from engine.rdd.fuse import Function
from engine.rdd.scratch import Appended, Disk
from engine.rdd.serializers import Block, dump_block
from engine.rdd.shuffle import Chunks, Writer, columns_of

SAMPLES_A_RANGE: Final = 60
"""How many keys of a whole RDD decide where a range ends; more make ranges more equal."""
_SEED: Final = 1
_RUN_BLOCK: Final = 8_192
"""Records of a block of a sorted run."""

Sample = tuple[int, list[Any]]
"""How many elements a partition has, and the keys of some."""


class Sampled:
    """A uniform sample of what a partition's elements sort by, equal in every run.

    Example:
        >>> Sampled(2, None)(iter([("a", 1), ("b", 2), ("c", 3)]))
        (3, ['c', 'b'])
    """

    def __init__(self, size: int, key: Function | None) -> None:
        self._size = size
        self._key = key

    def __call__(self, elements: Iterator[Any]) -> Sample:
        """Number of elements, and the sample; Li's algorithm L, which skips most elements unseen."""
        random = Random(_SEED)
        chosen = list(islice(elements, self._size))
        seen = len(chosen)
        weight = exp(log(random.random()) / self._size)
        while True:
            skipped = int(log(random.random()) / log(1 - weight))
            passed = sum(1 for _ in islice(elements, skipped))
            seen += passed
            element = next(elements, _END)
            if passed < skipped or element is _END:
                break
            seen += 1
            chosen[random.randrange(self._size)] = element
            weight *= exp(log(random.random()) / self._size)
        if self._key is None:
            return seen, [key for key, _ in chosen]
        return seen, [self._key(element) for element in chosen]


_END: Final = object()


def bounds_of(samples: list[Sample], count: int) -> list[Any]:
    """The greatest key of each of `count` ranges but the last, ascending; equal shares of the elements that the samples stand for.

    Example:
        >>> bounds_of([(4, [1, 2, 3, 4]), (8, [5, 6, 7, 8])], 3)
        [4, 6]
    """
    weighted = [(key, seen / len(keys)) for seen, keys in samples for key in keys]
    weighted.sort(key=itemgetter(0))
    share = sum(weight for _, weight in weighted) / count
    bounds: list[Any] = []
    total = 0.0
    for key, weight in weighted:
        total += weight
        if len(bounds) < count - 1 and total >= share * (len(bounds) + 1):
            bounds.append(key)
    return bounds


def write_ranges(
    elements: Iterable[Any],
    writer: Writer,
    bounds: list[Any],
    key: Function | None,
    *,
    is_ascending: bool,
    count: int,
) -> None:
    """Give each element to its range: pairs by their key, others by the function of each."""
    chunks = Chunks()
    for chunk in chunks.of(elements):
        if key is None:
            keys, values = columns_of(chunk)
        else:
            keys, values = [key(element) for element in chunk], chunk
        keys, values = sorted_columns(keys, values, is_ascending=is_ascending)
        edges = [0, *_cuts(keys, bounds, is_ascending=is_ascending), len(keys)]
        size = 0
        for place in range(len(edges) - 1):
            begin, end = edges[place], edges[place + 1]
            own = keys[begin:end]
            # Where there are fewer bounds than ranges, the ranges at the end stay empty: the first in descending order.
            size += writer.add(
                place if is_ascending else count - len(edges) + 1 + place,
                own,
                own if keys is values else values[begin:end],
            )
        chunks.learn(len(chunk), size)


def _cuts(keys: list[Any], bounds: list[Any], *, is_ascending: bool) -> list[int]:
    if is_ascending:
        return [bisect_right(keys, bound) for bound in bounds]
    return [_before(keys, bound, is_ascending=False) for bound in reversed(bounds)]


def sorted_columns(keys: list[Any], values: list[Any], *, is_ascending: bool) -> tuple[list[Any], list[Any]]:
    """The columns in the order of the keys, one list for both when they hold the same."""
    if keys is values or all(map(is_, keys, values)):
        ordered = sorted(keys, reverse=not is_ascending)
        return ordered, ordered
    pairs = sorted(zip(keys, values, strict=True), key=itemgetter(0), reverse=not is_ascending)
    return columns_of(pairs)


def _before(keys: list[Any], bound: Any, *, is_ascending: bool) -> int:
    """How many of the sorted keys come before the bound."""
    if is_ascending:
        return bisect_left(keys, bound)
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        if bound < keys[middle]:
            low = middle + 1
        else:
            high = middle
    return low


def sort_blocks(
    blocks: Iterable[Block], key: Callable[[Any], Any] | None, disk: Disk, *, is_ascending: bool
) -> Iterator[Block]:
    """The pairs in the order of their keys, or of the function of each key: then the values that come are the pairs."""
    keys: list[Any] = []
    values: list[Any] = keys
    runs: list[_Run] = []
    file: Appended | None = None
    growth = disk.growth()
    for some_keys, some_values in blocks:
        own_keys, own_values = _sort_keys(some_keys or [], some_values, key)
        if values is keys and (own_keys is not own_values):
            values = list(keys)
        keys += own_keys
        if values is not keys:
            values += own_values
        if growth.is_over(len(keys)):
            file = file or disk.temporary()
            runs.append(_Run(file, disk, *sorted_columns(keys, values, is_ascending=is_ascending)))
            keys, values = [], []
            growth.let_go()
    last = sorted_columns(keys, values, is_ascending=is_ascending)
    if file is None:
        yield last
        return
    del keys, values
    runs.append(_Run(file, disk, *last))
    del last
    yield from _merge(runs, is_ascending=is_ascending)


def _sort_keys(
    keys: list[Any], values: list[Any], key: Callable[[Any], Any] | None
) -> tuple[list[Any], list[Any]]:
    if key is None:
        return keys, values
    return [key(each) for each in keys], list(zip(keys, values, strict=True))


class _Run:
    """A sorted run on disk, read block by block."""

    def __init__(self, file: Appended, disk: Disk, keys: list[Any], values: list[Any]) -> None:
        stretches = []
        for at in range(0, len(keys), _RUN_BLOCK):
            some = keys[at : at + _RUN_BLOCK]
            block = dump_block(some, some if values is keys else values[at : at + _RUN_BLOCK])
            stretches.append(file.append(block))
            disk.spilled_bytes += len(block)
        self._file = file
        self._stretches = stretches
        self._blocks: Iterator[Block] | None = None
        self.keys: list[Any] = []
        self._values: list[Any] = []

    def fill(self) -> bool:
        """Have a block in memory; false at the end."""
        if self._blocks is None:
            self._blocks = self._file.blocks(self._stretches)
        while not self.keys:
            block = next(self._blocks, None)
            if block is None:
                return False
            self.keys, self._values = block[0] or [], block[1]
        return True

    def take(self, count: int) -> tuple[list[Any], list[Any]]:
        """The first records of the block in memory."""
        taken = self.keys[:count], self._values[:count]
        self.keys, self._values = self.keys[count:], self._values[count:]
        return taken


def _merge(runs: list[_Run], *, is_ascending: bool) -> Iterator[Block]:
    """The records of all runs in order, as blocks.

    Invariant: what comes before the least of the blocks' last keys is in memory, in every run. What is equal to that key
    may go on in blocks to come, so it is given run by run, to its end, when nothing before it is left.
    """
    while live := [run for run in runs if run.fill()]:
        bound = live[0].keys[-1]
        for run in live[1:]:
            if run.keys[-1] < bound if is_ascending else bound < run.keys[-1]:
                bound = run.keys[-1]
        keys: list[Any] = []
        values: list[Any] = []
        for run in live:
            some_keys, some_values = run.take(_before(run.keys, bound, is_ascending=is_ascending))
            keys += some_keys
            values += some_values
        if keys:
            yield sorted_columns(keys, values, is_ascending=is_ascending)
            continue
        for run in live:
            while run.fill() and (equal := _equal(run.keys, bound, is_ascending=is_ascending)):
                yield run.take(equal)


def _equal(keys: list[Any], bound: Any, *, is_ascending: bool) -> int:
    """How many of the sorted keys, of which none comes before the bound, are equal to it."""
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        if bound < keys[middle] if is_ascending else keys[middle] < bound:
            high = middle
        else:
            low = middle + 1
    return low
