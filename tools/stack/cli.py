"""The commands of `scripts/stack` and what they print.

Owns: the words that people type and read.
Never: a decision; api.Stack makes them.
"""

import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from services.settings import exit_code, load_settings
from tools.stack.api import Stack
from tools.stack.programs import State
from tools.stack.status import Status, pages

_COLUMNS = ("name", "state", "pid", "uptime", "restarts", "address", "log")
_NAMES = (
    "NAMES are kafka, cassandra, producer and engine (STACK=embedded: producer and engine), "
    "with monitoring also verifier and prometheus."
)


@click.group(context_settings={"max_content_width": 80, "help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run Kafka, Cassandra, the producer and the engine as plain processes.

    MONITORING=true adds Prometheus, the verifier and the servers' own metrics. The settings are environment variables; `scripts/stack env` lists them. Data, logs and pids
    lie in DATA_DIR (default .stack). STACK=embedded runs producer and engine alone, on a log on
    disk and SQLite, without Java.

    Exit codes: 0 done, 1 failed, 2 refused, with the reason in one sentence.
    """


@main.command(epilog=_NAMES)
@click.argument("names", nargs=-1)
@click.option(
    "--monitoring/--no-monitoring",
    default=None,
    help="Also start Prometheus and the verifier. [default: MONITORING]",
)
def up(names: tuple[str, ...], *, monitoring: bool | None) -> None:
    """Start what does not run, and wait until it is at work.

    Servers start first, side by side; then topics and schema are made, then the others
    start. Without NAMES it starts all. A second call changes nothing.
    """

    def work(stack: Stack) -> None:
        stack.up(names)
        _print_status(stack.status())
        click.echo("  ".join(f"{what} {address}" for what, address in pages(stack.settings).items()))

    _finish(work, monitoring)


@main.command()
@click.option("--wipe", is_flag=True, help="Remove everything in DATA_DIR as well, but for the jars.")
def down(*, wipe: bool) -> None:
    """End every process that this stack has started.

    The data stays unless --wipe is given.
    """
    _finish(lambda stack: stack.down(wipe=wipe))


@main.command()
@click.argument("name")
def start(name: str) -> None:
    """Start one process that does not run.

    Returns when it is at work.
    """
    _finish(lambda stack: stack.start(name))


@main.command()
@click.argument("name")
@click.option(
    "--signal", "number", default="KILL", show_default=True, help="What to send: KILL, TERM, INT, ..."
)
def kill(name: str, number: str) -> None:
    """Signal one process, with SIGKILL unless told otherwise.

    What dies so is started again at once, but for Kafka and Cassandra: those stay down
    until `scripts/stack start`.
    """
    try:
        chosen = signal.Signals[f"SIG{number.upper().removeprefix('SIG')}"]
    except KeyError:
        raise click.BadParameter(f"{number!r} is not a signal; try KILL or TERM") from None
    _finish(lambda stack: click.echo(f"{name}: sent {stack.kill(name, chosen).facts['signal']}"))


@main.command()
@click.argument("name")
def pause(name: str) -> None:
    """Hold a process and its children where they are (SIGSTOP)."""
    _finish(lambda stack: click.echo(f"{name}: paused, pid {stack.pause(name).facts['pid']}"))


@main.command()
@click.argument("name")
def resume(name: str) -> None:
    """Let a paused process and its children go on (SIGCONT)."""
    _finish(lambda stack: click.echo(f"{name}: resumed, pid {stack.resume(name).facts['pid']}"))


@main.command()
def status() -> None:
    """Show every process: state, pid, uptime, restarts, address, log.

    Exit code 0 also when something does not run.
    """

    def work(stack: Stack) -> None:
        statuses = stack.status()
        in_containers = (stack.settings.data_dir / "compose").exists()
        if in_containers:
            click.echo("the stack that is up runs in containers; ask docker compose ps")
        if not in_containers or any(status.pid for status in statuses):
            _print_status(statuses)

    _finish(work)


@main.command()
def env() -> None:
    """Print the settings as shell exports.

    Use it as: eval "$(scripts/stack env)"
    """

    def work(stack: Stack) -> None:
        for variable, value in stack.settings.environment().items():
            click.echo(f"export {variable}={shlex.quote(value)}")

    _finish(work)


def _finish(work: Callable[[Stack], object], monitoring: bool | None = None) -> None:
    """Do the work of a command and end with its exit code."""

    def run() -> None:
        settings = load_settings()
        if monitoring is not None:
            settings = settings.model_copy(update={"monitoring": monitoring})
        work(Stack(settings, report=_report))

    sys.exit(exit_code(run))


def _report(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()


def _print_status(statuses: Sequence[Status]) -> None:
    """The table, in colour on a terminal and as plain columns elsewhere; then where the logs are, and why anything does not run."""
    rows = [_row(status) for status in statuses]
    if sys.stdout.isatty():
        _print_coloured(rows)
    else:
        widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
        for row in (_COLUMNS, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            click.echo("  ".join(cells).rstrip())
    click.echo(f"logs in {_short(statuses[0].log.parent)}")
    for status in statuses:
        if status.reason:
            click.echo(f"{status.name}: {status.reason}")


def _print_coloured(rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, no_wrap=column != "log", overflow="fold")
    for row in rows:
        colour = "green" if row[1] == State.RUNNING else "dim" if row[1] == State.STOPPED else "yellow"
        table.add_row(row[0], f"[{colour}]{row[1]}[/]", *row[2:])
    Console().print(table)


def _row(status: Status) -> tuple[str, ...]:
    return (
        status.name,
        status.state.value,
        str(status.pid or "-"),
        _duration(status.uptime_seconds),
        str(status.restarts),
        status.address or "-",
        status.log.name,
    )


def _duration(seconds: float | None) -> str:
    """A length of time in at most two units.

    Example:
        >>> [_duration(seconds) for seconds in (None, 3.2, 75, 3_700)]
        ['-', '3s', '1m15s', '1h01m']
    """
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    if not minutes:
        return f"{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def _short(path: Path) -> str:
    """The path from here when it lies here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
