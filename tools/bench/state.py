"""The cost of keyed state: mapWithState over many keys beside a bare dict that makes the same updates, in turn.

Owns: state_cost.
"""

import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from engine import LocalContext, ManualClock, State, StateSpec, StreamingContext

_WARM = 2


class StateCost(NamedTuple):
    """One batch of updates, medians in milliseconds of CPU: on a busy machine the clock on the wall tells little."""

    master: str
    keys: int
    dict_ms: float
    batch_ms: float
    """Of all processes."""
    memory_bytes: int
    """Resident, of all processes, beyond what they had before the first batch."""

    @property
    def ratio(self) -> float:
        """A batch as a multiple of the dict's."""
        return self.batch_ms / self.dict_ms


def state_cost(master: str, keys: int, updates: int, batches: int, folder: Path) -> StateCost:
    """Fill so many keys, then update some of them in each batch, with a timeout and durable deltas."""
    drawing = random.Random(1)
    names = [_name(n) for n in range(keys)]
    with tempfile.TemporaryDirectory(dir=folder) as checkpoints, LocalContext(master, "state") as context:
        clock = ManualClock(1_700_000_000_000)
        ssc = StreamingContext(context, 1.0, clock=clock)
        ssc.checkpoint(checkpoints)
        items = [context.parallelize([(name, 1) for name in names], 4)]
        drawn = [
            [(_name(drawing.randrange(keys)), 1) for _ in range(updates)] for _ in range(batches + _WARM)
        ]
        items += [context.parallelize(batch, 4).cache() for batch in drawn]
        spec = StateSpec.function(_total).keyType(str).stateType(int).timeout(3_600)
        ssc.queueStream(items).mapWithState(spec, name="totals").foreachRDD(lambda _rdd: None)
        ssc.start(thread=False)
        before = _of_all()
        bare = dict.fromkeys(names, 1)
        clock.advance(1_000)
        ssc.runBatch()
        times = []
        for item, batch in zip(items[1:], drawn, strict=True):
            item.count()
            times.append((_dict_ms(bare, batch), _batch_ms(ssc, clock)))
        memory = _of_all()[1] - before[1]
        ssc.stop(stopSparkContext=False)
    dict_ms, batch_ms = map(statistics.median, zip(*times[_WARM:], strict=True))
    return StateCost(master, keys, dict_ms, batch_ms, memory)


def _name(number: int) -> str:
    return f"user-{number:08d}"


def _total(_key: str, value: int | None, state: State[int]) -> int:
    total = state.get() + (value or 0) if state.exists() else value or 0
    if not state.isTimingOut():
        state.update(total)
    return total


def _dict_ms(bare: dict[str, int], batch: list[tuple[str, int]]) -> float:
    begin = time.process_time()
    for key, value in batch:
        bare[key] = bare.get(key, 0) + value
    return (time.process_time() - begin) * 1_000


def _batch_ms(ssc: StreamingContext, clock: ManualClock) -> float:
    clock.advance(1_000)
    begin = _of_all()[0]
    ssc.runBatch()
    return (_of_all()[0] - begin) * 1_000


def _of_all() -> tuple[float, int]:
    """CPU seconds and resident bytes of this process and its children."""
    me = psutil.Process()
    all_of_us = [me, *me.children(recursive=True)]
    times = [process.cpu_times() for process in all_of_us]
    return sum(t.user + t.system for t in times), sum(process.memory_info().rss for process in all_of_us)
