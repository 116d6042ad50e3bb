"""How many arguments a user's function takes: (rdd) or (time, rdd), (values, state) or (time, key, values, state).

Owns: positional_arguments, refuse_uncallable, with_time, of_rdds, an_rdd, WithoutTime.
Never: a call of the function.
"""

import inspect
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from engine.batch import Time
from engine.errors import ConfigurationError
from engine.rdd.api import RDD, U

_WORDS = {1: "one", 2: "two", 3: "three"}


def positional_arguments(function: Callable[..., Any]) -> int:
    """How many positional arguments a function is to be called with.

    Partials, bound methods, callable objects and defaults count as a caller sees them (PySpark counts the code object's
    arguments, defaults and self included). A function of *args alone takes two, as in PySpark's foreachRDD, a builtin of *args, or
    without a signature, one.

    Example:
        >>> positional_arguments(lambda rdd, limit=3: rdd), positional_arguments(print), positional_arguments(lambda: None)
        (1, 1, 0)
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    named = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    required = sum(p.default is p.empty for p in named)
    if required or named:
        return required or 1
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 1 if inspect.isbuiltin(function) else 2
    return 0


def with_time(function: Callable[..., U], name: str, rdds: int = 1) -> Callable[..., U]:
    """A function of (rdd) or (time, rdd) as one of (Time, rdd); the user's gets the time as PySpark's naive local datetime.

    Args:
        function: the user's.
        name: of the operation, for the message.
        rdds: how many RDDs it takes beside the time.

    Raises:
        ConfigurationError: it is no function, or takes another number of arguments.
    """
    refuse_uncallable(name, function)
    _refuse_keywords(name, function)
    count = positional_arguments(function)
    if count < rdds and _takes(function, rdds):
        count = rdds
    if count not in {rdds, rdds + 1}:
        raise ConfigurationError(
            f"{name}: the function takes {count} arguments; func should take {_WORDS[rdds]} or {_WORDS[rdds + 1]} arguments"
        )
    if count == rdds:
        return lambda _time, *given: function(*given)
    return lambda time, *given: function(time.as_datetime(), *given)


def refuse_uncallable(name: str, *functions: object) -> None:
    """Prove that an operation was given functions.

    Args:
        name: of the operation.
        functions: what it was given.

    Raises:
        ConfigurationError: one cannot be called.
    """
    for function in functions:
        if not callable(function):
            raise ConfigurationError(f"{name}: {function!r:.60} cannot be called; give a function")


def _refuse_keywords(name: str, function: Callable[..., Any]) -> None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise ConfigurationError(
                f"{name}: the function wants {parameter.name!r} by name, which nobody gives; give it a default, or bind it with "
                "functools.partial"
            )


def of_rdds(function: Callable[..., U], name: str) -> Callable[[Sequence[RDD[Any]]], RDD[Any]]:
    """A user's function of the list of RDDs, whose result is proven to be one.

    Args:
        function: the user's.
        name: of the operation, for the message.

    Raises:
        ConfigurationError: it is no function, or does not take one argument.
    """
    refuse_uncallable(name, function)
    _refuse_keywords(name, function)
    count = positional_arguments(function)
    if count != 1 and not _takes(function, 1):
        raise ConfigurationError(
            f"{name}: the function takes {count} arguments; transformFunc should take one argument, the list of the streams' RDDs"
        )
    return lambda rdds: an_rdd(name, function(list(rdds)))


def an_rdd(operation: str, made: Any) -> RDD[Any]:
    """What a user's function made of RDDs, proven to be one.

    Raises:
        ConfigurationError: it is none.
    """
    if made is None:
        raise ConfigurationError(
            f"{operation}: the function returned None; Transform function must not return null. Return "
            "SparkContext.emptyRDD() instead: return sc.emptyRDD() for nothing"
        )
    if not hasattr(made, "mapPartitionsWithIndex"):
        raise ConfigurationError(f"{operation}: the function returned {made!r:.60}; return an RDD")
    rdd: RDD[Any] = made
    return rdd


def _takes(function: Callable[..., Any], count: int) -> bool:
    """Whether the defaults of a function leave room for so many arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


class WithoutTime:
    """An update of (values, state) as one of (time, key, values, state)."""

    def __init__(self, function: Callable[[list[Any], Any], Any]) -> None:
        self._function = function

    def __call__(self, _time: Time, _key: Hashable, values: list[Any], state: Any) -> Any:
        """The new state."""
        return self._function(values, state)
