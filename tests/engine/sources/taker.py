"""An application on the block log that is killed, or made to fail or wait, at fail points and started again: what its batches must have.

Its inputs are a list in a queue, a receiver that stores its position, and files in a folder; each has the numbers from 0 on, three
a step. A batch writes what it holds to a file of its own, so a batch that runs again writes the same file.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine import LocalContext, ManualClock, StreamingContext
from engine.dstream.dstream import DStream
from engine.sources.receiver import Receiver
from tests.engine.app import START_MS
from tests.recovery.app import Armed, Start

STEPS = 6
ROWS = 3


def numbers_of(step: int) -> list[int]:
    """What a step brings."""
    return list(range(step * ROWS, (step + 1) * ROWS))


class Numbers(Receiver):
    """Stores three numbers when it is told to, with its position, and goes on from there."""

    def onStart(self) -> None:
        """Nothing: it is told."""

    def take(self) -> None:
        """Store the next numbers."""
        step = self.lastMetadata or 0
        if step < STEPS:
            self.store(numbers_of(step), metadata=step + 1)


def move_in(folder: Path) -> None:
    """Move the next file in, whole."""
    step = len(list(folder.glob("step-*")))
    if step < STEPS:
        hidden = folder / ".step"
        hidden.write_text("".join(f"{number}\n" for number in numbers_of(step)))
        hidden.rename(folder / f"step-{step}")


def inputs(kind: str, ssc: StreamingContext, folder: Path) -> tuple[DStream[int], Callable[[], object]]:
    """The stream, and what brings the next step."""
    if kind == "queue":
        return ssc.queueStream([numbers_of(step) for step in range(STEPS)]), lambda: None
    if kind == "receiver":
        receiver = Numbers()
        return ssc.receiverStream(receiver, name="numbers"), receiver.take
    (folder / "in").mkdir(exist_ok=True)
    return ssc.textFileStream(folder / "in").map(int), lambda: move_in(folder / "in")


def run(kind: str, place: str, start: Mapping[str, Any]) -> None:
    """Run until every number is in a batch; `after` says from which step on the fail point is armed."""
    folder, settings = Path(place), Start(**start)
    armed = Armed(folder, settings)
    out = folder / "out"
    out.mkdir(exist_ok=True)

    def write(time: Any, rdd: Any) -> None:
        (out / f"{time.timestamp():.0f}.json").write_text(json.dumps(rdd.collect()))

    with LocalContext("local", "taker") as context:
        ssc = StreamingContext(context, 1.0, clock=ManualClock(START_MS), shards=2, everyInterval=True)
        ssc.checkpoint(folder / "checkpoints")
        stream, bring = inputs(kind, ssc, folder)
        stream.foreachRDD(write)
        totals = stream.map(lambda n: ("all", n)).updateStateByKey(
            lambda new, old: sum(new) + (old or 0), name="total"
        )
        totals.foreachRDD(lambda rdd: (folder / "total").write_text(str(rdd.values().collect())))
        stream.window(3, 1).count().foreachRDD(lambda rdd: rdd.collect())
        ssc.start(thread=False)
        for step in range(STEPS + 1):
            armed.is_armed = bool(settings.point) and step >= settings.after
            bring()
            ssc.runBatch()
        ssc.stop()


def found(folder: Path) -> list[int]:
    """What all batches hold, in their order."""
    files = sorted((folder / "out").glob("*.json"), key=lambda path: int(path.stem))
    return [number for path in files for number in json.loads(path.read_text())]
