"""What a declared type of a key or state may be, and how those that msgpack has no form for are kept.

Beside what msgspec builds (see KEPT): a Counter is a map, and so is a defaultdict, whose factory is the declared type of its
values; a deque is the map {"maxlen", "items"}; a complex is extension 4 of two little-endian doubles.

Owns: KEPT, refuse_unkept, described, encoded, built, loses_factory.
Never: a value without a declared type; the codec tags those.
"""

import dataclasses
import enum
import struct
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import msgspec

from engine.errors import ConfigurationError

KEPT: Final = (
    "None, bool, int, float, complex, str, bytes, Decimal, UUID, datetime, date, time, timedelta, an Enum, tuple, list, set, "
    "frozenset, dict, Counter, deque, defaultdict[K, V], a NamedTuple, TypedDict, dataclass or msgspec.Struct"
)
"""The types that can be declared."""
COMPLEX: Final = 4
"""Code of msgpack's extension for a complex number."""
_COMPLEX = struct.Struct("<dd")
_NATIVE: Final = (type(None), bool, int, float, str, bytes, list, dict)
"""What msgpack gives without a declared type."""


def refuse_unkept(operator: str, *declared: Any) -> None:
    """Prove that the checkpoint can keep values of the declared types; None declares nothing.

    Raises:
        ConfigurationError: it cannot.

    Example:
        >>> refuse_unkept("totals", str, dict[str, Counter[str]])
        >>> refuse_unkept("totals", str, range)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        engine.errors.ConfigurationError: operator 'totals' is declared with range, ...
    """
    for kind in declared:
        for refused in _refused(kind) if kind is not None else ():
            raise ConfigurationError(
                f"operator {operator!r} is declared with {_name(refused)}, which the checkpoint cannot keep; "
                f"declare one of {KEPT}"
            )


def _refused(kind: Any) -> Iterator[Any]:
    """The parts of a type that cannot be kept."""
    origin = get_origin(kind)
    if origin is Literal:
        return
    if (origin or kind) is defaultdict and _factory_of(kind) is None:
        yield kind
    for inner in get_args(kind)[: 1 if origin is Annotated else None]:
        if inner is not Ellipsis and inner != ():
            yield from _refused(inner)
    try:
        msgspec.msgpack.Decoder(kind, dec_hook=built)
        yield from (each.cls for each in _customs(msgspec.inspect.type_info(kind)) if not _is_built(each.cls))
    except (TypeError, NameError):
        yield kind


def _customs(info: Any) -> Iterator[msgspec.inspect.CustomType]:
    """The types within one that msgspec leaves to us."""
    unseen, seen = [info], set()
    while unseen:
        each = unseen.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, msgspec.inspect.CustomType):
            yield each
        elif isinstance(each, tuple):
            unseen += each
        elif isinstance(each, msgspec.inspect.Type | msgspec.inspect.Field):
            unseen += [getattr(each, name) for name in each.__struct_fields__]


def _is_built(kind: type) -> bool:
    """Whether `built` makes values of a type that msgspec leaves to us."""
    return kind in _BUILDERS or any(issubclass(native, kind) for native in _NATIVE)


def _factory_of(kind: Any) -> type | None:
    """The default factory of a declared defaultdict: the type of its values, None where that is no plain class."""
    arguments = get_args(kind)
    factory = (get_origin(arguments[1]) or arguments[1]) if len(arguments) == 2 else None
    return factory if isinstance(factory, type) and factory is not Any else None


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else repr(kind)


def described(kind: Any) -> str:
    """A declared type as text, with the fields of what has fields: what is kept is read again as a type of the same text only.

    Example:
        >>> described(tuple[str, int | None]), described(None)
        ('tuple[str, int | None]', 'plain values')
        >>> class Total(msgspec.Struct):
        ...     views: int
        ...     pages: list[str]
        >>> described(dict[str, Total])
        'dict[str, Total(views: int, pages: list[str])]'
    """
    return "plain values" if kind is None else _described(kind, ())


def _described(kind: Any, outer: tuple[Any, ...]) -> str:
    """The text of a type that stands in others; one that stands in itself is told by its name."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _described(arguments[0], outer)
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    inner = [_described(each, outer) for each in arguments]
    if origin in {Union, UnionType}:
        return " | ".join(inner)
    if not isinstance(origin or kind, type) or kind is NoneType:
        return _NAMES.get(kind) or _described_alias(kind, outer)
    plain: Any = origin or kind
    text: str = plain.__name__ + (f"[{', '.join(inner)}]" if inner else "")
    if plain in outer:
        return text
    parts = [
        f"{name}: {field if isinstance(field, str) else _described(field, (*outer, plain))}"
        for name, field in _fields(plain)
    ]
    if issubclass(plain, enum.Enum):
        parts = [repr(member.value) for member in plain]
    return f"{text}({', '.join(parts)})" if parts else text


_NAMES: Final[dict[Any, str]] = {None: "None", NoneType: "None", Ellipsis: "...", (): "()"}


def _described_alias(kind: Any, outer: tuple[Any, ...]) -> str:
    """The text of what is no class: a new name for one, or whatever it calls itself."""
    return _described(kind.__supertype__, outer) if hasattr(kind, "__supertype__") else str(kind)


def _fields(kind: Any) -> list[tuple[str, Any]]:
    """The names that stand on the volume, and the types, of what has fields."""
    try:
        hints = get_type_hints(kind)
    except (NameError, TypeError):  # a class of a function's own, in an annotation that is text
        hints = getattr(kind, "__annotations__", {})
    if issubclass(kind, msgspec.Struct):
        return [
            (shown, hints[name])
            for name, shown in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
        ]
    if dataclasses.is_dataclass(kind):
        return [(field.name, hints[field.name]) for field in dataclasses.fields(kind)]
    if is_typeddict(kind):
        return list(hints.items())
    return [(name, hints.get(name, Any)) for name in getattr(kind, "_fields", ())]


def encoded(value: Any) -> Any:
    """What stands in msgpack for a value that it has no form for.

    Raises:
        NotImplementedError: it is of no type that is kept.
    """
    if isinstance(value, deque):
        return {"maxlen": value.maxlen, "items": list(value)}
    if isinstance(value, complex):
        return msgspec.msgpack.Ext(COMPLEX, _COMPLEX.pack(value.real, value.imag))
    raise NotImplementedError(f"{type(value).__name__} is not of a type that is kept")


def complex_of(data: memoryview) -> complex:
    """The number of an extension's bytes."""
    return complex(*_COMPLEX.unpack(data))


def built(kind: Any, data: Any) -> Any:
    """A value of a declared type that msgspec leaves to us, of what msgpack gave.

    Raises:
        TypeError: the data are not of this type.
    """
    origin = get_origin(kind) or kind
    builder = _BUILDERS.get(origin)
    made = data if builder is None else builder(get_args(kind), data)
    if not isinstance(made, origin):
        raise TypeError(f"Expected `{_name(origin)}`, got `{type(data).__name__}`")
    return made


def _as(kind: Any, data: Any) -> Any:
    return msgspec.convert(data, kind, dec_hook=built)


def _counter(arguments: tuple[Any, ...], data: Any) -> Any:
    key = arguments[0] if arguments else Any
    return Counter(_as(GenericAlias(dict, (key, int | float)), data))


def _defaultdict(arguments: tuple[Any, ...], data: Any) -> Any:
    factory = _factory_of(GenericAlias(defaultdict, arguments))
    return defaultdict(factory, _as(GenericAlias(dict, arguments), data))


def _deque(arguments: tuple[Any, ...], data: Any) -> Any:
    if not isinstance(data, dict) or data.keys() != {"maxlen", "items"}:
        return data
    items = GenericAlias(list, (arguments[0] if arguments else Any,))
    return deque(_as(items, data["items"]), data["maxlen"])


def _complex(_arguments: tuple[Any, ...], data: Any) -> Any:
    return data


_BUILDERS: Final[dict[Any, Callable[[tuple[Any, ...], Any], Any]]] = {
    Counter: _counter,
    complex: _complex,
    defaultdict: _defaultdict,
    deque: _deque,
}


def loses_factory(state: Any, copy: Any) -> bool:
    """Whether a defaultdict came back with another factory than it had."""
    return (
        isinstance(state, defaultdict)
        and isinstance(copy, defaultdict)
        and state.default_factory is not copy.default_factory
    )
