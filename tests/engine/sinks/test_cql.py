"""The settings of the store on Cassandra, and its rows as requests; no server needed."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigurationError, SinkError
from engine.sinks.api import Table
from engine.sinks.cassandra import CassandraSink
from engine.sinks.cql import EncodedChange, Encoder, delete_of, fault_of, insert_of, requests_of
from engine.sinks.rules import Change

ORDERS = Table("orders", columns=("order", "at", "n"), key=("order", "at"))


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"hosts": "127.0.0.1"}, "hosts"),
    ({"hosts": []}, "hosts"),
    ({"port": 0}, "port"),
    ({"keyspace": 'x"; DROP'}, "keyspace"),
    ({"keyspace": ""}, "keyspace"),
    ({"in_flight": 0}, "in_flight"),
    ({"batch_rows": 0}, "batch_rows"),
    ({"consistency": "MOST"}, "MOST"),
    ({"consistency": "ANY"}, "ANY"),
]


@pytest.mark.parametrize(("settings", "named"), BAD_SETTINGS)
def test_bad_setting_is_refused(settings: dict[str, Any], named: str) -> None:
    """A setting out of its range is refused with its name before anything is connected."""
    with pytest.raises(ConfigurationError, match=named):
        CassandraSink(**{"hosts": ["127.0.0.1"], "port": 9042, "keyspace": "pipeline", **settings})


def test_store_pickles_as_its_settings() -> None:
    """A store that was never used comes back equal, with its hosts as a tuple."""
    store = CassandraSink(["a", "b"], 9042, "pipeline", in_flight=7)
    assert pickle.loads(pickle.dumps(store)) == store  # noqa: S301 - the test's own bytes
    assert store.hosts == ("a", "b")
    assert store.address == "a:9042,b:9042"


def test_names_are_quoted_and_qualified() -> None:
    """Words of CQL's grammar are valid names: every name is quoted, every table has its keyspace."""
    insert = 'INSERT INTO "ks"."orders" ("order", "at", "n", "batch") VALUES (?, ?, ?, ?) USING TIMESTAMP ?'
    assert insert_of("ks", ORDERS) == insert
    assert (
        delete_of("ks", ORDERS)
        == 'DELETE FROM "ks"."orders" USING TIMESTAMP ? WHERE "order" = ? AND "at" = ?'
    )


def number(value: int, _protocol_version: int) -> bytes:
    """A codec of numbers up to 255."""
    return bytes([value])


def test_encoded_change_has_batch_and_timestamp_last() -> None:
    """An upsert binds its columns, `batch` and the write timestamp; a removal the timestamp and its key."""
    encoder = Encoder(ORDERS, [("int", number)] * 4)
    upsert, removal = encoder.encode([Change((1, 2), (1, 2, None)), Change((1, 3), None)], 9, 5)
    stamp = (5).to_bytes(8, "big")
    assert upsert.values == [b"\x01", b"\x02", None, b"\x09", stamp]
    assert removal.values == [stamp, b"\x01", b"\x03"]
    assert upsert.partition == removal.partition == (b"\x01",)
    assert (upsert.is_delete, removal.is_delete) == (False, True)


def test_value_that_a_codec_refuses_is_a_sink_error() -> None:
    """A value out of its column's range is named with table and key."""
    encoder = Encoder(ORDERS, [("int", number)] * 4)
    with pytest.raises(SinkError, match=r"table 'orders', key \(1, 2\).*256"):
        encoder.encode([Change((1, 2), (1, 2, 256))], 9, 5)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 60)), max_size=60),
    st.integers(1, 8),
    st.integers(1, 100),
)
def test_requests_hold_every_change_once(
    rows: list[tuple[int, int]], most_rows: int, most_bytes: int
) -> None:
    """Changes are cut into requests of one partition, in order, within both limits unless one is larger alone."""
    changes = [
        EncodedChange((index,), (bytes([partition]),), is_delete=False, values=[], size_bytes=size)
        for index, (partition, size) in enumerate(rows)
    ]
    requests = list(requests_of(changes, most_rows, most_bytes))
    assert sorted(change for request in requests for change in request.changes) == changes
    for request in requests:
        assert len({change.partition for change in request.changes}) == 1
        assert [change.key for change in request.changes] == sorted(change.key for change in request.changes)
        assert request.size_bytes == sum(change.size_bytes for change in request.changes)
        assert len(request.changes) <= most_rows
        assert len(request.changes) == 1 or request.size_bytes <= most_bytes


def test_key_in_another_order_is_a_fault() -> None:
    """The order of the clustering columns is part of the primary key."""
    table = Table("t", columns=("a", "b", "c"), key=("a", "b", "c"))
    columns = {
        "a": ("partition_key", 0),
        "c": ("clustering", 0),
        "b": ("clustering", 1),
        "batch": ("regular", -1),
    }
    assert "primary key" in (fault_of(table, columns) or "")
    columns |= {"b": ("clustering", 0), "c": ("clustering", 1)}
    assert fault_of(table, columns) is None
