"""What the tests of receivers share: a receiver that does what it is told, and a context around one."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import pytest

from engine import LocalContext, ManualClock, StreamingContext, StreamingListener
from engine.batch import ReceiverInfo
from engine.errors import CheckpointWriteError
from engine.sources.blocks import BlockLog
from engine.sources.receiver import Receiver
from tests.engine.app import START_MS

folders = ExitStack()
"""The folders that the running test was given; each test of a source closes it when its context has ended."""


def folder_for_blocks(context: LocalContext) -> Path | None:
    """A folder that lasts as long as the test, where a receiver needs one: executors of a cluster read its blocks from there."""
    if context.master.startswith("local"):
        return None
    return Path(folders.enter_context(TemporaryDirectory()))


class Told(Receiver):
    """A receiver that does nothing but what it is told."""

    def __init__(self, on_start: Callable[["Told"], object] = lambda _: None) -> None:
        super().__init__()
        self.calls: list[str] = []
        self._on_start = on_start

    def onStart(self) -> None:
        """Note it."""
        self.calls.append("start")
        self._on_start(self)

    def onStop(self) -> None:
        """Note it."""
        self.calls.append("stop")


class Heard(StreamingListener):
    """Notes what it is told of receivers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, ReceiverInfo]] = []

    def onReceiverStarted(self, receiverStarted: Any) -> None:
        """Note it."""
        self.events.append(("started", receiverStarted.receiverInfo))

    def onReceiverError(self, receiverError: Any) -> None:
        """Note it."""
        self.events.append(("error", receiverError.receiverInfo))

    def onReceiverStopped(self, receiverStopped: Any) -> None:
        """Note it."""
        self.events.append(("stopped", receiverStopped.receiverInfo))

    @property
    def kinds(self) -> list[str]:
        """The events' kinds."""
        return [kind for kind, _ in self.events]


class Times(StreamingListener):
    """Notes when the records of each batch were stored."""

    def __init__(self) -> None:
        self.created: list[list[int]] = []

    def onBatchCompleted(self, batchCompleted: Any) -> None:
        """Note it."""
        self.created += map(list, batchCompleted.created.values())


def appends(patch: pytest.MonkeyPatch, refuse_from: int | None = None) -> list[int]:
    """Number of records of each append from now on; the volume is full from one of them on."""
    append: Any = BlockLog.append
    sizes: list[int] = []

    def counted(log: BlockLog, values: list[bytes], key: bytes | None = None) -> int:
        sizes.append(len(values))
        if refuse_from is not None and len(sizes) >= refuse_from:
            raise CheckpointWriteError("the volume is full")
        return int(append(log, values, key))

    patch.setattr(BlockLog, "append", counted)
    return sizes


class Receiving:
    """A context with one receiver; `seen` has what each batch held."""

    def __init__(
        self, context: LocalContext, receiver: Receiver, folder: Path | None = None, **settings: Any
    ) -> None:
        self.clock = ManualClock(START_MS)
        self.ssc = StreamingContext(context, 1.0, clock=self.clock, shards=4, **settings)
        self.seen: list[list[Any]] = []
        self.heard = Heard()
        self.ssc.addStreamingListener(self.heard)
        folder = folder or folder_for_blocks(context)
        if folder is not None:
            self.ssc.checkpoint(folder)
        self.ssc.receiverStream(receiver).foreachRDD(lambda rdd: self.seen.append(rdd.collect()))

    def __enter__(self) -> Self:
        self.ssc.start(thread=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.ssc.stop(stopSparkContext=False)

    def run(self) -> Self:
        """A batch."""
        self.clock.advance(1_000)
        self.ssc.runBatch()
        return self
