"""Elements of a stream as bytes, for sources that write down what they took. No pickle.

An element is None, bool, int, float, str, bytes, or a tuple, list, dict, set or frozenset of such, and comes back as what it was.
The bytes are msgpack: what msgpack has no type for stands in an extension.

    code  holds
    1     tuple: an array of its items
    2     int beyond 64 bits: decimal digits
    3     dict: an array of its (key, value) pairs, so that a key may be a tuple
    4     set: an array of its items, sorted by their bytes
    5     frozenset: the same

Owns: encode_element, decode_element, decode_text.
Never: a class of the user's; a file.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from engine.errors import ConfigurationError, SourceError

_TUPLE, _BIG_INT, _DICT, _SET, _FROZENSET = 1, 2, 3, 4, 5
_AS_THEY_ARE = frozenset({type(None), bool, float, str, bytes})
_Ext = msgspec.msgpack.Ext
_to_bytes = msgspec.msgpack.Encoder().encode


def encode_element(element: Any) -> bytes:
    """The bytes of an element.

    Raises:
        ConfigurationError: it is, or holds, something that has no bytes here.

    Example:
        >>> decode_element(encode_element(("a", [1, {2: None}])))
        ('a', [1, {2: None}])
    """
    try:
        return _to_bytes(_tagged(element))
    except (UnicodeEncodeError, RecursionError, msgspec.MsgspecError) as cause:
        raise ConfigurationError(
            f"the element {element!r:.60} cannot be written to the block log ({cause}); "
            "store None, bool, int, float, str, bytes, or tuples, lists, dicts and sets of them"
        ) from cause


def _tagged(value: Any) -> Any:
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind is int:
        return value if -(1 << 63) <= value < 1 << 64 else _Ext(_BIG_INT, str(value).encode())
    if kind is list:
        return [_tagged(item) for item in value]
    if kind is tuple:
        return _Ext(_TUPLE, _to_bytes([_tagged(item) for item in value]))
    if kind is dict:
        return _Ext(_DICT, _to_bytes([(_tagged(key), _tagged(item)) for key, item in value.items()]))
    if kind in {set, frozenset}:
        return _Ext(_SET if kind is set else _FROZENSET, _sorted_items(value))
    raise ConfigurationError(
        f"an element of type {kind.__name__} ({value!r:.60}) cannot be written to the block log; "
        "store None, bool, int, float, str, bytes, or tuples, lists, dicts and sets of them"
    )


def _sorted_items(items: Iterable[Any]) -> bytes:
    return _to_bytes([msgspec.Raw(data) for data in sorted(_to_bytes(_tagged(item)) for item in items)])


_MAKERS: dict[int, Callable[[list[Any]], Any]] = {
    _TUPLE: tuple,
    _DICT: lambda pairs: {key: value for key, value in pairs},  # noqa: C416  the pairs are lists
    _SET: set,
    _FROZENSET: frozenset,
}


def _untagged(code: int, data: memoryview) -> Any:
    if code == _BIG_INT:
        return int(bytes(data))
    make = _MAKERS.get(code)
    if make is None:
        raise SourceError(f"an element on the volume has unknown tag {code}; run the version that wrote it")
    return make(_decoder.decode(data))


_decoder = msgspec.msgpack.Decoder(ext_hook=_untagged)


def decode_element(data: bytes | memoryview) -> Any:
    """The element of some bytes.

    Raises:
        SourceError: a newer version wrote them.
    """
    return _decoder.decode(data)


def decode_text(data: bytes) -> str:
    """UTF-8 as text; bytes that are none become the replacement character, as in Spark.

    Example:
        >>> decode_text("café".encode())
        'café'
    """
    return data.decode("utf-8", "replace")
