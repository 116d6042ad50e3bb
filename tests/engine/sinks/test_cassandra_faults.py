"""Cassandra goes away, answers too late, refuses a part, or loses a table: what a batch and its rows make of it."""

import itertools
import json
import struct
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from functools import partial
from operator import add
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import LocalContext, StreamingContext, StreamingListener
from engine.errors import ConfigurationError, SinkError
from engine.reports import WriteReport
from engine.scheduler import events
from engine.sinks.api import Table
from engine.sinks.cassandra import CassandraSink
from engine.sinks.output import TableOutput
from engine.sources.decoders import json_decoder
from engine.sources.direct import create_direct_stream
from engine.sources.log import LogSource, LogWriter, create_topic
from services.settings import REPOSITORY
from tests.engine.sinks.calls import Call, lines, until
from tests.engine.sinks.proxy import Proxy
from tests.engine.sinks.stores import TOTALS, CassandraWorld

pytestmark = [pytest.mark.servers, pytest.mark.slow]

_EXECUTE = 0x0A
_OVERLOADED = 0x1001
_FRAME = struct.Struct(">BBHBI")
KEYS = 20
BACKLOG_BYTES = 40_000_000
MOST_GROWTH_BYTES = 24_000_000
"""Of the engine's memory while such a backlog gathers before a batch that waits."""


@pytest.fixture
def name() -> str:
    """An id that no other test uses."""
    return uuid.uuid4().hex


@pytest.fixture
def proxy(cassandra_world: CassandraWorld) -> Iterator[Proxy]:
    """A proxy before the real server."""
    with Proxy(cassandra_world.server.hosts[0], cassandra_world.server.port) as made:
        yield made


def store_behind(world: CassandraWorld, port: int, **more: Any) -> CassandraSink:
    """A store that reaches the server through a port of this machine."""
    return CassandraSink(["127.0.0.1"], port, world.keyspace, **more)


class Batches(StreamingListener):
    """Notes how many batches were planned and how many committed."""

    def __init__(self) -> None:
        self.submitted = self.completed = self.failed = 0
        self.retries = 0
        """Of all writes."""

    def onBatchSubmitted(self, batchSubmitted: events.StreamingListenerBatchSubmitted) -> None:
        """One more."""
        self.submitted += 1

    def onBatchFailed(self, batchFailed: events.StreamingListenerBatchFailed) -> None:
        """One more."""
        self.failed += 1

    def onBatchCompleted(self, batchCompleted: events.StreamingListenerBatchCompleted) -> None:
        """One more."""
        writes = [write for output in batchCompleted.batchInfo.outputs for write in output.writes.values()]
        self.retries += sum(write.retries for write in writes)
        self.completed += 1


def totals_job(
    context: LocalContext, folder: Path, store: CassandraSink, name: str
) -> tuple[StreamingContext, Batches]:
    """An application that keeps how many records each of some keys had, in the table of totals."""
    told = Batches()
    ssc = StreamingContext(context, 0.1)
    ssc.checkpoint(folder / "checkpoints")
    ssc.addStreamingListener(told)
    stream = create_direct_stream(
        ssc,
        LogSource(folder / "log", [name]),
        name="records",
        decoder=json_decoder(dict[str, Any]),
        reset="earliest",
        max_rate_per_partition=20_000,
    )
    ones = stream.map(lambda record: (f"{name}-{record['key']}", 1)).reduceByKey(add)
    totals = ones.updateStateByKey(lambda new, old: sum(new) + (old or 0), name="totals")
    totals.foreachRDD(TableOutput(store, TOTALS, 1), name="table")
    return ssc, told


def append(folder: Path, name: str, records: int, padding: int = 0) -> None:
    """Append records of a key each in turn."""
    with LogWriter(folder / "log", name, 0) as writer:
        for first in range(0, records, 2_000):
            numbers = range(first, min(first + 2_000, records))
            values = [json.dumps({"key": n % KEYS, "pad": "x" * padding}).encode() for n in numbers]
            writer.append([(0, None, value) for value in values])


@pytest.mark.fault(
    38, "Cassandra is cut off for seconds in the middle of a batch while a large backlog gathers"
)
@pytest.mark.fault(
    42, "every connection with Cassandra breaks and none is taken; the input is the embedded log"
)
def test_batch_waits_in_place_and_memory_stays(
    cassandra_world: CassandraWorld, proxy: Proxy, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """While Cassandra is away one batch waits, no other is planned, memory does not follow the backlog, and all is counted after."""
    create_topic(tmp_path / "log", name, 1)
    append(tmp_path, name, 1_000)
    store = store_behind(cassandra_world, proxy.port)
    with LocalContext("local", "away") as context:
        ssc, told = totals_job(context, tmp_path, store, name)
        ssc.start()
        try:
            until(lambda: told.completed >= 3)
            proxy.cut()
            until(lambda: bool(lines(caplog, " waits since ")))
            planned, committed, before = told.submitted, told.completed, psutil.Process().memory_info().rss
            append(tmp_path, name, 100_000, padding=BACKLOG_BYTES // 100_000)
            until(lambda: len(lines(caplog, " waits since ")) >= 3)
            grown = psutil.Process().memory_info().rss - before
            assert (told.submitted, told.completed, planned) == (planned, committed, committed + 1)
            proxy.heal()
            until(lambda: total_of(cassandra_world, name) == 101_000)
        finally:
            ssc.stop(stopSparkContext=False)
            store.close()

    assert grown < MOST_GROWTH_BYTES
    assert told.failed == 0
    assert told.retries > 0
    assert {row[1] for row in rows_of(cassandra_world, name)} == {101_000 // KEYS}


def rows_of(world: CassandraWorld, name: str) -> list[tuple[Any, ...]]:
    """Id and number of each of a test's rows."""
    return [
        (row[0], row[1])
        for row in world.session.execute("SELECT id, n FROM totals")
        if row[0].startswith(name)
    ]


def total_of(world: CassandraWorld, name: str) -> int:
    """The sum of a test's rows."""
    return sum(n for _, n in rows_of(world, name))


@pytest.mark.fault(39, "the proxy drops Cassandra's answers after it has done the writes")
def test_write_of_unknown_outcome_is_repeated(
    cassandra_world: CassandraWorld, proxy: Proxy, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows that Cassandra has, and whose answers were lost, are written again under their own timestamp and stay the same."""
    store = store_behind(cassandra_world, proxy.port, request_seconds=0.5)
    store.check(TOTALS)
    write(store, (name, 0), at=1)
    proxy.is_mute = True
    reports: list[WriteReport] = []
    call = Call(lambda: reports.append(write(store, *((f"{name}-{n}", n) for n in range(30)), at=7)))
    until(lambda: bool(lines(caplog, "no answer in time")))
    until(lambda: len(rows_of(cassandra_world, f"{name}-")) == 30)
    assert proxy.dropped_bytes > 0
    assert not call.is_done()
    proxy.cut()
    proxy.is_mute = False
    proxy.heal()
    call.join()
    store.close()

    assert reports[0].failures >= 1
    assert reports[0].rows == 30
    found = cassandra_world.session.execute("SELECT id, n, writetime(n) FROM totals")
    assert sorted(tuple(row) for row in found if row[0].startswith(f"{name}-")) == sorted(
        (f"{name}-{n}", n, 7) for n in range(30)
    )


def write(store: CassandraSink, *rows: tuple[str, int], at: int) -> WriteReport:
    """Write rows of the table of totals."""
    return store.write(TOTALS, rows, batch_ms=1_000, write_timestamp=at)


class Overload:
    """Refuses each third row, once, in Cassandra's own words: a server at ease cannot be made to. The rest reaches the server."""

    def __init__(self) -> None:
        self.refused: set[bytes] = set()
        self.passed: Counter[bytes] = Counter()
        self._number = itertools.count()

    def __call__(self, frame: bytes) -> bytes | None:
        """The refusal, or None."""
        version, _, stream, operation, _ = _FRAME.unpack_from(frame)
        if operation != _EXECUTE:
            return None
        body = frame[_FRAME.size :]
        if body not in self.refused and next(self._number) % 3 == 0:
            self.refused.add(body)
            text = b"Request is overloaded"
            answer = struct.pack(">IH", _OVERLOADED, len(text)) + text
            return _FRAME.pack(version | 0x80, 0, stream, 0, len(answer)) + answer
        self.passed[body] += 1
        return None


@pytest.mark.fault(
    40, "each third row is answered with Overloaded, in the server's place; how many fly is not looked at"
)
def test_only_refused_rows_are_sent_again(cassandra_world: CassandraWorld, name: str) -> None:
    """Of rows of which an overloaded server refuses a third, no row that it took is sent twice, and all are there."""
    overload = Overload()
    server = cassandra_world.server
    with Proxy(server.hosts[0], server.port, overload) as proxy:
        store = store_behind(cassandra_world, proxy.port)
        report = write(store, *((f"{name}-{n}", n) for n in range(90)), at=1)
        store.close()

    assert len(overload.refused) >= 30
    assert report.failures == len(overload.refused)
    assert report.retries >= 1
    assert set(overload.passed.values()) == {1}
    assert len(overload.passed) == 90
    assert sorted(rows_of(cassandra_world, name)) == sorted((f"{name}-{n}", n) for n in range(90))


@pytest.mark.fault(41, "a table is missing at the start, and loses a column while rows are written")
def test_missing_table_is_named_with_its_statement(cassandra_world: CassandraWorld, name: str) -> None:
    """A table that is missing or lost a column ends a check and a write at once, with its name and the statement that needs it."""
    table = Table(f"t{name[:12]}", columns=("id", "n"), key=("id",))
    statement = f'INSERT INTO "{cassandra_world.keyspace}"."{table.name}" ("id", "n", "batch") VALUES'
    store, began = cassandra_world.store, time.monotonic()
    with pytest.raises(ConfigurationError, match=f"'{table.name}' does not exist") as missing:
        store.check(table)
    with pytest.raises(SinkError, match=table.name) as unwritten:
        store.write(table, [("a", 1)], batch_ms=1, write_timestamp=1)
    took = time.monotonic() - began
    session = cassandra_world.session
    session.execute(f'CREATE TABLE {table.name} (id text PRIMARY KEY, n bigint, "batch" timestamp)')
    store.write(table, [("a", 1)], batch_ms=1, write_timestamp=2)
    session.execute(f"ALTER TABLE {table.name} DROP n")
    with pytest.raises(SinkError, match=table.name) as altered:
        store.write(table, [("a", 2)], batch_ms=1, write_timestamp=3)

    assert took < 10
    for refusal in (missing, unwritten, altered):
        assert statement in str(refusal.value)


class SlowWay:
    """The proxy of the chaos drills before the real server."""

    def __init__(self, world: CassandraWorld) -> None:
        target = f"{world.server.hosts[0]}:{world.server.port}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.stack.proxy", "127.0.0.1:0", target],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline().rpartition(":")[2])

    def order(self, text: str) -> None:
        """Give an order and wait until it is carried out."""
        assert self.is_ok(text)

    def is_ok(self, text: str) -> bool:
        """Whether an order is answered by `ok`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{text}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline() == "ok\n"

    def close(self) -> None:
        """End it."""
        self._process.communicate("")


@pytest.fixture
def way(cassandra_world: CassandraWorld) -> Iterator[SlowWay]:
    """A way to the server that can be made slow."""
    made = SlowWay(cassandra_world)
    yield made
    made.close()


@pytest.mark.fault(42, "each byte to and from Cassandra takes half a second, then none passes at all")
def test_slow_and_silent_way_delays_rows_and_loses_none(
    cassandra_world: CassandraWorld, way: SlowWay, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """On a way with a second of latency many rows take about one, not one each; over a cut they wait, and none is lost."""
    store = store_behind(cassandra_world, way.port, request_seconds=3.0)
    write(store, (name, 0), at=1)
    way.order("delay 0.5")
    began = time.monotonic()
    write(store, *((f"{name}-{n}", n) for n in range(150)), at=2)
    took = time.monotonic() - began
    way.order("delay 0")
    way.order("cut")
    call = Call(lambda: write(store, *((f"{name}-{n}", 1_000 + n) for n in range(150)), at=3))
    until(lambda: bool(lines(caplog, "no answer in time")))
    assert not call.is_done()
    way.order("join")
    call.join()
    store.close()

    assert 1.0 <= took < 15
    assert {(f"{name}-{n}", 1_000 + n) for n in range(150)} <= set(rows_of(cassandra_world, name))


@pytest.mark.fault(42, "connections with Cassandra break at random, at one read in ten")
def test_lossy_way_costs_no_row(cassandra_world: CassandraWorld, way: SlowWay, name: str) -> None:
    """Over a way on which connections break again and again rows are written until they are there, with the newest values."""
    store = store_behind(cassandra_world, way.port, request_seconds=3.0)
    write(store, (name, 0), at=1)
    way.order("reset 0.1")
    turn = 1
    while not way.is_ok("resets 2"):
        turn += 1
        rows = [(f"{name}-{n}", 1_000 * turn + n) for n in range(150)]
        call = Call(partial(write, store, *rows, at=turn))
        until(lambda call=call: call.is_done() or way.is_ok("resets 2"))  # type: ignore[misc]  # bound in its turn
        if not call.is_done():
            way.order("reset 0")
        call.join()
    store.close()

    assert turn > 1
    assert {(f"{name}-{n}", 1_000 * turn + n) for n in range(150)} <= set(rows_of(cassandra_world, name))
