"""Whether one copy of a loaded function serves all tasks: whether nothing that it holds can be changed by one.

The look is at the copy in the executor, which holds what was pickled and no more. What is not on the short list below counts as
changing: it is loaded anew for each task, as in PySpark, which costs about ten microseconds and is never wrong.

Owns: is_unchanging.
Never: a pickle, a call of a user's function.
"""

import sys
from collections.abc import Iterator
from dis import opmap
from pathlib import PosixPath
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType, NoneType
from typing import Any, Final, get_args, get_origin

from engine.rdd.structs import is_by_value, is_struct

_UNCHANGING: Final = {NoneType, bool, int, float, complex, str, bytes, PosixPath}
_BIND_GLOBALS: Final = {opmap["STORE_GLOBAL"], opmap["DELETE_GLOBAL"]}
_BIND_CELLS: Final = {opmap["STORE_DEREF"], opmap["DELETE_DEREF"]}
_OF_THE_INTERPRETER: Final = "__builtins__"


def is_unchanging(value: Any, *, is_users: bool = False) -> bool:
    """Whether no task can change the value, just loaded, or what it holds.

    What a function of the user holds (`is_users`) may be no function that went by value, itself included, and no object of the engine:
    it could set an attribute of one, or call what does.

    Example:
        >>> is_unchanging(len), is_unchanging((1, "a")), is_unchanging([1]), is_unchanging([1].append)
        (True, True, False, False)
    """

    def all_are(values: Any) -> bool:
        return all(is_unchanging(each, is_users=is_users) for each in values)

    kind = type(value)
    if kind in _UNCHANGING or _is_by_name(value):
        return True
    if kind is tuple:
        return all_are(value)
    if kind.__module__ in {"types", "typing"} and get_origin(value) is not None:  # such as list[int]
        return all_are(get_args(value))
    if is_users:
        return False
    if kind is FunctionType:
        return _is_function_unchanging(value)
    return _is_of_the_engine(kind) and all_are(_parts(value))


def _is_function_unchanging(function: FunctionType) -> bool:
    bindings = {step for code in _codes(function.__code__) for step in code.co_code[::2]}
    cells = function.__closure__ or ()
    if vars(function) or bindings & _BIND_GLOBALS or (cells and bindings & _BIND_CELLS):
        return False
    try:
        held = [cell.cell_contents for cell in cells]
    except ValueError:  # nothing was assigned yet
        return False
    held += function.__defaults__ or ()
    held += (function.__kwdefaults__ or {}).values()
    # cloudpickle has made these, of the globals that the function reads.
    held += (each for name, each in function.__globals__.items() if name != _OF_THE_INTERPRETER)
    return all(is_unchanging(each, is_users=True) for each in held)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code and that of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _is_by_name(value: Any) -> bool:
    """Whether it is a module, or a function or class that a module has under its name: loading it again gives the same one."""
    kind: Any = type(value)
    if kind is ModuleType:
        return sys.modules.get(value.__name__) is value
    if not issubclass(kind, FunctionType | BuiltinFunctionType | type):
        return False
    if value is NoneType:  # which has no name
        return True
    if issubclass(kind, type) and is_struct(value):  # has a number, also where it has no name
        return True
    module: str | None = value.__module__
    if module is None or is_by_value(module):
        return False
    found: Any = sys.modules.get(module)
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def _is_of_the_engine(kind: type) -> bool:
    """Whether it is a class of the engine's functions: none assigns to an attribute that its pickle has."""
    return (
        kind.__module__.startswith("engine.")
        and kind.__dictoffset__ != 0
        and not issubclass(kind, list | dict | set | BaseException)
    )


def _parts(value: Any) -> Any:
    """What an object of the engine is made of again."""
    kind: Any = type(value)
    return vars(value).values() if kind.__reduce__ is object.__reduce__ else value.__reduce__()[1]
