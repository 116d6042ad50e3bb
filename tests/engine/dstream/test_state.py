"""Keyed state: what updateStateByKey sees and keeps."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine import LocalContext, StreamingContext
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError, StateVersionError, UserFunctionError
from engine.testing import run_batches
from tests.engine.app import App, collected


def total(values: list[int], state: int | None) -> int:
    """Adds up."""
    return sum(values) + (state or 0)


def test_idle_keys_get_an_empty_list(context: LocalContext, tmp_path: Path) -> None:
    """The update is called for every known key in every batch, with [] for a key without values."""
    got = collected(
        context,
        tmp_path,
        lambda s: s.updateStateByKey(lambda values, state: [*(state or []), len(values)]),
        [[("a", 1), ("a", 1)], [("b", 1)], []],
    )

    assert got == [[("a", [2])], [("a", [2, 0]), ("b", [1])], [("a", [2, 0, 0]), ("b", [1, 0])]]


def test_none_deletes_a_key(context: LocalContext, tmp_path: Path) -> None:
    """A key whose update gives None is gone, and comes back with None as its state."""
    got = collected(
        context,
        tmp_path,
        lambda s: s.updateStateByKey(lambda values, state: None if -1 in values else (state, len(values))),
        [[("a", 1)], [("a", -1)], [], [("a", 1)]],
    )

    assert got == [[("a", (None, 1))], [], [], [("a", (None, 1))]]


@pytest.mark.parametrize("state", [0, "", False, 0.0, [], {}, (), b""])
def test_falsy_states_are_kept(context: LocalContext, tmp_path: Path, state: Any) -> None:
    """A state that counts as false is a state: only None is not."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.updateStateByKey(lambda _values, _state: state), "all")

    with App(context, tmp_path, job, [[("a", 1)], []]) as app:
        app.run().crash().run()

    assert app.out["all"] == [[("a", state)], [("a", state)]]
    assert type(app.out["all"][1][0][1]) is type(state)


def test_new_keys_have_no_state(context: LocalContext, tmp_path: Path) -> None:
    """The state of a key that was never seen is None."""
    got = collected(
        context, tmp_path, lambda s: s.updateStateByKey(lambda _values, state: repr(state)), [[("a", 1)], []]
    )

    assert got == [[("a", "None")], [("a", "'None'")]]


def test_values_come_in_the_order_of_the_batch(context: LocalContext, tmp_path: Path) -> None:
    """The values of a key come in the order of the source's partitions."""
    batch = [("a", n) for n in range(100)]
    got = collected(context, tmp_path, lambda s: s.updateStateByKey(lambda values, _state: values), [batch])

    assert got == [[("a", list(range(100)))]]


@pytest.mark.slow
def test_state_survives_a_crash_anywhere(context: LocalContext, tmp_path: Path) -> None:
    """State is the same when the application is crashed and restarted after every single batch."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.updateStateByKey(total), "all")

    batches = [[(key, n) for key in "abcde"[: n % 6]] for n in range(12)]
    with App(context, tmp_path / "crashed", job, batches) as crashed:
        for _ in batches:
            crashed.run().crash()
    with App(context, tmp_path / "whole", job, batches) as whole:
        whole.run(len(batches))

    assert crashed.out == whole.out
    assert crashed.out["all"][-1] == [
        (key, sum(n for n in range(12) if i < n % 6)) for i, key in enumerate("abcde")
    ]


def test_failed_batch_leaves_no_trace_in_state(context: LocalContext, tmp_path: Path) -> None:
    """A batch whose output failed is run again over the state before it, and counts once."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.updateStateByKey(total), "all")

    with App(context, tmp_path, job, [[("a", 1)], [("a", 10)], [("a", 100)]]) as app:
        app.run()
        app.crash_in = "all"
        with pytest.raises(UserFunctionError):
            app.run()
        app.crash().run()

    assert app.out["all"] == [[("a", 1)], [("a", 11)], [("a", 11)], [("a", 111)]]


class Visit(msgspec.Struct):
    """A state of a declared type."""

    pages: list[str]
    last: float


def test_declared_types_come_back_as_themselves(context: LocalContext, tmp_path: Path) -> None:
    """Keys and states of declared types are these types again after a restart."""

    def update(values: list[str], state: Visit | None) -> Visit:
        known = state or Visit([], 0.0)
        known.pages += values
        known.last += 0.5
        return known

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        visits = stream.updateStateByKey(update, name="visits", keyType=tuple[str, int], stateType=Visit)
        app.collect(
            visits.map(lambda pair: (pair[0], type(pair[1]).__name__, pair[1].pages, pair[1].last)), "all"
        )

    with App(context, tmp_path, job, [[(("a", 1), "x")], [(("a", 1), "y")]]) as app:
        app.run().crash().run()

    assert app.out["all"] == [[(("a", 1), "Visit", ["x"], 0.5)], [(("a", 1), "Visit", ["x", "y"], 1.0)]]


@dataclass
class Session:
    """A state two of which are equal when their users are."""

    user: str
    seen: list[int] = field(default_factory=list, compare=False)


def test_change_that_equality_does_not_see_is_kept(context: LocalContext, tmp_path: Path) -> None:
    """A state that equals the old one and holds other fields replaces it."""

    def update(values: list[int], state: Session | None) -> Session:
        known = state or Session("u")
        return Session(known.user, [*known.seen, *values])

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        sessions = stream.updateStateByKey(update, name="sessions", stateType=Session)
        app.collect(sessions.mapValues(lambda session: session.seen), "all")

    with App(context, tmp_path, job, [[("a", 1)], [("a", 2)], []]) as app:
        app.run(2).crash().run()

    assert app.out["all"] == [[("a", [1])], [("a", [1, 2])], [("a", [1, 2])]]


def test_change_of_type_alone_is_kept(context: LocalContext, tmp_path: Path) -> None:
    """1, True and 1.0 are equal and three different states."""
    kinds = iter([1, True, 1.0])

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.updateStateByKey(lambda values, state: values[0] if values else state), "all")

    with App(context, tmp_path, job, [[("a", kind)] for kind in kinds]) as app:
        app.run(2).crash().run()

    assert [type(batch[0][1]) for batch in app.out["all"]] == [int, bool, float]


def test_undeclared_type_is_refused_by_name(context: LocalContext) -> None:
    """A state of a type that was not declared ends the batch with the operator, the type and the remedy."""
    with pytest.raises(
        UserFunctionError, match=r"operator 'sets' holds a set .*declare keyType= and stateType="
    ):
        run_batches(
            lambda s: s.updateStateByKey(lambda values, _state: set(values), name="sets"),
            [[("a", 1)]],
            context=context,
        )


def test_two_applications_on_one_context_share_no_state(context: LocalContext, tmp_path: Path) -> None:
    """An application starts from its own folder, whatever another left in the same executors at the same batch times."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.updateStateByKey(total, name="totals"), "all")

    with App(context, tmp_path / "one", job, [[("a", 1)], [("a", 1)]]) as one:
        one.run(2)
    with App(context, tmp_path / "two", job, [[("a", 5)], [("a", 5)], [("a", 5)]]) as two:
        two.run(2)
        with_state_of_one = App(context, tmp_path / "one", job, [[("a", 1)]] * 3)
        two.ssc.stop(stopSparkContext=False)
        with with_state_of_one:
            with_state_of_one.clock.advance(2_000)
            with_state_of_one.run()
        two.start().run()

    assert one.out["all"] == [[("a", 1)], [("a", 2)]]
    assert with_state_of_one.out["all"] == [[("a", 3)]]
    assert two.out["all"] == [[("a", 5)], [("a", 10)], [("a", 15)]]


def test_removed_operator_is_refused_with_both_lineages(context: LocalContext, tmp_path: Path) -> None:
    """State whose operator is gone is refused, with its name and lineage and those of the operators that are there."""
    names = iter(["totals", "sums"])

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.updateStateByKey(total, name=next(names)), "all")

    with App(context, tmp_path, job, [[("a", 1)]]) as app:
        app.run()
        with pytest.raises(StateVersionError) as caught:
            app.crash()

    assert str(caught.value) == (
        "the checkpoint holds state of operator 'totals' (lineage updateStateByKey(queue)), which this job does not have; "
        "it has 'sums' (lineage updateStateByKey(queue)); "
        "give the operator its name back with name=, or say what becomes of its state with renameState or dropState"
    )


def test_unnamed_operator_whose_lineage_changed_is_refused(context: LocalContext, tmp_path: Path) -> None:
    """A stateful operator without a name is its lineage: another lineage is refused, showing both."""
    steps = iter([lambda s: s, lambda s: s.filter(bool)])

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(next(steps)(stream).updateStateByKey(total), "all")

    with App(context, tmp_path, job, [[("a", 1)]]) as app:
        app.run()
        with pytest.raises(
            StateVersionError, match=r"updateStateByKey\(queue\).*updateStateByKey\(filter\(queue\)\)"
        ):
            app.crash()


def test_named_operator_survives_another_lineage(context: LocalContext, tmp_path: Path) -> None:
    """A stateful operator with a name keeps its state when the code before it changes."""
    steps = iter([lambda s: s, lambda s: s.filter(bool)])

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(next(steps)(stream).updateStateByKey(total, name="totals"), "all")

    with App(context, tmp_path, job, [[("a", 1)], [("a", 2)]]) as app:
        app.run().crash().run()

    assert app.out["all"] == [[("a", 1)], [("a", 3)]]


def test_state_of_other_types_is_refused(context: LocalContext, tmp_path: Path) -> None:
    """State that was written with another declared type is refused by its operator's name."""
    types = iter([str, int])

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        update = lambda values, _state: values[-1] if values else None  # noqa: E731
        app.collect(stream.updateStateByKey(update, name="last", stateType=next(types)), "all")

    with App(context, tmp_path, job, [[("a", "x")]]) as app:
        app.run()
        with pytest.raises(
            StateVersionError, match="states of operator 'last' of type str, this job declares int"
        ):
            app.crash()


def test_state_needs_a_checkpoint_folder(context: LocalContext) -> None:
    """A stateful graph without a checkpoint folder is refused at the start, with Spark's words."""
    ssc = StreamingContext(context, 1.0)
    ssc.queueStream([[("a", 1)]]).updateStateByKey(total).pprint()

    with pytest.raises(ConfigurationError, match="The checkpoint directory has not been set"):
        ssc.start(thread=False)


def test_two_operators_of_one_name_are_refused(context: LocalContext) -> None:
    """A name is given once."""
    with pytest.raises(ConfigurationError, match="two operators are named 'totals'"):
        run_batches(
            lambda s: s.updateStateByKey(total, name="totals").updateStateByKey(total, name="totals"),
            [[("a", 1)]],
            context=context,
        )


def test_names_of_a_job_begin_with_the_jobs(context: LocalContext, tmp_path: Path) -> None:
    """Operators made under `job` have names that begin with the job's, also after a job that failed to build."""

    def job(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        with pytest.raises(ValueError, match="broken"), ssc.job("broken"):
            raise ValueError("broken")
        with ssc.job("one"):
            app.collect(stream.updateStateByKey(total, name="totals"), "one")
        with ssc.job("two"):
            app.collect(stream.updateStateByKey(total, name="totals"), "two")

    with App(context, tmp_path, job, [[("a", 1)]]) as app:
        assert sorted(app.ssc.graph.operators()) == ["one.totals", "two.totals"]


def test_state_over_a_window_counts_each_window_once(context: LocalContext, tmp_path: Path) -> None:
    """State over a sliding window takes every window's elements once, crash or not."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.window(3, 2).updateStateByKey(total), "all")

    with App(context, tmp_path, job, [[("a", 1)]] * 6) as app:
        for _ in range(6):
            app.run().crash()

    assert app.out["all"] == [[("a", 2)], [("a", 5)], [("a", 8)]]


def test_removed_keys_leave_nothing(context: LocalContext, tmp_path: Path) -> None:
    """State whose keys were all removed is empty."""
    got = collected(
        context,
        tmp_path,
        lambda s: s.updateStateByKey(lambda values, _state: 1 if values else None).count(),
        [[(n, 1) for n in range(10)], []],
    )

    assert got == [[10], [0]]
