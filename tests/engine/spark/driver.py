"""The application of tests/recovery/app.py on a Spark cluster: `python -m tests.engine.spark.driver FOLDER MASTER POINT AFTER`.

It prints a line for each committed batch. In the batch after the one that HOLD_AFTER in the folder names, tasks of an output wait
until a file `go-on` is there: whoever kills something then kills it in the middle of a batch.
"""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyspark

from engine import ManualClock, StreamingContext, failpoints
from engine.dstream.run import batch_time
from engine.sinks.output import BatchLedger
from engine.sinks.sqlite import SQLiteSink
from engine.sources.direct import create_direct_stream
from engine.sources.log import LogSource
from tests.engine.app import START_MS
from tests.recovery import app
from tests.recovery.truth import time_of

SHARDS = 2


class Hold:
    """Holds a task of one batch, in the executor, until a file is there; its first line tells who is held."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, index: int, elements: Iterator[Any]) -> Iterator[Any]:
        """The elements, after the wait."""
        wanted = self._folder / "hold"
        if wanted.exists() and int(batch_time()) == time_of(int(wanted.read_text())):
            (self._folder / f"held-{index}.tmp").write_text(str(os.getpid()))
            (self._folder / f"held-{index}.tmp").rename(self._folder / f"held-{index}")
            while not (self._folder / "go-on").exists():
                threading.Event().wait(0.02)
        return elements


def run(folder: Path, master: str, point: str, after: int) -> None:
    """Run to the end of the log, with the fail point armed once so many batches are committed."""
    store = SQLiteSink(folder / "results.sqlite3")
    context = pyspark.SparkContext(master=master, appName="victim")
    ssc = StreamingContext(context, 1.0, clock=ManualClock(START_MS), shards=SHARDS, everyInterval=True)
    ssc.checkpoint(folder / "checkpoints")
    ssc.recordBatches(BatchLedger(store, "victim"))
    numbers = create_direct_stream(
        ssc,
        LogSource(folder / "log", [app.TOPIC]),
        name=app.TOPIC,
        decoder=int,
        reset="earliest",
        max_rate_per_partition=app.RATE,
    )
    held = numbers.transform(lambda rdd: rdd.mapPartitionsWithIndex(Hold(folder)))
    held.foreachRDD(lambda rdd: rdd.count(), name="holds")
    app.build(ssc, numbers, store)
    kinds: Any = failpoints._KINDS
    if point and after == 0:
        kinds[point] = "crash"
    ssc.start(thread=False)
    while (done := app.committed(ssc)) < app.BATCHES:
        print(f"committed {done}", flush=True)  # noqa: T201 - to the test
        if point and done >= after:
            kinds[point] = "crash"
        ssc.runBatch()
    ssc.stop()
    print("done", flush=True)  # noqa: T201 - to the test


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
