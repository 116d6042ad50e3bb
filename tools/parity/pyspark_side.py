"""The programs on PySpark's own DStreams: a process of its own, as PySpark logs, warns and leaves a JVM behind.

`python -c "from tools.parity.pyspark_side import main; main(SEED, NUMBERS)"` prints for each program one line of JSON.

Owns: main.
Never: a judgement.
"""

import json
import tempfile
import threading
import warnings
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pyspark import SparkConf, SparkContext
from pyspark.streaming import StreamingContext

from tools.parity.programs import BATCHES, PARTITIONS, Program, program
from tools.parity.shown import shown

INTERVAL = 0.5
"""Seconds; Spark skips no batch, so it may as well be behind."""
AT_ONCE = 20
"""Programs of one context: starting one takes longer than a batch of most programs."""
_MOST_SECONDS = 600


class Collected:
    """What the programs gave, by batch."""

    def __init__(self) -> None:
        self.by_program: dict[int, dict[datetime, list[str]]] = {}
        self.times: list[datetime] = []
        self.is_done = threading.Event()

    def keep(self, number: int, time: datetime, rdd: Any) -> None:
        """Note a batch of a program, or what it raised."""
        if len(self.times) > BATCHES:
            return
        try:
            found = list(map(shown, rdd.collect()))
        except Exception as error:  # noqa: BLE001 - a program of either side may raise anything; both must
            found = [f"raised {type(error).__name__}"]
        self.by_program.setdefault(number, {})[time] = found

    def tick(self, time: datetime) -> None:
        """A batch has ended."""
        self.times.append(time)
        if len(self.times) >= BATCHES:
            self.is_done.set()

    def results(self, number: int) -> list[list[str] | None]:
        """The program's batches, None where it had none."""
        own = self.by_program.get(number, {})
        return [own.get(time) for time in self.times[:BATCHES]]


_collected = [Collected()]
"""Of the programs that run, at its end: a checkpoint of PySpark pickles what an output captures, and this cannot be."""


def _keeping(number: int) -> Any:
    # Two plain arguments: PySpark counts those of the code object, and takes no partial.
    return lambda time, rdd: _keep(number, time, rdd)


def _keep(number: int, time: datetime, rdd: Any) -> None:
    _collected[-1].keep(number, time, rdd)


def _tick(time: datetime, _rdd: Any) -> None:
    _collected[-1].tick(time)


def run(context: SparkContext, programs: Sequence[Program]) -> dict[int, list[list[str] | None]]:
    """What some programs give, by number."""
    collected = Collected()
    _collected.append(collected)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        ssc = StreamingContext(context, INTERVAL)  # type: ignore[arg-type]  # Spark takes parts of a second
        ssc.checkpoint(folder)
        for one in programs:
            stream, other = (_queue(ssc, context, batches) for batches in (one.batches, one.others))
            one.build(stream, other).foreachRDD(_keeping(one.number))
            for given in (stream, other):
                # A queue of PySpark gives an item when it is asked: a window that skips batches would be late by as many.
                given.foreachRDD(_ask)
        _queue(ssc, context, [[0]] * BATCHES).foreachRDD(_tick)
        ssc.start()
        try:
            if not collected.is_done.wait(_MOST_SECONDS):
                raise TimeoutError(f"PySpark has not ended {BATCHES} batches within {_MOST_SECONDS} s")
        finally:
            ssc.stop(stopSparkContext=False, stopGraceFully=False)
    return {one.number: collected.results(one.number) for one in programs}


def _ask(_rdd: Any) -> None:
    pass


def _queue(ssc: StreamingContext, context: SparkContext, batches: Sequence[Sequence[int]]) -> Any:
    return ssc.queueStream([context.parallelize(list(batch), PARTITIONS) for batch in batches])


def main(seed: int, numbers: Sequence[int]) -> None:
    """Print what each program gives, for the numbers of some programs of a seed."""
    settings = {
        "spark.ui.enabled": "false",
        "spark.log.level": "OFF",
        "spark.default.parallelism": str(PARTITIONS),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        # Over TCP each task waits about 40 ms.
        "spark.python.unix.domain.socket.enabled": "true",
    }
    context = SparkContext("local[2]", "parity", conf=SparkConf().setAll(list(settings.items())))
    try:
        for first in range(0, len(numbers), AT_ONCE):
            chosen = numbers[first : first + AT_ONCE]
            found = run(context, [program(seed, number, INTERVAL) for number in chosen])
            for number, batches in found.items():
                print(json.dumps([number, batches]), flush=True)
    finally:
        context.stop()
