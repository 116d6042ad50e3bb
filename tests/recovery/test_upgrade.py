"""Upgrades: code, types, names and executors that change between two runs over one checkpoint folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from engine import LocalContext, State, StateSpec, StreamingContext
from engine.checkpoint.records import decode, encode
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError, StateVersionError
from tests.engine.app import App
from tests.engine.children import python

Code = Callable[[StreamingContext, DStream[Any], App], None]
KEYS = [f"page-{number}" for number in range(20)]


class Total(msgspec.Struct):
    """A state of the newer code."""

    views: int
    batches: int = 0


class Visits(NamedTuple):
    """A state of newer code still."""

    views: int
    batches: int
    last: int


@pytest.fixture(scope="module", name="context")
def one_context() -> Iterator[LocalContext]:
    """The driver's own process."""
    with LocalContext("local", "test") as made:
        yield made


class Versions:
    """An application whose code is exchanged between two runs.

    Args:
        context: runs it.
        folder: of the checkpoints.
        batches: with one record of each key.
        empty: batches after them.
    """

    def __init__(self, context: LocalContext, folder: Path, batches: int = 60, empty: int = 0) -> None:
        self._code: Code = _nothing
        full: list[list[Any]] = [[(key, 1) for key in KEYS]] * batches
        self.app = App(context, folder, self._build, [*full, *[[]] * empty])
        self.out = self.app.out

    def _build(self, ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        self._code(ssc, stream, app)

    def run(self, code: Code, batches: int = 2) -> Any:
        """Start this code over the folder, run batches, stop; what its last batch gave."""
        self._code = code
        with self.app as app:
            app.run(batches)
        return self.out["all"][-1]

    def journal(self) -> bytes:
        """Every byte of the journal but the `open` records of starts."""
        segments = sorted((self.app.folder / "test" / "journal").iterdir())
        return b"".join(path.read_bytes() for path in segments)


def _nothing(_ssc: StreamingContext, _stream: DStream[Any], _app: App) -> None:
    raise AssertionError("run gives the code")


def counted(
    name: str, update: Callable[..., Any], state: Any, *before: Callable[[StreamingContext], None]
) -> Code:
    """Code with one updateStateByKey."""

    def code(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        for say in before:
            say(ssc)
        app.collect(stream.updateStateByKey(update, name=name, keyType=str, stateType=state), "all")

    return code


def add(values: list[int], state: int | None) -> int:
    """The sum."""
    return (state or 0) + sum(values)


def add_total(values: list[int], state: Total | None) -> Total:
    """The sum, and how many batches it is of."""
    return Total((state.views if state else 0) + sum(values), (state.batches if state else 0) + 1)


def all_with(state: Any) -> list[tuple[str, Any]]:
    """Every key with this state."""
    return sorted((key, state) for key in KEYS)


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
    renamed = counted("new", add, int, lambda ssc: ssc.renameState("old", "new"))

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
    one = [lambda ssc: ssc.renameState("all", "new"), lambda ssc: ssc.renameState("more", "new")]
    drop = lambda ssc: ssc.dropState("more")  # noqa: E731 - as the code list has it
    with pytest.raises(ConfigurationError, match="gives 'all' and 'more' one name, 'new', and the check"):
        versions.run(counted("new", add, int, *one))
    with pytest.raises(ConfigurationError, match="renameState and dropState both name 'more'"):
        versions.run(counted("new", add, int, *one, drop))

    assert versions.run(both) == all_with(4)
    assert versions.run(counted("new", add, int, one[0], drop)) == all_with(6)


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
    to_total = lambda ssc: ssc.migrateState("totals", {int: lambda old: Total(old, 70)})  # noqa: E731 - as the code list has it
    versions.run(counted("totals", add, int), batches=1)
    assert versions.run(counted("totals", add_total, Total, to_total), batches=0 + 1) == all_with(
        Total(72, 71)
    )
    assert versions.run(counted("totals", add_total, Total, to_total), batches=2) == all_with(Total(74, 73))

    def visits(values: list[int], old: Visits | None) -> Visits:
        return Visits(old.views + sum(values), old.batches + 1, len(values)) if old else Visits(0, 0, 0)

    both = {int: lambda old: Visits(old, 70, 0), Total: lambda old: Visits(old.views, old.batches, 0)}
    to_visits = lambda ssc: ssc.migrateState("totals", both)  # noqa: E731 - as the code list has it
    found = versions.run(counted("totals", visits, Visits, to_visits), batches=12)

    assert found == all_with(Visits(86, 85, 1))
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
    to_list = lambda ssc: ssc.migrateState("totals", {str: lambda old: [old]})  # noqa: E731 - as the code list has it
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
    migrating = counted("totals", add_total, Total, lambda ssc: ssc.migrateState("totals", {int: Total}))
    versions.run(migrating, batches=1)
    with pytest.raises(StateVersionError, match="of type int, this job declares Total"):
        versions.run(counted("totals", add_total, Total))

    assert versions.run(migrating, batches=12) == all_with(Total(15, 13))
    assert versions.run(counted("totals", add_total, Total)) == all_with(Total(17, 15))


@pytest.mark.fault(24, "the code goes back to the older type of a state")
def test_older_code_takes_over_until_a_batch_of_the_newer(context: LocalContext, tmp_path: Path) -> None:
    """Older code goes on where newer code has started and committed nothing, and is refused by name once it has."""
    versions = Versions(context, tmp_path)
    versions.run(counted("totals", add, int))
    migrating = counted("totals", add_total, Total, lambda ssc: ssc.migrateState("totals", {int: Total}))
    versions.run(migrating, batches=0)
    assert versions.run(counted("totals", add, int)) == all_with(4)
    versions.run(migrating, batches=1)

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
        versions.run(
            counted("totals", add_total, Total, lambda ssc: ssc.migrateState("totals", {int: function}))
        )

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
    found = versions.run(code(str, lambda ssc: ssc.migrateState("totals", {int: str})), batches=2)

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


# Case 50: formats.

NEWER = """
    import sys
    from importlib.machinery import SourceFileLoader
    from pathlib import Path

    folder, old, new = sys.argv[1:]
    as_it_is = SourceFileLoader.get_code

    def get_code(self, name):
        if name != "engine.checkpoint.records":
            return as_it_is(self, name)
        source = self.get_source(name)
        assert source.count(old) == 1, old
        return compile(source.replace(old, new), self.path, "exec")

    SourceFileLoader.get_code = get_code
    from engine import LocalContext
    from engine.errors import StateVersionError
    from tests.recovery.test_upgrade import Versions, add, counted

    with LocalContext("local", "test") as context:
        try:
            print(sorted({n for _, n in Versions(context, Path(folder)).run(counted("totals", add, int))}))
        except StateVersionError as error:
            print(error)
"""
FIELD = ("attempt: int\n", "attempt: int\n    origin: str = 'newer'\n")
FORMAT = ("FORMAT_VERSION = 1\n", "FORMAT_VERSION = 2\n")
GIVEN_UP = ("OLDEST_FORMAT = 1\n", "FORMAT_VERSION = OLDEST_FORMAT = 2\n")


def newer(folder: Path, change: tuple[str, str]) -> str:
    """What a newer version of the engine says whose records differ by this change, when it runs two batches more."""
    with python(NEWER, folder, *change) as process:
        return process.communicate()[0].strip()


@pytest.mark.slow
@pytest.mark.fault(
    50,
    "this version's code, patched: a field more in its records or another format, between two starts as it is",
)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            FIELD,
            r"holds a record that this version does not know \(Object contains unknown field `origin`.*run the version that",
        ),
        (FORMAT, r"has format 2, this version knows 1; run the version that wrote it"),
    ],
    ids=["field", "format"],
)
def test_newer_version_reads_this_ones_folder_and_this_one_refuses_its(
    context: LocalContext, tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    """A newer version goes on with every event once; back again this one refuses the folder by name, and harms nothing."""
    versions = Versions(context, tmp_path)
    versions.run(counted("totals", add, int))
    assert newer(tmp_path, change) == "[4]"
    with pytest.raises(StateVersionError, match=words):
        versions.run(counted("totals", add, int))

    assert newer(tmp_path, change) == "[6]"


@pytest.mark.slow
@pytest.mark.fault(24, "a state's type changes after a version that recorded no types")
def test_states_of_before_types_were_recorded_are_migrated(context: LocalContext, tmp_path: Path) -> None:
    """What was written before types were recorded is of the first type that was, and is brought to today's."""
    plain = "return _encoder.encode(record)\n"
    untyped = "record = msgspec.structs.replace(record, types={}) if isinstance(record, Commit) else record"
    assert newer(tmp_path, (plain, f"{untyped}\n    {plain}")) == "[2]"
    versions = Versions(context, tmp_path)
    assert b'"types":{"totals"' not in versions.journal()
    assert versions.run(counted("totals", add, int), batches=1) == all_with(3)
    migrating = counted("totals", add_total, Total, lambda ssc: ssc.migrateState("totals", {int: Total}))

    assert versions.run(migrating, batches=1) == all_with(Total(4, 1))


@pytest.mark.slow
@pytest.mark.fault(50, "this version's code, patched so that it has given this format up")
def test_newer_version_refuses_what_it_no_longer_reads(context: LocalContext, tmp_path: Path) -> None:
    """A version that no longer reads this format refuses the folder by its number, and this one goes on with it."""
    versions = Versions(context, tmp_path)
    versions.run(counted("totals", add, int))

    assert newer(tmp_path, GIVEN_UP).endswith(
        "test/meta.json has format 1, this version knows 2; run the version that wrote it"
    )
    assert versions.run(counted("totals", add, int)) == all_with(4)


@pytest.mark.fault(50, "records as the first versions of this format wrote them")
@pytest.mark.parametrize(
    "record",
    [
        b'{"type":"begin","batch":{"time":1000,"attempt":0,"ranges":{"queue":[["queue",0,0,1]]}}}',
        b'{"type":"commit","batch":{"time":1000,"attempt":0,"ranges":{}},"operators":{"t":"x"},"versions":{"t":1000000},"maxima":{}}',
        b'{"type":"snapshot","snapshot":["t",0,1000000,"state/t/0000/1000000-000001.snap",1,9]}',
        b'{"type":"open","epoch":1,"follows":"","catalog":{"deltas":[["t",0,0,9,77,1000000,"000001-000000.log"]],"trimmed":[]}}',
    ],
    ids=["begin", "commit", "snapshot", "open"],
)
def test_records_of_older_versions_are_read(record: bytes) -> None:
    """A record without the fields that later versions have added is read, and so is what this version makes of it."""
    read = decode(record, "segment")

    assert decode(encode(read), "segment") == read
