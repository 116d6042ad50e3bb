"""The metric table and the listener that feeds it."""

from operator import add
from pathlib import Path
from socket import socket
from urllib.request import urlopen

import pytest

from engine import LocalContext, ManualClock, StreamingContext
from engine.errors import ConfigurationError, ExecutorLostError
from engine.monitoring.metrics import METRICS, PrometheusListener, serve_metrics
from engine.scheduler.listener import StreamingListenerBatchFailed


def run_two_batches(listener: PrometheusListener, folder: Path) -> None:
    """Run a keyed job over two batches with the listener on."""
    with LocalContext("local", "metered") as context:
        clock = ManualClock(1_000_000)
        ssc = StreamingContext(context, 1, clock=clock)
        ssc.checkpoint(folder)
        ssc.addStreamingListener(listener)
        pairs = ssc.queueStream([[("a", 1), ("b", 1)], [("a", 1)]])
        totals = pairs.reduceByKey(add).updateStateByKey(
            lambda new, old: sum(new) + (old or 0), name="totals"
        )
        totals.foreachRDD(lambda rdd: rdd.collect(), name="table")
        ssc.start(thread=False)
        for _ in range(2):
            clock.advance(1_000)
            ssc.runBatch()
        ssc.stop(stopSparkContext=False)


def test_names_carry_base_units_and_counters_end_in_total() -> None:
    """Every metric begins with engine_, and its suffix follows from its type as Prometheus asks."""
    for metric in METRICS:
        assert metric.name.startswith("engine_")
        assert (metric.kind.__name__ == "Counter") == metric.name.endswith("_total")
        assert metric.meaning.endswith(".")


def test_completed_batches_move_the_metrics(tmp_path: Path) -> None:
    """Two batches of a keyed job are counted with their delays, output, commits, records and keys."""
    listener = PrometheusListener()

    run_two_batches(listener, tmp_path)

    assert listener.value("engine_batches_total", outcome="completed") == 2
    assert listener.value("engine_batches_total", outcome="failed") == 0
    assert listener.value("engine_processing_seconds_count") == 2
    assert listener.value("engine_total_delay_seconds_count") == 2
    assert listener.value("engine_output_seconds_count", output="table") == 2
    assert listener.value("engine_commit_seconds_count") == 2
    assert listener.value("engine_records_total", topic="queue") == 2
    assert listener.value("engine_state_keys", operator="totals") == 2
    assert listener.value("engine_last_batch_time_seconds") == 1_002
    assert (listener.value("engine_checkpoint_delta_bytes_total") or 0) > 0


def test_failed_run_is_counted_by_outcome() -> None:
    """A run that ends with an error moves the failed outcome and nothing else."""
    listener = PrometheusListener()

    listener.onBatchFailed(StreamingListenerBatchFailed(None, ExecutorLostError("executor 0 died")))  # type: ignore[arg-type]  # the batch is not looked at

    assert listener.value("engine_batches_total", outcome="failed") == 1
    assert listener.value("engine_batches_total", outcome="completed") == 0


def test_endpoint_serves_the_registry_and_refuses_a_taken_port() -> None:
    """The page holds the metrics; a port that is taken is named with its remedy."""
    listener = PrometheusListener()
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve_metrics(port, listener.registry)

    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        text = page.read().decode()

    assert 'engine_batches_total{outcome="completed"} 0.0' in text
    with pytest.raises(ConfigurationError, match=f"METRICS_PORT={port}"):
        serve_metrics(port, listener.registry)
