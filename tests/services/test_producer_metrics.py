"""The producer's metrics by value: on the embedded log, on a real Kafka, and in a real scrape."""

import signal
import socket
import threading
import tomllib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from engine.clock import ManualClock, SystemClock
from engine.reports import SECONDS
from engine.sources.log import LogSource, create_topic
from engine.version import VERSION
from services.producer.events import AD_TOPIC, PAGE_TOPIC, page_event
from services.producer.feed import Feed, PartitionSink
from services.producer.kafka_sink import KafkaSink
from services.producer.main import build_feeds, run
from services.producer.metrics import METRICS, SILENT_SECONDS, ProducerMetrics
from services.producer.schedule import Schedule
from services.settings import REPOSITORY, Settings
from tests.ports import free_port
from tests.samples import names_of
from tests.servers import KafkaServer
from tests.services.producer_world import Spawn, health, scraped, spawn, wait_until
from tests.services.test_producer_feed import MemorySink, RunningClock
from tests.services.test_producer_kafka import committed_events

__all__ = ["spawn"]

START = 1_700_000_000_000
LABELS = {AD_TOPIC: 900, PAGE_TOPIC: 300}


def value(metrics: ProducerMetrics, name: str, **labels: str) -> float | None:
    """The value of one sample, None when there is none."""
    found: float | None = metrics.registry.get_sample_value(name, labels)
    return found


def buckets(metrics: ProducerMetrics, name: str, topic: str) -> list[float | None]:
    """A histogram's buckets, the last one without a bound."""
    bounds = (*(str(float(bound)) for bound in SECONDS), "+Inf")
    return [value(metrics, f"{name}_bucket", topic=topic, le=bound) for bound in bounds]


def at_most(delays: Iterable[float]) -> list[float]:
    """How many delays each bucket has."""
    found = list(delays)
    return [sum(delay <= bound for delay in found) for bound in (*SECONDS, float("inf"))]


def test_an_append_on_the_embedded_log_is_counted_event_by_event(tmp_path: Path) -> None:
    """After one flush of both topics each metric has the value that the schedule gives."""
    for topic, partitions in ((AD_TOPIC, 3), (PAGE_TOPIC, 2)):
        create_topic(tmp_path / "log", topic, partitions)
    settings = Settings(
        stack="embedded", data_dir=tmp_path, ad_partitions=3, page_partitions=2, ad_rate=900, page_rate=300
    )
    clock = ManualClock(START + 700)
    metrics = ProducerMetrics(LABELS, clock)
    for feed in build_feeds(settings, START, None, metrics):
        feed.settle()
        assert not feed.flush(clock.wall_ms())
        feed.close()
        topic, rate = feed.topic, LABELS[feed.topic]
        delays = [700 - k * 1_000 // rate for k in range(rate) if k * 1_000 // rate <= 700]
        log = LogSource(settings.log_dir, [topic]).bounds()
        assert value(metrics, "producer_events_total", topic=topic) == len(delays)
        assert sum(end for _, end in log.values()) == len(delays)
        assert buckets(metrics, "producer_schedule_delay_seconds", topic) == at_most(
            delay / 1_000 for delay in delays
        )
        assert value(metrics, "producer_schedule_delay_seconds_sum", topic=topic) == pytest.approx(
            sum(delays) / 1_000
        )
        # By the standing clock an append takes no time.
        assert buckets(metrics, "producer_append_seconds", topic) == [len(log)] * (len(SECONDS) + 1)
        assert value(metrics, "producer_append_failures_total", topic=topic) == 0
        assert value(metrics, "producer_target_rate", topic=topic) == rate


@given(
    st.lists(st.integers(-5_000, 100_000) | st.sampled_from([1, 5, 100, 60_000]), max_size=40),
    st.integers(1, 3),
)
def test_delays_in_bulk_are_delays_one_by_one(delays_ms: list[int], portions: int) -> None:
    """Whatever the delays, the histogram is the library's after one observation an event."""
    clock = ManualClock(START)
    metrics = ProducerMetrics(LABELS, clock)
    one_by_one = Histogram("h", "The same.", registry=CollectorRegistry(), buckets=SECONDS)
    for part in range(portions):
        delays = sorted(delays_ms[part::portions], reverse=True)
        metrics.acknowledged(PAGE_TOPIC, [(START - delay, b"", b"") for delay in delays])
        for delay in delays:
            one_by_one.observe(max(delay, 0) / 1_000)
    samples = {
        (sample.name[2:], sample.labels.get("le")): sample.value
        for family in one_by_one.collect()
        for sample in family.samples
    }
    expected = [samples["bucket", str(float(bound))] for bound in SECONDS] + [samples["bucket", "+Inf"]]
    assert buckets(metrics, "producer_schedule_delay_seconds", PAGE_TOPIC) == expected
    total = value(metrics, "producer_schedule_delay_seconds_sum", topic=PAGE_TOPIC)
    assert total == pytest.approx(samples["sum", None])
    assert value(metrics, "producer_events_total", topic=PAGE_TOPIC) == len(delays_ms)


@given(st.lists(st.sampled_from(["ok", "lost", "stored"]), max_size=30))
def test_events_in_doubt_are_counted_once_they_are_found(outcomes: list[str]) -> None:
    """However appends fail, the events counted are those that this process has brought into the log."""
    sinks = [MemorySink(iter(outcomes)), MemorySink(iter(outcomes[::2]))]
    before = [(START, *page_event(1, 0, 0, START))]
    sinks[0].values.append(before[0][2])
    clock = ManualClock(START + 500)
    metrics = ProducerMetrics(LABELS, clock)
    feed = feed_of([metrics.measured(PAGE_TOPIC, sink) for sink in sinks])
    failures = 0
    while not feed.is_done:
        clock.advance(100)
        with suppress(ConnectionError):
            feed.settle()
            try:
                feed.flush(clock.wall_ms())
            except ConnectionError:
                failures += 1
    appended = sum(len(sink.values) for sink in sinks) - len(before)
    assert value(metrics, "producer_events_total", topic=PAGE_TOPIC) == appended == feed.sent == 299
    assert value(metrics, "producer_schedule_delay_seconds_count", topic=PAGE_TOPIC) == appended
    assert value(metrics, "producer_append_failures_total", topic=PAGE_TOPIC) == failures


def feed_of(sinks: Sequence[PartitionSink]) -> Feed:
    """A feed of 300 page views."""
    return Feed(PAGE_TOPIC, page_event, 1, Schedule(START, 300, len(sinks)), sinks, 300)


class AwaySink(MemorySink):
    """A partition whose server is away until it is told to be back."""

    is_away = False

    def append(self, records: Sequence[tuple[int, bytes, bytes]]) -> None:
        """Append, or fail."""
        if self.is_away:
            raise ConnectionError("away")
        super().append(records)


def test_health_is_that_of_the_appends() -> None:
    """A producer is well while all its partitions get what is due, and not while one of them does not, until it does again."""
    clock = RunningClock(START)
    metrics = ProducerMetrics(LABELS, clock)
    sink = AwaySink(iter(()))
    feed = endless([metrics.measured(PAGE_TOPIC, one) for one in (MemorySink(iter(())), sink)])
    assert metrics.pulse.ailment() == "there was no round of appends yet"
    rounds(feed, clock, metrics, 1)
    assert metrics.pulse.ailment() == ""
    sink.is_away = True
    rounds(feed, clock, metrics, SILENT_SECONDS - 3)
    assert metrics.pulse.ailment() == ""
    rounds(feed, clock, metrics, 5)
    assert metrics.pulse.ailment().startswith("there was no round of appends for 3")
    sink.is_away = False
    rounds(feed, clock, metrics, 0.1)
    assert metrics.pulse.ailment() == ""


def test_topic_that_was_filled_ahead_is_well() -> None:
    """A producer that has nothing to append for an hour is at its work."""
    clock = RunningClock(START)
    metrics = ProducerMetrics(LABELS, clock)
    sink = MemorySink(iter(()))
    sink.values.extend(page_event(1, 0, seq, START + 3_600_000)[1] for seq in range(2))
    feed = endless([metrics.measured(PAGE_TOPIC, sink)])
    rounds(feed, clock, metrics, 2 * SILENT_SECONDS)
    assert metrics.pulse.ailment() == ""
    assert value(metrics, "producer_events_total", topic=PAGE_TOPIC) == 0


def endless(sinks: Sequence[PartitionSink]) -> Feed:
    """A feed of page views that is never done."""
    return Feed(PAGE_TOPIC, page_event, 1, Schedule(START, 300, len(sinks)), sinks)


def rounds(feed: Feed, clock: RunningClock, metrics: ProducerMetrics, seconds: float) -> None:
    """Let the producer's loop run for so long."""
    end = clock.monotonic() + seconds
    stop = _Until(lambda: clock.monotonic() >= end)
    run([feed], clock, stop, beat=metrics.pulse.beat)


class _Until(threading.Event):
    """An event that is set once a condition holds."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        super().__init__()
        self._condition = condition

    def is_set(self) -> bool:
        """Whether the condition holds."""
        return self._condition()


@pytest.mark.slow
def test_every_row_is_scraped_and_nothing_else(spawn: Spawn, tmp_path: Path) -> None:
    """A running producer serves each row of the table and the metrics of its process, and no other."""
    for topic in LABELS:
        create_topic(tmp_path / "log", topic, 1)
    port = free_port()
    variables = {
        "STACK": "embedded",
        "DATA_DIR": str(tmp_path),
        "AD_PARTITIONS": "1",
        "PAGE_PARTITIONS": "1",
        "PRODUCER_METRICS_PORT": str(port),
    }
    producer = spawn([], variables)
    events = ("producer_events_total", frozenset({("topic", PAGE_TOPIC)}))
    wait_until(lambda: scraped(port).get(events, 0) > 0, "the first event's count")
    names, expected = {name for name, _ in scraped(port)}, set()
    for metric in METRICS:
        expected |= names_of(metric)
    assert {name for name in names if not name.startswith("process_")} == expected
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes"} <= names
    labels = {name: {label for label, _ in pairs} - {"le"} for name, pairs in scraped(port)}
    for metric in METRICS:
        assert all(labels[name] == set(metric.labels) for name in names_of(metric)), metric.name
    assert health(port) == (200, "ok\n")
    producer.process.send_signal(signal.SIGTERM)
    assert producer.ended(20) == 0, producer.output


@pytest.mark.slow
def test_metrics_are_served_while_kafka_is_waited_for(spawn: Spawn, tmp_path: Path) -> None:
    """A producer without a Kafka serves every series with 0, and still ends on SIGTERM with 0."""
    port = free_port()
    variables = {
        "KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "DATA_DIR": str(tmp_path),
        "PRODUCER_METRICS_PORT": str(port),
    }
    producer = spawn([], variables)
    wait_until(lambda: "waiting: " in producer.output, "the line about Kafka")
    found = scraped(port)
    for topic in LABELS:
        for name in (
            "producer_events_total",
            "producer_append_failures_total",
            "producer_append_seconds_count",
            "producer_schedule_delay_seconds_count",
            "producer_schedule_delay_seconds_sum",
        ):
            assert found[name, frozenset({("topic", topic)})] == 0
    assert found["producer_target_rate", frozenset({("topic", AD_TOPIC)})] == 1_000
    assert found["producer_build_info", frozenset({("version", VERSION)})] == 1
    assert health(port) == (503, "there was no round of appends yet\n")
    producer.process.send_signal(signal.SIGTERM)
    assert producer.ended(20) == 0, producer.output


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
def test_an_address_that_cannot_be_opened_is_refused(spawn: Spawn, tmp_path: Path, host: str) -> None:
    """A taken port or another machine's address ends the producer with 2 and one sentence that names the variables."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        variables = {"DATA_DIR": str(tmp_path), "PRODUCER_METRICS_PORT": port, "LISTEN_HOST": host}
        producer = spawn([], variables)
        assert producer.ended() == 2
    assert producer.output.startswith(
        f"PRODUCER_METRICS_PORT={port} cannot be opened on LISTEN_HOST={host} ("
    )
    assert producer.output.count("\n") == 1


def test_version_is_the_projects() -> None:
    """The version that the metrics tell is that of pyproject.toml."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION


@pytest.mark.servers
@pytest.mark.slow
def test_transactions_on_a_real_kafka_are_counted(
    kafka_server: KafkaServer, fresh_topic: Callable[[int], str]
) -> None:
    """On Kafka each event is counted once, also when the server is killed and started in between."""
    name, clock = fresh_topic(2), SystemClock()
    metrics = ProducerMetrics({name: 3_000}, clock)
    sinks = [metrics.measured(name, KafkaSink(kafka_server.bootstrap, name, p)) for p in range(2)]
    feed = Feed(name, page_event, 1, Schedule(clock.wall_ms() - 20_000, 3_000, 2), sinks, 6_000)

    def attempt() -> bool:
        try:
            feed.settle()
            feed.flush_ahead()
        except ConnectionError:
            return False
        return True

    wait_until(attempt, "the first portion of each partition")
    assert value(metrics, "producer_append_seconds_count", topic=name) == 2
    assert value(metrics, "producer_events_total", topic=name) == 4_000
    assert value(metrics, "producer_append_failures_total", topic=name) == 0
    kafka_server.kill()
    assert not attempt()
    assert value(metrics, "producer_append_failures_total", topic=name) == 1
    kafka_server.start()
    wait_until(lambda: attempt() and feed.is_done, "the rest")
    feed.close()
    wait_until(
        lambda: sum(map(len, committed_events(kafka_server.bootstrap, name, 2))) == 6_000, "every event"
    )
    assert value(metrics, "producer_events_total", topic=name) == 6_000
    # The last event was due 18 seconds before the start.
    delays = buckets(metrics, "producer_schedule_delay_seconds", name)
    assert delays[SECONDS.index(10) :: 3] == [0, 6_000]
    assert value(metrics, "producer_append_seconds_sum", topic=name) > 0
