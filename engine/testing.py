"""Tools to test jobs with: a batch is a list, time is told, and nothing waits.

Owns: run_batches, received.
Never: a wall clock.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from engine.clock import ManualClock
from engine.context import StreamingContext
from engine.dstream.dstream import DStream
from engine.rdd.context import LocalContext
from engine.sources.receiver import Receiver

_START_MS = 1_000_000_000_000


def run_batches(
    job: Callable[[DStream[Any]], DStream[Any]],
    batches: Sequence[Sequence[Any]],
    *,
    master: str = "local",
    context: LocalContext | None = None,
    batchDuration: float = 1.0,
    checkpoint: str | Path | None = None,
) -> list[list[Any]]:
    """What a job's stream holds after each batch, one list for each time at which it has an RDD.

    Args:
        job: from the input stream to the stream that is collected.
        batches: the elements of each batch, in order.
        master: of the LocalContext, when none is given.
        context: runs the job and is not stopped; executors take a second to start, so tests share one.
        batchDuration: seconds.
        checkpoint: directory of checkpoints; when not given, a temporary one for a job with state.

    Raises:
        Exception: what ended the stream.

    Example:
        >>> run_batches(lambda numbers: numbers.map(lambda n: n * 2), [[1], [2, 3]])
        [[2], [4, 6]]
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        sc = stack.enter_context(LocalContext(master, "test")) if context is None else context
        clock = ManualClock(_START_MS)
        ssc = StreamingContext(sc, batchDuration, clock=clock, everyInterval=True)
        collected: list[list[Any]] = []
        stream = job(ssc.queueStream(list(map(list, batches))))
        stream.foreachRDD(lambda rdd: collected.append(rdd.collect()))
        if checkpoint is not None or ssc.graph.stateful:
            ssc.checkpoint(checkpoint or folder)
        try:
            ssc.start(thread=False)
            for _ in batches:
                clock.advance(ssc.graph.batch_duration)
                ssc.runBatch()
        finally:
            ssc.stop(stopSparkContext=False)
        return collected


def received(receiver: Receiver) -> list[Any]:
    """What a receiver stores until its stream stops: at once when `onStart` has returned, and gracefully.

    Example:
        >>> class Two(Receiver):
        ...     def onStart(self) -> None:
        ...         self.store([1, 2])
        >>> received(Two())
        [1, 2]
    """
    with LocalContext("local", "test") as sc:
        ssc = StreamingContext(sc, 1, clock=ManualClock(_START_MS))
        stored: list[Any] = []
        ssc.receiverStream(receiver).foreachRDD(lambda rdd: stored.extend(rdd.collect()))
        try:
            ssc.start(thread=False)
        finally:
            ssc.stop(stopSparkContext=False, stopGraceFully=True)
        return stored
