"""The engine's metrics: one table, fed by listener events only.

Names follow Prometheus: base units, `_seconds`, `_bytes`, `_total`. Labels have few values: topic, partition, output, operator,
outcome, reason.

Owns: METRICS, PrometheusListener, serve_metrics.
Never: a value copied from a last batch that a short one could hide; gauges are for what has a state.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from engine.errors import ConfigurationError
from engine.scheduler.listener import (
    StreamingListener,
    StreamingListenerBatchCompleted,
    StreamingListenerBatchFailed,
    StreamingListenerOutputOperationCompleted,
    StreamingListenerStreamingStarted,
)

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Upper bounds of the histograms' buckets, seconds."""


class Metric(NamedTuple):
    """One row of the table."""

    name: str
    kind: type[Counter] | type[Gauge] | type[Histogram]
    labels: tuple[str, ...]
    meaning: str


METRICS: Final = (
    Metric("engine_start_time_seconds", Gauge, (), "When the context started, seconds since the epoch."),
    Metric("engine_batches_total", Counter, ("outcome",), "Runs of batches by outcome: completed, failed."),
    Metric("engine_replayed_batches_total", Counter, (), "Batches completed by an attempt after the first."),
    Metric("engine_records_total", Counter, ("topic",), "Offsets in the ranges of completed batches."),
    Metric("engine_scheduling_delay_seconds", Histogram, (), "From due to started."),
    Metric("engine_processing_seconds", Histogram, (), "From started to committed."),
    Metric("engine_total_delay_seconds", Histogram, (), "From due to committed."),
    Metric("engine_output_seconds", Histogram, ("output",), "One output of one batch until acknowledged."),
    Metric("engine_commit_seconds", Histogram, (), "Append of a batch's commit record until durable."),
    Metric("engine_checkpoint_delta_bytes_total", Counter, (), "State that commit records hold."),
    Metric("engine_state_keys", Gauge, ("operator",), "Keys of a stateful operator after the last batch."),
    Metric(
        "engine_dead_letters_total", Counter, ("reason",), "Records put aside by reason: undecodable, late."
    ),
    Metric("engine_offset", Gauge, ("topic", "partition"), "End of what is committed of a partition."),
    Metric(
        "engine_last_batch_time_seconds",
        Gauge,
        (),
        "Time of the last completed batch, seconds since the epoch.",
    ),
    Metric(
        "engine_watermark_seconds",
        Gauge,
        ("topic",),
        "Event-time watermark of an input, seconds since the epoch.",
    ),
)
"""Every metric that the engine exports."""


class PrometheusListener(StreamingListener):
    """Keeps the metrics of the table in a registry of its own.

    Example:
        >>> PrometheusListener().value("engine_batches_total", outcome="completed")
        0.0
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}
        for metric in METRICS:
            if metric.kind is Histogram:
                made = Histogram(
                    metric.name, metric.meaning, metric.labels, registry=self.registry, buckets=SECONDS
                )
                self._metrics[metric.name] = made
            else:
                self._metrics[metric.name] = metric.kind(
                    metric.name, metric.meaning, metric.labels, registry=self.registry
                )
        for outcome in ("completed", "failed"):
            self._counter("engine_batches_total", outcome=outcome).inc(0)

    def value(self, name: str, **labels: str) -> float | None:
        """The value of one sample; None when there is none."""
        value: float | None = self.registry.get_sample_value(name, labels)
        return value

    def onStreamingStarted(self, streamingStarted: StreamingListenerStreamingStarted) -> None:
        """Note when."""
        self._gauge("engine_start_time_seconds").set(streamingStarted.time / 1_000)

    def onOutputOperationCompleted(
        self, outputOperationCompleted: StreamingListenerOutputOperationCompleted
    ) -> None:
        """Note how long the output took."""
        output = outputOperationCompleted.output
        self._histogram("engine_output_seconds", output=output.name).observe(output.duration / 1_000)

    def onBatchFailed(self, batchFailed: StreamingListenerBatchFailed) -> None:  # noqa: ARG002  one more is all there is to say
        """Count it."""
        self._counter("engine_batches_total", outcome="failed").inc()

    def onBatchCompleted(self, batchCompleted: StreamingListenerBatchCompleted) -> None:
        """Count it with its delays, records, state and dead letters."""
        info = batchCompleted.batchInfo
        self._counter("engine_batches_total", outcome="completed").inc()
        if info.batch.attempt:
            self._counter("engine_replayed_batches_total").inc()
        self._histogram("engine_scheduling_delay_seconds").observe(info.schedulingDelay / 1_000)
        self._histogram("engine_processing_seconds").observe(info.processingDelay / 1_000)
        self._histogram("engine_total_delay_seconds").observe(info.totalDelay / 1_000)
        self._histogram("engine_commit_seconds").observe(batchCompleted.commit_seconds)
        self._counter("engine_checkpoint_delta_bytes_total").inc(batchCompleted.delta_bytes)
        self._gauge("engine_last_batch_time_seconds").set(info.batchTime / 1_000)
        for operator, keys in batchCompleted.state_keys.items():
            self._gauge("engine_state_keys", operator=operator).set(keys)
        for reason, count in info.dead_letters.items():
            self._counter("engine_dead_letters_total", reason=reason).inc(count)
        for stream, watermark in info.batch.watermarks.items():
            self._gauge("engine_watermark_seconds", topic=stream).set(watermark / 1_000)
        for part in (part for parts in info.batch.ranges.values() for part in parts):
            self._counter("engine_records_total", topic=part.topic).inc(part.count())
            self._gauge("engine_offset", topic=part.topic, partition=str(part.partition)).set(
                part.untilOffset
            )

    def _counter(self, name: str, **labels: str) -> Counter:
        metric = self._metrics[name]
        assert isinstance(metric, Counter)
        return _with_labels(metric, labels)

    def _gauge(self, name: str, **labels: str) -> Gauge:
        metric = self._metrics[name]
        assert isinstance(metric, Gauge)
        return _with_labels(metric, labels)

    def _histogram(self, name: str, **labels: str) -> Histogram:
        metric = self._metrics[name]
        assert isinstance(metric, Histogram)
        return _with_labels(metric, labels)


M = TypeVar("M", Counter, Gauge, Histogram)


def _with_labels(metric: M, labels: Mapping[str, str]) -> M:
    return metric.labels(**labels) if labels else metric


def serve_metrics(port: int, registry: CollectorRegistry) -> None:
    """Serve the registry at http://127.0.0.1:port/metrics on a thread of its own.

    Raises:
        ConfigurationError: the port is taken.
    """
    try:
        start_http_server(port, "127.0.0.1", registry)
    except OSError as cause:
        raise ConfigurationError(
            f"METRICS_PORT={port} cannot be opened ({cause.strerror}); choose another port"
        ) from cause
