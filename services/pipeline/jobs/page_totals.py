"""How often each page was viewed since the beginning, and the sum of the views' numbers: updateStateByKey.

Owns: build, rows of `page_totals`.
"""

from operator import add
from typing import Any

from engine import StreamingContext
from engine.dstream.dstream import DStream
from engine.sinks.api import Table
from services.pipeline.records import VIEW, PageView, counted

NAME = "page_totals"
TABLE = Table(NAME, columns=("page", "views", "seq_sum"), key=("page",))

Total = tuple[int, int, bool]
"""(views, sum of their events' seq, whether this batch added some)."""


def one_view(view: PageView) -> tuple[str, int]:
    """One view of a page, by its number."""
    return view.page, VIEW + view.seq


def total(views: list[int], state: Total | None) -> Total:
    """Add the batch's views."""
    return *counted(views, *(state[:2] if state else (0, 0))), bool(views)


def is_fresh(page: tuple[str, Total]) -> bool:
    """Whether this batch added views."""
    return page[1][2]


def to_row(page: tuple[str, Total]) -> tuple[Any, ...]:
    """A row of the table."""
    name, (views, seq_sum, _) = page
    return name, views, seq_sum


def build(ssc: StreamingContext, views: DStream[PageView], write: Any) -> None:
    """Add the job to the context.

    Args:
        ssc: the context.
        views: the page views.
        write: the output of TABLE.
    """
    with ssc.job(NAME):
        totals = (
            views.map(one_view)
            .reduceByKey(add)
            .updateStateByKey(total, name="totals", keyType=str, stateType=Total)
        )
        totals.filter(is_fresh).map(to_row).foreachRDD(write, name="table")
