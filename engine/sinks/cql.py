"""A results table in Cassandra's terms: its statements, its rows as bytes, and the requests these travel in.

Owns: the text of statements, Encoder, EncodedChange, Request, requests_of, fault_of.
Never: the driver, a connection.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from engine.errors import SinkError
from engine.sinks import rules
from engine.sinks.api import Table
from engine.sinks.rules import Change, Kind, shown

PROTOCOL_VERSION: Final = 4
"""A fifth cheaper for the client than 5, whose frames carry checksums; every server since 2.2 speaks it."""
_VALUE_BYTES: Final = 4
_STATEMENT_BYTES: Final = 21
"""What a batch adds to the values of each statement: its kind, the length and bytes of its id, a count."""

_KINDS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("ascii", "text", "varchar"), rules.TEXT),
    **dict.fromkeys(("tinyint", "smallint", "int", "bigint", "varint"), rules.INTEGER),
    **dict.fromkeys(("float", "double"), rules.FLOAT),
    "boolean": rules.BOOLEAN,
    "blob": rules.BLOB,
    "timestamp": rules.TIMESTAMP,
}

Codec = Callable[[Any, int], bytes]
"""Value and protocol version to bytes, as the driver's types offer it."""


def columns_of(table: Table) -> tuple[str, ...]:
    """The columns that an upsert writes: the declared ones and `batch`."""
    return table.columns if "batch" in table.columns else (*table.columns, "batch")


def insert_of(keyspace: str, table: Table) -> str:
    """The upsert of one row: the values of columns_of(table), then the write timestamp.

    Names are quoted, because `batch` is a word of CQL's grammar, and qualified, because then a statement has
    the same id after every restart of the server.

    Example:
        >>> insert_of("ks", Table("totals", columns=("page", "views"), key=("page",)))
        'INSERT INTO "ks"."totals" ("page", "views", "batch") VALUES (?, ?, ?) USING TIMESTAMP ?'
    """
    columns = columns_of(table)
    names = ", ".join(f'"{column}"' for column in columns)
    marks = ", ".join("?" * len(columns))
    return f'INSERT INTO "{keyspace}"."{table.name}" ({names}) VALUES ({marks}) USING TIMESTAMP ?'  # noqa: S608 - Table proves its names


def delete_of(keyspace: str, table: Table) -> str:
    """The removal of one row: the write timestamp, then the primary key."""
    where = " AND ".join(f'"{column}" = ?' for column in table.key)
    return f'DELETE FROM "{keyspace}"."{table.name}" USING TIMESTAMP ? WHERE {where}'  # noqa: S608 - Table proves its names


class EncodedChange(NamedTuple):
    """A change as the bytes that its statement binds."""

    key: tuple[Any, ...]
    """The primary key in plain values, for messages."""
    partition: tuple[bytes | None, ...]
    is_delete: bool
    values: list[bytes | None]
    """In the order of the statement's marks."""
    size_bytes: int
    """What the change takes up in a batch."""


class Request(NamedTuple):
    """What is sent and acknowledged as one: changes of one partition."""

    changes: tuple[EncodedChange, ...]
    size_bytes: int

    def __str__(self) -> str:
        more = len(self.changes) - 1
        key = shown(self.changes[0].key)
        return f"key {key}" if not more else f"key {key} or one of {more} others of its partition"


class Encoder:
    """Turns the changes of one table into bytes.

    Args:
        table: where the rows go.
        types: name and codec of each of columns_of(table), in their order.
    """

    def __init__(self, table: Table, types: Sequence[tuple[str, Codec]]) -> None:
        columns = columns_of(table)
        self._table = table
        self._codecs = [codec for _, codec in types]
        key_places = [columns.index(column) for column in table.key]
        self._key_codecs = [self._codecs[place] for place in key_places]
        self._partition_places = key_places[: len(table.partition_key)]
        self.kinds: list[Kind] = [_KINDS.get(name, rules.ANYTHING) for name, _ in types[: len(table.columns)]]
        """What each of the table's columns takes."""

    def encode(self, changes: Sequence[Change], batch_ms: int, write_timestamp: int) -> list[EncodedChange]:
        """The changes as bytes, in their order.

        Raises:
            SinkError: a column's type cannot hold a value, such as 2**40 in an int.
        """
        stamp = struct.pack(">q", write_timestamp)
        has_own = "batch" in self._table.columns
        tail = [stamp] if has_own else [self._codecs[-1](int(batch_ms), PROTOCOL_VERSION), stamp]
        return [self._encode(change, stamp, tail) for change in changes]

    def _encode(self, change: Change, stamp: bytes, tail: list[bytes]) -> EncodedChange:
        values: list[bytes | None]
        if change.values is None:
            key = self._bytes(change, self._key_codecs, change.key)
            values, partition = [stamp, *key], tuple(key[: len(self._partition_places)])
        else:
            values = self._bytes(change, self._codecs, change.values)
            partition = tuple([values[place] for place in self._partition_places])
            values += tail
        size_bytes = _STATEMENT_BYTES + sum(
            [_VALUE_BYTES + len(value) for value in values if value is not None]
        )
        return EncodedChange(change.key, partition, change.values is None, values, size_bytes)

    def _bytes(self, change: Change, codecs: Sequence[Codec], values: Sequence[Any]) -> list[bytes | None]:
        try:
            return [
                None if value is None else codec(value, PROTOCOL_VERSION)
                for codec, value in zip(codecs, values, strict=False)
            ]
        except (struct.error, TypeError, ValueError, OverflowError, AttributeError) as error:
            name = self._table.name
            raise SinkError(
                f"table {name!r}, key {shown(change.key)}: {shown(values)} does not fit the columns' types: {error}"
            ) from error


def requests_of(changes: Sequence[EncodedChange], most_rows: int, most_bytes: int) -> Iterator[Request]:
    """The changes as requests of one partition each; one that is larger than most_bytes goes alone."""
    partitions: dict[tuple[bytes | None, ...], list[EncodedChange]] = {}
    for change in changes:
        partitions.setdefault(change.partition, []).append(change)
    for together in partitions.values():
        first, size_bytes = 0, 0
        for index, change in enumerate(together):
            is_full = index - first >= most_rows or size_bytes + change.size_bytes > most_bytes
            if is_full and index > first:
                yield Request(tuple(together[first:index]), size_bytes)
                first, size_bytes = index, 0
            size_bytes += change.size_bytes
        yield Request(tuple(together[first:]), size_bytes)


def fault_of(table: Table, columns: Mapping[str, tuple[str, int]]) -> str | None:
    """What is wrong with the table as the server has it, or None.

    Args:
        table: as the output declares it.
        columns: kind ("partition_key", "clustering", "regular") and position of each column on the server.
    """
    if not columns:
        return f"table {table.name!r} does not exist"
    missing = [name for name in columns_of(table) if name not in columns]
    if missing:
        return f"table {table.name!r} has no column {', '.join(missing)}"
    partition, clustering = _key_part(columns, "partition_key"), _key_part(columns, "clustering")
    if (partition, partition + clustering) != (table.partition_key, table.key):
        return (
            f"table {table.name!r} has the primary key ({partition}, {clustering}), "
            f"not ({table.partition_key}, {table.key[len(table.partition_key) :]})"
        )
    return None


def _key_part(columns: Mapping[str, tuple[str, int]], part: str) -> tuple[str, ...]:
    """The columns of one part of the key, in their order."""
    return tuple(
        name for _, name in sorted((at, name) for name, (kind, at) in columns.items() if kind == part)
    )
