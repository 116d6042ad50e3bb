"""What the store on Cassandra does beyond the contract: batches, windows, outages, re-preparation."""

import itertools
import re
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest
from cassandra.cluster import NoHostAvailable
from cassandra.query import BatchStatement

from engine.errors import ConfigurationError, SinkError
from engine.reports import WriteReport
from engine.sinks import cassandra as module
from engine.sinks.api import Table
from engine.sinks.cassandra import CassandraSink
from tests.engine.sinks.calls import Call, Traffic, connected, lines, until
from tests.engine.sinks.proxy import Proxy
from tests.engine.sinks.stores import MARKS, SERIES, TOTALS, CassandraWorld, delete, policies

pytestmark = pytest.mark.servers

NUMBERS = Table("series", columns=("id", "at", "n"), key=("id", "at"))


@pytest.fixture
def name() -> str:
    """An id that no other test uses."""
    return uuid.uuid4().hex


@pytest.fixture
def proxy(cassandra_world: CassandraWorld) -> Iterator[Proxy]:
    """A proxy before the real server."""
    with Proxy(cassandra_world.server.hosts[0], cassandra_world.server.port) as made:
        yield made


@pytest.fixture
def store(cassandra_world: CassandraWorld, proxy: Proxy) -> Iterator[CassandraSink]:
    """A store that reaches the server through the proxy."""
    made = CassandraSink(["127.0.0.1"], proxy.port, cassandra_world.keyspace)
    yield made
    made.close()


def write_totals(store: CassandraSink, *rows: tuple[str, int], at: int = 1) -> WriteReport:
    """Write rows of the table of totals."""
    return store.write(TOTALS, rows, batch_ms=1_000, write_timestamp=at)


def test_cells_carry_the_write_timestamp(cassandra_world: CassandraWorld, name: str) -> None:
    """Every cell of a row has the batch's write timestamp, the batch column too."""
    cassandra_world.put(TOTALS, (name, 5), at=1_234_567)
    query = 'SELECT writetime(n), writetime("batch") FROM totals WHERE id = %s'
    assert tuple(cassandra_world.session.execute(query, (name,)).one()) == (1_234_567, 1_234_567)


def test_rows_of_a_partition_travel_in_batches(
    cassandra_world: CassandraWorld, store: CassandraSink, name: str
) -> None:
    """The rows of a partition share unlogged batches of one partition, at most 100 rows and 5 KiB each."""
    traffic = Traffic(store)
    rows = [(f"{name}-{index % 5}", index) for index in range(1_000)]
    store.write(MARKS, rows, batch_ms=1, write_timestamp=1)
    assert traffic.requests == traffic.batches()
    assert len(traffic.requests) <= 1_000 / 40
    for future in traffic.requests:
        statements = future.query._statements_and_parameters
        assert len({values[0] for _, _, values in statements}) == 1
        assert len(statements) <= 100
        assert future.request_encoded_size <= 5 * 1024
        assert future.query.batch_type.name == "UNLOGGED"
        assert not future.warnings
    assert sum(len(cassandra_world.rows(MARKS, f"{name}-{index}")) for index in range(5)) == 1_000


def test_rows_of_many_partitions_travel_alone(store: CassandraSink, name: str) -> None:
    """A row that is alone in its partition is a request of its own, never part of a batch over partitions."""
    traffic = Traffic(store)
    write_totals(store, *((f"{name}-{index}", index) for index in range(50)))
    assert len(traffic.requests) == 50
    assert not traffic.batches()


def test_large_row_is_no_part_of_a_batch(store: CassandraSink, name: str) -> None:
    """A row over the size of a batch goes alone, and the small rows of its partition go together."""
    traffic = Traffic(store)
    rows = [(name, index, None, None, b"x" * (6_000 if index == 2 else 10), None, None) for index in range(5)]
    store.write(SERIES, rows, batch_ms=1, write_timestamp=1)
    sizes = [
        len(future.query) if isinstance(future.query, BatchStatement) else 1 for future in traffic.requests
    ]
    assert sizes == [2, 1, 2]


def test_all_statements_are_idempotent(store: CassandraSink, name: str) -> None:
    """Every statement is marked as safe to repeat."""
    traffic = Traffic(store)
    store.write(
        MARKS, [(name, 1), (name, 2), delete(name, 3), ("lone" + name, 1)], batch_ms=1, write_timestamp=1
    )
    assert [future.query.is_idempotent for future in traffic.requests] == [True, True]


@pytest.mark.parametrize("in_flight", [1, 20])
def test_requests_in_flight_are_bounded(cassandra_world: CassandraWorld, in_flight: int, name: str) -> None:
    """No more requests than `in_flight` wait for an answer, and the window is used."""
    server = cassandra_world.server
    store = CassandraSink(server.hosts, server.port, cassandra_world.keyspace, in_flight=in_flight)
    traffic = Traffic(store)
    write_totals(store, *((f"{name}-{index}", index) for index in range(400)))
    store.close()
    assert in_flight / 2 <= traffic.most_flying <= in_flight
    assert len(traffic.requests) == 400


def test_bytes_in_flight_are_bounded(cassandra_world: CassandraWorld, name: str) -> None:
    """Requests of megabytes wait for each other; one that is larger than the window goes alone."""
    server = cassandra_world.server
    store = CassandraSink(server.hosts, server.port, cassandra_world.keyspace, in_flight_bytes=1 << 20)
    traffic = Traffic(store)
    rows = [(name, index, None, None, b"x" * 400_000, None, None) for index in range(10)]
    store.write(
        SERIES, [*rows, (name, 99, None, None, b"x" * 2_000_000, None, None)], batch_ms=1, write_timestamp=1
    )
    store.close()
    assert traffic.most_flying == 2
    assert len(cassandra_world.rows(SERIES, name)) == 11


def test_row_too_large_is_refused_for_good(cassandra_world: CassandraWorld, name: str) -> None:
    """A row that the server never takes fails with table, key and the server's words, and is not tried again."""
    row = (name, 7, None, None, bytes(17 << 20), None, None)
    with pytest.raises(
        SinkError, match=rf"table 'series', key \('{name}', 7\).*Request is too big"
    ) as refusal:
        cassandra_world.put(SERIES, row, at=1)
    assert len(str(refusal.value)) < 1_000


def test_key_too_long_is_refused_for_good(cassandra_world: CassandraWorld, name: str) -> None:
    """A refused row is named, cut to a bearable length, and the rows before it may be there."""
    with pytest.raises(SinkError, match=rf"table 'totals', key \('{name}kkk.*Key length of \d+ is longer"):
        cassandra_world.put(TOTALS, (name + "k" * 70_000, 1), at=1)


@pytest.mark.fault(41, "a column is dropped while rows are written")
def test_schema_change_does_not_disturb_writes(cassandra_world: CassandraWorld, name: str) -> None:
    """Statements are prepared anew by themselves after a table changes, in batches too."""
    table = Table("changing", columns=("id", "at", "n"), key=("id", "at"))
    create = (
        'CREATE TABLE changing (id text, at timestamp, n bigint, "batch" timestamp, PRIMARY KEY (id, at))'
    )
    changes = ["ALTER TABLE changing ADD extra text", "DROP TABLE changing", create]
    cassandra_world.session.execute(create)
    for step in range(3):
        cassandra_world.put(table, (name, 1, step), (name, 2, step), ("lone" + name, 1, step), at=step + 1)
        if step < 2:
            for change in changes[:1] if step == 0 else changes[1:]:
                cassandra_world.session.execute(change)
    assert [row[2] for row in cassandra_world.rows(table, name)] == [2, 2]
    cassandra_world.session.execute("ALTER TABLE changing DROP n")
    with pytest.raises(SinkError, match=r"table 'changing'.* n"):
        cassandra_world.put(table, (name, 1, 9), at=9)


@pytest.mark.fault(41, "the keyspace is missing")
def test_missing_keyspace_is_named(cassandra_world: CassandraWorld) -> None:
    """A keyspace that is not there is refused by check with its name, the address and the migration."""
    server = cassandra_world.server
    store = CassandraSink(server.hosts, server.port, "no_such_keyspace")
    with pytest.raises(ConfigurationError, match="keyspace 'no_such_keyspace' does not exist") as refusal:
        store.check(TOTALS)
    store.close()
    assert f":{server.port}" in str(refusal.value)
    assert "python -m services.cassandra.migrate" in str(refusal.value)


@pytest.mark.slow
@pytest.mark.fault(38, "no connection to Cassandra is taken at the start")
def test_check_waits_for_the_server(
    proxy: Proxy, store: CassandraSink, caplog: pytest.LogCaptureFixture
) -> None:
    """A check before the server is up waits, names host and port in the log, and returns once it is."""
    proxy.cut()
    call = Call(lambda: store.check(TOTALS))
    until(lambda: len(lines(caplog, f"127.0.0.1:{proxy.port}")) >= 2)
    assert not call.is_done()
    assert "Connection refused" in caplog.text
    proxy.heal()
    call.join()


@pytest.mark.slow
@pytest.mark.fault(38, "every connection is cut while three writers wait")
def test_outage_is_told_once_a_second(
    cassandra_world: CassandraWorld,
    proxy: Proxy,
    store: CassandraSink,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    """While the server is away three writers wait, one line a second says so, and all rows are there afterwards."""
    write_totals(store, (name, 0))
    proxy.cut()
    calls = [Call(partial(write_totals, store, (f"{name}-{index}", 1))) for index in range(3)]
    until(lambda: len(lines(caplog, " waits since ")) >= 4)
    assert not any(call.is_done() for call in calls)
    proxy.heal()
    for call in calls:
        call.join()
    told = lines(caplog, " waits since ")
    gaps = [later.created - earlier.created for earlier, later in itertools.pairwise(told)]
    assert min(gaps) >= 0.9
    pattern = rf"Cassandra at 127.0.0.1:{proxy.port}: a write of 1 rows to table totals waits since 20.*\(\d+ s\): \w+"
    assert all(re.search(pattern, record.getMessage()) for record in told)
    assert lines(caplog, "answers again after")
    assert {record.name for record in caplog.records} == {"engine.sinks.cassandra"}
    assert all(cassandra_world.rows(TOTALS, f"{name}-{index}") for index in range(3))


@pytest.mark.slow
@pytest.mark.fault(40, "every connection is cut in the middle of 2,000 rows")
def test_only_unacknowledged_rows_are_sent_again(
    cassandra_world: CassandraWorld, proxy: Proxy, store: CassandraSink, name: str
) -> None:
    """After a cut in the middle of a write no more than the window is repeated, and every row arrives."""
    traffic = Traffic(store)
    rows = [(f"{name}-{index}", index) for index in range(2_000)]
    reports: list[WriteReport] = []
    call = Call(lambda: reports.append(write_totals(store, *rows)))
    until(lambda: len(traffic.requests) > 1_000)
    proxy.cut()
    until(lambda: traffic.flying == 0)
    proxy.heal()
    call.join()
    sent = Counter(future.query.values[0] for future in traffic.requests)
    assert len(sent) == 2_000
    assert 0 < sum(1 for times in sent.values() if times > 1) <= 200
    found = {row[0] for row in cassandra_world.session.execute("SELECT id FROM totals")}
    assert {key for key, _ in rows} <= found
    (report,) = reports
    assert (report.rows, report.requests, report.seconds.count) == (2_000, 2_000, 2_000)
    assert report.retries >= 1
    assert 1 <= report.failures <= len(traffic.requests) - 2_000


@pytest.mark.slow
@pytest.mark.fault(42, "the way to Cassandra lets nothing pass for longer than a request waits")
def test_silent_server_is_tried_again(
    cassandra_world: CassandraWorld, proxy: Proxy, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Requests without an answer are sent again, and the log says that none came in time."""
    store = CassandraSink(["127.0.0.1"], proxy.port, cassandra_world.keyspace, request_seconds=0.3)
    write_totals(store, (name, 0))
    proxy.freeze()
    call = Call(lambda: write_totals(store, (name, 1), at=2))
    until(lambda: bool(lines(caplog, "no answer in time")))
    assert not call.is_done()
    proxy.thaw()
    call.join()
    store.close()
    assert cassandra_world.rows(TOTALS, name) == [(name, 1, 1_000)]


@pytest.mark.slow
@pytest.mark.parametrize("healer", ["driver", "store"])
def test_session_comes_back_by_itself(
    cassandra_world: CassandraWorld,
    proxy: Proxy,
    store: CassandraSink,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    healer: str,
) -> None:
    """The driver reconnects after an outage; where it never would, the store makes a new session."""
    write_totals(store, (name, 0))
    before = connected(store)
    monkeypatch.setattr(module, "_REPLACE_SECONDS", 1.0 if healer == "store" else 1e9)
    if healer == "store":
        before.cluster.reconnection_policy = policies.ConstantReconnectionPolicy(3_600.0)
    proxy.cut()
    call = Call(lambda: write_totals(store, (name, 1), at=2))
    until(lambda: before._silent_since is not None)
    proxy.heal()
    call.join()
    assert (connected(store) is before) == (healer == "driver")
    assert cassandra_world.rows(TOTALS, name) == [(name, 1, 1_000)]


@pytest.mark.slow
@pytest.mark.fault(38, "SIGKILL of Cassandra in the middle of writes")
def test_acknowledged_rows_survive_a_kill_of_the_server(
    cassandra_world: CassandraWorld, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """The server dies by SIGKILL in the middle of writes and starts again: writes go on, no acknowledged row is lost."""
    acknowledged: list[int] = []
    stop = threading.Event()

    def write() -> None:
        for step in itertools.count():
            rows = [(f"{name}-{step}", index, step) for index in range(30)]
            alone = [(f"{name}-{step}-{index}", 0, step) for index in range(30)]
            cassandra_world.store.write(NUMBERS, rows + alone, batch_ms=step, write_timestamp=step + 1)
            acknowledged.append(step)
            if stop.is_set():
                return

    call = Call(write)
    until(lambda: len(acknowledged) > 50)
    cassandra_world.server.kill()
    before = len(acknowledged)
    until(lambda: bool(lines(caplog, " waits since ")))
    cassandra_world.server.start()
    until(lambda: len(acknowledged) > before + 10)
    stop.set()
    call.join()
    found: dict[str, int] = {}

    def has_read() -> bool:
        # The test's own session may still hold a connection to the server that died.
        try:
            rows = list(cassandra_world.session.execute("SELECT id, count(*) FROM series GROUP BY id"))
        except NoHostAvailable:
            return False
        found.update({id_: count for id_, count in rows if id_.startswith(name)})
        return True

    until(has_read)
    expected = {f"{name}-{step}": 30 for step in acknowledged}
    expected |= {f"{name}-{step}-{index}": 1 for step in acknowledged for index in range(30)}
    assert found == expected
