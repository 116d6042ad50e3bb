"""Scenes on the running pipeline of plain processes, each of which raises many alerts at once and lets them clear.

Prometheus reads the project's own rules with `for`, `keep_firing_for` and ranges six times as short, and scrapes twice as often
(live_world.faster_rules); test_live.py has two alerts at their own pace. What a scene must raise is in live_world.SCENES.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from services.cassandra.session import open_session
from tests.ports import free_port
from tests.services.prometheus.live_world import LASTING, SCENES, Watched, held_down

pytestmark = [pytest.mark.slow, pytest.mark.servers, pytest.mark.timeout(300)]

AT_WORK = "engine:checkpoint_age:seconds < 3"


@pytest.fixture(scope="module")
def fast(monitored: Watched) -> Watched:
    """The running pipeline with the faster rules."""
    monitored.be_faster()
    return monitored


@pytest.fixture(autouse=True)
def scene(fast: Watched, request: pytest.FixtureRequest, figures: Callable[[str], None]) -> Iterator[None]:
    """Begin each scene with an engine at work, and tell how long it took."""
    fast.wait_for_values(AT_WORK)
    began = time.monotonic()
    yield
    figures(f"{request.node.name}: {time.monotonic() - began:.0f} s")


def test_results_nobody_proves_or_that_are_wrong(fast: Watched, figures: Callable[[str], None]) -> None:
    """Undecodable records, a dead verifier, a full volume, an engine killed again and again and a changed row fire their alerts."""
    raised, settings = SCENES["results and restarts"], fast.stack.settings
    if fast.volume.is_mounted:
        fast.volume.fill(left_mib=3)
    else:
        figures("no user may mount a volume here: CheckpointDiskFilling and StateGrowth were not shown live")
        raised -= {"CheckpointDiskFilling-warning", "StateGrowth-warning"}
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0})
    for _ in range(400):
        producer.produce("page-views", b"{poison", partition=0)
    assert producer.flush(10) == 0
    rows = f"{settings.keyspace}.trending_pages"
    with open_session(settings.cassandra_hosts, settings.cassandra_port) as session:
        ended = f"SELECT window_end, rank, views FROM {rows}"  # noqa: S608 - a name of ours
        fast.wait_until(lambda: bool(session.execute(ended).one()), 60, "a window that has ended")
        # It is never written again.
        row = min(session.execute(ended))
        change = f"UPDATE {rows} SET views = %s WHERE window_end = %s AND rank = %s"  # noqa: S608 - likewise
        session.execute(change, (row.views + 1, row.window_end, row.rank))
        with held_down(fast.stack, "verifier"):
            fast.wait_for_alerts(raised - {"WindowMismatch-critical", "RestartLoop-critical"})
        if fast.volume.is_mounted:
            fast.volume.empty()
        # The verifier looks as soon as it starts, here and below.
        for _ in range(3):
            fast.kill_engine_and_see_it_start()
        fast.wait_for_alerts({"WindowMismatch-critical", "RestartLoop-critical"})
        session.execute(change, (row.views, row.window_end, row.rank))
        fast.stack.kill("verifier")
    fast.wait_for_values('verify_rows{verdict="exact",table="trending_pages"} > 0')
    fast.wait_for_clear(raised - LASTING)


@pytest.mark.fault(43, "a slow store and volume under Prometheus: the alerts fire")
def test_engine_that_is_too_slow(fast: Watched, tmp_path: Path) -> None:
    """A slow store, a slow disk, too low a rate and executors that die fire the alerts of their runbooks."""
    raised, trace = SCENES["slow engine"], tmp_path / "trace"
    deaths = {"CheckpointFailing-warning", "ExecutorsDying-warning", "BatchFailed-critical"}
    slow = {
        "MAX_RATE_PER_PARTITION": "20",
        "FAIL_POINT": "before_commit=delay:0.4,in_snapshot=delay:0.6,in_sink=delay:0.05",
        "FAIL_POINT_TRACE": str(trace),
    }
    with fast.slow_way("cassandra") as way:
        try:
            fast.anew("engine", {"CASSANDRA_PORT": way.address.rpartition(":")[2], **slow})
            way.tell("delay 0.15")
            fast.wait_for_alerts(raised - deaths)
            for point in ("in_snapshot", "in_sink"):
                fast.kill_executors(trace, point)
            fast.wait_for_alerts(deaths)
        finally:
            way.tell("delay 0")
            fast.anew("engine")
    fast.wait_for_clear(raised - LASTING)


def test_servers_that_are_there_and_do_not_serve(fast: Watched) -> None:
    """Writes that time out inside Cassandra, which then hangs, and a partition of Kafka's whose broker is gone."""
    raised = SCENES["hanging servers"]
    client = {"bootstrap.servers": fast.stack.settings.kafka_bootstrap, "log_level": 0}
    admin = AdminClient(client)
    fast.nodetool("settimeout", "write", "1")
    try:
        fast.wait_for_alerts({"CassandraTimeouts-warning"})
        fast.stack.pause("cassandra")
        # It gives way to the critical one when batches come far too late.
        fast.wait_for_alerts({"SchedulingDelayHigh-warning"})
        with fast.second_broker(free_port()):
            fast.wait_until(lambda: 2 in admin.list_topics(timeout=5).brokers, 60, "the second broker")
            admin.create_topics([NewTopic("elsewhere", 1, replica_assignment=[[2]])])["elsewhere"].result(20)
        early = {"CassandraTimeouts-warning", "SchedulingDelayHigh-warning"}
        fast.wait_for_alerts(raised - early - {"SinkErrors-warning"})
    finally:
        fast.stack.resume("cassandra")
        fast.nodetool("settimeout", "write", "2000")
    # A new client: the old one may take the dead broker for the controller.
    admin = AdminClient(client)
    admin.delete_topics(["elsewhere"])["elsewhere"].result(20)
    fast.wait_for_alerts({"SinkErrors-warning"})
    fast.wait_for_clear(raised)


def test_kafka_that_is_far_away_and_dies(fast: Watched) -> None:
    """Appends that take too long for the rate fire ProducerBehind, and a dead Kafka KafkaDown and ProducerSilent."""
    raised = SCENES["dead Kafka"]
    with fast.slow_way("kafka", "--kafka") as way:
        fast.anew("producer", {"KAFKA_BOOTSTRAP": way.address, "AD_RATE": "20000"})
        way.tell("delay 0.05")
        fast.wait_for_alerts({"ProducerBehind-warning"})
        fast.stack.kill("kafka")
        fast.wait_for_alerts(raised - {"ProducerBehind-warning"})
        fast.stack.start("kafka")
        fast.anew("producer")
    fast.wait_for_clear(raised | (LASTING & fast.raised), 75)
