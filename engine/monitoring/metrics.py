"""The engine's metrics: the listener that keeps the values of the table.

Nothing is copied from a last batch that a short one could hide: what happens is counted and put into histograms when it happens,
and gauges are for what has a state. Series whose labels are known exist from the start with 0, so that a rate sees the first event.

Owns: PrometheusListener; hands on METRICS.
Never: an effect on the stream; a metric that is not in the table.
"""

import platform
from collections import Counter as Counts
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

from prometheus_client import Counter, Gauge, GCCollector

from engine.batch import Batch, BatchInfo, OutputInfo, OutputOperation, TopicPartition, job_and_rest
from engine.clock import Clock, SystemClock
from engine.errors import SinkError
from engine.metrics import Registry
from engine.monitoring.collectors import ExecutorCollector
from engine.monitoring.table import METRICS
from engine.reports import Buckets, Lag, StateReport, WriteReport
from engine.scheduler import events
from engine.scheduler.listener import StreamingListener
from engine.version import VERSION

__all__ = ["METRICS", "PrometheusListener"]

_EXECUTORS: Final = ("engine_executor_cpu_seconds_total", "engine_executor_resident_memory_bytes")
"""Read at the scrape."""


class PrometheusListener(StreamingListener):
    """Keeps the metrics of the table in a registry of its own.

    Args:
        clock: what time it is at a scrape, for the age of what is behind.

    Example:
        >>> PrometheusListener().value("engine_batches_total", outcome="completed")
        0.0
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.registry = Registry(METRICS)
        """What a scrape reads; further metrics may be registered in it."""
        self._clock = SystemClock() if clock is None else clock
        # By name and label values, given in the table's order: the client's own look-up costs five times as much.
        self._counter_series: dict[tuple[str, ...], Counter] = {}
        self._gauge_series: dict[tuple[str, ...], Gauge] = {}
        self._pids: tuple[int, ...] = ()
        self._lags: dict[TopicPartition, Lag] = {}
        self._waiting: dict[OutputOperation, Counts[int]] = {}
        """By output, creation times of records that it has not shown yet."""
        meanings = {name: self.registry.rows[name].meaning for name in _EXECUTORS}
        self.registry.register(ExecutorCollector(lambda: self._pids, meanings))
        rows = [row for row in METRICS if row.name not in _EXECUTORS]
        self._counters = {row.name: self.registry.counter(row.name) for row in rows if row.kind == "counter"}
        self._gauges = {row.name: self.registry.gauge(row.name) for row in rows if row.kind == "gauge"}
        self._histograms = {
            row.name: self.registry.histogram(row.name) for row in rows if row.kind == "histogram"
        }
        self._gauge("engine_build_info", version=VERSION, python=platform.python_version()).set(1)
        GCCollector(registry=self.registry)

    def value(self, name: str, **labels: str) -> float | None:
        """The value of one sample; None when there is none."""
        value: float | None = self.registry.get_sample_value(name, labels)
        return value

    # The context.

    def onStreamingStarted(self, streamingStarted: events.StreamingListenerStreamingStarted) -> None:
        """Note what runs, and begin every series whose labels are known now."""
        started, interval = streamingStarted, streamingStarted.batch_interval / 1_000
        settings = {"app": started.app, "master": started.master, "batch_interval": f"{interval:g}"}
        self._gauge("engine_settings_info", **settings).set(1)
        self._gauge("engine_batch_interval_seconds").set(interval)
        self._gauge("engine_start_time_seconds").set(started.time / 1_000)
        last = started.zero_time if started.committed is None else started.committed.time
        committed = started.time if started.committed is None else started.committed.time
        self._gauge("engine_last_batch_time_seconds").set(last / 1_000)
        self._gauge("engine_last_commit_time_seconds").set(committed / 1_000)
        self._counter("engine_checkpoint_fallbacks_total", part="journal").inc(started.fallbacks)
        self._note_executors(started.executors)
        self._waiting = {output: Counts() for output in started.outputs}
        for output in started.outputs:
            self._begin_output(output)
        for operator in started.operators:
            self._note_state(operator, StateReport(0, 0, 0))
        if started.committed is not None:
            self._note_offsets(started.committed, counted=False)

    def _begin_output(self, output: OutputOperation) -> None:
        labels = {"job": output.job, "output": output.output}
        self._gauge("engine_output_slide_seconds", **labels).set(output.slide / 1_000)
        for outcome in self.registry.rows["engine_output_failures_total"].labels["outcome"]:
            self._counter("engine_output_failures_total", **labels, outcome=outcome)
        self._histogram("engine_output_seconds", **labels)
        self._histogram("engine_end_to_end_seconds", **labels)

    def onStateRestored(self, stateRestored: events.StreamingListenerStateRestored) -> None:
        """Note how long it took and what it brought."""
        self._gauge("engine_restore_seconds").set(stateRestored.seconds)
        self._gauge("engine_restored_keys").set(stateRestored.keys)
        self._counter("engine_checkpoint_fallbacks_total", part="state").inc(stateRestored.fallbacks)

    def onExecutorsReplaced(self, executorsReplaced: events.StreamingListenerExecutorsReplaced) -> None:
        """Count those that are new."""
        self._counter("engine_executor_restarts_total").inc(len(executorsReplaced.replaced))
        self._note_executors(executorsReplaced.executors)

    def _note_executors(self, pids: tuple[int, ...]) -> None:
        self._pids = pids
        self._gauge("engine_executors").set(len(pids) or 1)

    # A batch.

    def onBatchSubmitted(self, batchSubmitted: events.StreamingListenerBatchSubmitted) -> None:
        """Note what waits."""
        self._note_lags(batchSubmitted.lags)
        for stream, limit in batchSubmitted.limits.items():
            self._gauge("engine_rate_limit_records_per_second", topic=stream).set(limit)

    def onBatchStarted(self, batchStarted: events.StreamingListenerBatchStarted) -> None:  # noqa: ARG002  it runs, whichever it is
        """One is under way."""
        self._gauge("engine_running_batches").set(1)

    def onOutputOperationCompleted(
        self, outputOperationCompleted: events.StreamingListenerOutputOperationCompleted
    ) -> None:
        """Note how long the output took, or that it failed, and what it wrote."""
        output = outputOperationCompleted.output
        labels = {"job": output.job, "output": output.output}
        if output.failureReason is None:
            self._histogram("engine_output_seconds", **labels).observe(output.duration / 1_000)
        else:
            outcome = "retried" if output.isRetried else "stopped"
            self._counter("engine_output_failures_total", **labels, outcome=outcome).inc()
        self._note_writes(output.writes)

    def onBatchFailed(self, batchFailed: events.StreamingListenerBatchFailed) -> None:
        """Count it with its tasks."""
        self._gauge("engine_running_batches").set(0)
        self._counter("engine_batches_total", outcome="failed").inc()
        self._note_tasks(batchFailed.tasks)
        if isinstance(batchFailed.error, SinkError) and batchFailed.error.table:
            self._note_writes({batchFailed.error.table: WriteReport(batchFailed.error.table, failures=1)})

    def onBatchCompleted(self, batchCompleted: events.StreamingListenerBatchCompleted) -> None:
        """Count it with its delays, records, state and dead letters."""
        info = batchCompleted.batchInfo
        self._gauge("engine_running_batches").set(0)
        self._counter("engine_batches_total", outcome="completed").inc()
        if info.batch.attempt:
            self._counter("engine_replayed_batches_total").inc()
        self._note_delays(info)
        self._note_stages(batchCompleted.stage_seconds)
        self._note_offsets(info.batch, counted=True)
        self._note_lags(batchCompleted.lags)
        self._note_tasks(batchCompleted.tasks)
        self._note_writes(batchCompleted.ledger)
        self._counter("engine_checkpoint_delta_bytes_total").inc(batchCompleted.delta_bytes)
        for operator, state in batchCompleted.state.items():
            self._note_state(operator, state)
        for (topic, reason), count in info.dead_letters.items():
            self._counter("engine_dead_letters_total", topic=topic, reason=reason).inc(count)
        for stream, watermark in info.batch.watermarks.items():
            self._gauge("engine_watermark_seconds", topic=stream).set(watermark / 1_000)
        self._note_latencies(info.outputs, batchCompleted.created)

    def _note_delays(self, info: BatchInfo) -> None:
        self._gauge("engine_last_batch_time_seconds").set(info.batchTime / 1_000)
        self._gauge("engine_last_commit_time_seconds").set(info.processingEndTime / 1_000)
        self._histogram("engine_batch_records").observe(info.numRecords)
        self._histogram("engine_scheduling_delay_seconds").observe(info.schedulingDelay / 1_000)
        self._histogram("engine_processing_seconds").observe(info.processingDelay / 1_000)
        self._histogram("engine_total_delay_seconds").observe(info.totalDelay / 1_000)

    def _note_stages(self, seconds: Mapping[str, float]) -> None:
        for stage, spent in seconds.items():
            self._histogram("engine_stage_seconds", stage=stage).observe(spent)

    def _note_tasks(self, tasks: Mapping[str, int]) -> None:
        for outcome, count in tasks.items():
            if count:
                self._counter("engine_tasks_total", outcome=outcome).inc(count)

    def _note_offsets(self, batch: Batch, *, counted: bool) -> None:
        for part in (part for parts in batch.ranges.values() for part in parts):
            place = {"topic": part.topic, "partition": str(part.partition)}
            self._gauge("engine_offset", **place).set(part.untilOffset)
            self._begin_topic(part.topic)
            if counted and part.count():
                self._counter("engine_records_total", topic=part.topic).inc(part.count())

    def _begin_topic(self, topic: str) -> None:
        if ("engine_records_total", topic) not in self._counter_series:
            self._counter("engine_records_total", topic=topic)
            for reason in self.registry.rows["engine_dead_letters_total"].labels["reason"]:
                self._counter("engine_dead_letters_total", topic=topic, reason=reason)

    def _note_lags(self, lags: Mapping[TopicPartition, Lag]) -> None:
        for place, lag in lags.items():
            labels = {"topic": place.topic, "partition": str(place.partition)}
            if place not in self._lags:
                # Asked at the scrape: what waits grows older while no batch ends.
                self._gauge("engine_lag_seconds", **labels).set_function(partial(self._lag_seconds, place))
                self._begin_topic(place.topic)
            self._lags[place] = lag
            self._gauge("engine_lag_records", **labels).set(lag.records)

    def _lag_seconds(self, place: TopicPartition) -> float:
        return self._lags[place].seconds(self._clock.wall_ms())

    def _note_state(self, operator: str, state: StateReport) -> None:
        job, rest = job_and_rest(operator)
        self._gauge("engine_state_keys", job=job, operator=rest).set(state.keys)
        self._gauge("engine_state_bytes", job=job, operator=rest).set(state.size_bytes)
        self._counter("engine_state_updates_total", job=job, operator=rest).inc(state.updated)

    def _note_latencies(self, outputs: Iterable[OutputInfo], created: Mapping[str, Iterable[int]]) -> None:
        """What an output shows was created then; what it has not shown yet waits."""
        ends = {output.operation: output.endTime for output in outputs}
        for output, waiting in self._waiting.items():
            end = ends.get(output)
            if end is None:
                # To a thousandth of the slide, so that a long one keeps few numbers.
                grain = max(1, output.slide // 1_000)
                for stream in output.inputs:
                    waiting.update(time - time % grain for time in created.get(stream, ()))
                continue
            latencies = self._histogram("engine_end_to_end_seconds", job=output.job, output=output.output)
            for time, count in waiting.items():
                latencies.observe(max(0, end - time) / 1_000, count)
            waiting.clear()
            for stream in output.inputs:
                latencies.observe_all(max(0, end - time) / 1_000 for time in created.get(stream, ()))

    # The volume and the results store.

    def onSnapshotWritten(self, snapshotWritten: events.StreamingListenerSnapshotWritten) -> None:
        """Note how long it took and how large it is."""
        self._histogram("engine_snapshot_seconds").observe(snapshotWritten.seconds)
        self._counter("engine_snapshot_bytes_total").inc(snapshotWritten.size_bytes)

    def onVolumePurged(self, volumePurged: events.StreamingListenerVolumePurged) -> None:
        """Note how full it is."""
        self._note_stages(volumePurged.stage_seconds)
        volume = volumePurged.volume
        if volume is not None:
            self._gauge("engine_checkpoint_bytes", part="journal").set(volume.journal_bytes)
            self._gauge("engine_checkpoint_bytes", part="state").set(volume.state_bytes)
            self._gauge("engine_checkpoint_bytes", part="blocks").set(volume.block_bytes)
            self._gauge("engine_checkpoint_volume_bytes", kind="free").set(volume.free_bytes)
            self._gauge("engine_checkpoint_volume_bytes", kind="size").set(volume.size_bytes)

    def onCheckpointFailed(self, checkpointFailed: events.StreamingListenerCheckpointFailed) -> None:  # noqa: ARG002  one more is all there is to say
        """Count it."""
        self._counter("engine_checkpoint_failures_total").inc()

    def _note_writes(self, writes: Mapping[str, WriteReport]) -> None:
        for table, report in writes.items():
            self._histogram("engine_sink_write_seconds", table=table).merge(report.seconds)
            self._counter("engine_sink_rows_total", table=table).inc(report.rows)
            self._counter("engine_sink_retries_total", table=table).inc(report.retries)
            self._counter("engine_sink_failures_total", table=table).inc(report.failures)

    # The series.

    def _counter(self, name: str, **labels: str) -> Counter:
        key = (name, *labels.values())
        series = self._counter_series.get(key)
        if series is None:
            metric = self._counters[name]
            series = self._counter_series[key] = metric.labels(**labels) if labels else metric
        return series

    def _gauge(self, name: str, **labels: str) -> Gauge:
        key = (name, *labels.values())
        series = self._gauge_series.get(key)
        if series is None:
            metric = self._gauges[name]
            series = self._gauge_series[key] = metric.labels(**labels) if labels else metric
        return series

    def _histogram(self, name: str, **labels: str) -> Buckets:
        return self._histograms[name].labels(**labels)
