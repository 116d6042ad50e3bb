"""What the tools see of an engine from outside: its journal, the log, its metrics; dead or alive."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, start_http_server

from engine.batch import Batch, Duration, OffsetRange, Time
from engine.checkpoint.checkpoint import Checkpoint
from engine.errors import StreamingError
from engine.monitoring.metrics import PrometheusListener
from engine.sources.log import LogWriter
from services.settings import Settings
from services.topics import create_topics
from tests.tools.stack_world import free_port
from tools.progress import NOTHING, Metrics, Progress


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An embedded stack without a process."""
    made = Settings(stack="embedded", data_dir=tmp_path, page_partitions=1, ad_partitions=1)
    create_topics(made)
    return made


def open_checkpoint(settings: Settings) -> Checkpoint:
    """The engine's side of the journal."""
    checkpoint = Checkpoint(settings.checkpoint_dir, settings.app, Duration(1_000), 1)
    checkpoint.open(Time(0))
    return checkpoint


def a_batch(time: int, until: int) -> Batch:
    """A batch of the first page views."""
    return Batch(Time(time), {"page-views": (OffsetRange("page-views", 0, 0, until),)})


def test_application_that_never_ran_has_committed_nothing(settings: Settings) -> None:
    """Without a journal there is no commit and no epoch, and everything in the log is ahead."""
    progress = Progress(settings)
    with LogWriter(settings.log_dir, "page-views", 0) as writer:
        writer.append([(0, None, b"{}")] * 3)
    assert progress.newest() == NOTHING
    assert progress.epoch() == 0
    assert progress.backlog() == {"ad-events": 0, "page-views": 3}


def test_commits_and_restarts_are_seen_as_they_happen(settings: Settings) -> None:
    """A begun batch is in flight until its commit, and a restart goes on with the commit of the life before it."""
    progress = Progress(settings)
    checkpoint = open_checkpoint(settings)
    checkpoint.begin(a_batch(1_000, 2))
    assert progress.newest().in_flight
    checkpoint.commit(a_batch(1_000, 2), {}, {}, {}, [])
    assert (progress.newest().time, progress.newest().in_flight) == (1_000, False)
    assert progress.newest().ends == {("page-views", 0): 2}
    checkpoint.close()
    again = open_checkpoint(settings)
    assert (progress.newest().time, progress.epoch()) == (1_000, 2)
    again.close()


def test_waiting_ends_with_the_reason(settings: Settings) -> None:
    """Who waits for a commit that will not come is told why, at once when that is known."""
    progress = Progress(settings)
    with pytest.raises(StreamingError, match="no batch after 7 was committed within 0 s"):
        progress.await_newer(7, 0)
    with pytest.raises(StreamingError, match="the engine is dead"):
        progress.await_newer(7, 60, lambda: "the engine is dead")


def test_log_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing topic is an error and not an empty log."""
    with pytest.raises(StreamingError, match="the log cannot be read"):
        Progress(Settings(stack="embedded", data_dir=tmp_path)).ends()


def test_metrics_are_summed_by_label() -> None:
    """A look at the endpoint gives the samples that the engine exports; nobody there gives none."""
    port = free_port()
    assert Metrics.read(port) is None
    server, thread = start_http_server(port, "127.0.0.1", PrometheusListener(CollectorRegistry()).registry)
    metrics = Metrics.read(port)
    server.shutdown()
    server.server_close()
    thread.join()
    assert metrics is not None
    assert metrics.total("engine_batches_total", outcome="completed") == 0
    assert metrics.total("engine_offset") == 0
