"""Each user function is shipped once while it stays as it is, and let go with its last user."""

import gc
import threading
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, StreamingContext
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError
from engine.rdd.functions import FunctionTable
from engine.rdd.task import TaskContext
from tests.engine.app import App


def adder(n: int) -> Any:
    """A new function each time, equal for equal n."""
    return lambda x: x + n


@pytest.mark.slow
def test_function_is_shipped_once_to_each_executor(tmp_path: Path) -> None:
    """The first batches ship each function once to each executor that needs it, and later ones ship none."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        counts = stream.map(lambda n: (n % 3, n)).reduceByKey(lambda x, y: x + y)
        app.collect(counts.updateStateByKey(lambda values, state: sum(values) + (state or 0)), "all")

    with (
        LocalContext("local[2]", "test") as context,
        App(context, tmp_path, job, [list(range(10))] * 6) as app,
    ):
        shipped: list[int] = []
        payload = context._functions.payload
        context._functions.payload = lambda number: shipped.append(number) or payload(number)  # type: ignore[method-assign]
        app.run(2)
        after_two = list(shipped)
        app.run(4)

    assert shipped == after_two
    assert len(set(shipped)) > 3
    assert max(map(shipped.count, shipped)) == 2


def test_equal_functions_are_one_entry() -> None:
    """Two functions of equal bytes have one number, others have their own."""
    table = FunctionTable()
    one, same, other = adder(1), adder(1), adder(2)

    assert table.reference(one) == table.reference(same)
    assert table.reference(other) != table.reference(one)


def test_function_is_released_with_its_last_user() -> None:
    """A number is released when every function of its bytes is gone, and then once."""
    table = FunctionTable()
    one, same = adder(1), adder(1)
    number = table.reference(one)
    table.reference(same)
    del one
    gc.collect()
    assert table.take_released() == []
    del same
    gc.collect()

    assert table.take_released() == [number]
    assert table.take_released() == []


def test_number_never_returns_for_other_bytes() -> None:
    """A number that was released is not given again, nor is a new function taken for one that is gone."""
    table = FunctionTable()
    numbers = set()
    for n in range(200):
        # Each function may get the memory address of the one before it.
        numbers.add(table.reference(adder(n)))

    assert len(numbers) == 200
    assert table.payload(table.reference(adder(1_000)))


def test_released_functions_leave_the_executors(local_two: LocalContext) -> None:
    """An executor forgets functions that the driver released."""

    def functions_there() -> int:
        return local_two.parallelize([0], 1).mapPartitions(_functions_of_executor).collect()[0]

    functions_there()
    before = functions_there()
    for n in range(50):
        local_two.parallelize([1], 1).map(adder(n)).collect()
    gc.collect()
    local_two.parallelize([1], 1).collect()

    assert functions_there() <= before + 2


@pytest.mark.parametrize("master", ["local", "local[2]"])
def test_a_changing_variable_does_not_fill_the_executors(master: str, local_two: LocalContext) -> None:
    """A function whose bytes are others in each job is one function in an executor."""
    with LocalContext("local") as alone:
        context = alone if master == "local" else local_two
        held = [0.0]

        def shifted(n: int) -> float:
            return n + held[0]

        def functions_there() -> int:
            return int(context.parallelize([0], 1).mapPartitions(_functions_of_executor).collect()[0])

        functions_there()
        before = functions_there()
        for n in range(50):
            held[0] = n / 2
            assert context.parallelize([1], 1).map(shifted).collect() == [1 + n / 2]

        assert functions_there() <= before + 2


def _functions_of_executor(_elements: Any) -> list[int]:
    return [TaskContext.current()._runtime.functions.count]


def test_a_resource_is_made_once_though_its_maker_goes_by_value(local_two: LocalContext) -> None:
    """A maker that is loaded anew in each task gives the object that the executor has."""
    held = [0]

    def made() -> list[int]:
        return list(held)

    def used(n: int) -> int:
        kept = TaskContext.current().resource(made)
        kept.append(n)
        return len(kept)

    assert sorted(local_two.parallelize(range(4), 4).map(used).collect()) == [2, 2, 3, 3]


def test_objects_without_weak_references_are_functions_too(local_two: LocalContext) -> None:
    """A callable that cannot be watched, such as an itemgetter, is kept and works."""
    rdd = local_two.parallelize([("a", 1)])

    assert rdd.map(itemgetter(1)).map(partial(max, 5)).map(str).collect() == ["5"]


def test_what_cannot_be_serialised_is_refused_by_name(local_two: LocalContext) -> None:
    """A function that captures what cannot travel is refused with its name, the cause and the remedy."""
    lock = threading.Lock()

    def uses_a_lock(n: int) -> int:
        with lock:
            return n

    with pytest.raises(
        ConfigurationError,
        match=r"uses_a_lock cannot be shipped to the executors .*make what it captures picklable",
    ):
        local_two.parallelize([1]).map(uses_a_lock).collect()


@pytest.mark.parametrize("held", ["context", "rdd"])
def test_what_only_the_driver_has_is_named(context: LocalContext, held: str) -> None:
    """A function that refers to a context or an RDD is refused with its name, what it refers to, and what to do."""
    there = {"context": context, "rdd": context.range(2)}[held]

    def uses_it(_: int) -> str:
        return str(there)

    with pytest.raises(
        ConfigurationError, match=r"uses_it cannot be shipped .*reference a \w+ from .*; use it in the driver"
    ):
        context.range(2).map(uses_it).collect()
