"""What a function would take along if it were pickled now: its code, what its cells and globals hold, what its object holds.

Two equal captures mean equal pickles, so a function that is used in batch after batch is pickled again only when it may have changed.
To look costs a few microseconds, to pickle a lambda a hundred. Where that cannot be proved (an object with a pickle of its own, a
large container) the capture says so, and equals no other.

A class whose pickle is decided by one attribute that cannot change in place may name it: `captured_by`.

Owns: Capture, captured.
Never: a pickle, a call of a user's function.
"""

import builtins
import datetime as dt
import enum
import logging
import operator
import pathlib
import re
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from copyreg import dispatch_table
from decimal import Decimal
from dis import get_instructions
from fractions import Fraction
from functools import lru_cache, partial
from operator import is_
from types import (
    BuiltinFunctionType,
    CodeType,
    EllipsisType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    NotImplementedType,
    WrapperDescriptorType,
)
from typing import Any, Final, get_args, get_origin

from engine.rdd.structs import is_by_value, is_struct

_MOST: Final = 200
"""Values that are looked at; a function that holds more is pickled sooner than looked through."""

_UNCHANGING: Final = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes, range, EllipsisType, NotImplementedType),
        *(dt.datetime, dt.date, dt.time, dt.timedelta, dt.timezone),
        *(Decimal, Fraction, uuid.UUID, re.Pattern, pathlib.PurePosixPath, pathlib.PosixPath),
        *(operator.itemgetter, operator.attrgetter, operator.methodcaller),
    }
)
"""Types whose values cannot change in place and stay out of cycles, so a capture may hold them."""
_DESCRIPTORS: Final = frozenset(
    {GetSetDescriptorType, MemberDescriptorType, MethodDescriptorType, WrapperDescriptorType}
)
_OF_A_CLASS: Final = frozenset(
    {
        *("__module__", "__qualname__", "__doc__", "__annotations__", "__dict__", "__weakref__", "__slots__"),
        *(
            "__match_args__",
            "__dataclass_fields__",
            "__dataclass_params__",
            "__abstractmethods__",
            "_abc_impl",
        ),
        *("__orig_bases__", "__parameters__", "__hash__"),
    }
)
"""Attributes of a class that are settled when it is made."""


_PICKLING: Final = ("__reduce_ex__", "__reduce__", "__getstate__")
"""Methods that decide what the pickle of an object is."""


class Capture:
    """What one function held at one time."""

    __slots__ = ("is_fixed", "leaves")

    def __init__(self, leaves: list[Any] | None, *, is_fixed: bool) -> None:
        self.leaves = leaves
        """The shape of what it holds and the values in it; None when it is not known whether the pickle depends on more."""
        self.is_fixed = is_fixed
        """Whether tasks cannot change any of it, so that one copy serves them all."""

    def is_as(self, other: "Capture") -> bool:
        """Whether a pickle made at the other time is the one that would be made at this."""
        mine, theirs = self.leaves, other.leaves
        return (
            mine is not None
            and theirs is not None
            and len(mine) == len(theirs)
            and all(map(is_, mine, theirs))
        )


def captured(function: Any) -> Capture:
    """What the function holds now.

    Example:
        >>> def adder(weights):
        ...     return lambda n: n + weights[0]
        >>> weights = [1]
        >>> add = adder(weights)
        >>> before = captured(add)
        >>> captured(add).is_as(before)
        True
        >>> weights[0] = 2
        >>> captured(add).is_as(before)
        False
    """
    look = _Look()
    look.at(function)
    if look.is_known:
        return Capture(look.leaves, is_fixed=look.is_fixed)
    return Capture(None, is_fixed=False)


class _Token:
    """Stands in a capture for the kind of a thing, of which the capture must not hold the thing itself: it would never be let go."""


_AGAIN, _FUNCTION, _METHOD, _PARTIAL, _CLASS, _OBJECT, _ABSENT = (_Token() for _ in range(7))
_NUMBERS: Final = tuple(range(_MOST + 1))
"""Numbers that are the same object each time."""


class _Look:
    """One look through what a function holds; it calls nothing of the user, such as a property or a `__class__`."""

    def __init__(self) -> None:
        self.leaves: list[Any] = []
        self.is_known = True
        """Whether nothing was found whose pickle may depend on more than can be seen."""
        self.is_fixed = True
        self._seen: dict[int, int] = {}
        self._made: list[Any] = []

    def at(self, value: Any) -> None:
        """Note a value and what it holds."""
        if not self.is_known:
            return
        kind = type(value)
        if kind in _UNCHANGING:
            self.leaves.append(value)
            return
        known = self._seen.get(id(value))
        if known is not None:
            self.leaves += (_AGAIN, _NUMBERS[known])
            return
        count = self._seen[id(value)] = len(self._seen)
        if count == _MOST:
            self.is_known = False
            return
        look = _LOOKS.get(kind)
        if look is not None:
            look(self, value)
        elif issubclass(kind, type):
            self._at_class(value)
        elif issubclass(kind, enum.Enum | logging.Logger):
            self._by_name(kind, value)
        elif issubclass(kind, tuple):
            self.leaves.append(kind)
            self._by_name(kind, kind)
            self._at_items(value)
        else:
            self._at_object(value)

    def _by_name(self, named: Any, value: Any) -> None:
        self.is_known &= _is_named(named)
        self.leaves.append(value)

    def _at_all(self, values: Iterable[Any]) -> None:
        for value in values:
            self.at(value)

    def _at_items(self, values: Any) -> None:
        if len(values) > _MOST:
            self.is_known = False
            return
        self.leaves += (type(values), _NUMBERS[len(values)])
        self._at_all(values)

    def _at_changing(self, values: Any) -> None:
        self.is_fixed = False
        self._at_items(values)

    def _at_dict(self, values: Mapping[Any, Any]) -> None:
        self.is_fixed = False
        self._at_mapping(values)

    def _at_mapping(self, values: Mapping[Any, Any]) -> None:
        self._at_items(values)
        self._at_all(values.values())

    def _at_function(self, function: FunctionType) -> None:
        if _is_named(function):
            self.leaves.append(function)
            return
        code = function.__code__
        names, rebinds = _globals_of(code)
        if rebinds:
            self.is_fixed = False
        self.leaves += (_FUNCTION, code)
        self.at(function.__defaults__)
        if function.__kwdefaults__:
            self._at_mapping(function.__kwdefaults__)
        if function.__dict__:
            self._at_dict(function.__dict__)
        for cell in function.__closure__ or ():
            try:
                held = cell.cell_contents
            except ValueError:  # nothing was assigned yet
                held = _ABSENT
            self._note(held)
        for name in names:
            self._note(function.__globals__.get(name, _ABSENT))

    def _note(self, held: Any) -> None:
        if held is _ABSENT:
            self.leaves.append(held)
        else:
            self.at(held)

    def _at_builtin(self, function: Any) -> None:
        owner = function.__self__
        if owner is None or isinstance(owner, ModuleType):
            self.leaves.append(function)
        else:
            self._at_bound(function)

    def _at_bound(self, method: Any) -> None:
        self.leaves += (_METHOD, method.__name__)
        self.at(method.__self__)

    def _at_partial(self, made: Any) -> None:
        self.leaves.append(_PARTIAL)
        self.at(made.func)
        self._at_items(made.args)
        self._at_mapping(made.keywords)
        if made.__dict__:
            self._at_dict(made.__dict__)

    def _at_module(self, module: ModuleType) -> None:
        self.is_known &= sys.modules.get(module.__name__) is module
        self.leaves.append(module)

    def _at_class(self, made: type) -> None:
        if _is_named(made):
            self.leaves.append(made)
            return
        if not is_struct(made):
            # A Struct is the first that came by its number; any other class is set to what comes.
            self.is_fixed = False
            self.is_known &= type(made) is type
        self.leaves += (_CLASS, made.__name__)
        self._at_items(made.__bases__)
        for name, value in tuple(vars(made).items()):
            if name not in _OF_A_CLASS and not name.startswith("__struct_"):
                self.leaves.append(name)
                self._at_attribute(value)

    def _at_attribute(self, value: Any) -> None:
        if type(value) in _DESCRIPTORS:
            self.leaves.append(type(value))
        elif type(value) in {staticmethod, classmethod}:
            self.leaves.append(type(value))
            self.at(value.__func__)
        elif type(value) is property:
            self.leaves.append(property)
            self._at_all((value.fget, value.fset, value.fdel))
        else:
            self.at(value)

    def _at_object(self, value: Any) -> None:
        kind: Any = type(value)
        telling = vars(kind).get("captured_by")
        if telling is not None:
            self.leaves += (kind, getattr(value, telling))
            return
        if kind.__module__ in {"types", "typing"}:  # such as list[int]
            self.leaves.append(kind)
            self.is_known &= get_origin(value) is not None
            self.at(get_origin(value))
            self._at_made(get_args(value))
            return
        is_ours = kind.__module__.startswith("engine.")
        is_plain = _has_plain_pickle(kind)
        if not _is_named(kind) or not (is_plain or (is_ours and "__reduce__" in vars(kind))):
            self.is_known = False
            return
        self.leaves += (_OBJECT, kind)
        if not is_ours:
            # Any method of it may assign to it; the engine's own do not.
            self.is_fixed = False
        if is_plain:
            self._at_mapping(vars(value))
        else:
            self._at_made(value.__reduce__()[1])

    def _at_made(self, values: tuple[Any, ...]) -> None:
        """A tuple that is made for this look, kept so that no other gets its identity."""
        self._made.append(values)
        self._at_items(values)


_LOOKS: Final[Mapping[type, Callable[[_Look, Any], None]]] = {
    tuple: _Look._at_items,  # noqa: SLF001 - of this module, as all below
    frozenset: _Look._at_items,  # noqa: SLF001
    list: _Look._at_changing,  # noqa: SLF001
    set: _Look._at_changing,  # noqa: SLF001
    dict: _Look._at_dict,  # noqa: SLF001
    FunctionType: _Look._at_function,  # noqa: SLF001
    BuiltinFunctionType: _Look._at_builtin,  # noqa: SLF001
    MethodType: _Look._at_bound,  # noqa: SLF001
    partial: _Look._at_partial,  # noqa: SLF001
    ModuleType: _Look._at_module,  # noqa: SLF001
    MethodDescriptorType: lambda look, value: look._by_name(value.__objclass__, value),  # noqa: SLF001
    WrapperDescriptorType: lambda look, value: look._by_name(value.__objclass__, value),  # noqa: SLF001
}


def _is_named(value: Any) -> bool:
    """Whether an executor finds the function or class under its name, so that its pickle is the name."""
    name = value.__module__
    if name == builtins.__name__:
        return True
    module = sys.modules.get(name)
    if module is None or is_by_value(name):
        return False
    found: Any = module
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


@lru_cache(maxsize=1_024)
def _globals_of(code: CodeType) -> tuple[tuple[str, ...], bool]:
    """The globals that the code and the functions in it read, and whether they bind a name outside of themselves anew."""
    names: dict[str, None] = {}
    rebinds = False
    for each in _codes(code):
        for step in get_instructions(each):
            if step.opname in {"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME"}:
                names[step.argval] = None
            rebinds |= step.opname in {"STORE_GLOBAL", "DELETE_GLOBAL", "IMPORT_STAR"} or (
                step.opname in {"STORE_DEREF", "DELETE_DEREF"} and step.argval in code.co_freevars
            )
    return tuple(names), rebinds


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


@lru_cache(maxsize=1_024)
def _has_plain_pickle(kind: type) -> bool:
    """Whether the pickle of such an object is its class by name and its attributes."""
    return (
        all(getattr(kind, name) is getattr(object, name) for name in _PICKLING)
        and not hasattr(kind, "__getnewargs__")
        and not hasattr(kind, "__getnewargs_ex__")
        and not issubclass(kind, list | dict | set | frozenset | BaseException)
        and not any(vars(base).get("__slots__") for base in kind.__mro__)
        and kind.__dictoffset__ != 0
        and kind not in dispatch_table
    )
