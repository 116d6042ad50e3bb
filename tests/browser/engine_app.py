"""A small engine with its streaming page, as a process: words from a queue, one table.

python -m tests.browser.engine_app PORT FOLDER [--slow SECONDS] [--fail]
"""

import argparse
import threading
from operator import add
from typing import Any

import click

from engine import LocalContext, StreamingContext
from engine.monitoring import StreamingPage

INTERVAL = 0.25
"""Seconds between batches."""


def main() -> None:
    """Run until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("folder")
    parser.add_argument("--slow", type=float, default=0.0, help="seconds that the output takes")
    parser.add_argument("--fail", action="store_true", help="the output raises in its fourth batch")
    given = parser.parse_args()
    runs: list[int] = []

    def write(rdd: Any) -> None:
        runs.append(rdd.count())
        if given.fail and len(runs) > 3:
            raise LookupError("no such <b>table</b>")
        # A slow store: the engine has nothing to do but to wait for it.
        threading.Event().wait(given.slow)

    with LocalContext("local", "words") as context:
        ssc = StreamingContext(context, INTERVAL)
        ssc.checkpoint(given.folder)
        lines = [["to be or not", "to be"]] * 10_000
        with ssc.job("words"):
            counts = ssc.queueStream(lines).flatMap(str.split).map(lambda word: (word, 1)).reduceByKey(add)
            totals = counts.updateStateByKey(lambda new, old: sum(new) + (old or 0), name="totals")
            totals.foreachRDD(write, name="table")
        StreamingPage(ssc, port=given.port).start()
        ssc.start()
        click.echo("engine: started")
        # Also when the stream has ended: the page stays up to tell what ended it.
        threading.Event().wait()


if __name__ == "__main__":
    main()
