"""The Yahoo streaming benchmark's query from a pre-filled Kafka topic: the engine beside the hand-written loop.

Both read the same topic in the same run, in turn, several times; every run's counts are held against the truth. The engine runs
the pipeline's job as it is, on local[2] with checkpoints on, in batches of a fixed number of records as under a backlog.

Owns: fill, Run, run_loop, run_engine, truth.
Never: a comparison across machines or runs.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import psutil
from confluent_kafka import Producer

from engine import LocalContext, ManualClock, StreamingContext
from engine.rdd.api import RDD
from engine.sources.decoders import json_decoder
from engine.sources.kafka import KafkaUtils, PreferConsistent, Subscribe
from services.pipeline.campaigns import ADS_PER_CAMPAIGN
from services.pipeline.jobs import campaign_windows
from services.pipeline.jobs.campaign_windows import AdEvent
from services.producer.events import ad_event
from services.settings import REPOSITORY

PARTITIONS = 4
START_MS = 1_700_000_000_000
EVENTS_PER_MS = 100
"""Event time moves by a millisecond every so many events: 100k events/s of event time."""

Counts = dict[tuple[str, int], tuple[int, int]]
"""Views and the sum of their events' seq, by (campaign, start of the window in milliseconds since the epoch)."""


class Run(NamedTuple):
    """One side of one comparison."""

    name: str
    seconds: float
    cpu_seconds: float
    """Of the whole process tree, the broker left out."""
    peak_bytes: int
    """Of the largest process."""
    counts: Counts


def event_time(seq: int) -> int:
    """Milliseconds since the epoch of the event of this number in its partition."""
    return START_MS + seq * PARTITIONS // EVENTS_PER_MS


def fill(bootstrap: str, topic: str, events: int, progress: Callable[[int], None]) -> None:
    """Write the events into the topic, spread evenly over its partitions."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 50, "batch.num.messages": 5_000, "acks": "all"}
    )
    for seq in range(events // PARTITIONS):
        for partition in range(PARTITIONS):
            key, value = ad_event(1, partition, seq, event_time(seq))
            while True:
                try:
                    producer.produce(topic, value, key, partition)
                    break
                except BufferError:
                    producer.poll(0.1)
        if seq % 5_000 == 0:
            progress(seq * PARTITIONS)
    if producer.flush(60):
        raise TimeoutError(f"Kafka at {bootstrap} did not take all events within 60 s")
    progress(events)


def truth(events: int) -> Counts:
    """The counts that the events have by their making, without a look at the topic."""
    return _added(_single_views(events))


def _single_views(events: int) -> Iterator[Sequence[Any]]:
    for partition in range(PARTITIONS):
        for seq in range(0, events // PARTITIONS, 3):
            value = json.loads(ad_event(1, partition, seq, 0)[1])
            campaign = f"campaign-{int(value['ad_id'][3:]) // ADS_PER_CAMPAIGN:02d}"
            time_ms = event_time(seq)
            yield campaign, time_ms - time_ms % campaign_windows.WINDOW_MS, 1, seq


def _added(rows: Iterable[Sequence[Any]]) -> Counts:
    """Rows of campaign, window, views and sum of seq, those of one key together."""
    counts: Counts = {}
    for campaign, window, views, seqs in rows:
        known = counts.get((campaign, window), (0, 0))
        counts[campaign, window] = known[0] + views, known[1] + seqs
    return counts


def run_loop(bootstrap: str, topic: str, events: int, processes: int) -> Run:
    """The hand-written loop on so many processes, each with its share of the partitions."""
    places = [f"{partition}:{events // PARTITIONS}" for partition in range(PARTITIONS)]
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "tools.bench.loop", bootstrap, topic, *places[index::processes]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        for index in range(processes)
    ]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    results = [json.loads(child.communicate()[0]) for child in children]
    return Run(
        f"loop, {processes} process{'es' if processes > 1 else ''}",
        max(result["end"] for result in results) - min(result["begin"] for result in results),
        sum(result["cpu_seconds"] for result in results),
        max(result["peak_bytes"] for result in results),
        _added(row for result in results for row in result["counts"]),
    )


def _cpu_seconds(pids: list[int]) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(each.user + each.system for each in times)


class _Kept:
    """The job's rows as a store would hold them: the newest of each key."""

    def __init__(self) -> None:
        self.counts: Counts = {}

    def __call__(self, rdd: RDD[Any]) -> None:
        self.counts.update({(campaign, window): tuple(sums) for campaign, window, *sums in rdd.collect()})


def run_engine(bootstrap: str, topic: str, events: int, master: str, batch_records: int) -> Run:
    """The pipeline's job on the engine, from the first batch to the last commit."""
    with (
        tempfile.TemporaryDirectory(dir=REPOSITORY / ".bench") as folder,
        LocalContext(master, "bench") as context,
    ):
        clock = ManualClock(START_MS)
        ssc = StreamingContext(context, 1.0, clock=clock)
        ssc.checkpoint(folder)
        params: Mapping[str, Any] = {
            "bootstrap.servers": bootstrap,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
        stream = KafkaUtils.createDirectStream(
            ssc,
            PreferConsistent,
            Subscribe([topic], params),
            decoder=json_decoder(AdEvent),
            eventTime=campaign_windows.EVENT_TIME,
            name=campaign_windows.STREAM,
            maxRatePerPartition=batch_records / PARTITIONS,
        )
        kept = _Kept()
        campaign_windows.build(ssc, stream, kept)
        ssc.start(thread=False)
        pids = [psutil.Process().pid, *context.executor_pids]
        begin, cpu_before = time.perf_counter(), _cpu_seconds(pids)
        for _ in range(-(-events // batch_records)):
            clock.advance(1_000)
            ssc.runBatch()
        seconds, cpu_seconds = time.perf_counter() - begin, _cpu_seconds(pids) - cpu_before
        peak = max(psutil.Process(pid).memory_info().rss for pid in pids)
        ssc.stop(stopSparkContext=False)
        return Run(f"engine, {master}", seconds, cpu_seconds, peak, kept.counts)
