"""A user's function that changes its input in place harms nobody: no other output, batch, retry or window sees it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, StreamingContext
from engine.dstream.dstream import DStream
from engine.errors import UserFunctionError
from tests.engine.app import App, Job


def spoil(value: list[Any]) -> list[Any]:
    """Changes a list in place."""
    value.append("spoiled")
    return value


def extend(left: list[Any], right: list[Any]) -> list[Any]:
    """Joins two lists in place, as an impatient combiner does."""
    left += right
    right.append("spoiled")
    return left


def remove(left: list[Any], right: list[Any]) -> list[Any]:
    """Takes a list out of another in place."""
    del left[: len([item for item in right if item != "spoiled"])]
    right.append("spoiled")
    return left


def outputs(context: LocalContext, folder: Path, job: Job, batches: list[Any]) -> dict[str, list[Any]]:
    """What each output saw after all batches."""
    with App(context, folder, job, batches) as app:
        return app.run(len(batches)).out


def test_elements_are_each_outputs_own(context: LocalContext, tmp_path: Path) -> None:
    """What one output does to an element is not seen by the next one, nor by the driver's own list."""
    batches = [[[1], [2]], [[3]]]

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.map(spoil), "first")
        app.collect(stream, "second")

    out = outputs(context, tmp_path, job, batches)

    assert out["second"] == batches == [[[1], [2]], [[3]]]


def test_cached_elements_are_each_readers_own(context: LocalContext, tmp_path: Path) -> None:
    """What one reader does to a cached element is not seen by the next one."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        cached = stream.map(lambda n: {"n": [n]}).cache()
        app.collect(cached.map(lambda record: spoil(record["n"])), "first")
        app.collect(cached.map(lambda record: record["n"]), "second")
        app.collect(cached.union(cached).map(lambda record: spoil(record["n"])), "third")

    out = outputs(context, tmp_path, job, [[1, 2]])

    assert out["second"] == [[[1], [2]]]
    assert out["third"] == [[[1, "spoiled"], [1, "spoiled"], [2, "spoiled"], [2, "spoiled"]]]


@pytest.mark.parametrize(
    "reduce",
    [
        lambda s: s.reduceByKey(extend),
        lambda s: s.reduceByKey(extend, 1),
        lambda s: s.groupByKey().mapValues(lambda values: spoil(values[0])),
        lambda s: s.join(s).mapValues(lambda pair: extend(*pair)),
    ],
    ids=["reduceByKey", "one partition", "groupByKey", "join"],
)
def test_combiners_may_work_in_place(
    context: LocalContext, tmp_path: Path, reduce: Callable[[DStream[Any]], DStream[Any]]
) -> None:
    """A combiner that changes both of its arguments changes nobody's elements, cached or not."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        cached = stream.map(lambda pair: pair).cache()
        for name, source in (("plain", stream), ("cached", cached)):
            app.collect(reduce(source), f"{name} reduced")
            app.collect(reduce(source), f"{name} reduced again")
            app.collect(source, name)

    batch = [("a", [1]), ("a", [2]), ("b", [3])]
    out = outputs(context, tmp_path, job, [batch])

    for name in ("plain", "cached"):
        assert out[name] == [batch]
        assert out[f"{name} reduced again"] == out[f"{name} reduced"]


def test_reduced_lists_hold_each_value_once(context: LocalContext, tmp_path: Path) -> None:
    """A combiner in place gives what a pure one gives."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(
            stream.reduceByKey(extend).mapValues(lambda values: [v for v in values if v != "spoiled"]), "all"
        )

    out = outputs(context, tmp_path, job, [[("a", [n]) for n in range(6)]])

    assert out["all"] == [[("a", [0, 1, 2, 3, 4, 5])]]


def test_states_may_be_changed_in_place(context: LocalContext, tmp_path: Path) -> None:
    """An update that changes the state in place, and a reader that does, leave the state as the update returned it."""

    def update(values: list[int], state: list[int] | None) -> list[int]:
        known = state if state is not None else []
        known += values
        return known

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        states = stream.updateStateByKey(update)
        app.collect(states.mapValues(spoil), "spoiled")
        app.collect(states, "states")

    out = outputs(context, tmp_path, job, [[("a", 1)], [("a", 2)], []])

    assert out["states"] == [[("a", [1])], [("a", [1, 2])], [("a", [1, 2])]]


def test_change_without_return_is_no_update(context: LocalContext, tmp_path: Path) -> None:
    """A state that the update changed and did not return is gone, and not the changed one."""

    def update(values: list[int], state: list[int] | None) -> list[int] | None:
        if state is not None:
            state += values
            return None
        return values

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.updateStateByKey(update), "all")

    assert outputs(context, tmp_path, job, [[("a", 1)], [("a", 2)], [("a", 3)]])["all"] == [
        [("a", [1])],
        [],
        [("a", [3])],
    ]


def test_values_kept_in_state_are_its_own(context: LocalContext, tmp_path: Path) -> None:
    """A state that holds an element of the batch does not change with what others do to that element."""
    shared: list[Any] = [0]

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        cached = stream.cache()
        states = cached.updateStateByKey(lambda values, state: values[0] if values else state)
        app.collect(cached.mapValues(spoil), "spoiled")
        app.collect(states, "states")

    out = outputs(context, tmp_path, job, [[("a", shared)], []])

    assert out["states"] == [[("a", [0])], [("a", [0])]]
    assert shared == [0]


@pytest.mark.parametrize("inverse", [None, remove], ids=["reduce", "inverse"])
def test_window_parts_may_be_reduced_in_place(
    context: LocalContext, tmp_path: Path, inverse: Callable[[Any, Any], Any] | None
) -> None:
    """A window function that changes both of its arguments spoils neither the parts nor the next windows."""

    def clean(values: list[Any]) -> list[Any]:
        return [value for value in values if value != "spoiled"]

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        windows = stream.reduceByKeyAndWindow(extend, inverse, 3)
        app.collect(windows.mapValues(spoil).mapValues(len), "spoiled")
        app.collect(windows.mapValues(clean), "windows")

    out = outputs(context, tmp_path, job, [[("a", [n])] for n in range(6)])

    assert out["windows"] == [[("a", list(range(max(0, n - 2), n + 1)))] for n in range(6)]


@pytest.mark.parametrize("is_stateful", [False, True], ids=["ranges", "parts"])
def test_windows_may_be_changed_in_place(context: LocalContext, tmp_path: Path, is_stateful: bool) -> None:
    """A reader that changes the elements of a window spoils neither another reader nor the next window."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        # Behind a stateful operator a window keeps its elements, elsewhere it reads them again.
        before = (
            stream.updateStateByKey(lambda values, _state: values[0] if values else None)
            if is_stateful
            else stream
        )
        windows = before.window(2)
        app.collect(windows.mapValues(spoil), "spoiled")
        app.collect(windows, "windows")

    out = outputs(context, tmp_path, job, [[("a", [n])] for n in range(4)])

    assert out["windows"] == [[("a", [0])], *([("a", [n]), ("a", [n + 1])] for n in range(3))]


def test_retry_sees_what_the_first_run_saw(context: LocalContext, tmp_path: Path) -> None:
    """A batch that runs again after a failed output gets elements, cache, state and window as the first run got them."""

    def update(values: list[int], state: list[int] | None) -> list[int]:
        return spoil([*(state or []), *values])[:-1]

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        cached = stream.map(lambda pair: pair).cache()
        app.collect(cached.mapValues(lambda n: spoil([n])), "cached")
        app.collect(stream.updateStateByKey(update, name="states").mapValues(spoil), "states")
        app.collect(
            stream.mapValues(lambda n: [n])
            .reduceByKeyAndWindow(extend, remove, 2, name="windows")
            .mapValues(spoil),
            "windows",
        )

    with App(context, tmp_path, job, [[("a", 1)], [("a", 2)], [("a", 3)]]) as app:
        app.run()
        app.crash_in = "windows"
        with pytest.raises(UserFunctionError):
            app.run()
        app.crash().run()

    for seen in app.out.values():
        assert seen[1] == seen[2]
    assert app.out["states"][3] == [("a", [1, 2, 3, "spoiled"])]
