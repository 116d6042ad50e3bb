"""Wall clocks that jump, in a process and between two: times, timestamps and delays."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, StreamingContext
from engine.batch import Batch, Time
from engine.dstream.dstream import DStream
from engine.errors import CheckpointError, UserFunctionError
from tests.engine.app import START_MS, App, CrashError
from tests.engine.monitoring.metered import TOPIC, Metered, value_of

HOUR_MS = 3_600_000


def ledger(app: Metered) -> list[tuple[int, int]]:
    """(batch time, write timestamp) of each batch, by time."""
    with closing(sqlite3.connect(app.store.path)) as connection:
        return sorted(connection.execute("SELECT batch, _written FROM ledger"))


def totals(app: Metered) -> list[tuple[str, int]]:
    """The rows of the job."""
    with closing(sqlite3.connect(app.store.path)) as connection:
        return sorted(connection.execute("SELECT page, views FROM page_totals WHERE _deleted = 0"))


@pytest.mark.fault(27, "an injected wall clock set an hour on or back, and back again")
@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS])
def test_wall_clock_that_jumps_changes_no_row(tmp_path: Path, jump_ms: int) -> None:
    """Each batch has a later time and a newer timestamp than the one before it, delays are never below 0, and counts are exact."""
    newest: list[tuple[int, int]] = []
    with LocalContext("local", "test") as context, Metered(context, tmp_path) as app:
        for step in range(9):
            app.write(0, (0, value_of("a", 0)))
            if step in {3, 6}:
                before = app.clock.wall_ms()
                app.clock.jump(jump_ms if step == 3 else -jump_ms)
                assert abs(app.clock.wall_ms() - before) == HOUR_MS
            app.run()
            newest.append(ledger(app)[-1])
            assert totals(app) == [("a", step + 1)]

        assert newest == sorted(set(newest)) == ledger(app)
        assert [at * 1_000 for at, _ in newest] == [stamp for _, stamp in newest]
        for name in ("scheduling_delay", "processing", "total_delay"):
            count, total = app.histogram(f"engine_{name}_seconds")
            assert count == 9
            assert 0 <= total < 60
        assert app.value("engine_records_total", topic=TOPIC) == 9


@pytest.mark.fault(27, "a start with a wall clock that is an hour behind the last one")
@pytest.mark.parametrize("pending", [False, True])
def test_restart_with_an_earlier_clock_goes_on_after_the_last_batch(tmp_path: Path, pending: bool) -> None:
    """A start whose wall clock is an hour behind the folder and the tables goes on one interval after them, and its rows win."""
    crashes: list[str] = []

    def in_output() -> None:
        if crashes:
            raise CrashError(crashes.pop())

    with LocalContext("local", "test") as context, Metered(context, tmp_path, in_output) as app:
        app.write(0, (0, value_of("a", 0)))
        app.run(3)
        last = ledger(app)[-1][0]
        app.write(0, (0, value_of("a", 0)))
        if pending:
            crashes.append("before its rows")
            with pytest.raises(UserFunctionError, match="before its rows"):
                app.run()
        app.clock.jump(-HOUR_MS)
        assert app.clock.wall_ms() < last
        app.restart().run(2)

        assert totals(app) == [("a", 2)]
        times = [at for at, _ in ledger(app)]
        assert times[-2 - pending :] == [last + 1_000 * n for n in range(1, 3 + pending)]
        assert [stamp for _, stamp in ledger(app)] == sorted({stamp for _, stamp in ledger(app)})


@pytest.mark.parametrize(("attempt", "is_refused"), [(999_998, False), (999_999, True)])
def test_attempt_that_would_reach_the_next_batch_is_refused(
    tmp_path: Path, attempt: int, is_refused: bool
) -> None:
    """Of a batch of a second the millionth attempt is refused by number and batch; the last one before it wins over all others."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream, "all")

    with LocalContext("local", "test") as context, App(context, tmp_path, job, [[1], [2]]) as app:
        app.run()
        (queue,), time = app.ssc.graph.inputs, Time(START_MS + 2_000)
        app.ssc._checkpoint.begin(Batch(time, {"queue": queue.plan(time)}, attempt))
        app.ssc.stop(stopSparkContext=False)
        if is_refused:
            with pytest.raises(CheckpointError, match=f"batch {int(time)} was begun 1000000 times and never"):
                app.start()
        else:
            app.start()
            commit = app.ssc._checkpoint.last_commit
            assert commit is not None
            assert commit.batch.batch().write_timestamp == time * 1_000 + 999_999

    assert app.out["all"] == [[1]] if is_refused else [[1], [2]]
