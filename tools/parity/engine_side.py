"""The programs on this engine, in this process.

Owns: run.
Never: a judgement.
"""

import tempfile
from functools import partial
from typing import Any

from engine import ManualClock, StreamingContext
from engine.batch import Time
from tools.parity.programs import BATCHES, PARTITIONS, Program
from tools.parity.shown import shown

_START_MS = 1_700_000_000_000


def run(context: Any, one: Program, interval: float) -> list[list[str] | None]:
    """What a program gives: its batches, None where it had none.

    Args:
        context: makes the RDDs; a LocalContext, or one of Spark.
        one: the program.
        interval: of its batches, seconds.
    """
    found: list[list[str] | None] = []
    with tempfile.TemporaryDirectory() as folder:
        clock = ManualClock(_START_MS)
        ssc = StreamingContext(context, interval, clock=clock, everyInterval=True)
        ssc.checkpoint(folder)
        stream, other = (
            ssc.queueStream([context.parallelize(list(batch), PARTITIONS) for batch in batches])
            for batches in (one.batches, one.others)
        )
        one.build(stream, other).foreachRDD(partial(_keep, found))
        try:
            ssc.start(thread=False)
            for number in range(BATCHES):
                clock.advance(int(interval * 1_000))
                found.append(None)
                ssc.runBatch()
                assert len(found) == number + 1
        finally:
            ssc.stop(stopSparkContext=False)
    return found


def _keep(found: list[list[str] | None], _time: Time, rdd: Any) -> None:
    try:
        found[-1] = list(map(shown, rdd.collect()))
    except Exception as error:  # noqa: BLE001 - a program of either side may raise anything; both must
        found[-1] = [f"raised {type(error).__name__}"]
