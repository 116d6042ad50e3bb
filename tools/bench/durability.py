"""What durability costs: the pipeline's query from an embedded log with its checkpoints, and without a checkpoint folder.

Each run is a process of its own with two executors, in batches of one second; sides take turns, so that whatever else the machine does
meets both. Without a folder nothing is written down, and executors do not encode what changed.

Run as a program with FOLDER RATE BATCHES on|off it is one run, and prints the CPU seconds of its process tree.

Owns: CASES, compare.
Never: a wall clock; the CPU seconds of the whole process tree count.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from engine import LocalContext, ManualClock, StreamingContext
from engine.dstream.keyed import KeyedNode
from engine.sinks.output import TableOutput
from engine.sinks.sqlite import SQLiteSink
from engine.sources.decoders import json_decoder
from engine.sources.direct import create_direct_stream
from engine.sources.log import LogSource
from services.pipeline.jobs import campaign_windows
from services.pipeline.jobs.campaign_windows import AdEvent
from services.settings import REPOSITORY
from services.sqlite.migrate import migrate
from tools.bench import metrics
from tools.bench.metrics import PARTITIONS, START_MS, TOPIC, Case, Cost, cpu_seconds, fill

LARGE, SMALL = metrics.CASES
CASES = (LARGE, SMALL._replace(share=0.04))
"""With the default number of events both have more batches than the 70 after which a window is closed: keys leave, old files go."""


def measure(folder: Path, rate: int, batches: int, *, is_durable: bool) -> float:
    """CPU seconds of driver and executors for all events, in batches of one second."""
    with tempfile.TemporaryDirectory(dir=folder) as run, LocalContext("local[2]", "bench") as context:
        clock = ManualClock(START_MS)
        ssc = StreamingContext(context, 1.0, clock=clock)
        if is_durable:
            ssc.checkpoint(Path(run) / "checkpoints")
        else:
            # Only here: a job with state that may forget it is no job.
            KeyedNode.needs_checkpoint = False
        store = SQLiteSink(Path(run) / "results.sqlite3")
        migrate(Path(store.path))
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
        ssc.start(thread=False)
        pids = [os.getpid(), *context.executor_pids]
        before = cpu_seconds(pids)
        for _ in range(batches):
            clock.advance(1_000)
            ssc.runBatch()
        spent = cpu_seconds(pids) - before
        ssc.stop(stopSparkContext=False)
    return spent


def compare(case: Case, events: int, pairs: int, progress: Callable[[], None]) -> tuple[Cost, Cost]:
    """The sides with and without checkpoints, run in turn.

    Args:
        case: the load.
        events: how many are asked for; the case takes its share of them, in whole batches.
        pairs: runs of each side.
        progress: called after each run.
    """
    sides = ("on", "off")
    runs: dict[str, list[float]] = {side: [] for side in sides}
    batches = case.batches(events)
    with tempfile.TemporaryDirectory(dir=REPOSITORY / ".bench") as folder:
        fill(Path(folder), case.rate, batches)
        for number in range(pairs):
            # Whoever goes first meets a cold cache: each side does in turn.
            for side in sides if number % 2 else reversed(sides):
                spent = _run([folder, str(case.rate), str(batches), side])
                runs[side].append(spent / (case.rate * batches) * 1e6)
                progress()
    return Cost("checkpoints on", runs["on"]), Cost("off", runs["off"])


def _run(arguments: Sequence[str]) -> float:
    command = [sys.executable, "-m", "tools.bench.durability", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    _, given_folder, given_rate, given_batches, given_side = sys.argv
    print(measure(Path(given_folder), int(given_rate), int(given_batches), is_durable=given_side == "on"))
