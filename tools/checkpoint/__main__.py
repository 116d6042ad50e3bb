"""The command line over checkpoint folders; `scripts/checkpoint` runs it.

Owns: command.
Never: a change of the folder that it is given.
"""

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from engine.checkpoint.records import BatchRecord, RangeRecord
from services.settings import exit_code, load_settings
from tools.checkpoint.copying import copy
from tools.checkpoint.folder import Operator, Shown, look, shown_bytes, shown_time
from tools.checkpoint.ledger import write_ledger
from tools.stack.compose import project_of, settings_of

WIDTH = 80
"""Columns that the lines keep to."""
_NEWEST = 5
"""Remembered batches that are listed."""


@click.group(context_settings={"max_content_width": 80, "help_option_names": ["-h", "--help"]})
def command() -> None:
    """Show and copy the checkpoint folder of an application, running or not."""


@command.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--json", "is_json", is_flag=True, help="Print everything as JSON.")
def show(directory: Path, *, is_json: bool) -> None:
    """Say what the checkpoint folder in DIRECTORY holds, and what a start would do with it.

    DIRECTORY is an application's folder, or a checkpoint directory with only one. Nothing is changed, and a process that runs does
    not mind.

    Exit codes: 0 a start would use it, 1 a start would be refused as it is damaged, 2 there is none.
    """
    sys.exit(exit_code(lambda: _show(directory, is_json=is_json)))


def _show(directory: Path, *, is_json: bool) -> int:
    shown = look(directory)
    if is_json:
        click.echo(json.dumps(shown.as_json(), indent=2))
    else:
        for line in lines_of(shown):
            click.echo(line)
    return 1 if shown.refused else 0


def lines_of(shown: Shown) -> Iterator[str]:
    """What a folder holds, in lines of at most 80 columns."""
    meta, catalog = shown.meta, shown.catalog
    yield from _wrapped(f"{meta.app}: {shown.folder}")
    held = "held by a process" if shown.is_held else "not held"
    yield f"  format {meta.format}, batches of {meta.batch_ms} ms, {meta.shards} shards, epoch {shown.epoch}, {held}"
    yield (
        f"  journal {shown_bytes(shown.journal_bytes)} in {shown.segments} segments, "
        f"snapshots {shown_bytes(shown.snapshot_bytes)}, blocks {shown_bytes(shown.block_bytes)}"
    )
    yield ""
    for sentence in shown.start():
        yield from _wrapped(sentence)
    for title, batch in (
        ("committed", catalog.commit.batch if catalog.commit else None),
        ("begun, not committed", shown.pending),
    ):
        if batch is not None:
            yield ""
            yield from _batch(title, batch)
    if len(catalog.history) > 1:
        times = [shown_time(batch.time) for batch in catalog.history[-_NEWEST:]]
        yield ""
        yield from _wrapped(
            f"{len(catalog.history)} batches are remembered for windows, the newest {', '.join(times)}"
        )
    if shown.operators:
        yield ""
        for operator in shown.operators:
            yield from _operator(operator)


def _batch(title: str, batch: BatchRecord) -> Iterator[str]:
    yield f"{title}: {shown_time(batch.time)}, attempt {batch.attempt}"
    for name, parts in sorted(batch.ranges.items()):
        yield from _wrapped(f"{name}: {' '.join(map(_range, parts))}", "  ")


def _range(part: RangeRecord) -> str:
    topic, partition, begin, until = part
    return f"{topic}[{partition}] {begin}..{until}"


def _operator(operator: Operator) -> Iterator[str]:
    yield from _wrapped(operator.name)
    key, state = operator.types
    if key or state:
        yield from _wrapped(f"{key} -> {state}", "  ")
    yield (
        f"  {operator.snapshots} snapshots {shown_bytes(operator.snapshot_bytes)}, "
        f"{operator.deltas} deltas {shown_bytes(operator.delta_bytes)}"
    )
    if operator.older:
        yield f"  {operator.older} shards hold states of an older type as well: keep migrateState"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ")


@command.command(name="copy")
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
def copy_command(directory: Path, target: Path) -> None:
    """Copy the checkpoint folder in DIRECTORY to the new checkpoint directory TARGET: a savepoint.

    The copy is whole, also of a process that runs, which does not mind. The application starts there with CHECKPOINT_DIR=TARGET;
    its sources must still hold what comes after the copy's last batch. Its tables are not copied; where they have batches that the
    copy does not know, a start is refused and says so: give it those of `ledger` with --backfill.

    Exit codes: 0 copied, 2 refused.
    """
    sys.exit(exit_code(lambda: _copy(directory, target)))


def _copy(directory: Path, target: Path) -> None:
    done = copy(directory, target)
    committed = f"up to batch {shown_time(done.batch)}" if done.batch else "without a committed batch"
    click.echo(f"copied {done.files} files, {shown_bytes(done.size_bytes)}, {committed}")
    click.echo(f"to {done.folder}; it starts with CHECKPOINT_DIR={target}")


@command.command()
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
def ledger(target: Path) -> None:
    """Write the batches of APP's ledger to the file TARGET, for a backfill.

    STACK, DATA_DIR, CASSANDRA_HOSTS, CASSANDRA_PORT, KEYSPACE and APP say whose; without STACK it is the stack that is up.
    `python -m services.pipeline.main --backfill TARGET` runs them again: a fresh application with other tables, or this one from an
    older copy of its checkpoint.

    Exit codes: 0 written, 2 refused.
    """
    sys.exit(exit_code(lambda: _ledger(target)))


def _ledger(target: Path) -> None:
    settings = load_settings()
    if settings.stack == "compose":  # its containers tell their own, and the ports that this machine sees
        settings = settings_of(project_of(settings), settings)
    click.echo(f"wrote {write_ledger(settings, target)} batches of {settings.app} to {target}")


if __name__ == "__main__":
    command(prog_name="scripts/checkpoint")
