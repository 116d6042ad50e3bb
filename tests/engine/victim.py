"""An application that is killed at fail points and started again, and what its tables must hold in the end.

The log is there from the start; a rate bounds each batch, so batch n has the same records in every run.
"""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from operator import add, sub
from pathlib import Path
from typing import Any

from engine import LocalContext, ManualClock, State, StateSpec, StreamingContext, failpoints
from engine.dstream.dstream import DStream
from engine.dstream.run import batch_time
from engine.sinks.api import ResultStore, Table
from engine.sinks.output import BatchLedger, TableOutput
from engine.sinks.sqlite import SQLiteSink
from engine.sources.direct import create_direct_stream
from engine.sources.log import LogSource, LogWriter, create_topic
from tests.engine.app import START_MS

TOPIC = "numbers"
PARTITIONS = 2
RATE = 5
"""Records a batch takes from each partition."""
BATCHES = 9
POISON_EVERY = 7
PAD = "x" * 3_000
"""Makes the state large enough for snapshots."""

TOTALS = Table("totals", columns=("key", "n"), key=("key",))
WINDOWS = Table("windows", columns=("at", "key", "n"), key=("at", "key"))
HISTORY = Table("history", columns=("at", "key", "ns"), key=("at", "key"))
SESSIONS = Table("sessions", columns=("at", "key", "n"), key=("at", "key"))
OPEN = Table("open_sessions", columns=("at", "key", "n"), key=("at", "key"))
INITIAL = {"session-0": (1_000, PAD), "session-old": (7, PAD)}
"""Sums of sessions before the first batch."""
COUNTS = Table("counts", columns=("at", "n"), key=("at",))
_HIDDEN = "batch INTEGER, _written INTEGER NOT NULL DEFAULT 0, _deleted INTEGER NOT NULL DEFAULT 0"
_SCHEMA = f"""
CREATE TABLE totals (key TEXT NOT NULL, n INTEGER, {_HIDDEN}, PRIMARY KEY (key)) WITHOUT ROWID;
CREATE TABLE windows (at INTEGER NOT NULL, key TEXT NOT NULL, n INTEGER, {_HIDDEN}, PRIMARY KEY (at, key)) WITHOUT ROWID;
CREATE TABLE history (at INTEGER NOT NULL, key TEXT NOT NULL, ns TEXT, {_HIDDEN}, PRIMARY KEY (at, key)) WITHOUT ROWID;
CREATE TABLE sessions (at INTEGER NOT NULL, key TEXT NOT NULL, n INTEGER, {_HIDDEN}, PRIMARY KEY (at, key)) WITHOUT ROWID;
CREATE TABLE open_sessions (at INTEGER NOT NULL, key TEXT NOT NULL, n INTEGER, {_HIDDEN}, PRIMARY KEY (at, key)) WITHOUT ROWID;
CREATE TABLE counts (at INTEGER NOT NULL, n INTEGER, {_HIDDEN}, PRIMARY KEY (at)) WITHOUT ROWID;
CREATE TABLE dead_letters (topic TEXT NOT NULL, partition INTEGER NOT NULL, record_offset INTEGER NOT NULL,
    reason TEXT, value BLOB, {_HIDDEN}, PRIMARY KEY (topic, partition, record_offset)) WITHOUT ROWID;
CREATE TABLE ledger (app TEXT NOT NULL, day TEXT NOT NULL, attempt INTEGER, zero_time INTEGER, ranges TEXT,
    batch INTEGER NOT NULL, _written INTEGER NOT NULL DEFAULT 0, _deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (app, day, batch)) WITHOUT ROWID;
"""


def value_of(partition: int, offset: int) -> bytes:
    """A record: a number, or poison."""
    return b"poison" if offset % POISON_EVERY == 3 else b"%d" % (offset * PARTITIONS + partition)


def key_of(number: int) -> tuple[str, int]:
    """A pair of a number: few keys, some of which come rarely."""
    return f"key-{number % 4 if number % 9 else 'rare'}", number


def session_of(number: int) -> str:
    """The key of a number's session: it has numbers for a batch or two, is idle for four, and comes back."""
    return f"session-{number // 15 % 4}"


def prepare(folder: Path) -> None:
    """Write the log and make the tables."""
    create_topic(folder / "log", TOPIC, PARTITIONS)
    for partition in range(PARTITIONS):
        with LogWriter(folder / "log", TOPIC, partition) as writer:
            writer.append([(START_MS, None, value_of(partition, n)) for n in range(RATE * BATCHES)])
    with closing(sqlite3.connect(folder / "results.sqlite3")) as connection:
        connection.executescript(_SCHEMA)


def total(values: list[int], state: tuple[int, str] | None) -> tuple[int, str]:
    """Adds up."""
    return sum(values) + (state[0] if state else 0), PAD


def visit(
    time: int, key: str, number: int | None, state: State[tuple[int, str]]
) -> tuple[int, str, int] | None:
    """Adds up, and gives the sum when the session ends."""
    known = state.get()[0] if state.exists() else 0
    if state.isTimingOut():
        return int(time), key, known
    state.update((known + (number or 0), PAD))
    return None


def build(ssc: StreamingContext, numbers: DStream[int], store: ResultStore) -> None:
    """State, windows of each kind, sessions that time out, and outputs that do not read what they get."""
    pairs = numbers.map(key_of)
    totals = pairs.updateStateByKey(total, name="totals").mapValues(lambda state: state[0])
    totals.foreachRDD(lambda rdd: rdd.take(1), name="takes one")
    totals.foreachRDD(TableOutput(store, TOTALS, 2), name="totals table")
    windows = pairs.reduceByKeyAndWindow(add, sub, 3, 2, name="windows")
    windows.map(lambda pair: (int(batch_time()), *pair)).foreachRDD(
        TableOutput(store, WINDOWS, 2), name="windows table"
    )
    history = totals.window(2, 2, name="history").groupByKey()
    history.map(lambda pair: (int(batch_time()), pair[0], str(sorted(pair[1])))).foreachRDD(
        TableOutput(store, HISTORY, 2), name="history table"
    )
    counts = numbers.window(3, 2).count()
    counts.map(lambda n: (int(batch_time()), n)).foreachRDD(
        TableOutput(store, COUNTS, 2), name="counts table"
    )
    spec = StateSpec.function(visit).initialState(INITIAL).timeout(1)
    sessions = numbers.map(lambda n: (session_of(n), n)).mapWithState(spec, name="sessions")
    sessions.foreachRDD(TableOutput(store, SESSIONS, 2), name="sessions table")
    sessions.stateSnapshots().map(lambda pair: (int(batch_time()), pair[0], pair[1][0])).foreachRDD(
        TableOutput(store, OPEN, 2), name="open sessions table"
    )
    numbers.foreachRDD(lambda rdd: None, name="reads nothing")


def run(place: str | Path, master: str, point: str, after: int) -> None:
    """Run to the end of the log, with the fail point armed once so many batches are committed."""
    folder = Path(place)
    store = SQLiteSink(folder / "results.sqlite3")
    with LocalContext(master, "victim") as context:
        ssc = StreamingContext(context, 1.0, clock=ManualClock(START_MS), shards=2, everyInterval=True)
        ssc.checkpoint(folder / "checkpoints")
        ssc.recordBatches(BatchLedger(store, "victim"))
        source = LogSource(folder / "log", [TOPIC])
        numbers = create_direct_stream(
            ssc, source, name=TOPIC, decoder=int, reset="earliest", max_rate_per_partition=RATE
        )
        build(ssc, numbers, store)
        kinds: Any = failpoints._KINDS
        if point and after == 0:
            kinds[point] = "crash"
        ssc.start(thread=False)
        while (done := _committed(ssc)) < BATCHES:
            if point and done >= after:
                kinds[point] = "crash"
            ssc.runBatch()
        ssc.stop()


def _committed(ssc: StreamingContext) -> int:
    commit = ssc._checkpoint.last_commit
    return (commit.batch.time - START_MS) // 1_000 if commit else 0


def rows(folder: Path, table: str) -> list[tuple[Any, ...]]:
    """The rows of a table, without the hidden columns."""
    with closing(sqlite3.connect(folder / "results.sqlite3")) as connection:
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        shown = ", ".join(name for name in names if not name.startswith("_"))
        return sorted(connection.execute(f"SELECT {shown} FROM {table} WHERE _deleted = 0"))  # noqa: S608 - our own names


# What must be there.


def numbers_of(batch: int) -> list[int]:
    """The numbers of a batch, from 1."""
    offsets = range((batch - 1) * RATE, batch * RATE) if batch > 0 else range(0)
    values = [value_of(partition, n) for partition in range(PARTITIONS) for n in offsets]
    return [int(value) for value in values if value != b"poison"]


def sums(batches: range) -> Counter[str]:
    """The sum of each key over some batches."""
    found: Counter[str] = Counter()
    for batch in batches:
        for key, number in map(key_of, numbers_of(batch)):
            found[key] += number
    return found


def time_of(batch: int) -> int:
    """The time of a batch."""
    return START_MS + batch * 1_000


def sessions() -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """The rows of ended and of open sessions."""
    states = {key: (1, n) for key, (n, _) in INITIAL.items()}
    ended: list[tuple[Any, ...]] = []
    still_open: list[tuple[Any, ...]] = []
    for batch in range(1, BATCHES + 1):
        at = time_of(batch)
        for number in numbers_of(batch):
            key = session_of(number)
            states[key] = batch, number + (states[key][1] if key in states else 0)
        idle = [key for key, (touched, _) in states.items() if touched < batch - 1]
        ended += [(at, key, states.pop(key)[1], at) for key in idle]
        still_open += [(at, key, n, at) for key, (_, n) in states.items()]
    return sorted(ended), sorted(still_open)


def expected() -> dict[str, list[tuple[Any, ...]]]:
    """Every table but the ledger's attempts, by hand."""
    slides = range(2, BATCHES + 1, 2)
    totals = {batch: sums(range(1, batch + 1)) for batch in range(1, BATCHES + 1)}
    ended, still_open = sessions()
    return {
        "sessions": ended,
        "open_sessions": still_open,
        "totals": sorted((key, n, time_of(BATCHES)) for key, n in totals[BATCHES].items()),
        "windows": sorted(
            (time_of(end), key, n, time_of(end))
            for end in slides
            for key, n in sums(range(end - 2, end + 1)).items()
        ),
        "history": sorted(
            (
                time_of(end),
                key,
                str([totals[at][key] for at in (end - 1, end) if key in totals[at]]),
                time_of(end),
            )
            for end in slides
            for key in totals[end]
        ),
        "counts": [
            (time_of(end), sum(len(numbers_of(n)) for n in range(end - 2, end + 1)), time_of(end))
            for end in slides
        ],
        "dead_letters": sorted(
            (TOPIC, partition, n, time_of(n // RATE + 1))
            for partition in range(PARTITIONS)
            for n in range(RATE * BATCHES)
            if value_of(partition, n) == b"poison"
        ),
        "ledger": [
            (time_of(n), [[TOPIC, partition, (n - 1) * RATE, n * RATE] for partition in range(PARTITIONS)])
            for n in range(1, BATCHES + 1)
        ],
    }


def found(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The same of the tables."""
    letters = [
        (topic, partition, n, batch) for topic, partition, n, _, _, batch in rows(folder, "dead_letters")
    ]
    ledger = [(batch, json.loads(ranges)) for _, _, _, _, ranges, batch in rows(folder, "ledger")]
    tables = ("totals", "windows", "history", "counts", "sessions", "open_sessions")
    return {
        **{table: rows(folder, table) for table in tables},
        "dead_letters": letters,
        "ledger": sorted(ledger),
    }
