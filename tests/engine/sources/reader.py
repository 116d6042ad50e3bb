"""What the tests of direct streams share: an application over a log on disk, and outputs that read it in many ways."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from engine import LocalContext, ManualClock, StreamingContext
from engine.batch import Batch, Time
from engine.dstream.dstream import DStream
from engine.dstream.nodes import DeadLetter
from engine.sources.direct import create_direct_stream
from engine.sources.log import LogSource, LogWriter, create_topic
from tests.engine.app import START_MS, CrashError

TOPIC = "events"

Outputs = Callable[[DStream[Any], "Reader"], None]


class Reader:
    """An application over a topic of two partitions; also its ledger, so that it sees what was put aside.

    Args:
        context: runs it.
        folder: of log and checkpoints.
        outputs: what is done with the stream.
        how: arguments of the direct stream.
    """

    def __init__(self, context: LocalContext, folder: Path, outputs: Outputs, **how: Any) -> None:
        self.context = context
        self.letters: list[tuple[int, DeadLetter]] = []
        """(attempt, letter) in the order of the batches."""
        self.batches: list[Batch] = []
        self.seen: dict[str, list[Any]] = {}
        self.crash_in_ledger = False
        self.clock = ManualClock(START_MS)
        self.ssc: StreamingContext
        self._folder = folder
        self._outputs = outputs
        self._how = {"reset": "earliest", "decoder": json.loads, **how}
        create_topic(folder / "log", TOPIC, 2)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.ssc.stop(stopSparkContext=False)

    def start(self) -> Self:
        """Start, or start again."""
        self.ssc = StreamingContext(self.context, 1.0, clock=self.clock, shards=2)
        self.ssc.checkpoint(self._folder / "checkpoints")
        self.ssc.recordBatches(self)
        source = LogSource(self._folder / "log", [TOPIC])
        self._outputs(create_direct_stream(self.ssc, source, name=TOPIC, **self._how), self)
        self.ssc.start(thread=False)
        return self

    def crash(self) -> Self:
        """Let the context go and start again."""
        self.ssc.stop(stopSparkContext=False)
        return self.start()

    def write(self, partition: int, *values: bytes | None) -> None:
        """Append values to a partition."""
        with LogWriter(self._folder / "log", TOPIC, partition) as writer:
            writer.append([(START_MS, b"k", value) for value in values])

    def run(self) -> Self:
        """Run the next batch."""
        self.clock.advance(1_000)
        self.ssc.runBatch()
        return self

    def collect(self, stream: DStream[Any], name: str) -> None:
        """An output that keeps the sorted elements of each batch."""
        seen = self.seen.setdefault(name, [])
        stream.foreachRDD(lambda rdd: seen.append(sorted(rdd.collect())))

    def put_aside(self, batch: Batch, letters: list[DeadLetter]) -> None:
        """Keep the letters, then die if asked to."""
        self.letters += [(batch.attempt, letter) for letter in letters]
        if self.crash_in_ledger:
            self.crash_in_ledger = False
            raise CrashError("ledger")

    def record(self, batch: Batch, zero_time: Time) -> None:
        """Keep the batch."""
        self.batches.append(batch)

    def put(self) -> list[tuple[int, int, str]]:
        """(partition, offset, reason before the colon) of each letter."""
        return [
            (letter.partition, letter.offset, letter.reason.partition(":")[0]) for _, letter in self.letters
        ]


def all_of(stream: DStream[Any], reader: Reader) -> None:
    """One output that reads everything."""
    reader.collect(stream, "all")


def two_readers(stream: DStream[Any], reader: Reader) -> None:
    """Two outputs that read everything."""
    reader.collect(stream, "all")
    reader.collect(stream.map(str), "again")


def one_element(stream: DStream[Any], reader: Reader) -> None:
    """An output that takes one element."""
    stream.foreachRDD(lambda rdd: rdd.take(1))


def nothing(stream: DStream[Any], reader: Reader) -> None:
    """An output that reads nothing."""
    stream.foreachRDD(lambda rdd: None)


def windowed(stream: DStream[Any], reader: Reader) -> None:
    """An output that reads each range three times over, in windows."""
    reader.collect(stream.window(3), "windows")


def cached(stream: DStream[Any], reader: Reader) -> None:
    """Two outputs over a cache."""
    kept = stream.cache()
    reader.collect(kept, "all")
    kept.foreachRDD(lambda rdd: rdd.take(1))


def stateful(stream: DStream[Any], reader: Reader) -> None:
    """State, and an output that does not look at it."""
    stream.map(lambda n: (str(n), 1)).updateStateByKey(
        lambda values, state: sum(values) + (state or 0)
    ).foreachRDD(lambda rdd: None)
