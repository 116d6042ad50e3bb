"""The proof: ledger, tables, ledger again, log; then every row as of its own batch.

Why there is no false alarm while the engine runs. The engine writes in this order, batch after batch: all rows of
batch n, acknowledged; then the ledger's row of n; then its commit, and only then rows of batch n + 1. A batch that a
crash cut short runs again with the same time and ranges and writes the same rows.

    1. ledger      its newest batch is the CUT
    2. tables      AFTER 1: every row of every batch up to the cut was acknowledged before, so a key that the cut knows
                   has a row, and that row is as of the newest batch up to the cut that touched it, or of a later batch.
                   It can be newer than the cut, never older: missing and stale rows are faults, without a doubt
    3. ledger      AFTER 2, again and again until it reaches the newest batch of any row that was read. The ledger holds
                   batches in order, so from then on a row whose batch is not in it is a fault too. Should it not get there in time,
                   the engine is dead in mid-batch, which is legal: such rows are undecided, exit code 2
    4. log         AFTER 3: all ranges of the ledger lie in the committed part of the log, where nothing changes any more

Keys that were touched only AFTER the cut may or may not have been there in 2: they are judged where they are and not
missed where they are not. Rows are read once. Retention that eats the log while it is read is noticed: could not tell.

The log is read once, in ledger order, batch by batch. What is kept is the newest truth a key, not its history: a row up
to the cut is compared with the truth at the cut, a later one when its batch goes by.

Owns: verify, Progress.
Never: an import of the engine or of the jobs.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Protocol

from services.settings import Settings
from tools.verify.cassandra_store import CassandraStore
from tools.verify.embedded_log import EmbeddedLog
from tools.verify.judge import Judge
from tools.verify.kafka_log import KafkaLog
from tools.verify.ledger import Bounds, LedgerBatch, Range, Stored, ledger_end, tiling_faults
from tools.verify.producers import Producers
from tools.verify.schema import TABLES, Rows, show_time
from tools.verify.stores import SqliteStore, Store
from tools.verify.truth import AD_EVENTS, Record, Truth, decode
from tools.verify.verdict import CannotTellError, LedgerVerdict, Verdict

POLL_SECONDS = 0.25
"""Seconds between two looks at the ledger."""

Progress = Callable[[int, int], None]
"""Is told how many of how many offsets were read."""


class Log(Protocol):
    """Where the events are kept."""

    def bounds(self, topics: Collection[str]) -> Bounds:
        """First offset and end of the committed part of every partition of the topics."""

    def read(self, item: Range) -> Iterable[Stored]:
        """The records of a range that lies within the bounds, in offset order, AFTER bounds() was asked for its topic."""

    def close(self) -> None:
        """Let go of the connections."""


def verify(settings: Settings, *, wait_seconds: float = 30.0, progress: Progress | None = None) -> Verdict:
    """The verdict over every result table of the stack that the settings name.

    Never raises for what it finds or cannot reach: a verdict with code 2 gives the reason.

    Args:
        settings: which stack, where, which application and jobs.
        wait_seconds: seconds to wait for the ledger's row of a batch whose rows were read; 0 to look once.
        progress: called now and then while the log is read.

    Example:
        >>> verify(Settings(stack="embedded", data_dir="/nowhere")).code
        2
    """
    try:
        with closing(_open_store(settings)) as store:
            return _verify(settings, store, wait_seconds, progress or (lambda _done, _total: None))
    except CannotTellError as reason:
        return Verdict(reason=str(reason))


def _verify(settings: Settings, store: Store, wait_seconds: float, progress: Progress) -> Verdict:
    at_first = _committed(store, settings.app)
    rows = _read_tables(store, settings.jobs)  # AFTER the ledger
    batches, reason = _await_ledger(store, settings.app, at_first, rows, wait_seconds)  # AFTER the tables
    with closing(_open_log(settings)) as log:
        bounds = log.bounds(sorted({item.topic for batch in batches for item in batch.ranges}))
        _refuse_trimmed(bounds)
        faults = tuple(tiling_faults(batches, bounds))
        judge = Judge(rows, cut=at_first[-1].time, newest=batches[-1].time)
        producers = Producers(settings.seed)
        source = _Source(log, bounds, producers)
        truth = Truth([partition for topic, partition in bounds if topic == AD_EVENTS])
        _replay(source, batches, truth, judge, progress)
    ended = ledger_end(batches)
    behind = sum(max(0, end - ended.get(where, 0)) for where, (_, end) in bounds.items())
    ledger = LedgerVerdict(len(batches), at_first[-1].time, source.records, behind, faults)
    sent = None if faults else producers.verdict()
    if sent and sent.foreign and not reason:
        reason = (
            f"the producers' first events are not those of SEED={settings.seed}, so their closed form is not known; "
            "set SEED to what the producers ran with"
        )
    return Verdict(tuple(judge.verdicts()), ledger, sent, reason)


def _open_store(settings: Settings) -> Store:
    if settings.stack == "embedded":
        return SqliteStore(settings.results_path)
    return CassandraStore(settings.cassandra_hosts, settings.cassandra_port, settings.keyspace)


def _open_log(settings: Settings) -> Log:
    return (
        EmbeddedLog(settings.log_dir) if settings.stack == "embedded" else KafkaLog(settings.kafka_bootstrap)
    )


def _committed(store: Store, app: str) -> list[LedgerBatch]:
    batches = store.ledger(app)
    if not batches:
        raise CannotTellError(
            f"nothing is committed yet: the ledger has no batch of application {app!r}; let it run first"
        )
    return batches


def _read_tables(store: Store, jobs: Collection[str]) -> dict[str, Rows]:
    """The tables of the jobs and every other one that has rows."""
    unknown = sorted(set(jobs) - set(TABLES))
    if unknown:
        raise CannotTellError(
            f"JOBS names {', '.join(unknown)}, whose rules verify does not know; known are {', '.join(TABLES)}"
        )
    tables = {name: store.rows(table) for name, table in TABLES.items()}
    return {name: rows for name, rows in tables.items() if rows or name in jobs or name == "dead_letters"}


def _await_ledger(
    store: Store, app: str, at_first: list[LedgerBatch], rows: Mapping[str, Rows], wait_seconds: float
) -> tuple[list[LedgerBatch], str]:
    """The ledger when it has reached the newest batch of any row, or as far as it got and why that is not enough."""
    newest = max((fact.batch or 0 for table in rows.values() for fact in table.values()), default=0)
    batches, deadline = at_first, time.monotonic() + wait_seconds
    while batches[-1].time < newest:
        if time.monotonic() > deadline:
            return batches, (
                f"there are rows of batch {show_time(newest)}, but the ledger ends with {show_time(batches[-1].time)} "
                f"after {wait_seconds:g} s; such a batch is written but not committed, as when the engine is dead "
                "in mid-batch, which is legal: start the engine and verify again"
            )
        time.sleep(POLL_SECONDS)
        batches = _committed(store, app)
    return batches, ""


def _refuse_trimmed(bounds: Bounds) -> None:
    for (topic, partition), (first, _) in sorted(bounds.items()):
        if first > 0:
            raise CannotTellError(
                f"the log of {topic}[{partition}] begins at offset {first}, its older records are gone; "
                "the truth needs all of them from 0, so keep them longer (retention) to verify"
            )


def _replay(
    source: "_Source", batches: Sequence[LedgerBatch], truth: Truth, judge: Judge, progress: Progress
) -> None:
    """Take every batch through truth and judge."""
    sizes = [sum(item.until - item.start for item in batch.ranges) for batch in batches]
    done, total = 0, sum(sizes)
    for batch, size in zip(batches, sizes, strict=True):
        judge.observe(batch.time, truth.apply(batch, source.read))
        done += size
        progress(done, total)


class _Source:
    """The log as truth reads it: no range leaves its bounds, each record is decoded once and shown to producers."""

    def __init__(self, log: Log, bounds: Bounds, producers: Producers) -> None:
        self.records = 0
        self._log = log
        self._bounds = bounds
        self._producers = producers

    def read(self, item: Range) -> list[Record]:
        where = (item.topic, item.partition)
        end = self._bounds.get(where, (0, 0))[1]
        within = item._replace(until=min(item.until, end))
        if within.start >= within.until:
            return []
        records = [(offset, value, decode(value)) for offset, value in self._log.read(within)]
        self.records += len(records)
        self._producers.observe(where, records)
        return records
