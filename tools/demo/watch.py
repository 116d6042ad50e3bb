"""What the demo shows, read twice a second: the engine's metrics, the log and the journal, the result tables.

Owns: Topic, Batches, Sample, Watch.
Never: a picture; view.py makes those.
"""

import contextlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.errors import StreamingError
from services.settings import Settings
from services.topics import topics
from tools.progress import Committed, Metrics, Progress
from tools.verify.cassandra_store import CassandraStore
from tools.verify.schema import TABLES, Rows
from tools.verify.stores import SqliteStore, Store
from tools.verify.verdict import CannotTellError

_WINDOW_SECONDS = 5.0
_TABLES_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Topic:
    """How the reading of one topic goes."""

    rate: float | None
    """Records per second that were committed lately; None when the engine does not say."""
    committed: int
    lag: int | None
    """Records in the log that are not committed; None when the log cannot be read."""


@dataclass(frozen=True, slots=True)
class Batches:
    """What the engine says of its batches since its last start."""

    done: int
    again: int
    """Batches that were run again after a death."""
    failed: int
    processing_seconds: float
    """Of a batch, on average lately."""
    state_keys: Mapping[str, int]
    """By stateful operator."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look."""

    topics: Mapping[str, Topic]
    batches: Batches | None
    """None while no engine answers."""
    commit: Committed
    starts: int
    """How often the engine has opened its journal."""
    tables: Mapping[str, Rows] = field(default_factory=dict)


class Watch:
    """Looks at one stack.

    Args:
        settings: of the stack, which is up.
    """

    def __init__(self, settings: Settings) -> None:
        self.progress = Progress(settings)
        self._settings = settings
        self._store: Store | None = None
        self._tables: dict[str, Rows] = {name: {} for name in settings.jobs}
        self._tables_due = 0.0
        self._window: deque[Metrics] = deque()

    def look(self) -> Sample:
        """How everything stands now; what does not answer is left as it was, or None."""
        metrics = Metrics.read(self._settings.metrics_port)
        self._remember(metrics)
        commit = self.progress.newest()
        lags: Mapping[str, int] = {}
        with contextlib.suppress(StreamingError):
            lags = self.progress.backlog()
        self._read_tables()
        return Sample(
            {topic.name: self._topic(topic.name, commit, lags) for topic in topics(self._settings)},
            self._batches() if metrics else None,
            commit,
            self.progress.epoch(),
            dict(self._tables),
        )

    def close(self) -> None:
        """Let go of the log and the store."""
        self.progress.close()
        if self._store is not None:
            self._store.close()

    def _remember(self, metrics: Metrics | None) -> None:
        """Keep the looks of the last seconds at this life of the engine."""
        if metrics is None or (self._window and _started(metrics) != _started(self._window[-1])):
            self._window.clear()
        if metrics is None:
            return
        if not self._window or _batch_time(metrics) > _batch_time(self._window[-1]):
            self._window.append(metrics)
        while _batch_time(self._window[-1]) - _batch_time(self._window[0]) > _WINDOW_SECONDS:
            self._window.popleft()

    def _topic(self, name: str, commit: Committed, lags: Mapping[str, int]) -> Topic:
        committed = sum(end for (topic, _), end in commit.ends.items() if topic == name)
        return Topic(self._rate(name), committed, lags.get(name))

    def _rate(self, topic: str) -> float | None:
        """Records per second of batch time: batches are whole, so the wall clock would make it jump."""
        if len(self._window) < 2:
            return None
        first, last = self._window[0], self._window[-1]
        seconds = _batch_time(last) - _batch_time(first)
        taken = [metrics.total("engine_records_total", topic=topic) for metrics in (first, last)]
        return (taken[1] - taken[0]) / seconds

    def _batches(self) -> Batches:
        last = self._window[-1]
        first = self._window[0] if len(self._window) > 1 else Metrics("")
        count, spent = (
            last.total(f"engine_processing_seconds_{name}") - first.total(f"engine_processing_seconds_{name}")
            for name in ("count", "sum")
        )
        keys: dict[str, int] = {}
        for labels, value in last.samples.get("engine_state_keys", ()):
            job = labels["job"] or labels["operator"]
            keys[job] = keys.get(job, 0) + int(value)
        return Batches(
            int(last.total("engine_batches_total", outcome="completed")),
            int(last.total("engine_replayed_batches_total")),
            int(last.total("engine_batches_total", outcome="failed")),
            spent / count if count else 0.0,
            keys,
        )

    def _read_tables(self) -> None:
        if time.monotonic() < self._tables_due:
            return
        with contextlib.suppress(CannotTellError):
            if self._store is None:
                self._store = self._open_store()
            for name in self._tables:
                self._tables[name] = dict(self._store.rows(TABLES[name]))
        self._tables_due = time.monotonic() + _TABLES_SECONDS

    def _open_store(self) -> Store:
        settings = self._settings
        if settings.stack == "embedded":
            return SqliteStore(settings.results_path)
        return CassandraStore(settings.cassandra_hosts, settings.cassandra_port, settings.keyspace)


def _started(metrics: Metrics) -> float:
    return metrics.total("engine_start_time_seconds")


def _batch_time(metrics: Metrics) -> float:
    return metrics.total("engine_last_batch_time_seconds")


def newest_windows(rows: Rows, count: int) -> Sequence[tuple[int, str, int]]:
    """(start, campaign, views) of the newest window's most viewed campaigns."""
    newest = max((_number(key[1]) for key in rows), default=0)
    found = [(str(key[0]), _number(fact.values[0])) for key, fact in rows.items() if key[1] == newest]
    found.sort(key=lambda item: (-item[1], item[0]))
    return [(newest, campaign, views) for campaign, views in found[:count]]


def newest_ranking(rows: Rows, count: int) -> Sequence[tuple[int, str, int]]:
    """(end, page, views) of the newest window's pages by rank."""
    newest = max((_number(key[0]) for key in rows), default=0)
    found = sorted((_number(key[1]), fact.values) for key, fact in rows.items() if key[0] == newest)
    return [(newest, str(page), _number(views)) for _, (page, views) in found[:count]]


def top_pages(rows: Rows, count: int) -> Sequence[tuple[str, int]]:
    """(page, views) of the most viewed pages of all."""
    found = [(str(key[0]), _number(fact.values[0])) for key, fact in rows.items()]
    return sorted(found, key=lambda item: (-item[1], item[0]))[:count]


def _number(value: object) -> int:
    assert isinstance(value, int), f"{value!r} is no number"
    return value
