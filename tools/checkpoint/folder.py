"""An application's checkpoint folder as it lies there, read without taking it, and what a start would do with it.

Owns: find_app, Shown, look.
Never: a write.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.batch import Duration
from engine.checkpoint.checkpoint import Checkpoint
from engine.checkpoint.journal import segment_names
from engine.checkpoint.meta import Meta, found_meta
from engine.checkpoint.records import BatchRecord, Catalog
from engine.checkpoint.upgrade import outdated
from engine.errors import CheckpointError, ConfigurationError

_LOCKS = Path("/proc/locks")


def find_app(folder: Path) -> Path:
    """The application's folder: this one, or the only one in this checkpoint directory.

    Raises:
        ConfigurationError: there is none, or there are several.
    """
    if (folder / "meta.json").exists():
        return folder
    found = sorted(path.parent for path in folder.glob("*/meta.json") if ".damaged-" not in path.parent.name)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise ConfigurationError(
            f"{folder} holds {names}; name the folder of one application, such as {found[0]}"
        )
    raise ConfigurationError(
        f"{folder} holds no checkpoint of an application; name a folder that has a meta.json"
    )


@dataclass(frozen=True, slots=True)
class Operator:
    """One stateful operator."""

    name: str
    types: tuple[str, str]
    """Of key and state, empty where nobody said which."""
    snapshots: int
    snapshot_bytes: int
    deltas: int
    delta_bytes: int
    older: int
    """Shards that hold states of an older type as well."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a folder holds; `refused` says why a start would not use it, and then the rest may be empty."""

    folder: Path
    meta: Meta
    epoch: int
    segments: int
    journal_bytes: int
    snapshot_bytes: int
    block_bytes: int
    is_held: bool
    """Whether a process holds the folder's lock, as far as this machine tells."""
    catalog: Catalog
    operators: tuple[Operator, ...]
    refused: str = ""

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain data."""
        commit, pending = self.catalog.commit, self.pending
        return {
            "folder": str(self.folder),
            "app": self.meta.app,
            "format": self.meta.format,
            "batch_ms": self.meta.batch_ms,
            "zero_ms": self.meta.zero_ms,
            "shards": self.meta.shards,
            "epoch": self.epoch,
            "is_held": self.is_held,
            "bytes": {
                "journal": self.journal_bytes,
                "snapshots": self.snapshot_bytes,
                "blocks": self.block_bytes,
            },
            "committed": None if commit is None else _batch_json(commit.batch),
            "pending": None if pending is None else _batch_json(pending),
            "remembered": [batch.time for batch in self.catalog.history],
            "operators": [
                {name: getattr(operator, name) for name in operator.__slots__} for operator in self.operators
            ],
            "start": list(self.start()),
        }

    @property
    def pending(self) -> BatchRecord | None:
        """The batch that was begun and not committed."""
        begun, commit = self.catalog.begun, self.catalog.commit
        return None if begun is None or (commit is not None and begun.time <= commit.batch.time) else begun

    def start(self) -> Iterator[str]:
        """What the next start would do, a sentence each."""
        if self.refused:
            yield f"A start is refused: {self.refused}"
            return
        if self.is_held:
            yield "A start is refused while the process that holds the folder runs, but with takeover."
        if self.catalog.commit is None and self.pending is None:
            yield "A start begins from nothing: no batch was committed."
            return
        size = sum(operator.snapshot_bytes + operator.delta_bytes for operator in self.operators)
        if self.operators:
            yield f"A start reads {len(self.operators)} operators in {self.meta.shards} shards, {shown_bytes(size)}."
        if self.pending is not None:
            yield (
                f"It runs batch {shown_time(self.pending.time)} again, attempt {self.pending.attempt + 1}, "
                "with the ranges below."
            )
        yield "It goes on after the ranges below."


def _batch_json(batch: BatchRecord) -> dict[str, Any]:
    return {"time": batch.time, "attempt": batch.attempt, "ranges": batch.ranges}


def look(folder: Path) -> Shown:
    """Look at an application's folder, whether a process runs on it or not.

    Raises:
        ConfigurationError: it is none.
        StateVersionError: its meta.json cannot be read.
    """
    app = find_app(folder)
    meta = found_meta(app / "meta.json")
    checkpoint = Checkpoint(app.parent, meta.app, Duration(meta.batch_ms), meta.shards)
    refused = ""
    try:
        checkpoint.folder = app
        checkpoint.look()
    except CheckpointError as error:
        refused = str(error)
    journal = app / "journal"
    names = segment_names(journal) if journal.is_dir() else []
    return Shown(
        folder=app,
        meta=meta,
        epoch=names[-1].epoch if names else 0,
        segments=len(names),
        journal_bytes=_size(app, "journal/*.log"),
        snapshot_bytes=_size(app, "state/*/*/*.snap"),
        block_bytes=_size(app, "blocks/*/*/*.log"),
        is_held=_is_held(app / "lock"),
        catalog=checkpoint.catalog,
        operators=tuple(_operators(checkpoint.catalog)),
        refused=refused,
    )


def _operators(catalog: Catalog) -> Iterator[Operator]:
    old = outdated(catalog)
    for name in sorted(catalog.commit.operators) if catalog.commit else ():
        newest = {kept.shard: kept for kept in catalog.snapshots if kept.operator == name}
        deltas = [
            delta
            for delta in catalog.deltas
            if delta.operator == name
            and (delta.shard not in newest or delta.version > newest[delta.shard].version)
        ]
        lineage = catalog.types.get(name)
        yield Operator(
            name=name,
            types=lineage[-1][1] if lineage else ("", ""),
            snapshots=len(newest),
            snapshot_bytes=sum(kept.size for kept in newest.values()),
            deltas=len(deltas),
            delta_bytes=sum(delta.length for delta in deltas),
            older=sum(operator == name for operator, _ in old),
        )


def _size(folder: Path, pattern: str) -> int:
    return sum(_size_of(path) for path in folder.glob(pattern))


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a process that runs has just removed it
        return 0


def _is_held(lock: Path) -> bool:
    """Whether somebody holds the lock; taking it to find out could have a start refused that comes just then."""
    if not lock.exists() or not _LOCKS.exists():
        return False
    inode = str(lock.stat().st_ino)
    rows = (line.split() for line in _LOCKS.read_text().splitlines())
    return any(
        "FLOCK" in row and any(word.rpartition(":")[2] == inode for word in row if word.count(":") == 2)
        for row in rows
    )


def shown_bytes(size: int) -> str:
    """A number of bytes for people.

    Example:
        >>> shown_bytes(900), shown_bytes(3_200_000)
        ('900 B', '3.2 MB')
    """
    if size < 1_000:
        return f"{size} B"
    unit, divisor = next(
        (u, d) for u, d in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)) if size < d * 1e3 or u == "GB"
    )
    return f"{size / divisor:.1f} {unit}"


def shown_time(time: int) -> str:
    """A batch time for people.

    Example:
        >>> shown_time(1_700_000_000_500)
        '2023-11-14T22:13:20.500Z'
    """
    return (
        datetime.fromtimestamp(time / 1_000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time % 1_000:03d}Z"
    )
