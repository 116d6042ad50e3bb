"""Brings a Cassandra keyspace to the newest schema; `python -m services.cassandra.migrate` runs it alone.

Every statement says IF NOT EXISTS, and a version's row is written AFTER its statements: a killed run is finished by the
next one, and two runs at once do the same work twice, which changes nothing.

Owns: migrate.
Never: DROP; a change of an applied file.
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from cassandra import DriverException
from cassandra.protocol import ErrorMessage

from engine.errors import StreamingError
from services.cassandra.session import open_session
from services.migrations import Applied, Migration, pending, read_migrations
from services.settings import exit_code, load_settings

FOLDER = Path(__file__).parent

_KEYSPACE = (
    "CREATE KEYSPACE IF NOT EXISTS {keyspace} "
    "WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': {replication}}}"
)
_APPLIED_TABLE = (
    "CREATE TABLE IF NOT EXISTS schema_migrations "
    "(version int PRIMARY KEY, name text, checksum text, applied_at timestamp)"
)
_READ = "SELECT version, name, checksum FROM schema_migrations"
_RECORD = "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (?, ?, ?, ?)"


def migrate(
    hosts: Sequence[str],
    port: int,
    keyspace: str,
    *,
    folder: Path = FOLDER,
    replication: int = 1,
    wait_seconds: float = 0.0,
) -> list[Migration]:
    """Apply what the keyspace has not taken in yet, and return it; makes the keyspace when it is not there.

    Args:
        hosts: contact points.
        port: of CQL.
        keyspace: a valid identifier, as `Settings` proves it.
        folder: where the migrations lie.
        replication: copies of each row, used only when the keyspace is made.
        wait_seconds: how long to wait for a host that answers.

    Raises:
        ConfigurationError: an applied file has changed, or the keyspace is newer than this program.
        StreamingError: no host answered in time, or it refused a statement.
    """
    migrations = read_migrations(folder, ".cql")
    with open_session(hosts, port, wait_seconds=wait_seconds) as session:
        session.execute(_KEYSPACE.format(keyspace=keyspace, replication=replication))
        session.set_keyspace(keyspace)
        session.execute(_APPLIED_TABLE)
        applied = {row.version: Applied(row.name, row.checksum) for row in session.execute(_READ)}
        todo = pending(migrations, applied, f"keyspace {keyspace} at {','.join(hosts)}:{port}")
        _apply(session, todo)
    return todo


def _apply(session: Any, todo: Sequence[Migration]) -> None:
    for migration in todo:
        for statement in migration.statements:
            _execute(session, migration, statement)
        row = (migration.version, migration.name, migration.checksum, datetime.now(UTC))
        session.execute(session.prepare(_RECORD), row)


def _execute(session: Any, migration: Migration, statement: str) -> None:
    try:
        session.execute(statement)
    except (DriverException, ErrorMessage) as error:
        raise StreamingError(f"Cassandra refused a statement of {migration.name}: {error}") from error


def _run(wait_seconds: float) -> None:
    settings = load_settings()
    done = migrate(
        settings.cassandra_hosts, settings.cassandra_port, settings.keyspace, wait_seconds=wait_seconds
    )
    click.echo(f"keyspace {settings.keyspace}: {', '.join(step.name for step in done) or 'nothing to do'}")


@click.command()
@click.option("--wait", default=60.0, show_default=True, help="Seconds to wait for Cassandra to answer.")
def command(wait: float) -> None:
    """Bring the keyspace KEYSPACE of Cassandra to the newest schema.

    Applies the numbered files beside this program that the keyspace has not taken in yet. It may run any number of times and
    in several places at once; it never drops anything. CASSANDRA_HOSTS and CASSANDRA_PORT say where (default
    127.0.0.1:19042).

    Exit codes: 0 done, 1 no answer, 2 refused, with the reason in one sentence.
    """
    sys.exit(exit_code(lambda: _run(wait)))


if __name__ == "__main__":
    command()
