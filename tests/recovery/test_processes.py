"""A worker dies and the driver lives, the driver dies and workers live, and two drivers meet in one folder."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.engine.children import runs, wait_until
from tests.recovery import app
from tests.recovery.truth import attempts, committed, differences
from tests.recovery.victims import Victims, error, reached, serving

pytestmark = pytest.mark.slow

END_SECONDS = 20.0
"""How long a worker may outlive its driver."""

FOURTH = 3 * app.RATE + 3
"""The offset of the fourth record that the fourth batch takes of a partition; the one before it is poison."""
BEFORE, DEADLY, BEHIND = (int(app.value_of(1, offset)) for offset in (FOURTH - 2, FOURTH, FOURTH + 1))
"""Numbers of a partition around the one at which a process is killed."""


def traced(folder: Path, setting: str) -> dict[str, str]:
    """What makes executors wait at a point and tell where they are."""
    return {"FAIL_POINT": setting, "FAIL_POINT_TRACE": str(folder / "trace")}


def point_of(folder: Path) -> str:
    """The point that a process reached last."""
    path = folder / "trace"
    return path.read_text().strip() if path.exists() else ""


def workers(folder: Path) -> list[int]:
    """The process ids of the executors."""
    driver = int((folder / "pid").read_text())
    return [child.pid for child in psutil.Process(driver).children()]


@pytest.mark.fault(13, "SIGKILL of one of two executors that has read its range, before it answers")
def test_a_worker_that_dies_in_a_batch_costs_one_more_run_of_it(victims: Victims, tmp_path: Path) -> None:
    """Its shards are restored and its batch runs once more, with the others before and behind it run once, and exact tables."""
    app.prepare(tmp_path)
    victims.begin(tmp_path, master="local[2]", environment=traced(tmp_path, "run=delay:0.04"))
    wait_until(
        lambda: committed(tmp_path) >= 3 and point_of(tmp_path) == "run", "a worker in the middle of a batch"
    )
    before = workers(tmp_path)
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: set(workers(tmp_path)) != set(before) and len(workers(tmp_path)) == 2, "a new worker")
    assert victims.end() == 0

    assert differences(tmp_path) == []
    runs_of = attempts(tmp_path)
    assert sorted(runs_of) == [0] * (app.BATCHES - 1) + [1]
    assert runs_of.index(1) >= 3


def seen(folder: Path) -> list[tuple[int, int]]:
    """(process, number) of each record, as decoder or function had it."""
    lines = (line.split() for line in (folder / "seen").read_text().splitlines())
    return [(int(pid), int(number)) for pid, number in lines]


@pytest.mark.fault(
    1, "SIGKILL by the decoder at the fourth of five records of a partition: the next is not decoded"
)
@pytest.mark.fault(
    3, "SIGKILL by the decoder or a map's function at the fourth of five records of a partition"
)
@pytest.mark.parametrize("in_map", [False, True], ids=["decoder", "map"])
def test_a_driver_that_dies_between_two_records_runs_the_same_ranges_again(
    victims: Victims, tmp_path: Path, in_map: bool
) -> None:
    """Killed at a record of a batch, with records before it read and those behind it not, its ranges run again and are exact."""
    app.prepare(tmp_path)
    assert victims.run(tmp_path, until=3) == 0
    assert victims.run(tmp_path, deadly=DEADLY, in_map=in_map) == -signal.SIGKILL
    numbers = [number for _, number in seen(tmp_path)]
    assert numbers[-1] == DEADLY
    assert BEFORE in numbers
    assert BEHIND not in numbers
    assert (committed(tmp_path), attempts(tmp_path)) == (3, [0] * 3)
    assert victims.run(tmp_path) == 0

    assert differences(tmp_path) == []
    assert attempts(tmp_path) == [0, 0, 0, 1, 0, 0, 0, 0, 0]


@pytest.mark.fault(
    13, "SIGKILL of an executor by its decoder or map's function, between two records of its range"
)
@pytest.mark.parametrize("in_map", [False, True], ids=["decoder", "map"])
def test_a_worker_that_dies_between_two_records_costs_one_more_run(
    victims: Victims, tmp_path: Path, in_map: bool
) -> None:
    """An executor killed at a record, with those behind it unread, is replaced in the same start, and its batch runs once more."""
    app.prepare(tmp_path)
    assert victims.run(tmp_path, until=3) == 0
    assert victims.run(tmp_path, master="local[2]", deadly=DEADLY, in_map=in_map) == 0
    died = int((tmp_path / "dead").read_text())
    numbers = [number for pid, number in seen(tmp_path) if pid == died]
    assert died != int((tmp_path / "pid").read_text())
    assert numbers[-1] == DEADLY
    assert BEFORE in numbers
    assert BEHIND not in numbers

    assert differences(tmp_path) == []
    assert attempts(tmp_path) == [0, 0, 0, 1, 0, 0, 0, 0, 0]


@pytest.mark.fault(13, "executors that die at a point in every run of a batch")
@pytest.mark.parametrize("point", ["reply", "in_sink", "in_restore"])
def test_workers_that_die_at_a_point_change_no_table(victims: Victims, tmp_path: Path, point: str) -> None:
    """Executors that die at a point as often as they get there end the start with an error, and the next one is exact."""
    app.prepare(tmp_path)
    assert victims.run(tmp_path, until=3) == 0
    environment = traced(tmp_path, f"{point}=crash")
    assert victims.run(tmp_path, master="local[2]", environment=environment) == 1
    assert "ExecutorLostError" in error(tmp_path)
    assert point_of(tmp_path) == point
    assert victims.run(tmp_path) == 0

    assert committed(tmp_path) == app.BATCHES
    assert differences(tmp_path) == []


@pytest.mark.fault(13, "executors that die in every snapshot, before, in and after the write of its file")
@pytest.mark.parametrize("point", ["in_snapshot", "before_rename", "after_rename"])
def test_workers_that_die_in_snapshots_cost_no_batch(victims: Victims, tmp_path: Path, point: str) -> None:
    """The batch before is committed and not run again, and the deltas make the same tables, in this start and in one without deaths."""
    app.prepare(tmp_path)
    environment = traced(tmp_path, f"{point}=crash")
    assert victims.run(tmp_path, master="local[2]", until=6, environment=environment) == 0
    assert point_of(tmp_path) == point
    # Of a worker that died a step earlier there is a temporary file at most.
    assert bool(list(tmp_path.rglob("*.snap"))) == (point == "after_rename")
    assert victims.run(tmp_path, master="local[2]") == 0

    assert attempts(tmp_path) == [0] * app.BATCHES
    assert differences(tmp_path) == []
    assert list(tmp_path.rglob("*.snap")) != []


@pytest.mark.fault(14, "SIGKILL of the driver alone while its executors are about to write rows")
def test_workers_end_with_their_driver_and_write_nothing_more(victims: Victims, tmp_path: Path) -> None:
    """Executors that are held up before a write end soon after their driver's death, and the rows stay as they were."""
    app.prepare(tmp_path)
    assert victims.run(tmp_path, until=3) == 0
    tables = ("totals", "windows", "history", "sessions", "ledger")
    before = [app.rows(tmp_path, table) for table in tables]
    victims.begin(tmp_path, master="local[2]", environment=traced(tmp_path, "in_sink=delay:60"))
    wait_until(lambda: point_of(tmp_path) == "in_sink", "a worker before its write")
    family = workers(tmp_path)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    died = time.monotonic()
    assert victims.end() == -signal.SIGKILL
    wait_until(lambda: not any(map(runs, family)), "the workers gone")
    assert len(family) == 2
    assert time.monotonic() - died < END_SECONDS

    assert [app.rows(tmp_path, table) for table in tables] == before
    assert victims.run(tmp_path) == 0
    assert differences(tmp_path) == []


@pytest.mark.fault(17, "a second process while the first one holds a batch before its commit")
def test_a_second_process_is_refused_and_the_first_goes_on(victims: Victims, tmp_path: Path) -> None:
    """A start in a folder that is in use ends with an error that says so, writes nothing, and the first process ends exactly."""
    app.prepare(tmp_path)
    with serving() as others:
        others.begin(tmp_path, point="before_commit", kind="delay:60", after=3)
        wait_until(lambda: bool(reached(tmp_path)), "the first process before its commit")
        first = int((tmp_path / "pid").read_text())
        before = [app.rows(tmp_path, table) for table in ("totals", "windows", "ledger")]
        assert victims.run(tmp_path) == 1
        assert "ConcurrentRunError" in error(tmp_path)
        assert [app.rows(tmp_path, table) for table in ("totals", "windows", "ledger")] == before
        os.kill(first, signal.SIGKILL)
        assert others.end() == -signal.SIGKILL
    assert victims.run(tmp_path) == 0

    assert differences(tmp_path) == []
