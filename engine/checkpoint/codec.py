"""State as msgpack bytes, with the types that the job declared or with tags where it declared none. No pickle.

Without declared types a value is None, bool, int, float, str, bytes, or a tuple, list or dict of such, and comes back
as what it was; anything else is refused by name. With declared types msgspec builds them (see `declared` for which), and a state that would not come back as
its declared type is refused when it is written, and not only at the next start.

Owns: StateCodec, TimedCodec, is_plain.
Never: a file.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cached_property, partial
from types import GenericAlias
from typing import Any

import msgspec

from engine.checkpoint.declared import (
    COMPLEX,
    built,
    complex_of,
    described,
    encoded,
    loses_factory,
    refuse_unkept,
)
from engine.errors import StateVersionError
from engine.rdd.task import SCALARS

_TUPLE = 1
_BIG_INT = 2
_MAPPING = 3
_SAMPLE = 8
"""Pairs of each encoding that are proven to come back as their declared types."""


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
        self._encoder = msgspec.msgpack.Encoder(enc_hook=encoded)
        key, state = (Any if declared is None else declared for declared in (key_type, state_type))
        pairs = GenericAlias(list, (GenericAlias(tuple, (key, self._kept_type(state))),))
        layout: Any = GenericAlias(tuple, (pairs, GenericAlias(list, (key,))))
        self._decoder = msgspec.msgpack.Decoder(layout, ext_hook=_untag, dec_hook=built)
        self._state_decoder = msgspec.msgpack.Decoder(state, ext_hook=_untag, dec_hook=built)
        self._migrations: tuple[tuple[Any, Callable[[Any], Any]], ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (type(self), (self.operator, self._key_type, self._state_type), self._migrations)

    @cached_property
    def types(self) -> tuple[str, str]:
        """The declared types of key and state, as text."""
        return described(self._key_type), described(self._state_type)

    @property
    def former(self) -> frozenset[str]:
        """The older types of a state that this codec brings to its own, as text."""
        return frozenset(described(old) for old, _ in self._migrations)

    def migrate(self, migrations: Mapping[Any, Callable[[Any], Any]]) -> None:
        """Bring states of these older types to the declared one while they are decoded.

        Raises:
            ConfigurationError: an older type is none that the checkpoint can keep.
        """
        refuse_unkept(self.operator, *migrations)
        self._migrations = tuple(migrations.items())

    def _kept_type(self, state_type: Any) -> Any:
        """The type of what a shard keeps for a key, of a state's type."""
        return state_type

    def _tagged(self, pairs: list[tuple[Hashable, Any]]) -> list[tuple[Any, Any]]:
        """The pairs as msgpack is to have them."""
        if self._key_type is not None and self._state_type is not None:
            return pairs
        key_tag, state_tag = self._tag_of(self._key_type), self._tag_of(self._state_type)
        return [(key_tag(key), state_tag(state)) for key, state in pairs]

    def encode(self, pairs: Iterable[tuple[Hashable, Any]], gone: Iterable[Hashable]) -> bytes:
        """The bytes of the pairs and of the keys that are gone.

        Raises:
            TypeError: a key or state has a type that was not declared and has no tag, or is not of its declared type.
        """
        pairs = list(pairs)
        key_tag = self._tag_of(self._key_type)
        try:
            data = self._encoder.encode((self._tagged(pairs), [key_tag(key) for key in gone]))
        except NotImplementedError as cause:
            raise self._mistyped(pairs, cause) from cause
        if self._key_type is not None or self._state_type is not None:
            self._refuse_other_types(pairs[:_SAMPLE])
        return data

    def _refuse_other_types(self, pairs: list[tuple[Hashable, Any]]) -> None:
        """Prove of a sample that it comes back; a state that can change in place was proven when it was copied."""
        key_tag = self._tag_of(self._key_type)
        for key, state in pairs:
            proven = [(key, state)] if self._is_plain(state) else []
            try:
                self._decoder.decode(self._encoder.encode((self._tagged(proven), [key_tag(key)])))
            except msgspec.MsgspecError as cause:
                raise self._mistyped((key, state), cause) from cause

    def _is_plain(self, kept: Any) -> bool:
        """Whether what a shard keeps for a key cannot change in place."""
        return is_plain(kept)

    def _mistyped(self, value: Any, cause: Exception) -> TypeError:
        return TypeError(
            f"operator {self.operator!r} holds {value!r:.60} in its state, which is not of the declared types ({cause}); "
            "declare keyType= and stateType= as what the function gives"
        )

    def decode(self, data: bytes | memoryview, written: str = "") -> tuple[list[tuple[Any, Any]], list[Any]]:
        """The pairs, and the keys that are gone; the states are of the type that they were written as, where that is an older one.

        Raises:
            StateVersionError: the bytes are not of the declared types.
        """
        if self.older(written):
            former = type(self)(self.operator, self._key_type, self._migration(written)[0])
            return former.decode(data)
        try:
            pairs, gone = self._decoder.decode(data)
        except msgspec.MsgspecError as cause:
            raise StateVersionError(
                f"state of operator {self.operator!r} on the volume is not of the declared types ({cause}); "
                "declare the types it was written with, or give the operator a new name"
            ) from cause
        return pairs, gone

    def older(self, written: str) -> str:
        """A type that states were written as, empty where it is the declared one or nobody said which."""
        return "" if written == self.types[1] else written

    def _migration(self, written: str) -> tuple[Any, Callable[[Any], Any]]:
        for old, function in self._migrations:
            if described(old) == written:
                return old, function
        raise StateVersionError(
            f"operator {self.operator!r} has states of type {written} on the volume and declares {self.types[1]}; say how an old "
            f"state becomes a new one with migrateState({self.operator!r}, {{<old type>: function}})"
        )

    def brought(self, pairs: Iterable[tuple[Any, Any]], written: str) -> list[tuple[Any, Any]]:
        """The pairs with states of an older type as those of the declared one.

        Raises:
            StateVersionError: the function for it raises, or gives something else.
        """
        function = self._migration(written)[1]
        return [(key, self._brought(key, kept, function)) for key, kept in pairs]

    def _brought(self, key: Any, state: Any, function: Callable[[Any], Any]) -> Any:
        try:
            return self._copied(function(state))
        except Exception as cause:  # a function of the user may raise anything
            raise StateVersionError(
                f"migrateState of operator {self.operator!r}: the state {state!r:.60} of key {key!r:.60} cannot be brought to "
                f"{self.types[1]} ({type(cause).__name__}: {cause}); mend the function and start again"
            ) from cause

    def own(self, state: Any) -> Any:
        """A copy that shares nothing which can change in place with the original.

        Raises:
            TypeError: it has a type that was not declared and has no tag, or is not of the declared type.
        """
        return state if is_plain(state) else self._copied(state)

    def _copied(self, state: Any) -> Any:
        try:
            data = self._encoder.encode(self._tag_of(self._state_type)(state))
            copy = self._state_decoder.decode(data)
        except (msgspec.MsgspecError, NotImplementedError) as cause:
            raise self._mistyped(state, cause) from cause
        if loses_factory(state, copy):
            raise self._mistyped(
                state, TypeError("its default factory is not the declared type of its values")
            )
        return copy

    def differs(self, old: Any, new: Any) -> bool:
        """Whether a state is to be kept in place of the old one: another type, another value, or of a declared type other bytes."""
        if type(new) is not type(old):
            return True
        if self._state_type is None or is_plain(new):
            return bool(new != old)
        # Two objects of a user's class may be equal and hold different fields.
        return self._encoder.encode(new) != self._encoder.encode(old)

    def _tag_of(self, declared: Any) -> Callable[[Any], Any]:
        return partial(_tag, operator=self.operator) if declared is None else _same


class TimedCodec(StateCodec):
    """The codec of states that are kept as (time of the last batch that touched the key, state).

    Example:
        >>> codec = TimedCodec("sessions", str, list[int])
        >>> codec.decode(codec.encode([("a", (1_000, [1, 2]))], []))
        ([('a', (1000, [1, 2]))], [])
    """

    def _kept_type(self, state_type: Any) -> Any:
        return GenericAlias(tuple, (int, state_type))

    def _tagged(self, pairs: list[tuple[Hashable, Any]]) -> list[tuple[Any, Any]]:
        if self._key_type is not None and self._state_type is not None:
            return pairs
        key_tag, state_tag = self._tag_of(self._key_type), self._tag_of(self._state_type)
        return [(key_tag(key), (touched, state_tag(state))) for key, (touched, state) in pairs]

    def _is_plain(self, kept: Any) -> bool:
        return is_plain(kept[1])

    def _brought(self, key: Any, state: Any, function: Callable[[Any], Any]) -> Any:
        return state[0], super()._brought(key, state[1], function)

    def own(self, state: Any) -> Any:
        """A copy of (time, state) that shares nothing which can change in place with the original."""
        return state[0], self.own_state(state[1])

    def own_state(self, state: Any) -> Any:
        """A copy of the state alone."""
        return super().own(state)


def _made(
    kind: type[StateCodec], given: tuple[Any, ...], migrations: tuple[tuple[Any, Callable[[Any], Any]], ...]
) -> StateCodec:
    """A codec that came from another process."""
    codec = kind(*given)
    codec._migrations = migrations  # noqa: SLF001 - of this module
    return codec


def _same(value: Any) -> Any:
    return value


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
        f"operator {operator!r} holds a {kind.__name__} ({value!r:.60}) in its state; declare keyType= and stateType= "
        "(of a window valueType=), or use None, bool, int, float, str, bytes, tuple, list and dict"
    )


def _untag(code: int, data: memoryview) -> Any:
    if code == _BIG_INT:
        return int(bytes(data))
    if code == COMPLEX:
        return complex_of(data)
    items = msgspec.msgpack.decode(data, ext_hook=_untag)
    if code == _TUPLE:
        return tuple(items)
    if code == _MAPPING:
        return {key: value for key, value in items}  # noqa: C416  the pairs are lists
    raise StateVersionError(f"state on the volume has unknown tag {code}; it was written by a newer version")
