"""Every panel of every board against a Prometheus that watches the running pipeline."""

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from grafana.board import LABELS
from grafana.expressions import ANNOTATIONS
from services.settings import REPOSITORY, base_environment
from tests.grafana.boards_world import Panel
from tests.grafana.live_world import SETTLED_SECONDS, Watched, empty_queries, panels
from tests.tools.stack_world import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.servers, pytest.mark.timeout(300)]


def poison(watched: Watched, topic: str) -> subprocess.CompletedProcess[str]:
    """A record that does not decode, as somebody would send it."""
    return subprocess.run(
        [sys.executable, "-m", "services.producer.poison", "--topic", topic, "--partition", "0"],
        cwd=REPOSITORY,
        env={**base_environment(), **watched.stack.settings.environment()},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_no_panel_is_empty(watched: Watched, figures: Callable[[str], None]) -> None:
    """While the pipeline runs, with a poisoned record in each topic, every query of every panel has data, and every legend its labels."""
    for topic in ("ad-events", "page-views"):
        poisoned = poison(watched, topic)
        assert poisoned.returncode == 0, poisoned.stderr
    began = time.monotonic()
    empty = ["not asked yet"]

    def is_full() -> bool:
        empty[:] = empty_queries(watched)
        return not empty

    try:
        wait_until(is_full, SETTLED_SECONDS)
    finally:
        all_panels = [panel for panel, _ in panels()]
        places = {line.partition(" ")[0] for line in empty}
        figures(
            f"panels: {len(all_panels)}, queries: {sum(len(panel.targets) for panel in all_panels)}, "
            f"empty: {len(empty)} after {time.monotonic() - began:.0f} s {' '.join(sorted(places))}"
        )
        for line in empty:
            figures(f"  empty: {line}")


def test_no_panel_is_empty_for_one_job_and_one_topic(watched: Watched) -> None:
    """With one value chosen in every variable no panel loses its data."""
    assert empty_queries(watched, {"job": "campaign_windows", "topic": "ad-events", "partition": "0"}) == []


def test_empty_query_is_found(watched: Watched) -> None:
    """A query of what nobody exports counts as empty, and so does a legend with a label that no series has."""
    panel, board = next((panel, board) for panel, board in panels() if panel.facts["type"] == "timeseries")
    silent = {**panel.targets[0], "expr": "engine_speed"}
    nameless = {**panel.targets[0], "expr": "up", "legendFormat": "{{color}}"}
    changed = Panel("mutant.json", {**panel.facts, "targets": [silent, nameless]})

    first, second = empty_queries(watched, asked=[(changed, board)])

    assert "engine_speed" in first
    assert second.endswith("no series has the label 'color'")


def test_variables_have_values(watched: Watched) -> None:
    """Every variable finds the values of its label in Prometheus."""
    found = {}
    for name, query in LABELS.items():
        metric = query.removeprefix("label_values(").partition("{")[0].partition(",")[0]
        found[name] = watched.ask(f"label/{name}/values", **{"match[]": metric})

    assert {"campaign_windows", "page_totals", "trending_pages"} <= set(found["job"])
    assert found["topic"] == ["ad-events", "page-views"]
    assert found["partition"] == ["0", "1", "2", "3"]


def test_annotations_can_be_asked(watched: Watched) -> None:
    """Prometheus evaluates every annotation, and the start of the engine is one whose value is a time in milliseconds."""
    found = {name: watched.now(str(facts["expr"])) for name, facts in ANNOTATIONS.items()}

    (started,) = (value for values in found["Engine start"].values() for value in values.values())
    assert abs(time.time() * 1_000 - started) < 3_600_000
