"""mapWithState: what its function sees, what it gives, and which states it begins with."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine import LocalContext, State, StateSpec, StreamingContext
from engine.batch import Time
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError, StateVersionError, UserFunctionError
from engine.rdd.partitioner import HashPartitioner
from engine.testing import run_batches
from tests.engine.app import START_MS, App
from tests.engine.dstream.mapped import job_of, running, shown


def test_each_record_is_one_call_in_the_order_of_the_batch(context: LocalContext) -> None:
    """The function is called once for each record, those of a key in the order of the batch, and gives an element each."""
    batch = [(key, n) for n in range(20) for key in "ab"]
    (got,) = run_batches(lambda s: s.mapWithState(StateSpec.function(running)), [batch], context=context)

    for key in "ab":
        assert [pair for pair in got if pair[0] == key] == [(key, n * (n + 1) // 2) for n in range(20)]


def test_idle_keys_are_not_called(context: LocalContext) -> None:
    """A key without records costs no call, and its state stays."""
    calls = context.accumulator(0)

    def counted(key: Any, value: int, state: State[int]) -> Any:
        calls.add(1)
        return running(key, value, state)

    spec = StateSpec.function(counted)
    got = run_batches(lambda s: s.mapWithState(spec), [[("a", 1), ("b", 1)], [("a", 1)], []], context=context)

    assert [sorted(batch) for batch in got] == [[("a", 1), ("b", 1)], [("a", 2)], []]
    assert calls.value == 3


def test_none_is_an_element_of_the_form_without_time(context: LocalContext) -> None:
    """A function of (key, value, state) gives an element for each record, also when that is None."""
    spec = StateSpec.function(lambda _key, _value, _state: None)

    assert run_batches(lambda s: s.mapWithState(spec), [[("a", 1), ("b", 2)]], context=context) == [
        [None, None]
    ]


def test_none_is_no_element_of_the_form_with_time(context: LocalContext) -> None:
    """A function of (time, key, value, state) gets the batch time, and gives no element by None."""
    spec = StateSpec.function(
        lambda time, key, value, _state: (int(time), type(time), key) if value else None
    )
    got = run_batches(lambda s: s.mapWithState(spec), [[("a", 1), ("a", 0)]], context=context)

    assert got == [[(START_MS + 1_000, Time, "a")]]


@pytest.mark.parametrize(
    ("function", "takes_time"),
    [
        (lambda _key, _value, _state: 0, False),
        (lambda _key, _value, _state, _more=1: 0, False),
        (lambda *_all: 0, False),
        (lambda _time, _key, _value, _state: 0, True),
        (lambda _time, _key, _value, _state, _more=1: 0, True),
    ],
)
def test_forms_are_told_by_what_can_be_called(function: Any, takes_time: bool) -> None:
    """A function that can be called with three arguments is the form without time, else with four the one with it."""
    assert StateSpec.function(function).takes_time is takes_time


@pytest.mark.parametrize("function", [lambda: 0, lambda _a, _b: 0, lambda _a, _b, _c, _d, _e: 0])
def test_other_functions_are_refused(function: Any) -> None:
    """A function of neither form is refused when the spec is made, with both forms."""
    with pytest.raises(ConfigurationError, match=r"three arguments \(key, value, state\) nor four"):
        StateSpec.function(function)


def test_what_is_no_spec_is_refused(context: LocalContext) -> None:
    """A function, a value that cannot be called and a timeout of zero are refused with the remedy."""
    ssc = StreamingContext(context, 1.0)
    with pytest.raises(ConfigurationError, match=r"mapWithState got .*; give StateSpec.function"):
        ssc.queueStream([[]]).mapWithState(running)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"StateSpec.function got 5; give a function"):
        StateSpec.function(5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="timeout is 0; give seconds greater than 0"):
        StateSpec.function(running).timeout(0)
    with pytest.raises(ConfigurationError, match="numPartitions is 0; give a number of at least 1"):
        StateSpec.function(running).numPartitions(0)
    with pytest.raises(
        ConfigurationError, match=r"the initial state of .* is 5; give an RDD, a list or a dict"
    ):
        ssc.queueStream([[]]).mapWithState(StateSpec.function(running).initialState(5))


def test_partitions_are_accepted(context: LocalContext) -> None:
    """A number of partitions and a partitioner change nothing that the function sees."""
    spec = StateSpec.function(running).numPartitions(3).partitioner(HashPartitioner(5))

    assert run_batches(lambda s: s.mapWithState(spec), [[("a", 1)], [("a", 1)]], context=context) == [
        [("a", 1)],
        [("a", 2)],
    ]


def test_snapshots_hold_every_key(context: LocalContext, tmp_path: Path) -> None:
    """The stream of snapshots holds every key with its state after each batch, idle keys too."""
    with App(
        context, tmp_path, job_of(lambda: StateSpec.function(running)), [[("a", 1)], [("b", 2)], []]
    ) as app:
        app.run(3)

    assert app.out["states"] == [[("a", 1)], [("a", 1), ("b", 2)], [("a", 1), ("b", 2)]]


def test_snapshots_of_another_stream_are_refused(context: LocalContext) -> None:
    """Only the stream that mapWithState gave has snapshots."""
    stream = StreamingContext(context, 1.0).queueStream([[]])
    with pytest.raises(ConfigurationError, match=r"stateSnapshots: .*queue.* is no stream of mapWithState"):
        stream.stateSnapshots()
    with pytest.raises(ConfigurationError, match="is no stream of mapWithState"):
        stream.mapWithState(StateSpec.function(running)).map(str).stateSnapshots()


def test_keys_that_are_equal_are_one(context: LocalContext) -> None:
    """1, 1.0 and True are one key, and None is a key like another."""
    spec = StateSpec.function(lambda key, value, state: running(str(key), value, state))
    batches = [[(1, 1), (1.0, 1), (True, 1), (None, 5)], [(None, 5), (1, 1)]]

    got = run_batches(lambda s: s.mapWithState(spec).map(lambda pair: pair[1]), batches, context=context)

    assert [sorted(batch) for batch in got] == [[1, 2, 3, 5], [4, 10]]


# Initial states.


@pytest.mark.parametrize("form", ["list", "dict", "rdd"])
def test_initial_states_are_there_from_the_start(context: LocalContext, tmp_path: Path, form: str) -> None:
    """Initial states are the states before the first batch, as old as it, and in its snapshot when nothing touches them."""
    pairs = [("a", 100), ("b", 200)]
    given = {"list": pairs, "dict": dict(pairs), "rdd": context.parallelize(pairs, 3)}[form]
    job = job_of(lambda: StateSpec.function(running).initialState(given).timeout(2))
    with App(context, tmp_path, job, [[("a", 1), ("c", 1)], [("a", 1)], [], []]) as app:
        app.run().crash().run(3)

    assert app.out["mapped"] == shown(
        [("a", 101), ("c", 1)], [("a", 102)], [], [("b", "gone", 200), ("c", "gone", 1)]
    )
    assert app.out["states"][0] == [("a", 101), ("b", 200), ("c", 1)]


def test_initial_states_count_once(context: LocalContext, tmp_path: Path) -> None:
    """Initial states count in the first batch, also when it is cut off and runs again, and never after its commit."""
    initial = iter([{"a": 100}, {"a": 1_000}, {"a": 10_000, "z": 1}])
    job = job_of(lambda: StateSpec.function(running).initialState(next(initial)), "totals")
    with App(context, tmp_path, job, [[("a", 1)], [("a", 1)], [("a", 1)]]) as app:
        app.crash_in = "states"
        with pytest.raises(UserFunctionError):
            app.run()
        app.crash().run().crash().run()

    assert app.out["states"] == [[("a", 101)], [("a", 1_001)], [("a", 1_002)], [("a", 1_003)]]


def test_the_last_initial_state_of_a_key_counts(context: LocalContext) -> None:
    """Of two initial states of a key the last one counts, as in Spark."""
    spec = StateSpec.function(running).initialState([("a", 1), ("a", 2)])

    assert run_batches(lambda s: s.mapWithState(spec).stateSnapshots(), [[]], context=context) == [[("a", 2)]]


# Once a batch.


def test_the_function_runs_once_however_many_look(context: LocalContext, tmp_path: Path) -> None:
    """The function is called once for each record, with many outputs, jobs and windows on its stream, or with none."""
    calls = context.accumulator(0)

    def counted(key: Any, value: int, state: State[int]) -> Any:
        calls.add(1)
        return running(key, value, state)

    def job(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        with ssc.job("seen"):
            states = stream.mapWithState(StateSpec.function(counted))
            app.collect(states, "first")
            app.collect(states.map(lambda pair: pair), "second")
            app.collect(states.window(2), "window")
            app.collect(states.stateSnapshots(), "states")
            states.foreachRDD(lambda rdd: rdd.take(1) and rdd.count())
        with ssc.job("unseen"):
            stream.mapWithState(StateSpec.function(counted)).foreachRDD(lambda rdd: None)

    with App(context, tmp_path, job, [[("a", n), ("b", n)] for n in (1, 2, 3)]) as app:
        app.run(3)

    assert calls.value == 2 * 2 * 3
    assert (
        app.out["first"]
        == app.out["second"]
        == app.out["states"]
        == [
            [("a", 1), ("b", 1)],
            [("a", 3), ("b", 3)],
            [("a", 6), ("b", 6)],
        ]
    )
    assert app.out["window"][2] == [("a", 3), ("a", 6), ("b", 3), ("b", 6)]


def test_state_over_mapped_elements(context: LocalContext, tmp_path: Path) -> None:
    """What mapWithState gave can feed further state, crash or not."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        totals = stream.mapWithState(StateSpec.function(running), name="totals")
        again = totals.mapWithState(StateSpec.function(running), name="again")
        app.collect(again.updateStateByKey(lambda values, state: sum(values) + (state or 0)), "sums")

    with App(context, tmp_path, job, [[("a", 1)]] * 4) as app:
        for _ in range(4):
            app.run().crash()

    assert app.out["sums"] == [[("a", 1)], [("a", 4)], [("a", 10)], [("a", 20)]]


class Session(msgspec.Struct):
    """A state of a declared type."""

    pages: list[str]
    seen: int = 0


def test_declared_types_come_back(context: LocalContext, tmp_path: Path) -> None:
    """Keys and states of declared types are these types after a restart, with their times."""

    def visit(key: tuple[str, int], page: str | None, state: State[Session]) -> Any:
        session = state.getOption() or Session([])
        if page is None:
            return key, "gone", session.pages, session.seen
        session.pages.append(page)
        session.seen += 1
        state.update(session)
        return key, session.pages, session.seen

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        spec = StateSpec.function(visit).keyType(tuple[str, int]).stateType(Session).timeout(1)
        app.collect(stream.mapWithState(spec, name="sessions"), "all")

    with App(context, tmp_path, job, [[(("u", 1), "x")], [(("u", 1), "y")], [], []]) as app:
        for _ in range(4):
            app.run().crash()

    assert app.out["all"] == [
        [(("u", 1), ["x"], 1)],
        [(("u", 1), ["x", "y"], 2)],
        [],
        [(("u", 1), "gone", ["x", "y"], 2)],
    ]


def test_update_state_by_key_does_not_take_it_over(context: LocalContext, tmp_path: Path) -> None:
    """State of mapWithState under a name is refused to another operator of that name, naming both."""
    jobs = iter(
        [
            lambda s: s.mapWithState(StateSpec.function(running), name="totals"),
            lambda s: s.updateStateByKey(lambda values, state: sum(values) + (state or 0), name="totals"),
        ]
    )

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(next(jobs)(stream), "all")

    with App(context, tmp_path, job, [[("a", 1)]]) as app:
        app.run()
        with pytest.raises(
            StateVersionError,
            match=r"'totals' as mapWithState \(lineage .*\); in this job it is updateStateByKey",
        ):
            app.crash()
