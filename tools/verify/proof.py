"""The proof: ledger and log up to a cut, then the tables, then ledger and log up to their newest row; each row as of its own batch.

Why there is no false alarm while the engine runs. The engine writes in this order, batch after batch: all rows of
batch n, acknowledged; then the ledger's row of n; then its commit, and only then rows of batch n + 1. A batch that a
crash cut short runs again with the same time and ranges and writes the same rows.

    1. ledger      batch by batch, and with each its ranges of the log, which lie in the committed part, where nothing
                   changes any more; the newest batch is the CUT
    2. tables      AFTER 1: every row of every batch up to the cut was acknowledged before, so a key that the cut knows
                   has a row, and that row is as of the newest batch up to the cut that touched it, or of a later batch.
                   It can be newer than the cut, never older: missing and stale rows are faults, without a doubt
    3. ledger      AFTER 2, from the cut on, again and again until it reaches the newest batch of any row that was read. The
                   ledger holds batches in order, so from then on a row whose batch is not in it is a fault too. Should it not
                   get there in time, the engine is dead in mid-batch, which is legal: such rows are undecided, exit code 2

Keys that were touched only AFTER the cut may or may not have been there in 2: they are judged where they are and not
missed where they are not. Retention that eats the log while it is read is noticed: could not tell.

Replicas share the work as units, each an application with batches and a cut of its own: the same holds for each of them and its rows.

Ledger, log and tables are read once (the log once by each unit), and nothing of them is kept that was compared. What is held, and grows with the log, is the
newest truth of every key up to the cut, 24 bytes a row, until the tables go by; then the rows later than the cut, until
their own batches go by.

Owns: verify, open_store.
Never: an import of the engine or of the jobs.
"""

import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import closing
from functools import partial

from services.settings import Settings
from tools.verify.cassandra_store import CassandraStore
from tools.verify.embedded_log import EmbeddedLog
from tools.verify.judge import Judge
from tools.verify.kafka_log import KafkaLog
from tools.verify.ledger import Partition
from tools.verify.producers import FIELDS, Producers
from tools.verify.readers import Reader, readers_of
from tools.verify.replay import Log, Progress, Replay, ledger_verdict
from tools.verify.schema import REPLAYED_LETTERS, TABLES, show_time
from tools.verify.stores import SqliteStore, Store
from tools.verify.verdict import CannotTellError, Verdict

POLL_SECONDS = 0.25
"""Seconds between two looks at the ledger."""


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
        with closing(open_store(settings)) as store:
            return _verify(settings, store, wait_seconds, progress or (lambda _done, _total: None))
    except CannotTellError as reason:
        return Verdict(reason=str(reason))


def _verify(settings: Settings, store: Store, wait_seconds: float, progress: Progress) -> Verdict:
    unknown = sorted(set(settings.jobs) - set(TABLES))
    if unknown:
        raise CannotTellError(
            f"JOBS names {', '.join(unknown)}, whose rules verify does not know; known are {', '.join(TABLES)}"
        )
    with closing(_open_log(settings)) as log:
        # BEFORE the log: a letter that is sent again while it is read counts among the producers' duplicates, in no table.
        producers = Producers(settings.seed, _sent_again(store, log))
        readers, shown = readers_of(settings, store.apps()), _Sums(progress)
        replays = [Replay(log, reader, shown.part(), producers) for reader in readers]
        judge = Judge(readers)
        for place, (reader, replay) in enumerate(zip(readers, replays, strict=True)):
            replay.take(store.ledger(reader.app, replay.time), partial(judge.learn, place))
            if not replay.batches:
                raise CannotTellError(
                    f"nothing is committed yet: the ledger has no batch of application {reader.app!r}; let it run first"
                )
        cuts = [replay.time for replay in replays]
        for table in TABLES.values():
            judge.read(table, store.rows(table), cuts)
        reason = _reach(store, readers, replays, judge, wait_seconds)
        ledger = ledger_verdict(replays, min(cuts))
    sent = None if ledger.faults else producers.verdict()
    if sent and sent.foreign and not reason:
        reason = (
            f"the producers' first events are not those of SEED={settings.seed}, so their closed form is not known; "
            "set SEED to what the producers ran with"
        )
    told = {*settings.jobs, "dead_letters"}
    tables = (
        table
        for table in judge.verdicts([replay.time for replay in replays])
        if table.rows or table.name in told
    )
    return Verdict(tuple(tables), ledger, sent, reason)


def _sent_again(store: Store, log: Log) -> Collection[tuple[object, ...]]:
    """Topic, partition and offset of each record that is a dead letter sent again, by its row AND by its own key."""
    meant: defaultdict[Partition, dict[int, bytes]] = defaultdict(dict)
    for key, fact in store.rows(REPLAYED_LETTERS):
        topic, partition, sent_at = str(key[0]), key[1], fact.values[1]
        if topic in FIELDS and isinstance(partition, int) and isinstance(sent_at, int):
            meant[topic, partition][sent_at] = f"replay/{topic}/{partition}/{key[2]}".encode()
    if meant:
        log.bounds(sorted({topic for topic, _ in meant}))
    return {
        (*where, offset)
        for where, keys in meant.items()
        for offset, found in log.keys(where, keys).items()
        if found == keys[offset]
    }


def open_store(settings: Settings) -> Store:
    """The results store of a stack, to read.

    Raises:
        CannotTellError: it is not there, or does not answer.
    """
    if settings.stack == "embedded":
        return SqliteStore(settings.results_path)
    return CassandraStore(settings.cassandra_hosts, settings.cassandra_port, settings.keyspace)


def _open_log(settings: Settings) -> Log:
    return (
        EmbeddedLog(settings.log_dir) if settings.stack == "embedded" else KafkaLog(settings.kafka_bootstrap)
    )


def _reach(
    store: Store, readers: Sequence[Reader], replays: Sequence[Replay], judge: Judge, wait_seconds: float
) -> str:
    """Follow each ledger to the newest batch of any row that may be its own; why one did not get there, empty when all did."""
    deadline = time.monotonic() + wait_seconds
    for place, (reader, replay) in enumerate(zip(readers, replays, strict=True)):
        newest = judge.newest[place]
        while replay.time < newest:
            replay.take(store.ledger(reader.app, replay.time), partial(judge.observe, place))
            if replay.time >= newest:
                break
            if time.monotonic() > deadline:
                whose = f" of unit {reader.unit}" if reader.unit else ""
                return (
                    f"there are rows of batch {show_time(newest)}, but the ledger{whose} ends with {show_time(replay.time)} "
                    f"after {wait_seconds:g} s; such a batch is written but not committed, as when the engine is dead "
                    "in mid-batch, which is legal: start the engine and verify again"
                )
            time.sleep(POLL_SECONDS)
    return ""


class _Sums:
    """Adds up how far each of several replays has come."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._parts: list[tuple[int, int]] = []

    def part(self) -> Progress:
        """What the next replay tells."""
        place = len(self._parts)
        self._parts.append((0, 0))

        def told(done: int, total: int) -> None:
            self._parts[place] = done, total
            self._progress(sum(done for done, _ in self._parts), sum(total for _, total in self._parts))

        return told
