"""The chaos drills: each fault has its effect, is healed, and leaves every row exact; one without effect is not praised."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.errors import StreamingError
from services.settings import REPOSITORY, Settings, base_environment
from tests.servers import CassandraServer, KafkaServer
from tests.tools.stack_world import embedded, kinds_of, pid_of, state_of, wait_until
from tools.chaos import drill
from tools.chaos.__main__ import INTERRUPTED, table
from tools.chaos.drill import Drill, Outcome
from tools.stack.api import Stack
from tools.stack.events import Event, EventLog
from tools.verify import Verdict


def quiet(_text: str) -> None:
    """Takes what a drill says."""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """An embedded stack with the real producer and engine, ended after the test."""
    made = Stack(embedded(tmp_path, ad_rate=400, page_rate=200), is_tied=True)
    yield made
    made.down()


def chaos(settings: Settings, **variables: str) -> subprocess.Popen[str]:
    """The command on a stack."""
    environment = {**base_environment(), **settings.environment(), **variables}
    return subprocess.Popen(
        [sys.executable, "-m", "tools.chaos"],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(run: int, seconds: float, **more: object) -> Outcome:
    """A run in which everything took about so long."""
    made = Outcome(run, seconds, seconds, seconds * 2, seconds * 3, verdict=Verdict())
    for name, value in more.items():
        setattr(made, name, value)
    return made


@pytest.mark.slow
def test_engine_kill_starts_the_stack_and_leaves_every_row_exact(stack: Stack) -> None:
    """The command brings the stack up, kills its engine as often as asked and tells what each recovery took."""
    process = chaos(stack.settings, FAULT="engine-kill", RUNS="2", SEED="7")
    printed, said = process.communicate(timeout=100)
    assert process.returncode == 0, said
    lines = printed.splitlines()
    assert lines[0] == "engine-kill, seed 7, STACK=embedded; seconds since the kill"
    assert [line.split()[0] for line in lines[1:-1]] == ["run", "1", "2", "median", "worst"]
    assert re.fullmatch(
        r"verify: windows=[1-9]\d* exact=\d+ missing=0 over=0 wrong=0 dead_letters=0", lines[-1]
    )
    assert kinds_of(stack, "engine").count("kill") == 2
    assert kinds_of(stack, "engine").count("restart") == 2
    assert state_of(stack, "engine") == "running"


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kafka-restart", "cassandra-restart"])
def test_server_faults_are_refused_on_the_embedded_stack(tmp_path: Path, fault: str) -> None:
    """A fault of a server that the stack does not have is refused in one sentence with exit code 2."""
    process = chaos(embedded(tmp_path), FAULT=fault)
    printed, said = process.communicate(timeout=30)
    assert (process.returncode, printed) == (2, "")
    assert (
        said
        == f"FAULT='{fault}' needs a server, and STACK='embedded' has none; use engine-kill or STACK=processes\n"
    )
    assert not (tmp_path / "stack").exists()


class Toothless(Stack):
    """A stack whose kill is only written down."""

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> Event:
        """Signal nobody."""
        events = EventLog(self.settings.data_dir / "events.jsonl")
        return events.append(name, "kill", pid=pid_of(self, name), signal=number.name)


@pytest.mark.slow
def test_fault_without_effect_fails_the_drill(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill after which nobody has died is an error, however exact the rows are."""
    monkeypatch.setattr(drill, "_DETECT_SECONDS", 1.0)
    stack.up()
    with pytest.raises(StreamingError, match="engine had no event 'death' within 1 s"):
        Drill(Toothless(stack.settings), "engine-kill", 1, quiet).run(1)


@pytest.mark.slow
def test_drill_on_an_engine_that_does_not_work_fails(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drill strikes only an engine that keeps up, since a fault under no load proves nothing."""
    monkeypatch.setattr(drill, "_CAUGHT_UP_SECONDS", 2.0)
    stack.up()
    stack.pause("engine")
    with pytest.raises(StreamingError, match="has not caught up within 2 s"):
        Drill(stack, "engine-kill", 1, quiet).run(1)
    stack.resume("engine")


@pytest.mark.slow
def test_interrupt_leaves_the_stack_running(stack: Stack) -> None:
    """Ctrl-C ends the drill, not the stack."""
    stack.up()
    process = chaos(stack.settings, RUNS="100")
    wait_until(lambda: "kill" in kinds_of(stack, "engine"), 60)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == INTERRUPTED, said
    assert "interrupted" in said
    wait_until(lambda: state_of(stack, "engine") == "running")
    assert state_of(stack, "producer") == "running"


def test_table_has_median_and_worst_in_eighty_columns() -> None:
    """Several runs get a line each, then the median and the worst of every column; the verdict line is the last."""
    lines = list(table([outcome(1, 1.0), outcome(2, 1_000.0), outcome(3, 2.0)]))
    assert [line.split()[1:5] for line in lines[-3:-1]] == [
        ["2.00", "2.00", "4.00", "6.00"],
        ["1000.00", "1000.00", "2000.00", "3000.00"],
    ]
    assert max(map(len, lines)) <= 80
    assert lines[-1] == Verdict().line


def test_doubt_is_told_and_spoils_a_run() -> None:
    """A run whose fault had no effect is not good, and its line says why; a remark alone spoils nothing."""
    doubtful = outcome(1, 1.0, doubts=["kafka answered 1.0 s after its death"])
    assert not doubtful.is_good
    assert "run 1: the fault did not have its effect: kafka answered 1.0 s after its death" in list(
        table([doubtful])
    )
    assert outcome(1, 1.0, remarks=["it was odd"]).is_good
    assert not outcome(1, 1.0, verdict=Verdict(reason="the log is gone")).is_good


@pytest.fixture
def real_stack(kafka_server: KafkaServer, cassandra_server: CassandraServer) -> Iterator[Stack]:
    """The session's servers with producer and engine at work; those two end after the test."""
    made = kafka_server.stack
    assert made is cassandra_server.stack
    made.up()
    yield made
    for name in ("engine", "producer"):
        made.wait_for(name, "death", after=made.kill(name, signal.SIGTERM).time)


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.timeout(400)
@pytest.mark.parametrize("fault", ["kafka-restart", "cassandra-restart"])
def test_server_killed_in_flight_loses_no_acknowledged_row(
    real_stack: Stack, fault: str, figures: Callable[[str], None]
) -> None:
    """A server is killed while a batch is in flight and started 10 s later: every acknowledged row is there, all are exact."""
    server = drill.FAULTS[fault]
    before = pid_of(real_stack, server)
    found = Drill(real_stack, fault, 1, quiet).run(1)
    for line in table([found]):
        figures(f"{fault}: {line}")
    assert found.doubts == []
    assert pid_of(real_stack, server) != before
    assert found.restart >= drill.HOLD_SECONDS
    assert found.verdict is not None
    assert (found.verdict.code, found.verdict.reason) == (0, "")
    assert {verdict.name for verdict in found.verdict.tables if verdict.exact} >= {
        "campaign_windows",
        "trending_pages",
        "page_totals",
    }
