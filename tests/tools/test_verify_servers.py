"""verify on a real Kafka and a real Cassandra: what its readers give, and that it finds a changed row there too."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import RoundRobinPolicy
from kafka import KafkaProducer

from services.settings import Settings
from tests.servers import CassandraServer, KafkaServer
from tests.tools.verify_world import counts, page
from tools.verify import verify
from tools.verify.kafka_log import KafkaLog
from tools.verify.ledger import Range
from tools.verify.verdict import CannotTellError

pytestmark = [pytest.mark.servers, pytest.mark.slow]

START = 1_790_000_000_123
"""The time of the first batch, milliseconds; the next ones follow each a second later, over midnight too."""
Sent = dict[int, bytes | None]
"""The committed records of a partition by their offsets."""


def send(server: KafkaServer, topic: str, transactions: Sequence[tuple[bool, int]]) -> Sent:
    """Write transactions of so many records to partition 0, each committed or aborted; what was committed."""
    sent: Sent = {}
    with closing(KafkaProducer(bootstrap_servers=server.bootstrap, transactional_id=topic)) as producer:
        producer.init_transactions()
        for number, (is_committed, records) in enumerate(transactions):
            values = [
                page(f"/page/{(number + n) % 5:03d}", seq=1_000 * number + n) if n % 7 else None
                for n in range(records)
            ]
            producer.begin_transaction()
            futures = [producer.send(topic, value, key=b"user", partition=0) for value in values]
            offsets = [future.get(timeout=30).offset for future in futures]
            if is_committed:
                producer.commit_transaction()
                sent.update(zip(offsets, values, strict=True))
            else:
                producer.abort_transaction()
    return sent


def test_ranges_of_a_transactional_topic_hold_what_is_committed(
    kafka_server: KafkaServer, fresh_topic: Callable[[int], str]
) -> None:
    """However a topic is cut, its ranges give each committed record once and end behind aborted and control records."""
    topic = fresh_topic(2)
    transactions = [
        (True, 3),
        (False, 4),
        (True, 1),
        (False, 1),
        (False, 20),
        (True, 2_000),
        (False, 9),
        (False, 1),
    ]
    sent = send(kafka_server, topic, transactions)
    with closing(KafkaLog(kafka_server.bootstrap)) as log:
        end = sum(records + 1 for _, records in transactions)
        assert log.bounds([topic]) == {(topic, 0): (0, end), (topic, 1): (0, 0)}
        for step in (1, 3, 700, end):
            cuts = [*range(0, end, step), end]
            found = [
                record
                for start, until in pairwise(cuts)
                for record in log.read(Range(topic, 0, start, until))
            ]
            assert found == sorted(sent.items())
        assert dict(log.read(Range(topic, 0, 2, 9))) == {2: sent[2]}


def test_missing_topic_cannot_tell(kafka_server: KafkaServer) -> None:
    """A topic that Kafka does not have is named, and not made."""
    with (
        closing(KafkaLog(kafka_server.bootstrap)) as log,
        pytest.raises(CannotTellError, match="no-such-topic"),
    ):
        log.bounds(["no-such-topic"])


@contextmanager
def session_of(server: CassandraServer, keyspace: str) -> Iterator[Any]:
    """A session of the driver."""
    profile = ExecutionProfile(load_balancing_policy=RoundRobinPolicy(), request_timeout=30)
    cluster = Cluster(
        list(server.hosts),
        port=server.port,
        protocol_version=5,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
    )
    try:
        yield cluster.connect(keyspace)
    finally:
        cluster.shutdown()


def moment(milliseconds: int) -> datetime:
    """A time as the driver takes it."""
    return datetime.fromtimestamp(milliseconds / 1_000, tz=UTC)


def fill(session: Any, topic: str, sent: Sent, end: int) -> None:
    """Write the ledger of batches of 100 offsets, each on a day of its own, and the rows that follow."""
    views: Counter[str] = Counter()
    seqs: Counter[str] = Counter()
    for number, start in enumerate(range(0, end, 100)):
        time = START + number * 1_000
        ranges = json.dumps([[topic, 0, start, min(start + 100, end)], [topic, 1, 0, 0]])
        session.execute(
            'INSERT INTO ledger (app, day, "batch", attempt, zero_time, ranges) VALUES (%s, %s, %s, 0, %s, %s)',
            ("pipeline", f"2026-11-{number + 1:02d}", moment(time), moment(START), ranges),
        )
        for offset in range(start, min(start + 100, end)):
            if sent.get(offset, b"") is None:
                session.execute(
                    'INSERT INTO dead_letters (topic, partition, record_offset, reason, value, "batch") VALUES (%s, 0, %s, %s, null, %s)',
                    (topic, offset, "undecodable: null", moment(time)),
                )
            elif value := sent.get(offset):
                event = json.loads(value)
                name = event["page"]
                views[name] += 1
                seqs[name] += event["seq"]
                session.execute(
                    'INSERT INTO page_totals (page, views, seq_sum, "batch") VALUES (%s, %s, %s, %s)',
                    (name, views[name], seqs[name], moment(time)),
                )


def test_rows_on_real_servers_are_proven(
    kafka_server: KafkaServer,
    cassandra_server: CassandraServer,
    fresh_topic: Callable[[int], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows in Cassandra that follow a transactional topic are exact; one that is changed, dropped or added is found."""
    topic, keyspace = fresh_topic(2), cassandra_server.keyspace()
    monkeypatch.setattr("tools.verify.truth.PAGE_VIEWS", topic)
    sent = send(kafka_server, topic, [(True, 150), (False, 40), (True, 10), (False, 30)])
    settings = Settings(
        kafka_bootstrap=kafka_server.bootstrap,
        cassandra_hosts=cassandra_server.hosts,
        cassandra_port=cassandra_server.port,
        keyspace=keyspace,
        jobs=("page_totals",),
    )
    assert "nothing is committed yet" in verify(settings).reason
    assert "cannot be read" in verify(settings.model_copy(update={"keyspace": "no_such_keyspace"})).reason
    with session_of(cassandra_server, keyspace) as session:
        fill(session, topic, sent, 234)
        verdict = verify(settings)
        assert (verdict.code, verdict.reason, verdict.exact) == (0, "", verdict.windows)
        assert (verdict.ledger.batches, verdict.ledger.records, verdict.ledger.behind) == (3, len(sent), 0)
        assert verdict.windows == 5 + sum(value is None for value in sent.values())
        session.execute("UPDATE page_totals SET seq_sum = 1 WHERE page = '/page/001'")
        session.execute("DELETE FROM page_totals WHERE page = '/page/002'")
        session.execute(
            "INSERT INTO campaign_windows (campaign_id, window_start, views, \"batch\") VALUES ('campaign-00', 0, 1, %s)",
            (moment(START),),
        )
        verdict = verify(settings)
        assert (verdict.code, counts(verdict)) == (1, (1, 1, 1))
