"""The soak and the counter-demos: a short soak is exact, each wrong engine breaks the rows that were foretold, a right one does not."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.settings import REPOSITORY, base_environment
from tests.tools.stack_world import embedded
from tools.chaos.showing import DEMOS, show
from tools.stack.api import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_short_soak_is_exact(tmp_path: Path, figures: Callable[[str], None]) -> None:
    """MINUTES makes a soak: faults picked by the seed, every proof exact, the memory measured, the report kept as JSON."""
    settings = embedded(tmp_path, ad_rate=400, page_rate=200, batch_seconds=0.25)
    variables = {**settings.environment(), "MINUTES": "0.2", "SEED": "4"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tools.chaos", "--up"],
            cwd=REPOSITORY,
            env={**base_environment(), **variables},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
    finally:
        Stack(settings).down()
    for line in done.stdout.splitlines():
        figures(f"soak: {line}")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((settings.data_dir / "drills" / "soak.json").read_text())
    assert (report["is_exact"], report["mismatches"], report["memory"]["is_flat"]) == (True, 0, True)
    assert report["seconds"] >= 12
    assert report["events"] > 0
    assert all(run["line"] for fault in report["faults"] for run in fault["runs"])
    assert min(size for _, _, size, _ in report["memory"]["samples"]) > 20 << 20
    assert report["memory"]["life_seconds"] >= 4


@pytest.mark.parametrize("name", DEMOS)
def test_wrong_engine_breaks_the_rows_that_were_foretold(name: str) -> None:
    """A demo shows wrong rows of its table, says why, and ends with 0 because it broke as foretold."""
    lines: list[str] = []

    assert show(name, lines.append) == 0

    said = "\n".join(lines)
    assert f"broken as foretold, in {DEMOS[name].broken}" in lines
    assert "    wrong    " in said
    assert DEMOS[name].why in " ".join(lines)
    assert lines[-1].startswith("verify: windows=")
    assert max(map(len, lines[1:])) <= 80


def test_right_engine_is_no_demo() -> None:
    """The pipeline's own engine, shown in the place of a wrong one, breaks nothing, so the demo ends with 1 and says so."""
    lines: list[str] = []

    assert show("counters", lines.append, engine=(sys.executable, "-m", "services.pipeline.main")) == 1

    assert lines[-2] == (
        "NOT as foretold: page_totals should be broken, and campaign_windows, trending_pages and the ledger whole"
    )
    assert "missing=0 over=0 wrong=0" in lines[-1]
