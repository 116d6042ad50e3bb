"""Engines that are wrong on purpose, each by one change as a tired hand might make it.

A change is made in the process of the application, never in the engine's files. The checks that prove the engine right must
find every one of them.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

from engine.batch import Batch, OutputInfo
from engine.checkpoint import checkpoint, journal, shards
from engine.checkpoint.checkpoint import Checkpoint
from engine.checkpoint.journal import Journal
from engine.scheduler.scheduler import JobScheduler
from engine.sinks import sqlite
from engine.sinks.api import Table

_NEWER = ' WHERE excluded."_written" >= '
"""What keeps an older write from a row."""

of: Any = SimpleNamespace(
    scheduler=JobScheduler, checkpoint=Checkpoint, journal=Journal, sqlite=sqlite, shards=shards
)
"""What the changes are made to; a class or module that is assigned to has no annotations here."""


def note_syncs(notes: Path) -> None:
    """Write down how many bytes of which file were made durable, for a power cut that a test imitates."""
    real = os.fdatasync
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def fdatasync(descriptor: int) -> None:
        real(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        os.write(file, f"{os.fstat(descriptor).st_size} {path}\n".encode())

    system: Any = os
    system.fdatasync = fdatasync


def _commit_before_the_sinks() -> None:
    """The outputs run when the commit record is there."""
    run, commit, waiting = of.scheduler._run_output, of.checkpoint.commit, []

    def put_off(self: Any, output: Any, batch: Batch) -> OutputInfo:
        waiting.append((self, output, batch))
        return OutputInfo(output.operation, int(batch.time), int(batch.time), None, ())

    def commit_first(self: Any, *record: Any) -> int:
        size = commit(self, *record)
        for late in waiting:
            run(*late)
        waiting.clear()
        return int(size)

    of.scheduler._run_output, of.checkpoint.commit = put_off, commit_first


def _increments_in_the_sink() -> None:
    """A row takes what comes on top of what it has, as a counter does."""
    merge = of.sqlite._merge

    def add(table: Table, *how: Any, **more: Any) -> str:
        return str(merge(table, *how, **more)).replace(
            '"n" = excluded."n"',
            '"n" = "windows"."n" + excluded."n"' if table.name == "windows" else '"n" = excluded."n"',
        )

    of.sqlite._merge = add


def _no_fsync_of_the_journal() -> None:
    """A frame counts as durable when it is written; test_power_loss.py leaves out each single fsync."""
    journal_module: Any = journal
    journal_module.os = SimpleNamespace(**{**vars(os), "fdatasync": lambda _descriptor: None})


def _offsets_before_state() -> None:
    """The ranges of a batch are committed with its begin, its state when that is there."""
    begin, commit = of.checkpoint.begin, of.checkpoint.commit

    def begin_and_commit(self: Any, batch: Batch, *more: Any) -> None:
        begin(self, batch, *more)
        last = self.last_commit
        commit(self, batch, last.operators if last else {}, last.versions if last else {}, {}, [])

    of.checkpoint.begin = begin_and_commit


def _one_name_for_all_snapshots() -> None:
    """Every snapshot of a shard is written to the same file."""
    path = of.checkpoint._snapshot_path

    def same(self: Any, operator: str, shard: int, _version: int, _epoch: int) -> Path:
        return Path(path(self, operator, shard, 1, 1))

    of.checkpoint._snapshot_path = same


def _no_checksums() -> None:
    """No checksum of state is looked at."""
    for module in (checkpoint, shards):
        with_checksum: Any = module
        with_checksum.checksum = lambda *_: 0


def _late_writes_win() -> None:
    """The write that comes last stays, whatever its timestamp."""
    merge = of.sqlite._merge
    of.sqlite._merge = lambda *how, **more: merge(*how, **more).partition(_NEWER)[0]


def _no_look_at_the_fence() -> None:
    """A process does not ask whether another one has taken over."""
    of.journal.refuse_if_fenced = lambda _self: None


def _pending_batch_forgotten() -> None:
    """A batch that was begun and not committed is taken for done."""
    opened = of.checkpoint.open

    def skip(self: Any, *how: Any, **more: Any) -> Any:
        zero = opened(self, *how, **more)
        batch, commit = self.pending(), self.last_commit
        if batch is not None and commit is not None:
            self.commit(batch, commit.operators, commit.versions, {}, [])
        return zero

    of.checkpoint.open = skip


MUTANTS: Mapping[str, Callable[[], None]] = MappingProxyType(
    {
        "": lambda: None,
        "commit before the sinks": _commit_before_the_sinks,
        "increments in the sink": _increments_in_the_sink,
        "no fsync of the journal": _no_fsync_of_the_journal,
        "offsets before state": _offsets_before_state,
        "one name for all snapshots": _one_name_for_all_snapshots,
        "no checksums": _no_checksums,
        "late writes win": _late_writes_win,
        "no look at the fence": _no_look_at_the_fence,
        "pending batch forgotten": _pending_batch_forgotten,
    }
)
"""By name; the one without a name changes nothing."""
