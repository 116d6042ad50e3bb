"""The producer's metrics: one table, kept by a sink that measures another one; feeds and sinks know nothing of it.

Names follow Prometheus: base units, `_seconds`, `_total`. The only label is the topic, and each topic's series are there from the
start, with 0.

An event is counted once it is known to be in the topic: when its append returns or, after a failed append, when the
partition was read back and has it. So `producer_schedule_delay_seconds_count` is `producer_events_total`, and both are what this
process has added to the log.

The delay is told of every event, in one step an append: intended times ascend, so each bucket is one binary search.

Owns: METRICS, ProducerMetrics.
Never: an event's content, a rule of when to append.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from operator import itemgetter
from threading import Lock
from typing import Final, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from engine.clock import Clock
from engine.errors import ConfigurationError
from engine.version import VERSION
from services.producer.feed import PartitionSink
from services.producer.schedule import Position

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Upper bounds of the histograms' buckets, seconds."""

_TIME = itemgetter(0)
"""A record's intended time, milliseconds since the epoch."""

Record = tuple[int, bytes, bytes]
"""Intended time, key and value of an event."""


class Metric(NamedTuple):
    """One row of the table."""

    name: str
    kind: type[Counter] | type[Gauge] | type[Histogram]
    labels: tuple[str, ...]
    meaning: str


METRICS: Final = (
    Metric("producer_build_info", Gauge, ("version",), "1, with the version of the producer."),
    Metric("producer_target_rate", Gauge, ("topic",), "Events per second that the settings ask for."),
    Metric(
        "producer_events_total", Counter, ("topic",), "Events that this process has appended, acknowledged."
    ),
    Metric(
        "producer_append_seconds",
        Histogram,
        ("topic",),
        "One append (one transaction, at most 2,000 events) until it is committed.",
    ),
    Metric(
        "producer_append_failures_total",
        Counter,
        ("topic",),
        "Appends that were not acknowledged; the partition is read back after each.",
    ),
    Metric(
        "producer_schedule_delay_seconds",
        Histogram,
        ("topic",),
        "From an event's intended time until it was acknowledged; 0 for one that was sent ahead of time.",
    ),
)
"""Every metric that the producer exports, those of the process (process_*) aside."""

_ROWS = {metric.name: metric for metric in METRICS}


class ProducerMetrics:
    """The metrics of the table, in a registry of their own with those of the process.

    Args:
        rates: by topic the events per second that the settings ask for.
        clock: tells how long an append took and how late its events are.

    Example:
        >>> from engine.clock import ManualClock
        >>> metrics = ProducerMetrics({"page-views": 500}, ManualClock())
        >>> metrics.registry.get_sample_value("producer_target_rate", {"topic": "page-views"})
        500.0
    """

    def __init__(self, rates: Mapping[str, int], clock: Clock) -> None:
        # For the whole process: without it every counter has a second series with its time of birth.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's, untyped
        self.registry = CollectorRegistry()
        self._clock = clock
        self._events = Counter(*_head("producer_events_total"), registry=self.registry)
        self._failures = Counter(*_head("producer_append_failures_total"), registry=self.registry)
        self._append = Histogram(*_head("producer_append_seconds"), registry=self.registry, buckets=SECONDS)
        self._delays = _Delays(_ROWS["producer_schedule_delay_seconds"], rates)
        self.registry.register(self._delays)
        Gauge(*_head("producer_build_info"), registry=self.registry).labels(VERSION).set(1)
        target = Gauge(*_head("producer_target_rate"), registry=self.registry)
        for topic, rate in rates.items():
            target.labels(topic).set(rate)
            for metric in (self._events, self._failures, self._append):
                metric.labels(topic)
        ProcessCollector(registry=self.registry)

    def measured(self, topic: str, sink: PartitionSink) -> PartitionSink:
        """The sink, with everything that goes through it measured."""
        return _MeasuredSink(sink, topic, self, self._clock)

    def acknowledged(self, topic: str, records: Sequence[Record]) -> None:
        """Count events that are in the topic as of now, in the order of their intended times."""
        self._events.labels(topic).inc(len(records))
        self._delays.observe(topic, records, self._clock.wall_ms())

    def appended(self, topic: str, seconds: float) -> None:
        """Count an append that was committed."""
        self._append.labels(topic).observe(seconds)

    def failed(self, topic: str) -> None:
        """Count an append that was not acknowledged."""
        self._failures.labels(topic).inc()

    def serve(self, host: str, port: int) -> None:
        """Serve the registry at http://host:port/metrics, on a thread that ends with the process.

        Raises:
            ConfigurationError: the port is taken, or the host is not this machine.
        """
        try:
            start_http_server(port, host, self.registry)
        except OSError as cause:
            raise ConfigurationError(
                f"PRODUCER_METRICS_PORT={port} cannot be opened on LISTEN_HOST={host} ({cause.strerror}); "
                "choose another port or address"
            ) from cause


def _head(name: str) -> tuple[str, str, tuple[str, ...]]:
    """What the library wants to know of a row."""
    row = _ROWS[name]
    return row.name, row.meaning, row.labels


class _Delays(Collector):
    """A histogram that takes in all the events of an append at once; the library's takes one at a time.

    State: by topic the number of events in each bucket, the last one without a bound, and the sum of their delays.
    """

    def __init__(self, row: Metric, topics: Mapping[str, int]) -> None:
        self._row = row
        self._lock = Lock()
        self._counts = {topic: [0] * (len(SECONDS) + 1) for topic in topics}
        self._sum_ms = dict.fromkeys(topics, 0)

    def observe(self, topic: str, records: Sequence[Record], now_ms: int) -> None:
        """Take in the delays of events whose intended times ascend."""
        # By ascending delay: how many events have at least the time that lies a bucket's bound back.
        within = [len(records) - bisect_left(records, now_ms - bound * 1_000, key=_TIME) for bound in SECONDS]
        ends = (*within, len(records))
        late = bisect_right(records, now_ms, key=_TIME)
        with self._lock:
            counts = self._counts[topic]
            for bucket, (before, end) in enumerate(zip((0, *within), ends, strict=True)):
                counts[bucket] += end - before
            self._sum_ms[topic] += late * now_ms - sum(map(_TIME, records[:late]))

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The histogram as of now."""
        family = HistogramMetricFamily(self._row.name, self._row.meaning, labels=self._row.labels)
        bounds = (*(str(float(bound)) for bound in SECONDS), "+Inf")
        with self._lock:
            for topic, counts in self._counts.items():
                buckets = list(zip(bounds, map(float, accumulate(counts)), strict=True))
                family.add_metric([topic], buckets, self._sum_ms[topic] / 1_000)
        yield family


class _MeasuredSink:
    """A partition whose appends are measured.

    State: the append that is in doubt, and where the partition stands without it.
    """

    def __init__(self, sink: PartitionSink, topic: str, metrics: ProducerMetrics, clock: Clock) -> None:
        self._sink = sink
        self._topic = topic
        self._metrics = metrics
        self._clock = clock
        self._tried: Sequence[Record] = ()
        self._next: int | None = None
        """Number of the next event; None until the partition was read back for the first time."""

    def resume(self) -> Position:
        """Resume, then count the append that was in doubt if it is in the log after all."""
        position = self._sink.resume()
        found = 0 if self._next is None else position.seq + 1 - self._next
        self._metrics.acknowledged(self._topic, self._tried[: max(found, 0)])
        self._tried, self._next = (), position.seq + 1
        return position

    def append(self, records: Sequence[Record]) -> None:
        """Append, and count what came of it."""
        assert self._next is not None, "resume() comes first"
        # In doubt from BEFORE the append until it has returned.
        self._tried = records
        began = self._clock.monotonic()
        try:
            self._sink.append(records)
        except OSError:
            self._metrics.failed(self._topic)
            raise
        self._metrics.appended(self._topic, self._clock.monotonic() - began)
        self._tried, self._next = (), self._next + len(records)
        self._metrics.acknowledged(self._topic, records)

    def close(self) -> None:
        """Let go of the partition."""
        self._sink.close()
