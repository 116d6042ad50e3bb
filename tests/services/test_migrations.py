"""How the schema of both stores is brought up to date, and what is refused."""

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigurationError, StreamingError
from services.cassandra import migrate as cassandra_schema
from services.cassandra.session import open_session
from services.migrations import Applied, pending, read_migrations
from services.settings import REPOSITORY, Settings, base_environment
from services.sqlite import migrate as sqlite_schema
from tests.servers import CassandraServer

TABLES = {
    "campaign_windows": ["campaign_id", "window_start", "views", "seq_sum", "batch"],
    "trending_pages": ["window_end", "rank", "page", "views", "batch"],
    "page_totals": ["page", "views", "seq_sum", "batch"],
    "dead_letters": ["topic", "partition", "record_offset", "reason", "value", "batch"],
    "ledger": ["app", "day", "batch", "attempt", "zero_time", "ranges"],
    "replays": ["topic", "partition", "record_offset", "sent_from", "sent_at", "batch"],
}
KEYS = {
    "campaign_windows": ["campaign_id", "window_start"],
    "trending_pages": ["window_end", "rank"],
    "page_totals": ["page"],
    "dead_letters": ["topic", "partition", "record_offset"],
    "ledger": ["app", "day", "batch"],
    "replays": ["topic", "partition", "record_offset"],
}


def run_module(module: str, settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A service's command, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY,
        env=base_environment() | settings.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def run_at_once(module: str, settings: Settings, count: int) -> list[int]:
    """The exit codes of a command that was started several times at once."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=REPOSITORY,
            env=base_environment() | settings.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(count)
    ]
    return [run.wait() for run in runs]


def sqlite_columns(store: sqlite3.Connection, table: str) -> tuple[list[str], list[str]]:
    """A table's columns, and those of its primary key in the key's order."""
    rows = store.execute(f"PRAGMA table_info({table})").fetchall()
    return [row[1] for row in rows], [row[1] for row in sorted(rows, key=lambda row: row[5]) if row[5]]


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """A folder with copies of the migrations of both stores, which a test may change."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    for path in (*sqlite_schema.FOLDER.glob("*.sql"), *cassandra_schema.FOLDER.glob("*.cql")):
        shutil.copy(path, folder)
    return folder


def test_no_migration_ever_drops_anything() -> None:
    """DROP, TRUNCATE and DELETE stand in no migration and in no program that applies them."""
    for folder in (sqlite_schema.FOLDER, cassandra_schema.FOLDER):
        for path in folder.iterdir():
            if path.is_file():
                code = re.sub(
                    r'"""[\s\S]*?"""|^\s*(--|#).*$', "", path.read_text(encoding="utf-8"), flags=re.MULTILINE
                )
                assert not re.search(r"\b(DROP|TRUNCATE|DELETE)\b", code, re.IGNORECASE), path


def test_every_statement_of_cassandra_may_run_twice() -> None:
    """Each statement of each of Cassandra's migrations makes something that may be there already."""
    migrations = read_migrations(cassandra_schema.FOLDER, ".cql")
    statements = [statement for migration in migrations for statement in migration.statements]
    assert len(statements) == len(TABLES) + 2
    assert all("IF NOT EXISTS" in statement for statement in statements)


def test_both_stores_have_the_same_migrations() -> None:
    """The two folders have files of the same numbers and names."""
    names = [path.stem for path in sorted(sqlite_schema.FOLDER.glob("*.sql"))]
    assert names == [path.stem for path in sorted(cassandra_schema.FOLDER.glob("*.cql"))]
    assert names[0] == "001_results"


def test_sqlite_tables_have_the_agreed_columns_and_keys(tmp_path: Path) -> None:
    """Each results table has its columns, and _written and _deleted, under its primary key."""
    path = tmp_path / "results.sqlite3"
    sqlite_schema.migrate(path)
    with closing(sqlite3.connect(path)) as store:
        for table, columns in TABLES.items():
            found, key = sqlite_columns(store, table)
            assert sorted(found) == sorted([*columns, "_written", "_deleted"])
            assert key == KEYS[table]


def test_second_run_applies_nothing(tmp_path: Path) -> None:
    """A store that is up to date stays as it is."""
    path = tmp_path / "results.sqlite3"
    assert [step.version for step in sqlite_schema.migrate(path)] == [1, 2, 3, 4, 5]
    assert sqlite_schema.migrate(path) == []


def test_new_file_is_applied_alone(tmp_path: Path, copies: Path) -> None:
    """Of a folder that has grown by a file, only that file is applied, and the rows stay."""
    path = tmp_path / "results.sqlite3"
    sqlite_schema.migrate(path, copies)
    with closing(sqlite3.connect(path)) as store, store:
        store.execute("INSERT INTO page_totals (page, views) VALUES ('/a', 1)")
    (copies / "006_more.sql").write_text("-- why\nCREATE TABLE IF NOT EXISTS more (a INTEGER);\n")
    assert [step.name for step in sqlite_schema.migrate(path, copies)] == ["006_more.sql"]
    with closing(sqlite3.connect(path)) as store:
        assert store.execute("SELECT count(*) FROM page_totals").fetchone() == (1,)
        assert store.execute("SELECT count(*) FROM more").fetchone() == (0,)


def test_changed_file_of_an_applied_version_is_refused(tmp_path: Path, copies: Path) -> None:
    """An applied file that differs by a byte is refused with its name and both checksums."""
    path = tmp_path / "results.sqlite3"
    before = sqlite_schema.migrate(path, copies)[1]
    with (copies / before.name).open("a") as file:
        file.write("\n-- a second thought\n")
    after = read_migrations(copies, ".sql")[1]
    with pytest.raises(ConfigurationError) as refusal:
        sqlite_schema.migrate(path, copies)
    for part in (before.name, before.checksum, after.checksum, str(path)):
        assert part in str(refusal.value)


def test_store_of_a_newer_program_is_refused(tmp_path: Path, copies: Path) -> None:
    """A store that knows a later version than the folder is refused with that version's name."""
    path = tmp_path / "results.sqlite3"
    sqlite_schema.migrate(path, copies)
    (copies / "005_seq_sums.sql").unlink()
    with pytest.raises(ConfigurationError, match=r"005_seq_sums\.sql \(version 5\)"):
        sqlite_schema.migrate(path, copies)


def test_failing_migration_leaves_the_store_as_it_was(tmp_path: Path, copies: Path) -> None:
    """When a statement fails, nothing of the run stays: not its tables, not its row."""
    path = tmp_path / "results.sqlite3"
    (copies / "002_dead_letters.sql").write_text("CREATE TABLE nonsense (;\n")
    with pytest.raises(sqlite3.OperationalError):
        sqlite_schema.migrate(path, copies)
    with closing(sqlite3.connect(path)) as store:
        assert store.execute("SELECT name FROM sqlite_master").fetchall() == []


def test_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    """A file that SQLite did not write is refused by name and not touched."""
    path = tmp_path / "results.sqlite3"
    path.write_text("these are my notes, all of them" * 40)
    with pytest.raises(ConfigurationError, match="is not an SQLite file"):
        sqlite_schema.migrate(path)
    assert path.read_text().startswith("these are my notes")


def test_checksum_does_not_depend_on_line_ends(copies: Path) -> None:
    """A checkout with CRLF line ends has the same checksums."""
    before = read_migrations(copies, ".sql")
    for path in copies.glob("*.sql"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_migrations(copies, ".sql") == before


@pytest.mark.parametrize(
    "names", [["002_b.sql"], ["001_a.sql", "003_c.sql"], ["001_a.sql", "001_b.sql"], ["first.sql"]]
)
def test_files_that_are_not_numbered_in_order_are_refused(names: Sequence[str], tmp_path: Path) -> None:
    """A gap, a number twice or a name without a number is refused with the file's name."""
    for name in names:
        (tmp_path / name).write_text("SELECT 1;\n")
    with pytest.raises(ConfigurationError, match=names[-1]):
        read_migrations(tmp_path, ".sql")


def test_pending_are_those_that_are_not_applied(copies: Path) -> None:
    """What a store has not taken in yet is pending, in order."""
    migrations = read_migrations(copies, ".cql")
    first = migrations[0]
    assert pending(migrations, {}, "store") == migrations
    assert pending(migrations, {1: Applied(first.name, first.checksum)}, "store") == migrations[1:]


@pytest.mark.slow
def test_sqlite_runs_at_once_are_harmless(tmp_path: Path) -> None:
    """Several runs on one new store all end with 0, and each version is recorded once."""
    settings = Settings(stack="embedded", data_dir=tmp_path / "stack")
    assert run_at_once("services.sqlite.migrate", settings, 4) == [0, 0, 0, 0]
    with closing(sqlite3.connect(settings.results_path)) as store:
        assert store.execute("SELECT version FROM schema_migrations ORDER BY version").fetchall() == [
            (1,),
            (2,),
            (3,),
            (4,),
            (5,),
        ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["services.sqlite.migrate", "services.cassandra.migrate", "services.topics"]
)
def test_command_has_help_that_fits_eighty_columns(module: str) -> None:
    """Each one-shot command explains itself and its exit codes within 80 columns."""
    done = run_module(module, Settings(), "--help")
    assert done.returncode == 0
    assert "Exit codes: 0 done" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.slow
def test_cassandra_that_does_not_answer_is_named() -> None:
    """Where no Cassandra answers, the command says so with address and remedy and ends with 1."""
    done = run_module("services.cassandra.migrate", Settings(cassandra_port=1), "--wait", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == "no answer from Cassandra at 127.0.0.1:1 within 0 s; start it or set CASSANDRA_HOSTS\n"
    )


@pytest.fixture(scope="module")
def keyspace(cassandra_server: CassandraServer) -> str:
    """A migrated keyspace for the tests of this module that only look."""
    return cassandra_server.keyspace()


@pytest.fixture
def session(cassandra_server: CassandraServer) -> Iterator[Any]:
    """A session with the real Cassandra."""
    with open_session(cassandra_server.hosts, cassandra_server.port) as opened:
        yield opened


@pytest.mark.servers
@pytest.mark.slow
def test_cassandra_tables_have_the_agreed_columns_and_keys(keyspace: str, session: Any) -> None:
    """Each results table has its columns under its primary key; windows are clustered newest first."""
    rows = list(session.execute("SELECT * FROM system_schema.columns WHERE keyspace_name = %s", [keyspace]))
    for table, columns in TABLES.items():
        mine = [row for row in rows if row.table_name == table]
        keys = sorted(
            (row for row in mine if row.position >= 0),
            key=lambda row: (row.kind == "clustering", row.position),
        )
        assert {row.column_name for row in mine} == set(columns)
        assert [row.column_name for row in keys] == KEYS[table]
    orders = {row.column_name: row.clustering_order for row in rows if row.table_name == "campaign_windows"}
    assert orders["window_start"] == "desc"


@pytest.mark.servers
@pytest.mark.slow
def test_cassandra_partition_keys_are_the_agreed_ones(keyspace: str, session: Any) -> None:
    """dead_letters, replays and ledger are partitioned by their first two columns, the others by their first."""
    rows = session.execute("SELECT * FROM system_schema.columns WHERE keyspace_name = %s", [keyspace])
    keys = {(row.table_name, row.column_name) for row in rows if row.kind == "partition_key"}
    two = {(table, column) for table in ("dead_letters", "replays", "ledger") for column in KEYS[table][:2]}
    one = {(table, KEYS[table][0]) for table in ("campaign_windows", "trending_pages", "page_totals")}
    assert keys == two | one | {("schema_migrations", "version")}


@pytest.mark.servers
@pytest.mark.slow
def test_changed_file_is_refused_by_cassandra_too(
    keyspace: str, cassandra_server: CassandraServer, copies: Path
) -> None:
    """An applied file that has changed is refused with both checksums; an unchanged folder applies nothing."""
    hosts, port = cassandra_server.hosts, cassandra_server.port
    assert cassandra_schema.migrate(hosts, port, keyspace) == []
    before = read_migrations(copies, ".cql")[0]
    (copies / before.name).write_text("CREATE TABLE IF NOT EXISTS other (a int PRIMARY KEY);\n")
    after = read_migrations(copies, ".cql")[0]
    with pytest.raises(ConfigurationError) as refusal:
        cassandra_schema.migrate(hosts, port, keyspace, folder=copies)
    for part in (before.name, before.checksum, after.checksum, keyspace):
        assert part in str(refusal.value)


@pytest.mark.servers
@pytest.mark.slow
def test_statement_that_cassandra_refuses_names_its_file(
    cassandra_server: CassandraServer, copies: Path
) -> None:
    """A migration with a fault in it fails with its name and Cassandra's words, and is not recorded."""
    (copies / "006_fault.cql").write_text("CREATE TABLE IF NOT EXISTS batch (;\n")
    keyspace = cassandra_server.keyspace()
    with pytest.raises(StreamingError, match=r"006_fault\.cql: .*[Ss]yntax"):
        cassandra_schema.migrate(cassandra_server.hosts, cassandra_server.port, keyspace, folder=copies)
    assert cassandra_schema.migrate(cassandra_server.hosts, cassandra_server.port, keyspace) == []


@pytest.mark.servers
@pytest.mark.slow
def test_cassandra_runs_at_once_are_harmless(cassandra_server: CassandraServer, session: Any) -> None:
    """Several runs on one new keyspace all end with 0, and it has each version once."""
    settings = Settings(cassandra_port=cassandra_server.port, keyspace="at_once")
    assert run_at_once("services.cassandra.migrate", settings, 3) == [0, 0, 0]
    rows = session.execute("SELECT version, name FROM at_once.schema_migrations")
    assert sorted(row.version for row in rows) == [1, 2, 3, 4, 5]
