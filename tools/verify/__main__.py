"""The command line of verify; `scripts/verify` runs it.

Owns: command.
Never: a rule of the proof.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from services.settings import exit_code, load_settings
from tools.numbers import Number
from tools.verify import proof
from tools.verify.replay import Progress as Told
from tools.verify.verdict import Verdict

STANDARD_OUTPUT = Path("-")
DOES = "reading the log and recomputing every row"


@click.command(context_settings={"max_content_width": 100})
@click.option(
    "--wait",
    "wait_seconds",
    type=Number(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the ledger's row of a batch that is being written.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, writable=True, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Write everything that was found to FILE as JSON too; - is standard output, in place of the lines.",
)
def command(wait_seconds: float, json_path: Path | None) -> None:
    """Compare every result table with a truth recomputed from the log and the ledger.

    STACK, DATA_DIR, KAFKA_BOOTSTRAP, CASSANDRA_HOSTS, CASSANDRA_PORT, KEYSPACE, APP, JOBS and SEED say what to verify. It may
    run at any time, also while producers and engine run. One line for each table, the first rows that are not exact,
    then the verdict.

    \b
    missing  a row that is only in the truth
    over     a row that is only in the table
    wrong    a row whose values or batch differ, a gap or overlap in the ledger,
             a total that is not the producers' closed form

    Exit codes: 0 every row is exact, 1 some are not, 2 could not tell, with the reason.
    """  # noqa: D301 - \b is meant, click's mark of a paragraph that is not to be wrapped
    sys.exit(exit_code(lambda: _run(wait_seconds, json_path)))


def _run(wait_seconds: float, json_path: Path | None) -> int:
    settings = load_settings()
    with _shown_progress() as progress:
        verdict = proof.verify(settings, wait_seconds=wait_seconds, progress=progress)
    _tell(verdict, json_path)
    return verdict.code


def _tell(verdict: Verdict, json_path: Path | None) -> None:
    text = json.dumps(verdict.as_json(), indent=2, default=str) if json_path else ""
    if json_path == STANDARD_OUTPUT:
        click.echo(text)
    else:
        if json_path:
            json_path.write_text(f"{text}\n", encoding="utf-8")
        for line in verdict.lines():
            click.echo(line)
    if verdict.reason:
        click.echo(f"verify could not tell: {verdict.reason}", err=True)
    if verdict.tables and json_path != STANDARD_OUTPUT:
        click.echo(verdict.line)


@contextmanager
def _shown_progress() -> Iterator[Told]:
    """What goes on, on standard error: a bar on a terminal, one line elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        click.echo(f"{DOES}; some seconds, longer with a long log", err=True)
        yield lambda _done, _total: None
        return
    columns = (TextColumn(DOES), BarColumn(bar_width=10), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("log", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


if __name__ == "__main__":
    command(prog_name="scripts/verify")
