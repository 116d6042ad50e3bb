"""A small application that its streaming page shows: words counted from a queue, every second and every other second."""

from collections.abc import Callable
from operator import add
from pathlib import Path
from typing import Any, Self

from engine import LocalContext, ManualClock, StreamingContext
from engine.monitoring import StreamingPage
from engine.monitoring.entries import View
from tests.engine.app import START_MS


class Shown:
    """The application with its history; the page listens only when it is asked for.

    Args:
        context: runs it.
        folder: of the checkpoints.
        in_output: called in every run of the table's output, with what it is to write.
    """

    def __init__(
        self,
        context: LocalContext,
        folder: Path,
        in_output: Callable[[list[Any]], object] = lambda _: None,
    ) -> None:
        self.clock = ManualClock(START_MS)
        self.queue: list[list[str]] = []
        self.page = StreamingPage(clock=self.clock, port=0)
        self.ssc = StreamingContext(context, 1.0, clock=self.clock, shards=2)
        self.ssc.checkpoint(folder)
        with self.ssc.job("words"):
            counts = self.ssc.queueStream(self.queue).map(lambda word: (word, 1)).reduceByKey(add)
            totals = counts.updateStateByKey(lambda new, old: sum(new) + (old or 0), name="totals")
            totals.foreachRDD(lambda rdd: in_output(rdd.collect()), name="table")
            counts.window(4, 2).foreachRDD(lambda rdd: rdd.count(), name="recent")
        self.page.watch(self.ssc)

    def __enter__(self) -> Self:
        self.ssc.start(thread=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.page.stop()
        self.ssc.stop(stopSparkContext=False)

    def run(self, *batches: list[str]) -> Self:
        """A batch of these words each."""
        for words in batches:
            self.queue.append(words)
            self.clock.advance(1_000)
            self.ssc.runBatch()
        return self

    @property
    def view(self) -> View:
        """What the history holds."""
        return self.page.history.view()

    @property
    def now(self) -> int:
        """The time of the application's clock."""
        return self.clock.wall_ms()
