"""This engine's replicas: counts by key with updateStateByKey, a unit for each partition, checkpoints in a folder that all share.

`python -m tools.bench.takeover.replicas BOOTSTRAP TOPIC FOLDER NAME` is one replica, with --control a unit of it; the group has the name of the
folder. Both are put together from the parts that the pipeline is put together from; batches are of one second, so that a unit has a
result each second.

Owns: contender, group_of.
Never: a way of its own to take over.
"""

import asyncio
import functools
import logging
import signal
import sys
import threading
import time
from collections.abc import Sequence
from hashlib import sha256
from operator import add
from pathlib import Path
from typing import Any

import click

from engine import LocalContext, StreamingContext
from engine.clock import SystemClock
from engine.cluster.faust import FaustMembership
from engine.cluster.replica import Replica
from engine.cluster.units import Job, Unit, units_of
from engine.errors import ConcurrentRunError
from engine.sources.decoders import json_decoder
from engine.sources.kafka import Assign, KafkaUtils, PreferConsistent
from services.pipeline.child import Tie
from services.pipeline.main import FENCED, obey
from services.pipeline.records import PageView
from services.topics import Topic, create_kafka_topics
from tools.bench.takeover.contender import Contender, Place, Processes
from tools.bench.takeover.measuring import PARTITIONS

BATCH_SECONDS = 1.0
_EXECUTORS = "local[2]"
_MODULE = "tools.bench.takeover.replicas"
_DRAIN_SECONDS = 20


def contender(place: Place) -> Contender:
    """Members that are not yet started; makes the topics of the group."""
    return group_of(place, place.topic)


def group_of(
    place: Place, group: str, *, executors: str = _EXECUTORS, rate: int = 0, work: int = 0
) -> Processes:
    """Members of a group that are not yet started; makes its topics.

    Args:
        place: where they work.
        group: its name, which no other has.
        executors: of each unit, as a master.
        rate: the most records of a partition a second; 0 for any number.
        work: digests of its page that are made of each record: what a job's own functions may cost.
    """
    create_kafka_topics(place.bootstrap, [Topic(f"{group}-units", PARTITIONS), Topic(f"{group}-control", 1)])
    command = (sys.executable, "-m", _MODULE, place.bootstrap, place.topic, str(place.folder / group))
    options = ("--executors", executors, "--rate", str(rate), "--work", str(work))
    return Processes("replicas", lambda member: (*command, f"replica-{member}", *options), place.folder)


def units(topic: str) -> tuple[Unit, ...]:
    """One for each partition of the topic."""
    return units_of([Job("totals", topic, is_sharded=True)], {topic: PARTITIONS})


async def be_replica(bootstrap: str, topic: str, folder: Path, name: str, options: Sequence[str]) -> None:
    """Be a replica until SIGTERM; its units get the options too."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    command = (sys.executable, "-m", _MODULE, bootstrap, topic, str(folder), name, *options)
    replica = Replica(units(topic), command, SystemClock())
    membership = FaustMembership(
        bootstrap=bootstrap,
        group=folder.name,
        topic=f"{folder.name}-units",
        units=PARTITIONS,
        control_topic=f"{folder.name}-control",
        folder=folder / "faust" / name,
    )
    await replica.start()
    try:
        await membership.start(replica)
        await ended.wait()
    finally:
        replica.refuse_more()
        await membership.stop()
        await replica.stop()


def be_unit(
    bootstrap: str, topic: str, folder: Path, executors: str, rate: int, work: int, control: int
) -> int:
    """Be the unit that the replica names, until the replica lets go of it; its exit code."""
    tie = Tie(control)
    tie.tell("warm")
    ordered = tie.next_unit()
    if ordered is None:
        return 0
    unit = next(unit for unit in units(topic) if unit.name == ordered[0])
    try:
        with LocalContext(executors, unit.app(folder.name)) as context:
            ssc = StreamingContext(context, BATCH_SECONDS)
            ssc.checkpoint(folder / "checkpoints", takeover=True)
            params = {
                "bootstrap.servers": bootstrap,
                "group.id": unit.app(folder.name),
                "auto.offset.reset": "earliest",
            }
            views = KafkaUtils.createDirectStream(
                ssc,
                PreferConsistent,
                Assign([(topic, unit.partitions[0])], params),
                decoder=json_decoder(PageView),
                name="views",
                maxRatePerPartition=rate or None,
            )
            totals = (
                views.map(functools.partial(one_view, work))
                .reduceByKey(add)
                .updateStateByKey(total, name="totals")
            )
            totals.foreachRDD(functools.partial(tell, unit.partitions[0]))
            ssc.start()
            try:
                obey(tie, ssc, threading.Event())
            finally:
                ssc.stop(timeout=_DRAIN_SECONDS)
            ssc.awaitTermination(0)
    except ConcurrentRunError:
        return FENCED
    return 0


def one_view(work: int, view: PageView) -> tuple[str, int]:
    """One view of a page."""
    for _ in range(work):
        sha256(view.page.encode()).digest()
    return view.page, 1


def total(views: list[int], known: int | None) -> int:
    """All views of a page."""
    return sum(views, known or 0)


def tell(partition: int, totals: Any) -> None:
    """Tell of a batch: its newest offset is that of the last of all views."""
    views = totals.values().sum()
    if views:
        # In one write: the units of a replica share its output.
        sys.stdout.write(f"{partition} {int(views) - 1} {int(time.time() * 1_000)}\n")
        sys.stdout.flush()


@click.command()
@click.argument("bootstrap")
@click.argument("topic")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--executors", default=_EXECUTORS, help="Of each unit, as a master.")
@click.option("--rate", default=0, help="The most records of a partition a second; 0 for any number.")
@click.option("--work", default=0, help="Digests that are made of each record.")
@click.option("--control", type=int, help="The socket of the replica that this unit belongs to.")
def command(
    bootstrap: str,
    topic: str,
    folder: Path,
    name: str,
    executors: str,
    rate: int,
    work: int,
    control: int | None,
) -> None:
    """Be a replica of the bench, or a unit of one."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if control is not None:
        sys.exit(be_unit(bootstrap, topic, folder, executors, rate, work, control))
    options = ("--executors", executors, "--rate", str(rate), "--work", str(work))
    asyncio.run(be_replica(bootstrap, topic, folder, name, options))


if __name__ == "__main__":
    command()
