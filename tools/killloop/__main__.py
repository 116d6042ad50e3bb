"""The command line of the kill loop: `python -m tools.killloop --stack embedded --kills 200 --seed 1`.

Owns: command.
Never: a kill; that is the loop's.
"""

import shutil
import statistics
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
from tools.killloop.loop import KillLoop, Plan, Tally
from tools.killloop.phases import PHASES, REQUIRED
from tools.stack.api import SERVERS, Stack

LOOP_SETTINGS = {
    "embedded": {"batch_seconds": 0.05, "max_rate_per_partition": 600},
    "processes": {"batch_seconds": 0.1, "max_rate_per_partition": 600},
}
"""Small batches, so that a life has many, and few records in each, so that the log is never emptied."""


@click.command(context_settings={"max_content_width": 80})
@click.option("--stack", type=click.Choice(["embedded", "processes"]), default="embedded", show_default=True)
@click.option("--kills", type=click.IntRange(min=1), default=200, show_default=True)
@click.option(
    "--echoes",
    type=click.IntRange(min=0),
    default=0,
    help="Further kills, before the first commit of a restart.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--keep", is_flag=True, help="Keep the data of a loop that was exact, too.")
def command(stack: str, kills: int, echoes: int, seed: int, *, keep: bool) -> None:
    r"""Kill the engine with SIGKILL again and again under backlog, then verify.

    The loop runs on a new stack of its own in a temporary folder, which is removed when all
    rows are exact; ports and JARS_DIR are those of the settings. After each restart a new
    batch must be committed before the next kill. The phase of a kill is the last fail point
    that the engine had reached.

    Exit codes: 0 every row exact, 1 not, or a restart did not commit, 2 refused.
    """
    sys.exit(exit_code(lambda: run(stack, Plan(kills, seed, echoes), keep=keep)))


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


def table(tally: Tally) -> Iterator[str]:
    """What the loop has done, in plain lines."""
    yield f"{'phase':<15} {'kills':>6} {'before its first commit':>25}"
    for phase in PHASES:
        if tally.kills[phase] or tally.echoes[phase] or phase in REQUIRED:
            yield f"{phase:<15} {tally.kills[phase]:>6} {tally.echoes[phase]:>25}"
    yield f"{'all':<15} {tally.total:>6} {tally.echoes.total():>25}"
    yield f"in mid-batch    {tally.interrupted:>6}"
    yield f"with executors  {tally.trees:>6}"
    yield f"least backlog   {tally.least_backlog:>6} records at any kill"
    restarts = tally.recovered[1:]
    if restarts:
        median, worst = statistics.median(restarts), max(restarts)
        yield f"restarts        {len(restarts):>6}, to a new commit median {median:.2f} s, worst {worst:.2f} s"
    if tally.verdict and tally.verdict.ledger:
        yield f"batches         {tally.verdict.ledger.batches:>6}, {tally.verdict.ledger.records} records"
    if tally.verdict:
        yield f"mismatches      {tally.verdict.missing + tally.verdict.over + tally.verdict.wrong:>6}"


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
