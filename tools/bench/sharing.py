"""`python -m tools.bench.sharing`: the throughput of two replicas beside one that has all units, on the same cores.

A topic is filled first. Then groups of one and of two replicas read all of it in turn, each group anew: keyed counts by updateStateByKey with
checkpoints, a unit for each of six partitions with tasks in its own process. What counts is the time in which all units are at work.

Owns: command.
Never: a verdict in a test; it prints ratios.
"""

import os
import statistics
import sys
import time
import uuid
from bisect import bisect_right
from collections.abc import Sequence

import click
from confluent_kafka import Producer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from engine.errors import StreamingError
from services.producer.events import page_event
from services.settings import REPOSITORY, exit_code, load_settings
from services.topics import Topic, create_kafka_topics
from tools.bench.takeover.contender import Place, Processes, Result
from tools.bench.takeover.measuring import PARTITIONS
from tools.bench.takeover.replicas import group_of
from tools.numbers import Whole
from tools.stack.api import Stack
from tools.stack.control import looks

BUDGET = 0.95
"""Least throughput of two replicas as a share of one's."""
WORK = 8
"""Digests that are made of each record, so that its cores and not its fetches are what a unit waits for."""
RATE = 100_000
"""The most records of a partition in a batch, so that there are several batches and all cores are at work."""
_SECONDS = 600.0
_LOOK_SECONDS = 0.05
_FLUSH_SECONDS = 120.0
_PORTS = {"kafka_port": 19_792, "kafka_controller_port": 19_793}
_WIDTH = 80


def fill(place: Place, events: int, progress: Progress) -> None:
    """Write so many page views to each partition.

    Raises:
        StreamingError: Kafka did not take them in time.
    """
    producer = Producer(
        {"bootstrap.servers": place.bootstrap, "linger.ms": 50, "queue.buffering.max.messages": 500_000}
    )
    bar = progress.add_task("filling the topic", total=events * PARTITIONS)
    for seq in range(events):
        for partition in range(PARTITIONS):
            key, value = page_event(1, partition, seq, 1_790_000_000_000 + seq)
            while True:
                try:
                    producer.produce(place.topic, value, key, partition)
                    break
                except BufferError:
                    producer.poll(0.05)
        if seq % 1_000 == 0:
            producer.poll(0)
            progress.update(bar, completed=seq * PARTITIONS)
    if producer.flush(_FLUSH_SECONDS):
        raise StreamingError(
            f"Kafka at {place.bootstrap} did not take all records within {_FLUSH_SECONDS:g} s"
        )
    progress.update(bar, completed=events * PARTITIONS)


def throughput(members: Processes, number: int, events: int) -> float:
    """Records a second of so many replicas while all units are at work; they have ended when it returns.

    Raises:
        StreamingError: they did not read all of it in time, one ended, or they were never all at work.
    """
    members.start(number)
    try:
        for _ in looks(_SECONDS, _LOOK_SECONDS):
            members.owner_of(0)  # one that has ended is told of
            results = members.results()
            newest = {result.partition: result.offset + 1 for result in results}
            if len(newest) == PARTITIONS and min(newest.values()) == events:
                return steady_rate(results, number)
    finally:
        members.stop()
    raise StreamingError(
        f"{number} replicas did not read {events * PARTITIONS} records within {_SECONDS:g} s"
    )


def steady_rate(results: Sequence[Result], number: int) -> float:
    """Records a second from when every partition had a result of its last owner until the first partition was read to its end.

    Args:
        results: in the order of their time.
        number: of replicas, each of which must own a partition.

    Raises:
        StreamingError: there is no such time.

    Example:
        >>> results = [Result(0, partition, 100 * second - 1, float(second)) for second in range(1, 5) for partition in range(6)]
        >>> steady_rate(results, 1)
        600.0
    """
    owners = {result.partition: result.member for result in results}
    mine: dict[int, list[Result]] = {partition: [] for partition in owners}
    for result in results:
        if result.member == owners[result.partition]:
            mine[result.partition].append(result)
    begin = max(found[0].time for found in mine.values())
    end = min(found[-1].time for found in mine.values())
    if len(set(owners.values())) != number or end <= begin:
        raise StreamingError(
            f"{number} replicas were never all at work at once; give more --events (owners: {owners})"
        )
    return sum(_offset(found, end) - _offset(found, begin) for found in mine.values()) / (end - begin)


def _offset(results: Sequence[Result], at: float) -> float:
    """Where a partition was at a time between two of its results."""
    times = [result.time for result in results]
    place = min(max(bisect_right(times, at), 1), len(results) - 1)
    before, after = results[place - 1], results[place]
    return before.offset + (after.offset - before.offset) * (at - before.time) / (after.time - before.time)


def run(events: int, rounds: int) -> int:
    """Start a Kafka, fill a topic, run both in turn, print the table."""
    console = Console(width=min(Console().width, _WIDTH))
    folder = REPOSITORY / ".bench" / "sharing"
    bootstrap = f"127.0.0.1:{_PORTS['kafka_port']}"
    settings = load_settings().model_copy(update={**_PORTS, "data_dir": folder, "kafka_bootstrap": bootstrap})
    stack = Stack(settings, report=console.print, is_tied=True)
    place = Place(bootstrap, f"views-{uuid.uuid4().hex[:8]}", folder / "groups", settings.jars_dir)
    found: dict[int, list[float]] = {1: [], 2: []}
    try:
        stack.up(["kafka"])
        place.folder.mkdir(parents=True, exist_ok=True)
        create_kafka_topics(bootstrap, [Topic(place.topic, PARTITIONS)])
        with Progress(console=console) as progress:
            fill(place, events, progress)
            bar = progress.add_task("reading it", total=2 * rounds)
            for turn in range(rounds):
                for number in (1, 2) if turn % 2 == 0 else (2, 1):
                    members = group_of(
                        place, f"of-{number}-{turn}-{time.time_ns()}", executors="local", rate=RATE, work=WORK
                    )
                    found[number].append(throughput(members, number, events))
                    progress.advance(bar)
    finally:
        stack.down()
    table = Table(
        title=f"{events * PARTITIONS:,} records, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    for column in ("replicas", "records/s, median", "least", "most"):
        table.add_column(column, justify="right")
    for number, rates in found.items():
        table.add_row(
            str(number), *(f"{each:,.0f}" for each in (statistics.median(rates), min(rates), max(rates)))
        )
    console.print(table)
    ratios = [two / one for one, two in zip(found[1], found[2], strict=True)]
    console.print(
        f"two beside one: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); at least {BUDGET:g} is asked for"
    )
    stack.down(wipe=True)
    return 0


@click.command()
@click.option(
    "--events",
    type=Whole(min=50_000),
    default=1_000_000,
    show_default=True,
    help="Of each of the six partitions.",
)
@click.option("--rounds", type=Whole(min=1), default=5, show_default=True, help="Of one replica and of two.")
def command(events: int, rounds: int) -> None:
    """Measure the throughput of two replicas beside one that has all units, on the same cores.

    Starts a Kafka of its own under .bench and stops it.

    Exit codes: 0 done, 1 a process failed, 2 refused.
    """
    sys.exit(exit_code(lambda: run(events, rounds)))


if __name__ == "__main__":
    command()
