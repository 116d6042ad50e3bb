"""The commands of `scripts/enginectl`.

Owns: main.
Never: a decision; the replicas make them.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import click
from click.shell_completion import CompletionItem, get_completion_class
from rich.console import Console

from engine.errors import StreamingError
from services.pipeline.control import MOST_EXECUTORS
from services.settings import exit_code, load_settings
from tools.enginectl.changes import Change
from tools.enginectl.client import Client, Status, urls_of
from tools.enginectl.shown import show
from tools.stack.control import looks

COMPLETE_VARIABLE: Final = "_ENGINECTL_COMPLETE"
_LOOK_SECONDS: Final = 0.2
_COMPLETE_SECONDS: Final = 1.0

Command = Callable[..., None]


def _names(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The names that a command takes, of the replicas that run; none when nobody answers."""
    try:
        urls = (context.parent.params.get("url") if context.parent else None) or urls_of(load_settings())
        status = Client(urls, _COMPLETE_SECONDS).status()
    except StreamingError:
        return []
    jobs, units = ([getattr(unit, field) for unit in status.units] for field in ("job", "unit"))
    replicas = [replica.name for replica in status.replicas]
    more = {"pause": units, "drain": replicas, "resume": units + replicas}.get(context.info_name or "", [])
    return [CompletionItem(name) for name in dict.fromkeys(jobs + more) if name.startswith(begun)]


def _waits(command: Command) -> Command:
    """Give a command its options of waiting."""
    command = click.option("--no-wait", is_flag=True, help="Return as soon as a replica has taken it.")(
        command
    )
    return click.option(
        "--timeout",
        type=click.FloatRange(min=0),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait until it is so.",
    )(command)


@click.group(context_settings={"max_content_width": 80, "help_option_names": ["-h", "--help"]})
@click.option(
    "--url",
    multiple=True,
    help="Page of a replica, like http://127.0.0.1:19108; several are tried in turn. "
    "[default: the pages of the stack that is up]",
)
@click.pass_context
def main(context: click.Context, url: tuple[str, ...]) -> None:
    """Show and control the replicas of the engine and the units that they share.

    What is wanted of a job, a unit or a replica stays so over restarts, until another
    command says otherwise. Any replica answers for all. The stack is found by the settings,
    as scripts/stack finds it.

    Exit codes: 0 done, 1 failed or not done in time, 2 refused, with the reason in one
    sentence.
    """
    context.obj = url


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print what the replica tells, as JSON.")
@click.pass_obj
def status(url: Sequence[str], /, *, as_json: bool) -> None:
    """Show every unit and every replica.

    Of units: owner, state, lag (records of the topic that are not read), how long the owner
    has held it, how often its process was started again there.
    """

    def work(client: Client) -> None:
        if as_json:
            click.echo(json.dumps(json.loads(client.answer()), indent=2))
        else:
            show(client.status(), _now_ms())

    _finish(url, work)


@main.command()
@click.argument("name", metavar="JOB|UNIT", shell_complete=_names)
@_waits
@click.pass_obj
def pause(url: Sequence[str], /, name: str, **how: Any) -> None:
    """Let a job or a unit begin no batch.

    Its processes and what they remember stay, so that resume goes on at once.
    """
    _change(url, "pause", name, **how)


@main.command()
@click.argument("name", metavar="JOB|UNIT|REPLICA", shell_complete=_names)
@_waits
@click.pass_obj
def resume(url: Sequence[str], /, name: str, **how: Any) -> None:
    """Undo pause and drain of a job, a unit or a replica.

    Of a job, all of its units run again, also one that was paused alone.
    """
    _change(url, "resume", name, **how)


@main.command()
@click.argument("name", metavar="JOB|REPLICA", shell_complete=_names)
@_waits
@click.pass_obj
def drain(url: Sequence[str], /, name: str, **how: Any) -> None:
    """End the processes of a job, or empty a replica, after their batches.

    A drained job has no process anywhere. A drained replica hands its units to the others
    and takes none. Both stay so until resume.
    """
    _change(url, "drain", name, **how)


@main.command()
@click.argument("name", metavar="JOB", shell_complete=_names)
@click.argument("executors", metavar="N", type=click.IntRange(1, MOST_EXECUTORS))
@_waits
@click.pass_obj
def rescale(url: Sequence[str], /, name: str, executors: int, **how: Any) -> None:
    """Give each unit of a job N executors, 1 to 64.

    Each unit starts again with MASTER=local[N] after its batch.
    """
    _change(url, "rescale", name, executors=executors, **how)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what completes commands and names in a shell.

    \b
    bash  eval "$(scripts/enginectl completion bash)"
    zsh   eval "$(scripts/enginectl completion zsh)", with scripts/ in PATH
    fish  scripts/enginectl completion fish | source, with scripts/ in PATH
    """  # noqa: D301 - click's mark of lines that stay as they are
    kind = get_completion_class(shell)
    if kind is None:
        raise click.BadParameter(f"{shell!r} has no completion")
    click.echo(kind(main, {}, "enginectl", COMPLETE_VARIABLE).source())


def _change(
    url: Sequence[str],
    command: str,
    name: str,
    *,
    timeout: float,
    no_wait: bool,
    executors: int | None = None,
) -> None:
    """Send a command, and wait until the replicas tell that it is so."""

    def work(client: Client) -> None:
        before = client.status()
        # Later than all that is known, so that it counts whatever the clock of another machine said.
        moment = max(_now_ms(), before.desired.newest() + 1)
        change = Change(command, name, moment, before, executors)
        message = {"command": command, "name": name, "time": moment}
        client.send(message if executors is None else message | {"executors": executors})
        if no_wait:
            click.echo(f"{command} {name}: taken; `scripts/enginectl status` shows when it is so")
        else:
            click.echo(change.sentence(_seen(client, change, timeout)))

    _finish(url, work)


def _seen(client: Client, change: Change, timeout: float) -> Status:
    """What the replicas tell once a change is done.

    Raises:
        StreamingError: it was not in time.
    """
    waiting = "an answer"
    with Console(stderr=True).status(f"{change.command} {change.name}") as line:
        for _ in looks(timeout, _LOOK_SECONDS):
            try:
                now = client.status()
            except StreamingError as error:
                # The replica that is drained may be the one that answered.
                waiting = f"an answer: {error}"
                continue
            missing = change.missing(now)
            if not missing:
                return now
            waiting = ", ".join(missing)
            line.update(f"{change.command} {change.name}: waiting for {waiting}")
    raise StreamingError(
        f"{change.command} {change.name} was taken and goes on, but after {timeout:g} s it still waits for {waiting}; "
        "see `scripts/enginectl status`"
    )


def _finish(url: Sequence[str], work: Callable[[Client], None]) -> None:
    """Do the work of a command and end with its exit code."""

    def run() -> None:
        work(Client(url or urls_of(load_settings())))

    sys.exit(exit_code(run))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
