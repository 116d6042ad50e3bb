"""The chaos drills: each fault has its effect, is healed, and leaves every row exact; one without effect is not praised."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import StreamingError
from services.settings import REPOSITORY, Settings, base_environment
from tests.tools.stack_world import embedded, kinds_of, pid_of, state_of, wait_until
from tools.chaos import scene
from tools.chaos.__main__ import INTERRUPTED
from tools.chaos.choice import alone
from tools.chaos.drill import Drill
from tools.chaos.faults import FAULTS, faults_of
from tools.chaos.history import History, Key, Past
from tools.chaos.report import table
from tools.chaos.scene import Outcome
from tools.chaos.showing import DEMOS
from tools.stack.api import Stack
from tools.stack.events import Event, EventLog
from tools.verify import Verdict
from tools.verify.drills import DrillFiles


def quiet(_text: str) -> None:
    """Takes what a drill says."""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """An embedded stack with the real producer and engine, ended after the test."""
    made = Stack(embedded(tmp_path, ad_rate=400, page_rate=200), is_tied=True)
    yield made
    made.down()


def chaos(settings: Settings, *options: str, **variables: str) -> subprocess.Popen[str]:
    """The command on a stack."""
    environment = {**base_environment(), **settings.environment(), **variables}
    return subprocess.Popen(
        [sys.executable, "-m", "tools.chaos", *options],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def drills_of(stack: Stack) -> list[dict[str, object]]:
    """The lines of the history of drills."""
    path = stack.settings.data_dir / "drills" / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def outcome(run: int, seconds: float, **more: object) -> Outcome:
    """A run in which everything took about so long."""
    made = Outcome(run, seconds, seconds, None, seconds * 2, seconds * 3, verdict=Verdict())
    for name, value in more.items():
        setattr(made, name, value)
    return made


def told(*outcomes: Outcome) -> list[str]:
    """The table of these runs."""
    return list(table([Past.of(found) for found in outcomes]))


@pytest.mark.slow
def test_engine_kill_starts_the_stack_and_leaves_every_row_exact(stack: Stack) -> None:
    """The command brings the stack up, kills its engine as often as asked and tells what each recovery took."""
    process = chaos(stack.settings, "--up", FAULT="engine-kill", RUNS="2", SEED="7")
    printed, said = process.communicate(timeout=100)
    assert process.returncode == 0, said
    lines = printed.splitlines()
    assert lines[0] == "engine-kill, seed 7, STACK=embedded; seconds since the fault"
    assert [line.split()[0] for line in lines[1:-1]] == ["run", "1", "2", "median", "worst", "detect:"]
    assert re.fullmatch(
        r"verify: windows=[1-9]\d* exact=\d+ missing=0 over=0 wrong=0 dead_letters=0", lines[-1]
    )
    assert kinds_of(stack, "engine").count("kill") == 2
    assert kinds_of(stack, "engine").count("restart") == 2
    assert state_of(stack, "engine") == "running"
    runs = drills_of(stack)
    assert [(run["fault"], run["seed"], run["run"], run["verdict"]) for run in runs] == [
        ("engine-kill", 7, 1, "exact"),
        ("engine-kill", 7, 2, "exact"),
    ]
    assert all(run["started"] < run["ended"] and run["detect"] < run["restart"] for run in runs)
    assert not (stack.settings.data_dir / "drills" / "running.json").exists()

    # The same call again has nothing to do; one more run is asked for and made, and stands with the others.
    again = chaos(stack.settings, FAULT="engine-kill", RUNS="2", SEED="7")
    assert again.communicate(timeout=60)[0] == printed
    third = chaos(stack.settings, "--json", FAULT="engine-kill", RUNS="3", SEED="7")
    report = json.loads(third.communicate(timeout=100)[0])
    (found,) = report["faults"]
    assert (report["is_exact"], [run["run"] for run in found["runs"]]) == (True, [1, 2, 3])
    assert found["worst"]["restored"] == max(run["restored"] for run in found["runs"])
    assert [run["run"] for run in drills_of(stack)] == [1, 2, 3]
    assert json.loads((stack.settings.data_dir / "drills" / "report.json").read_text()) == report


@pytest.mark.slow
def test_paused_engine_makes_up_for_the_time_with_one_batch(stack: Stack) -> None:
    """An engine that was held commits nothing meanwhile and then takes over all missed times at once, as the same process."""
    stack.up()
    before = pid_of(stack, "engine")
    found = Drill(stack, "engine-pause", 3, quiet, hold_seconds=5).run(1)
    assert (found.doubts, found.word) == ([], "exact")
    assert 2 < found.detect < 5 <= found.restart <= found.first_batch <= found.caught_up
    assert pid_of(stack, "engine") == before


@pytest.mark.slow
def test_killed_producer_goes_on_where_it_stopped(stack: Stack) -> None:
    """A producer that was killed is started again, its new records come through, and none is there twice."""
    stack.up()
    before = pid_of(stack, "producer")
    found = Drill(stack, "producer-kill", 3, quiet).run(1)
    assert (found.doubts, found.word) == ([], "exact")
    assert 0 < found.detect < found.restart < found.first_batch <= found.caught_up
    assert pid_of(stack, "producer") != before


@pytest.mark.slow
@pytest.mark.parametrize("fault", sorted(set(FAULTS) - set(faults_of("embedded"))))
def test_server_faults_are_refused_on_the_embedded_stack(tmp_path: Path, fault: str) -> None:
    """A fault of a server that the stack does not have is refused in one sentence with exit code 2."""
    process = chaos(embedded(tmp_path), FAULT=fault)
    printed, said = process.communicate(timeout=30)
    assert (process.returncode, printed) == (2, "")
    where = " or ".join(FAULTS[fault].stacks)
    assert " ".join(said.split()) == (
        f"FAULT='{fault}' cannot be done with STACK='embedded'; use STACK={where}, "
        f"or one of {', '.join(faults_of('embedded'))}, all"
    )
    assert not (tmp_path / "stack").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        ("FAULT", f"is no fault; with STACK='embedded' use one of {', '.join(faults_of('embedded'))}, all"),
        ("DEMO", f"is no demo; use one of {', '.join(DEMOS)}"),
    ],
)
def test_name_that_there_is_not_is_refused(tmp_path: Path, variable: str, sentence: str) -> None:
    """A fault or demo that there is not is refused with those that fit the stack, in 80 columns, whose names are whole."""
    process = chaos(embedded(tmp_path), **{variable: "nonsense"})
    printed, said = process.communicate(timeout=30)

    assert (process.returncode, printed) == (2, "")
    assert " ".join(said.split()) == f"{variable}='nonsense' {sentence}"
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.slow
def test_drill_without_a_stack_is_refused(tmp_path: Path) -> None:
    """Where nothing is up, a drill starts nothing and says what does; a misspelt variable of its own is pointed out."""
    process = chaos(embedded(tmp_path), FAULTS="engine-pause")
    printed, said = process.communicate(timeout=30)

    assert (process.returncode, printed) == (2, "")
    assert said == (
        "FAULTS is not a setting and is ignored; did you mean FAULT?\n"
        f"no stack is up in {tmp_path / 'stack'}; start one with make up (containers), "
        "make up STACK=processes or make up STACK=embedded\n"
    )
    assert not (tmp_path / "stack" / "run").exists()


@pytest.mark.slow
def test_second_drill_on_a_stack_is_refused(tmp_path: Path) -> None:
    """While a drill goes on, another one on the same stack is refused in a sentence with exit code 2."""
    settings = embedded(tmp_path)
    with alone(settings):
        process = chaos(settings, "--up")
        printed, said = process.communicate(timeout=30)

    assert (process.returncode, printed) == (2, "")
    assert said == (
        f"another drill is going on in {tmp_path / 'stack' / 'drills'}; "
        "wait until it has ended, or end it with Ctrl-C\n"
    )
    assert not (tmp_path / "stack" / "run").exists()


def test_drill_that_could_not_tell_has_no_verdict_line() -> None:
    """Where verify could not tell, its reason closes the report, and no line praises zero windows."""
    lines = told(outcome(1, 1.0, verdict=Verdict(reason="the log is gone")))

    assert lines[-1] == "verify could not tell: the log is gone"


class Toothless(Stack):
    """A stack whose kill and pause are only written down."""

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> Event:
        """Signal nobody."""
        events = EventLog(self.settings.data_dir / "events.jsonl")
        return events.append(name, "kill", pid=pid_of(self, name), signal=number.name)

    def pause(self, name: str) -> Event:
        """Hold nobody."""
        return EventLog(self.settings.data_dir / "events.jsonl").append(name, "pause", pid=pid_of(self, name))


@pytest.mark.slow
def test_fault_without_effect_fails_the_drill(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drill whose victim did not die, or was not held, has failed and names what was not seen, however exact the rows are."""
    monkeypatch.setattr(scene, "DETECT_SECONDS", 1.0)
    stack.up()
    toothless = Toothless(stack.settings)
    for fault, missed in (
        ("engine-kill", ["engine did not die within 1 s of its SIGKILL"]),
        ("producer-kill", ["producer did not die within 1 s of its SIGKILL"]),
    ):
        found = Drill(toothless, fault, 1, quiet).run(1)
        assert (found.doubts, found.word, found.is_good) == (missed, "no-effect", False)
        assert found.verdict is not None
        assert found.verdict.code == 0
    # So long that an engine which skips a time or two on a busy machine is not taken for one that was held.
    found = Drill(toothless, "engine-pause", 1, quiet, hold_seconds=8).run(1)
    assert found.doubts[0] == "the engine was not held"
    assert re.fullmatch(r"batch \d+ was committed within the 8 s in which engine was away", found.doubts[1])
    assert "no batch took over the missed times" in found.doubts[-1]
    assert [run["verdict"] for run in drills_of(stack)] == ["no-effect"] * 3


@pytest.mark.slow
def test_drill_on_an_engine_that_does_not_work_fails(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drill strikes only an engine that keeps up, since a fault under no load proves nothing."""
    monkeypatch.setattr(scene, "CAUGHT_UP_SECONDS", 2.0)
    stack.up()
    stack.pause("engine")
    with pytest.raises(StreamingError, match="has not caught up within 2 s"):
        Drill(stack, "engine-kill", 1, quiet).run(1)
    stack.resume("engine")
    assert [(run["verdict"], run["remarks"]) for run in drills_of(stack)] == [
        ("failed", ["the engine has not caught up within 2 s"])
    ]


@pytest.mark.slow
def test_interrupted_pause_is_resumed(stack: Stack) -> None:
    """Ctrl-C in the middle of a hold lets the held process go on, and leaves no drill that seems to run."""
    stack.up()
    process = chaos(stack.settings, FAULT="engine-pause")
    wait_until(lambda: state_of(stack, "engine") == "paused", 60)
    running = stack.settings.data_dir / "drills" / "running.json"
    told = json.loads(running.read_text())
    assert (told["fault"], told["seed"], told["run"]) == ("engine-pause", 1, 1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == INTERRUPTED, said
    assert state_of(stack, "engine") == "running"
    assert not running.exists()
    assert not (running.parent / "history.jsonl").exists()


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
    """Several runs get a line each, then the median and the worst of every column, and what the columns are; the verdict line is the last."""
    lines = told(outcome(1, 1.0), outcome(2, 1_000.0), outcome(3, 2.0))
    assert [line.split() for line in lines[-4:-2]] == [
        ["median", "2.00", "2.00", "-", "4.00", "6.00"],
        ["worst", "1000.00", "1000.00", "-", "2000.00", "3000.00"],
    ]
    assert len({line.index(".00") for line in lines[1:6]}) == 1
    assert max(map(len, lines)) <= 80
    assert lines[-2].startswith("detect: ")
    assert lines[-1] == Verdict().line


def test_doubt_is_told_and_spoils_a_run() -> None:
    """A run whose fault had no effect is not good, and its line says why; a remark alone spoils nothing."""
    doubtful = outcome(1, 1.0, doubts=["kafka answered 1.0 s after its death"])
    assert not doubtful.is_good
    assert "run 1: the fault did not have its effect: kafka answered 1.0 s after its death" in told(doubtful)
    assert outcome(1, 1.0, remarks=["it was odd"]).is_good
    assert not outcome(1, 1.0, verdict=Verdict(reason="the log is gone")).is_good


def test_drills_are_told_while_they_run_and_afterwards(tmp_path: Path) -> None:
    """One file says which drill runs now, and one has a line for each that has ended."""
    history = History(tmp_path, Key("processes", "kafka-cut", 4, 10.0))
    history.begin(2)
    running = json.loads((tmp_path / "drills" / "running.json").read_text())
    assert running == {"fault": "kafka-cut", "seed": 4, "run": 2, "started": running["started"]}
    history.end(outcome(2, 1.5))
    history.end(outcome(3, 1.0, doubts=["it went on"]))
    history.close()
    history.close()
    assert [path.name for path in (tmp_path / "drills").iterdir()] == ["history.jsonl"]
    lines = [json.loads(line) for line in (tmp_path / "drills" / "history.jsonl").read_text().splitlines()]
    assert lines[0] == {
        "fault": "kafka-cut",
        "seed": 4,
        "run": 2,
        "started": running["started"],
        "ended": lines[0]["ended"],
        "detect": 1.5,
        "restart": 1.5,
        "restored": None,
        "first_batch": 3.0,
        "caught_up": 4.5,
        "verdict": "exact",
        "stack": "processes",
        "hold": 10.0,
        "code": "",
        "series": 0,
        "doubts": [],
        "remarks": [],
        "line": Verdict().line,
        "details": [],
    }
    assert lines[1]["verdict"] == "no-effect"


def test_phase_that_did_not_happen_has_no_figure(tmp_path: Path) -> None:
    """A run that ended early shows a dash, null in the file, and no sample in the verifier's metrics."""
    cut_short = Outcome(1, detect=0.5)
    history = History(tmp_path, Key("processes", "kafka-cut", 4, 10.0))
    history.begin(1)
    history.end(cut_short)

    (drill,) = DrillFiles(tmp_path / "drills").read().over
    rows = told(cut_short, outcome(2, 1.0))

    assert drill.phases == {"detect": 0.5}
    assert rows[1].split() == ["1", "0.50", "-", "-", "-", "-", "could", "not", "tell"]
    assert rows[3].split() == ["median", "0.75", "1.00", "-", "2.00", "3.00"]


def test_help_lists_every_fault_in_eighty_columns() -> None:
    """`--help` has a line for each fault with the stacks on which it runs."""
    said = subprocess.run(
        [sys.executable, "-m", "tools.chaos", "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert max(map(len, said.splitlines())) <= 80
    for fault in FAULTS.values():
        told = "all" if len(fault.stacks) == 3 else ", ".join(fault.stacks)
        told += {"one": "", "any": " *", "many": " **"}[fault.engines]
        line = rf"^ *{fault.name} .*{re.escape(fault.does)} +{re.escape(told)}$"
        assert re.search(line, said, re.MULTILINE), fault.name


def test_docs_have_every_fault() -> None:
    """The page about chaos has a row for each fault, with what is done, what must be seen, where, and with which engines."""
    text = (REPOSITORY / "docs" / "chaos.md").read_text()
    for fault in FAULTS.values():
        engines = {"one": "one", "any": "one, replicas", "many": "replicas"}[fault.engines]
        row = f"| `{fault.name}` | {fault.does} | {fault.seen} | {', '.join(fault.stacks)} | {engines} |"
        assert row in text, row
