"""How values and functions travel between the driver and its executors: through pipes of our own and a run's own scratch files.

What pickle can name it sends by name; classes and functions of the driver's `__main__`, lambdas and nested functions go by value.
Pairs travel as blocks: a column of keys and a column of values, so no tuple a pair is written. A column of plain values is
marshalled, which is several times faster than pickle; any other one is pickled.

A block: two bytes with the kinds of its columns, their lengths as two 32-bit numbers, the columns' bytes. Blocks follow one another.

Owns: dump, dump_by_value, load, dump_block, load_blocks, SCALARS, cannot_change.
Never: bytes that another run or another machine wrote.
"""

import io
import marshal
import pickle
import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final

from engine.rdd.structs import StructPickler

_PROTOCOL: Final = 5

Block = tuple[list[Any] | None, list[Any]]
"""Keys and values; no keys when the elements are no pairs. One list may be both."""

SCALARS: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
"""Types whose values cannot change in place."""

_HEAD: Final = struct.Struct("<BBII")
_ABSENT, _MARSHALLED, _PICKLED, _AS_KEYS = range(4)


def dump(value: Any) -> bytes:
    """The bytes of a value; fast for what can be sent by name."""
    try:
        return pickle.dumps(value, _PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError):
        # A class of the driver's __main__ cannot be named in an executor.
        return dump_by_value(value)


def dump_by_value(value: Any) -> bytes:
    """The bytes of a value with the functions and classes that it holds."""
    payload = io.BytesIO()
    StructPickler(payload, _PROTOCOL).dump(value)
    return payload.getvalue()


def load(payload: bytes | memoryview) -> Any:
    """The value of the bytes."""
    return pickle.loads(payload)  # noqa: S301 - from our own driver or executor, through our own pipe or scratch file


def kinds_of(elements: Sequence[Any]) -> set[type]:
    """The types of the elements; in place of tuple those of the tuples' items; passes in C."""
    if type(elements) is range:  # of any length, and not to be read for this
        return {int}
    kinds = set(map(type, elements))
    if tuple in kinds:
        kinds.discard(tuple)
        kinds |= set(map(type, chain.from_iterable(item for item in elements if type(item) is tuple)))
    return kinds


def cannot_change(elements: Sequence[Any]) -> bool:
    """Whether no element, nor an item of an element that is a tuple, can change in place."""
    return kinds_of(elements) <= SCALARS


def dump_block(keys: list[Any] | None, values: list[Any]) -> bytes:
    """The bytes of a block.

    Example:
        >>> list(load_blocks(dump_block(["a"], [1]) + dump_block(None, [2])))
        [(['a'], [1]), (None, [2])]
    """
    key_kind, key_bytes = (_ABSENT, b"") if keys is None else _dump_column(keys)
    value_kind, value_bytes = (_AS_KEYS, b"") if keys is values else _dump_column(values)
    return b"".join(
        (_HEAD.pack(key_kind, value_kind, len(key_bytes), len(value_bytes)), key_bytes, value_bytes)
    )


def load_blocks(payload: bytes | memoryview) -> Iterator[Block]:
    """The blocks that stand in the bytes one after another."""
    view, at = memoryview(payload), 0
    while at < len(view):
        end = at + block_bytes(view[at : at + HEAD_BYTES])
        yield load_block(view[at:end])
        at = end


HEAD_BYTES: Final = _HEAD.size
"""Bytes that tell how long a block is."""


def block_bytes(head: bytes | memoryview) -> int:
    """Length of the block that begins with these `HEAD_BYTES`, they included."""
    _, _, of_keys, of_values = _HEAD.unpack(head)
    return HEAD_BYTES + int(of_keys) + int(of_values)


def load_block(payload: bytes | memoryview) -> Block:
    """The one block that the bytes are."""
    key_kind, value_kind, of_keys, _ = _HEAD.unpack_from(payload)
    view = memoryview(payload)[HEAD_BYTES:]
    keys = _load_column(key_kind, view[:of_keys])
    if value_kind == _AS_KEYS:
        return keys, keys or []
    return keys, _load_column(value_kind, view[of_keys:]) or []


def _dump_column(column: list[Any]) -> tuple[int, bytes]:
    kinds = kinds_of(column)
    if kinds <= SCALARS:
        try:
            # Version 4 is the fast one for str; for numbers it looks each up among those written before.
            return _MARSHALLED, marshal.dumps(column, 4 if str in kinds else 2)
        except ValueError:  # a str of 2 GB and more
            pass
    return _PICKLED, dump(column)


def _load_column(kind: int, view: memoryview) -> list[Any] | None:
    if kind == _ABSENT:
        return None
    column: list[Any] = marshal.loads(view) if kind == _MARSHALLED else load(view)  # noqa: S302 - our own, as in load
    return column
