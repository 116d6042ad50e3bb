"""The command line of the chaos drills; `scripts/chaos` runs it.

Owns: command, run.
Never: a fault; those are in hits.py, lives.py and spoilt.py.
"""

import contextlib
import json
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console

from engine.errors import ConfigurationError, StreamingError
from services.settings import Settings, exit_code
from tools.chaos.choice import alone, drill_settings, is_up, stack_of
from tools.chaos.drill import HOLD_SECONDS, Drill, least_hold
from tools.chaos.faults import FAULTS, faults_of
from tools.chaos.history import Key, Past, newest_series, past_of
from tools.chaos.report import Runs, as_json, summary, table
from tools.chaos.showing import DEMOS, show
from tools.chaos.soak import Soak
from tools.chaos.volume import bring_home
from tools.numbers import Number, Whole
from tools.stack.folder import write_json
from tools.stack.revision import revision_of
from tools.stack.verbs import Verbs

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
_NOT_OF_A_SOAK = ("fault", "runs", "hold", "anew")
ALL = "all"
"""In place of a fault: each that the stack can have, one after the other."""


def _listed() -> str:
    """The faults for --help, one a line, with the stacks on which they run."""
    lines = [
        f"{fault.name:<19}{fault.does:<36}{', '.join(fault.stacks)}".replace(
            "embedded, processes, compose", "all"
        )
        + (" *" if fault.engines == "any" else " **" if fault.engines == "many" else "")
        for fault in FAULTS.values()
    ]
    demos = [f"{name:<19}{demo.does}" for name, demo in DEMOS.items()]
    return "\n".join(
        [
            *("\b", "Faults, and the stacks on which they run:", *(f"  {line}" for line in lines)),
            *("", "\b", "*  also with replicas (ENGINES=2 or more)  ** only with replicas"),
            *("", "\b", "Engines that are wrong on purpose, for DEMO:", *(f"  {line}" for line in demos)),
        ]
    )


@click.command(
    context_settings={"max_content_width": 80, "help_option_names": ["-h", "--help"], "show_default": True},
    epilog=_listed(),
)
@click.option(
    "--fault",
    envvar="FAULT",
    metavar="NAME",
    show_envvar=True,
    help="What to break, see below; all: each in turn.  [default: engine-kill, or replica-kill]",
)
@click.option(
    "--seed",
    envvar="SEED",
    type=Whole(min=0),
    default=1,
    show_envvar=True,
    help="Picks the moments; the producers keep the seed they have.",
)
@click.option(
    "--runs",
    envvar="RUNS",
    type=Whole(min=1),
    show_envvar=True,
    help="How often in all; those of earlier calls count.  [default: once more]",
)
@click.option(
    "--hold",
    envvar="HOLD",
    type=Number(min=5, max=600),
    default=HOLD_SECONDS,
    show_envvar=True,
    help="Seconds that a fault lasts which the stack does not heal.",
)
@click.option("--anew", envvar="ANEW", is_flag=True, show_envvar=True, help="Count no run of earlier calls.")
@click.option("--json", "is_json", is_flag=True, help="Print the report as JSON.")
@click.option("--up", "brings_up", is_flag=True, help="Bring up plain processes where no stack is up.")
@click.option(
    "--minutes",
    envvar="MINUTES",
    type=Number(min=0.05),
    show_envvar=True,
    help="Soak: faults picked at random for so long.",
)
@click.option(
    "--demo",
    envvar="DEMO",
    metavar="NAME",
    show_envvar=True,
    help="Show what breaks when one thing is wrong; see below.",
)
def command(demo: str | None, **wanted: Any) -> None:
    """Break the running stack on purpose and prove that its tables are still exact.

    Each run strikes while a batch is in flight, proves that the fault had its effect, heals it,
    waits until the engine has caught up, and verifies every row.

    It needs a stack that is up. STACK and DATA_DIR say which; the containers of `make up` when
    STACK is not set and they are there. The stack goes on running afterwards. A demo brings its
    own stack, an embedded one, and ends it.

    Exit codes: 0 every row exact, 1 not, or a fault had no effect, 2 refused; of a demo: 0 it
    broke as foretold, 1 it did not.
    """
    if demo:
        sys.exit(exit_code(lambda: _shown(demo)))
    source = click.get_current_context().get_parameter_source
    given = [name for name in _NOT_OF_A_SOAK if source(name) is not ParameterSource.DEFAULT]

    def main() -> int:
        if wanted["minutes"] and given:
            raise ConfigurationError(
                f"MINUTES makes a soak, which picks its faults itself; leave out {' and '.join(given).upper()}, or MINUTES"
            )
        settings = drill_settings()
        fault = wanted.pop("fault") or ("engine-kill" if settings.engines == 1 else "replica-kill")
        return run(settings, Wanted(fault=fault, **wanted))

    sys.exit(exit_code(main))


def _shown(demo: str) -> int:
    if demo not in DEMOS:
        raise ConfigurationError(_fitted(f"DEMO={demo!r} is no demo; use one of {', '.join(DEMOS)}"))
    return show(demo, click.echo)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one call is to do."""

    fault: str
    seed: int
    runs: int | None
    """How many in all; None for one more."""
    hold: float
    minutes: float | None
    """Of a soak."""
    anew: bool
    is_json: bool
    brings_up: bool


def run(settings: Settings, wanted: Wanted) -> int:
    """Do what is wanted on the stack that the settings name, and print what was found.

    Raises:
        ConfigurationError: the stack cannot have this fault, is not up, or has a drill going on.
        StreamingError: the stack did not come up, or did not come back.
    """
    faults = faults_of(settings.stack, settings.engines)
    _check_fault(wanted.fault, settings)
    # What is broken is healed on SIGTERM as on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if wanted.minutes and settings.engines > 1:
        raise ConfigurationError(
            f"MINUTES={wanted.minutes:g} soaks one engine, whose memory it samples, and the stack has ENGINES={settings.engines}; "
            "use FAULT=all with RUNS, or soak a stack with ENGINES=1"
        )
    with _told() as say:
        least = least_hold(settings.batch_seconds)
        if wanted.hold < least:
            say(
                f"HOLD={wanted.hold:g} shows nothing with batches of {settings.batch_seconds:g} s; it is {least:g}"
            )
            wanted = replace(wanted, hold=least)
        stack = stack_of(settings, say)
        if not wanted.brings_up and not is_up(stack):
            raise ConfigurationError(
                f"no stack is up in {settings.data_dir}; start one with make up (containers), "
                "make up STACK=processes or make up STACK=embedded"
            )
        with alone(settings):
            try:
                bring_home(stack, say)
                stack.up()
                if wanted.minutes:
                    code = _soaked(stack, wanted, wanted.minutes, say)
                else:
                    chosen = faults if wanted.fault == ALL else [wanted.fault]
                    code = _drilled(stack, wanted, chosen, say)
            except KeyboardInterrupt:
                click.echo(
                    "interrupted; what the drill broke is whole again, and the stack goes on", err=True
                )
                return INTERRUPTED
        running = ", ".join(standing.name for standing in stack.status() if standing.pid)
    click.echo(f"{running} go on running; make down ends them", err=True)
    return code


def _check_fault(fault: str, settings: Settings) -> None:
    """Refuse a fault that there is not, or that this stack cannot have, with those that it can."""
    stack, engines = settings.stack, settings.engines
    faults = faults_of(stack, engines)
    if fault in {*faults, ALL}:
        return
    if fault not in FAULTS:
        why = f"is no fault; with STACK={stack!r} use"
    elif stack not in FAULTS[fault].stacks:
        why = f"cannot be done with STACK={stack!r}; use STACK={' or '.join(FAULTS[fault].stacks)}, or"
    else:
        why = f"cannot be done with ENGINES={engines}; use"
    raise ConfigurationError(_fitted(f"FAULT={fault!r} {why} one of {', '.join([*faults, ALL])}"))


def _fitted(sentence: str) -> str:
    """A sentence with a long list in lines of at most 80 columns; no name is broken."""
    return textwrap.fill(sentence, 80, break_long_words=False, break_on_hyphens=False)


def _drilled(stack: Verbs, wanted: Wanted, faults: Sequence[str], say: Callable[[str], None]) -> int:
    """Make up what is missing of the runs of each fault, and print all of them."""
    settings, found, is_told = stack.settings, dict[str, list[Past]](), True
    code = revision_of(settings)
    for number, fault in enumerate(faults, 1):
        where = f"{fault} ({number} of {len(faults)}): " if len(faults) > 1 else ""
        key = Key(settings.stack, fault, wanted.seed, wanted.hold, code=code)
        key = replace(key, series=newest_series(settings.data_dir, key) + wanted.anew)
        past = past_of(settings.data_dir, key)
        found[fault] = done = _counted(past)
        missing = 1 if wanted.runs is None else max(0, wanted.runs - len(done))
        first = max((one.run for one in past), default=0) + 1
        if done and wanted.runs is not None:
            say(f"{where}{len(done)} runs are done, {missing} to do")
        with contextlib.closing(
            Drill(stack, fault, wanted.seed, _saying(say, where), wanted.hold, series=key.series)
        ) as drill:
            try:
                fresh = [Past.of(drill.run(run)) for run in range(first, first + missing)]
            except StreamingError:
                found[fault] = _counted(past_of(settings.data_dir, key))
                _print(stack, wanted, found)
                raise
        is_told = is_told and all(one.verdict != "unknown" for one in fresh)
        done += fresh
    _print(stack, wanted, found)
    return 0 if is_told and all(one.verdict == "exact" for runs in found.values() for one in runs) else 1


def _counted(runs: Sequence[Past]) -> list[Past]:
    """Those with a result; where verify could not tell there is none, and the run is made again."""
    return [one for one in runs if one.verdict != "unknown"]


def _print(stack: Verbs, wanted: Wanted, found: Runs) -> None:
    """The report: on the screen, and as JSON in DATA_DIR/drills/report.json."""
    settings = stack.settings
    report = as_json(found, stack=settings.stack, seed=wanted.seed, hold=wanted.hold)
    write_json(settings.data_dir / "drills" / "report.json", report)
    if wanted.is_json:
        click.echo(json.dumps(report, indent=2))
        return
    facts = f"seed {wanted.seed}, STACK={settings.stack}; seconds since the fault"
    if wanted.fault == ALL:
        lines = [f"every fault, {facts}", *summary(found)]
    else:
        lines = [f"{wanted.fault}, {facts}", *table(found[wanted.fault])]
    for line in lines:
        click.echo(line)


def _soaked(stack: Verbs, wanted: Wanted, minutes: float, say: Callable[[str], None]) -> int:
    """Soak, and print what came of it."""
    soak = Soak(stack, wanted.seed, say)
    soaked = soak.soaked
    try:
        soak.run(minutes)
    finally:  # what was seen until then is told also when the stack did not come back, and after Ctrl-C
        report = soaked.as_json()
        write_json(stack.settings.data_dir / "drills" / "soak.json", report)
        if wanted.is_json:
            click.echo(json.dumps(report, indent=2))
        else:
            for line in soaked.lines():
                click.echo(line)
    return 0 if soaked.is_good else 1


def _saying(say: Callable[[str], None], where: str) -> Callable[[str], None]:
    return lambda text: say(where + text)


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
