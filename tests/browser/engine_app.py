"""A small engine with its streaming page, as a process: words from a queue or a log, one table.

python -m tests.browser.engine_app PORT FOLDER [--slow SECONDS] [--fail] [--hang]
"""

import argparse
import threading
import time
from operator import add
from pathlib import Path
from typing import Any

import click

from engine import DStream, LocalContext, StreamingContext
from engine.monitoring import StreamingPage
from engine.sources.direct import create_direct_stream
from engine.sources.log import LogSource, LogWriter, create_topic

INTERVAL = 0.25
"""Seconds between batches."""
LINES = ["to be or not", "to be"]
"""Of each batch."""
TOPIC = "lines"


class Log:
    """A source that tells its lag, where each batch finds the same few lines.

    Args:
        folder: of the log.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        create_topic(folder, TOPIC, 1)
        self.write()

    def write(self) -> None:
        """Append the lines of the next batch."""
        now_ms = time.time_ns() // 1_000_000
        with LogWriter(self._folder, TOPIC, 0) as writer:
            writer.append([(now_ms, None, line.encode()) for line in LINES])

    def stream(self, ssc: StreamingContext) -> DStream[str]:
        """Of its lines."""
        source = LogSource(self._folder, [TOPIC])
        return create_direct_stream(ssc, source, name=TOPIC, decoder=bytes.decode, reset="earliest")


def main() -> None:
    """Run until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("folder")
    parser.add_argument("--slow", type=float, default=0.0, help="seconds that the output takes")
    parser.add_argument("--fail", action="store_true", help="the output raises in its fourth batch")
    parser.add_argument(
        "--hang", action="store_true", help="read a log; the output never ends in its ninth batch"
    )
    given = parser.parse_args()
    runs: list[int] = []
    log = Log(Path(given.folder).with_name("log")) if given.hang else None

    def write(rdd: Any) -> None:
        runs.append(rdd.count())
        if given.fail and len(runs) > 3:
            raise LookupError("no such <b>table</b>")
        if log is not None:
            log.write()
        # A slow or an absent store: the engine has nothing to do but to wait for it.
        threading.Event().wait(None if given.hang and len(runs) > 8 else given.slow)

    with LocalContext("local", "words") as context:
        ssc = StreamingContext(context, INTERVAL)
        ssc.checkpoint(given.folder)
        with ssc.job("words"):
            lines = ssc.queueStream([LINES] * 10_000) if log is None else log.stream(ssc)
            counts = lines.flatMap(str.split).map(lambda word: (word, 1)).reduceByKey(add)
            totals = counts.updateStateByKey(lambda new, old: sum(new) + (old or 0), name="totals")
            totals.foreachRDD(write, name="table")
        StreamingPage(ssc, port=given.port).start()
        ssc.start()
        click.echo("engine: started")
        # Also when the stream has ended: the page stays up to tell what ended it.
        threading.Event().wait()


if __name__ == "__main__":
    main()
