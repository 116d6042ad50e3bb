"""The fixed cost of a batch: a keyed job without a record, checkpoints on.

Owns: fixed_cost.
"""

import statistics
import tempfile
import time
from operator import add
from pathlib import Path
from typing import NamedTuple

from engine import LocalContext, ManualClock, StreamingContext


class FixedCost(NamedTuple):
    """Milliseconds of one empty batch."""

    master: str
    median_ms: float
    p95_ms: float
    batches: int


def _total(values: list[int], state: int | None) -> int:
    return sum(values) + (state or 0)


def fixed_cost(master: str, folder: Path, batches: int = 300) -> FixedCost:
    """Run empty batches of map, reduceByKey, updateStateByKey and an output, back to back."""
    with tempfile.TemporaryDirectory(dir=folder) as checkpoints, LocalContext(master, "fixed") as context:
        clock = ManualClock(1_700_000_000_000)
        ssc = StreamingContext(context, 1.0, clock=clock)
        ssc.checkpoint(checkpoints)
        counts = ssc.queueStream([]).map(_pair).reduceByKey(add)
        counts.updateStateByKey(_total, name="total").foreachRDD(lambda rdd: rdd.collect())
        ssc.start(thread=False)
        times = []
        for _ in range(batches + 20):
            clock.advance(1_000)
            begin = time.perf_counter()
            ssc.runBatch()
            times.append((time.perf_counter() - begin) * 1_000)
        ssc.stop(stopSparkContext=False)
    warm = sorted(times[20:])
    return FixedCost(master, statistics.median(warm), warm[int(len(warm) * 0.95)], batches)


def _pair(word: str) -> tuple[str, int]:
    return word, 1
