"""States and values of declared types: the collections that PySpark would pickle."""

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, StateSpec, StreamingContext
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError
from tests.engine.app import App


def counted(values: list[str], state: Counter[str] | None) -> Counter[str]:
    """How often each value came."""
    return (state or Counter()) + Counter(values)


def grouped(values: list[str], state: defaultdict[str, list[str]] | None) -> defaultdict[str, list[str]]:
    """The values by their first letter."""
    groups = defaultdict(list) if state is None else state
    for value in values:
        groups[value[0]].append(value)
    return groups


def last_two(values: list[str], state: deque[str] | None) -> deque[str]:
    """The last two values."""
    last = deque[str](maxlen=2) if state is None else state
    last.extend(values)
    return last


def turned(values: list[str], state: complex | None) -> complex:
    """A number that each value turns."""
    return (1j if state is None else state) * 2 ** len(values)


UPDATES: dict[str, tuple[Any, Callable[..., Any], str]] = {
    "Counter": (Counter[str], counted, "Counter({'xa': 2, 'xb': 1})"),
    "defaultdict": (
        defaultdict[str, list[str]],
        grouped,
        "defaultdict(<class 'list'>, {'x': ['xa', 'xb', 'xa']})",
    ),
    "deque": (deque[str], last_two, "deque(['xb', 'xa'], maxlen=2)"),
    "complex": (complex, turned, "8j"),
}
BATCHES = [[("k", "xa")], [("k", "xb"), ("k", "xa")]]


@pytest.mark.parametrize("kind", UPDATES)
def test_declared_collections_are_states(context: LocalContext, tmp_path: Path, kind: str) -> None:
    """A state that is a collection or a complex goes on after a restart as what it was, factory and length included."""
    declared, update, end = UPDATES[kind]

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        states = stream.updateStateByKey(update, name="states", keyType=str, stateType=declared)
        app.collect(states.mapValues(repr), "all")

    with App(context, tmp_path, job, BATCHES) as app:
        app.run().crash().run()

    assert app.out["all"][-1] == [("k", end)]


def test_declared_collections_are_values_of_windows(context: LocalContext, tmp_path: Path) -> None:
    """Counters reduce over a window, and leave it again, also after a restart."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        counts = stream.mapValues(lambda value: Counter([value])).reduceByKeyAndWindow(
            lambda x, y: x + y, None, 2, name="counts", keyType=str, valueType=Counter[str]
        )
        app.collect(counts.mapValues(repr), "all")

    with App(context, tmp_path, job, [*BATCHES, []]) as app:
        app.run().crash().run(2)

    assert app.out["all"][1:] == [
        [("k", "Counter({'xa': 2, 'xb': 1})")],
        [("k", "Counter({'xb': 1, 'xa': 1})")],
    ]


REFUSED: dict[str, Callable[[DStream[Any]], DStream[Any]]] = {
    "updateStateByKey": lambda s: s.updateStateByKey(counted, stateType=OrderedDict[str, int]),
    "mapWithState": lambda s: s.mapWithState(
        StateSpec.function(lambda k, v, state: v).stateType(OrderedDict)
    ),
    "reduceByKeyAndWindow": lambda s: s.reduceByKeyAndWindow(
        max, None, 2, keyType=str, valueType=OrderedDict[str, int]
    ),
    "groupByKeyAndWindow": lambda s: s.groupByKeyAndWindow(2, keyType=str, valueType=OrderedDict),
    "reduceByWindow": lambda s: s.reduceByWindow(max, None, 2, valueType=OrderedDict),
    "countByValueAndWindow": lambda s: s.countByValueAndWindow(2, keyType=range),
}


@pytest.mark.parametrize("operator", REFUSED)
def test_types_that_cannot_be_kept_are_refused_at_once(context: LocalContext, operator: str) -> None:
    """A declared type that the checkpoint cannot keep is refused when the operator is made, with those that work."""
    stream = StreamingContext(context, 1.0).queueStream([[]])

    with pytest.raises(
        ConfigurationError, match=r"is declared with (OrderedDict|range), which .*; declare one of None, bool"
    ):
        REFUSED[operator](stream)
