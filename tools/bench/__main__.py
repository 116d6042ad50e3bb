"""`make bench`: the engine beside the hand-written loop on one Kafka topic, and the fixed cost of a batch.

`python -m tools.bench metrics`: the engine with its metrics beside itself without them.
`python -m tools.bench rdd`: wide operations on the embedded backend beside PySpark's, and the memory of a shuffle of 2 GB.
`python -m tools.bench state`: keyed state beside a bare dict.
`python -m tools.bench durability`: the engine with its checkpoints beside itself without a folder.
`python -m tools.bench recovery`: from kill -9 to the first new commit, beside PySpark's DStreams.

Owns: the command and its table.
Never: a verdict in a test; it prints ratios, and says by how much a budget is missed.
"""

import os
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from engine.errors import ConfigurationError
from services.settings import REPOSITORY, exit_code, load_settings
from services.topics import KafkaAdmin, Topic
from tools.bench import durability as durable
from tools.bench import rdd as wide
from tools.bench import recovery as kills
from tools.bench.fixed import FixedCost, fixed_cost
from tools.bench.metrics import CASES, Cost, compare
from tools.bench.state import state_cost
from tools.bench.yahoo import PARTITIONS, Run, fill, run_engine, run_loop, truth
from tools.stack.api import Stack

BUDGET_OF_LOOP = 0.8
"""Least throughput of the engine as a share of the loop's on two processes."""
BUDGET_FIXED_MS = 5.0
"""Most milliseconds of an empty keyed batch."""
BUDGET_CPU = 1.25
"""Most CPU seconds a million events as a multiple of the loop's."""
BUDGET_METRICS = 1.02
"""Most CPU seconds a million events with metrics as a multiple of those without."""
BUDGET_WIDE = 2.0
"""Least time of PySpark's wide operations as a multiple of ours."""
BUDGET_SHUFFLE_MB = 1_000
"""Most MB of memory, driver and executors together, of a shuffle of 2 GB."""

BUDGET_STATE = 2.5
"""Most CPU of a batch of updates as a multiple of the bare dict's."""
BUDGET_STATE_MB = 400
"""Most MB of memory for a million keys, of all processes."""
BUDGET_DURABILITY = 1.15
"""Most CPU seconds a million events with checkpoints as a multiple of those without."""
BUDGET_RECOVERY = 10.0
"""Least time of PySpark's recovery as a multiple of ours."""
BUDGET_GROWTH = 1.3
"""Most CPU of a batch over all keys as a multiple of one over a tenth of them."""


def run(events: int, rounds: int, batch_records: int) -> int:
    """Fill the topic if it is not there, run both sides in turn, print the tables; 1 when a count is wrong."""
    events -= events % (PARTITIONS * 3)
    folder = REPOSITORY / ".bench"
    folder.mkdir(exist_ok=True)
    console = Console(width=min(Console().width, 100))
    ports = {"kafka_port": 19_592, "kafka_controller_port": 19_593, "cassandra_port": 19_542}
    settings = load_settings().model_copy(
        update={**ports, "data_dir": folder, "kafka_bootstrap": f"127.0.0.1:{ports['kafka_port']}"}
    )
    stack = Stack(settings, report=console.print)
    stack.up(["kafka"])
    try:
        topic = f"bench-{events}"
        with Progress(console=console) as progress:
            _fill(settings.kafka_bootstrap, topic, events, progress)
            expected = truth(events)
            runs = _rounds(settings.kafka_bootstrap, topic, events, rounds, batch_records, progress)
    finally:
        stack.down()
    fixed = [fixed_cost(master, folder) for master in ("local", "local[2]")]
    wrong = [each.name for each in runs if each.counts != expected]
    _print(console, runs, fixed, events)
    console.print(f"counts: {len(runs) - len(wrong)} of {len(runs)} runs exact")
    return 1 if wrong else 0


def _fill(bootstrap: str, topic: str, events: int, progress: Progress) -> None:
    admin, filled = KafkaAdmin(bootstrap), REPOSITORY / ".bench" / f"{topic}.filled"
    if topic in admin.partitions():
        if not filled.exists():
            raise ConfigurationError(
                f"topic {topic!r} was not filled to its end; remove the folder .bench and run again"
            )
        return
    admin.create(Topic(topic, PARTITIONS))
    bar = progress.add_task(f"filling {topic}", total=events)
    fill(bootstrap, topic, events, lambda done: progress.update(bar, completed=done))
    filled.touch()


def _rounds(
    bootstrap: str, topic: str, events: int, rounds: int, batch_records: int, progress: Progress
) -> list[Run]:
    bar = progress.add_task("loop and engine in turn", total=3 * rounds)
    sides: list[Callable[[], Run]] = [
        lambda: run_loop(bootstrap, topic, events, 2),
        lambda: run_engine(bootstrap, topic, events, "local[2]", batch_records),
        lambda: run_loop(bootstrap, topic, events, 1),
    ]
    runs = []
    for side in sides * rounds:
        runs.append(side())
        progress.advance(bar)
    return runs


def _median(runs: Sequence[Run], name: str, events: int) -> tuple[float, float]:
    """(thousand events a second, CPU seconds a million events), medians over the rounds."""
    mine = [run for run in runs if run.name == name]
    speed = statistics.median(events / run.seconds / 1_000 for run in mine)
    return speed, statistics.median(run.cpu_seconds / events * 1e6 for run in mine)


def _print(console: Console, runs: Sequence[Run], fixed: Sequence[FixedCost], events: int) -> None:
    names = list(dict.fromkeys(run.name for run in runs))
    base_speed, base_cpu = _median(runs, "loop, 2 processes", events)
    table = Table(title=f"Yahoo query, {events:,} events from Kafka, load {os.getloadavg()[0]:.1f}")
    for column in ("", "k events/s", "of the loop", "CPU s/M events", "of the loop", "peak MB"):
        table.add_column(column, justify="left" if not column else "right")
    for name in names:
        speed, cpu = _median(runs, name, events)
        peak = max(run.peak_bytes for run in runs if run.name == name) / 1e6
        ratios = f"{speed / base_speed:.2f}", f"{cpu / base_cpu:.2f}"
        table.add_row(name, f"{speed:,.0f}", ratios[0], f"{cpu:.2f}", ratios[1], f"{peak:,.0f}")
    console.print(table)
    speed, cpu = _median(runs, "engine, local[2]", events)
    _budget(console, "throughput of the loop's", speed / base_speed, BUDGET_OF_LOOP, at_least=True)
    _budget(console, "CPU of the loop's", cpu / base_cpu, BUDGET_CPU, at_least=False)
    for cost in fixed:
        label = f"empty keyed batch, {cost.master}, ms (p95 {cost.p95_ms:.1f})"
        _budget(console, label, cost.median_ms, BUDGET_FIXED_MS, at_least=False)


def _budget(console: Console, label: str, value: float, budget: float, *, at_least: bool) -> None:
    holds = value >= budget if at_least else value <= budget
    sign = ">=" if at_least else "<="
    verdict = "holds" if holds else f"missed by {abs(value - budget) / budget:.0%}"
    console.print(f"{label}: {value:.2f} (budget {sign} {budget:g}): {verdict}")


def run_metrics(events: int, pairs: int, against: Path | None) -> int:
    """Run the sides of each case in turn, print a table each."""
    console = Console(width=min(Console().width, 100))
    for case in CASES:
        with Progress(console=console) as progress:
            bar = progress.add_task(case.name, total=pairs * (2 if against is None else 3))
            costs = compare(case, events, pairs, against, partial(progress.advance, bar))
        _print_metrics(console, f"{case.name}, {case.batches(events)} batches, {pairs} runs", costs)
    return 0


def _print_metrics(console: Console, title: str, costs: tuple[Cost, Cost, Cost | None]) -> None:
    with_metrics, without, before = costs
    table = Table(title=f"Metrics, {title}, load {os.getloadavg()[0]:.1f}")
    for column in ("", "CPU s/M events", "least", "most"):
        table.add_column(column, justify="left" if not column else "right")
    for cost in filter(None, (with_metrics, without, before)):
        table.add_row(cost.name, f"{cost.median:.3f}", f"{min(cost.runs):.3f}", f"{max(cost.runs):.3f}")
    console.print(table)
    for other in filter(None, (without, before)):
        _metrics_budget(console, with_metrics, other)


def _metrics_budget(console: Console, cost: Cost, other: Cost) -> None:
    label = f"{cost.name} as a multiple of {other.name}"
    _budget(console, label, cost.of(other), BUDGET_METRICS, at_least=False)


def run_state(keys: int, updates: int, batches: int) -> int:
    """Measure few and many keys on both masters, print a table."""
    console = Console(width=min(Console().width, 100))
    folder = REPOSITORY / ".bench"
    folder.mkdir(exist_ok=True)
    table = Table(title=f"mapWithState, {updates:,} updates a batch, load {os.getloadavg()[0]:.1f}")
    for column in ("", "keys", "CPU ms of a dict", "CPU ms of a batch", "ratio", "MB"):
        table.add_column(column, justify="left" if not column else "right")
    costs = [
        state_cost(master, count, updates, batches, folder)
        for master in ("local", "local[2]")
        for count in (keys // 10, keys)
    ]
    for cost in costs:
        figures = f"{cost.dict_ms:.0f}", f"{cost.batch_ms:.0f}", f"{cost.ratio:.1f}"
        table.add_row(cost.master, f"{cost.keys:,}", *figures, f"{cost.memory_bytes / 1e6:,.0f}")
    console.print(table)
    for few, many in (costs[:2], costs[2:]):
        _budget(console, f"batch of the dict's, {many.master}", many.ratio, BUDGET_STATE, at_least=False)
        label = f"MB of {many.keys:,} keys, {many.master}"
        _budget(console, label, many.memory_bytes / 1e6, BUDGET_STATE_MB, at_least=False)
        growth = many.batch_ms / few.batch_ms
        _budget(
            console, f"growth with ten times the keys, {many.master}", growth, BUDGET_GROWTH, at_least=False
        )
    return 0


def run_rdd(records: int, rounds: int, megabytes: int) -> int:
    """Measure the memory of the large shuffle, then each operation on both sides in turn; print a table each."""
    console = Console(width=min(Console().width, 100))
    if megabytes:
        big = wide.big_shuffle(megabytes)
        console.print(
            f"shuffle of {megabytes:,} MB: {big.seconds:.1f} s, {big.file_bytes / 1e6:,.0f} MB in shuffle files, "
            f"{big.spilled_bytes / 1e6:,.0f} MB laid aside"
        )
        peak = big.peak_bytes / 1e6
        _budget(console, "peak MB of driver and executors", peak, BUDGET_SHUFFLE_MB, at_least=False)
    if not wide.HAS_SPARK:
        console.print(
            "PySpark is not installed, so there is nothing to compare with; install the extra spark."
        )
    with Progress(console=console) as progress:
        bar = progress.add_task("both sides in turn", total=wide.steps(rounds))
        rows = wide.compare(records, rounds, partial(progress.advance, bar))
    table = Table(
        title=f"{records:,} records in memory, local[{wide.CORES}], least of {rounds}, load {os.getloadavg()[0]:.1f}"
    )
    for column in ("operation", "here, s", "PySpark, s", "ratio"):
        table.add_column(column, justify="left" if column == "operation" else "right")
    for row in rows:
        theirs = ("-", "-") if row.spark is None else (f"{row.spark:.2f}", f"{row.ratio:.1f}")
        table.add_row(row.operation, f"{row.here:.2f}", *theirs)
    console.print(table)
    if wide.HAS_SPARK:
        _budget(console, "least ratio", min(row.ratio for row in rows), BUDGET_WIDE, at_least=True)
    return 0


def run_durability(events: int, pairs: int) -> int:
    """Run the sides of each case in turn, print a table each."""
    console = Console(width=min(Console().width, 100))
    (REPOSITORY / ".bench").mkdir(exist_ok=True)
    for case in durable.CASES:
        with Progress(console=console) as progress:
            bar = progress.add_task(case.name, total=pairs * 2)
            on, off = durable.compare(case, events, pairs, partial(progress.advance, bar))
        title = f"{case.name}, {case.batches(events)} batches, {pairs} runs"
        table = Table(title=f"Durability, {title}, load {os.getloadavg()[0]:.1f}")
        for column in ("", "CPU s/M events", "least", "most"):
            table.add_column(column, justify="left" if not column else "right")
        for cost in (on, off):
            table.add_row(cost.name, f"{cost.median:.3f}", f"{min(cost.runs):.3f}", f"{max(cost.runs):.3f}")
        console.print(table)
        _budget(console, "with checkpoints, of without", on.of(off), BUDGET_DURABILITY, at_least=False)
    return 0


def run_recovery(keys: int, interval: int, rounds: int) -> int:
    """Kill each side in turn, print a table; 1 when a line that was dropped did not count once."""
    console = Console(width=min(Console().width, 100))
    folder = REPOSITORY / ".bench"
    folder.mkdir(exist_ok=True)
    sides = ["engine", "spark"] if kills.HAS_SPARK else ["engine"]
    with Progress(console=console) as progress:
        bar = progress.add_task("kills in turn", total=rounds * len(sides))
        found = []
        for side in sides * rounds:
            found.append(kills.measure(side, keys, interval, folder))
            progress.advance(bar)
    table = Table(title=f"kill -9 to the first new commit, {keys:,} keys, load {os.getloadavg()[0]:.1f}")
    for column in ("", "median, s", "least", "most", "exact"):
        table.add_column(column, justify="left" if not column else "right")
    medians = {}
    for side in sides:
        mine = [each for each in found if each.side == side]
        seconds = [each.seconds for each in mine]
        medians[side] = statistics.median(seconds)
        exact = f"{sum(each.is_exact for each in mine)} of {len(mine)}"
        figures = (f"{value:.1f}" for value in (medians[side], min(seconds), max(seconds)))
        heap = min(each.heap_bytes for each in mine) / (1 << 20)
        name = "engine" if side == "engine" else f"PySpark, heap {heap:,.0f} MiB"
        table.add_row(name, *figures, exact)
    console.print(table)
    if kills.HAS_SPARK:
        ratio = medians["spark"] / medians["engine"]
        _budget(console, "PySpark's recovery of ours", ratio, BUDGET_RECOVERY, at_least=True)
    else:
        console.print(
            "PySpark is not installed, so there is nothing to compare with; install the extra spark."
        )
    return 0 if all(each.is_exact for each in found) else 1


@click.group(invoke_without_command=True)
@click.pass_context
@click.option("--events", default=2_000_000, show_default=True, help="Events in the topic.")
@click.option("--rounds", default=3, show_default=True, help="How often each side runs.")
@click.option("--batch", default=250_000, show_default=True, help="Most records of a batch.")
def command(context: click.Context, events: int, rounds: int, batch: int) -> None:
    """Measure the engine beside a hand-written loop, and the fixed cost of a batch.

    Starts a Kafka of its own under .bench and stops it. Exit codes: 0 done, 1 a count is wrong, 2 refused.
    """
    if context.invoked_subcommand is None:
        sys.exit(exit_code(lambda: run(events, rounds, batch)))


@command.command()
@click.option(
    "--events",
    default=500_000,
    show_default=True,
    help="Events of each run with large batches; small ones have 0.3 of it.",
)
@click.option("--pairs", default=7, show_default=True, help="How often each side runs.")
@click.option(
    "--against",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Another checkout of the project, such as the commit before a change, as a third side.",
)
def metrics(events: int, pairs: int, against: Path | None) -> None:
    """Measure what metrics cost: the pipeline's query with its listeners and scrapes, and without; large and small batches.

    Needs no server. Exit codes: 0 done, 2 refused.
    """
    sys.exit(exit_code(lambda: run_metrics(events, pairs, against)))


@command.command()
@click.option("--keys", default=1_000_000, show_default=True, help="Keys in the state.")
@click.option("--updates", default=100_000, show_default=True, help="Updates in each batch.")
@click.option("--batches", default=7, show_default=True, help="Batches that are measured.")
def state(keys: int, updates: int, batches: int) -> None:
    """Measure mapWithState with a timeout and durable deltas beside a bare dict.

    Needs no server. Exit codes: 0 done, 2 refused.
    """
    sys.exit(exit_code(lambda: run_state(keys, updates, batches)))


@command.command()
@click.option("--records", default=1_000_000, show_default=True, help="Records of each operation.")
@click.option("--rounds", default=5, show_default=True, help="How often each side runs.")
@click.option(
    "--megabytes", default=2_000, show_default=True, help="Size of the large shuffle; 0 leaves it out."
)
def rdd(records: int, rounds: int, megabytes: int) -> None:
    """Measure wide operations beside PySpark's, on two cores and with the data in memory, and the memory of a large shuffle.

    Needs no server; PySpark is the extra `spark`. Exit codes: 0 done, 2 refused.
    """
    sys.exit(exit_code(lambda: run_rdd(records, rounds, megabytes)))


@command.command()
@click.option(
    "--events",
    default=4_000_000,
    show_default=True,
    help="Events of each run with large batches; small ones have 0.04 of it.",
)
@click.option("--pairs", default=7, show_default=True, help="How often each side runs.")
def durability(events: int, pairs: int) -> None:
    """Measure what checkpoints cost: the pipeline's query with a checkpoint folder, and without one.

    Needs no server. Exit codes: 0 done, 2 refused.
    """
    sys.exit(exit_code(lambda: run_durability(events, pairs)))


@command.command()
@click.option("--keys", default=1_000_000, show_default=True, help="Keys in the state.")
@click.option("--interval", default=10, show_default=True, help="Seconds of a batch.")
@click.option("--rounds", default=3, show_default=True, help="How often each side is killed.")
def recovery(keys: int, interval: int, rounds: int) -> None:
    """Measure the time from kill -9 to the first new commit, beside PySpark's DStreams.

    Needs no server; PySpark is the extra `spark`. Exit codes: 0 done, 1 a line did not count once, 2 refused.
    """
    sys.exit(exit_code(lambda: run_recovery(keys, interval, rounds)))


if __name__ == "__main__":
    command()
