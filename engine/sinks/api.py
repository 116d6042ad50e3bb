"""What a result store must be able to do, and the rules that make a write safe to repeat.

A row is absolute values under a fixed primary key with a write timestamp of batch time and attempt
(`Batch.write_timestamp`): a replay rewrites the same cells, and a late zombie loses by its timestamp.

Owns: Table, Delete, ResultStore.
Never: a driver of a database; each store brings its own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from engine.errors import ConfigurationError
from engine.reports import WriteReport

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,47}")


@dataclass(frozen=True, slots=True)
class Table:
    """A results table as an output writes it.

    1. Every row gives each of `columns` in that order; None is written as null.
    2. `key` and `partition_key` are columns; the partition key is the first part of the key.
    3. Identifiers are lower case letters, digits and underscores.
    4. Beside its columns every table has a column `batch`: the time of the batch that wrote the row.

    Example:
        >>> Table("page_totals", columns=("page", "views"), key=("page",)).values
        ('views',)
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    """The primary key."""
    partition_key: tuple[str, ...] = ()
    """The leading part of the key whose rows live together; the first key column when not given."""

    def __post_init__(self) -> None:
        for identifier in (self.name, *self.columns):
            if not _IDENTIFIER.fullmatch(identifier):
                raise ConfigurationError(
                    f"table {self.name!r}: {identifier!r} is not a valid identifier; "
                    "use lower case letters, digits and underscores, a letter first"
                )
        missing = [name for name in self.key if name not in self.columns]
        if missing or not self.key:
            raise ConfigurationError(
                f"table {self.name!r}: key columns {missing} are not among its columns; add them"
            )
        if not self.partition_key:
            object.__setattr__(self, "partition_key", self.key[:1])
        if self.key[: len(self.partition_key)] != self.partition_key:
            raise ConfigurationError(
                f"table {self.name!r}: partition key {self.partition_key} does not lead its key {self.key}; reorder them"
            )

    @property
    def values(self) -> tuple[str, ...]:
        """The columns that are not part of the key."""
        return tuple(name for name in self.columns if name not in self.key)


@dataclass(frozen=True, slots=True)
class Delete:
    """In place of a row: remove the row with this primary key, given in the table's key order."""

    key: tuple[Any, ...]


Row = tuple[Any, ...] | Delete
"""One row in the order of the table's columns, or the removal of one."""


class ResultStore(Protocol):
    """A database of results.

    A store is shipped to the executors by pickle and must hold settings only: sessions are made on first use in
    the process that uses them.

    Guarantees asked for: when `write` returns, every row is acknowledged and durable; of two writes of
    one key the one with the larger write timestamp stays, in whatever order they arrive; transient
    trouble is retried in place, with a log line a second at most, for as long as it lasts.
    """

    def check(self, table: Table) -> None:
        """Wait until the store answers, then prove that the table is there with these columns.

        Raises:
            ConfigurationError: the keyspace, the table or a column is missing, or the key differs;
                the message names the migration to run.
        """

    def newest_batch(self, ledger: Table, app: str) -> int | None:
        """The largest `batch` (milliseconds) of an application's rows, None without any; for the start only.

        The ledger's partition key is the application and its day, a text that sorts as days do.
        """

    def write(self, table: Table, rows: Sequence[Row], *, batch_ms: int, write_timestamp: int) -> WriteReport:
        """Write the rows with `batch` = batch_ms (milliseconds) under the write timestamp (microseconds).

        Returns how it went: every request that the store acknowledged with the seconds that it took, and the trouble on the
        way. The report travels with the task's result, so trouble is told when the write has ended, not while it lasts.

        Raises:
            SinkError: the store refuses the write for good (a type, a column, a row too large).
        """

    def close(self) -> None:
        """Let go of this process's session."""
