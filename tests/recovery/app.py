"""An application that is killed, or made to fail or wait, at fail points, and started again.

The log is there from the start; a rate bounds each batch, so batch n has the same records in every run. What its tables must
hold in the end is in truth.py.
"""

import os
import signal
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from operator import add, sub
from pathlib import Path
from typing import Any

from engine import LocalContext, ManualClock, State, StateSpec, StreamingContext, failpoints
from engine.checkpoint import checkpoint
from engine.dstream.dstream import DStream
from engine.dstream.run import batch_time
from engine.sinks.api import ResultStore, Table
from engine.sinks.output import BatchLedger, TableOutput
from engine.sinks.sqlite import SQLiteSink
from engine.sources.direct import create_direct_stream
from engine.sources.log import LogSource, LogWriter, create_topic
from tests.engine.app import START_MS
from tests.recovery import mutants

TOPIC = "numbers"
PARTITIONS = 2
RATE = 5
"""Records a batch takes from each partition."""
BATCHES = 9
POISON_EVERY = 7
PAD = "x" * 3_000
"""Makes the state large enough for snapshots."""
TOO_MUCH = 512 << 20
"""Bytes that a control group of memory does not allow."""

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


@dataclass(frozen=True)
class Start:
    """How to start the application once."""

    point: str = ""
    """The fail point that is armed, or several with commas between; "" for none."""
    kind: str = "crash"
    """What it does: crash, raise or delay:SECONDS."""
    after: int = 0
    """It is armed before the first batch that finds so many committed."""
    behind: str = ""
    """Another point that must be passed first; "" for none."""
    at_start: bool = False
    """It is armed before the folder is opened."""
    until: int = BATCHES
    """Stop in peace when so many batches are committed."""
    master: str = "local"
    takeover: bool = False
    segment_bytes: int = checkpoint.SEGMENT_BYTES
    """The journal goes on in a new segment between two batches once one is larger."""
    deadly: int = -1
    """The number of a record at which the process that has it is killed, once; -1 for none."""
    in_map: bool = False
    """The function of a map is at that number then, else the decoder."""
    group: str = ""
    """Folder of a control group whose limit of memory kills it; "" for a SIGKILL that it sends itself."""
    mutant: str = ""
    """The change of mutants.py that is made to the engine first; "" for none."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """For executors, which are processes of their own."""


class Deadly:
    """The decoder, or the function of a map: it writes each number down and kills its process at one of them, once."""

    def __init__(self, folder: Path, number: int, group: str) -> None:
        self._folder = folder
        self._number = number
        self._group = group

    def __call__(self, value: bytes | int) -> int:
        """The number, if it lives."""
        number = int(value)
        with (self._folder / "seen").open("a") as seen:
            seen.write(f"{os.getpid()} {number}\n")
        mark = self._folder / "dead"
        if number == self._number and not mark.exists():
            mark.write_text(str(os.getpid()))
            if self._group:
                (Path(self._group) / "cgroup.procs").write_text(str(os.getpid()))
                bytearray(b"x") * TOO_MUCH
            os.kill(os.getpid(), signal.SIGKILL)
        return number


class Armed:
    """What fail points look into: the one that is armed, with a file in which each visit to it is written down."""

    def __init__(self, folder: Path, start: Start) -> None:
        self._file = os.open(folder / "reached", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._points, self._kind, self._behind = frozenset(start.point.split(",")), start.kind, start.behind
        self.is_armed = start.at_start
        hooks: Any = failpoints
        hooks._KINDS = self

    def get(self, name: str) -> str | None:
        """What the point does."""
        if self.is_armed and name == self._behind:
            self._behind = ""
        if not self.is_armed or self._behind or name not in self._points:
            return None
        os.write(self._file, f"{name}\n".encode())
        return self._kind


def run(place: str, settings: Mapping[str, Any]) -> None:
    """One start; its process id, and the error that ended it, are in the folder."""
    folder, start = Path(place), Start(**settings)
    (folder / "error").unlink(missing_ok=True)
    (folder / "pid").write_text(str(os.getpid()))
    os.environ.update(start.environment)
    armed = Armed(folder, start)
    setting: Any = checkpoint
    setting.SEGMENT_BYTES = start.segment_bytes
    mutants.note_syncs(folder / "synced")
    mutants.MUTANTS[start.mutant]()
    try:
        _run(folder, start, armed)
    except Exception as error:  # whatever ended the start is the test's to read, and raised again
        (folder / "error").write_text(f"{type(error).__name__}: {error}")
        raise


def _run(folder: Path, start: Start, armed: Armed) -> None:
    store = SQLiteSink(folder / "results.sqlite3")
    with LocalContext(start.master, "victim") as context:
        ssc = StreamingContext(context, 1.0, clock=ManualClock(START_MS), shards=2, everyInterval=True)
        ledger = BatchLedger(store, "victim")
        ssc.checkpoint(folder / "checkpoints", takeover=start.takeover, mustReach=ledger.newest_batch())
        ssc.recordBatches(ledger)
        source = LogSource(folder / "log", [TOPIC])
        deadly = Deadly(folder, start.deadly, start.group) if start.deadly >= 0 else None
        decoder = deadly if deadly and not start.in_map else int
        numbers: DStream[int] = create_direct_stream(
            ssc, source, name=TOPIC, decoder=decoder, reset="earliest", max_rate_per_partition=RATE
        )
        if deadly and start.in_map:
            numbers = numbers.map(deadly)
        build(ssc, numbers, store)
        ssc.start(thread=False)
        while (done := committed(ssc)) < start.until:
            armed.is_armed |= bool(start.point) and done >= start.after
            ssc.runBatch()
        ssc.stop()


def committed(ssc: StreamingContext) -> int:
    """How many batches are committed."""
    commit = ssc._checkpoint.last_commit
    return (commit.batch.time - START_MS) // 1_000 if commit else 0


def rows(folder: Path, table: str) -> list[tuple[Any, ...]]:
    """The rows of a table, without the hidden columns."""
    with closing(sqlite3.connect(folder / "results.sqlite3")) as connection:
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        shown = ", ".join(name for name in names if not name.startswith("_"))
        return sorted(connection.execute(f"SELECT {shown} FROM {table} WHERE _deleted = 0"))  # noqa: S608 - our own names
