"""`python -m tools.bench.takeover`: from a signal to the owner of a partition, to another process's first result of it.

Owns: the command and its table, CONTENDERS.
Never: a verdict.
"""

import os
import random
import signal
import statistics
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from engine.errors import ConfigurationError
from services.settings import REPOSITORY, exit_code, load_settings
from services.topics import Topic, create_kafka_topics
from tools.bench.takeover import librdkafka, replicas, streams
from tools.bench.takeover.contender import Contender, Place
from tools.bench.takeover.feeder import Feeder
from tools.bench.takeover.measuring import PARTITIONS, SIGNALS, Takeover, measure
from tools.numbers import Whole
from tools.stack.api import Stack

CONTENDERS: Mapping[str, Callable[[Place], Contender]] = {
    "replicas": replicas.contender,
    "librdkafka": librdkafka.contender,
    "streams": streams.contender,
}
"""By name what makes each of a place."""
_WIDTH = 80
_PORTS = {"kafka_port": 19_692, "kafka_controller_port": 19_693}


class Compared(NamedTuple):
    """The takeovers of one contender."""

    takeovers: list[Takeover]
    late_seconds: float
    """The most that the feeder was behind its pace."""


def compare(
    name: str, bootstrap: str, folder: Path, members: int, runs: int, advance: Callable[[], None]
) -> Compared:
    """Start one contender on a topic of its own, signal it as often as asked with each signal in turn, end it.

    Args:
        name: of the contender.
        bootstrap: "HOST:PORT" of a broker.
        folder: for its logs and state.
        members: of the group.
        runs: with each signal.
        advance: is called after each takeover.

    Raises:
        ConfigurationError: a program is missing.
        StreamingError: a member ended unasked, the group does not come to rest, or nobody took over.
    """
    place = Place(
        bootstrap, f"takeover-{name}-{uuid.uuid4().hex[:8]}", folder / name, load_settings().jars_dir
    )
    place.folder.mkdir(parents=True, exist_ok=True)
    create_kafka_topics(bootstrap, [Topic(place.topic, PARTITIONS)])
    contender, chance, takeovers = CONTENDERS[name](place), random.Random(place.topic), []
    with Feeder(bootstrap, place.topic, PARTITIONS) as feeder:
        try:
            contender.start(members)
            for number in SIGNALS * runs:
                takeovers.append(measure(contender, name, members, number, chance))
                advance()
        finally:
            contender.stop()
    return Compared(takeovers, feeder.late_seconds)


def run(runs: int, members: int, names: Sequence[str]) -> int:
    """Start a Kafka, measure each contender, print the table."""
    console = Console(width=min(Console().width, _WIDTH))
    folder = REPOSITORY / ".bench" / "takeover"
    bootstrap = f"127.0.0.1:{_PORTS['kafka_port']}"
    settings = load_settings().model_copy(update={**_PORTS, "data_dir": folder, "kafka_bootstrap": bootstrap})
    stack = Stack(settings, report=console.print, is_tied=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    compared = {}
    try:
        stack.up(["kafka"])
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("", total=runs * len(SIGNALS) * len(names))
            for name in names:
                progress.update(bar, description=name)
                compared[name] = compare(
                    name, bootstrap, folder / "contenders", members, runs, lambda: progress.advance(bar)
                )
    finally:
        stack.down()
    console.print(table_of(compared, members, os.getloadavg()[0]))
    late = max(each.late_seconds for each in compared.values())
    console.print(f"the feeder was at most {late * 1_000:.0f} ms behind its pace")
    # Logs of a run that failed stay.
    stack.down(wipe=True)
    return 0


def table_of(compared: Mapping[str, Compared], members: int, load: float) -> Table:
    """Median and worst of each contender and signal."""
    table = Table(title=f"Signal to another's first result, {members} members, load {load:.1f}")
    for column in ("", "signal", "runs", "median, s", "least", "worst"):
        table.add_column(column, justify="right" if column not in {"", "signal"} else "left")
    for name, found in compared.items():
        for number in SIGNALS:
            seconds = [each.seconds for each in found.takeovers if each.number == number]
            figures = statistics.median(seconds), min(seconds), max(seconds)
            table.add_row(
                name, signal.Signals(number).name, str(len(seconds)), *(f"{each:.2f}" for each in figures)
            )
    return table


def names_of(only: str) -> list[str]:
    """The contenders that a list with commas names, in its order.

    Raises:
        ConfigurationError: there is none of that name, or one is named twice.

    Example:
        >>> names_of("streams,librdkafka")
        ['streams', 'librdkafka']
    """
    names = [name.strip() for name in only.split(",")]
    for name in names:
        if name not in CONTENDERS:
            raise ConfigurationError(
                f"--only names {name!r} and there is no such contender; choose from {', '.join(CONTENDERS)}"
            )
    if len(set(names)) < len(names):
        raise ConfigurationError(f"--only {only!r} names a contender twice; name each once")
    return names


@click.command()
@click.option("--runs", type=Whole(min=1), default=10, show_default=True, help="Takeovers with each signal.")
@click.option("--members", type=Whole(min=2, max=3), default=2, show_default=True, help="Of each group.")
@click.option(
    "--only", default=",".join(CONTENDERS), show_default=True, help="Contenders, with commas between."
)
def command(runs: int, members: int, only: str) -> None:
    """Measure how long a partition goes without results when the process that owns it is signalled.

    Every contender is a group of processes on a topic of 6 partitions, into each of which 50 records a second are written. A
    takeover lasts from the signal (SIGKILL, SIGTERM) to the first result of a partition that the process owned, from another
    process. Starts a Kafka of its own under .bench and stops it.

    Exit codes: 0 done, 1 nobody took over or a process failed, 2 refused.
    """
    sys.exit(exit_code(lambda: run(runs, members, names_of(only))))


if __name__ == "__main__":
    command()
