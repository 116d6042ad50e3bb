"""Brings the SQLite results store to the newest schema; `python -m services.sqlite.migrate` runs it alone.

All of a run is one transaction, so two runs at once are one after the other and a killed run leaves nothing.

Owns: migrate.
Never: DROP.
"""

import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click

from engine.errors import ConfigurationError, StreamingError
from services.migrations import Applied, Migration, pending, read_migrations
from services.settings import exit_code, load_settings

FOLDER = Path(__file__).parent

_LOCK_SECONDS = 30.0
_APPLIED_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at INTEGER NOT NULL
)
"""


def migrate(path: Path, folder: Path = FOLDER) -> list[Migration]:
    """Apply what the store at the path has not taken in yet, and return it; makes the file when it is not there.

    Args:
        path: the SQLite file.
        folder: where the migrations lie.

    Raises:
        ConfigurationError: an applied file has changed, the store is newer than this program, or the file is no store.
    """
    migrations = read_migrations(folder, ".sql")
    path.parent.mkdir(parents=True, exist_ok=True)
    # No implicit transactions: the one transaction is begun below. Readers go on while a writer writes (WAL).
    with closing(sqlite3.connect(path, timeout=_LOCK_SECONDS, isolation_level=None)) as store:
        _begin(store, path)
        store.execute(_APPLIED_TABLE)
        rows = store.execute("SELECT version, name, checksum FROM schema_migrations").fetchall()
        todo = pending(
            migrations, {version: Applied(name, checksum) for version, name, checksum in rows}, str(path)
        )
        _apply(store, todo)
        store.execute("COMMIT")
    return todo


def _begin(store: sqlite3.Connection, path: Path) -> None:
    try:
        store.execute("PRAGMA journal_mode=WAL")
        store.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        raise StreamingError(
            f"{path} stayed locked for {_LOCK_SECONDS:g} s ({error}); end who holds it"
        ) from error
    except sqlite3.DatabaseError as error:
        raise ConfigurationError(f"{path} is not an SQLite file ({error}); move it away") from error


def _apply(store: sqlite3.Connection, todo: Sequence[Migration]) -> None:
    for migration in todo:
        for statement in migration.statements:
            store.execute(statement)
        row = (migration.version, migration.name, migration.checksum, time.time_ns() // 1_000_000)
        store.execute(
            "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (?, ?, ?, ?)", row
        )


def _run() -> None:
    settings = load_settings()
    done = migrate(settings.results_path)
    click.echo(f"{settings.results_path}: {', '.join(step.name for step in done) or 'nothing to do'}")


@click.command()
def command() -> None:
    """Bring the SQLite results store in DATA_DIR to the newest schema.

    Applies the numbered files beside this program that the store has not taken in yet. It may run any number of times and
    in several places at once; it never drops anything. DATA_DIR is the stack's folder (default .stack).

    Exit codes: 0 done, 2 refused, with the reason in one sentence.
    """
    sys.exit(exit_code(_run))


if __name__ == "__main__":
    command()
