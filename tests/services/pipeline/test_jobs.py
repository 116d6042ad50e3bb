"""The pipeline's jobs, batch by batch on lists."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine import LocalContext, ManualClock, StreamingContext
from engine.dstream.dstream import DStream
from services.pipeline.campaigns import campaigns
from services.pipeline.jobs import campaign_windows, page_totals, trending_pages
from services.pipeline.jobs.campaign_windows import AdEvent
from services.pipeline.main import JOBS
from services.pipeline.records import PageView
from services.settings import JOB_NAMES

Build = Callable[[StreamingContext, DStream[Any], Any], None]
START_MS = 1_000_000
LAST = 2**63 - 1
"""The largest number that an event may have."""


def rows_of(build: Build, batches: Sequence[Sequence[Any]], folder: Path) -> list[list[Any]]:
    """The rows that a job writes in each batch that writes any."""
    written: list[list[Any]] = []
    with LocalContext("local", "jobs") as context:
        clock = ManualClock(START_MS)
        ssc = StreamingContext(context, 1, clock=clock)
        ssc.checkpoint(folder)
        build(
            ssc,
            ssc.queueStream([list(batch) for batch in batches]),
            lambda rdd: written.append(sorted(rdd.collect())),
        )
        ssc.start(thread=False)
        for _ in batches:
            clock.advance(1_000)
            ssc.runBatch()
        ssc.stop(stopSparkContext=False)
    return written


def view(ad: int, event_time: int, kind: str = "view", seq: int = 0) -> AdEvent:
    """An ad event."""
    return AdEvent(f"ad-{ad:04d}", kind, event_time, seq)


def test_campaign_windows_counts_views_of_known_ads_by_event_time(tmp_path: Path) -> None:
    """Views are counted in their campaign's window; clicks and ads outside of the side table are not."""
    batch = [view(0, 9_999), view(9, 1), view(10, 5), view(0, 10_000), view(0, 3, "click"), view(9_999, 3)]

    written = rows_of(campaign_windows.build, [batch], tmp_path)

    assert written == [[("campaign-00", 0, 2, 0), ("campaign-00", 10_000, 1, 0), ("campaign-01", 0, 1, 0)]]


def test_campaign_windows_writes_running_totals_of_touched_windows_only(tmp_path: Path) -> None:
    """A later batch writes the whole count and sum of the windows that it adds to, and no others."""
    written = rows_of(
        campaign_windows.build, [[view(0, 1, seq=7), view(10, 1, seq=8)], [view(0, 2, seq=9)], []], tmp_path
    )

    assert written == [[("campaign-00", 0, 1, 7), ("campaign-01", 0, 1, 8)], [("campaign-00", 0, 2, 16)], []]


def test_page_totals_writes_running_totals_of_touched_pages_only(tmp_path: Path) -> None:
    """A page's row is its count since the beginning and its sum modulo 2^63, written when the batch adds to it."""
    batches = [[PageView("/a", 1, 5), PageView("/a", 2, 6), PageView("/b", 3)], [PageView("/a", 4, LAST)], []]

    written = rows_of(page_totals.build, batches, tmp_path)

    assert written == [[("/a", 2, 11), ("/b", 1, 0)], [("/a", 3, 10)], []]


def test_trending_pages_ranks_three_seconds_every_two(tmp_path: Path) -> None:
    """At every second batch the pages of the last three are ranked, ties by name."""
    batches = [[PageView(page, 1) for page in pages] for pages in ("ab", "b", "c", "cc", "")]

    written = rows_of(trending_pages.build, batches, tmp_path)

    assert written == [
        [(START_MS + 2_000, 1, "b", 2), (START_MS + 2_000, 2, "a", 1)],
        [(START_MS + 4_000, 1, "c", 3), (START_MS + 4_000, 2, "b", 1)],
    ]


def test_trending_pages_keeps_the_first_ten(tmp_path: Path) -> None:
    """Of twelve pages with equal views the first ten by name have a row."""
    pages = [PageView(f"/{number:02d}", 1) for number in range(12)]

    written = rows_of(trending_pages.build, [[], pages], tmp_path)

    assert [row[2] for row in written[0]] == [f"/{number:02d}" for number in range(10)]


def test_every_job_of_the_settings_has_a_builder() -> None:
    """The names that JOBS accepts are those that the composition root can build."""
    assert set(JOBS) == set(JOB_NAMES)


def test_side_table_gives_ten_ads_to_each_campaign() -> None:
    """A thousand ads belong to a hundred campaigns, ten each."""
    owners = list(campaigns().values())

    assert len(owners) == 1_000
    assert {owners.count(campaign) for campaign in owners} == {10}
