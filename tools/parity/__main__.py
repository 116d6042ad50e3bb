"""`make parity N=500 SEED=7`: programs, equal, different; the intended differences are listed and counted.

Owns: the command.
Never: a run of PySpark in this process.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator

import click
from rich.console import Console
from rich.progress import Progress

from engine import LocalContext
from services.settings import REPOSITORY
from tools.parity import engine_side
from tools.parity.compare import INTENDED, Comparison, compare
from tools.parity.programs import program

_INTERVAL = 0.5
"""Seconds, as on PySpark's side."""
_MOST_SHOWN = 5


def on_pyspark(seed: int, count: int) -> Iterator[tuple[int, list[list[str] | None]]]:
    """The batches of each program on PySpark, as they come."""
    code = f"from tools.parity.pyspark_side import main; main({seed}, range({count}))"
    command = [sys.executable, "-c", code]
    with (
        tempfile.TemporaryFile("w+") as told,
        subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=told, text=True) as child,
    ):
        for line in child.stdout or ():
            number, batches = json.loads(line)
            yield number, batches
        if child.wait():
            told.seek(0)
            raise click.ClickException(
                f"PySpark's side ended with status {child.returncode}: {told.read().strip()[-600:]}"
            )


def run(seed: int, count: int, master: str) -> list[Comparison]:
    """Compare so many programs, with a progress bar."""
    compared: list[Comparison] = []
    with LocalContext(master, "parity") as context, Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"programs on PySpark and {master}", total=count)
        for number, theirs in on_pyspark(seed, count):
            one = program(seed, number, _INTERVAL)
            compared.append(compare(one, theirs, engine_side.run(context, one, _INTERVAL)))
            progress.advance(task)
    return compared


def report(compared: list[Comparison], seed: int, console: Console) -> int:
    """Print the differences and the closing line; 1 when one is not intended."""
    verdicts = Counter(each.verdict for each in compared)
    for name, difference in INTENDED.items():
        shown = sum(each.verdict == "intended" and name in each.program.differences for each in compared)
        console.print(f"intended, {shown} programs: {difference.operator}", highlight=False)
        console.print(f"  when {difference.condition}:\n  {difference.reason}", highlight=False)
    wrong = [each for each in compared if each.verdict == "different"]
    for each in wrong[:_MOST_SHOWN]:
        console.print(
            f"different: program {each.program.number} of seed {seed}, batch {each.batch}: stream{each.program}"
        )
        console.print(f"  PySpark: {each.theirs}\n  here:    {each.ours}", highlight=False, markup=False)
    console.print(
        f"parity: programs={len(compared)} equal={verdicts['equal']} intended={verdicts['intended']} "
        f"different={verdicts['different']}",
        highlight=False,
    )
    return 1 if wrong else 0


@click.command()
@click.option("--programs", "count", default=100, show_default=True, help="How many programs.")
@click.option("--seed", default=7, show_default=True, help="Which programs; equal seeds give equal ones.")
@click.option(
    "--master", default="local[2]", show_default=True, help="What computes here: local or local[N]."
)
def main(count: int, seed: int, master: str) -> None:
    """Run seeded small programs on PySpark's own DStreams and on this engine, and compare every batch.

    Needs the extra `spark` and Java 17. Exit codes: 0 all are equal but for the intended differences, 1 one is
    not, 2 refused.
    """
    if importlib.util.find_spec("pyspark") is None:
        raise click.UsageError("pyspark is not installed; install the extra: pip install .[spark]")
    sys.exit(report(run(seed, count, master), seed, Console(width=min(Console().width, 100))))


if __name__ == "__main__":
    main()
