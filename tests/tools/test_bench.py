"""The bench: what ends a measurement, and what makes it count as exact. No figure is judged here."""

from pathlib import Path
from typing import Any

import pytest

from services.pipeline.jobs.campaign_windows import GRACE_MS, WINDOW_MS
from tools.bench.__main__ import command
from tools.bench.durability import CASES
from tools.bench.recovery import is_exact, measure

KILLED = ["2026-01-01 00:00:10", 3, 7]
BEHIND = ["2026-01-01 00:00:20", 3, 7]


@pytest.mark.parametrize(
    ("killed", "after", "expected"),
    [
        (KILLED, [KILLED, BEHIND], True),
        (KILLED, [["2026-01-01 00:00:00", 3, 6], KILLED, BEHIND], True),
        (KILLED, [[KILLED[0], 3, 6], [BEHIND[0], 3, 6]], False),
        (KILLED, [[KILLED[0], 3, 8], [BEHIND[0], 3, 8]], False),
        (KILLED, [KILLED, [BEHIND[0], 3, 8]], False),
        (KILLED, [KILLED, [BEHIND[0], 2, 7]], False),
        ([KILLED[0], 3, 6], [KILLED, BEHIND], False),
        (KILLED, [BEHIND], False),
        (KILLED, [], False),
    ],
    ids=[
        "all once",
        "with an older batch before it",
        "lost",
        "doubled",
        "doubled in the batch behind",
        "a key gone",
        "not in the batch that was killed",
        "never run again",
        "nothing seen",
    ],
)
def test_recovery_is_exact_when_all_that_was_dropped_counts_once(
    killed: list[Any], after: list[list[Any]], *, expected: bool
) -> None:
    """The batch that was killed, its next run and those behind it must have every key and the sum of what was dropped."""
    assert is_exact(killed, after, 3, 7) is expected


@pytest.mark.slow
def test_batch_with_records_is_killed_and_runs_again(tmp_path: Path) -> None:
    """The recovery of the engine is measured over a batch that has taken a file, and its records count once."""
    found = measure("engine", 1_000, 1, tmp_path)

    assert found.is_exact
    assert 0 < found.seconds < 60
    assert found.heap_bytes == 0


def test_durability_is_measured_over_closed_windows() -> None:
    """With the default number of events each load has batches, of a second, behind the end of the first window's grace."""
    events = next(
        option.default for option in command.commands["durability"].params if option.name == "events"
    )

    assert min(case.batches(events) for case in CASES) * 1_000 > WINDOW_MS + GRACE_MS
