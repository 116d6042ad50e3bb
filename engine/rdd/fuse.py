"""Narrow operators as one loop: the source of a function is put together from their kinds, compiled once and kept.

A chain of generators resumes one frame for each operator and element; one loop calls the users' functions and nothing else. The loop of
map, filter and a combine by key reads as a person would write it:

    for x in elements:
        x = f0(x)
        if not f1(x): continue
        k, v = x
        c[k] = f2(c[k], v) if k in c else v

A StopIteration that escapes a user's function is an error here and never the silent end of a partition: in a generator by Python's rule,
in the loop that combines because nothing catches it.

Owns: FUSED, chain_of, combine_of, keep_first.
Never: text from a user; what is compiled consists of the templates below.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import lru_cache
from operator import add
from typing import Any

Function = Callable[..., Any]

FUSED: Mapping[str, tuple[str, ...]] = {
    "map": ("x = f{i}(x)",),
    "filter": ("if not f{i}(x): continue",),
    "flatMap": ("for x in f{i}(x):",),
    "asKey": ("x = (x, None)",),
    "mapValues": ("k, v = x", "x = (k, f{i}(v))"),
    "flatMapValues": ("k{i}, v = x", "for v in f{i}(v):", "x = (k{i}, v)"),
}
"""The lines of each operator that can be part of a loop; a line that ends in a colon indents what follows."""

_YIELD = ("yield x",)
_COMBINE: Mapping[str, tuple[str, ...]] = {
    "first": ("k, v = x", "c[k] = merge(c[k], v) if k in c else v"),
    "create": ("k, v = x", "c[k] = merge(c[k], v) if k in c else create(v)"),
    # operator.add is the + of its operands, without the call.
    "add": ("k, v = x", "c[k] = c[k] + v if k in c else v"),
    "keep": ("k, v = x", "if k not in c: c[k] = v"),
}
_WATCHED = ("x = f{i}(x)", "if type(x) is not list: x = watch(x)", "for x in x:")
"""A flatMap whose result may be longer than memory: a list is in memory already."""


def keep_first(known: Any, _: Any) -> Any:
    """The first of two, for a combine that only wants the keys; it is not called but compiled into the loop."""
    return known


def unwatched(elements: Iterable[Any]) -> Iterable[Any]:
    """The elements as they are."""
    return elements


def _loop(kinds: Iterable[str], operators: Mapping[str, tuple[str, ...]], end: tuple[str, ...]) -> list[str]:
    lines, depth = ["for x in elements:"], 1
    steps = [line.format(i=i) for i, kind in enumerate(kinds) for line in operators[kind]]
    for line in [*steps, *end]:
        lines.append("    " * depth + line)
        depth += line.startswith("for ")
    return lines


@lru_cache(maxsize=256)
def _compiled(kinds: tuple[str, ...], end: str) -> Function:
    parameters = "".join(f", f{i}" for i in range(len(kinds)))
    if end == "yield":
        lines = [f"def fused(elements{parameters}):", *_indented(_loop(kinds, FUSED, _YIELD))]
    else:
        lines = [
            f"def fused(elements, c, create, merge, watch{parameters}):",
            *_indented(_loop(kinds, {**FUSED, "flatMap": _WATCHED}, _COMBINE[end])),
        ]
    scope: dict[str, Any] = {}
    exec(compile("\n".join(lines), f"<fused {' '.join(kinds)}>", "exec"), scope)  # noqa: S102 - templates of this module only
    made: Function = scope["fused"]
    return made


def _end_of(create: Function | None, merge: Function) -> str:
    if create is not None:
        return "create"
    return "add" if merge is add else "keep" if merge is keep_first else "first"


def _indented(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]


def chain_of(kinds: tuple[str, ...], functions: Iterable[Function], elements: Iterator[Any]) -> Iterator[Any]:
    """The elements after every operator, as one generator.

    Example:
        >>> list(chain_of(("map", "filter"), [lambda n: n + 1, lambda n: n % 2], iter([1, 2, 3, 4])))
        [3, 5]
    """
    result: Iterator[Any] = _compiled(kinds, "yield")(elements, *functions)
    return result


def combine_of(
    kinds: tuple[str, ...],
    functions: Iterable[Function],
    elements: Iterable[Any],
    create: Function | None,
    merge: Function,
    into: dict[Hashable, Any] | None = None,
    watch: Callable[[Iterable[Any]], Iterable[Any]] = unwatched,
) -> dict[Hashable, Any]:
    """One combiner a key of the pairs after every operator; without `create` the first value is the combiner.

    Args:
        kinds: the operators, the first first.
        functions: theirs.
        elements: of the partition.
        create: makes a combiner of a value.
        merge: merges a value into a combiner.
        into: the combiners known so far, which take the new ones.
        watch: stands between a flatMap's result and the loop.

    Example:
        >>> combine_of(("map",), [lambda word: (word, 1)], iter("aba"), None, add)
        {'a': 2, 'b': 1}
    """
    combined: dict[Hashable, Any] = {} if into is None else into
    _compiled(kinds, _end_of(create, merge))(elements, combined, create, merge, watch, *functions)
    return combined
