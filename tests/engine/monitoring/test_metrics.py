"""The metric table and the listener that feeds it: the table, the start, state, checkpoint and results, on real runs of a small application."""

import threading
import time
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from engine import LocalContext
from engine.errors import SinkError
from engine.monitoring.metrics import METRICS, PrometheusListener
from engine.monitoring.table import as_markdown
from engine.version import VERSION
from tests.engine.app import START_MS
from tests.engine.monitoring.metered import FIRST, PAIRS, STATE, TABLE, TOPIC, Metered, metered, value_of

ROOT = Path(__file__).parents[3]


# The table.


def test_names_carry_base_units_and_counters_end_in_total() -> None:
    """Every metric begins with engine_, and its suffix follows from its type as Prometheus asks."""
    for metric in METRICS:
        assert metric.name.startswith("engine_")
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert metric.kind != "histogram" or metric.name.endswith(("_seconds", "_records"))
        assert metric.meaning.endswith(".")
        assert len(metric.labels) <= 3
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_documentation_holds_the_table() -> None:
    """The table in docs/metrics.md is the one in the code."""
    assert as_markdown() in (ROOT / "docs" / "metrics.md").read_text()


def test_version_is_that_of_the_project() -> None:
    """engine_build_info tells the version that pyproject.toml has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert project["project"]["version"] == VERSION


@pytest.mark.slow
def test_table_is_complete(tmp_path: Path) -> None:
    """After a run with everything in it a scrape has each row of the table with its labels, and nothing else of ours."""
    with metered(tmp_path, "local[2]", rate=1_000) as app:
        app.write(0, *[(0, value_of(f"page-{n}", 0)) for n in range(800)], (0, b"not json"))
        app.write(1, (0, value_of("page-1", 0)))
        app.run(2).kill_executor(0)
        app.run(2).restart().run()
        families = app.scrape()

    for metric in METRICS:
        family = families.pop(metric.name.removesuffix("_total"), None)
        assert family is not None, metric.name
        assert family.type == metric.kind
        assert family.documentation == metric.meaning
        assert family.samples, metric.name
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == metric.labels.keys(), sample
            for label, known in metric.labels.items():
                assert not known or sample.labels[label] in known
    assert [name for name in families if not name.startswith(("process_", "python_"))] == []


def test_known_series_begin_with_nothing() -> None:
    """Before the start each series whose labels the table knows is there with 0, and no other."""
    listener = PrometheusListener()

    for outcome in ("completed", "failed"):
        assert listener.value("engine_batches_total", outcome=outcome) == 0
    for stage in ("plan", "begin", "state", "outputs", "finish", "ledger", "commit", "snapshot", "purge"):
        assert listener.value("engine_stage_seconds_count", stage=stage) == 0
    for outcome in ("completed", "failed", "lost"):
        assert listener.value("engine_tasks_total", outcome=outcome) == 0
    assert listener.value("engine_checkpoint_failures_total") == 0
    assert listener.value("engine_snapshot_seconds_count") == 0
    assert listener.value("engine_restore_seconds") == 0


def test_histograms_read_as_prometheus_does(tmp_path: Path) -> None:
    """Buckets of a scrape ascend, end in +Inf with the count, and hold the observations at or under their bound."""
    with metered(tmp_path) as app:
        app.write(0, (400, value_of("a", 0)), (900, value_of("a", 0)))
        app.run()
        samples = app.scrape()["engine_end_to_end_seconds"].samples

    mine = [sample for sample in samples if sample.labels["output"] == "table"]
    buckets = {sample.labels["le"]: sample.value for sample in mine if "le" in sample.labels}
    assert list(buckets)[-1] == "+Inf"
    assert list(buckets.values()) == sorted(buckets.values())
    assert (buckets["0.1"], buckets["0.5"], buckets["0.75"], buckets["+Inf"]) == (1, 1, 2, 2)
    assert {"0.1", "600.0"} <= buckets.keys()


# The start.


def test_start_tells_what_runs(tmp_path: Path) -> None:
    """At the start the settings are there, and outputs and operators begin with 0."""
    with metered(tmp_path) as app:
        assert app.value("engine_settings_info", app="metered", master="local", batch_interval="1") == 1
        assert app.value("engine_batch_interval_seconds") == 1
        for name in ("start", "last_batch", "last_commit"):
            suffix = "time_seconds"
            assert app.value(f"engine_{name}_{suffix}") == START_MS / 1_000
        assert app.value("engine_output_slide_seconds", **TABLE) == 1
        assert app.value("engine_output_slide_seconds", **PAIRS) == 2
        for labels in (TABLE, PAIRS):
            assert app.histogram("engine_output_seconds", **labels) == (0, 0)
            assert app.histogram("engine_end_to_end_seconds", **labels) == (0, 0)
            assert app.value("engine_output_failures_total", **labels, outcome="retried") == 0
        assert app.value("engine_state_keys", **STATE) == 0
        assert app.value("engine_state_updates_total", **STATE) == 0
        assert app.value("engine_executors") == 1


def test_restart_tells_where_the_last_process_ended(tmp_path: Path) -> None:
    """A new process begins with the offsets, the batch time and the keys that it found, and tells what it restored."""
    with LocalContext("local", "metered") as context, Metered(context, tmp_path) as app:
        app.write(0, (0, value_of("a", 0)), (0, value_of("b", 0)))
        app.run().restart()

        assert app.value("engine_offset", **FIRST) == 2
        assert app.value("engine_records_total", topic=TOPIC) == 0
        assert app.value("engine_last_batch_time_seconds") == START_MS / 1_000 + 1
        assert app.value("engine_last_commit_time_seconds") == START_MS / 1_000 + 1
        assert app.value("engine_restored_keys") == 2
        app.run()
        assert app.value("engine_state_keys", **STATE) == 2


# State and checkpoint.


def test_state_is_told_by_operator(tmp_path: Path) -> None:
    """Keys are those that are there, updates those that changed, bytes what a restart reads, deltas what commits hold."""
    with metered(tmp_path) as app:
        app.write(0, *[(0, value_of(page, 0)) for page in "abcd"])
        app.run()
        bytes_before = app.value("engine_state_bytes", **STATE)
        app.write(0, (0, value_of("a", 0)))
        app.run()

        assert app.value("engine_state_keys", **STATE) == 4
        assert app.value("engine_state_updates_total", **STATE) == 5
        assert 0 < (bytes_before or 0) < (app.value("engine_state_bytes", **STATE) or 0)
        assert app.value("engine_checkpoint_delta_bytes_total") == app.value("engine_state_bytes", **STATE)


@pytest.mark.slow
def test_snapshot_is_told(tmp_path: Path) -> None:
    """Shards that outgrew their deltas are snapshots, whose bytes are on the volume and are what a restart reads."""
    with metered(tmp_path) as app:
        app.write(0, *[(0, value_of(f"page-{n}", 0)) for n in range(800)])
        app.run(3)
        files = sorted((tmp_path / "checkpoints").rglob("*.snap"))
        written = app.value("engine_snapshot_bytes_total")

        assert app.value("engine_snapshot_seconds_count") == len(files) == 2
        assert app.value("engine_state_bytes", **STATE) == written
        # A snapshot's file begins with 12 bytes of its own.
        assert sum(file.stat().st_size for file in files) == (written or 0) + 12 * len(files)


@pytest.mark.slow
def test_volume_is_what_the_folder_holds(tmp_path: Path) -> None:
    """After a purge the bytes of journal and snapshots are those of the files, also after a restart; the volume has a size."""
    with metered(tmp_path) as app:
        for start in range(2):
            for n in range(3):
                app.write(0, *[(0, value_of(f"page-{n}-{key}", 0)) for key in range(500)])
                app.run()
                for part, pattern in (("journal", "*.log"), ("state", "*.snap")):
                    found = sum(file.stat().st_size for file in (tmp_path / "checkpoints").rglob(pattern))
                    assert app.value("engine_checkpoint_bytes", part=part) == found, (start, n, part)
            app.restart()
            app.run()
        free = app.value("engine_checkpoint_volume_bytes", kind="free")
        size = app.value("engine_checkpoint_volume_bytes", kind="size")

        assert 0 < (free or 0) < (size or 0)


def test_checkpoint_that_fails_is_counted(tmp_path: Path) -> None:
    """A commit that another process fenced is a failure of the checkpoint."""
    with metered(tmp_path) as app:
        app.run()
        (tmp_path / "checkpoints" / "metered" / "journal" / "000009-000000.log").touch()
        with pytest.raises(Exception, match="has taken over"):
            app.run()

        assert app.value("engine_checkpoint_failures_total") == 1
        assert app.value("engine_batches_total", outcome="failed") == 1


# The results store.


def test_writes_are_told_by_table(tmp_path: Path) -> None:
    """Rows of outputs, of the ledger and of dead letters are counted by their tables, with one request each."""
    with metered(tmp_path) as app:
        app.write(0, *[(0, value_of(page, 0)) for page in "abc"], (0, b"no"))
        app.run()

        assert app.value("engine_sink_rows_total", table="page_totals") == 3
        assert app.value("engine_sink_rows_total", table="ledger") == 1
        assert app.value("engine_sink_rows_total", table="dead_letters") == 1
        assert app.value("engine_sink_write_seconds_count", table="ledger") == 1
        assert app.value("engine_sink_write_seconds_count", table="page_totals") in {1, 2}
        assert (app.value("engine_sink_write_seconds_sum", table="ledger") or 0) > 0
        for name in ("retries", "failures"):
            assert app.value(f"engine_sink_{name}_total", table="page_totals") == 0


@pytest.mark.slow
def test_outage_of_the_store_is_told_when_it_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that another process locks for a while costs retries and failures of the table that was written, and no row."""
    with metered(tmp_path) as app, closing(app.lock()) as other:

        def lock() -> None:
            other.execute("BEGIN IMMEDIATE")
            threading.Thread(target=unlock).start()

        def unlock() -> None:
            end = time.monotonic() + 30
            while " waits since " not in caplog.text and time.monotonic() < end:
                pass
            other.execute("ROLLBACK")

        app.run()
        app.in_output = lock
        app.write(0, (0, value_of("a", 0)))
        app.run()

        assert app.value("engine_sink_rows_total", table="page_totals") == 1
        assert (app.value("engine_sink_retries_total", table="page_totals") or 0) >= 1
        assert (app.value("engine_sink_failures_total", table="page_totals") or 0) >= 1
        assert app.value("engine_sink_retries_total", table="ledger") == 0
        assert app.value("engine_output_failures_total", **TABLE, outcome="stopped") == 0


def test_refused_write_is_a_failure_of_its_table(tmp_path: Path) -> None:
    """A row that the store refuses for good counts once, for its table and its output."""
    with metered(tmp_path) as app:
        app.write(0, (0, value_of(None, 0)))
        with pytest.raises(SinkError):
            app.run()

        assert app.value("engine_sink_failures_total", table="page_totals") == 1
        assert app.value("engine_output_failures_total", **TABLE, outcome="stopped") == 1
