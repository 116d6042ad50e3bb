"""Keeps records ahead of the engine, and puts some among them that no job can use.

Owns: Backlog.
Never: a record that differs between two runs of one seed.
"""

from threading import Event

from engine.clock import SystemClock
from services.producer import kafka_sink, log_sink
from services.producer.feed import Feed
from services.producer.main import Waiting, build_feeds
from services.settings import Settings
from services.topics import AD_EVENTS, PAGE_VIEWS
from tools.progress import Progress

FIRST_EVENT_MS = 1_000_000_000_000
"""When the first event of an empty topic is due: the past, so that no event waits for its time."""

_POISON = b"{poison"
_LATE = b'{"event_type":"view","ad_id":"ad-0001","event_time":0}'


class Backlog:
    """The log ahead of the engine.

    Args:
        settings: of the stack; its topics exist.
        progress: how far the engine is.
    """

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._settings = settings
        self._progress = progress
        self._feeds: list[Feed] = []
        self._waiting = Waiting(SystemClock(), Event())

    def least(self) -> int:
        """Records ahead of the engine in the topic that has the fewest."""
        return min(self._progress.backlog().values())

    def fill(self, records: int) -> int:
        """Append until each topic has so many records ahead; returns how many the shortest has then."""
        while (ahead := self.least()) < records:
            if not self._feeds:
                self._feeds = build_feeds(self._settings, FIRST_EVENT_MS, None)
            self._waiting.attempt(self._append)
        return ahead

    def _append(self) -> bool:
        """Append the next portion to every partition."""
        for feed in self._feeds:
            feed.settle()
            feed.flush_ahead()
        return True

    def spoil(self) -> None:
        """Append an undecodable record to every topic, and one that is too late to the ad events."""
        self.close()  # the embedded log has one writer
        for topic, value in ((AD_EVENTS, _POISON), (AD_EVENTS, _LATE), (PAGE_VIEWS, _POISON)):
            if self._settings.stack == "embedded":
                log_sink.append_record(self._settings.log_dir, topic, 0, value, FIRST_EVENT_MS)
            else:
                kafka_sink.append_record(self._settings.kafka_bootstrap, topic, 0, value, FIRST_EVENT_MS)

    def close(self) -> None:
        """Let go of the log."""
        for feed in self._feeds:
            feed.close()
        self._feeds = []
