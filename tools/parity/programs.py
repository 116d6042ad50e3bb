"""Small programs, made from a seed: some batches of numbers and a chain of operations on them.

A program is written once against the names that PySpark and this engine share, and built on either.

Owns: Operation, Program, program, OPERATIONS.
Never: an import of either side.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from tools.parity import functions as f

BATCHES = 6
PARTITIONS = 2
_MOST_OPERATIONS = 5
_INVERSE_SLIDES = 5
"""PySpark uses the inverse function of a window from so many slides on."""


class Operation(NamedTuple):
    """One step of a program.

    Elements: numbers (int), pairs (key, int), or anything, of which a program can only look at the whole.
    """

    name: str
    takes: str
    gives: str
    build: Callable[..., Any]
    """(stream, the program's other stream of the same kind) -> stream"""
    is_ordered: bool = True
    """Whether the order of its elements is defined by that of its input."""
    is_narrow: bool = True
    """Whether its partitions are those of its input, so that what looks at partitions may follow."""
    length: int = 1
    """Batches that it looks back to."""
    slide: int = 1
    """Batches from one of its results to the next."""
    difference: str = ""
    """The intended difference that it may show; it ends the program then."""


def _method(name: str, *arguments: Any, **options: Any) -> Callable[..., Any]:
    return lambda stream, _other: getattr(stream, name)(*arguments, **options)


def _with_other(name: str, *arguments: Any) -> Callable[..., Any]:
    return lambda stream, other: getattr(stream, name)(other, *arguments)


def _transformed_with(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda stream, other: stream.transformWith(function, other)


_wide = partial(Operation, is_ordered=False, is_narrow=False)

_NARROW = (
    Operation("map(increment)", "numbers", "numbers", _method("map", f.increment)),
    Operation("map(negate)", "numbers", "numbers", _method("map", f.negate)),
    Operation("filter(is_even)", "numbers", "numbers", _method("filter", f.is_even)),
    Operation("flatMap(thrice)", "numbers", "numbers", _method("flatMap", f.thrice)),
    Operation("flatMap(as_many)", "numbers", "numbers", _method("flatMap", f.as_many)),
    Operation("mapPartitions(evens)", "numbers", "numbers", _method("mapPartitions", f.evens)),
    Operation("map(keyed)", "numbers", "pairs", _method("map", f.keyed)),
    Operation("map(named)", "numbers", "pairs", _method("map", f.named)),
    Operation("map(oddly_keyed)", "numbers", "odd pairs", _method("map", f.oddly_keyed)),
    Operation("map(value_of)", "pairs", "numbers", _method("map", f.value_of)),
    Operation("filter(is_kept)", "pairs", "pairs", _method("filter", f.is_kept)),
    Operation("mapValues(increment)", "pairs", "pairs", _method("mapValues", f.increment)),
    Operation("flatMapValues(as_many)", "pairs", "pairs", _method("flatMapValues", f.as_many)),
    Operation("cache()", "numbers", "numbers", _method("cache")),
    Operation("union(other)", "numbers", "numbers", _with_other("union")),
)
_OF_PARTITIONS = (
    Operation("mapPartitions(total)", "numbers", "numbers", _method("mapPartitions", f.total)),
    Operation(
        "mapPartitionsWithIndex(with_index)",
        "numbers",
        "numbers",
        _method("mapPartitionsWithIndex", f.with_index),
    ),
    Operation("glom()", "numbers", "anything", _method("glom")),
    Operation("transform(indexed)", "numbers", "numbers", _method("transform", f.indexed)),
)
"""What looks at partitions or at places: they follow narrow operations only, as others leave both undefined."""
_WIDE = (
    _wide("repartition(3)", "numbers", "numbers", _method("repartition", 3)),
    _wide("count()", "numbers", "numbers", _method("count")),
    _wide("count()", "pairs", "numbers", _method("count")),
    _wide("reduce(add)", "numbers", "numbers", _method("reduce", f.add)),
    _wide("reduce(max)", "numbers", "numbers", _method("reduce", max)),
    _wide("countByValue()", "numbers", "pairs", _method("countByValue")),
    _wide("transform(distinct)", "numbers", "numbers", _method("transform", f.distinct)),
    _wide("transform(sorted_up)", "numbers", "numbers", _method("transform", f.sorted_up)),
    _wide("transform(crossed)", "numbers", "numbers", _method("transform", f.crossed)),
    _wide("transform(past_thresholds)", "numbers", "numbers", _method("transform", f.past_thresholds)),
    _wide("transform(two_branches)", "numbers", "numbers", _method("transform", f.two_branches)),
    _wide("transform(without_small)", "numbers", "numbers", _method("transform", f.without_small)),
    _wide("transform(sorted_keys_down)", "pairs", "pairs", _method("transform", f.sorted_keys_down)),
    _wide("transform(counted_by_key)", "pairs", "pairs", _method("transform", f.counted_by_key)),
    _wide("transform(joined_with_itself)", "pairs", "anything", _method("transform", f.joined_with_itself)),
    _wide("transformWith(both)", "numbers", "numbers", _transformed_with(f.both)),
    _wide("transformWith(only_left)", "pairs", "pairs", _transformed_with(f.only_left)),
    _wide("reduceByKey(add)", "pairs", "pairs", _method("reduceByKey", f.add)),
    _wide("reduceByKey(max, 3)", "pairs", "pairs", _method("reduceByKey", max, 3)),
    _wide("reduceByKey(add)", "odd pairs", "anything", _method("reduceByKey", f.add)),
    _wide("groupByKey()", "pairs", "anything", _method("groupByKey")),
    _wide("partitionBy(3)", "pairs", "pairs", _method("partitionBy", 3)),
    _wide(
        "combineByKey(listed, with_value, with_values)",
        "pairs",
        "anything",
        _method("combineByKey", f.listed, f.with_value, f.with_values),
    ),
    _wide("cogroup(other)", "pairs", "anything", _with_other("cogroup")),
    _wide("join(other)", "pairs", "anything", _with_other("join")),
    _wide("leftOuterJoin(other, 3)", "pairs", "anything", _with_other("leftOuterJoin", 3)),
    _wide("rightOuterJoin(other)", "pairs", "anything", _with_other("rightOuterJoin")),
    _wide("fullOuterJoin(other)", "pairs", "anything", _with_other("fullOuterJoin")),
)
_STATE = (
    _wide("updateStateByKey(running_total)", "pairs", "pairs", _method("updateStateByKey", f.running_total)),
    _wide("updateStateByKey(last_seen)", "pairs", "pairs", _method("updateStateByKey", f.last_seen)),
    _wide("updateStateByKey(seen_thrice)", "pairs", "anything", _method("updateStateByKey", f.seen_thrice)),
)
_WINDOWS = tuple((length, slide) for length in (1, 2, 3, 5) for slide in (1, 2, 3))


def _windowed(length: int, slide: int, seconds: Callable[[int], float]) -> tuple[Operation, ...]:
    """The operations over a window of so many batches."""
    where = (seconds(length), seconds(slide))
    make = partial(_wide, length=length, slide=slide)
    inverse = "keys that left" if length >= _INVERSE_SLIDES * slide else ""
    count = "emptied count" if length < _INVERSE_SLIDES * slide else ""
    shown = f"{length}, {slide}"
    return (
        make(f"window({shown})", "numbers", "numbers", _method("window", *where)),
        make(f"window({shown})", "pairs", "pairs", _method("window", *where)),
        make(
            f"countByWindow({shown})",
            "numbers",
            "numbers",
            _method("countByWindow", *where),
            difference=count,
        ),
        make(
            f"reduceByWindow(max, None, {shown})",
            "numbers",
            "numbers",
            _method("reduceByWindow", max, None, *where),
        ),
        make(
            f"reduceByWindow(add, subtract, {shown})",
            "numbers",
            "numbers",
            _method("reduceByWindow", f.add, f.subtract, *where),
            difference=inverse,
        ),
        make(
            f"countByValueAndWindow({shown})",
            "numbers",
            "pairs",
            _method("countByValueAndWindow", *where),
            difference=inverse,
        ),
        make(
            f"reduceByKeyAndWindow(max, None, {shown})",
            "pairs",
            "pairs",
            _method("reduceByKeyAndWindow", max, None, *where),
        ),
        make(
            f"reduceByKeyAndWindow(add, subtract, {shown})",
            "pairs",
            "pairs",
            _method("reduceByKeyAndWindow", f.add, f.subtract, *where),
            difference=inverse,
        ),
        make(
            f"groupByKeyAndWindow({shown})",
            "pairs",
            "anything",
            _method("groupByKeyAndWindow", *where),
            difference=inverse,
        ),
    )


class Program(NamedTuple):
    """A chain of operations, and what goes in."""

    number: int
    batches: Sequence[Sequence[int]]
    """Of the input, one a batch."""
    others: Sequence[Sequence[int]]
    """Of the second input, which joins and unions take."""
    operations: Sequence[Operation]

    @property
    def is_ordered(self) -> bool:
        """Whether the order of its elements is defined."""
        return all(operation.is_ordered for operation in self.operations)

    @property
    def differences(self) -> set[str]:
        """The intended differences that it may show."""
        return {operation.difference for operation in self.operations if operation.difference}

    def __str__(self) -> str:
        return "".join(f".{operation.name}" for operation in self.operations)

    def build(self, stream: Any, other: Any) -> Any:
        """The chain on a stream of either side, with its second input."""
        kind = "numbers"
        for operation in self.operations:
            stream = operation.build(stream, _like(kind, other))
            kind = operation.gives
        return stream


def _like(kind: str, other: Any) -> Any:
    return other if kind == "numbers" else other.map(f.keyed)


def program(seed: int, number: int, interval: float) -> Program:
    """The program of a number, for batches of so many seconds; equal for equal arguments.

    Example:
        >>> str(program(7, 0, 1.0)) == str(program(7, 0, 1.0))
        True
    """
    dice = random.Random(f"{seed} {number}")
    chosen: list[Operation] = []
    kind, is_narrow, slide = "numbers", True, 1
    for _ in range(dice.randint(1, _MOST_OPERATIONS)):
        fitting = [each for each in _choices(dice, is_narrow, slide, interval) if each.takes == kind]
        if not fitting:
            break
        operation = dice.choice(fitting)
        chosen.append(operation)
        kind, is_narrow = operation.gives, is_narrow and operation.is_narrow
        slide = max(slide, operation.slide)
        if operation.difference:
            break
    return Program(number, _numbers(dice), _numbers(dice), chosen)


def _choices(dice: random.Random, is_narrow: bool, slide: int, interval: float) -> list[Operation]:
    """What may come next: windows and state once in a while, and what looks at partitions after narrow operations only."""
    length, step = dice.choice(_WINDOWS)
    choices = [*_NARROW, *_WIDE]
    if is_narrow:
        choices += _OF_PARTITIONS
    if slide > 1:
        # Another slide than the other stream's: what combines the two is left to tests that say what is meant to happen.
        return [each for each in choices if "other" not in each.name and "transformWith" not in each.name]
    return [*choices, *_STATE, *_windowed(length, step, lambda batches: batches * interval)]


def _numbers(dice: random.Random) -> list[list[int]]:
    """Batches of small numbers; some are empty, and towards the end most are, so that windows empty again."""
    return [
        [
            dice.randrange(12)
            for _ in range(dice.choice((0, 1, 4, 9)) if batch < BATCHES // 2 else dice.choice((0, 0, 2)))
        ]
        for batch in range(BATCHES)
    ]


Results = Mapping[int, list[list[str]]]
"""By program its batches, each the elements as text."""
OPERATIONS = (*_NARROW, *_OF_PARTITIONS, *_WIDE, *_STATE)
