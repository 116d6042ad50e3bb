"""The points around sinks and commit beside a real Kafka and a real Cassandra: killed and failing there, every row stays exact."""

from collections.abc import Callable
from pathlib import Path

import pytest

from services.settings import Settings
from services.topics import create_topics
from tests.engine.children import wait_until
from tests.servers import CassandraServer, KafkaServer
from tools.killloop.backlog import Backlog
from tools.killloop.loop import LOOP_SETTINGS, KillLoop, Plan
from tools.killloop.victim import Victim
from tools.progress import Progress

pytestmark = pytest.mark.slow

POINTS = (
    "before_sink",
    "in_sink",
    "after_sink",
    "before_ledger",
    "after_ledger",
    "before_commit",
    "after_commit",
    "before_hint",
)
END_SECONDS = 60.0
RECORDS = 4_000
"""In each partition at the start: many batches, whatever the machine."""
CODES = {"crash": -9, "raise": 1}


def end_of(victim: Victim) -> tuple[str, str]:
    """Wait until the process has ended by itself; returns how, and the point that it reached last."""
    try:
        wait_until(lambda: bool(victim.is_hopeless()), "the engine ended at its fail point", END_SECONDS)
        return victim.is_hopeless(), victim.point
    finally:
        victim.abandon()


def fail_at_each_point(settings: Settings, folder: Path) -> None:
    """One life for each point and kind, which ends there; each begins with what the one before it left."""
    for kind, code in CODES.items():
        for point in POINTS:
            # Executors of two processes would write over each other's point.
            own = settings.model_copy(update={"master": "local"})
            how, reached = end_of(Victim(own, folder, {"FAIL_POINT": f"{point}={kind}"}))
            assert f"exit code {code};" in how
            assert reached == point


@pytest.mark.fault(4, "fail point in_sink, with a real Kafka and a real Cassandra")
@pytest.mark.fault(5, "fail points before_ledger to before_commit, with a real Kafka and a real Cassandra")
@pytest.mark.fault(8, "fail point before_hint, with a real Kafka")
@pytest.mark.servers
@pytest.mark.timeout(600)
def test_faults_around_sinks_and_commit_leave_every_real_row_exact(
    kafka_server: KafkaServer,
    cassandra_server: CassandraServer,
    tmp_path: Path,
    figures: Callable[[str], None],
) -> None:
    """Sixteen lives end at eight points, by SIGKILL and by an error, one is held up at each; then a kill, and every row is exact."""
    own = {
        "app": "fail-points",
        "keyspace": cassandra_server.keyspace(),
        "checkpoint_dir": tmp_path / "checkpoints",
        **LOOP_SETTINGS["processes"],
    }
    settings = kafka_server.stack.settings.model_copy(update=own)
    create_topics(settings)
    logs = tmp_path / "logs"
    logs.mkdir()
    progress = Progress(settings)
    backlog = Backlog(settings, progress)
    try:
        backlog.fill(RECORDS)
        fail_at_each_point(settings, logs)
        before = progress.newest().time
        pauses = ",".join(f"{point}=delay:0.01" for point in POINTS)
        slow = Victim(settings, logs, {"FAIL_POINT": pauses})
        try:
            slow.await_commit(progress, before, END_SECONDS)
            slow.kill(is_whole_tree=True)
        finally:
            slow.abandon()
    finally:
        backlog.close()
        progress.close()

    tally = KillLoop(settings, Plan(kills=1), logs).run()
    verdict = tally.verdict
    assert verdict is not None
    assert (verdict.reason, verdict.missing, verdict.over, verdict.wrong) == ("", 0, 0, 0)
    assert verdict.ledger is not None
    assert verdict.ledger.behind == 0
    figures(
        f"fail points on the real stack: {len(CODES) * len(POINTS)} ended lives, {verdict.ledger.batches} batches, 0 mismatches"
    )
