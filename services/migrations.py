"""What the migrations of both stores have in common: numbered files, their checksums, and what is still to be done.

A migration is a file `NNN_name.ext` of statements that each end with a semicolon at the end of a line. Those of Cassandra may run
twice (IF NOT EXISTS); those of SQLite are one transaction with the row that tells of them. A store keeps a row (version, name,
checksum, applied_at) for each file that it has taken in, and a file never changes after that: what comes next is a new file. Nothing is
ever dropped.

Owns: Migration, read_migrations, pending.
Never: a database; each store runs the statements itself.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from engine.errors import ConfigurationError

_FILE_NAME = re.compile(r"(\d{3})_([a-z0-9_]+)")


class Applied(NamedTuple):
    """A migration as a store remembers it."""

    name: str
    checksum: str


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of statements."""

    version: int
    """From 1, without gaps."""
    name: str
    """The file's name."""
    checksum: str
    """SHA-256 of its text with LF line ends, in hexadecimal."""
    statements: tuple[str, ...]
    """Without comments and without the closing semicolon."""


def read_migrations(folder: Path, suffix: str) -> list[Migration]:
    """The migrations of a folder in the order of their versions.

    Args:
        folder: where the files lie.
        suffix: what their names end with, dot included.

    Raises:
        ConfigurationError: a name that is not NNN_name, or versions that are not 1, 2, 3, ...
    """
    migrations = [_read(path) for path in sorted(folder.glob(f"*{suffix}"))]
    for number, migration in enumerate(migrations, start=1):
        if migration.version != number:
            raise ConfigurationError(
                f"migration {migration.name} in {folder} stands where version {number:03} is expected; "
                "number the files 001, 002, ... without gaps"
            )
    return migrations


def pending(migrations: Sequence[Migration], applied: Mapping[int, Applied], store: str) -> list[Migration]:
    """The migrations that a store has not taken in yet.

    Args:
        migrations: every migration of this version of the program.
        applied: what the store remembers, by version.
        store: what to call the store in a refusal.

    Raises:
        ConfigurationError: an applied file has changed since (the message has both checksums), or the store is newer.
    """
    newest = max(applied, default=0)
    if newest > len(migrations):
        raise ConfigurationError(
            f"{store} has migration {applied[newest].name} (version {newest}), which this version of the program does not know; "
            "use a newer version of the program"
        )
    for migration in migrations:
        known = applied.get(migration.version)
        if known and known.checksum != migration.checksum:
            raise ConfigurationError(
                f"migration {migration.name} has changed since it was applied to {store}: its checksum is {migration.checksum}, "
                f"applied was {known.name} with {known.checksum}; put the file back and write the change as a new migration"
            )
    return [migration for migration in migrations if migration.version not in applied]


def _read(path: Path) -> Migration:
    match = _FILE_NAME.fullmatch(path.stem)
    if not match:
        raise ConfigurationError(
            f"{path} is not the name of a migration; call it NNN_name{path.suffix}, such as 001_tables"
        )
    text = path.read_text(
        encoding="utf-8"
    )  # universal newlines: the checksum does not depend on the line ends
    code = re.sub(r"^\s*--.*$", "", text, flags=re.MULTILINE)
    statements = tuple(part.strip() for part in re.split(r";\s*$", code, flags=re.MULTILINE) if part.strip())
    return Migration(int(match[1]), path.name, hashlib.sha256(text.encode()).hexdigest(), statements)
