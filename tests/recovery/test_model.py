"""The engine against a plain dict over the log, whatever is produced, where it fails and how it starts again.

A failure here is an error at a fail point, after which the context is let go and a new one opens a copy of the folder as it
was at the error: what a process that dies at this point leaves, in a hundredth of the time. Real deaths are in
test_fail_points.py. A run, whether it passes or fails, says its seed under "figures" at its end: RECOVERY_SEED=N repeats it, history
by history. RECOVERY_EXAMPLES sets how many histories there are.
"""

import json
import os
import secrets
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from operator import add, sub
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from engine import LocalContext, ManualClock, StreamingContext, failpoints
from engine.dstream.run import batch_time
from engine.errors import CheckpointError
from engine.sinks.api import Table
from engine.sinks.output import BatchLedger, TableOutput
from engine.sinks.sqlite import SQLiteSink
from engine.sources.direct import create_direct_stream
from engine.sources.log import LogSource, LogWriter, create_topic
from tests.engine.app import START_MS
from tests.recovery.app import PAD

EXAMPLES = int(os.environ.get("RECOVERY_EXAMPLES", "25"))
SEED = int(os.environ.get("RECOVERY_SEED") or secrets.randbits(32))
STEPS = 10
TOPIC = "letters"
PARTITIONS = 2
LENGTH = 3
"""Of the window, seconds; batches are one apart or more."""
SHARDS = 2
KEYS = "abcd"
POINTS = tuple(
    point
    for point in failpoints.FAIL_POINTS
    if point not in {"new_segment", "recover", "restore", "in_restore", "before_block", "after_block"}
)
RECORDS = st.lists(
    st.tuples(st.integers(0, PARTITIONS - 1), st.sampled_from([*KEYS, "poison"]), st.integers(1, 9)),
    min_size=1,
    max_size=6,
)
"""Partition, key and number."""
SUFFIXES = (".log", ".snap")
"""Of files in which a bit is turned."""
START_POINTS = ("new_segment", "recover", "restore")

TOTALS = Table("totals", columns=("key", "n"), key=("key",))
WINDOWS = Table("windows", columns=("at", "key", "n"), key=("at", "key"))
SIZES = Table("sizes", columns=("at", "n"), key=("at",))
"""Of the output that a later version has."""
_HIDDEN = "batch INTEGER, _written INTEGER NOT NULL DEFAULT 0, _deleted INTEGER NOT NULL DEFAULT 0"
_SCHEMA = f"""
PRAGMA journal_mode = WAL;
CREATE TABLE totals (key TEXT NOT NULL, n INTEGER, {_HIDDEN}, PRIMARY KEY (key)) WITHOUT ROWID;
CREATE TABLE windows (at INTEGER NOT NULL, key TEXT NOT NULL, n INTEGER, {_HIDDEN}, PRIMARY KEY (at, key)) WITHOUT ROWID;
CREATE TABLE sizes (at INTEGER NOT NULL, n INTEGER, {_HIDDEN}, PRIMARY KEY (at)) WITHOUT ROWID;
CREATE TABLE dead_letters (topic TEXT NOT NULL, partition INTEGER NOT NULL, record_offset INTEGER NOT NULL,
    reason TEXT, value BLOB, {_HIDDEN}, PRIMARY KEY (topic, partition, record_offset)) WITHOUT ROWID;
CREATE TABLE ledger (app TEXT NOT NULL, day TEXT NOT NULL, attempt INTEGER, zero_time INTEGER, ranges TEXT,
    batch INTEGER NOT NULL, _written INTEGER NOT NULL DEFAULT 0, _deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (app, day, batch)) WITHOUT ROWID;
"""


def pair_of(value: bytes) -> tuple[str, int]:
    """A letter and a number; anything else is a dead letter."""
    key, number = value.decode().split("=")
    return key, int(number)


def total(values: list[int], state: tuple[int, str] | None) -> tuple[int, str]:
    """Adds up; padded, so that shards are snapshotted."""
    return sum(values) + (state[0] if state else 0), PAD


class Hook:
    """What fail points look into: one that raises, until it has."""

    def __init__(self) -> None:
        self.point = ""
        self.hits = 0

    def get(self, name: str) -> str | None:
        """The kind of a point."""
        if name != self.point:
            return None
        self.point = ""
        self.hits += 1
        return "raise"


class Recovery(RuleBasedStateMachine):
    """The application, and the dict that it must equal after every restart."""

    contexts: dict[str, LocalContext]
    """By master, for all examples."""
    hook: Hook
    effects: Counter[str]
    """How often each kind of step had an effect, over all examples."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="recovery-model-"))
        self.log: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
        self.clock = ManualClock(START_MS)
        self.lives = 0
        self.master = "local"
        self.changes: list[int] = []
        """The newest batch of the ledger at each change between the two versions of the application."""
        self.ssc: StreamingContext | None = None
        self.hook.point = ""
        create_topic(self.root / "log", TOPIC, PARTITIONS)
        with closing(sqlite3.connect(self.root / "results.sqlite3")) as connection:
            connection.executescript(_SCHEMA)

    # The application.

    @property
    def folder(self) -> Path:
        """The checkpoints of this life."""
        return self.root / f"life-{self.lives}"

    def is_later(self, batch: int) -> bool:
        """Whether the later version runs a batch: it does after one change, three, and so on."""
        return sum(batch > change for change in self.changes) % 2 == 1

    @initialize(
        records=RECORDS,
        early=st.sampled_from(("tear", "rescale", "upgrade", "corrupt")),
        suffix=st.sampled_from(SUFFIXES),
    )
    def begin(self, records: list[tuple[int, str, int]], early: str, suffix: str) -> None:
        """The first start, and one of what is rare, so that no run of the test is without it."""
        self._start()
        self.produce(records)
        {
            "tear": lambda: self.tear(20),
            "rescale": self.rescale,
            "upgrade": self.change_version,
            "corrupt": lambda: self.corrupt(suffix, 0, 600, 0),
        }[early]()

    def _start(self) -> None:
        store = SQLiteSink(self.root / "results.sqlite3")
        self.ssc = ssc = StreamingContext(self.contexts[self.master], 1.0, clock=self.clock, shards=SHARDS)
        is_later = len(self.changes) % 2 == 1
        ssc.checkpoint(self.folder)
        ssc.recordBatches(BatchLedger(store, "model"))
        source = LogSource(self.root / "log", [TOPIC])
        pairs = create_direct_stream(ssc, source, name=TOPIC, decoder=pair_of, reset="earliest")
        if is_later:
            pairs = pairs.filter(lambda pair: pair[0] in KEYS)
        totals = pairs.updateStateByKey(total, name="totals").mapValues(lambda state: state[0])
        totals.foreachRDD(TableOutput(store, TOTALS, 2), name="totals table")
        windows = pairs.reduceByKeyAndWindow(
            add, sub, LENGTH, 1, name="windows", filterFunc=lambda kv: kv[1] != 0
        )
        windows.map(lambda pair: (int(batch_time()), *pair)).foreachRDD(
            TableOutput(store, WINDOWS, 2), name="windows table"
        )
        if is_later:
            sizes = pairs.count().map(lambda n: (int(batch_time()), n))
            sizes.foreachRDD(TableOutput(store, SIZES, 1), name="sizes table")
        ssc.start(thread=False)

    def _abandon(self, *, copied: bool = True) -> None:
        """Let the context go, and go on with a copy of its folder as it is before that."""
        if copied and self.folder.exists():
            shutil.copytree(self.folder, self.root / f"life-{self.lives + 1}")
            self.lives += 1
        if self.ssc is not None:
            self.ssc.stop(stopSparkContext=False)
            self.ssc = None

    def _run(self) -> bool:
        """One batch; returns whether it reached the armed point and failed there."""
        assert self.ssc is not None
        self.clock.advance(1_000)
        hits = self.hook.hits
        try:
            self.ssc.runBatch()
        except Exception as error:
            if self.hook.hits == hits:
                raise
            assert "fail point" in str(error)  # noqa: PT017 - which of two errors it is decides
            return True
        finally:
            self.hook.point = ""
        assert self.hook.hits == hits
        return False

    # What happens to it.

    @rule(records=RECORDS)
    def produce(self, records: list[tuple[int, str, int]]) -> None:
        """Records come into the log."""
        for partition in range(PARTITIONS):
            values = [
                key.encode() if key == "poison" else f"{key}={number}".encode()
                for place, key, number in records
                if place == partition
            ]
            self.log[partition] += values
            with LogWriter(self.root / "log", TOPIC, partition) as writer:
                writer.append([(self.clock.wall_ms(), None, value) for value in values])

    @rule(batches=st.integers(1, 3))
    def run(self, batches: int) -> None:
        """Batches run."""
        for _ in range(batches):
            assert not self._run()
        self.compare()

    @rule(seconds=st.integers(1, 5))
    def wait(self, seconds: int) -> None:
        """Intervals pass without a batch; the next one takes them over."""
        self.clock.advance(1_000 * seconds)

    @rule(points=st.lists(st.sampled_from(POINTS), min_size=1, max_size=3), records=RECORDS)
    def crash(self, points: list[str], records: list[tuple[int, str, int]]) -> None:
        """It fails at a point of a batch, if that one gets there, and starts again; as often as there are points."""
        for point in points:
            self.produce(records)
            self.hook.point = point
            if self._run():
                self.effects[f"crash at {point}"] += 1
            self._abandon()
            self._start()
            self.catch_up()

    @rule(point=st.sampled_from(START_POINTS), times=st.integers(1, 3))
    def crash_while_it_starts(self, point: str, times: int) -> None:
        """It fails on its way to the first batch, as often as that, and starts again."""
        self._abandon()
        for _ in range(times):
            self.hook.point = point
            with pytest.raises(Exception, match=f"fail point {point}"):
                self._start()
            self.effects[f"crash at {point}"] += 1
            self._abandon()
        self._start()
        self.catch_up()

    @rule(cut=st.integers(1, 40))
    def tear(self, cut: int) -> None:
        """The end of the journal is torn: less than its last frame is lost, as no more can be without an fsync that lied."""
        assert self.ssc is not None
        self.run(1)
        self._abandon()
        newest = max(self.folder.glob("*/journal/*.log"))
        os.truncate(newest, newest.stat().st_size - cut)
        self.effects["torn"] += 1
        self._start()
        self.catch_up()

    @rule()
    def restart(self) -> None:
        """It is stopped and started."""
        self._abandon(copied=False)
        self._start()
        self.catch_up()

    @rule()
    def rescale(self) -> None:
        """It goes on with two executors, or with the driver's own process."""
        self._abandon()
        self.master = "local" if self.master == "local[2]" else "local[2]"
        self.effects[f"rescaled to {self.master}"] += 1
        self._start()
        self.catch_up()

    @rule()
    def change_version(self) -> None:
        """It goes on as a later version, with a filter and an output more, or goes back to the earlier one."""
        self._abandon()
        self.changes.append(max((batch for batch, _ in self._ledger()), default=0))
        self.effects["upgraded" if len(self.changes) % 2 else "gone back"] += 1
        self._start()
        self.catch_up()

    @rule(
        suffix=st.sampled_from(SUFFIXES),
        file=st.integers(0, 50),
        at=st.integers(0, 5_000),
        bit=st.integers(0, 7),
    )
    def corrupt(self, suffix: str, file: int, at: int, bit: int) -> None:
        """A bit is turned in a segment or a snapshot: it is exact all the same, or refused until the bit is turned back."""
        for _ in range(4):  # so that shards have outgrown their deltas
            self.produce([(0, key, 1) for key in KEYS])
            self.run(1)
        self._abandon()
        files = sorted(self.folder.rglob(f"*{suffix}")) or sorted(self.folder.rglob("*.log"))
        path = files[file % len(files)]
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[at % len(whole)] ^= 1 << bit
        path.write_bytes(changed)
        self.effects[f"turned a bit in {path.suffix}"] += 1
        try:
            self._start()
        except CheckpointError as error:
            assert str(path.name) in str(error)  # noqa: PT017 - whether it is refused at all decides
            self.effects["refused for a bit"] += 1
            self._abandon()
            (self.folder / path.relative_to(self.root / f"life-{self.lives - 1}")).write_bytes(whole)
            self._start()
        self.catch_up()

    def catch_up(self) -> None:
        """One more batch is committed after every restart, and every table is that of the model."""
        before = max((batch for batch, _ in self._ledger()), default=0)
        assert not self._run()
        assert max(batch for batch, _ in self._ledger()) > before
        self.compare()

    # The model.

    def _rows(self, table: str, columns: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.root / "results.sqlite3")) as connection:
            return sorted(connection.execute(f"SELECT {columns} FROM {table} WHERE _deleted = 0"))  # noqa: S608 - our own names

    def _ledger(self) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:
        for batch, ranges in self._rows("ledger", "batch, ranges"):
            yield batch, [(partition, begin, until) for _, partition, begin, until in json.loads(ranges)]

    def compare(self) -> None:
        """After a batch the ledger's ranges tile the whole log, and the tables are what a dict gives for these ranges."""
        ends = [0] * PARTITIONS
        totals: Counter[str] = Counter()
        parts: dict[int, Counter[str]] = {}
        windows: list[tuple[int, str, int]] = []
        sizes: list[tuple[int, int]] = []
        dead: list[tuple[int, int]] = []
        for batch, ranges in self._ledger():
            parts[batch] = Counter()
            size = 0
            for partition, begin, until in ranges:
                assert begin == ends[partition]
                ends[partition] = until
                for offset in range(begin, until):
                    value = self.log[partition][offset]
                    if value == b"poison":
                        dead.append((partition, offset))
                        continue
                    key, number = pair_of(value)
                    parts[batch][key] += number
                    size += 1
            totals += parts[batch]
            inside = [part for at, part in parts.items() if at > batch - 1_000 * LENGTH]
            windows += [(batch, key, n) for key, n in sum(inside, Counter()).items()]
            sizes += [(batch, size)] * self.is_later(batch)
        assert ends == [len(values) for values in self.log]
        assert self._rows("totals", "key, n") == sorted(totals.items())
        assert self._rows("windows", "at, key, n") == sorted(windows)
        assert self._rows("dead_letters", "partition, record_offset") == sorted(dead)
        assert self._rows("sizes", "at, n") == sorted(sizes)

    def teardown(self) -> None:
        """Run what is left, compare for the last time, and leave nothing behind."""
        try:
            if self.ssc is not None:
                assert not self._run()
                self.compare()
        finally:
            self._abandon(copied=False)
            SQLiteSink(self.root / "results.sqlite3").close()
            shutil.rmtree(self.root)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_any_history_of_faults_leaves_the_tables_of_a_dict(
    monkeypatch: pytest.MonkeyPatch, figures: Callable[[str], None]
) -> None:
    """Whatever is produced, torn, corrupted, rescaled and upgraded, and wherever it fails, the tables equal a dict over the log after each restart."""
    hook, effects = Hook(), Counter[str]()
    figures(f"recovery model: RECOVERY_SEED={SEED} repeats this run")
    monkeypatch.setattr(failpoints, "_KINDS", hook)
    with LocalContext("local", "model") as one, LocalContext("local[2]", "model") as two:
        monkeypatch.setattr(Recovery, "contexts", {"local": one, "local[2]": two}, raising=False)
        monkeypatch.setattr(Recovery, "hook", hook, raising=False)
        monkeypatch.setattr(Recovery, "effects", effects, raising=False)
        run_state_machine_as_test(
            seed(SEED)(Recovery),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                # Without the search for a shorter history, which would last longer than the suite.
                phases=(Phase.generate,),
                # SEED repeats a run; histories of earlier ones would crowd out the new.
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    hits = sum(number for what, number in effects.items() if what.startswith("crash"))
    # How often is chance; a run in which hardly anything failed would prove nothing.
    assert hits > EXAMPLES // 5
    rare = {
        "torn",
        "upgraded",
        "gone back",
        "rescaled to local[2]",
        "turned a bit in .log",
        "turned a bit in .snap",
        "refused for a bit",
    }
    assert EXAMPLES < 25 or rare <= set(effects)
    figures(
        f"recovery model: {EXAMPLES} histories, {hits} crashes at {len([w for w in effects if w[:5] == 'crash'])} points, "
        f"{effects['torn']} torn ends, {effects['upgraded']} upgrades, {effects['gone back']} back, bits: "
        f"{effects['turned a bit in .log']} in segments, {effects['turned a bit in .snap']} in snapshots, "
        f"{effects['refused for a bit']} refused"
    )
