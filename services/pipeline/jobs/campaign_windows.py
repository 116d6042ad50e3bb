"""Views of each campaign in fixed windows of ten seconds of event time: the Yahoo streaming benchmark's query.

Views are joined with the side table of ads, counted by (campaign, window) and added to the state, as are their numbers, so that
verify can tell which were counted. A window's key is dropped when the watermark has passed its end by the grace; from then on a record
of it is late, and the input has put it aside.

Owns: AdEvent, EVENT_TIME, build, rows of `campaign_windows`.
"""

from operator import add, attrgetter
from typing import Any

import msgspec

from engine import StreamingContext
from engine.batch import Time
from engine.dstream.dstream import DStream
from engine.dstream.run import watermark
from engine.sinks.api import Table
from engine.sources.direct import EventTime
from services.pipeline.campaigns import campaigns
from services.pipeline.records import VIEW, EventTimeMs, Seq, counted

NAME = "campaign_windows"
STREAM = "ad-events"
TABLE = Table(
    NAME, columns=("campaign_id", "window_start", "views", "seq_sum"), key=("campaign_id", "window_start")
)
WINDOW_MS = 10_000
GRACE_MS = 60_000


class AdEvent(msgspec.Struct, frozen=True, gc=False):
    """The fields of an ad event that the job needs; the others are skipped while decoding."""

    ad_id: str
    event_type: str
    event_time: EventTimeMs
    seq: Seq = 0


EVENT_TIME = EventTime(of=attrgetter("event_time"), window=WINDOW_MS / 1_000, grace=GRACE_MS / 1_000)

Key = tuple[str, int]
"""(campaign, start of the window in milliseconds since the epoch)."""
Tally = tuple[int, int, bool]
"""(views, sum of their events' seq, whether this batch added some)."""

_CAMPAIGNS = campaigns()


def is_known_view(event: AdEvent) -> bool:
    """Whether the event is a view of an ad of the side table."""
    return event.event_type == "view" and event.ad_id in _CAMPAIGNS


def by_window(event: AdEvent) -> tuple[Key, int]:
    """One view of (campaign, window), by its number."""
    time = event.event_time
    return (_CAMPAIGNS[event.ad_id], time - time % WINDOW_MS), VIEW + event.seq


def tally(_time: Time, key: Key, views: list[int], state: Tally | None) -> Tally | None:
    """Add the batch's views to the window, and drop it when it is closed."""
    mark = watermark(STREAM)
    if mark is not None and key[1] + WINDOW_MS + GRACE_MS <= mark:
        return None
    return *counted(views, *(state[:2] if state else (0, 0))), bool(views)


def is_fresh(window: tuple[Key, Tally]) -> bool:
    """Whether this batch added views."""
    return window[1][2]


def to_row(window: tuple[Key, Tally]) -> tuple[Any, ...]:
    """A row of the table."""
    (campaign, start), (views, seq_sum, _) = window
    return campaign, start, views, seq_sum


def build(ssc: StreamingContext, events: DStream[AdEvent], write: Any) -> None:
    """Add the job to the context.

    Args:
        ssc: the context.
        events: the ad events.
        write: the output of TABLE.
    """
    with ssc.job(NAME):
        views = events.filter(is_known_view).map(by_window).reduceByKey(add)
        windows = views.updateStateByKey(tally, name="windows", keyType=Key, stateType=Tally)
        windows.filter(is_fresh).map(to_row).foreachRDD(write, name="table")
