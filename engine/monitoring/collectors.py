"""What a scrape reads from the system: the processes of the executors.

Owns: ExecutorCollector.
Never: a metric that the table does not have.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


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
