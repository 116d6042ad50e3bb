"""The command line of the kill loop: `python -m tools.killloop --stack embedded --kills 200 --seed 1`.

Owns: command.
Never: a kill; that is the loop's.
"""

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from engine.errors import StreamingError
from services.settings import REPOSITORY, Settings, exit_code, load_settings
from services.sqlite.migrate import migrate
from services.topics import create_topics
from tools.killloop.kept import Kept, Piece
from tools.killloop.loop import LOOP_SETTINGS, KillLoop, Plan, Tally
from tools.killloop.report import table
from tools.numbers import Whole
from tools.stack.api import SERVERS, Stack
from tools.stack.ready import free_port
from tools.stack.revision import revision_of

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

_KILLS = {"embedded": 200, "processes": 20}
_PIECE = {"embedded": 100, "processes": 20}
_SEEDS_APART = 1_000
"""Between the seeds of two pieces."""


@click.command(context_settings={"max_content_width": 80, "help_option_names": ["-h", "--help"]})
@click.option(
    "--stack",
    envvar="STACK",
    type=click.Choice(list(LOOP_SETTINGS)),
    default="embedded",
    show_default=True,
    show_envvar=True,
)
@click.option(
    "--kills",
    envvar="KILLS",
    type=Whole(min=1),
    show_envvar=True,
    help="How many in all; those of earlier calls count. [default: 200, processes 20]",
)
@click.option(
    "--piece",
    type=Whole(min=1),
    help="How many on one stack, which is then verified. [default: 100, processes 20]",
)
@click.option(
    "--echoes",
    type=Whole(min=0),
    help="Further kills of a piece, before the first commit of a restart. [default: a tenth]",
)
@click.option("--seed", envvar="SEED", type=Whole(min=0), default=1, show_default=True, show_envvar=True)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".killloop"),
    show_default=True,
    help="Keeps what was done.",
)
@click.option("--anew", envvar="ANEW", is_flag=True, show_envvar=True, help="Forget what earlier calls did.")
@click.option("--keep", is_flag=True, help="Keep the data of a piece that was exact, too.")
def command(**wanted: Any) -> None:
    r"""Kill the engine with SIGKILL again and again under backlog, then verify.

    The loop runs in pieces, each on a new stack of its own in a temporary folder, which is
    removed when all rows are exact; the ports of servers and JARS_DIR are those of the settings. A call goes on
    where the last one ended; a piece that is interrupted does not count. After each restart a
    new batch must be committed before the next kill. The phase of a kill is the last fail point
    that the engine had reached.

    Exit codes: 0 every row exact, 1 not, or a restart did not commit, 2 refused.
    """
    # An interrupted piece ends what it has started on SIGTERM as on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(exit_code(lambda: run(Wanted(**wanted))))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one call is to do."""

    stack: str
    kills: int | None
    piece: int | None
    echoes: int | None
    seed: int
    folder: Path
    anew: bool
    keep: bool


def run(wanted: Wanted) -> int:
    """Run the pieces that are missing, and print the table of all."""
    settings = load_settings().model_copy(update=LOOP_SETTINGS[wanted.stack])
    kept = Kept(REPOSITORY / wanted.folder, wanted.stack, wanted.seed, revision_of(settings))
    if wanted.anew:
        kept.forget()
    pieces, kills = kept.pieces(), wanted.kills or _KILLS[wanted.stack]
    if pieces:
        click.echo(f"{Piece.together(pieces).total} kills of {len(pieces)} earlier pieces are in {kept.path}")
    try:
        while (done := Piece.together(pieces).total) < kills and Piece.together(pieces).is_exact:
            size = min(wanted.piece or _PIECE[wanted.stack], kills - done)
            echoes = size // 10 if wanted.echoes is None else wanted.echoes
            plan = Plan(size, wanted.seed + _SEEDS_APART * len(pieces), echoes)
            _piece(wanted.stack, plan, kept, keep=wanted.keep)
            pieces = kept.pieces()
    except KeyboardInterrupt:
        click.echo(f"interrupted; {Piece.together(pieces).total} kills are kept", err=True)
        return INTERRUPTED
    whole = Piece.together(pieces)
    if pieces and not whole.is_exact:
        click.echo("after a piece that was not exact there are no more kills; ANEW=1 forgets it")
    for line in table(whole):
        click.echo(line)
    click.echo(whole.line)
    return 0 if whole.is_exact else 1


def _piece(stack: str, plan: Plan, kept: Kept, *, keep: bool) -> None:
    """A loop on a new stack; its line is kept, also when it ended before its proof.

    Raises:
        StreamingError: a restart did not commit, or the stack did not come up.
    """
    folder = Path(tempfile.mkdtemp(prefix="killloop-"))
    more = {
        "stack": stack,
        "data_dir": folder,
        "checkpoint_dir": folder / "checkpoints",
        **LOOP_SETTINGS[stack],
    }
    settings = load_settings().model_copy(update=more)
    # The page of a stack that runs stays its own.
    settings = settings.model_copy(update={"metrics_port": free_port(settings.metrics_port, set())})
    began = time.monotonic()
    with _stack(settings), _shown_progress(plan.kills) as progress:
        loop = KillLoop(settings, plan, folder / "logs")
        try:
            loop.run(progress)
        except StreamingError as error:
            piece = Piece.of(loop.tally, time.monotonic() - began)
            kept.add(replace(piece, is_exact=False, line=f"{error}; its data is in {folder}"))
            click.echo(f"data            {folder}")
            raise
    piece = Piece.of(loop.tally, time.monotonic() - began)
    kept.add(piece)
    if piece.is_exact and not keep:
        shutil.rmtree(folder)
    else:
        click.echo(f"data            {folder}")


@contextmanager
def _stack(settings: Settings) -> Iterator[None]:
    """Servers, topics and schema, without producer and engine."""
    stack = Stack(settings, report=click.echo, is_tied=True)
    try:
        if settings.stack == "processes":
            stack.up(SERVERS)
        else:
            create_topics(settings)
            migrate(settings.results_path)
        yield
    finally:
        stack.down()


@contextmanager
def _shown_progress(kills: int) -> Iterator[Callable[[Tally], None]]:
    """A bar on standard error, if that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("kills"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("kills", total=kills)
        yield lambda tally: bar.update(task, completed=tally.total)


if __name__ == "__main__":
    command()
