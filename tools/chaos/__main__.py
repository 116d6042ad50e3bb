"""The command line of the chaos drills; `scripts/chaos` runs it.

Owns: command, table.
Never: a fault; those are in hits.py.
"""

import contextlib
import signal
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

import click
from rich.console import Console

from engine.errors import ConfigurationError
from services.settings import Settings, exit_code
from tools.chaos.choice import alone, drill_settings, is_up, stack_of
from tools.chaos.drill import Drill
from tools.chaos.faults import FAULTS, faults_of
from tools.chaos.scene import Outcome
from tools.chaos.volume import bring_home

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

_MEASURES = ("detect", "restart", "first batch", "caught up")


def _listed() -> str:
    """The faults for --help, one a line, with the stacks on which they run."""
    lines = [
        f"{fault.name:<19}{fault.does:<36}{', '.join(fault.stacks)}".replace(
            "embedded, processes, compose", "all"
        )
        for fault in FAULTS.values()
    ]
    return "\n".join(["\b", "Faults, and the stacks on which they run:", *(f"  {line}" for line in lines)])


class Whole(click.IntRange):
    """A whole number, refused in one sentence with its value."""

    def convert(self, value: int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(f"{value!r} is not a whole number from {self.min} on", param, ctx)


@click.command(
    context_settings={"max_content_width": 80, "help_option_names": ["-h", "--help"]}, epilog=_listed()
)
@click.option(
    "--fault",
    envvar="FAULT",
    type=click.Choice(list(FAULTS)),
    metavar="NAME",
    default="engine-kill",
    show_default=True,
    show_envvar=True,
    help="What to break; see below.",
)
@click.option(
    "--seed",
    envvar="SEED",
    type=Whole(min=0),
    default=1,
    show_default=True,
    show_envvar=True,
    help="Picks the moments; the producers keep the seed they have.",
)
@click.option(
    "--runs",
    envvar="RUNS",
    type=Whole(min=1),
    default=1,
    show_default=True,
    show_envvar=True,
    help="How often.",
)
@click.option("--up", "brings_up", is_flag=True, help="Bring up plain processes where no stack is up.")
def command(fault: str, seed: int, runs: int, *, brings_up: bool) -> None:
    """Break the running stack on purpose and prove that its tables are still exact.

    Each run strikes while a batch is in flight, proves that the fault had its effect, heals it,
    waits until the engine has caught up, and verifies every row.

    It needs a stack that is up. STACK and DATA_DIR say which; the containers of `make up` when
    STACK is not set and they are there. The stack goes on running afterwards.

    Exit codes: 0 every row exact, 1 not, or a fault had no effect, 2 refused.
    """
    sys.exit(exit_code(lambda: run(drill_settings(), fault, seed, runs, brings_up=brings_up)))


def run(settings: Settings, fault: str, seed: int, runs: int, *, brings_up: bool = False) -> int:
    """Do the runs one after another and print what they found.

    Raises:
        ConfigurationError: the stack cannot have this fault, is not up, or has a drill going on.
        StreamingError: the stack did not come up, or did not come back.
    """
    if settings.stack not in FAULTS[fault].stacks:
        raise ConfigurationError(
            f"FAULT={fault!r} cannot be done with STACK={settings.stack!r}; "
            f"use STACK={' or '.join(FAULTS[fault].stacks)}, or one of {', '.join(faults_of(settings.stack))}"
        )
    # What is broken is healed on SIGTERM as on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    outcomes: list[Outcome] = []
    with _told() as say:
        stack = stack_of(settings, say)
        if not brings_up and not is_up(stack):
            raise ConfigurationError(
                f"no stack is up in {settings.data_dir}; start one with make up (containers), "
                "make up STACK=processes or make up STACK=embedded"
            )
        with alone(settings):
            drill = Drill(stack, fault, seed, say)
            try:
                bring_home(stack, say)
                stack.up()
                outcomes.extend(map(drill.run, range(1, runs + 1)))
            except KeyboardInterrupt:
                click.echo(
                    "interrupted; what the drill broke is whole again, and the stack goes on", err=True
                )
                return INTERRUPTED
            finally:
                drill.close()
        running = ", ".join(standing.name for standing in stack.status() if standing.pid)
    click.echo(f"{fault}, seed {seed}, STACK={settings.stack}; seconds since the fault")
    for line in table(outcomes):
        click.echo(line)
    click.echo(f"{running} go on running; make down ends them", err=True)
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The runs as lines of at most 80 columns, with median and worst when there are several; the verdict line last."""
    yield f"{'run':<6}" + "".join(f"{name:>13}" for name in _MEASURES) + "  verify"
    rows = [_seconds(outcome) for outcome in outcomes]
    for outcome, row in zip(outcomes, rows, strict=True):
        yield f"{outcome.run:<6}" + _cells(row) + f"  {_told_verdict(outcome)}"
    if len(rows) > 1:
        columns = [_seen(column) for column in zip(*rows, strict=True)]
        yield f"{'median':<6}" + _cells([statistics.median(seen) if seen else None for seen in columns])
        yield f"{'worst':<6}" + _cells([max(seen, default=None) for seen in columns])
    for outcome in outcomes:
        for doubt in outcome.doubts:
            yield f"run {outcome.run}: the fault did not have its effect: {doubt}"
        for remark in outcome.remarks:
            yield f"run {outcome.run}: {remark}"
        if outcome.verdict and outcome.verdict.code:
            yield from outcome.verdict.lines()
    verdict = outcomes[-1].verdict
    if verdict:
        if verdict.reason:
            yield f"verify could not tell: {verdict.reason}"
        if verdict.windows or not verdict.reason:
            yield verdict.line


def _seconds(outcome: Outcome) -> list[float | None]:
    return [outcome.detect, outcome.restart, outcome.first_batch, outcome.caught_up]


def _seen(column: Iterable[float | None]) -> list[float]:
    return [value for value in column if value is not None]


def _cells(seconds: Sequence[float | None]) -> str:
    return "".join(f"{'-':>13}" if value is None else f"{value:>13.2f}" for value in seconds)


def _told_verdict(outcome: Outcome) -> str:
    code = outcome.verdict.code if outcome.verdict else 2
    return ("exact", "NOT EXACT", "could not tell")[code]


@contextlib.contextmanager
def _told() -> Iterator[Callable[[str], None]]:
    """What goes on, as one line that changes on a terminal and as plain lines elsewhere; on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text: click.echo(text, err=True)
        return
    with console.status("") as status:
        yield status.update


if __name__ == "__main__":
    command(prog_name="scripts/chaos")
