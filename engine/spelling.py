"""PySpark's spelling of plain values: what a listener is told has attributes here and methods there.

A listener written for the engine reads `batchCompleted.batchInfo.schedulingDelay`. One that was written for PySpark got wrappers of
Java objects, in which everything is a method: `batchCompleted.batchInfo().schedulingDelay()`. Both work on the same objects: a `Spelled`
value has plain attributes, and called it gives itself with methods in their place.

Owns: Spelled, Methods, Moment.
Never: a copy of a value; the methods read the attributes when they are called.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar


class Spelled:
    """Base of values that have attributes, and methods of the same names when they are called first.

    Source: the wrappers of `org.apache.spark.streaming.api.java`, where a number that is not known is -1; as an attribute it is None.

    Example:
        >>> class Delay(Spelled):
        ...     numbers = frozenset({"millis"})
        ...     millis, reason = None, None
        >>> (Delay().millis, Delay()().millis(), Delay()().reason())
        (None, -1, None)
    """

    __slots__ = ()
    numbers: ClassVar[frozenset[str]] = frozenset()
    """Attributes that are -1 in PySpark's spelling while they are None."""

    def __call__(self) -> "Methods":
        """The value in PySpark's spelling."""
        return Methods(self)


class Methods:
    """A value in PySpark's spelling: each attribute is a method without arguments, also of the values in it."""

    __slots__ = ("_value",)

    def __init__(self, value: Spelled) -> None:
        self._value = value

    def __getattr__(self, name: str) -> Callable[[], Any]:
        value = getattr(self._value, name)
        if callable(value) and not isinstance(value, Spelled):
            return value  # type: ignore[no-any-return]  # a method already
        return partial(_spelled, value, is_number=name in self._value.numbers)

    def __repr__(self) -> str:
        return repr(self._value)


def _spelled(value: Any, *, is_number: bool) -> Any:
    if value is None:
        return -1 if is_number else None
    if isinstance(value, Spelled):
        return value()
    if isinstance(value, Mapping):
        return {key: _spelled(one, is_number=False) for key, one in value.items()}
    return value


class Moment(int):
    """Milliseconds since the epoch, as an attribute of an event and as its method.

    Example:
        >>> Moment(1_500) == Moment(1_500)() == 1_500
        True
    """

    __slots__ = ()

    def __call__(self) -> int:
        """The number, in PySpark's spelling."""
        return int(self)
