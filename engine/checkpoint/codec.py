"""State as msgpack bytes, with the types that the job declared or with tags where it declared none. No pickle.

Without declared types a value is None, bool, int, float, str, bytes, or a tuple, list or dict of such, and comes back
as what it was; anything else is refused by name. With declared types msgspec checks and builds them.

Owns: StateCodec, is_plain.
Never: a file.
"""

from collections.abc import Hashable, Iterable
from types import GenericAlias
from typing import Any

import msgspec

from engine.errors import StateVersionError
from engine.rdd.task import SCALARS

_TUPLE = 1
_BIG_INT = 2
_MAPPING = 3


def is_plain(value: Any) -> bool:
    """Whether a value cannot change in place: a scalar or a tuple of scalars.

    Example:
        >>> is_plain(("a", 1)), is_plain(["a"])
        (True, False)
    """
    kind = type(value)
    return kind in SCALARS or (kind is tuple and all(type(item) in SCALARS for item in value))


class StateCodec:
    """Encodes and decodes pairs (key, state) and the keys that are gone.

    Args:
        operator: name of the stateful operator, for messages.
        key_type: type of a key; None for tagged values.
        state_type: type of a state; None for tagged values.

    Example:
        >>> codec = StateCodec("totals", None, None)
        >>> codec.decode(codec.encode([(("a", 1), [1, 2])], []))
        ([(('a', 1), [1, 2])], [])
    """

    def __init__(self, operator: str, key_type: Any = None, state_type: Any = None) -> None:
        self.operator = operator
        self._key_type = key_type
        self._state_type = state_type
        self._encoder = msgspec.msgpack.Encoder()
        key, state = (Any if declared is None else declared for declared in (key_type, state_type))
        pairs = GenericAlias(list, (GenericAlias(tuple, (key, state)),))
        layout: Any = GenericAlias(tuple, (pairs, GenericAlias(list, (key,))))
        self._decoder = msgspec.msgpack.Decoder(layout, ext_hook=_untag)
        self._state_decoder = msgspec.msgpack.Decoder(state, ext_hook=_untag)

    def __reduce__(self) -> tuple[Any, ...]:
        return StateCodec, (self.operator, self._key_type, self._state_type)

    def encode(self, pairs: Iterable[tuple[Hashable, Any]], gone: Iterable[Hashable]) -> bytes:
        """The bytes of the pairs and of the keys that are gone.

        Raises:
            TypeError: a key or state has a type that was not declared and has no tag.
        """
        return self._encoder.encode(
            (
                [
                    (self._tag(key, self._key_type), self._tag(state, self._state_type))
                    for key, state in pairs
                ],
                [self._tag(key, self._key_type) for key in gone],
            )
        )

    def decode(self, data: bytes | memoryview) -> tuple[list[tuple[Any, Any]], list[Any]]:
        """The pairs, and the keys that are gone.

        Raises:
            StateVersionError: the bytes are not of the declared types.
        """
        try:
            pairs, gone = self._decoder.decode(data)
        except msgspec.MsgspecError as cause:
            raise StateVersionError(
                f"state of operator {self.operator!r} on the volume is not of the declared types ({cause}); "
                "declare the types it was written with, or give the operator a new name"
            ) from cause
        return pairs, gone

    def own(self, state: Any) -> Any:
        """A copy that shares nothing which can change in place with the original."""
        if is_plain(state):
            return state
        return self._state_decoder.decode(self._encoder.encode(self._tag(state, self._state_type)))

    def differs(self, old: Any, new: Any) -> bool:
        """Whether a state is to be kept in place of the old one: another type, another value, or of a declared type other bytes."""
        if type(new) is not type(old):
            return True
        if self._state_type is None or is_plain(new):
            return bool(new != old)
        # Two objects of a user's class may be equal and hold different fields.
        return self._encoder.encode(new) != self._encoder.encode(old)

    def _tag(self, value: Any, declared: Any) -> Any:
        return value if declared is not None else _tag(value, self.operator)


def _tag(value: Any, operator: str) -> Any:
    kind = type(value)
    if kind is int:
        return value if -(1 << 63) <= value < 1 << 64 else msgspec.msgpack.Ext(_BIG_INT, str(value).encode())
    if kind in SCALARS and kind is not complex:
        return value
    if kind is tuple:
        return msgspec.msgpack.Ext(_TUPLE, msgspec.msgpack.encode([_tag(item, operator) for item in value]))
    if kind is list:
        return [_tag(item, operator) for item in value]
    if kind is dict:
        items = [(_tag(key, operator), _tag(item, operator)) for key, item in value.items()]
        return msgspec.msgpack.Ext(_MAPPING, msgspec.msgpack.encode(items))
    raise TypeError(
        f"operator {operator!r} holds a {kind.__name__} ({value!r:.60}) in its state; declare keyType= and stateType=, "
        "or use None, bool, int, float, str, bytes, tuple, list and dict"
    )


def _untag(code: int, data: memoryview) -> Any:
    if code == _BIG_INT:
        return int(bytes(data))
    items = msgspec.msgpack.decode(data, ext_hook=_untag)
    if code == _TUPLE:
        return tuple(items)
    if code == _MAPPING:
        return {key: value for key, value in items}  # noqa: C416  the pairs are lists
    raise StateVersionError(f"state on the volume has unknown tag {code}; it was written by a newer version")
