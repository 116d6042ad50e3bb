"""The system's clock jumps an hour on and back under a real engine, whose calls libfaketime answers."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from engine.sources.log import LogWriter
from services.producer.events import ad_event, page_event
from services.settings import REPOSITORY, Settings, base_environment
from services.sqlite.migrate import migrate
from services.topics import AD_EVENTS, PAGE_VIEWS, create_topics
from tests.engine.children import wait_until
from tests.recovery.machine import SystemTime
from tests.tools.stack_world import embedded
from tools.progress import Metrics, Progress
from tools.verify import verify

HOUR = 3_600
INTERVAL_MS = 100
EVENTS = 100
BATCHES = 5
"""Commits that each setting of the clock must see."""
SECONDS = 10.0
"""Real time in which they must come: half a second and slack for a slow machine."""


def produce(settings: Settings, piece: int) -> None:
    """A piece of both topics."""
    numbers = range(piece * EVENTS, (piece + 1) * EVENTS)
    for topic, event in ((AD_EVENTS, ad_event), (PAGE_VIEWS, page_event)):
        with LogWriter(settings.log_dir, topic, 0) as writer:
            writer.append([(seq, *event(1, 0, seq, seq)) for seq in numbers])


@contextmanager
def running(settings: Settings, environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The engine service with these variables; it is killed if it still runs at the end."""
    with log.open("ab") as said:
        engine = subprocess.Popen(
            [sys.executable, "-m", "services.pipeline.main"],
            cwd=REPOSITORY,
            env={**base_environment(), **settings.environment(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        yield engine
    finally:
        engine.kill()
        engine.wait()


def clock_of(settings: Settings) -> float:
    """How many seconds the engine's newest commit is ahead of this process's clock, by the engine's own."""
    metrics = Metrics.read(settings.metrics_port)
    assert metrics is not None
    return metrics.total("engine_last_commit_time_seconds") - time.time()


def written(settings: Settings) -> list[tuple[int, int]]:
    """(batch time, write timestamp) of each batch in the order of the ledger's timestamps."""
    with closing(sqlite3.connect(settings.results_path)) as store:
        return sorted(store.execute("SELECT batch, _written FROM ledger"), key=lambda row: row[1])


def await_batches(progress: Progress, engine: subprocess.Popen[bytes], pieces: int) -> None:
    """Return when some more batches are committed, and all that was produced is in them."""
    newest = progress.newest().time
    for _ in range(BATCHES):
        newest = progress.await_newer(
            newest, SECONDS, lambda: "the engine has ended" if engine.poll() is not None else ""
        ).time
    wait_until(
        lambda: (
            progress.newest().ends.items()
            >= {(AD_EVENTS, 0): pieces * EVENTS, (PAGE_VIEWS, 0): pieces * EVENTS}.items()
        ),
        "all events are in committed batches",
        SECONDS,
    )


@pytest.mark.fault(
    27, "libfaketime sets a running engine's clock an hour on, back, an hour back, on, and again"
)
@pytest.mark.slow
def test_system_clock_that_jumps_under_an_engine_changes_no_row(
    system_time: SystemTime, tmp_path: Path
) -> None:
    """The engine commits within seconds of each jump that it has seen, times and timestamps only grow, and every row is exact."""
    settings = embedded(
        tmp_path, batch_seconds=INTERVAL_MS / 1_000, master="local[2]", ad_partitions=1, page_partitions=1
    )
    settings.data_dir.mkdir()
    create_topics(settings)
    migrate(settings.results_path)
    progress = Progress(settings)
    produce(settings, 0)
    with running(settings, system_time.environment, tmp_path / "log") as engine:
        wait_until(lambda: progress.newest().time > 0, "a first batch", 60)
        for piece, hours in enumerate([0, 1, 0, -1, 0, 1, 0], 1):
            system_time.set(hours * HOUR)
            produce(settings, piece)
            await_batches(progress, engine, piece + 1)
            assert abs(clock_of(settings) - hours * HOUR) < SECONDS
        engine.send_signal(signal.SIGTERM)
        assert engine.wait(30) == 0, (tmp_path / "log").read_text()
    progress.close()

    batches = written(settings)
    assert batches == sorted(set(batches))
    assert len({at for at, _ in batches}) == len({stamp for _, stamp in batches}) == len(batches)
    steps = [later - earlier for (earlier, _), (later, _) in pairwise(batches)]
    assert HOUR * 1_000 - SECONDS * 1_000 < max(steps) < HOUR * 1_000 + SECONDS * 1_000
    verdict = verify(settings)
    assert (verdict.code, verdict.undecided) == (0, 0), verdict.line
