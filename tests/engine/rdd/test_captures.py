"""A capture tells whether a function's pickle is still what it was, and whether tasks could change what it holds."""

import operator
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from engine.rdd.captures import captured
from engine.rdd.functions import FunctionTable
from engine.rdd.serializers import dump_by_value, load
from tests.engine.app import CrashError

scale = 1


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


def recursive() -> Callable[[int], int]:
    """A function that captures itself."""

    def factorial(n: int) -> int:
        return 1 if n == 0 else n * factorial(n - 1)

    return factorial


@pytest.mark.parametrize(
    "function",
    [
        named,
        len,
        operator.add,
        str.upper,
        operator.itemgetter(1),
        nested(3),
        nested((1, "a", None)),
        nested(nested(2)),
        nested(named),
        partial(named, 1),
        partial(nested(2)),
        of_global(),
        recursive(),
        Scaled,
        nested(list[int]),
    ],
    ids=repr,
)
def test_what_cannot_change_is_known(function: Any) -> None:
    """A function that holds nothing that can change is as it was, and one copy of it serves all tasks."""
    before, after = captured(function), captured(function)

    assert after.is_as(before)
    assert after.is_fixed


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
        nested(Counter()),
        nested(CrashError()),
        nested(list(range(1_000))),
    ],
    ids=lambda function: repr(function)[:40],
)
def test_what_a_task_can_change_is_loaded_for_each(function: Any) -> None:
    """A function that holds what a task can change is not fixed."""
    assert not captured(function).is_fixed


@pytest.mark.parametrize(
    "value", [Counter("a"), CrashError(), list(range(1_000))], ids=["a subclass", "an error", "long"]
)
def test_what_is_not_understood_equals_nothing(value: Any) -> None:
    """A function that holds what may pickle otherwise without a trace is never taken for what it was."""
    function = nested(value)

    assert not captured(function).is_as(captured(function))


def test_nothing_of_the_user_is_called() -> None:
    """An object that raises when it is looked at is not understood, and no error."""

    class Proxy:
        @property
        def __class__(self) -> Any:
            raise RuntimeError("nothing is bound")

        @__class__.setter
        def __class__(self, value: Any) -> None:
            raise RuntimeError(value)

    assert captured(nested(Proxy())).leaves is None


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
    """A capture after a change is not as the one before, nor is the number in the table."""
    function, table = nested(held), FunctionTable()
    before, number = captured(function), table.reference(function)
    change(held)

    assert not captured(function).is_as(before)
    assert table.reference(function) != number


def test_a_global_that_changes_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function by value is another one when a global that it reads was bound anew; one by name is not."""
    function, table = of_global(), FunctionTable()
    number, of_named = table.reference(function), table.reference(named)
    monkeypatch.setattr("tests.engine.rdd.test_captures.scale", 7)

    assert table.reference(function) != number
    assert load(table.payload(table.reference(function)).payload)(2) == 14
    assert table.reference(named) == of_named


def test_a_name_that_is_taken_over_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that its module no longer has under its name goes by value from then on."""
    before = captured(named)
    own = named
    monkeypatch.setattr("tests.engine.rdd.test_captures.named", len)

    assert not captured(own).is_as(before)


def test_a_class_by_value_is_seen_to_change() -> None:
    """A function with a class of no module sees an attribute of the class that was bound anew."""
    made = type("Made", (), {"__module__": "__main__", "size": 1, "get": lambda self: self.size})
    function, table = nested(made), FunctionTable()
    number = table.reference(function)

    assert table.reference(function) == number
    assert captured(function).is_as(captured(function))
    made.size = 2  # type: ignore[attr-defined]
    assert table.reference(function) != number


def test_unchanged_functions_are_not_serialised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only functions that may have changed are serialised again; equal bytes keep their number."""
    serialised: list[Any] = []

    def noted(function: Any) -> bytes:
        serialised.append(function)
        return dump_by_value(function)

    monkeypatch.setattr("engine.rdd.functions.dump_by_value", noted)
    table, unchanged, unknown = FunctionTable(), nested(2), nested(Counter("a"))
    numbers = {(table.reference(unchanged), table.reference(unknown)) for _ in range(3)}

    assert len(numbers) == 1
    assert serialised.count(unchanged) == 1
    assert serialised.count(unknown) == 3


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
