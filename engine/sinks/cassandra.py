"""The results store on Cassandra: prepared upserts of absolute values under the batch's write timestamp.

The server's `commitlog_sync` must be `batch`: else it loses rows that it acknowledged when it is killed.

Owns: CassandraSink.
Never: a counter, a lightweight transaction, a batch over two partitions, a read of results.
"""

import logging
import os
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final

import cassandra.cluster
import cassandra.policies
import cassandra.query
from cassandra import ConsistencyLevel, DriverException, OperationTimedOut, RequestValidationException
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionBusy, ConnectionException
from cassandra.io.libevreactor import LibevConnection
from cassandra.protocol import ErrorMessage, ProtocolException, SyntaxException

from engine.clock import SystemClock
from engine.errors import ConfigurationError, SinkError
from engine.reports import WriteReport
from engine.sinks import cql, rules
from engine.sinks.api import Row, Table
from engine.sinks.cql import EncodedChange, Encoder, Request
from engine.sinks.flight import Flight, Tally, Window
from engine.sinks.rules import Outage, T, changes_of

# The driver has no annotations: its calls are made through these names.
_driver: Final[Any] = cassandra.cluster
_policies: Final[Any] = cassandra.policies
_query: Final[Any] = cassandra.query

_log: Final = logging.getLogger(__name__)
_clock: Final = SystemClock()

_REMEDY: Final = "run scripts/stack up or python -m services.cassandra.migrate"
_KEYSPACE: Final = re.compile(r"[a-z][a-z0-9_]{0,47}")
_CONSISTENCIES: Final = ("LOCAL_ONE", "LOCAL_QUORUM", "ONE", "QUORUM", "EACH_QUORUM", "ALL")
"""Those that wait for a replica; ANY is content with a hint."""
_KEYSPACES: Final = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = %s"
_COLUMNS: Final = "SELECT column_name, kind, position FROM system_schema.columns WHERE keyspace_name = %s AND table_name = %s"
_RECONNECT_SECONDS: Final = 0.5
_CONNECT_SECONDS: Final = 5.0
_HEARTBEAT_SECONDS: Final = 10
_REPLACE_SECONDS: Final = 10.0
"""A session that is silent for so long is given up for a new one: the driver's own reconnection has
races after which it never comes back (a host marked up without a pool), and runs on the wall clock."""

_PERMANENT: Final = (RequestValidationException, SyntaxException, ProtocolException)
_SILENCE: Final = (NoHostAvailable, OperationTimedOut, ConnectionException)
"""Errors that a dead session gives as well as a dead server."""
_TRANSIENT: Final = (*_SILENCE, DriverException, ErrorMessage, ConnectionBusy, OSError)
"""Whatever is not permanent: away, overloaded, timed out, starting up, too few replicas."""


class _Statements:
    """The prepared statements of one table in one session, and the encoder of its rows."""

    def __init__(self, session: Any, keyspace: str, table: Table) -> None:
        self._insert = _prepare(session, cql.insert_of(keyspace, table))
        self._delete = _prepare(session, cql.delete_of(keyspace, table))
        types = [column.type for column in self._insert.column_metadata[: len(cql.columns_of(table))]]
        self.encoder = Encoder(table, [(type_.typename, type_.serialize) for type_ in types])

    def executable(self, request: Request) -> Any:
        """The request as one statement: an unlogged batch when it has several changes."""
        if len(request.changes) == 1:
            return self._bound(request.changes[0])
        batch = _query.BatchStatement(_query.BatchType.UNLOGGED)
        batch.is_idempotent = True
        for change in request.changes:
            batch.add(self._bound(change))
        return batch

    def _bound(self, change: EncodedChange) -> Any:
        statement = _query.BoundStatement(self._delete if change.is_delete else self._insert)
        statement.values = change.values
        return statement


def _prepare(session: Any, query: str) -> Any:
    statement = session.prepare(query)
    statement.is_idempotent = True
    return statement


def _cluster_of(settings: "CassandraSink") -> Any:
    """The driver's cluster, not connected; it never retries by itself, and reconnects for ever."""
    profile = _driver.ExecutionProfile(
        load_balancing_policy=_policies.TokenAwarePolicy(
            _policies.DCAwareRoundRobinPolicy(settings.local_dc)
        ),
        retry_policy=_policies.FallthroughRetryPolicy(),
        consistency_level=getattr(ConsistencyLevel, settings.consistency),
        request_timeout=settings.request_seconds,
        speculative_execution_policy=_policies.NoSpeculativeExecutionPolicy(),
    )
    return _driver.Cluster(
        list(settings.hosts),
        port=settings.port,
        protocol_version=cql.PROTOCOL_VERSION,
        compression=False,
        connection_class=LibevConnection,
        execution_profiles={_driver.EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=_policies.ConstantReconnectionPolicy(_RECONNECT_SECONDS, max_attempts=None),
        connect_timeout=_CONNECT_SECONDS,
        control_connection_timeout=_CONNECT_SECONDS,
        idle_heartbeat_interval=_HEARTBEAT_SECONDS,
        idle_heartbeat_timeout=_HEARTBEAT_SECONDS,
        executor_threads=2,
    )


class _Connected:
    """This process's session with one cluster."""

    def __init__(self, settings: "CassandraSink") -> None:
        driver_log = logging.getLogger("cassandra")
        if driver_log.level == logging.NOTSET:
            # The driver logs every attempt with a traceback; the outage says it once a second.
            driver_log.setLevel(logging.CRITICAL)
        self.cluster = _cluster_of(settings)
        try:
            self.session = self.cluster.connect()
        except BaseException:
            self.cluster.shutdown()
            raise
        self.session.use_client_timestamp = False  # every statement brings its own
        self._keyspace = settings.keyspace
        self._statements: dict[Table, _Statements] = {}
        self._preparing = threading.Lock()
        self._silent_since: float | None = None

    def statements(self, table: Table) -> _Statements:
        """The table's prepared statements, prepared on first use."""
        with self._preparing:
            if table not in self._statements:
                self._statements[table] = _Statements(self.session, self._keyspace, table)
            return self._statements[table]

    def fault(self, table: Table) -> str | None:
        """What is wrong with the table on the server, or None."""
        found = self.session.execute(_COLUMNS, (self._keyspace, table.name)).all()
        if not found and not self.session.execute(_KEYSPACES, (self._keyspace,)).all():
            return f"keyspace {self._keyspace!r} does not exist"
        return cql.fault_of(table, {row.column_name: (row.kind, row.position) for row in found})

    def answered(self) -> None:
        """Note that the server spoke through this session."""
        self._silent_since = None

    def has_died(self) -> bool:
        """Note a silence, and return whether it has lasted so long that a new session should be tried."""
        now = _clock.monotonic()
        if self._silent_since is None:
            self._silent_since = now
        return now - self._silent_since > _REPLACE_SECONDS


_connected: Final[dict[tuple[int, "CassandraSink"], _Connected]] = {}
"""The sessions of this process, by process id (a forked child must not use its parent's) and settings."""
_connecting: Final = threading.Lock()


@dataclass(slots=True)
class _Work:
    """What is left of one write, how much of it may be on its way, and what became of the rest."""

    pending: list[Request]
    window: Window
    tally: Tally


@dataclass(frozen=True, slots=True)
class CassandraSink:
    """A result store on Apache Cassandra.

    Pickles as its settings; the session is made on first use, one a process for equal settings.

    Replay: rows are absolute values under the write timestamp, so a batch that is written again rewrites the
        same cells, and an older attempt loses whenever it arrives.

    Guarantees: see engine.sinks.api.ResultStore. Rows of one partition key travel in unlogged batches, which
        are atomic; over partitions nothing is. At most `in_flight` requests of a call wait for an answer.

    Raises:
        ConfigurationError: a setting is out of its range.

    Example:
        >>> store = CassandraSink(["127.0.0.1"], 19042, "pipeline")
        >>> store.consistency
        'LOCAL_QUORUM'
    """

    hosts: Sequence[str]
    """Contact points, names or addresses; all in one data centre."""
    port: int
    """Of the native protocol, the same on every host."""
    keyspace: str
    _: KW_ONLY
    in_flight: int = 200
    """Requests of one write that may wait for an answer, > 0."""
    in_flight_bytes: int = 16 * 1024 * 1024
    """Bytes of values in these requests; a larger row goes alone."""
    batch_rows: int = 100
    """Most rows in a single-partition batch, 1 to 1000."""
    batch_bytes: int = 5 * 1024
    """Most bytes in a single-partition batch; the servers' default limit for a warning."""
    consistency: str = "LOCAL_QUORUM"
    """How many replicas acknowledge a row: LOCAL_ONE, LOCAL_QUORUM, ONE, QUORUM, EACH_QUORUM or ALL."""
    local_dc: str = ""
    """The data centre to write to; that of the contact points when empty."""
    request_seconds: float = 5.0
    """After so long without an answer a request is sent again; longer than the server's own timeout of 2 s."""

    def __post_init__(self) -> None:
        if isinstance(self.hosts, str) or not self.hosts:
            raise ConfigurationError(
                f"hosts of CassandraSink must be a list of names, not {self.hosts!r}; wrap it in a list"
            )
        object.__setattr__(self, "hosts", tuple(self.hosts))
        if not _KEYSPACE.fullmatch(self.keyspace):
            raise ConfigurationError(
                f"keyspace {self.keyspace!r} is not a valid identifier; "
                "use lower case letters, digits and underscores, a letter first"
            )
        if self.consistency not in _CONSISTENCIES:
            raise ConfigurationError(f"consistency is {self.consistency!r}; use one of {_CONSISTENCIES}")
        limits = {"port": 65_535, "in_flight": 32_768, "in_flight_bytes": 1 << 40, "batch_rows": 1_000}
        for name, most in limits.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigurationError(f"{name} of CassandraSink is {getattr(self, name)}; use 1 to {most}")

    @property
    def address(self) -> str:
        """The contact points as host:port, comma separated."""
        return ",".join(f"{host}:{self.port}" for host in self.hosts)

    def check(self, table: Table) -> None:
        """Wait until Cassandra answers, then prove keyspace, table, columns and primary key.

        Raises:
            ConfigurationError: one of them is missing or differs; the message names the migration to run.
        """
        outage = self._outage(f"the check of table {table.name}")
        try:
            fault = self._patiently(table, outage, lambda connected: connected.fault(table))
        except SinkError as error:
            raise ConfigurationError(str(error)) from error
        if fault:
            raise ConfigurationError(
                f"{fault} (keyspace {self.keyspace!r} of Cassandra at {self.address}), which "
                f"{cql.insert_of(self.keyspace, table)} needs; {_REMEDY}"
            )

    def newest_batch(self, ledger: Table, app: str) -> int | None:
        """The largest `batch` (milliseconds) of an application's rows, None without any; for the start only."""
        name = f"{self.keyspace}.{ledger.name}"
        first, second = ledger.partition_key
        days = f"SELECT DISTINCT {first}, {second} FROM {name}"  # noqa: S608 - identifiers of a Table are checked
        rows = f'SELECT toUnixTimestamp("batch") FROM {name} WHERE {first} = %s AND {second} = %s'  # noqa: S608 - as above
        newest = f'{rows} ORDER BY "batch" DESC LIMIT 1'

        def look(connected: _Connected) -> int | None:
            session = connected.session
            for day in sorted((row[1] for row in session.execute(days) if row[0] == app), reverse=True):
                found = session.execute(newest, (app, day)).one()
                if found is not None:
                    time: int = found[0]
                    return time
            return None

        return self._patiently(ledger, self._outage(f"a look into table {ledger.name}"), look)

    def write(self, table: Table, rows: Sequence[Row], *, batch_ms: int, write_timestamp: int) -> WriteReport:
        """Write the rows with `batch` = batch_ms (milliseconds) under the write timestamp (microseconds).

        Returns when every row is acknowledged. All rows are proved before the first is sent; the rows that were
        not acknowledged, and only these, are sent again for as long as Cassandra is away or overloaded.

        Raises:
            SinkError: a row does not fit the table, a key comes twice, or Cassandra refuses a row for good.
        """
        if not rows:
            return WriteReport(table.name)
        outage = self._outage(f"a write of {len(rows)} rows to table {table.name}")
        statements = self._patiently(table, outage, lambda connected: connected.statements(table))
        changes = changes_of(table, statements.encoder.kinds, rows)
        encoded = statements.encoder.encode(changes, batch_ms, write_timestamp)
        requests = list(cql.requests_of(encoded, self.batch_rows, self.batch_bytes))
        tally = Tally(_clock.monotonic)
        work = _Work(requests, Window(self.in_flight, self.in_flight_bytes), tally)
        self._patiently(table, outage, lambda connected: self._send(connected, table, work, outage))
        return WriteReport(
            table.name, len(rows), len(requests), outage.retries, tally.failures, tally.seconds
        )

    def close(self) -> None:
        """Let go of this process's session; the next call makes a new one."""
        connected = _connected.get((os.getpid(), self))
        if connected:
            self._drop(connected)

    def _outage(self, what: str) -> Outage:
        return Outage(f"Cassandra at {self.address}", what, _log, clock=_clock, describe=_describe)

    def _connect(self) -> _Connected:
        with _connecting:
            key = (os.getpid(), self)
            if key not in _connected:
                _connected[key] = _Connected(self)
            return _connected[key]

    def _drop(self, connected: _Connected) -> None:
        """Forget the session, unless another thread has already replaced it, and shut it down."""
        with _connecting:
            key = (os.getpid(), self)
            if _connected.get(key) is connected:
                del _connected[key]
        connected.cluster.shutdown()

    def _patiently(self, table: Table, outage: Outage, work: Callable[[_Connected], T]) -> T:
        return outage.retry(lambda: self._attempt(table, work), _TRANSIENT)

    def _attempt(self, table: Table, work: Callable[[_Connected], T]) -> T:
        """What the work returns over this process's session; a permanent error of the driver is a SinkError."""
        connected = self._connect()
        try:
            result = work(connected)
        except _PERMANENT as error:
            raise SinkError(
                f"table {table.name!r}: Cassandra at {self.address} refuses "
                f"{cql.insert_of(self.keyspace, table)}: {error}; {_REMEDY}"
            ) from error
        except _SILENCE:
            if connected.has_died():
                self._drop(connected)
            raise
        connected.answered()
        return result

    def _send(self, connected: _Connected, table: Table, work: _Work, outage: Outage) -> None:
        """Send what is pending and leave in it what was not acknowledged; raise the first error."""
        statements = connected.statements(table)
        flight = Flight[Request](
            lambda request: connected.session.execute_async(statements.executable(request)),
            *(work.window, work.tally, _PERMANENT, _TRANSIENT),
        )
        flight.fly(work.pending)
        work.pending = flight.unacknowledged
        if flight.acknowledged:
            connected.answered()
            outage.progress()
        if flight.refusal:
            request, error = flight.refusal
            raise SinkError(
                f"table {table.name!r}, {request}: Cassandra at {self.address} refuses the row of "
                f"{cql.insert_of(self.keyspace, table)}: {error}"
            ) from error
        if flight.trouble:
            work.window.restart()
            raise flight.trouble


def _describe(error: BaseException) -> str:
    """The error as one phrase; a NoHostAvailable by what its first host said."""
    if isinstance(error, OperationTimedOut):
        return "no answer in time"
    if not isinstance(error, NoHostAvailable):
        return rules.describe(error)
    # By host what it said; where no session could be made, a list of the hosts alone.
    by_host = getattr(error, "errors", None)
    return (
        _describe(next(iter(by_host.values()))) if by_host and isinstance(by_host, dict) else "no host is up"
    )
