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
from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from threading import Lock
from typing import Final

from engine.clock import Clock
from engine.errors import ConfigurationError
from engine.metrics import OPEN, Metric, Registry
from engine.reports import SECONDS, Buckets
from engine.version import VERSION
from services.health import Pulse, serve
from services.producer.feed import PartitionSink
from services.producer.schedule import Position

SILENT_SECONDS: Final = 30.0
"""How old the last round of appends to all partitions may be: in a round each of six may go unanswered for 5 s."""

_TIME = itemgetter(0)
"""A record's intended time, milliseconds since the epoch."""

Record = tuple[int, bytes, bytes]
"""Intended time, key and value of an event."""


METRICS: Final = (
    Metric("producer_build_info", "gauge", "1, with the version of the producer.", {"version": OPEN}),
    Metric("producer_target_rate", "gauge", "Events per second that the settings ask for.", {"topic": OPEN}),
    Metric(
        "producer_events_total",
        "counter",
        "Events that this process has appended, acknowledged.",
        {"topic": OPEN},
    ),
    Metric(
        "producer_append_seconds",
        "histogram",
        "One append (one transaction, at most 2,000 events) until it is committed.",
        {"topic": OPEN},
    ),
    Metric(
        "producer_append_failures_total",
        "counter",
        "Appends that were not acknowledged; the partition is read back after each.",
        {"topic": OPEN},
    ),
    Metric(
        "producer_schedule_delay_seconds",
        "histogram",
        "From an event's intended time until it was acknowledged; 0 for one that was sent ahead of time.",
        {"topic": OPEN},
    ),
)
"""Every metric that the producer exports, those of the process (process_*) aside."""


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
        self.registry = Registry(METRICS)
        self.pulse = Pulse(clock, "round of appends", SILENT_SECONDS)
        """For who appends: a partition that hangs while others go on shows in the round alone."""
        self._clock = clock
        self._lock = Lock()
        """Partitions are read back side by side, and what is found then is counted."""
        self._events = self.registry.counter("producer_events_total")
        self._failures = self.registry.counter("producer_append_failures_total")
        self._append = self.registry.histogram("producer_append_seconds")
        self._delays = self.registry.histogram("producer_schedule_delay_seconds")
        self.registry.gauge("producer_build_info").labels(VERSION).set(1)
        target = self.registry.gauge("producer_target_rate")
        for topic, rate in rates.items():
            target.labels(topic).set(rate)
            for metric in (self._events, self._failures, self._append, self._delays):
                metric.labels(topic=topic)

    def measured(self, topic: str, sink: PartitionSink) -> PartitionSink:
        """The sink, with everything that goes through it measured."""
        return _MeasuredSink(sink, topic, self, self._clock)

    def acknowledged(self, topic: str, records: Sequence[Record]) -> None:
        """Count events that are in the topic as of now, in the order of their intended times."""
        self._events.labels(topic).inc(len(records))
        with self._lock:
            self._delays.labels(topic=topic).merge(delays(records, self._clock.wall_ms()))

    def appended(self, topic: str, seconds: float) -> None:
        """Count an append that was committed."""
        self._append.labels(topic=topic).observe(seconds)

    def failed(self, topic: str) -> None:
        """Count an append that was not acknowledged."""
        self._failures.labels(topic).inc()

    def serve(self, host: str, port: int) -> None:
        """Serve the registry at http://host:port/metrics and the pulse at /healthz, until the process ends.

        Raises:
            ConfigurationError: the port is taken, or the host is not this machine.
        """
        try:
            serve(host, port, self.registry, self.pulse.ailment)
        except OSError as cause:
            raise ConfigurationError(
                f"PRODUCER_METRICS_PORT={port} cannot be opened on LISTEN_HOST={host} ({cause.strerror}); "
                "choose another port or address"
            ) from cause


def delays(records: Sequence[Record], now_ms: int) -> Buckets:
    """The delays of events whose intended times ascend, all at once.

    Example:
        >>> delays([(1_000, b"", b""), (3_000, b"", b"")], 3_500).total
        3.0
    """
    # By ascending delay: how many events have at least the time that lies a bucket's bound back.
    within = [len(records) - bisect_left(records, now_ms - bound * 1_000, key=_TIME) for bound in SECONDS]
    counts = [end - before for before, end in pairwise((0, *within, len(records)))]
    late = bisect_right(records, now_ms, key=_TIME)
    return Buckets(SECONDS, counts, (late * now_ms - sum(map(_TIME, records[:late]))) / 1_000)


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
