"""The command line of the kill loop: `python -m tools.killloop --stack embedded --kills 200 --seed 1`.

Owns: command.
Never: a kill; that is the loop's.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from services.settings import Settings, exit_code, load_settings
from services.sqlite.migrate import migrate
from services.topics import create_topics
from tools.killloop.loop import LOOP_SETTINGS, KillLoop, Plan, Tally
from tools.killloop.report import table
from tools.stack.api import SERVERS, Stack

_KILLS = {"embedded": 200, "processes": 20}


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
    type=click.IntRange(min=1),
    show_envvar=True,
    help="How many. [default: 200, processes 20]",
)
@click.option(
    "--echoes",
    type=click.IntRange(min=0),
    help="Further kills, before the first commit of a restart. [default: a tenth of the kills]",
)
@click.option(
    "--seed", envvar="SEED", type=click.IntRange(min=0), default=1, show_default=True, show_envvar=True
)
@click.option("--keep", is_flag=True, help="Keep the data of a loop that was exact, too.")
def command(stack: str, kills: int | None, echoes: int | None, seed: int, *, keep: bool) -> None:
    r"""Kill the engine with SIGKILL again and again under backlog, then verify.

    The loop runs on a new stack of its own in a temporary folder, which is removed when all
    rows are exact; ports and JARS_DIR are those of the settings. After each restart a new
    batch must be committed before the next kill. The phase of a kill is the last fail point
    that the engine had reached.

    Exit codes: 0 every row exact, 1 not, or a restart did not commit, 2 refused.
    """
    kills = kills or _KILLS[stack]
    plan = Plan(kills, seed, kills // 10 if echoes is None else echoes)
    sys.exit(exit_code(lambda: run(stack, plan, keep=keep)))


def run(stack: str, plan: Plan, *, keep: bool) -> int:
    """Run a loop on a new stack and print its table."""
    folder = Path(tempfile.mkdtemp(prefix="killloop-"))
    more = {
        "stack": stack,
        "data_dir": folder,
        "checkpoint_dir": folder / "checkpoints",
        **LOOP_SETTINGS[stack],
    }
    settings = load_settings().model_copy(update=more)
    began = time.monotonic()
    with _stack(settings), _shown_progress(plan.kills) as progress:
        tally = KillLoop(settings, plan, folder / "logs").run(progress)
    for line in table(tally):
        click.echo(line)
    click.echo(f"seconds         {time.monotonic() - began:>6.0f}")
    is_exact = tally.verdict is not None and tally.verdict.code == 0
    if is_exact and not keep:
        shutil.rmtree(folder)
    else:
        click.echo(f"data            {folder}")
    if tally.verdict:
        click.echo(tally.verdict.reason or tally.verdict.line)
    return 0 if is_exact else 1


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
