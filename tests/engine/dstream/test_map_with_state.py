"""mapWithState: what its function sees, what it gives, and which keys stay."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine import LocalContext, State, StateSpec, StreamingContext
from engine.batch import Duration, Time
from engine.dstream.dstream import DStream
from engine.dstream.mapstate import ReadMapped
from engine.errors import (
    ConfigurationError,
    LifecycleError,
    StateNotSetError,
    StateVersionError,
    UserFunctionError,
)
from engine.rdd.partitioner import HashPartitioner
from engine.testing import run_batches
from tests.engine.app import START_MS, App


def running(key: Any, value: int | None, state: State[int]) -> Any:
    """Adds up; tells when a key goes."""
    if state.isTimingOut():
        return key, "gone", state.get()
    state.update((state.getOption() or 0) + (value or 0))
    return key, state.get()


def job_of(
    spec: Callable[[], StateSpec], name: str | None = None
) -> Callable[[StreamingContext, DStream[Any], App], None]:
    """A job with a mapWithState whose elements and snapshots are collected."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        states = stream.mapWithState(spec(), name=name)
        app.collect(states.map(repr), "mapped")
        app.collect(states.stateSnapshots(), "states")

    return job


def shown(*batches: list[Any]) -> list[list[str]]:
    """Elements as `job_of` collects them."""
    return [sorted(map(repr, batch)) for batch in batches]


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


class Waiting(ReadMapped):
    """How many keys wait for their timeout in the shards."""

    def __call__(self, index: int, _nothing: Iterator[Any]) -> Iterable[Any]:
        """One number a shard."""
        return [len(self._seen(index).derived.timers)]


def test_keys_that_are_removed_do_not_wait_for_their_timeout(local_two: LocalContext, tmp_path: Path) -> None:
    """Keys that come and are removed long before the timeout take no more memory from batch to batch."""
    waiting: list[int] = []

    def session(_key: int, value: str, state: State[str]) -> None:
        if value == "end":
            state.remove()
        else:
            state.update(value)

    def job(_ssc: StreamingContext, stream: DStream[Any], _app: App) -> None:
        mapped = stream.mapWithState(StateSpec.function(session).timeout(3_600))
        node: Any = mapped.node
        mapped.foreachRDD(lambda _rdd: waiting.extend(node._read_with(Waiting(node.codec)).collect()))

    batches = [
        [(1_000 * batch + key, value) for key in range(700) for value in ("begin", "end")]
        for batch in range(2)
    ]
    with App(local_two, tmp_path, job, batches, shards=1) as app:
        app.run(2)

    assert waiting == [700, 0]


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


# The state in the function's hands.


def test_state_tells_what_it_is() -> None:
    """A state exists from its first update on, until it is removed."""
    state: State[int] = State.of()
    assert (state.exists(), state.getOption(), repr(state)) == (False, None, "State()")
    state.update(5)
    assert (state.exists(), state.get(), state.getOption(), repr(state)) == (True, 5, 5, "State(5)")
    state.remove()
    assert (state.exists(), state.getOption(), state.isTimingOut()) == (False, None, False)


def test_none_is_a_state() -> None:
    """A state that was set to None exists."""
    state: State[None] = State.of(None)
    state.update(None)

    assert state.exists()
    assert state.get() is None


def test_asking_for_no_state_is_an_error() -> None:
    """A state that is not there is an error of the engine and a LookupError, with Spark's words."""
    for state in (State.of(), removed()):
        with pytest.raises(StateNotSetError, match="State is not set"):
            state.get()
        with pytest.raises(LookupError):
            state.get()


def removed() -> State[int]:
    """A state after its removal."""
    state = State.of(1)
    state.remove()
    return state


def timing_out() -> State[int]:
    """A state that is timing out."""
    state: State[int] = State.of()
    state.open_timing_out(1)
    return state


@pytest.mark.parametrize(
    ("state", "call", "message"),
    [
        (removed(), lambda s: s.update(2), "Cannot update the state after it has been removed"),
        (removed(), lambda s: s.remove(), "Cannot remove the state that has already been removed"),
        (timing_out(), lambda s: s.update(2), "Cannot update the state that is timing out"),
        (timing_out(), lambda s: s.remove(), "Cannot remove the state that is timing out"),
    ],
)
def test_changes_too_late_are_refused(state: State[int], call: Callable[[Any], None], message: str) -> None:
    """An update or removal after a removal, or while the key times out, is refused with Spark's words."""
    with pytest.raises(LifecycleError, match=message):
        call(state)


def stops(_key: Any, _value: Any, _state: State[int]) -> Any:
    """Reads on where nothing is."""
    return next(iter(()))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (stops, "StopIteration"),
        (lambda _key, _value, state: state.get(), "StateNotSetError: State is not set"),
        (
            lambda _key, _value, state: (state.remove(), state.update(1)),
            "LifecycleError: Cannot update the state",
        ),
        (lambda _key, value, _state: value / 0, "ZeroDivisionError"),
    ],
    ids=["stop", "unset", "removed", "other"],
)
def test_error_in_the_function_names_operator_and_batch(
    context: LocalContext, function: Any, message: str
) -> None:
    """Whatever the function raises ends the batch as its own error, with the operator's name and the batch."""
    with pytest.raises(UserFunctionError, match=rf"operator 'totals', batch \d+: {message}"):
        run_batches(
            lambda s: s.mapWithState(StateSpec.function(function), name="totals"),
            [[("a", 1), ("b", 1)]],
            context=context,
        )


def test_changes_in_place_count_after_update_only(context: LocalContext, tmp_path: Path) -> None:
    """A value changed in place after `update` is kept as it is in the end, one that was not handed to it is not."""

    def change(_key: Any, value: str, state: State[list[str]]) -> None:
        known = state.getOption() or []
        known.append(value)
        if value != "lost":
            state.update(known)
            known.append("late")

    job = job_of(lambda: StateSpec.function(change))
    with App(context, tmp_path, job, [[("a", "x"), ("a", "lost"), ("a", "y")], [("a", "lost")], []]) as app:
        app.run(2).crash().run()

    assert app.out["states"] == [[("a", ["x", "late", "y", "late"])]] * 3


def test_a_state_is_what_its_value_held_at_the_return(context: LocalContext, tmp_path: Path) -> None:
    """An object that the function hands to `update` again and again is kept for each key as it was then."""
    shared: list[int] = []

    def keep(_key: Any, value: int, state: State[list[int]]) -> None:
        shared.append(value)
        state.update(shared)

    job = job_of(lambda: StateSpec.function(keep))
    with App(context, tmp_path, job, [[("a", 1), ("b", 2)]], shards=1) as app:
        app.run()

    assert app.out["states"] == [[("a", [1]), ("b", [1, 2])]]


def test_elements_and_state_share_nothing(context: LocalContext, tmp_path: Path) -> None:
    """A reader that changes an element in place spoils neither the state, nor another reader, nor a snapshot."""

    def grow(_key: Any, value: int, state: State[list[int]]) -> list[int]:
        state.update([*(state.getOption() or []), value])
        return state.get()

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        states = stream.mapWithState(StateSpec.function(grow))
        for name in ("first", "second"):
            app.collect(states.map(lambda n: n.append(-1) or n), name)
            app.collect(states.stateSnapshots().mapValues(lambda n: n.append(-1) or n), f"{name} states")

    with App(context, tmp_path, job, [[("a", 1)], [("a", 2)], []]) as app:
        app.run(3)

    assert app.out["first"] == app.out["second"] == [[[1, -1]], [[1, 2, -1]], []]
    assert (
        app.out["first states"]
        == app.out["second states"]
        == [
            [("a", [1, -1])],
            [("a", [1, 2, -1])],
            [("a", [1, 2, -1])],
        ]
    )


def test_keys_that_are_equal_are_one(context: LocalContext) -> None:
    """1, 1.0 and True are one key, and None is a key like another."""
    spec = StateSpec.function(lambda key, value, state: running(str(key), value, state))
    batches = [[(1, 1), (1.0, 1), (True, 1), (None, 5)], [(None, 5), (1, 1)]]

    got = run_batches(lambda s: s.mapWithState(spec).map(lambda pair: pair[1]), batches, context=context)

    assert [sorted(batch) for batch in got] == [[1, 2, 3, 5], [4, 10]]


# Timeouts.


def test_idle_keys_time_out(context: LocalContext, tmp_path: Path) -> None:
    """A key goes in the first batch that is later than its last record by more than the timeout, with an element of its own."""
    job = job_of(lambda: StateSpec.function(running).timeout(2))
    with App(context, tmp_path, job, [[("a", 1), ("b", 1)], [("b", 1)], [], [], []]) as app:
        app.run(5)

    assert app.out["mapped"] == shown(
        [("a", 1), ("b", 1)], [("b", 2)], [], [("a", "gone", 1)], [("b", "gone", 2)]
    )
    assert app.out["states"] == [
        [("a", 1), ("b", 1)],
        [("a", 1), ("b", 2)],
        [("a", 1), ("b", 2)],
        [("b", 2)],
        [],
    ]


def test_timeout_is_seconds_or_a_duration() -> None:
    """A number is seconds, a Duration is itself."""
    spec = StateSpec.function(running)

    assert spec.timeout(1.5).timeout_ms == spec.timeout(Duration(1_500)).timeout_ms == 1_500


def test_a_look_keeps_a_key(context: LocalContext, tmp_path: Path) -> None:
    """With a timeout a record refreshes its key, also when the function neither updates nor looks."""

    def once(_key: Any, value: int | None, state: State[int]) -> Any:
        if not state.exists():
            state.update(value or 0)
        return "gone" if state.isTimingOut() else None

    job = job_of(lambda: StateSpec.function(once).timeout(1))
    with App(context, tmp_path, job, [[("a", 1)], [("a", 2)], [("a", 3)], [], []]) as app:
        for _ in range(5):
            app.run().crash()

    assert app.out["mapped"] == shown([None], [None], [None], [], ["gone"])
    assert app.out["states"] == [[("a", 1)]] * 4 + [[]]


def test_data_comes_before_the_timeout(context: LocalContext, tmp_path: Path) -> None:
    """A key that would time out in a batch that has a record of it is touched first, and stays."""
    job = job_of(lambda: StateSpec.function(running).timeout(1))
    with App(context, tmp_path, job, [[("a", 1), ("b", 1)], [], [("a", 1)], []]) as app:
        app.run(4)

    assert app.out["mapped"] == shown([("a", 1), ("b", 1)], [], [("a", 2), ("b", "gone", 1)], [])


def test_a_removed_key_does_not_time_out(context: LocalContext, tmp_path: Path) -> None:
    """A key that the function removed is gone, and when it comes back its time counts from then."""

    def toggle(key: Any, value: int | None, state: State[int]) -> Any:
        if value == 0:
            state.remove()
            return None
        return running(key, value, state)

    job = job_of(lambda: StateSpec.function(toggle).timeout(2))
    with App(context, tmp_path, job, [[("a", 1)], [("a", 0), ("b", 0)], [("a", 5)], [], [], [], []]) as app:
        app.run(7)

    assert app.out["mapped"] == shown([("a", 1)], [None, None], [("a", 5)], [], [], [("a", "gone", 5)], [])


@pytest.mark.parametrize("every_interval", [True, False])
def test_a_catch_up_batch_times_out_what_was_idle(
    context: LocalContext, tmp_path: Path, every_interval: bool
) -> None:
    """After a long pause idle keys go, once each, whether one batch takes over the missed times or each has one."""
    job = job_of(lambda: StateSpec.function(running).timeout(5))
    with App(context, tmp_path, job, [[("a", 1)], [("b", 1)]], every_interval=every_interval) as app:
        app.run(2)
        app.ssc.stop(stopSparkContext=False)
        app.clock.advance(30_000)
        app.start()
        for _ in range(30 if every_interval else 1):
            app.ssc.runBatch()

    gone = [line for batch in app.out["mapped"][2:] for line in batch]
    assert sorted(gone) == shown([("a", "gone", 1), ("b", "gone", 1)])[0]
    assert app.out["states"][-1] == []


def test_keys_time_out_after_a_restart(context: LocalContext, tmp_path: Path) -> None:
    """A restart after every batch changes neither which keys time out nor when."""
    job = job_of(lambda: StateSpec.function(running).timeout(2))
    batches = [[(key, 1) for key in keys] for keys in ("abc", "b", "cd", "", "a", "", "", "", "")]
    with App(context, tmp_path / "crashed", job, batches) as crashed:
        for _ in batches:
            crashed.run().crash()
    with App(context, tmp_path / "whole", job, batches) as whole:
        whole.run(len(batches))

    assert crashed.out == whole.out
    assert crashed.out["states"][-1] == []


def test_a_retry_times_out_the_same_keys(context: LocalContext, tmp_path: Path) -> None:
    """A batch that runs again after a failed output gives the same elements and timeouts, in the same order."""
    seen: list[Any] = []

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        states = stream.mapWithState(StateSpec.function(running).timeout(1))
        states.foreachRDD(lambda rdd: seen.append(rdd.collect()))
        app.collect(states, "mapped")

    with App(context, tmp_path, job, [[(f"k{n}", 1) for n in range(20)], [("x", 1)], [("y", 1)]]) as app:
        app.run(2)
        app.crash_in = "mapped"
        with pytest.raises(UserFunctionError):
            app.run()
        app.crash()

    assert len(seen[2]) == 21
    assert seen[2] == seen[3]


def test_a_timeout_may_come_later(context: LocalContext, tmp_path: Path) -> None:
    """States that were kept without a timeout have their times when the job gets one."""
    specs = iter([StateSpec.function(running), StateSpec.function(running).timeout(2)])
    with App(
        context, tmp_path, job_of(lambda: next(specs), "totals"), [[("a", 1)], [("b", 1)], [], [], []]
    ) as app:
        app.run(2).crash().run(3)

    assert app.out["mapped"] == shown([("a", 1)], [("b", 1)], [], [("a", "gone", 1)], [("b", "gone", 1)])


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
