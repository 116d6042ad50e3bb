"""The producer process: both topics at their rates, until it is told to stop.

    python -m services.producer.main [--limit N] [--fast] [--start-ms T]

Owns: the command, the loop over the two feeds.
Never: an event's content, a transaction.
"""

import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial

import click

from engine.clock import Clock, SystemClock
from services.producer import kafka_sink, log_sink
from services.producer.events import AD_TOPIC, PAGE_TOPIC, ad_event, page_event
from services.producer.feed import Content, Feed, PartitionSink
from services.producer.metrics import ProducerMetrics
from services.producer.schedule import Schedule
from services.settings import Settings, exit_code, load_settings

FLUSH_SECONDS = 0.15
"""Time between two appends to a partition. Measured with six partitions at 1,500 events/s on two shared cores, in percent of one core:
every 0.1 s costs Kafka 22 and this process 6, every 0.15 s 16 and 4, every 0.2 s 11 and 3; an idle Kafka takes 2."""
PROGRESS_SECONDS = 5.0
FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 2.0

_log = logging.getLogger("producer")


class Waiting:
    """Repeats what a server that is away has refused, with backoff and at most one line a second.

    Args:
        clock: tells the time.
        stop: ends the waiting.
    """

    def __init__(self, clock: Clock, stop: threading.Event) -> None:
        self._clock = clock
        self._stop = stop
        self._seconds = FIRST_WAIT_SECONDS
        self._said_at = float("-inf")

    def attempt(self, step: Callable[[], bool]) -> bool | None:
        """What the step returns, or None when it did not work and was waited for."""
        try:
            result = step()
        except OSError as error:
            self._say(str(error))
            self._clock.wait(self._stop, self._seconds)
            self._seconds = min(self._seconds * 2, LONGEST_WAIT_SECONDS)
            return None
        self._seconds = FIRST_WAIT_SECONDS
        return result

    def _say(self, trouble: str) -> None:
        now = self._clock.monotonic()
        if now - self._said_at >= 1:
            self._said_at = now
            _log.warning("waiting: %s", trouble)


class Progress:
    """A line every few seconds: events sent, rate and how far behind the schedule."""

    def __init__(self, feeds: Sequence[Feed], clock: Clock) -> None:
        self._feeds = feeds
        self._clock = clock
        self._told_at = clock.monotonic()
        self._told = [0] * len(feeds)

    def maybe_tell(self) -> bool:
        """Write the line when it is time; returns whether it was."""
        seconds = self._clock.monotonic() - self._told_at
        if seconds < PROGRESS_SECONDS:
            return False
        self.tell(seconds)
        return True

    def tell(self, seconds: float | None = None) -> None:
        """Write the line for the seconds since the one before."""
        seconds = seconds or max(self._clock.monotonic() - self._told_at, 0.001)
        now_ms = self._clock.wall_ms()
        parts = (
            f"{feed.topic} {feed.sent} events, {(feed.sent - told) / seconds:.0f}/s, {_standing(feed.behind_ms(now_ms))}"
            for feed, told in zip(self._feeds, self._told, strict=True)
        )
        _log.info("%s", "; ".join(parts))
        self._told_at += seconds
        self._told = [feed.sent for feed in self._feeds]


def _standing(behind_ms: int) -> str:
    """Where a feed stands beside its schedule; an event not yet due by a second or more is a topic that was filled ahead of time."""
    return (
        f"next event due in {-behind_ms // 1_000} s"
        if behind_ms <= -1_000
        else f"{max(behind_ms, 0)} ms behind"
    )


def run(
    feeds: Sequence[Feed],
    clock: Clock,
    stop: threading.Event,
    *,
    fast: bool = False,
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Produce until every feed is done or the event is set; a flush that has begun is finished.

    Args:
        feeds: the topics.
        clock: tells when events are due.
        stop: ends the run.
        fast: append back to back instead of when events are due.
        beat: is called after each round in which every partition has got what was due.
    """
    waiting, progress = Waiting(clock, stop), Progress(feeds, clock)
    while not stop.is_set() and not all(feed.is_done for feed in feeds):
        began = clock.monotonic()
        more = waiting.attempt(partial(_flush, feeds, clock, fast=fast))
        if more is not None:
            beat()
        if more is False:
            clock.wait(stop, max(began + FLUSH_SECONDS - clock.monotonic(), 0))
        progress.maybe_tell()
    progress.tell()


def _flush(feeds: Sequence[Feed], clock: Clock, *, fast: bool) -> bool:
    """Append what is due in every topic; returns whether more is."""
    more = False
    for feed in feeds:
        feed.settle()
        more |= feed.flush_ahead() if fast else feed.flush(clock.wall_ms())
    return more


def build_feeds(
    settings: Settings, start_ms: int, limit: int | None, metrics: ProducerMetrics | None = None
) -> list[Feed]:
    """The feeds of the stack that the settings name; nothing is opened yet.

    Args:
        settings: of the services.
        start_ms: when the first event of an empty topic is due, milliseconds since the epoch.
        limit: number of events of each topic after which it is done.
        metrics: count and time every append.
    """

    def feed(topic: str, content: Content, rate: int, partitions: int) -> Feed:
        sinks = [_sink(settings, topic, partition) for partition in range(partitions)]
        if metrics is not None:
            sinks = [metrics.measured(topic, sink) for sink in sinks]
        return Feed(topic, content, settings.seed, Schedule(start_ms, rate, partitions), sinks, limit)

    return [
        feed(AD_TOPIC, ad_event, settings.ad_rate, settings.ad_partitions),
        feed(PAGE_TOPIC, page_event, settings.page_rate, settings.page_partitions),
    ]


def _sink(settings: Settings, topic: str, partition: int) -> PartitionSink:
    if settings.stack == "embedded":
        return log_sink.LogSink(settings.log_dir, topic, partition)
    return kafka_sink.KafkaSink(settings.kafka_bootstrap, topic, partition)


def _check_topics(settings: Settings) -> bool:
    """Prove that both topics are there, then return True."""
    for topic, partitions in ((AD_TOPIC, settings.ad_partitions), (PAGE_TOPIC, settings.page_partitions)):
        if settings.stack == "embedded":
            log_sink.check_topic(settings.log_dir, topic, partitions)
        else:
            kafka_sink.check_topic(settings.kafka_bootstrap, topic, partitions)
    return True


@click.command()
@click.option("--limit", type=click.IntRange(min=0), help="Stop when each topic has this many events in all.")
@click.option("--fast", is_flag=True, help="Append back to back; event times stay those of the schedule.")
@click.option(
    "--start-ms",
    type=click.IntRange(min=0),
    help="Event time of an empty topic's first event; now when not given.",
)
def command(limit: int | None, start_ms: int | None, *, fast: bool) -> None:
    """Produce ad-events and page-views at AD_RATE and PAGE_RATE until SIGTERM.

    Metrics are at http://LISTEN_HOST:PRODUCER_METRICS_PORT/metrics, also while Kafka is waited for. /healthz beside them is 503
    until every partition has got what was due, and when the last time is 30 s ago.

    Exit codes: 0 stopped or limit reached, 2 refused, with the reason in one sentence.
    """
    settings, clock, stop = load_settings(), SystemClock(), threading.Event()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    metrics = ProducerMetrics({AD_TOPIC: settings.ad_rate, PAGE_TOPIC: settings.page_rate}, clock)
    metrics.serve(settings.listen_host, settings.producer_metrics_port)
    waiting = Waiting(clock, stop)
    while not stop.is_set() and not waiting.attempt(partial(_check_topics, settings)):
        pass
    if stop.is_set():
        return
    feeds = build_feeds(settings, clock.wall_ms() if start_ms is None else start_ms, limit, metrics)
    try:
        run(feeds, clock, stop, fast=fast, beat=metrics.pulse.beat)
    finally:
        for feed in feeds:
            feed.close()


if __name__ == "__main__":
    sys.exit(exit_code(command.main))
