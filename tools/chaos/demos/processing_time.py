"""Windows by the time at which an event was processed, in the place of the time at which it happened.

Owns: PARTS.
"""

from collections.abc import Mapping
from operator import add
from typing import Any

from engine import StreamingContext
from engine.dstream.dstream import DStream
from engine.dstream.run import batch_time
from services.pipeline import main
from services.pipeline.campaigns import campaigns
from services.pipeline.jobs import campaign_windows
from services.pipeline.jobs.campaign_windows import WINDOW_MS, AdEvent, Key, Tally
from services.pipeline.records import VIEW

_CAMPAIGNS = campaigns()


def by_arrival(event: AdEvent) -> tuple[Key, int]:
    """One view of (campaign, the window in which it was processed), by its number."""
    now = int(batch_time())
    return (_CAMPAIGNS[event.ad_id], now - now % WINDOW_MS), VIEW + event.seq


def build(ssc: StreamingContext, events: DStream[AdEvent], write: Any) -> None:
    """The job as it is, but for the window's time."""
    with ssc.job(campaign_windows.NAME):
        views = events.filter(campaign_windows.is_known_view).map(by_arrival).reduceByKey(add)
        windows = views.updateStateByKey(campaign_windows.tally, name="windows", keyType=Key, stateType=Tally)
        rows = windows.filter(campaign_windows.is_fresh).map(campaign_windows.to_row)
        rows.foreachRDD(write, name="table")


_TOPIC, _, _TABLE = main.JOBS[campaign_windows.NAME]
PARTS: Mapping[str, object] = {"JOBS": {**main.JOBS, campaign_windows.NAME: (_TOPIC, build, _TABLE)}}
