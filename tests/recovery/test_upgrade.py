"""Upgrades: code, types, names and executors that change between two runs over one checkpoint folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from engine import LocalContext, State, StateSpec, StreamingContext
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError, StateVersionError
from tests.engine.app import App
from tests.recovery.versions import (
    KEYS,
    TO_TOTAL,
    Code,
    Total,
    Versions,
    add,
    add_total,
    all_with,
    counted,
    migrating,
    renaming,
)


class Visits(NamedTuple):
    """A state of newer code still."""

    views: int
    batches: int
    last: int


# Case 24: operators.


@pytest.mark.fault(24, "an operator with state is added between two runs")
def test_added_operator_starts_empty(context: LocalContext, tmp_path: Path) -> None:
    """An operator that is added has no state, and the one that was there has all of it."""

    def code(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.updateStateByKey(add, name="totals", keyType=str, stateType=int), "all")
        app.collect(stream.updateStateByKey(add, name="more", keyType=str, stateType=int), "added")

    versions = Versions(context, tmp_path)
    versions.run(counted("totals", add, int))

    assert versions.run(code) == all_with(4)
    assert versions.out["added"] == [all_with(1), all_with(2)]


@pytest.mark.fault(24, "an operator with state is removed, without a word and with dropState")
def test_removed_operator_is_dropped_only_when_told(context: LocalContext, tmp_path: Path) -> None:
    """State of a removed operator is refused by name and stays; dropState gives it up, for good and once."""
    versions = Versions(context, tmp_path)
    versions.run(counted("totals", add, int))
    with pytest.raises(StateVersionError, match=r"state of operator 'totals'.*renameState or dropState"):
        versions.run(counted("others", add, int))
    assert versions.run(counted("totals", add, int)) == all_with(4)

    dropping = counted("others", add, int, lambda ssc: ssc.dropState("totals"))
    assert versions.run(dropping) == all_with(2)
    assert versions.run(dropping) == all_with(4)
    assert versions.run(counted("totals", add, int, lambda ssc: ssc.dropState("others"))) == all_with(2)


@pytest.mark.fault(24, "an operator with state is renamed, with renameState")
def test_renamed_operator_keeps_its_state(context: LocalContext, tmp_path: Path) -> None:
    """A renamed operator goes on, also when snapshots and deltas of both names are read, and when renameState is taken away."""
    versions = Versions(context, tmp_path, batches=250)
    versions.run(counted("old", add, int), batches=70)
    assert list(tmp_path.glob("test/state/old-*/*/*.snap"))
    renamed = counted("new", add, int, renaming("old", "new"))

    assert versions.run(renamed) == all_with(72)
    assert versions.run(renamed, batches=1) == all_with(73)
    assert versions.run(counted("new", add, int), batches=135) == all_with(208)
    with pytest.raises(StateVersionError, match="state of operator 'new'"):
        versions.run(counted("old", add, int))
    folders = {path.parent.parent.name[:3] for path in tmp_path.glob("test/state/*/*/*.snap")}
    assert folders == {"new"}


@pytest.mark.parametrize(
    ("say", "words"),
    [
        (lambda ssc: ssc.dropState("totals"), "dropState names 'totals', which is an operator of this job"),
        (lambda ssc: ssc.renameState("totals", "x"), "renameState names 'totals', which is an operator"),
        (
            lambda ssc: ssc.renameState("x", "y"),
            "renameState names 'y', which is no operator .*it has 'totals'",
        ),
        (lambda ssc: ssc.migrateState("y", {int: str}), "migrateState names 'y', which is no operator"),
    ],
)
def test_declarations_that_do_not_fit_are_refused(
    context: LocalContext, tmp_path: Path, say: Callable[[StreamingContext], None], words: str
) -> None:
    """A declaration of older state that does not fit the job is refused at the start, with the operators that there are."""
    with pytest.raises(ConfigurationError, match=words):
        Versions(context, tmp_path).run(counted("totals", add, int, say))


@pytest.mark.fault(24, "two operators are renamed to one, and one is both renamed and dropped")
def test_two_operators_do_not_become_one(context: LocalContext, tmp_path: Path) -> None:
    """Renames that would lay the states of two operators over each other are refused, and change nothing."""

    def both(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        for name in ("all", "more"):
            app.collect(stream.updateStateByKey(add, name=name, keyType=str, stateType=int), name)

    versions = Versions(context, tmp_path)
    versions.run(both)
    one = [renaming("all", "new"), renaming("more", "new")]
    with pytest.raises(ConfigurationError, match="gives 'all' and 'more' one name, 'new', and the check"):
        versions.run(counted("new", add, int, *one))
    with pytest.raises(ConfigurationError, match="renameState and dropState both name 'more'"):
        versions.run(counted("new", add, int, *one, lambda ssc: ssc.dropState("more")))

    assert versions.run(both) == all_with(4)
    assert versions.run(counted("new", add, int, one[0], lambda ssc: ssc.dropState("more"))) == all_with(6)


# Case 24: types.


@pytest.mark.fault(24, "the declared type of a state changes without a word")
def test_other_type_is_refused_at_the_start(context: LocalContext, tmp_path: Path) -> None:
    """A state declared with another type than it was written with is refused before a batch, with operator, both types and remedy."""
    versions = Versions(context, tmp_path)
    versions.run(counted("totals", add, int))
    before = versions.journal()
    with pytest.raises(
        StateVersionError,
        match=r"states of operator 'totals' of type int, this job declares Total\(views: int, batches: int\); .*migrateState",
    ):
        versions.run(counted("totals", add_total, Total))

    assert before in versions.journal()
    assert b'"type":"begin"' not in versions.journal()[len(before) :]
    assert versions.run(counted("totals", add, int)) == all_with(4)


@pytest.mark.fault(
    24, "a state's class gets another field with a default, so that its bytes would still be read"
)
def test_type_that_would_load_in_part_is_refused(context: LocalContext, tmp_path: Path) -> None:
    """A class of the same name whose fields are others is another type, though its bytes could be read without them."""
    versions = Versions(context, tmp_path)
    versions.run(counted("totals", lambda values, old: Total(add(values, old.views if old else 0)), Total))
    renamed = msgspec.defstruct("Total", [("count", int, 0)])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(Total(2)), type=renamed) == renamed()

    with pytest.raises(
        StateVersionError, match=r"Total\(views: int, batches: int\).*declares Total\(count: int\)"
    ):
        versions.run(counted("totals", lambda values, _old: renamed(sum(values)), renamed))


@pytest.mark.fault(24, "a state's type changes, with migrateState, between crashes and twice")
def test_states_are_migrated_wherever_they_lie(context: LocalContext, tmp_path: Path) -> None:
    """States become those of the new type from snapshots and deltas, once each, over crashes, and over two changes of type."""
    versions = Versions(context, tmp_path, batches=400)
    versions.run(counted("totals", add, int), batches=70)
    assert list(tmp_path.glob("test/state/*/*/*.snap"))
    totals = counted("totals", add_total, Total, migrating({int: lambda old: Total(old, 70)}))
    versions.run(counted("totals", add, int), batches=1)
    assert versions.run(totals, batches=1) == all_with(Total(72, 71))
    assert versions.run(totals, batches=2) == all_with(Total(74, 73))

    def visits(values: list[int], old: Visits | None) -> Visits:
        return Visits(old.views + sum(values), old.batches + 1, len(values)) if old else Visits(0, 0, 0)

    both = {int: lambda old: Visits(old, 70, 0), Total: lambda old: Visits(old.views, old.batches, 0)}

    assert versions.run(counted("totals", visits, Visits, migrating(both)), batches=12) == all_with(
        Visits(86, 85, 1)
    )
    assert versions.run(counted("totals", visits, Visits), batches=2) == all_with(Visits(88, 87, 1))


@pytest.mark.fault(24, "a state's type changes while shards are due whose operator the first batch skips")
def test_snapshot_waits_until_its_type_is_told(context: LocalContext, tmp_path: Path) -> None:
    """A migrated operator that the first batch does not advance has no snapshot of it, which would be filed under the older type."""

    def code(update: Callable[..., Any], state: Any, *before: Callable[[StreamingContext], None]) -> Code:
        def build(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
            for say in before:
                say(ssc)
            slow = stream.window(2, 2).updateStateByKey(update, name="totals", keyType=str, stateType=state)
            app.collect(slow, "all")

        return build

    versions, text = Versions(context, tmp_path), "x" * 4_000
    versions.run(code(lambda _values, _old: text, str))
    snapshots = len(list(tmp_path.glob("test/state/*/*/*.snap")))
    assert snapshots == context.defaultParallelism  # and every other shard is as due
    to_list = migrating({str: lambda old: [old]})
    newer = code(lambda values, old: [*old, str(sum(values))], list[str], to_list)
    versions.run(newer, batches=1)
    assert len(versions.out["all"]) == 1  # not due in it

    assert versions.run(newer, batches=1) == all_with([text, "2"])
    assert len(list(tmp_path.glob("test/state/*/*/*.snap"))) > snapshots


@pytest.mark.fault(24, "migrateState is taken away while states of the older type are on the volume")
def test_migration_is_needed_until_nothing_old_is_left(context: LocalContext, tmp_path: Path) -> None:
    """Without its function a state of an older type is refused, and nothing is lost by it."""
    versions = Versions(context, tmp_path)
    versions.run(counted("totals", add, int))
    versions.run(TO_TOTAL, batches=1)
    with pytest.raises(StateVersionError, match="of type int, this job declares Total"):
        versions.run(counted("totals", add_total, Total))

    assert versions.run(TO_TOTAL, batches=12) == all_with(Total(15, 13))
    assert versions.run(counted("totals", add_total, Total)) == all_with(Total(17, 15))


@pytest.mark.fault(24, "the code goes back to the older type of a state")
def test_older_code_takes_over_until_a_batch_of_the_newer(context: LocalContext, tmp_path: Path) -> None:
    """Older code goes on where newer code has started and committed nothing, and is refused by name once it has."""
    versions = Versions(context, tmp_path)
    versions.run(counted("totals", add, int))
    versions.run(TO_TOTAL, batches=0)
    assert versions.run(counted("totals", add, int)) == all_with(4)
    versions.run(TO_TOTAL, batches=1)

    with pytest.raises(StateVersionError, match=r"of type Total\(.*, this job declares int"):
        versions.run(counted("totals", add, int))


@pytest.mark.fault(24, "the function of migrateState raises, and gives another type than the declared")
@pytest.mark.parametrize(
    ("function", "words"),
    [(lambda old: 1 // (old - 2), "ZeroDivisionError"), (str, "TypeError")],
    ids=["raises", "another type"],
)
def test_failed_migration_changes_nothing(
    context: LocalContext, tmp_path: Path, function: Callable[[int], Any], words: str
) -> None:
    """A migration that fails ends the start with operator, key and cause; older code goes on."""
    versions = Versions(context, tmp_path)
    versions.run(counted("totals", add, int))
    with pytest.raises(
        StateVersionError, match=rf"migrateState of operator 'totals': the state 2 of key 'page-.*{words}"
    ):
        versions.run(counted("totals", add_total, Total, migrating({int: function})))

    assert versions.run(counted("totals", add, int)) == all_with(4)


@pytest.mark.fault(24, "the state type of mapWithState changes")
def test_timed_states_are_migrated_with_their_times(context: LocalContext, tmp_path: Path) -> None:
    """A migrated state of mapWithState is as old as it was: it times out when it would have."""

    def code(state_type: Any, *before: Callable[[StreamingContext], None]) -> Code:
        def total(key: str, value: int | None, state: State[Any]) -> Any:
            if state.isTimingOut():
                return key, "timed out", state.get()
            state.update(state_type(int(state.getOption() or 0) + (value or 0)))
            return key, state.get()

        def build(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
            for say in before:
                say(ssc)
            spec = StateSpec.function(total).keyType(str).stateType(state_type).timeout(2)
            app.collect(stream.mapWithState(spec, name="totals"), "all")

        return build

    versions = Versions(context, tmp_path, batches=2, empty=3)
    versions.run(code(int), batches=3)
    found = versions.run(code(str, migrating({int: str})), batches=2)

    assert found == sorted((key, "timed out", "2") for key in KEYS)


@pytest.mark.fault(24, "the declared type of the keys changes")
def test_other_key_type_is_refused(context: LocalContext, tmp_path: Path) -> None:
    """Keys of another type are refused with both types: their shard follows from them."""

    def code(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.updateStateByKey(add, name="totals", stateType=int), "all")

    versions = Versions(context, tmp_path)
    versions.run(counted("totals", add, int))
    with pytest.raises(StateVersionError, match="keys of type str, this job declares plain values"):
        versions.run(code)


# Executors.


@pytest.mark.slow
def test_number_of_executors_may_change(tmp_path: Path) -> None:
    """An application goes on with another number of executors: shards stay as they are, and go to other processes."""
    seen = []
    for master in ("local[2]", "local[4]", "local", "local[2]"):
        with LocalContext(master, "test") as context:
            # One more than there are executors: several of them share one.
            versions = Versions(context, tmp_path)
            seen.append((context.defaultParallelism, versions.run(counted("totals", add, int))))

    assert seen == [(2, all_with(2)), (4, all_with(4)), (1, all_with(6)), (2, all_with(8))]
