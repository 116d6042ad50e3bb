"""What metrics are made of, whoever exports them: the rows of a table, histograms that merge, and a registry.

Names follow Prometheus: base units, `_seconds`, `_bytes`, `_total` for counters and for nothing else.

Owns: Metric, OPEN, Histograms, Registry.
Never: a metric of its own; a setting of the whole process.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Final, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from engine.reports import SECONDS, Buckets

_Kind = TypeVar("_Kind", Counter, Gauge)

OPEN: Final = ()
"""Values of a label that whoever runs gives: topics, outputs, operators, tables, executors."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of a table."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    """A sentence or two: when it moves, and in which unit where the name does not tell."""
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By label its values; OPEN where the table does not know them."""
    bounds: tuple[float, ...] = SECONDS
    """Upper bounds of a histogram's buckets."""

    def series(self) -> Iterator[dict[str, str]]:
        """The labels of each series that the table knows; one without labels when there are none."""
        for values in product(*self.labels.values()):
            yield dict(zip(self.labels, values, strict=True))


class Histograms(Collector):
    """A row's histogram with its labels; takes single observations and buckets that were filled elsewhere.

    prometheus_client's own cannot add many observations at once.

    Example:
        >>> histograms = Histograms(Metric("wait_seconds", "histogram", "How long.", {"queue": OPEN}, (1, 5)))
        >>> histograms.labels(queue="a").observe(2)
        >>> [sample.value for sample in next(histograms.collect()).samples]
        [0.0, 1.0, 1.0, 1.0, 2.0]
    """

    def __init__(self, row: Metric) -> None:
        self._row = row
        self._bounds = [*(str(float(bound)) for bound in row.bounds), "+Inf"]
        self._buckets: dict[tuple[str, ...], Buckets] = {}

    def labels(self, **labels: str) -> Buckets:
        """The buckets of these labels; they are exported from now on."""
        key = tuple(labels[name] for name in self._row.labels)
        buckets = self._buckets.get(key)
        if buckets is None:
            buckets = self._buckets[key] = Buckets(self._row.bounds)
        return buckets

    def collect(self) -> Iterator[Family]:
        """The histogram as a scrape sees it."""
        family = HistogramMetricFamily(self._row.name, self._row.meaning, labels=tuple(self._row.labels))
        # Copies: the threads that observe go on while a scrape reads.
        for key, buckets in list(self._buckets.items()):
            counts = [float(count) for count in buckets.cumulative()]
            family.add_metric(key, list(zip(self._bounds, counts, strict=True)), buckets.total)
        yield family


class Registry(CollectorRegistry):
    """The metrics of a table, with those of the process.

    1. A series whose labels the table knows is there from the start, with 0.
    2. The time at which each counter began is left out: a series more for each, which nobody asks for.

    Args:
        table: the rows; a metric is there once it was asked for by its name, or registered by its collector.

    Example:
        >>> registry = Registry([Metric("jobs_total", "counter", "Jobs.", {"outcome": ("good", "bad")})])
        >>> registry.counter("jobs_total").labels("good").inc()
        >>> [(sample.labels, sample.value) for family in registry.collect() for sample in family.samples][-2:]
        [({'outcome': 'good'}, 1.0), ({'outcome': 'bad'}, 0.0)]
    """

    def __init__(self, table: Iterable[Metric] = ()) -> None:
        super().__init__()
        self.rows = {row.name: row for row in table}
        """By name."""
        ProcessCollector(registry=self)

    def counter(self, name: str) -> Counter:
        """Begin a row's counter."""
        return self._begin(Counter, name)

    def gauge(self, name: str) -> Gauge:
        """Begin a row's gauge."""
        return self._begin(Gauge, name)

    def histogram(self, name: str) -> Histograms:
        """Begin a row's histogram."""
        histograms = Histograms(self.rows[name])
        for labels in self.rows[name].series():
            histograms.labels(**labels)
        self.register(histograms)
        return histograms

    def _begin(self, kind: type[_Kind], name: str) -> _Kind:
        row = self.rows[name]
        metric = kind(row.name, row.meaning, tuple(row.labels), registry=self)
        for labels in row.series():
            if labels:
                metric.labels(**labels)
        return metric

    def collect(self) -> Iterator[Family]:
        """What a scrape shows."""
        for family in super().collect():
            if family.type == "counter":
                family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
