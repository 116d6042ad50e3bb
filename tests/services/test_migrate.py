"""The stack's one init step."""

import socket
from pathlib import Path

import pytest

from engine.errors import StreamingError
from services import topics
from services.migrate import prepare
from services.settings import Settings
from tests.servers import CassandraServer, KafkaServer


def test_embedded_stack_is_prepared_once(tmp_path: Path) -> None:
    """The first call makes topics and tables and says so; the second finds nothing to do."""
    settings = Settings(stack="embedded", data_dir=tmp_path)

    made, schema = prepare(settings)

    assert made == "ad-events: 4 partitions, page-views: 2 partitions"
    assert (
        schema
        == "schema: 001_results.sql, 002_dead_letters.sql, 003_ledger.sql, 004_replays.sql, 005_seq_sums.sql"
    )
    assert prepare(settings) == [made, "schema: nothing to do"]


@pytest.mark.slow
def test_broker_that_does_not_answer_ends_the_wait_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Kafka that is away is told of with its address, after the time that was given."""
    monkeypatch.setattr(topics, "REQUEST_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*silent.getsockname())
        with pytest.raises(StreamingError, match=f"{address} within 0.5 s"):
            prepare(Settings(kafka_bootstrap=address))


@pytest.mark.slow
@pytest.mark.servers
def test_servers_are_prepared_for_producers_and_engine(
    kafka_server: KafkaServer, cassandra_server: CassandraServer
) -> None:
    """On real servers the topics and the keyspace are there after the step."""
    settings = Settings(
        kafka_bootstrap=kafka_server.bootstrap,
        cassandra_hosts=cassandra_server.hosts,
        cassandra_port=cassandra_server.port,
        keyspace="test_migrate",
    )

    prepare(settings, wait_seconds=30)

    assert prepare(settings)[1] == "schema: nothing to do"
