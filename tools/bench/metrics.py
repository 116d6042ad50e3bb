"""What metrics cost: the pipeline's query from an embedded log with its listeners and scrapes, and without them.

The listeners are those of the pipeline: the metrics, and the history that the streaming page shows. Two cases: large batches, where
what a record costs weighs, and small ones at the default rate, where what a batch costs does.

Each run is a process of its own with two executors; sides take turns, so that whatever else the machine does meets all of them.

Run as a program with FOLDER RATE BATCHES on|off it is one run, and prints the CPU seconds of its process tree.

Owns: CASES, compare, Case, Cost, fill, cpu_seconds.
Never: a wall clock; the CPU seconds of the whole process tree count.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from prometheus_client import generate_latest

from engine import LocalContext, ManualClock, StreamingContext
from engine.monitoring.history import History
from engine.monitoring.metrics import PrometheusListener
from engine.sinks.output import BatchLedger, TableOutput
from engine.sinks.sqlite import SQLiteSink
from engine.sources.decoders import json_decoder
from engine.sources.direct import create_direct_stream
from engine.sources.log import LogSource, LogWriter, create_topic
from services.pipeline.jobs import campaign_windows
from services.pipeline.jobs.campaign_windows import AdEvent
from services.producer.events import ad_event
from services.settings import REPOSITORY
from services.sqlite.migrate import migrate

TOPIC = campaign_windows.STREAM
PARTITIONS = 4
START_MS = 1_700_000_000_000
APPENDS_A_SECOND = 20
BATCHES_A_SCRAPE = 2


class Case(NamedTuple):
    """A load: batches of one second at a rate."""

    name: str
    rate: int
    """Events a second, so a batch."""
    share: float
    """Events of a run, as a part of those that are asked for."""

    def batches(self, events: int) -> int:
        """Batches of a run when so many events are asked for."""
        return max(1, int(events * self.share) // self.rate)


CASES = (Case("50,000 events a batch", 50_000, 1.0), Case("1,520 events a batch", 1_520, 0.3))
"""Large batches, and those of the default rate, rounded up so that every append has equally many."""


class Cost(NamedTuple):
    """One side, in CPU seconds per million events."""

    name: str
    runs: Sequence[float]

    @property
    def median(self) -> float:
        """The median over the runs."""
        return statistics.median(self.runs)

    def of(self, other: "Cost") -> float:
        """This side as a multiple of the other: the median of the ratios of runs that were made beside each other."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.runs, other.runs, strict=True))


def fill(folder: Path, rate: int, batches: int) -> None:
    """Write events as the producer does: 50 milliseconds of each partition's share in one append."""
    create_topic(folder / "log", TOPIC, PARTITIONS)
    portion = rate // PARTITIONS // APPENDS_A_SECOND
    for partition in range(PARTITIONS):
        with LogWriter(folder / "log", TOPIC, partition) as writer:
            for begin in range(0, rate * batches // PARTITIONS, portion):
                times = [
                    (seq, START_MS + seq * PARTITIONS * 1_000 // rate)
                    for seq in range(begin, begin + portion)
                ]
                writer.append([(at, *ad_event(1, partition, seq, at)) for seq, at in times])


def measure(folder: Path, rate: int, batches: int, *, is_listened: bool) -> float:
    """CPU seconds of driver and executors for all events, in batches of one second with a scrape every two seconds."""
    with tempfile.TemporaryDirectory(dir=folder) as run, LocalContext("local[2]", "bench") as context:
        clock = ManualClock(START_MS)
        ssc = StreamingContext(context, 1.0, clock=clock)
        ssc.checkpoint(Path(run) / "checkpoints")
        store = SQLiteSink(Path(run) / "results.sqlite3")
        migrate(Path(store.path))
        ssc.recordBatches(BatchLedger(store, "bench"))
        stream = create_direct_stream(
            ssc,
            LogSource(folder / "log", [TOPIC]),
            name=TOPIC,
            decoder=json_decoder(AdEvent),
            event_time=campaign_windows.EVENT_TIME,
            reset="earliest",
            max_rate_per_partition=rate / PARTITIONS,
        )
        campaign_windows.build(ssc, stream, TableOutput(store, campaign_windows.TABLE, 2))
        listener = PrometheusListener() if is_listened else None
        if listener is not None:
            ssc.addStreamingListener(listener)
            ssc.addStreamingListener(History())
        ssc.start(thread=False)
        pids = [os.getpid(), *context.executor_pids]
        before = cpu_seconds(pids)
        for number in range(batches):
            clock.advance(1_000)
            ssc.runBatch()
            if listener is not None and number % BATCHES_A_SCRAPE == 0:
                generate_latest(listener.registry)
        spent = cpu_seconds(pids) - before
        ssc.stop(stopSparkContext=False)
    return spent


def cpu_seconds(pids: Sequence[int]) -> float:
    """What some processes have spent so far."""
    # The CPU clock of a process (clock_getcpuclockid) has nanoseconds; the times in /proc have a hundredth of a second.
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)


def compare(
    case: Case, events: int, pairs: int, against: Path | None, progress: Callable[[], None]
) -> tuple[Cost, Cost, Cost | None]:
    """The sides with and without the listeners and, when another checkout is given, that one without; runs in turn.

    Args:
        case: the load.
        events: how many are asked for; the case takes its share of them, in whole batches.
        pairs: runs of each side.
        against: folder of another checkout, such as the commit before a change; one that has the streaming page.
        progress: called after each run.
    """
    sides: list[tuple[str, Path, str]] = [
        ("with metrics", REPOSITORY, "on"),
        ("without", REPOSITORY, "off"),
    ]
    if against is not None:
        sides.append((f"{against.name}, without", against, "off"))
    runs: list[list[float]] = [[] for _ in sides]
    batches = case.batches(events)
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), case.rate, batches)
        for number in range(pairs):
            # Whoever goes first meets a cold cache: each side does in turn.
            for index in [(number + place) % len(sides) for place in range(len(sides))]:
                _, checkout, side = sides[index]
                spent = _run(checkout, [folder, str(case.rate), str(batches), side])
                runs[index].append(spent / (case.rate * batches) * 1e6)
                progress()
    costs = [Cost(name, own) for (name, _, _), own in zip(sides, runs, strict=True)]
    return costs[0], costs[1], costs[2] if against is not None else None


def _run(checkout: Path, arguments: Sequence[str]) -> float:
    """One run in a process of its own, on the engine of a checkout."""
    # -P: the engine of the checkout, and no module of this file's folder under its bare name.
    command = [sys.executable, "-P", __file__, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout)


if __name__ == "__main__":
    _, given_folder, given_rate, given_batches, given_side = sys.argv
    print(measure(Path(given_folder), int(given_rate), int(given_batches), is_listened=given_side == "on"))
