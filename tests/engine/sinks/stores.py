"""The two result stores as tests see them: one world of tables in either, and a way to read them back."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import cassandra.cluster
import cassandra.policies
import pytest

from engine.reports import WriteReport
from engine.sinks.api import Delete, ResultStore, Row, Table
from engine.sinks.cassandra import CassandraSink
from engine.sinks.sqlite import SQLiteSink

driver: Any = cassandra.cluster
policies: Any = cassandra.policies
"""The driver has no annotations."""

SERIES = Table("series", columns=("id", "at", "n", "note", "data", "ratio", "flag"), key=("id", "at"))
"""One column of every kind; `id` is the partition."""
TOTALS = Table("totals", columns=("id", "n"), key=("id",))
MARKS = Table("marks", columns=("id", "at"), key=("id", "at"))
"""A table that is all key."""
DIARY = Table(
    "diary", columns=("app", "id", "batch", "note"), key=("app", "id", "batch"), partition_key=("app", "id")
)
"""The ledger's case: `batch` is among the columns, and part of the key."""

_CQL = """
CREATE TABLE series (id text, at timestamp, n bigint, note text, data blob, ratio double, flag boolean,
                     "batch" timestamp, PRIMARY KEY (id, at));
CREATE TABLE totals (id text PRIMARY KEY, n bigint, "batch" timestamp);
CREATE TABLE marks (id text, at timestamp, "batch" timestamp, PRIMARY KEY (id, at));
CREATE TABLE diary (app text, id text, "batch" timestamp, note text, PRIMARY KEY ((app, id), "batch"));
CREATE TABLE bare (id text PRIMARY KEY, n bigint)
"""
_HIDDEN = "_written INTEGER NOT NULL DEFAULT 0, _deleted INTEGER NOT NULL DEFAULT 0"
_SQL = f"""
CREATE TABLE series (id TEXT NOT NULL, at INTEGER NOT NULL, n INTEGER, note TEXT, data BLOB, ratio REAL, flag BOOLEAN,
                     batch INTEGER, {_HIDDEN}, PRIMARY KEY (id, at)) WITHOUT ROWID;
CREATE TABLE totals (id TEXT NOT NULL, n INTEGER, batch INTEGER, {_HIDDEN}, PRIMARY KEY (id)) WITHOUT ROWID;
CREATE TABLE marks (id TEXT, at INTEGER, batch INTEGER, {_HIDDEN}, PRIMARY KEY (id, at)) WITHOUT ROWID;
CREATE TABLE diary (app TEXT, id TEXT, batch INTEGER, note TEXT, {_HIDDEN}, PRIMARY KEY (app, id, batch)) WITHOUT ROWID;
CREATE TABLE bare (id TEXT PRIMARY KEY, n INTEGER, {_HIDDEN});
"""


class Server(Protocol):
    """What these tests ask of the fixture of a real Cassandra."""

    @property
    def hosts(self) -> Sequence[str]:
        """Contact points."""

    @property
    def port(self) -> int:
        """Of CQL."""

    def kill(self) -> None:
        """End it with SIGKILL; returns when it is gone."""

    def start(self) -> None:
        """Start it again on its data; returns when it answers."""

    def keyspace(self) -> str:
        """The name of a keyspace of its own."""


class World:
    """A store with the tables above, and a reader that shares nothing with it."""

    store: ResultStore

    def put(self, table: Table, *rows: Row, at: int, batch_ms: int = 1_000) -> WriteReport:
        """Write the rows with the write timestamp `at`."""
        return self.store.write(table, rows, batch_ms=batch_ms, write_timestamp=at)

    def rows(self, table: Table, id_: str) -> list[tuple[Any, ...]]:
        """The rows of an id in key order: the table's columns, then `batch`; timestamps as milliseconds."""
        raise NotImplementedError


class SQLiteWorld(World):
    """The store in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(sqlite3.connect(path)) as made:
            made.executescript(_SQL)
        self.store: SQLiteSink = SQLiteSink(path)

    def rows(self, table: Table, id_: str) -> list[tuple[Any, ...]]:
        """The rows of an id; those that are removed are not."""
        names, key = ", ".join((*table.columns, "batch")), ", ".join(table.key)
        query = f"SELECT {names} FROM {table.name} WHERE id = ? AND _deleted = 0 ORDER BY {key}"  # noqa: S608 - ours
        return self.query(query, id_)

    def query(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Whatever a query finds."""
        with closing(sqlite3.connect(self.path)) as reader:
            return reader.execute(query, parameters).fetchall()


class CassandraWorld(World):
    """The store on a server, in a keyspace of its own."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.keyspace = server.keyspace()
        profile = driver.ExecutionProfile(
            load_balancing_policy=policies.RoundRobinPolicy(), request_timeout=30
        )
        self._cluster = driver.Cluster(
            list(server.hosts),
            port=server.port,
            protocol_version=4,
            execution_profiles={driver.EXEC_PROFILE_DEFAULT: profile},
            reconnection_policy=policies.ConstantReconnectionPolicy(0.5, max_attempts=None),
        )
        self.session = self._cluster.connect(self.keyspace)
        for statement in _CQL.split(";"):
            self.session.execute(statement)
        self.store: CassandraSink = CassandraSink(server.hosts, server.port, self.keyspace)

    def rows(self, table: Table, id_: str) -> list[tuple[Any, ...]]:
        """The rows of an id."""
        names = ", ".join(self._readable(name) for name in (*table.columns, "batch"))
        where = "app = 'a' AND id = %s" if "app" in table.key else "id = %s"
        query = f"SELECT {names} FROM {table.name} WHERE {where}"  # noqa: S608 - ours
        return sorted(tuple(row) for row in self.session.execute(query, (id_,)))

    @staticmethod
    def _readable(name: str) -> str:
        # As milliseconds: the driver turns timestamps into naive datetimes.
        return f'blobasbigint(timestampasblob("{name}"))' if name in {"at", "batch"} else f'"{name}"'

    def is_up(self) -> bool:
        """Whether the reader has a connection."""
        return all(host.is_up for host in self._cluster.metadata.all_hosts())

    def close(self) -> None:
        """Let go of the sessions."""
        self.store.close()
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def cassandra_world(request: pytest.FixtureRequest) -> Iterator[CassandraWorld]:
    """The tables in a keyspace of the real Cassandra."""
    world = CassandraWorld(request.getfixturevalue("cassandra_server"))
    yield world
    world.close()


@pytest.fixture
def sqlite_world(tmp_path: Path) -> Iterator[SQLiteWorld]:
    """The tables in a file."""
    world = SQLiteWorld(tmp_path / "results.sqlite3")
    yield world
    world.store.close()


def delete(*key: Any) -> Delete:
    """The removal of a key."""
    return Delete(key)
