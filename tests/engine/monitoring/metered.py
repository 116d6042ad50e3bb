"""A small application with everything that metrics tell of: two partitions, state, a table, a sliding output, a ledger."""

import json
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import add, itemgetter
from pathlib import Path
from typing import Any, Self

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from engine import LocalContext, ManualClock, StreamingContext
from engine.monitoring.metrics import PrometheusListener
from engine.sinks.api import Table
from engine.sinks.output import BatchLedger, TableOutput
from engine.sinks.sqlite import SQLiteSink
from engine.sources.direct import EventTime, create_direct_stream
from engine.sources.log import LogSource, LogWriter, create_topic
from services.sqlite.migrate import migrate
from tests.engine.app import START_MS

TOPIC = "views"
JOB = "shop"
TOTALS = Table("page_totals", columns=("page", "views"), key=("page",))
TABLE = {"job": JOB, "output": "table"}
PAIRS = {"job": JOB, "output": "pairs"}
STATE = {"job": JOB, "operator": "totals"}
FIRST = {"topic": TOPIC, "partition": "0"}
SECOND = {"topic": TOPIC, "partition": "1"}


def value_of(page: str | None, at: int) -> bytes:
    """A view of a page, that many milliseconds after the start."""
    return json.dumps({"page": page, "time": START_MS + at}).encode()


class Metered:
    """The application with its listener; metrics are read as a scrape would.

    Args:
        context: runs it.
        folder: of log, checkpoints and results.
        in_output: called in the driver in every run of the table's output, before it writes.
        rate: most records of a partition a second.
    """

    def __init__(
        self,
        context: LocalContext,
        folder: Path,
        in_output: Callable[[], object] = lambda: None,
        rate: float | None = None,
    ) -> None:
        self.context = context
        self.clock = ManualClock(START_MS)
        self.listener = PrometheusListener(clock=self.clock)
        self.pairs: list[Any] = []
        self.in_output = in_output
        self.ssc: StreamingContext
        self.store = SQLiteSink(folder / "results.sqlite3")
        self._folder = folder
        self._rate = rate
        create_topic(folder / "log", TOPIC, 2)
        migrate(folder / "results.sqlite3")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.ssc.stop(stopSparkContext=False)

    def start(self) -> Self:
        """Build the graph and start, on what the folder holds."""
        self.ssc = StreamingContext(self.context, 1.0, clock=self.clock, shards=2)
        self.ssc.checkpoint(self._folder / "checkpoints")
        self.ssc.addStreamingListener(self.listener)
        self.ssc.recordBatches(BatchLedger(self.store, self.context.appName))
        stream = create_direct_stream(
            self.ssc,
            LogSource(self._folder / "log", [TOPIC]),
            name=TOPIC,
            decoder=json.loads,
            event_time=EventTime(of=itemgetter("time"), window=10, grace=60),
            reset="earliest",
            max_rate_per_partition=self._rate,
        )
        output = TableOutput(self.store, TOTALS, 2)

        def table(rdd: Any) -> None:
            self.in_output()
            output(rdd)

        with self.ssc.job(JOB):
            views = stream.map(lambda view: (view["page"], 1)).reduceByKey(add)
            totals = views.updateStateByKey(lambda new, old: sum(new) + (old or 0), name="totals")
            totals.foreachRDD(table, name="table")
            views.window(2, 2).foreachRDD(lambda rdd: self.pairs.append(rdd.collect()), name="pairs")
        self.ssc.start(thread=False)
        return self

    def restart(self) -> Self:
        """A new process, as far as its memory goes: a new context with a new listener."""
        self.ssc.stop(stopSparkContext=False)
        self.listener = PrometheusListener(clock=self.clock)
        return self.start()

    def write(self, partition: int, *views: tuple[int, bytes]) -> None:
        """Append (creation in milliseconds after the start, value) of each view to a partition."""
        with LogWriter(self._folder / "log", TOPIC, partition) as writer:
            writer.append([(START_MS + at, b"k", value) for at, value in views])

    def run(self, batches: int = 1) -> Self:
        """Let a second pass and run the batch, so many times."""
        for _ in range(batches):
            self.clock.advance(1_000)
            self.ssc.runBatch()
        return self

    def lock(self) -> sqlite3.Connection:
        """Another process's connection with the results, for a transaction that locks them."""
        return sqlite3.connect(self.store.path, isolation_level=None, check_same_thread=False)

    def kill_executor(self, number: int) -> None:
        """End an executor by SIGKILL; its driver waits for it when it replaces it."""
        os.kill(self.context.executor_pids[number], signal.SIGKILL)

    def value(self, name: str, **labels: str) -> float | None:
        """One sample, None without it."""
        return self.listener.value(name, **labels)

    def histogram(self, name: str, **labels: str) -> tuple[float | None, float | None]:
        """(observations, their sum)."""
        sums = self.listener.value(f"{name}_sum", **labels)
        return self.listener.value(f"{name}_count", **labels), None if sums is None else round(sums, 6)

    def scrape(self) -> dict[str, Any]:
        """Every metric family by its name, as Prometheus would read it."""
        text = generate_latest(self.listener.registry).decode()
        return {family.name: family for family in text_string_to_metric_families(text)}


@contextmanager
def metered(folder: Path, master: str = "local", **how: Any) -> Iterator[Metered]:
    """The application on a context of its own, whose executors and tasks nobody else counts."""
    with LocalContext(master, "metered") as context, Metered(context, folder, **how) as app:
        yield app
