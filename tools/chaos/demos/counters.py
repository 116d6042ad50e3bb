"""A sink that adds to what is there, in the place of one that writes the absolute value with a timestamp.

Owns: PARTS.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from operator import add
from pathlib import Path
from typing import Any

from engine import StreamingContext
from engine.dstream.dstream import DStream
from engine.dstream.run import batch_time
from engine.rdd.api import RDD
from services.pipeline import main
from services.pipeline.jobs import page_totals
from services.pipeline.records import PageView, counted
from services.settings import load_settings

_ADD = """
INSERT INTO page_totals (page, views, seq_sum, batch) VALUES (?, ?, ?, ?)
ON CONFLICT (page) DO UPDATE SET
views = views + excluded.views, seq_sum = seq_sum + excluded.seq_sum, batch = excluded.batch
"""
_LOCK_SECONDS = 30.0


class Increments:
    """Adds the counts of a batch to the rows; one transaction for each partition.

    Args:
        path: of the SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, rdd: RDD[Any]) -> None:
        """Add."""
        rdd.mapPartitions(self.add).collect()

    def add(self, counts: Iterator[tuple[str, int]]) -> list[int]:
        """Add the counts of a partition; how many there were."""
        rows = [(page, *counted([views], 0, 0), int(batch_time())) for page, views in counts]
        with closing(sqlite3.connect(self._path, timeout=_LOCK_SECONDS)) as store, store:
            store.executemany(_ADD, rows)
        return [len(rows)]


def build(ssc: StreamingContext, views: DStream[PageView], _write: Any) -> None:
    """Count each batch alone, and let the database have the totals."""
    with ssc.job(page_totals.NAME):
        counts = views.map(page_totals.one_view).reduceByKey(add)
        counts.foreachRDD(Increments(load_settings().results_path), name="table")


_TOPIC, _, _TABLE = main.JOBS[page_totals.NAME]
PARTS: Mapping[str, object] = {"JOBS": {**main.JOBS, page_totals.NAME: (_TOPIC, build, _TABLE)}}
