"""A function is seen to change by its bytes, and one copy of it serves all tasks only where none can change what it holds."""

import operator
import re
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import cloudpickle
import msgspec
import pytest

from engine.checkpoint.codec import StateCodec
from engine.rdd.captures import is_unchanging
from engine.rdd.functions import FunctionTable
from engine.rdd.operators import ReduceByKey
from engine.rdd.serializers import dump_by_value, load
from engine.sources.decoders import json_decoder
from tests.engine.app import CrashError

scale = 1
total = 0


seen: list[int] = []


class Viewed(msgspec.Struct):
    """A record."""

    page: str


class Scaled:
    """A callable with an attribute."""

    def __init__(self, by: Any) -> None:
        self.by = by

    def __call__(self, n: int) -> Any:
        """Scaled."""
        return n * self.by


def named(n: int) -> int:
    """A function that executors find by its name."""
    return n * scale


def nested(by: Any) -> Callable[[int], Any]:
    """A function that goes by value."""
    return lambda n: n * by


def of_global() -> Callable[[int], int]:
    """A function by value that reads a global."""
    return lambda n: n * scale


def counting() -> Callable[[int], int]:
    """A function that binds what it captured anew."""
    count = 0

    def add(n: int) -> int:
        nonlocal count
        count += n
        return count

    return add


def with_default() -> Callable[[int], int]:
    """A function with a default that can change."""
    return lambda n, held=[0]: n + held[0]  # type: ignore[misc]


def with_attribute() -> Callable[[int], int]:
    """A function with an attribute."""

    def add(n: int) -> int:
        return n

    add.held = []  # type: ignore[attr-defined]
    return add


def of_global_list() -> Callable[[int], int]:
    """A function by value that reads a list among its globals."""
    return lambda n: n + len(seen)


def counting_on_itself() -> Callable[[int], int]:
    """A function that sets its own attribute."""

    def add(n: int) -> int:
        add.count = getattr(add, "count", 0) + n  # type: ignore[attr-defined]
        return int(add.count)  # type: ignore[attr-defined]

    return add


def counting_in_a_global() -> Callable[[int], int]:
    """A function that binds a global anew."""

    def add(n: int) -> int:
        global total  # noqa: PLW0603 - what the test is about
        total += n
        return total

    return add


def counting_inside() -> Callable[[int], int]:
    """A function that has another one bind anew what it captured."""
    count = 0

    def add(n: int) -> int:
        def more() -> None:
            nonlocal count
            count += n

        more()
        return count

    return add


def _without_address(function: Any) -> str:
    """A name for the test that is the same in each process."""
    return re.sub(r" at 0x\w+", "", repr(function))[:40]


@pytest.mark.parametrize(
    "function",
    [
        named,
        len,
        operator.add,
        nested(3),
        nested((1, "a", None)),
        nested(named),
        nested(operator),
        ReduceByKey(nested(2)),
        StateCodec("totals", str, list[int] | None),
        of_global(),
        Scaled,
        nested(list[int]),
        json_decoder(Viewed),
    ],
    ids=_without_address,
)
def test_what_cannot_change_is_loaded_once(function: Any) -> None:
    """A function that holds nothing that can change is unchanging when it is loaded."""
    assert is_unchanging(load(dump_by_value(function)))


@pytest.mark.parametrize(
    "function",
    [
        nested([1]),
        nested({"a": {1}}),
        nested(Scaled(1)),
        Scaled(1),
        Scaled(1).__call__,
        [].append,
        counting(),
        counting_on_itself(),
        counting_in_a_global(),
        counting_inside(),
        with_default(),
        with_attribute(),
        of_global_list(),
        nested(nested(2)),
        nested(json_decoder(Viewed)),
        partial(nested(2)),
        ReduceByKey(nested([1])),
        nested(Counter()),
        nested(CrashError()),
        nested(list(range(1_000))),
    ],
    ids=_without_address,
)
def test_what_a_task_can_change_is_loaded_for_each(function: Any) -> None:
    """A function that holds what a task can change is not fixed."""
    assert not is_unchanging(load(dump_by_value(function)))


def test_a_class_of_a_module_that_goes_by_value_can_change() -> None:
    """Where the user asked for a module by value, loading sets its classes anew, so they are loaded for each task."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        assert not is_unchanging(load(dump_by_value(Scaled)))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_nothing_of_the_user_is_called() -> None:
    """An object that raises when it is looked at counts as changing, and is no error."""

    class Proxy:
        @property
        def __class__(self) -> Any:
            raise RuntimeError("nothing is bound")

        @__class__.setter
        def __class__(self, value: Any) -> None:
            raise RuntimeError(value)

    assert not is_unchanging(nested(Proxy()))


def _changed_list(held: Any) -> None:
    held.append(1)


def _changed_attribute(held: Any) -> None:
    held.by = 5.5


def _changed_inside(held: Any) -> None:
    held["a"][0] = (9.5,)


@pytest.mark.parametrize(
    ("held", "change"),
    [([], _changed_list), (Scaled(1), _changed_attribute), ({"a": [(1,)]}, _changed_inside)],
    ids=["list", "attribute", "inside"],
)
def test_a_change_is_seen(held: Any, change: Callable[[Any], None]) -> None:
    """A function of which anything has changed has another number, and one of which nothing has keeps its own."""
    function, table = nested(held), FunctionTable()
    number = table.reference(function)

    assert table.reference(function) == number
    change(held)
    assert table.reference(function) != number


def test_a_global_that_changes_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function by value is another one when a global that it reads was bound anew; one by name is not."""
    function, table = of_global(), FunctionTable()
    number, of_named = table.reference(function), table.reference(named)
    monkeypatch.setattr("tests.engine.rdd.test_captures.scale", 7)

    assert table.reference(function) != number
    assert load(table.payload(table.reference(function)))(2) == 14
    assert table.reference(named) == of_named


def test_a_name_that_is_taken_over_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that its module no longer has under its name goes by value from then on."""
    table, own = FunctionTable(), named
    number = table.reference(own)
    monkeypatch.setattr("tests.engine.rdd.test_captures.named", len)

    assert table.reference(own) != number


def test_a_class_by_value_is_seen_to_change() -> None:
    """A function with a class of no module sees an attribute of the class that was bound anew."""
    made = type("Made", (), {"__module__": "__main__", "size": 1, "get": lambda self: self.size})
    function, table = nested(made), FunctionTable()
    number = table.reference(function)

    assert table.reference(function) == number
    made.size = 2  # type: ignore[attr-defined]
    assert table.reference(function) != number


def test_functions_of_a_changing_variable_are_released() -> None:
    """The bytes before a change are let go: the table holds one entry for a function, whatever it held before."""
    table, held = FunctionTable(), [0.0]
    function = nested(held)
    numbers = []
    for n in range(50):
        held[0] = n + 0.5
        numbers.append(table.reference(function))

    assert len(set(numbers)) == 50
    assert table.take_released() == numbers[:-1]
    assert len(table._payloads) == 1


def test_functions_without_weak_references_are_forgotten_in_time() -> None:
    """Of callables that cannot be watched the table remembers a bounded number from one stage to the next."""
    table = FunctionTable()
    for n in range(600):
        table.begin().number(operator.itemgetter(n))
    table.begin()

    assert len(table._payloads) <= 256
