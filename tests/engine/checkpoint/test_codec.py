"""State comes back from bytes as what it was, or is refused by name."""

import pickle
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import UTC, date, datetime
from numbers import Number
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.checkpoint.codec import StateCodec, TimedCodec, is_plain
from engine.checkpoint.declared import refuse_unkept
from engine.errors import ConfigurationError, StateVersionError

text = st.text(st.characters(codec="utf-8"))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text | st.binary()
hashable = st.recursive(scalars, lambda inner: st.tuples(inner) | st.tuples(inner, inner), max_leaves=4)
plain = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(hashable, inner),
    max_leaves=8,
)


def exact(value: Any) -> Any:
    """The value with the type of each of its parts, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return dict, [(exact(key), exact(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [exact(item) for item in value]
    return type(value), repr(value)


@pytest.mark.slow
@given(st.lists(st.tuples(hashable, plain)), st.lists(hashable))
def test_plain_values_come_back_with_their_types(pairs: list[tuple[Any, Any]], gone: list[Any]) -> None:
    """Without declared types keys and states come back equal and of equal types at every depth."""
    codec = StateCodec("op")

    assert exact(codec.decode(codec.encode(pairs, gone))) == exact((pairs, gone))


@given(plain)
def test_own_copies_share_nothing(state: Any) -> None:
    """A copy equals its original, and no list or dict of one is in the other."""
    codec = StateCodec("op")
    copy = codec.own(state)

    assert exact(copy) == exact(state)
    assert not (_mutable(copy) & _mutable(state))


def _mutable(value: Any) -> set[int]:
    found = {id(value)} if isinstance(value, list | dict) else set()
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return found.union(*map(_mutable, inner))


@given(plain)
def test_plain_is_what_cannot_change(value: Any) -> None:
    """Scalars and tuples of scalars are plain; nothing that holds a list or dict is."""
    if is_plain(value):
        assert not _mutable(value)


class Point(msgspec.Struct):
    """A declared state."""

    x: int
    tags: list[str] = []


@dataclass
class Named:
    """A declared state of the standard library's kind."""

    name: str
    when: datetime


class Tally(NamedTuple):
    """A declared state with parts that msgpack does not know."""

    counts: Counter[str]
    last: deque[set[str]]


@pytest.mark.parametrize(
    ("key_type", "state_type", "pairs"),
    [
        (str, int, [("a", 1), ("b", -5)]),
        (tuple[str, int], tuple[int, bool], [(("a", 1), (3, True))]),
        (int, Point, [(1, Point(2, ["x"])), (2, Point(3))]),
        (bytes, Named, [(b"k", Named("n", datetime(2026, 1, 2, tzinfo=UTC)))]),
        (int, dict[tuple[str, int], float], [(7, {("a", 1): 0.5})]),
        (str, set[int], [("a", {1, 2, 3})]),
        (str, Counter[tuple[str, date]], [("a", Counter({("x", date(2026, 1, 2)): 2}))]),
        (str, Counter, [("a", Counter("aab"))]),
        (str, deque[int], [("a", deque([1, 2], maxlen=2)), ("b", deque())]),
        (str, defaultdict[str, list[int]], [("a", defaultdict(list, {"x": [1]}))]),
        (complex, dict[str, complex], [(1j, {"x": 2 + 0.5j})]),
        (str, Tally, [("a", Tally(Counter("a"), deque([{"x"}])))]),
        (None, int | None, [(("any", (1, None)), 5)]),
        (str, None, [("a", [1, ("t", {2: b"x"})])]),
    ],
    ids=[
        "scalars",
        "tuples",
        "struct",
        "dataclass",
        "dict",
        "set",
        "Counter",
        "bare Counter",
        "deque",
        "defaultdict",
        "complex",
        "NamedTuple",
        "state only",
        "key only",
    ],
)
def test_declared_types_come_back(key_type: Any, state_type: Any, pairs: list[tuple[Any, Any]]) -> None:
    """Keys and states of declared types come back as these types, and copies are equal and apart."""
    codec = StateCodec("op", key_type, state_type)
    shipped: StateCodec = pickle.loads(pickle.dumps(codec))  # noqa: S301 - written in this line
    gone = [key for key, _ in pairs]

    assert shipped.decode(codec.encode(pairs, gone)) == (pairs, gone)
    for _, state in pairs:
        assert repr(codec.own(state)) == repr(state)
        assert is_plain(state) or codec.own(state) is not state


@pytest.mark.parametrize(
    "state",
    [{1, 2}, 1j, datetime(2026, 1, 1, tzinfo=UTC), Point(1), [[{1}]], ({1: object()},)],
    ids=["set", "complex", "datetime", "class", "nested set", "nested object"],
)
def test_undeclared_types_are_refused(state: Any) -> None:
    """A state of another type is refused with operator, type and remedy, at any depth."""
    with pytest.raises(
        TypeError, match=r"operator 'op' holds a .* in its state; declare keyType= and stateType="
    ):
        StateCodec("op").encode([("k", state)], [])


@pytest.mark.parametrize(
    ("written", "read"), [((str, int), (str, str)), ((str, int), (int, int)), ((int, Point), (int, Named))]
)
def test_other_types_on_the_volume_are_refused(written: tuple[Any, Any], read: tuple[Any, Any]) -> None:
    """Bytes of other declared types are refused by the operator's name."""
    key, state = ("k" if written[0] is str else 1), (Point(1) if written[1] is Point else 1)
    data = StateCodec("op", *written).encode([(key, state)], [])

    with pytest.raises(
        StateVersionError, match="state of operator 'op' on the volume is not of the declared types"
    ):
        StateCodec("op", *read).decode(data)


@given(st.binary(max_size=60))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    """Bytes that no codec wrote are refused as a StateVersionError, or are by chance a valid encoding."""
    try:
        pairs, gone = StateCodec("op").decode(data)
    except StateVersionError:
        return
    assert isinstance(pairs, list)
    assert isinstance(gone, list)


# What is written.


@pytest.mark.parametrize(
    ("types", "pairs", "gone", "data"),
    [
        ((str, int), [("a", 5)], ["b"], "929192a1610591a162"),
        (
            (None, None),
            [("a", (1, [2.5, None])), (1 << 70, {"k": b"x"})],
            ["b", ("t", 1)],
            (
                "929292a161c70d01920192cb4004000000000000c092c7160231313830353931363230373137343131333033343234c707039192"
                "a16bc4017892a162d60192a17401"
            ),
        ),
    ],
    ids=["declared", "tagged"],
)
def test_the_bytes_are_those_on_the_volumes(types: tuple[Any, Any], pairs: Any, gone: Any, data: str) -> None:
    """The bytes are those that earlier versions wrote and read."""
    assert StateCodec("op", *types).encode(pairs, gone).hex() == data


@pytest.mark.parametrize(
    ("types", "pair"),
    [
        ((str, int), ("a", "x")),
        ((str, int), (1, 1)),
        ((int, None), ("a", [1])),
        ((None, str), ("a", b"x")),
        ((str, tuple[int, int]), ("a", (1, "x"))),
        ((str, complex), ("a", (1.0, 2.0))),
        ((str, tuple[int, ...]), ("a", (range(3),))),
    ],
)
@pytest.mark.parametrize("is_timed", [False, True])
def test_what_would_not_come_back_is_refused(
    types: tuple[Any, Any], pair: tuple[Any, Any], is_timed: bool
) -> None:
    """A key or state of another than its declared type is refused when it is written, with operator, value and remedy."""
    codec = TimedCodec("op", *types) if is_timed else StateCodec("op", *types)
    kept = (pair[0], (1_000, pair[1])) if is_timed else pair

    with pytest.raises(
        TypeError, match=r"operator 'op' holds .* not of the declared types .*; declare keyType="
    ):
        codec.encode([kept], [])


def test_a_copy_that_would_not_come_back_is_refused() -> None:
    """A state that can change in place is proven when it is copied."""
    with pytest.raises(TypeError, match=r"operator 'op' holds \['x'\] .* not of the declared types"):
        StateCodec("op", str, list[int]).own(["x"])


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (deque[int], [1]),
        (deque[int], deque(["x"])),
        (Counter[str], Counter([1])),
        (Counter[str], [1]),
        (defaultdict[str, int], defaultdict(list)),
        (defaultdict[str, int], defaultdict(lambda: 5)),
        (dict[str, int], deque()),
    ],
    ids=["list", "item", "key", "no map", "factory", "lambda", "deque"],
)
def test_a_copy_of_another_kind_is_refused(kind: Any, state: Any) -> None:
    """A state that would come back as another kind, or with another default factory, is refused when it is copied."""
    with pytest.raises(TypeError, match=r"operator 'op' holds .* not of the declared types"):
        StateCodec("op", str, kind).own(state)


@pytest.mark.parametrize(
    "declared",
    [
        range,
        OrderedDict[str, int],
        list[range],
        Counter[range],
        defaultdict,
        defaultdict[str, Any],
        int | Named | dict,
    ],
    ids=repr,
)
def test_types_that_cannot_be_kept_are_refused(declared: Any) -> None:
    """A declared type that the checkpoint cannot keep is refused, with those that it can."""
    with pytest.raises(
        ConfigurationError,
        match=r"operator 'op' is declared with .*, which the .* cannot keep; declare one of None",
    ):
        refuse_unkept("op", str, declared)


@pytest.mark.parametrize(
    "declared", [None, Any, object, Number, Literal["a", "b"], Annotated[int, msgspec.Meta(gt=0)]]
)
def test_types_without_a_form_of_their_own_are_kept(declared: Any) -> None:
    """What msgpack gives may be declared by a wider or a narrower type."""
    refuse_unkept("op", declared)


@pytest.mark.slow
@given(st.lists(st.tuples(hashable, st.tuples(st.integers(0, 1 << 50), plain))), st.lists(hashable))
def test_timed_states_come_back_with_their_times(pairs: list[tuple[Any, Any]], gone: list[Any]) -> None:
    """States with the time of their last touch come back equal and of equal types at every depth."""
    codec: TimedCodec = pickle.loads(pickle.dumps(TimedCodec("op")))  # noqa: S301 - written in this line

    assert exact(codec.decode(codec.encode(pairs, gone))) == exact((pairs, gone))


def test_timed_copies_share_nothing() -> None:
    """A copy has the time, and a state of its own."""
    kept = (5, {"a": [1]})
    copy = TimedCodec("op").own(kept)

    assert copy == kept
    assert not _mutable(copy) & _mutable(kept)
