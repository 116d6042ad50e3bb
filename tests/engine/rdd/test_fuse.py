"""One loop over all operators gives what the operators give one after another."""

from collections.abc import Callable, Iterable
from operator import add
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.rdd.fuse import chain_of, combine_of

STEPS: dict[str, tuple[Callable[..., Any], Callable[[Iterable[Any]], list[Any]]]] = {
    "map": (lambda x: (x[1], x[0]), lambda xs: [(v, k) for k, v in xs]),
    "filter": (lambda x: x[0] % 2, lambda xs: [x for x in xs if x[0] % 2]),
    "flatMap": (lambda x: [x] * (x[1] % 3), lambda xs: [x for x in xs for _ in range(x[1] % 3)]),
    "mapValues": (lambda v: v + 1, lambda xs: [(k, v + 1) for k, v in xs]),
    "flatMapValues": (lambda v: range(v % 4), lambda xs: [(k, n) for k, v in xs for n in range(v % 4)]),
}
chains = st.lists(st.sampled_from(sorted(STEPS)), max_size=6)
pairs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12)


def one_by_one(kinds: list[str], elements: list[Any]) -> list[Any]:
    """The operators applied one after another."""
    for kind in kinds:
        elements = STEPS[kind][1](elements)
    return elements


@given(chains, pairs)
def test_chain_equals_its_steps(kinds: list[str], elements: list[Any]) -> None:
    """Any chain of narrow operators as one loop gives what its steps give."""
    functions = [STEPS[kind][0] for kind in kinds]

    assert list(chain_of(tuple(kinds), functions, iter(elements))) == one_by_one(kinds, elements)


@given(chains, pairs)
def test_combine_equals_its_steps(kinds: list[str], elements: list[Any]) -> None:
    """Any chain that ends in a combine by key gives each key's values combined in their order."""
    functions = [STEPS[kind][0] for kind in kinds]
    listed: dict[Any, list[Any]] = {}
    for key, value in one_by_one(kinds, elements):
        listed.setdefault(key, []).append(value)

    def combined(create: Callable[..., Any] | None, merge: Callable[..., Any]) -> dict[Any, Any]:
        return combine_of(tuple(kinds), functions, iter(elements), create, merge)

    assert combined(lambda v: [v], lambda c, v: [*c, v]) == listed
    assert combined(None, add) == {key: sum(values) for key, values in listed.items()}
    assert combined(None, lambda _x, y: y) == {key: values[-1] for key, values in listed.items()}
    assert list(combined(None, add)) == list(listed)
