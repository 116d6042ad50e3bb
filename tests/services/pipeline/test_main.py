"""The engine service as a process, on the embedded stack."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.errors import SinkError
from engine.sources.log import LogWriter
from services.pipeline.main import SCRATCH, build, context_of
from services.producer.events import page_event
from services.settings import REPOSITORY, Settings, base_environment
from services.sqlite import migrate
from services.topics import PAGE_VIEWS, create_topics

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An embedded stack with its topics and tables, and nothing in them."""
    made = Settings(
        stack="embedded", data_dir=tmp_path, master="local", batch_seconds=0.05, metrics_port=21_678
    )
    create_topics(made)
    migrate.migrate(made.results_path)
    return made


@pytest.fixture
def engines() -> Iterator[list[subprocess.Popen[str]]]:
    """The engines that a test starts; those that still run at its end are killed."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for engine in started:
        engine.kill()
        engine.communicate()


def start(settings: Settings, engines: list[subprocess.Popen[str]], **more: str) -> subprocess.Popen[str]:
    """An engine of these settings."""
    engine = subprocess.Popen(
        [sys.executable, "-m", "services.pipeline.main"],
        cwd=REPOSITORY,
        env={**base_environment(), **settings.environment(), "PYTHONUNBUFFERED": "1", **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    engines.append(engine)
    return engine


def started(engine: subprocess.Popen[str]) -> str:
    """The line that an engine prints when it runs."""
    assert engine.stdout is not None
    return engine.stdout.readline()


def refusal(engine: subprocess.Popen[str]) -> str:
    """What an engine says that refuses to run: exit code 2, one sentence, no traceback."""
    _, complaint = engine.communicate(timeout=30)
    assert engine.returncode == 2
    assert "Traceback" not in complaint
    return complaint


def test_sigterm_drains_and_exits_0(settings: Settings, engines: list[subprocess.Popen[str]]) -> None:
    """An engine that gets SIGTERM ends its batch and exits with 0, and the next one goes on."""
    for _ in range(2):
        engine = start(settings, engines)
        assert started(engine).startswith("pipeline: started")
        engine.send_signal(signal.SIGTERM)
        _, log = engine.communicate(timeout=30)
        assert engine.returncode == 0
        assert "Traceback" not in log


def test_page_and_metrics_are_on_one_port(settings: Settings, engines: list[subprocess.Popen[str]]) -> None:
    """An engine at work answers health, its page with the three jobs, its progress and its metrics on METRICS_PORT."""
    address = f"http://127.0.0.1:{settings.metrics_port}"
    started(start(settings, engines))
    while status_of(f"{address}/healthz") != 200:
        os.sched_yield()

    graph = json.loads(body_of(f"{address}/api/v1/graph"))
    progress = json.loads(body_of(f"{address}/api/v1/progress"))

    assert {node["job"] for node in graph["nodes"]} == {"", *settings.jobs}
    assert progress["epoch"] == 1
    assert set(progress["committed"]["ends"]) == {"ad-events", "page-views"}
    assert "engine_batches_total" in body_of(f"{address}/metrics")
    assert "<!doctype html>" in body_of(f"{address}/")


@pytest.mark.fault(47, "a socket on METRICS_PORT before the engine starts")
def test_taken_metrics_port_is_refused(settings: Settings, engines: list[subprocess.Popen[str]]) -> None:
    """An engine whose METRICS_PORT somebody has says so before it does anything else."""
    with socket.create_server(("127.0.0.1", settings.metrics_port)):
        complaint = refusal(start(settings, engines))

    assert f"METRICS_PORT={settings.metrics_port} cannot be opened" in complaint


def body_of(address: str) -> str:
    """What is answered."""
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - an address of ours
        text: str = answer.read().decode()
        return text


def status_of(address: str) -> int:
    """The status of an answer."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - an address of ours
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_second_engine_on_the_folder_is_refused(
    settings: Settings, engines: list[subprocess.Popen[str]]
) -> None:
    """While one engine holds the checkpoint folder another is refused by the folder's name."""
    assert started(start(settings, engines)).startswith("pipeline: started")

    complaint = refusal(start(settings, engines, METRICS_PORT="21679"))

    assert str(settings.checkpoint_dir / "pipeline") in complaint
    assert "in use by another process" in complaint


@pytest.mark.fault(22, "the pipeline's folder moved away, its ledger of batches left")
def test_missing_folder_beside_a_ledger_is_refused(
    settings: Settings, engines: list[subprocess.Popen[str]]
) -> None:
    """An application whose ledger has rows does not start fresh when its checkpoint folder is gone."""
    engine = start(settings, engines)
    started(engine)
    journal = settings.checkpoint_dir / "pipeline" / "journal"
    wait_for_commit(journal)
    engine.send_signal(signal.SIGTERM)
    engine.communicate(timeout=30)
    settings.checkpoint_dir.rename(settings.checkpoint_dir.with_name("moved"))

    complaint = refusal(start(settings, engines))

    assert "is missing, and results are written up to batch" in complaint


def wait_for_commit(journal: Path) -> None:
    """Return when a commit is in the journal."""
    while not any(b'"type":"commit"' in segment.read_bytes() for segment in journal.glob("*.log")):
        os.sched_yield()


def test_missing_schema_is_refused(settings: Settings, engines: list[subprocess.Popen[str]]) -> None:
    """Without its tables the engine names the store and the migration to run."""
    settings.results_path.unlink()

    assert "python -m services.sqlite.migrate" in refusal(start(settings, engines))


def test_missing_topic_is_refused(settings: Settings, engines: list[subprocess.Popen[str]]) -> None:
    """Without its topic the engine names it."""
    (settings.log_dir / "ad-events" / "topic.json").unlink()

    assert "ad-events" in refusal(start(settings, engines))


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MASTER", "yarn"), ("JOBS", "word_count"), ("BATCH_SECONDS", "soon"), ("METRICS_PORT", "0")],
)
def test_wrong_setting_is_refused(
    settings: Settings, engines: list[subprocess.Popen[str]], variable: str, value: str
) -> None:
    """An unknown or malformed setting is named with its value."""
    complaint = refusal(start(settings, engines, **{variable: value}))

    assert variable in complaint
    assert value in complaint


@pytest.mark.fault(23, "format 2 in the pipeline's meta.json")
def test_checkpoint_of_a_newer_format_is_refused(
    settings: Settings, engines: list[subprocess.Popen[str]]
) -> None:
    """A folder that a newer version wrote is left alone."""
    engine = start(settings, engines)
    started(engine)
    engine.send_signal(signal.SIGTERM)
    engine.communicate(timeout=30)
    meta = settings.checkpoint_dir / "pipeline" / "meta.json"
    meta.write_text(meta.read_text().replace('"format": 1', '"format": 2'))

    assert "format" in refusal(start(settings, engines))


@pytest.mark.fault(44, "a batch fails under a backlog, with BACKPRESSURE=true and INITIAL_RATE")
def test_first_batches_under_a_backlog_keep_the_initial_rate(settings: Settings) -> None:
    """With INITIAL_RATE the first batch of a start takes no more of a backlog than that, also after one that failed and runs again."""
    asked = settings.model_copy(
        update={"jobs": ("page_totals",), "backpressure": True, "initial_rate": 400.0, "batch_seconds": 0.1}
    )
    for partition in range(asked.page_partitions):
        with LogWriter(asked.log_dir, PAGE_VIEWS, partition) as writer:
            writer.append([(n, *page_event(1, partition, n, n)) for n in range(500)])
    with closing(sqlite3.connect(asked.results_path)) as store:
        with context_of(asked) as context:
            ssc = build(asked, context)
            ssc.start(thread=False)
            store.execute("ALTER TABLE ledger RENAME TO away")
            with pytest.raises(SinkError, match="ledger"):
                ssc.runBatch()
            ssc.stop(stopSparkContext=False)
        store.execute("ALTER TABLE away RENAME TO ledger")
        with context_of(asked) as context:
            ssc = build(asked, context)
            ssc.start(thread=False)
            ssc.runBatch()
            ssc.stop(stopSparkContext=False)
        rows = store.execute("SELECT attempt, ranges FROM ledger ORDER BY batch").fetchall()

    taken = [
        (attempt, sum(until - begin for _, _, begin, until in json.loads(ranges))) for attempt, ranges in rows
    ]
    assert taken == [(1, 40), (0, 40)]


def test_time_limit_and_backpressure_arrive_at_the_context(settings: Settings) -> None:
    """TASK_TIMEOUT is the limit of the context's tasks and BACKPRESSURE holds its inputs back; without them there is neither."""
    asked = settings.model_copy(update={"master": "local[1]", "task_timeout": 7.5, "backpressure": True})
    found = []
    for chosen in (asked, settings):
        with context_of(chosen) as context:
            ssc = build(chosen, context)
            found.append((context._task_timeout, ssc._backpressure.enabled))
            ssc.stop(stopSparkContext=False)

    assert found == [(7.5, True), (None, False)]


def test_tasks_spill_beside_the_checkpoints(settings: Settings) -> None:
    """Tasks lay aside on the checkpoints' volume what memory does not hold; what a killed process left there is removed."""
    scratch = settings.checkpoint_dir / SCRATCH / f"dstreams-{os.getuid()}"
    left = scratch / "1-abandoned"
    left.mkdir(parents=True)
    (left / "lock").touch()
    (left / "spilled").write_bytes(b"x" * 1_000)

    with context_of(settings) as context:
        assert not left.exists()
        assert context.folder("spilled").is_relative_to(scratch)
    assert list(scratch.iterdir()) == []


def test_volume_that_takes_no_folder_is_the_checkpoints_to_tell(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no folder for what is laid aside can be made there, the system's takes its place, and the log says so."""
    settings.checkpoint_dir.mkdir()
    (settings.checkpoint_dir / SCRATCH).touch()

    with context_of(settings) as context:
        assert not context.folder("spilled").is_relative_to(settings.checkpoint_dir)
    assert "cannot be written" in caplog.text


def test_one_engine_does_not_take_over_from_replicas(
    settings: Settings, engines: list[subprocess.Popen[str]]
) -> None:
    """Where the work was begun as units, one engine with all jobs would count every record again: it is refused."""
    folder = settings.checkpoint_dir / "pipeline.units"
    folder.mkdir(parents=True)
    (folder / "units.json").write_text("{}")
    _, told = start(settings, engines).communicate(timeout=60)
    assert engines[-1].returncode == 2
    assert "pipeline.units has the units of replicas" in told
