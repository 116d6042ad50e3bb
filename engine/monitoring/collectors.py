"""What a scrape reads: histograms that merge, and the processes of the executors.

Owns: Histograms, ExecutorCollector.
Never: a metric that the table does not have.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from engine.reports import Buckets


class Histograms(Collector):
    """One histogram with its labels; takes single observations and buckets that were filled elsewhere.

    prometheus_client's own cannot add many observations at once.

    Example:
        >>> histograms = Histograms("wait_seconds", "How long.", ("queue",), (1, 5))
        >>> histograms.labels(queue="a").observe(2)
        >>> [sample.value for sample in next(histograms.collect()).samples]
        [0.0, 1.0, 1.0, 1.0, 2.0]
    """

    def __init__(self, name: str, meaning: str, labels: Sequence[str], bounds: tuple[float, ...]) -> None:
        self._name = name
        self._meaning = meaning
        self._labels = tuple(labels)
        self._bounds = bounds
        self._buckets: dict[tuple[str, ...], Buckets] = {}

    def labels(self, **labels: str) -> Buckets:
        """The buckets of these labels; they are exported from now on."""
        key = tuple(labels[name] for name in self._labels)
        buckets = self._buckets.get(key)
        if buckets is None:
            buckets = self._buckets[key] = Buckets(self._bounds)
        return buckets

    def collect(self) -> Iterator[Metric]:
        """The histogram as a scrape sees it."""
        family = HistogramMetricFamily(self._name, self._meaning, labels=self._labels)
        # Copies: the scheduler's thread goes on while a scrape reads.
        for key, buckets in list(self._buckets.items()):
            bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
            counts = [float(count) for count in buckets.cumulative()]
            family.add_metric(key, list(zip(bounds, counts, strict=True)), buckets.total)
        yield family


class ExecutorCollector(Collector):
    """CPU and memory of the executor processes, read from the system at each scrape.

    Args:
        pids: process ids by the executors' numbers, as they are now.
        names: of the metric of CPU seconds and that of resident bytes, with their meanings.
    """

    def __init__(self, pids: Callable[[], Sequence[int]], names: Mapping[str, str]) -> None:
        self._pids = pids
        self._names = names

    def collect(self) -> Iterator[Metric]:
        """Both metrics; a process that is gone has no sample."""
        (cpu_name, cpu_meaning), (memory_name, memory_meaning) = self._names.items()
        cpu = CounterMetricFamily(cpu_name, cpu_meaning, labels=["executor"])
        memory = GaugeMetricFamily(memory_name, memory_meaning, labels=["executor"])
        for number, pid in enumerate(self._pids()):
            found = {family.name: family for family in _process(pid)}
            resident = found.get("process_resident_memory_bytes")
            # A dead process that nobody has waited for yet still has its CPU time, and no memory.
            if resident is not None and resident.samples[0].value:
                cpu.add_metric([str(number)], found["process_cpu_seconds"].samples[0].value)
                memory.add_metric([str(number)], resident.samples[0].value)
        yield cpu
        yield memory


def _process(pid: int) -> Iterator[Metric]:
    yield from ProcessCollector(pid=lambda: pid, registry=None).collect()
