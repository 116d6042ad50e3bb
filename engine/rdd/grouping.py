"""Pairs of one or more parents by key: groupByKey, cogroup, the joins, subtract and intersection are one pass with different ends.

Each parent becomes a dict from key to values; as long as no key came twice, from key to value. When that outgrows the executor's
memory everything is laid aside on disk in parts, and the parts are grouped one at a time. Where keys are too few to be divided,
the values themselves go to disk: a group is then a `LongGroup`.

Owns: grouped, product, stored, KINDS, LongGroup.
Never: the exchange; its parents' pairs are together already.
"""

import operator
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, NoReturn

from engine.errors import ConfigurationError
from engine.rdd.scratch import Appended, Disk
from engine.rdd.serializers import Block, dump_block
from engine.rdd.shuffle import DEPTH, PARTS, Parts, value_blocks

_FEW_KEYS: Final = 64
"""So few keys are not divided further: their groups are long ones."""
_SLICE: Final = 16_384

Values = Sequence[Any]
"""The values of a key: a list, or a LongGroup."""


class LongGroup(Sequence[Any]):
    """The values of a key when they are more than memory holds: on disk, and read from there as often as wanted.

    It reads as a list does: length, iteration, index and slice (which read no more than they give, to a block), `in`, + and ==
    with lists. It cannot be changed in place; `list(values)` makes the list that can. Sent to another process it is a list.

    Raises:
        ConfigurationError: a call would change it.

    Source: `pyspark.resultiterable.ResultIterable` over an ExternalListOfList.
    """

    def __init__(self, disk: Disk, file: Appended | None = None) -> None:
        self._disk = disk
        self._file = file
        self._stretches: list[tuple[int, int]] = []
        self._begins: list[int] = []
        """Index of the first value of each stretch."""
        self._written = 0
        self.tail: list[Any] = []
        """The values that are not on disk yet."""

    def write(self) -> None:
        """Move what is in memory to disk."""
        self._file = self._file or self._disk.temporary()
        for at in range(0, len(self.tail), _SLICE):
            stretch = self._file.append(dump_block(None, self.tail[at : at + _SLICE]))
            self._stretches.append(stretch)
            self._begins.append(self._written + at)
            self._disk.spilled_bytes += stretch[1]
        self._written += len(self.tail)
        self.tail = []

    def settled(self) -> Values:
        """A list if nothing went to disk."""
        return self if self._written else self.tail

    def __len__(self) -> int:
        return self._written + len(self.tail)

    def __iter__(self) -> Iterator[Any]:
        return self._from(0)

    def __reversed__(self) -> Iterator[Any]:
        yield from reversed(self.tail)
        for stretch in reversed(self._stretches):
            yield from reversed(self._block(stretch))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            wanted = range(len(self))[index]
            upwards = wanted if wanted.step > 0 else wanted[::-1]
            taken = list(
                islice(self._from(upwards.start), 0, upwards.stop - upwards.start, upwards.step)
                if upwards
                else ()
            )
            return taken if wanted.step > 0 else taken[::-1]
        place = operator.index(index)
        place += len(self) if place < 0 else 0
        if not 0 <= place < len(self):
            raise IndexError("list index out of range")
        return next(self._from(place))

    def _from(self, begin: int) -> Iterator[Any]:
        """The values from an index on, read from the block that has it."""
        if begin < self._written:
            first = bisect_right(self._begins, begin) - 1
            within = begin - self._begins[first]
            for stretch in self._stretches[first:]:
                yield from islice(self._block(stretch), within, None)
                within = 0
        yield from islice(self.tail, max(0, begin - self._written), None)

    def _block(self, stretch: tuple[int, int]) -> list[Any]:
        assert self._file is not None
        ((_, values),) = self._file.blocks([stretch])
        return values

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | LongGroup):
            return NotImplemented
        return len(self) == len(other) and all(map(_is_equal, self, other))

    __hash__ = None  # type: ignore[assignment]  # as a list's

    def __add__(self, other: Any) -> list[Any]:
        return [*self, *other] if isinstance(other, list | LongGroup) else NotImplemented

    def __radd__(self, other: Any) -> list[Any]:
        return [*other, *self] if isinstance(other, list) else NotImplemented

    def copy(self) -> list[Any]:
        """The values as a list."""
        return list(self)

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Where the value is first."""
        begin, end, _ = slice(start, stop).indices(len(self))
        for place, other in enumerate(islice(self._from(begin), max(0, end - begin)), begin):
            if _is_equal(other, value):
                return place
        raise ValueError(f"{value!r:.60} is not in list")

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise ConfigurationError(
            f"the {len(self)} values of this key are on disk, because they are more than memory holds, "
            "and cannot be changed in place; change list(values), or give LocalContext more memory"
        )

    append = extend = insert = remove = pop = clear = sort = reverse = __setitem__ = __delitem__ = _refuse

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        return list, (list(self),)


class _Side:
    """One parent's pairs by key."""

    def __init__(self) -> None:
        self.single: dict[Any, Any] | None = {}
        """The value of each key, while no key came twice."""
        self._groups: dict[Any, list[Any]] = {}

    def add(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """More pairs."""
        if self.single is not None:
            fresh = dict(zip(keys, values, strict=True))
            if len(fresh) == len(keys) and self.single.keys().isdisjoint(fresh):
                self.single.update(fresh)
                return
        _append(self.groups(), keys, values)

    def groups(self) -> dict[Any, Any]:
        """The values of each key as a list."""
        if self.single is not None:
            self._groups = {key: [value] for key, value in self.single.items()}
            self.single = None
        return self._groups

    def items(self) -> dict[Any, Any]:
        """The dict that there is."""
        return self._groups if self.single is None else self.single

    def lay_aside(self, parts: Parts) -> None:
        """Move everything to disk."""
        keys: list[Any] = []
        values: list[Any] = []
        for key, group in self.groups().items():
            for at in range(0, len(group), _SLICE):
                some = group[at : at + _SLICE]
                keys += [key] * len(some)
                values += some
                if len(keys) >= _SLICE:
                    parts.add(keys, values)
                    keys, values = [], []
        parts.add(keys, values)
        self._groups.clear()


class _LongSide:
    """One parent's pairs by key, when the keys are few and the values too many."""

    def __init__(self, disk: Disk, file: Appended) -> None:
        self._disk = disk
        self._file = file
        self._groups: dict[Any, LongGroup] = {}

    def add(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """More pairs."""
        fresh: dict[Any, list[Any]] = {}
        _append(fresh, keys, values)
        for key, group in fresh.items():
            if key not in self._groups:
                self._groups[key] = LongGroup(self._disk, self._file)
            self._groups[key].tail += group

    def write(self) -> None:
        """Move the values to disk."""
        for group in self._groups.values():
            group.write()

    def groups(self) -> dict[Any, Values]:
        """The values of each key."""
        return {key: group.settled() for key, group in self._groups.items()}


def _is_equal(one: Any, other: Any) -> bool:
    return one is other or bool(one == other)


def _append(groups: dict[Any, list[Any]], keys: Sequence[Any], values: Sequence[Any]) -> None:
    for key, value in zip(keys, values, strict=True):
        if key in groups:
            groups[key].append(value)
        else:
            groups[key] = [value]


def grouped(parents: Sequence[Iterable[Block]], kind: str, disk: Disk, level: int = 0) -> Iterator[Any]:
    """What the kind gives for the keys of the parents' pairs."""
    sides = [_Side() for _ in parents]
    pairs = ((number, keys or [], values) for number, blocks in enumerate(parents) for keys, values in blocks)
    growth = disk.growth()
    records = 0
    for number, keys, values in pairs:
        sides[number].add(keys, values)
        records += len(keys)
        if growth.is_over(records):
            few = sum(len(side.items()) for side in sides) <= _FEW_KEYS * len(sides)
            if few or level >= DEPTH:
                return _grouped_long(sides, pairs, kind, disk)
            return _grouped_in_parts(sides, pairs, kind, disk, level)
    singles = [side.single for side in sides]
    left, right = singles[0], singles[-1]
    if kind in _SINGLES and left is not None and right is not None:
        return _SINGLES[kind](left, right)
    return KINDS[kind]([side.groups() for side in sides])


def _grouped_in_parts(
    sides: list[_Side],
    rest: Iterator[tuple[int, list[Any], list[Any]]],
    kind: str,
    disk: Disk,
    level: int,
) -> Iterator[Any]:
    parts = [Parts(disk, level) for _ in sides]
    for side, own in zip(sides, parts, strict=True):
        side.lay_aside(own)
    for number, keys, values in rest:
        parts[number].add(keys, values)
    for part in range(PARTS):
        yield from grouped([own.blocks(part) for own in parts], kind, disk, level + 1)


def _grouped_long(
    sides: list[_Side], rest: Iterator[tuple[int, list[Any], list[Any]]], kind: str, disk: Disk
) -> Iterator[Any]:
    file = disk.temporary()
    long = [_LongSide(disk, file) for _ in sides]
    growth = disk.growth()
    for side, own in zip(sides, long, strict=True):
        for key, group in side.groups().items():
            own.add([key] * len(group), group)
        side.groups().clear()
        own.write()
    records = 0
    for number, keys, values in rest:
        long[number].add(keys, values)
        records += len(keys)
        if growth.is_over(records):
            for own in long:
                own.write()
            records = 0
            growth.let_go()
    yield from KINDS[kind]([own.groups() for own in long])


def stored(elements: Iterable[Any], disk: Disk) -> LongGroup:
    """The elements on disk, for many readers."""
    kept = LongGroup(disk)
    for _, values in value_blocks(elements):
        kept.tail += values
        kept.write()
    return kept


def product(left: Iterable[Any], right: Iterable[Any], disk: Disk) -> Iterator[tuple[Any, Any]]:
    """Every pair of an element of the left and one of the right; the right is held, on disk when it is large."""
    held = LongGroup(disk)
    growth = disk.growth()
    for _, values in value_blocks(right):
        held.tail += values
        if growth.is_over(len(held.tail)):
            held.write()
            growth.let_go()
    others = held.settled()
    for one in left:
        for other in others:
            yield one, other


# What becomes of the groups. The sides are dicts from key to values; keys come in the order of the first side, then of the others.

_Sides = Sequence[Mapping[Any, Values]]


def _group(sides: _Sides) -> Iterator[Any]:
    return iter(sides[0].items())


def _cogroup(sides: _Sides) -> Iterator[Any]:
    for key in dict.fromkeys(key for side in sides for key in side):
        yield key, tuple(side.get(key) or [] for side in sides)


def _join(sides: _Sides, *, keeps_left: bool, keeps_right: bool) -> Iterator[Any]:
    left, right = sides
    absent = [None] if keeps_left else []
    for key, ours in left.items():
        theirs: Values = right.get(key) or absent
        for value in ours:
            for other in theirs:
                yield key, (value, other)
    if keeps_right:
        for key, theirs in right.items():
            if key not in left:
                for other in theirs:
                    yield key, (None, other)


def _subtract(sides: _Sides) -> Iterator[Any]:
    left, right = sides
    for key, values in left.items():
        if key not in right:
            for value in values:
                yield key, value


def _intersect(sides: _Sides) -> Iterator[Any]:
    left, right = sides
    return (key for key in left if key in right)


KINDS: Final[Mapping[str, Callable[[_Sides], Iterator[Any]]]] = {
    "group": _group,
    "cogroup": _cogroup,
    "join": partial(_join, keeps_left=False, keeps_right=False),
    "leftOuterJoin": partial(_join, keeps_left=True, keeps_right=False),
    "rightOuterJoin": partial(_join, keeps_left=False, keeps_right=True),
    "fullOuterJoin": partial(_join, keeps_left=True, keeps_right=True),
    "subtract": _subtract,
    "intersect": _intersect,
}
"""By name of an operation what it gives for its groups."""


def _single_groups(left: Mapping[Any, Any], _: Mapping[Any, Any]) -> Iterator[Any]:
    return ((key, [value]) for key, value in left.items())


def _single_join(left: Mapping[Any, Any], right: Mapping[Any, Any]) -> Iterator[Any]:
    if left.keys() <= right.keys():
        return zip(left, zip(left.values(), map(right.__getitem__, left), strict=True), strict=True)
    return ((key, (value, right[key])) for key, value in left.items() if key in right)


_SINGLES: Final[Mapping[str, Callable[[Mapping[Any, Any], Mapping[Any, Any]], Iterator[Any]]]] = {
    "group": _single_groups,
    "join": _single_join,
}
"""The same where no key has two values on a side, which needs no list a key."""
