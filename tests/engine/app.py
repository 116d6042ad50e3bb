"""One application over one checkpoint folder, which a test feeds, crashes and starts again.

A crash here is a context that is let go without another word, and a new one over the same folder: what a restart sees is what
the folder holds, as the executors drop the state of a context that is gone. Real kills are in tests/recovery.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from engine import LocalContext, ManualClock, StreamingContext
from engine.dstream.dstream import DStream

START_MS = 1_000_000_000_000

Job = Callable[[StreamingContext, DStream[Any], "App"], None]


class CrashError(Exception):
    """What a test raises where a process would die."""


class App:
    """An application whose input is a list of batches; `out` collects what its outputs saw, by name.

    Args:
        context: runs it.
        folder: of the checkpoints.
        job: builds the graph; called at each start.
        batches: all batches that the input will ever have.
        interval: of batches, seconds.
        shards: of each stateful operator.
        every_interval: run every missed time; False runs one catch-up batch.
    """

    def __init__(
        self,
        context: LocalContext,
        folder: Path,
        job: Job,
        batches: Sequence[Sequence[Any]],
        *,
        interval: float = 1.0,
        shards: int = 4,
        every_interval: bool = True,
    ) -> None:
        self.context = context
        self.folder = folder
        self.clock = ManualClock(START_MS)
        self.out: dict[str, list[Any]] = {}
        self.crash_in: str | None = None
        """Name of the output that raises CrashError after it has collected its next batch."""
        self.ssc: StreamingContext
        self._job = job
        self._batches = [list(batch) for batch in batches]
        self._settings = (interval, shards, every_interval)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.ssc.stop(stopSparkContext=False)

    def start(self) -> Self:
        """Build the graph and recover from the folder."""
        interval, shards, every_interval = self._settings
        self.ssc = StreamingContext(
            self.context, interval, clock=self.clock, shards=shards, everyInterval=every_interval
        )
        self.ssc.checkpoint(self.folder)
        self._job(self.ssc, self.ssc.queueStream(self._batches), self)
        self.ssc.start(thread=False)
        return self

    def run(self, batches: int = 1) -> Self:
        """Let the clock move on by one interval and run the batch, so many times."""
        for _ in range(batches):
            self.clock.advance(self.ssc.graph.batch_duration)
            self.ssc.runBatch()
        return self

    def crash(self) -> Self:
        """Let the context go and start a new one."""
        self.ssc.stop(stopSparkContext=False)
        return self.start()

    def collect(self, stream: DStream[Any], name: str) -> None:
        """An output that keeps each batch's elements, sorted, under its name with the batch's time in intervals."""
        seen = self.out.setdefault(name, [])

        def keep(rdd: Any) -> None:
            seen.append(sorted(rdd.collect()))
            if self.crash_in == name:
                self.crash_in = None
                raise CrashError(name)

        stream.foreachRDD(keep, name=f"collect {name}")


def collected(
    context: LocalContext,
    folder: Path,
    build: Callable[[DStream[Any]], DStream[Any]],
    batches: Sequence[Sequence[Any]],
    **settings: Any,
) -> list[Any]:
    """The sorted elements of a stream after each batch."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(build(stream), "all")

    with App(context, folder, job, batches, **settings) as app:
        return app.run(len(batches)).out["all"]
