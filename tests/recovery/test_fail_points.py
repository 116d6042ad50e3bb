"""The process is killed, fails or is slow at every named place between two steps: every table is exact in the end."""

import signal
from pathlib import Path

import pytest

from engine.failpoints import FAIL_POINTS
from tests.recovery import app
from tests.recovery.truth import attempts, committed, differences
from tests.recovery.victims import Victims, error, reached

pytestmark = pytest.mark.slow

STARTS = ("new_segment", "recover", "restore", "in_restore")
"""Points on the way to the first batch."""
BLOCKS = ("before_block", "after_block")
"""Points of receivers, which this application has none of: tests/engine/sources/test_kills.py has them, with all three kinds."""
BATCHES = tuple(point for point in FAIL_POINTS if point not in {*STARTS, *BLOCKS})
BEGUN = BATCHES[BATCHES.index("in_append") : BATCHES.index("after_commit")]
"""Points between the begin record of a batch and its commit record: what dies here runs again."""
LATER = BATCHES[BATCHES.index("before_snapshot") :]
"""Points between batches, which not every batch comes to."""
ROTATION = ("new_segment", "in_append")
"""Points of a segment that ends between two batches: its successor has no durable name, then no durable first frame."""


@pytest.mark.fault(1, "fail point plan: the ranges are chosen, no record is read")
@pytest.mark.fault(2, "fail point after_begin")
@pytest.mark.fault(3, "fail points before_state, run (a range is read to its end), reply, after_state")
@pytest.mark.fault(4, "fail point in_sink, of the second of several tables and partitions")
@pytest.mark.fault(5, "fail points after_ledger and before_commit")
@pytest.mark.fault(6, "fail point before_rename")
@pytest.mark.fault(9, "fail points in_snapshot, before_rename, after_rename, after_snapshot")
@pytest.mark.fault(10, "fail point in_purge, with a file removed and others not")
@pytest.mark.parametrize("point", BATCHES)
def test_a_kill_at_any_point_changes_no_table(victims: Victims, tmp_path: Path, point: str) -> None:
    """Killed in the first batch, on a slide and after it, every table is exact, and only a batch that had begun runs twice."""
    app.prepare(tmp_path)
    for after in (0, 3) if point in LATER else (0, 3, 4):
        assert victims.run(tmp_path, point=point, after=after) == -signal.SIGKILL
        assert reached(tmp_path) == [point]
    before = committed(tmp_path)
    assert victims.run(tmp_path) == 0

    assert before < app.BATCHES == committed(tmp_path)
    assert differences(tmp_path) == []
    if point not in LATER:
        again = [1 if point in BEGUN else 0] * 2
        assert [attempts(tmp_path)[batch] for batch in (0, 3)] == again


@pytest.mark.parametrize("kind", ["crash", "raise"])
@pytest.mark.parametrize("point", [*ROTATION, *LATER])
def test_an_end_where_the_journal_begins_a_segment_changes_no_table(
    victims: Victims, tmp_path: Path, point: str, kind: str
) -> None:
    """With a new segment after every batch, killed or failed on its way there and behind it, every table is exact, and no batch runs twice."""
    app.prepare(tmp_path)
    behind = "new_segment" if point == "in_append" else ""
    for after in (0, 3):
        code = victims.run(tmp_path, point=point, kind=kind, behind=behind, after=after, segment_bytes=1)
        assert code == (-signal.SIGKILL if kind == "crash" else 1)
        assert reached(tmp_path)[:1] == [point]
    newest = max(tmp_path.glob("checkpoints/*/journal/*.log"))
    assert not newest.stem.endswith("-000000")
    before = committed(tmp_path)
    assert victims.run(tmp_path, segment_bytes=1) == 0

    assert before < app.BATCHES == committed(tmp_path)
    assert differences(tmp_path) == []
    assert set(attempts(tmp_path)) == {0}


@pytest.mark.parametrize("point", BATCHES)
def test_an_error_at_any_point_stops_the_engine_and_changes_no_table(
    victims: Victims, tmp_path: Path, point: str
) -> None:
    """An error at a point ends the process with that error, and the next start goes on from there with exact tables."""
    app.prepare(tmp_path)
    assert victims.run(tmp_path, point=point, kind="raise", after=3) == 1
    assert reached(tmp_path)[:1] == [point]
    assert f"fail point {point}" in error(tmp_path)
    before = committed(tmp_path)
    assert victims.run(tmp_path) == 0

    assert before < app.BATCHES == committed(tmp_path)
    assert differences(tmp_path) == []


def test_a_pause_at_every_point_changes_no_table(victims: Victims, tmp_path: Path) -> None:
    """An engine that is held up at every point, every time it gets there, writes the same tables, in one run of each batch."""
    app.prepare(tmp_path)
    assert victims.run(tmp_path, until=4) == 0
    points = {*STARTS, *BATCHES}
    how = {"kind": "delay:0.002", "at_start": True, "segment_bytes": 1}
    assert victims.run(tmp_path, point=",".join(points), **how) == 0
    assert set(reached(tmp_path)) == points
    assert reached(tmp_path).count("new_segment") > 1

    assert differences(tmp_path) == []
    assert set(attempts(tmp_path)) == {0}


@pytest.mark.fault(11, "five starts after each other killed on their way to the first commit")
@pytest.mark.parametrize("point", [*STARTS, "before_begin", "in_append", "run", "in_sink", "before_commit"])
def test_a_recovery_that_is_killed_again_and_again_can_be_repeated(
    victims: Victims, tmp_path: Path, point: str
) -> None:
    """A batch is left begun; five recoveries die on their way to its commit, and the sixth leaves exact tables."""
    app.prepare(tmp_path)
    assert victims.run(tmp_path, point="before_commit", after=4) == -signal.SIGKILL
    for _ in range(5):
        assert victims.run(tmp_path, point=point, at_start=True) == -signal.SIGKILL
        assert reached(tmp_path) == [point]
    assert victims.run(tmp_path) == 0

    assert differences(tmp_path) == []
    runs = 6 if point in {"run", "in_sink", "before_commit"} else 1
    assert attempts(tmp_path)[4] == runs


@pytest.mark.parametrize("point", STARTS)
def test_an_error_of_a_start_changes_no_table(victims: Victims, tmp_path: Path, point: str) -> None:
    """An error on the way to the first batch ends the start with that error, and the next start goes on with exact tables."""
    app.prepare(tmp_path)
    assert victims.run(tmp_path, until=4) == 0
    assert victims.run(tmp_path, point=point, kind="raise", at_start=True) == 1
    assert reached(tmp_path) == [point]
    assert f"fail point {point}" in error(tmp_path)
    assert committed(tmp_path) == 4
    assert victims.run(tmp_path) == 0

    assert committed(tmp_path) == app.BATCHES
    assert differences(tmp_path) == []


def test_a_victim_that_is_never_killed_fills_the_same_tables(victims: Victims, tmp_path: Path) -> None:
    """Without a kill the tables are those that the other tests expect, and no batch has a second attempt."""
    app.prepare(tmp_path)
    assert victims.run(tmp_path) == 0

    assert differences(tmp_path) == []
    assert set(attempts(tmp_path)) == {0}
