"""The engine service: the one place where settings, source, store, jobs and metrics meet.

`python -m services.pipeline.main` runs until SIGTERM, then lets the running batch commit and exits 0.

Owns: the composition.
Never: a computation; the jobs do that.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click

from engine import LocalContext, StreamingContext
from engine.dstream.dstream import DStream
from engine.errors import ConcurrentRunError, ConfigurationError
from engine.monitoring import PrometheusListener, StreamingPage
from engine.rdd.backends import spark_context
from engine.sinks.api import ResultStore, Table
from engine.sinks.cassandra import CassandraSink
from engine.sinks.output import BatchLedger, TableOutput
from engine.sinks.sqlite import SQLiteSink
from engine.sources.decoders import json_decoder
from engine.sources.direct import EventTime, create_direct_stream
from engine.sources.kafka import Assign, KafkaUtils, PreferConsistent, Subscribe
from engine.sources.log import LogSource
from services.pipeline.backfill import read_backfill
from services.pipeline.child import Tie
from services.pipeline.jobs import campaign_windows, page_totals, trending_pages
from services.pipeline.jobs.campaign_windows import AdEvent
from services.pipeline.records import PageView
from services.pipeline.units import refuse_units, sharing_of
from services.settings import Settings, exit_code, load_settings
from services.topics import AD_EVENTS, PAGE_VIEWS

log = logging.getLogger("pipeline")

FENCED = 3
"""Exit code of a unit that another process has taken over."""

HOLD_SECONDS = 8.0
"""How long a unit's batch may go on after its replica asked for a hold."""

DRAIN_SECONDS = 20
"""How long a SIGTERM waits for the running batch; one that is cut off runs again at the next start."""

SCRATCH = ".scratch"
"""Folder in the checkpoint directory that tasks spill to; no application's name begins with a dot."""

Build = Callable[[StreamingContext, DStream[Any], Any], None]

JOBS: Mapping[str, tuple[str, Build, Table]] = {
    job.NAME: (topic, job.build, job.TABLE)
    for topic, job in (
        (AD_EVENTS, campaign_windows),
        (PAGE_VIEWS, trending_pages),
        (PAGE_VIEWS, page_totals),
    )
}
"""By name: the topic that a job reads, its builder, its table."""

RECORDS: Mapping[str, tuple[type, EventTime | None]] = {
    AD_EVENTS: (AdEvent, campaign_windows.EVENT_TIME),
    PAGE_VIEWS: (PageView, None),
}
"""By topic: the type of its records, and their event time where a job needs it."""


def store_of(settings: Settings) -> ResultStore:
    """The results store that the settings name."""
    if settings.stack == "embedded":
        return SQLiteSink(settings.results_path)
    return CassandraSink(settings.cassandra_hosts, settings.cassandra_port, settings.keyspace)


def input_of(
    ssc: StreamingContext, settings: Settings, topic: str, partitions: Sequence[int] | None = None
) -> DStream[Any]:
    """The decoded records of a topic, or of some of its partitions, read from the first one by a fresh application."""
    kind, event_time = RECORDS[topic]
    rate = settings.max_rate_per_partition
    if settings.stack == "embedded":
        return create_direct_stream(
            ssc,
            LogSource(settings.log_dir, [topic]),
            name=topic,
            decoder=json_decoder(kind),
            event_time=event_time,
            reset="earliest",
            max_rate_per_partition=rate,
        )
    params = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "group.id": settings.app,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
    }
    return KafkaUtils.createDirectStream(
        ssc,
        PreferConsistent,
        Subscribe([topic], params)
        if partitions is None
        else Assign([(topic, partition) for partition in partitions], params),
        decoder=json_decoder(kind),
        eventTime=event_time,
        name=topic,
        maxRatePerPartition=rate,
    )


def context_of(settings: Settings) -> Any:
    """What makes RDDs: ours, or a SparkContext; it ends with the `with` block that it is used in.

    Raises:
        ConfigurationError: the master cannot be used.
    """
    if settings.is_on_spark:
        logging.getLogger("py4j").setLevel(logging.WARNING)  # it tells of each of its connections
        return spark_context(settings.master, settings.app)
    # Beside the checkpoints is room; a container's /tmp is memory, and little. What a killed process left there is removed first.
    folder = settings.checkpoint_dir / SCRATCH
    try:
        return LocalContext(
            settings.master, settings.app, taskTimeout=settings.task_timeout, temporaryFolder=folder
        )
    except ConfigurationError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        # A volume that is full is the checkpoint's to tell of: a new start goes on when it is not.
        log.warning("%s; until the next start it is the system's folder of temporary files", error)
        return LocalContext(settings.master, settings.app, taskTimeout=settings.task_timeout)


def _topics_of_others(settings: Settings) -> set[str]:
    """The topics that only jobs read that are not in the settings."""
    return {topic for topic, *_ in JOBS.values()} - {JOBS[name][0] for name in settings.jobs}


def build(
    settings: Settings,
    context: Any,
    *,
    takeover: bool = False,
    backfill: Path | None = None,
    partitions: Sequence[int] | None = None,
) -> StreamingContext:
    """The context with every job of the settings; waits until the results store answers.

    Args:
        settings: of the stack.
        context: makes RDDs.
        takeover: take the checkpoint folder from a process that still holds it.
        backfill: a file of another application's batches, which run first.
        partitions: those of its topic that a unit reads; None for all.

    Raises:
        ConfigurationError: a table is not there as its job needs it, or the file is no backfill.
    """
    ssc = StreamingContext(
        context,
        settings.batch_seconds,
        backpressure=settings.backpressure,
        initialRate=settings.initial_rate,
    )
    if backfill is not None:
        ssc.backfill(*read_backfill(backfill, _topics_of_others(settings)))
    store = store_of(settings)
    ledger = BatchLedger(store, settings.app)
    ledger.check()
    # Rows of batches that the folder does not know: from a fresh or an older one their records would be counted a second time.
    ssc.checkpoint(settings.checkpoint_dir, takeover=takeover, mustReach=ledger.newest_batch())
    ssc.recordBatches(ledger)
    inputs: dict[str, DStream[Any]] = {}
    for name in settings.jobs:
        topic, build_job, table = JOBS[name]
        store.check(table)
        if topic not in inputs:
            inputs[topic] = input_of(ssc, settings, topic, partitions)
        build_job(ssc, inputs[topic], TableOutput(store, table, context.defaultParallelism))
    return ssc


def page_of(settings: Settings, metrics: PrometheusListener, port: int) -> StreamingPage:
    """The streaming page, up before anything else answers, so that it can tell what the start waits for."""
    page = StreamingPage(
        host=settings.listen_host,
        port=port,
        registry=metrics.registry,
        setting="METRICS_PORT",
    )
    if settings.stack == "embedded":
        page.waiting_for(f"opening the log and the tables in {settings.data_dir}")
    else:
        stores = ", ".join(f"{host}:{settings.cassandra_port}" for host in settings.cassandra_hosts)
        page.waiting_for(f"waiting for Cassandra at {stores} and Kafka at {settings.kafka_bootstrap}")
    return page.start()


def run(*, takeover: bool, backfill: Path | None = None, tie: Tie | None = None) -> int:
    """Run the pipeline, or the unit that a replica names, until a signal or an error ends it, or the replica's end."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    settings = load_settings()
    asked_to_stop, has_started = threading.Event(), threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        is_first = not asked_to_stop.is_set()
        asked_to_stop.set()
        if is_first and not has_started.is_set():
            # Nothing has begun; the start may be waiting for a server that is away. A second signal cuts no clean-up.
            raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    partitions: Sequence[int] | None = None
    port = settings.metrics_port
    if tie is None:
        refuse_units(settings)
    else:
        ordered = _ordered_of(settings, tie)
        if ordered is None:
            return 0
        settings, partitions, port = *ordered, 0
    with context_of(settings) as context:
        # A SparkContext takes Ctrl-C for itself when it is made.
        signal.signal(signal.SIGINT, stop)
        listener = PrometheusListener()
        page = page_of(settings, listener, port)
        if tie is not None:
            tie.tell(f"page {page.address}")
        ssc = build(settings, context, takeover=takeover, backfill=backfill, partitions=partitions)
        ssc.addStreamingListener(listener)
        page.watch(ssc)
        has_started.set()
        ssc.start()
        click.echo(
            f"pipeline: started {', '.join(settings.jobs)} on {settings.stack}, {settings.master}, pid {os.getpid()}"
        )
        try:
            if tie is None:
                while not asked_to_stop.is_set() and not ssc.awaitTerminationOrTimeout(0.1):
                    pass
            else:
                obey(tie, ssc, asked_to_stop)
        finally:
            ssc.stop(timeout=DRAIN_SECONDS)
        # The batch that was let end may have failed.
        ssc.awaitTermination(0)
    log.info("pipeline: stopped")
    return 0


def _ordered_of(settings: Settings, tie: Tie) -> tuple[Settings, Sequence[int]] | None:
    """The settings and the partitions of the unit that the replica names, once all libraries are loaded; None when it names none."""
    tie.tell("warm")
    ordered = tie.next_unit()
    if ordered is None:
        return None
    name, executors = ordered
    units = {unit.name: unit for unit in sharing_of(settings).units}
    if name not in units:
        raise ConfigurationError(f"there is no unit {name!r}; choose from {', '.join(units)}")
    unit = units[name]
    master = settings.master if executors is None else f"local[{executors}]"
    changed = {"app": unit.app(settings.app), "jobs": (unit.job,), "master": master}
    return settings.model_copy(update=changed), unit.partitions


def obey(tie: Tie, ssc: StreamingContext, asked_to_stop: threading.Event) -> None:
    """Hold and go on as the replica says, until it is gone or the stream ends."""
    tie.tell("started")
    while not asked_to_stop.is_set() and not tie.is_cut and not ssc.awaitTerminationOrTimeout(0):
        for word in tie.words(0.1):
            if word == "hold" and ssc.hold(HOLD_SECONDS):
                tie.tell("held")
            elif word == "go":
                ssc.goOn()


def run_unit(control: int) -> int:
    """Run the unit that a replica names on this socket; it takes the unit's folder over from whoever holds it."""
    try:
        return run(takeover=True, tie=Tie(control))
    except ConcurrentRunError as error:
        log.warning("fenced: %s", error)
        return FENCED


@click.command()
@click.option(
    "--takeover", is_flag=True, help="Take the checkpoint folder from a process that still holds it."
)
@click.option(
    "--backfill",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Run the batches of this file first: of the ledger of another application, by scripts/checkpoint ledger.",
)
@click.option("--control", type=int, hidden=True, help="The socket of the replica that this unit belongs to.")
def command(*, takeover: bool, backfill: Path | None, control: int | None) -> None:
    """Run the pipeline's jobs until SIGTERM.

    All settings are environment variables; see `services/settings.py`.

    Exit codes: 0 after SIGTERM, 1 after an error of a job, 2 when the settings, the schema or the checkpoint folder are refused.
    """
    if control is not None:
        sys.exit(exit_code(lambda: run_unit(control)))
    sys.exit(exit_code(lambda: run(takeover=takeover, backfill=backfill)))


if __name__ == "__main__":
    command()
