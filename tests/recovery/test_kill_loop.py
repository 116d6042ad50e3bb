"""SIGKILL under backlog in every phase of a batch: each restart commits a new batch, and every row stays exact."""

import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from engine.errors import StreamingError
from engine.failpoints import FAIL_POINTS
from services.settings import Settings
from services.sqlite.migrate import migrate
from services.topics import create_topics
from tests.ports import free_port
from tests.servers import CassandraServer, KafkaServer
from tests.tools.stack_world import python
from tools.killloop import __main__ as command
from tools.killloop.kept import Kept, Piece
from tools.killloop.loop import LOOP_SETTINGS, KillLoop, Plan, Tally
from tools.killloop.phases import EARLY, LATE, PHASES, Aim, Trace, phase_of
from tools.killloop.report import table

pytestmark = pytest.mark.slow


def embedded(folder: Path) -> Settings:
    """The settings of an embedded stack with topics and schema, without a process."""
    settings = Settings.model_validate(
        {"stack": "embedded", "data_dir": folder, "metrics_port": free_port(), **LOOP_SETTINGS["embedded"]}
    )
    create_topics(settings)
    migrate(settings.results_path)
    return settings


def assert_exact(tally: Tally, plan: Plan, least_kills: int) -> None:
    """Every kill hit an engine at work, every phase was hit so often, every restart committed, every row is exact."""
    assert tally.total == plan.kills
    assert {phase for phase in LATE if tally.kills[phase] < least_kills} == set()
    assert len(tally.recovered) == plan.kills + 1
    assert tally.least_backlog > 0
    assert tally.interrupted > 0
    verdict = tally.verdict
    assert verdict is not None
    assert (verdict.reason, verdict.missing, verdict.over, verdict.wrong) == ("", 0, 0, 0)
    # Whether a catch-up batch falls on a slide of trending_pages is chance; the other tables have rows for sure.
    assert {"campaign_windows", "page_totals", "dead_letters"} <= {
        found.name for found in verdict.tables if found.exact
    }
    assert verdict.ledger is not None
    assert verdict.ledger.behind == 0


@pytest.mark.fault(
    12, "89 kills in all phases of a batch, on the embedded stack; the 1,000 are `make kill-loop`"
)
@pytest.mark.timeout(1_200)
def test_eighty_kills_on_the_embedded_stack_leave_every_row_exact(
    tmp_path: Path, figures: Callable[[str], None]
) -> None:
    """80 kills, at least 4 in each phase of a batch and between two, and 9 more in the middle of a recovery change no row."""
    plan = Plan(kills=80, echoes=9)
    tally = KillLoop(embedded(tmp_path / "data"), plan, tmp_path / "logs").run()
    for line in table(Piece.of(tally)):
        figures(f"embedded: {line}")
    assert_exact(tally, plan, least_kills=4)
    assert tally.echoes.total() == plan.echoes
    # Which phase of a recovery the others hit is not certain: it may be over when they come.
    assert len([phase for phase in EARLY if tally.echoes[phase]]) >= 5


@pytest.mark.fault(12, "20 kills beside a real Kafka and a real Cassandra; the 100 are `make kill-loop`")
@pytest.mark.servers
@pytest.mark.timeout(600)
def test_eighteen_kills_on_the_real_stack_leave_every_row_exact(
    kafka_server: KafkaServer,
    cassandra_server: CassandraServer,
    tmp_path: Path,
    figures: Callable[[str], None],
) -> None:
    """18 kills beside a real Kafka and a real Cassandra, at least one in each phase of a batch and between two, change no row."""
    own = {
        "app": "kill-loop",
        "keyspace": cassandra_server.keyspace(),
        "checkpoint_dir": tmp_path / "checkpoints",
        **LOOP_SETTINGS["processes"],
    }
    settings = kafka_server.stack.settings.model_copy(update=own)
    create_topics(settings)
    plan = Plan(kills=18, echoes=2)
    tally = KillLoop(settings, plan, tmp_path / "logs").run()
    for line in table(Piece.of(tally)):
        figures(f"processes: {line}")
    assert_exact(tally, plan, least_kills=1)


def test_engine_that_does_not_come_back_fails_the_loop(tmp_path: Path) -> None:
    """An engine that ends by itself is an error that names its exit code and its last line, not a kill."""
    plan = Plan(kills=1, command=python("import sys; print('why'); sys.exit(3)"))
    with pytest.raises(StreamingError, match="ended by itself with exit code 3; its last line is 'why'; see"):
        KillLoop(embedded(tmp_path / "data"), plan, tmp_path / "logs").run()


def test_engine_that_has_caught_up_is_no_proof(tmp_path: Path) -> None:
    """A kill of an engine with nothing ahead of it fails the loop."""
    plan = Plan(kills=1, batches_ahead=0)
    with pytest.raises(StreamingError, match="had caught up"):
        KillLoop(embedded(tmp_path / "data"), plan, tmp_path / "logs").run()


def test_failed_restart_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A piece whose engine did not come back is kept with its reason and its data, and every later call ends with 1."""
    monkeypatch.setattr(command, "Plan", partial(Plan, command=python("raise SystemExit(3)")))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    wanted = command.Wanted("embedded", 5, None, None, 1, tmp_path / "kept", anew=False, keep=False)
    with pytest.raises(StreamingError, match="ended by itself with exit code 3"):
        command.run(wanted)
    capsys.readouterr()

    assert command.run(wanted) == 1

    *_, failed = capsys.readouterr().out.splitlines()
    assert "ended by itself with exit code 3" in failed
    assert Path(failed.rpartition(" ")[2]).is_dir()


def test_every_fail_point_has_one_phase() -> None:
    """The phases divide the engine's fail points among them, a loop aims at all but blocks, and a process that reached none is in its start."""
    points = [point for points in PHASES.values() for point in points]
    assert sorted(points) == sorted({"", *FAIL_POINTS})
    assert set(PHASES) - {*LATE, *EARLY} == {"block"}
    assert [phase_of(point) for point in ("", "before_begin", "in_sink")] == ["start", "begin", "sink"]


def test_aim_widens_its_point_only() -> None:
    """An aim at a point delays that point; one at any moment leaves the engine as it is."""
    assert Aim("run", 0.03, 0.0, is_whole_tree=False).environment == {"FAIL_POINT": "run=delay:0.03"}
    assert Aim("", 0.03, 0.0, is_whole_tree=False).environment == {}


def test_trace_gives_the_last_point_reached(tmp_path: Path) -> None:
    """What a process wrote last is read after its death too."""
    trace = Trace(tmp_path / "trace")
    assert trace.point() == ""
    (tmp_path / "trace").write_bytes(b"after_commit".ljust(32))
    assert trace.point() == "after_commit"
    trace.close()


def test_pieces_of_a_loop_are_kept_and_added_up(tmp_path: Path) -> None:
    """What pieces of the same engine have done is found again and stands in one table; one that was not exact spoils the whole."""
    kept = Kept(tmp_path, "embedded", 1, "this engine")
    assert kept.pieces() == []
    one = Piece(
        Counter(run=2, sink=1), Counter(begin=1), 2, 1, [0.5, 1.5], 700, 10, 1_000, 0, 60.0, "exact", True
    )
    other = Piece(Counter(run=1), Counter(), 1, 0, [2.5], 900, 5, 500, 3, 30.0, "not exact", False)
    kept.add(one)
    kept.add(other)

    assert Kept(tmp_path, "embedded", 1, "this engine").pieces() == [one, other]
    assert Kept(tmp_path, "embedded", 1, "another engine").pieces() == []
    whole = Piece.together([one, other])
    assert (whole.total, whole.least_backlog, whole.mismatches, whole.is_exact) == (4, 700, 3, False)
    lines = list(table(whole))
    assert "all                  4                         1" in lines
    assert [line.split("  ")[0] for line in lines[1 : 1 + len(PHASES)]] == list(PHASES)
    assert "snapshot             0                         0" in lines
    assert "restarts             3, to a new commit median 1.50 s, worst 2.50 s" in lines
    assert "mismatches           3" in lines
    kept.forget()
    assert kept.pieces() == []
