"""Decoders of record values: from the bytes that a source gives to what the functions of a job take.

A decoder is any callable bytes -> T. One that has a method `function()` is asked for the callable in the process that decodes,
so these here are shipped as a type and end up as msgspec's own compiled method: no Python call a record.

Owns: JsonDecoder, json_decoder, json_dict, raw_bytes.
Never: a null value; a record without a value is undecodable for each of them.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")


class JsonDecoder(Generic[T]):
    """Decodes UTF-8 JSON into one type, and refuses what does not fit it.

    Only the fields that the type declares are built, which is three to four times faster than a dict of all.

    Elements:
        bytes -> T
    Replay:
        Equal bytes give equal values.

    Raises:
        msgspec.DecodeError: the bytes are not JSON, or a field is missing or of another type.

    Example:
        >>> class PageView(msgspec.Struct):
        ...     page: str
        >>> json_decoder(PageView)(b'{"page":"/home","user":"u1"}')
        PageView(page='/home')
    """

    def __init__(self, type: type[T]) -> None:
        self._type = type
        self._decode: Callable[[bytes], T] | None = None

    def __call__(self, value: bytes) -> T:
        """The value decoded."""
        return self.function()(value)

    def function(self) -> Callable[[bytes], T]:
        """The compiled decoder of this process."""
        if self._decode is None:
            self._decode = msgspec.json.Decoder(self._type).decode
        return self._decode

    def __reduce__(self) -> tuple[Any, ...]:
        return (JsonDecoder, (self._type,))


def json_decoder(type: type[T]) -> JsonDecoder[T]:
    """The decoder of JSON into the type: a msgspec.Struct, a dataclass, a TypedDict or any other that msgspec knows."""
    return JsonDecoder(type)


class _RawBytes:
    """Takes the value as it is."""

    def __call__(self, value: bytes) -> bytes:
        """The value itself."""
        return bytes(value)

    def function(self) -> Callable[[bytes], bytes]:
        """The type bytes: of bytes it returns the same object, and it refuses null."""
        return bytes


json_dict: JsonDecoder[dict[str, Any]] = JsonDecoder(dict[str, Any])
"""Decodes a JSON object into a plain dict with all its fields."""

raw_bytes = _RawBytes()
"""Leaves the value as bytes."""
