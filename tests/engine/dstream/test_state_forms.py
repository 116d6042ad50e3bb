"""The forms of updateStateByKey: with the time, over a whole shard, with states to begin with; and what is refused."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, StreamingContext
from engine.batch import Time
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError, StateVersionError, UserFunctionError
from engine.rdd.partitioner import HashPartitioner
from engine.testing import run_batches
from tests.engine.app import START_MS, App, collected

Keyed = tuple[Any, list[int], int | None]


def total(values: list[int], state: int | None) -> int:
    """Adds up."""
    return sum(values) + (state or 0)


def total_of_all(keys: Iterator[Keyed]) -> Iterable[tuple[Any, int]]:
    """The same over a whole shard; keys go at 100."""
    return ((key, sum(values) + (state or 0)) for key, values, state in keys if (state or 0) < 100)


def test_time_form_gets_batch_time_and_key(context: LocalContext, tmp_path: Path) -> None:
    """A function of four arguments gets the batch's time, the key, the new values and the state."""

    def update(time: Time, key: str, values: list[int], state: Any = None) -> Any:
        return int(time), type(time).__name__, key, values, state and state[0]

    got = collected(context, tmp_path, lambda s: s.updateStateByKey(update), [[("a", 1)], []])

    first, second = START_MS + 1_000, START_MS + 2_000
    assert got == [
        [("a", (first, "Time", "a", [1], None))],
        [("a", (second, "Time", "a", [], first))],
    ]


def test_default_arguments_change_no_form(context: LocalContext, tmp_path: Path) -> None:
    """A function that can be called with (values, state) is that form, whatever else it could take."""

    def update(values: list[int], state: int | None = None, *, factor: int = 2) -> int:
        return factor * sum(values) + (state or 0)

    assert collected(context, tmp_path, lambda s: s.updateStateByKey(update), [[("a", 1)], [("a", 2)]]) == [
        [("a", 2)],
        [("a", 6)],
    ]


@pytest.mark.parametrize("function", [lambda: 0, lambda _a, _b, _c: 0, lambda _a, _b, _c, _d, _e: 0])
def test_other_functions_are_refused(context: LocalContext, function: Any) -> None:
    """A function of none of the forms is refused when the stream is made, naming the forms."""
    stream = StreamingContext(context, 1.0).queueStream([[]])

    with pytest.raises(
        ConfigurationError, match=r"neither \(values, state\) nor \(time, key, values, state\)"
    ):
        stream.updateStateByKey(function)


def test_iterator_form_gives_the_keys_that_stay(context: LocalContext, tmp_path: Path) -> None:
    """A function of one argument gets every key of a shard with its values and state; keys it does not give are gone."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.updateStateByKey(total_of_all, rememberPartitioner=False), "all")

    batches = [[("a", 1), ("b", 60), ("a", 2)], [("b", 60)], [], [("b", 1), ("c", 1)]]
    with App(context, tmp_path, job, batches) as app:
        for _ in batches:
            app.run().crash()

    assert app.out["all"] == [
        [("a", 3), ("b", 60)],
        [("a", 3), ("b", 120)],
        [("a", 3)],
        [("a", 3), ("b", 1), ("c", 1)],
    ]


def test_iterator_form_that_stops_early_drops_the_rest(context: LocalContext, tmp_path: Path) -> None:
    """Keys that the function does not come to are not given, so they are gone."""
    got = collected(
        context,
        tmp_path,
        lambda s: s.updateStateByKey(lambda keys: islice(total_of_all(keys), 1)),
        [[("a", 1), ("b", 1), ("c", 1)]],
        shards=1,
    )

    assert len(got[0]) == 1


def test_iterator_form_changes_its_own_copies(context: LocalContext, tmp_path: Path) -> None:
    """A state that the function changes in place and does not give back stays as it was."""

    def spoil(keys: Iterator[tuple[str, list[int], list[int] | None]]) -> Iterator[tuple[str, list[int]]]:
        for key, values, state in keys:
            kept = list(state or values)
            (state or []).append(-1)
            yield key, kept

    assert (
        collected(context, tmp_path, lambda s: s.updateStateByKey(spoil), [[("a", 1)], [], []])
        == [[("a", [1])]] * 3
    )


def test_iterator_form_may_not_rename_keys(context: LocalContext) -> None:
    """A key that the function was not given is refused with operator, key and remedy."""
    with pytest.raises(
        UserFunctionError, match=r"operator 'totals': the iterator form gave key 'A', which it was not given"
    ):
        run_batches(
            lambda s: s.updateStateByKey(
                lambda keys: [(key.upper(), 1) for key, _, _ in keys], name="totals"
            ),
            [[("a", 1)]],
            context=context,
        )


def exhausted(*_: Any) -> Any:
    """Reads on where nothing is."""
    return next(iter(()))


@pytest.mark.parametrize("update", [lambda _v, _s: exhausted(), lambda keys: [exhausted() for _ in keys]])
def test_stop_iteration_is_an_error(context: LocalContext, update: Any) -> None:
    """A StopIteration that the function raises ends the batch, and not the shard in silence."""
    with pytest.raises(UserFunctionError, match="StopIteration"):
        run_batches(lambda s: s.updateStateByKey(update), [[("a", 1), ("b", 1)]], context=context)


# Initial states.


@pytest.mark.parametrize("form", ["list", "dict", "rdd"])
def test_initial_states_go_through_the_function(context: LocalContext, tmp_path: Path, form: str) -> None:
    """Keys with an initial state are known keys: in the first batch the function gets it, with [] where there is no value."""
    pairs = [("a", 10), ("b", 20)]
    given = {"list": pairs, "dict": dict(pairs), "rdd": context.parallelize(pairs, 3)}[form]

    def update(values: list[int], state: int | None) -> int | None:
        return None if state == 20 and not values else total(values, state) + 1

    got = collected(
        context,
        tmp_path,
        lambda s: s.updateStateByKey(update, initialRDD=given),
        [[("a", 1), ("c", 5)], [("b", 1)]],
    )

    assert got == [[("a", 12), ("c", 6)], [("a", 13), ("b", 2), ("c", 7)]]


def test_unchanged_initial_states_are_kept(context: LocalContext, tmp_path: Path) -> None:
    """An initial state that the first batch leaves as it is survives a restart."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.updateStateByKey(total, 2, [("a", 10), ("b", 0), ("n", None)]), "all")

    with App(context, tmp_path, job, [[], [("a", 1)]]) as app:
        app.run().crash().run()

    assert app.out["all"] == [[("a", 10), ("b", 0), ("n", 0)], [("a", 11), ("b", 0), ("n", 0)]]


def test_initial_states_count_once(context: LocalContext, tmp_path: Path) -> None:
    """They count in the first batch, also when it is cut off and runs again, and never after its commit."""
    initial = iter([[("a", 100)], [("a", 1_000)], [("a", 10_000), ("z", 1)]])

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.updateStateByKey(total, initialRDD=next(initial), name="totals"), "all")

    with App(context, tmp_path, job, [[("a", 1)]] * 3) as app:
        app.crash_in = "all"
        with pytest.raises(UserFunctionError):
            app.run()
        app.crash().run().crash().run()

    assert app.out["all"] == [[("a", 101)], [("a", 1_001)], [("a", 1_002)], [("a", 1_003)]]


def test_a_list_of_initial_states_is_taken_as_it_is(context: LocalContext, tmp_path: Path) -> None:
    """What happens to the list after the stream was made changes no state, and of two states of a key the first counts."""
    pairs = [("a", 1), ("a", 2)]

    def build(stream: DStream[Any]) -> DStream[Any]:
        states = stream.updateStateByKey(total, initialRDD=pairs)
        pairs.clear()
        return states

    assert collected(context, tmp_path, build, [[]]) == [[("a", 1)]]


@pytest.mark.parametrize("partitions", [1, 3, HashPartitioner(2)])
def test_partitions_are_accepted(context: LocalContext, tmp_path: Path, partitions: Any) -> None:
    """A number of partitions or a partitioner changes no state."""
    got = collected(
        context, tmp_path, lambda s: s.updateStateByKey(total, partitions), [[("a", 1)], [("a", 1)]]
    )

    assert got == [[("a", 1)], [("a", 2)]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"numPartitions": 0}, "numPartitions is 0; give a number of at least 1 or a partitioner"),
        ({"numPartitions": "two"}, "numPartitions is 'two'; give a number"),
        ({"initialRDD": 5}, "the initial state of .* is 5; give an RDD, a list or a dict"),
    ],
)
def test_wrong_arguments_are_refused(context: LocalContext, arguments: dict[str, Any], message: str) -> None:
    """An argument that is no number of partitions or no states is refused when the stream is made."""
    stream = StreamingContext(context, 1.0).queueStream([[]])

    with pytest.raises(ConfigurationError, match=message):
        stream.updateStateByKey(total, **arguments)


# What the volume holds.


@pytest.mark.parametrize(
    ("types", "pair"),
    [({"stateType": str}, ("a", 1)), ({"keyType": int}, ("a", 1)), ({"stateType": list[str]}, ("a", [1]))],
)
def test_state_of_another_than_the_declared_type_is_refused_at_once(
    context: LocalContext, types: dict[str, Any], pair: tuple[str, Any]
) -> None:
    """A key or state that would not come back at a restart ends the batch that made it, with operator, value and remedy."""
    with pytest.raises(
        UserFunctionError, match=r"operator 'last' holds .* not of the declared types .*; declare keyType="
    ):
        run_batches(
            lambda s: s.updateStateByKey(lambda values, _state: values[-1], name="last", **types),
            [[pair]],
            context=context,
        )


def test_another_kind_of_operator_under_a_name_is_refused(context: LocalContext, tmp_path: Path) -> None:
    """A name that belonged to updateStateByKey is refused to a window at the start, with both kinds."""
    jobs = iter(
        [
            lambda s: s.updateStateByKey(total, name="totals"),
            lambda s: s.reduceByKeyAndWindow(lambda x, y: x + y, None, 2, name="totals"),
        ]
    )

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(next(jobs)(stream), "all")

    with App(context, tmp_path, job, [[("a", 1)]]) as app:
        app.run()
        with pytest.raises(
            StateVersionError,
            match=r"'totals' as updateStateByKey \(lineage .*\); in this job it is reduceByKeyAndWindow",
        ):
            app.crash()
