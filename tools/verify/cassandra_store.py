"""Reads the ledger and the result tables from Cassandra.

Owns: CassandraStore.
Never: a write.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import cassandra.cluster
import cassandra.policies
from cassandra import ConsistencyLevel, DriverException
from cassandra.query import tuple_factory

from tools.verify.ledger import LedgerBatch, parse_batch
from tools.verify.schema import Fact, ResultTable, Values
from tools.verify.stores import LEDGER_PIECE
from tools.verify.verdict import CannotTellError

# The driver has no types.
_driver: Any = cassandra.cluster
_policies: Any = cassandra.policies
_AWAY: Any = (DriverException, _driver.NoHostAvailable)

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
FETCH_ROWS = 5_000
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the driver gives naive datetimes, UTC
_MILLISECOND = timedelta(milliseconds=1)


class CassandraStore:
    """The results keyspace."""

    def __init__(self, hosts: Sequence[str], port: int, keyspace: str) -> None:
        self._where = f"Cassandra at {','.join(hosts)}:{port}, keyspace {keyspace},"
        profile = _driver.ExecutionProfile(
            load_balancing_policy=_policies.RoundRobinPolicy(),
            consistency_level=ConsistencyLevel.QUORUM,
            request_timeout=READ_SECONDS,
            row_factory=tuple_factory,
        )
        self._cluster = _driver.Cluster(
            list(hosts),
            port=port,
            protocol_version=5,
            connect_timeout=CONNECT_SECONDS,
            execution_profiles={_driver.EXEC_PROFILE_DEFAULT: profile},
        )
        try:
            self._session = self._cluster.connect(keyspace)
        except (*_AWAY, OSError) as error:
            self._cluster.shutdown()
            raise self._unreadable(error) from error
        self._session.default_fetch_size = FETCH_ROWS

    def _unreadable(self, error: Exception) -> CannotTellError:
        text = " ".join(str(error.args[0] if error.args else error).split())
        return CannotTellError(
            f"{self._where} cannot be read ({text}); start it, or set CASSANDRA_HOSTS and CASSANDRA_PORT to where it is"
        )

    def _select(self, query: str, values: Sequence[object] = ()) -> Iterator[Values]:
        try:
            statement = self._session.prepare(query)
            for row in self._session.execute(statement, values):
                yield tuple(
                    (cell - _EPOCH) // _MILLISECOND if isinstance(cell, datetime) else cell for cell in row
                )
        except _AWAY as error:
            raise self._unreadable(error) from error

    def apps(self) -> set[str]:
        """The applications of which the ledger has batches."""
        return {str(app) for app, _day in self._select("SELECT DISTINCT app, day FROM ledger")}

    def ledger(self, app: str, after: int) -> Iterator[list[LedgerBatch]]:
        """The batches of an application later than a time, in batch order.

        The days are read oldest first and each AFTER the list of days, so no batch is seen without the older ones.
        """
        # Names are this package's own constants, values are bound.
        days = sorted(
            str(day) for owner, day in self._select("SELECT DISTINCT app, day FROM ledger") if owner == app
        )
        query = 'SELECT "batch", zero_time, ranges FROM ledger WHERE app = ? AND day = ? AND "batch" > ?'
        rows = (row for day in days for row in self._select(query, (app, day, after)))
        while piece := [parse_batch(*row) for row in islice(rows, LEDGER_PIECE)]:
            yield piece

    def rows(self, table: ResultTable) -> Iterator[tuple[Values, Fact]]:
        """A whole table; each row as it was at some moment of the call."""
        # Quoted, as `batch` is a word of CQL.
        columns = ", ".join(f'"{name}"' for name in table.columns)
        query = f"SELECT {columns} FROM {table.name}"  # noqa: S608 - as above
        return map(table.fact, self._select(query))

    def close(self) -> None:
        """Close all connections."""
        self._cluster.shutdown()
