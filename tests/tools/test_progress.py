"""What the tools see of an engine from outside: its journal, the log, its metrics; dead or alive."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import start_http_server

from engine.batch import Batch, Duration, OffsetRange, Time
from engine.checkpoint.checkpoint import Checkpoint
from engine.errors import StreamingError
from engine.monitoring.metrics import PrometheusListener
from engine.sources.log import LogWriter
from services.settings import Settings
from services.topics import create_topics
from tests.ports import free_port
from tools.progress import NOTHING, ApiProgress, Metrics, Progress


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


@contextmanager
def telling(port: int, told: dict[str, Any], paths: list[str] | None = None) -> Iterator[None]:
    """An engine's API, which says what `told` holds at the moment."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Answer, or tell that there is nothing yet."""
            if paths is not None:
                paths.append(self.path)
            body = json.dumps(told).encode()
            self.send_response(200 if told else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def test_engine_in_a_container_is_asked() -> None:
    """Commits, what is in flight and the epoch come from the engine's API, and a dead engine leaves what it told last."""
    port, paths = free_port(), list[str]()
    progress = ApiProgress([port], pause_seconds=0)
    assert (progress.newest(), progress.epoch()) == (NOTHING, 0)
    told = {
        "epoch": 3,
        "committed": {"time": 2_000, "attempt": 1, "ends": {"page-views": {"0": 7, "1": 9}}},
        "running": {"time": 3_000, "attempt": 0},
    }
    with telling(port, told, paths):
        newest = progress.newest()
        assert (newest.time, newest.attempt, newest.in_flight) == (2_000, 1, True)
        assert newest.ends == {("page-views", 0): 7, ("page-views", 1): 9}
        assert progress.epoch() == 3
        told["running"] = None
        assert not progress.newest().in_flight
        progress.close()
    assert (progress.newest().time, progress.epoch()) == (2_000, 3)
    assert set(paths) == {"/api/v1/progress"}


def test_restarted_engine_takes_nothing_back() -> None:
    """An engine that has just started and tells of no commit, or of none yet, does not undo what was seen."""
    port = free_port()
    progress = ApiProgress([port], pause_seconds=0)
    told: dict[str, Any] = {
        "epoch": 1,
        "committed": {"time": 5_000, "attempt": 0, "ends": {}},
        "running": None,
    }
    with telling(port, told):
        assert progress.newest().time == 5_000
        told.clear()
        assert progress.newest().time == 5_000
        told.update(epoch=2, committed=None, running=None)
        assert (progress.newest().time, progress.epoch()) == (5_000, 2)
        told["committed"] = {"time": 4_000, "attempt": 0, "ends": {}}
        assert progress.newest().time == 5_000
        progress.close()


def test_engine_is_not_asked_all_the_time() -> None:
    """Between two questions the last answer holds, however often one looks."""
    port, paths = free_port(), list[str]()
    progress = ApiProgress([port], pause_seconds=60)
    with telling(port, {"epoch": 1, "committed": None, "running": None}, paths):
        for _ in range(100):
            progress.newest()
        progress.close()
    assert len(paths) == 1


def test_stack_in_containers_is_watched_over_its_api(tmp_path: Path) -> None:
    """With STACK=compose the journal is out of reach, so the progress is the API's."""
    port = free_port()
    progress = Progress(Settings(stack="compose", data_dir=tmp_path, metrics_port=port))
    told = {"epoch": 4, "committed": {"time": 1_000, "attempt": 0, "ends": {}}, "running": None}
    with telling(port, told):
        assert progress.await_newer(0, 10).time == 1_000
        assert progress.epoch() == 4
        progress.close()


def test_metrics_are_summed_by_label() -> None:
    """A look at the endpoint gives the samples that the engine exports; nobody there gives none."""
    port = free_port()
    assert Metrics.read(port) is None
    server, thread = start_http_server(port, "127.0.0.1", PrometheusListener().registry)
    metrics = Metrics.read(port)
    server.shutdown()
    server.server_close()
    thread.join()
    assert metrics is not None
    assert metrics.total("engine_batches_total", outcome="completed") == 0
    assert metrics.total("engine_offset") == 0
