"""The operators between an input and a stream that puts records aside, as tasks run them.

Owns: Step, stepped, whole_records.
Never: where a record lies; the source that reads it knows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from engine.rdd.fuse import chain_of

PutAside = Callable[[str, Exception], None]
"""Takes the name of the stream and what its function raised; the record is the one that is under way."""


class Step(NamedTuple):
    """One operator that takes elements one by one."""

    kind: str
    """As `fuse.FUSED` has it."""
    function: Callable[..., Any]
    aside: str
    """Name of the stream when a record on which the function raises is put aside; empty when it fails the task."""


def stepped(steps: Sequence[Step], elements: Iterator[Any], put_aside: PutAside) -> Iterator[Any]:
    """The elements after every step, one at a time: when a function raises, its record is the last that was taken.

    Example:
        >>> lines = iter(["1", "x", "3"])
        >>> steps = [Step("map", int, "numbers"), Step("map", abs, "")]
        >>> list(stepped(steps, lines, lambda name, error: print(name, type(error).__name__)))
        numbers ValueError
        [1, 3]
    """
    for is_aside, group in groupby(steps, key=lambda step: bool(step.aside)):
        own = list(group)
        if is_aside:
            for step in own:
                elements = _ASIDE[step.kind](step, elements, put_aside)
        else:
            elements = chain_of(tuple(step.kind for step in own), [step.function for step in own], elements)
    return elements


_SEVERAL = frozenset({"flatMap", "flatMapValues"})
"""Kinds that may make several elements of one."""


def whole_records(steps: Sequence[Step], records: Iterator[Any], put_aside: PutAside) -> Iterator[Any]:
    """The elements of the records that are not put aside: of one that is, none, also when only one of its elements failed.

    Example:
        >>> steps = [Step("flatMap", str.split, ""), Step("map", int, "numbers")]
        >>> list(whole_records(steps, iter(["1 x 3", "4"]), lambda name, error: print(name, type(error).__name__)))
        numbers ValueError
        [4]
    """
    last = max((at for at, step in enumerate(steps) if step.aside), default=0)
    if not any(step.kind in _SEVERAL for step in steps[:last]):
        return stepped(steps, records, put_aside)
    return _one_by_one(steps, records, put_aside)


def _one_by_one(steps: Sequence[Step], records: Iterator[Any], put_aside: PutAside) -> Iterator[Any]:
    failures = 0

    def note(name: str, error: Exception) -> None:
        nonlocal failures
        failures += 1
        put_aside(name, error)

    for record in records:
        before = failures
        made = list(stepped(steps, iter((record,)), note))
        if failures == before:
            yield from made


def _map(step: Step, elements: Iterator[Any], put_aside: PutAside) -> Iterator[Any]:
    function = step.function
    for element in elements:
        try:
            made = function(element)
        except Exception as error:  # noqa: BLE001 - a user's function may raise anything; here and below its record is put aside
            put_aside(step.aside, error)
        else:
            yield made


def _filter(step: Step, elements: Iterator[Any], put_aside: PutAside) -> Iterator[Any]:
    function = step.function
    for element in elements:
        try:
            is_kept = bool(function(element))
        except Exception as error:  # noqa: BLE001 - as above
            put_aside(step.aside, error)
        else:
            if is_kept:
                yield element


def _flat_map(step: Step, elements: Iterator[Any], put_aside: PutAside) -> Iterator[Any]:
    function = step.function
    for element in elements:
        try:
            # All of them before the first goes on: a function that fails half way gives none.
            made = list(function(element))
        except Exception as error:  # noqa: BLE001 - as above
            put_aside(step.aside, error)
        else:
            yield from made


def _map_values(step: Step, elements: Iterator[Any], put_aside: PutAside) -> Iterator[Any]:
    function = step.function
    for element in elements:
        try:
            key, value = element
            made = key, function(value)
        except Exception as error:  # noqa: BLE001 - as above
            put_aside(step.aside, error)
        else:
            yield made


_ASIDE: Mapping[str, Callable[[Step, Iterator[Any], PutAside], Iterator[Any]]] = {
    "map": _map,
    "filter": _filter,
    "flatMap": _flat_map,
    "mapValues": _map_values,
}
