"""The streaming page of the reference pipeline on the embedded stack, in Chromium; it sits for the documents' pictures."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.settings import Settings
from tests.browser.conftest import Open
from tests.browser.look import Look
from tests.ports import free_port
from tools.stack.api import Stack

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

DESK = {"viewport": {"width": 1_080, "height": 1_340}}
PHONE = {
    "viewport": {"width": 360, "height": 740},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
SLOW = {"FAIL_POINT": "before_commit=delay:2.2"}
"""A disk that takes two intervals for each commit."""
COMPLETED = """count =>
  Number(/(\\d+) completed/.exec(document.getElementById('timelines-note').textContent)[1]) >= count"""
"""Whether the engine has completed so many batches."""
TOO_LONG = """count => document.querySelectorAll("#completed [data-tone=bad]").length >= count"""
"""Whether so many of the listed batches took longer than their interval."""
LAG = """() => /batches' worth\\nup to ([2-9]|\\d\\d)[.\\d]* s old/.test(document.getElementById("tiles").innerText)"""
"""Whether the lag is called more than a batch takes, and old."""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Producers and an engine with the three jobs, as processes."""
    settings = Settings(
        stack="embedded",
        data_dir=tmp_path_factory.mktemp("pipeline") / "stack",
        metrics_port=free_port(),
        producer_metrics_port=free_port(),
    )
    stack = Stack(settings, is_tied=True)
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


def address(pipeline: Stack) -> str:
    """Of the page."""
    return f"http://127.0.0.1:{pipeline.settings.metrics_port}"


def show(seen: Look, selector: str) -> None:
    """Scroll until a heading is at the top."""
    seen.page.eval_on_selector(
        selector, "one => window.scrollTo(0, one.getBoundingClientRect().top + scrollY - 20)"
    )


def test_page_shows_three_jobs_their_state_and_lag(
    pipeline: Stack, look: Open, screenshots: Path | None
) -> None:
    """Both inputs have their own timelines, the graph has the three jobs, each with its keys, and each partition its lag."""
    seen = look(address(pipeline), **DESK)
    if screenshots:
        # The picture is of an engine that has been at work for a while, its first cold batches out of sight.
        seen.page.check("input[name=span][value='120']", force=True)
        seen.wait(COMPLETED, 130, seconds=200)
    seen.wait_for_batches(8)
    told = {row["name"]: row for row in seen.ask("/api/v1/state")["operators"]}

    assert seen.texts(".timeline.sub h3") == ["ad-events", "page-views"]
    assert seen.texts("#state tbody td:nth-child(1)") == ["campaign_windows", "trending_pages", "page_totals"]
    assert set(told) == {"campaign_windows.windows", "trending_pages.counts", "page_totals.totals"}
    assert seen.page.eval_on_selector_all("#graph .job text", "all => all.map(one => one.textContent)") == [
        "campaign_windows",
        "trending_pages",
        "page_totals",
    ]
    assert seen.texts("#partitions tbody td:nth-child(1)") == ["ad-events"] * 4 + ["page-views"] * 2
    assert len(seen.texts("#executors tbody tr")) == 2
    seen.wait("() => /\\d+ %/.test(document.querySelector('#executors tbody td:nth-child(3)').innerText)")
    seen.wait("() => /one batch's worth,\\nas is normal/.test(document.getElementById('tiles').innerText)")
    seen.shoot(screenshots, "normal")
    show(seen, "#graph-title")
    seen.shoot(screenshots, "graph")


def test_page_is_whole_in_the_dark_and_on_a_phone(
    pipeline: Stack, look: Open, screenshots: Path | None
) -> None:
    """The same page in a dark scheme and on a phone has its charts, and the phone's graph stands upright and fits."""
    dark = look(address(pipeline), color_scheme="dark", **DESK)
    phone = look(address(pipeline), **PHONE)
    for seen in (dark, phone):
        seen.wait_for_batches(8)
        seen.wait("() => document.querySelectorAll('#graph .node').length >= 14")
        assert seen.coloured("processingTime", "--accent") > 20
        assert not seen.is_wider_than_the_window()
    picture = phone.page.locator("#graph svg").bounding_box()

    assert picture is not None
    assert picture["height"] > picture["width"]
    assert picture["width"] <= 340
    dark.shoot(screenshots, "dark")
    phone.shoot(screenshots, "phone")


def test_page_of_a_batch_has_every_partition_and_output(
    pipeline: Stack, look: Open, screenshots: Path | None
) -> None:
    """A batch in which all three outputs ran shows them with their rows, and the six partitions that it read."""
    seen = look(address(pipeline), **DESK)
    seen.wait("() => document.querySelectorAll('#completed tbody tr').length >= 4")
    whole = next(row for row in seen.ask("/api/v1/batches?status=completed") if row["numTotalOutputOps"] == 3)

    seen.page.click(f"#completed a[href='batches/{whole['batchTime']}']")
    seen.wait("() => document.querySelectorAll('#batch .stages li').length === 9")

    assert seen.texts("#batch table[aria-label^='Outputs'] tbody td:nth-child(1)") == [
        "campaign_windows",
        "trending_pages",
        "page_totals",
    ]
    assert len(seen.texts("#batch table[aria-label^='Ranges'] tbody tr")) == 6
    seen.shoot(screenshots, "batch", whole=True)


def test_overload_and_kill_are_seen_as_they_happen(
    pipeline: Stack, look: Open, screenshots: Path | None
) -> None:
    """A page that is left alone shows a healthy engine, the one after its death, one that is too slow, and waiting batches."""
    seen = look(address(pipeline), **DESK)
    seen.wait_for_batches(8)
    seen.page.check("input[name=span][value='120']", force=True)

    pipeline.kill("engine")
    seen.wait("() => /epoch [2-9]/.test(document.body.innerText)")
    seen.wait("() => document.getElementById('phase').textContent === 'running'")
    before = seen.ask("/api/v1/statistics")["numTotalCompletedBatches"]
    seen.wait(COMPLETED, before + (12 if screenshots else 3))
    assert seen.coloured("totalDelay", "--ink-2") > 5  # the mark of the restart
    seen.wait("() => document.getElementById('restart').innerText.includes('; caught up at ')")
    assert re.search(
        r", \d+ s after the last committed batch \(.*\), [\d,]+ keys restored in ", seen.text("#restart")
    )
    late = look(address(pipeline), **DESK)  # opened after the restart, it knows of it from the engine
    late.wait_for_batches(3)
    assert late.text("#restart") == seen.text("#restart")
    assert late.coloured("totalDelay", "--ink-2") > 5
    seen.shoot(screenshots, "after-kill")

    slow(pipeline)
    seen.wait("() => document.getElementById('phase').textContent === 'running'")
    seen.wait("() => document.querySelector('[data-key=processingTime]').classList.contains('over')")
    seen.wait("() => document.querySelectorAll('#waiting tbody tr').length >= 2")
    seen.wait(TOO_LONG, 8)
    # A batch takes all that its plan sees; what came while it ran waits, and more than an interval makes.
    seen.wait(LAG)

    assert seen.coloured("lag", "--accent") > 20
    assert seen.coloured("processingTime", "--bad") > 40
    seen.shoot(screenshots, "overloaded")


def slow(pipeline: Stack) -> None:
    """Put an engine with a slow disk in the place of the one that runs."""
    pipeline.down()
    pipeline.up(["producer"])
    pipeline.start("engine", SLOW)
