"""msgspec Structs of the driver's `__main__` by value: cloudpickle alone sends such a class without its fields.

A class that was sent once has a number; whoever receives it again takes the class that it made the first time, so records of
two functions are of one type.

Owns: StructPickler, taken_apart, is_by_value, is_struct.
Never: a Struct of a module that can be imported; those go by name.
"""

import uuid
from types import FunctionType
from typing import Any, Final

import cloudpickle
import msgspec

_Pickler: Any = cloudpickle.Pickler
"""The library has no annotations."""
_by_value_modules: Any = cloudpickle.list_registry_pickle_by_value
"""As above."""
_StructType: Final[type] = type(msgspec.Struct)
_OPTIONS: Final = (
    *("frozen", "eq", "order", "array_like", "tag", "tag_field", "forbid_unknown_fields"),
    *("omit_defaults", "repr_omit_defaults", "weakref", "dict", "gc"),
)
_CONSTRAINTS: Final = (
    *("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length"),
    *("title", "description", "examples", "extra_json_schema", "extra"),
)
_OF_THE_CLASS: Final = frozenset(
    {"__module__", "__annotations__", "__doc__", "__match_args__", "__weakref__", "__dict__"}
)

_BY_NAME: Final = frozenset(
    {"engine.rdd.plan", "engine.rdd.executor", "engine.rdd.scratch", "engine.rdd.shipped"}
)
"""Modules whose classes make up most of a stage's message."""

_classes: Final[dict[str, type]] = {}
_numbers: Final[dict[type, str]] = {}


def _constrain(given: dict[str, Any]) -> msgspec.Meta:
    """The constraints of an annotated type, which msgspec does not pickle."""
    return msgspec.Meta(**given)


def _make(number: str, name: str, bases: tuple[type, ...], fields: list[Any], rest: tuple[Any, Any]) -> type:
    """The class of a number, made when it is new here."""
    if number not in _classes:
        namespace, options = rest
        own = [(field, kind, msgspec.field(**given)) for field, kind, given in fields]
        made = msgspec.defstruct(
            name, own, bases=bases or None, namespace=namespace, module="__main__", **options
        )
        _classes[number] = made
        _numbers[made] = number
    return _classes[number]


def _fields(struct: Any) -> list[Any]:
    """Name, type and arguments of `msgspec.field` of each field that the struct adds to its bases."""
    own, names, defaults = struct.__annotations__, struct.__struct_fields__, struct.__struct_defaults__
    required = len(names) - len(defaults)
    fields: list[Any] = []
    for index, name in enumerate(names):
        default = defaults[index - required] if index >= required else msgspec.NODEFAULT
        factory = getattr(default, "factory", None)
        if name not in own:
            continue
        if default is msgspec.NODEFAULT:
            fields.append((name, own[name], {}))
        elif factory is not None:
            fields.append((name, own[name], {"default_factory": factory}))
        else:
            fields.append((name, own[name], {"default": default}))
    return fields


def _reduced(struct: Any) -> tuple[Any, ...]:
    number = _numbers.setdefault(struct, uuid.uuid4().hex)
    _classes.setdefault(number, struct)
    options = {name: getattr(struct.__struct_config__, name) for name in _OPTIONS}
    encoded = zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True)
    options["rename"] = {name: other for name, other in encoded if name != other} or None
    hidden = {*struct.__struct_fields__, *_OF_THE_CLASS}
    namespace = {
        name: value
        for name, value in vars(struct).items()
        if name not in hidden and not name.startswith("__struct_") and name != "__slots__"
    }
    bases = tuple(base for base in struct.__bases__ if base is not msgspec.Struct)
    return _make, (number, struct.__name__, bases, _fields(struct), (namespace, options))


def is_by_value(module: str) -> bool:
    """Whether functions and classes of the module travel by value: those of `__main__`, and where the user asked for it."""
    if module == "__main__":
        return True
    asked: set[str] = _by_value_modules()
    return bool(asked) and any(module == each or module.startswith(f"{each}.") for each in asked)


def is_struct(made: type) -> bool:
    """Whether the class is a Struct."""
    return type(made) is _StructType


def taken_apart(obj: Any) -> Any:
    """How a Struct class of `__main__` or a constraint of its fields is taken apart; NotImplemented for all others."""
    if isinstance(obj, msgspec.Meta):
        given = {name: getattr(obj, name) for name in _CONSTRAINTS if getattr(obj, name) is not None}
        return _constrain, (given,)
    if isinstance(obj, _StructType) and getattr(obj, "__module__", "") == "__main__":
        return _reduced(obj)
    return NotImplemented


class StructPickler(_Pickler):  # type: ignore[misc]  # see _Pickler
    """cloudpickle's pickler, with Structs of `__main__` complete."""

    def reducer_override(self, obj: Any) -> Any:
        """How an object is taken apart: a Struct class of `__main__` here, all others by the library."""
        kind = obj if type(obj) is type else type(obj)
        if kind.__module__ in _BY_NAME:
            # The library would look up the class first, which costs more than the rest of the message.
            return NotImplemented
        if (
            kind is FunctionType and obj.__module__ == _Pickler.__module__
        ):  # as above, of what makes a function
            return NotImplemented
        ours = taken_apart(obj)
        return super().reducer_override(obj) if ours is NotImplemented else ours
