"""The ten most viewed pages of the last three seconds, every two seconds: a reduced window with an inverse.

Owns: build, rows of `trending_pages`.
"""

from collections.abc import Iterable, Iterator
from operator import add, sub
from typing import Any

from engine import StreamingContext
from engine.dstream.dstream import DStream
from engine.dstream.run import batch_time
from engine.sinks.api import Table
from services.pipeline.records import PageView

NAME = "trending_pages"
TABLE = Table(NAME, columns=("window_end", "rank", "page", "views"), key=("window_end", "rank"))
LENGTH_SECONDS = 3
SLIDE_SECONDS = 2
PAGES = 10

Ranking = list[tuple[str, int]]
"""(page, views), the most viewed first, pages of equal views in the order of their names."""


def one_view(view: PageView) -> tuple[str, int]:
    """One view of a page."""
    return view.page, 1


def ranking(pages: Iterable[tuple[str, int]]) -> Ranking:
    """The first of the pages.

    Example:
        >>> ranking([("/b", 1), ("/a", 1), ("/c", 2)])
        [('/c', 2), ('/a', 1), ('/b', 1)]
    """
    return sorted(pages, key=lambda page: (-page[1], page[0]))[:PAGES]


def ranking_of(pages: Iterator[tuple[str, int]]) -> list[Ranking]:
    """The ranking of a partition."""
    return [ranking(pages)]


def merged(one: Ranking, other: Ranking) -> Ranking:
    """The ranking of two partitions."""
    return ranking(one + other)


def to_rows(pages: Ranking) -> list[tuple[Any, ...]]:
    """The rows of a window."""
    end = int(batch_time())
    return [(end, rank, page, views) for rank, (page, views) in enumerate(pages, start=1)]


def build(ssc: StreamingContext, views: DStream[PageView], write: Any) -> None:
    """Add the job to the context.

    Args:
        ssc: the context.
        views: the page views.
        write: the output of TABLE.
    """
    with ssc.job(NAME):
        counts = views.map(one_view).reduceByKeyAndWindow(
            add, sub, LENGTH_SECONDS, SLIDE_SECONDS, name="counts", keyType=str, valueType=int
        )
        counts.mapPartitions(ranking_of).reduce(merged).flatMap(to_rows).foreachRDD(write, name="table")
