"""Load: bursts and backlogs, hot keys and many keys, events out of order, workers that are killed for memory."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, State, StateSpec, StreamingContext
from engine.batch import Time
from engine.dstream.dstream import DStream
from engine.sources.log import LogWriter, create_topic
from services.settings import REPOSITORY
from services.sqlite.migrate import migrate
from tests.engine.app import App
from tests.recovery.backlog import START_MS, settings_of

RATE = 120
"""Events a second over both partitions."""
BURST = 10
SLACK_MB = 20
"""What one batch of all may take more than one of 40,000. As bytes objects it would be 65 MB, half of it in each worker."""


def event(at_ms: int) -> bytes:
    """An ad event of that time."""
    kind = ("view", "click", "purchase")[at_ms % 3]
    return b'{"event_type":"%s","ad_id":"ad-%04d","event_time":%d,"user_id":"u","page_id":"p"}' % (
        *(kind.encode(), at_ms % 1_000),
        at_ms,
    )


def write_hour(folder: Path) -> int:
    """An hour of events with a minute at ten times the rate in it; returns how many."""
    settings, count = settings_of(folder, 1), 0
    create_topic(settings.log_dir, "ad-events", 2)
    migrate(settings.results_path)
    for partition in range(2):
        with LogWriter(settings.log_dir, "ad-events", partition) as writer:
            for minute in range(60):
                many = RATE * 30 * (BURST if minute == 1 else 1)
                first = START_MS + 60_000 * minute
                times = [first + number * 60_000 // many for number in range(many)]
                writer.append([(at, None, event(at)) for at in times])
                count += many
    return count


def drained(folder: Path, rate: int) -> dict[str, Any]:
    """What the pipeline tells of a backlog that it has worked off."""
    command = [sys.executable, "-m", "tests.recovery.backlog", str(folder), str(rate)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2_000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.fault(44, "a minute at ten times the rate in an hour that waits, in one batch and capped")
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_hour_that_waits_takes_bounded_memory(tmp_path: Path, figures: Callable[[str], None]) -> None:
    """An hour's backlog with a burst is read as a stream: one batch of all of it takes little more memory than batches with a cap."""
    count = write_hour(tmp_path)
    told = {}
    for rate in (20_000, 10_000_000):
        folder = settings_of(tmp_path, 1).data_dir
        told[rate] = drained(folder, rate)
        sizes = [size for size in told[rate]["sizes"] if size]
        assert sum(sizes) == count
        assert max(sizes) == (2 * rate if rate == 20_000 else count)
        figures(f"backlog of {count} events, at most {rate}/s a partition: {told[rate]}")
        with closing(sqlite3.connect(settings_of(folder, 1).results_path)) as connection:
            (views,) = connection.execute("SELECT sum(views) FROM campaign_windows").fetchone()
            assert views == sum(event(at)[15:19] == b"view" for at in _times()) * 2
            for table in ("campaign_windows", "ledger", "dead_letters"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
            connection.commit()
        _forget(settings_of(folder, 1).checkpoint_dir)
    capped, whole = told[20_000], told[10_000_000]
    assert whole["driver_mb"] < capped["driver_mb"] + SLACK_MB
    assert max(whole["workers_mb"]) < max(capped["workers_mb"]) + SLACK_MB


def _times() -> list[int]:
    """The event times of one partition."""
    found = []
    for minute in range(60):
        many = RATE * 30 * (BURST if minute == 1 else 1)
        first = START_MS + 60_000 * minute
        found += [first + number * 60_000 // many for number in range(many)]
    return found


def _forget(checkpoints: Path) -> None:
    for path in sorted(checkpoints.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


# Keys.


def seconds_of(work: Callable[[], object]) -> float:
    """CPU seconds of this process, the least of three."""
    spent = []
    for _ in range(3):
        begun = time.process_time()
        work()
        spent.append(time.process_time() - begun)
    return min(spent)


@pytest.mark.fault(45, "nine tenths of the events with one key, in batches of two sizes")
@pytest.mark.slow
def test_hot_key_costs_in_proportion(tmp_path: Path) -> None:
    """Four times as many records, nine tenths of them with one key, take less than six times the work."""
    spent: dict[int, float] = {}
    for size in (25_000, 100_000):
        records = [("hot" if n % 10 else n, 1) for n in range(size)]

        def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
            counts = stream.updateStateByKey(lambda new, old: sum(new) + (old or 0), name="counts")
            app.collect(counts.filter(lambda pair: pair[0] == "hot"), "hot")

        folder = tmp_path / str(size)
        with LocalContext("local", "test") as context, App(context, folder, job, [records] * 3) as app:
            spent[size] = seconds_of(app.run)
            assert app.out["hot"] == [[("hot", size * 9 // 10 * n)] for n in (1, 2, 3)]

    assert spent[100_000] < 6 * spent[25_000]


def open_for_a_batch(at: Time, key: int, value: int | None, state: State[int]) -> None:
    """Keeps what came until it times out."""
    if not state.isTimingOut():
        state.update(value or 0)


@pytest.mark.fault(45, "ten batches of 20,000 new keys, 200,000 in all, each gone by its timeout")
@pytest.mark.slow
def test_new_keys_leave_by_their_timeout(tmp_path: Path) -> None:
    """Of 20,000 new keys a batch only those of the timeout are in the state, and a batch late costs what an early one did."""
    keys, held, spent = 20_000, [], []
    batches = [[(n + keys * batch, 1) for n in range(keys)] for batch in range(10)]

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        spec = StateSpec.function(open_for_a_batch).timeout(2)
        mapped = stream.mapWithState(spec, name="sessions")
        mapped.foreachRDD(lambda rdd: rdd.count())
        mapped.stateSnapshots().foreachRDD(lambda rdd: held.append(rdd.count()))

    with LocalContext("local", "test") as context, App(context, tmp_path, job, [*batches, [], [], []]) as app:
        for _ in range(10):
            begun = time.process_time()
            app.run()
            spent.append(time.process_time() - begun)
        app.run(3)

    assert held[:3] == [keys, 2 * keys, 3 * keys]
    assert max(held) == 3 * keys
    assert held[-1] == 0
    assert min(spent[7:]) < 3 * min(spent[3:6])


# Memory.


@pytest.mark.fault(48, "a worker that has taken 64 MB sends itself the SIGKILL that the kernel would send")
@pytest.mark.slow
def test_worker_killed_for_memory_costs_no_record(tmp_path: Path) -> None:
    """A worker that is killed when it has taken 64 MB is replaced, and the batch runs again with the same counts."""
    mark = tmp_path / "killed"
    hungry = _Hungry(mark)

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        counts = stream.map(hungry).updateStateByKey(lambda new, old: sum(new) + (old or 0), name="counts")
        app.collect(counts, "counts")

    with (
        LocalContext("local[2]", "test") as context,
        App(context, tmp_path, job, [[1, 2], [3, 4], [5]]) as app,
    ):
        before = context.executor_pids
        app.run(3)
        after = context.executor_pids

    assert int(mark.read_text()) in before
    assert len(set(before) & set(after)) == 1
    assert app.out["counts"][-1] == [("n", 15)]


class _Hungry:
    """Takes memory at the record 3, once, and is killed for it."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __call__(self, number: int) -> tuple[str, int]:
        if number == 3 and not self._mark.exists():
            taken = bytearray(64 << 20)
            self._mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL if taken else 0)
        return "n", number
