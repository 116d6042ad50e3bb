"""What drills must not forget or leave behind: a run that failed, a soak that was cut off, a second engine that will not end."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.errors import StreamingError
from services.settings import Settings
from tests.tools.stack_world import embedded
from tools.chaos import __main__ as chaos
from tools.chaos import lives, scene, soak
from tools.chaos.history import History, Key
from tools.chaos.scene import Outcome
from tools.chaos.soak import Soak
from tools.stack.api import Stack
from tools.stack.revision import FOLDERS, revision_of
from tools.verify import Verdict


def quiet(_text: str) -> None:
    """Takes what a drill says."""


def wanted(runs: int | None = None) -> chaos.Wanted:
    """An order as the command gives it."""
    return chaos.Wanted("engine-kill", 1, runs, 10.0, None, anew=False, is_json=False, brings_up=False)


def test_failed_run_of_an_earlier_call_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that did not come back stays in table, report and exit code of every later call; one that could not tell is made again."""
    stack = Stack(embedded(tmp_path))
    settings = stack.settings
    history = History(settings.data_dir, Key("embedded", "engine-kill", 1, 10.0, code=revision_of(settings)))
    for outcome in (
        Outcome(1, verdict=Verdict()),
        Outcome(2, failure="the engine did not come back"),
        Outcome(3, verdict=Verdict(reason="the log is gone")),
    ):
        history.begin(outcome.run)
        history.end(outcome)
    history.close()

    assert chaos._drilled(stack, wanted(runs=2), ["engine-kill"], quiet) == 1

    assert "run 2: the engine did not come back" in capsys.readouterr().out
    report = json.loads((settings.data_dir / "drills" / "report.json").read_text())
    assert report["is_exact"] is False
    assert [run["verdict"] for run in report["faults"][0]["runs"]] == ["exact", "failed"]


@pytest.mark.slow
def test_soak_that_is_cut_off_has_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stack that does not come back ends the soak with an error, and what was seen until then is printed and kept."""
    monkeypatch.setattr(scene, "CAUGHT_UP_SECONDS", 0.1)
    monkeypatch.setattr(chaos, "Soak", lambda *facts: Soak(*facts, rest_seconds=0.1))
    monkeypatch.setattr(soak, "faults_of", lambda _stack, _engines: ["engine-kill"])  # leaves nothing to heal
    stack = Stack(embedded(tmp_path))

    with pytest.raises(StreamingError, match="has not caught up"):
        chaos._soaked(stack, wanted(), 0.1, quiet)

    report = json.loads((stack.settings.data_dir / "drills" / "soak.json").read_text())
    assert [run["verdict"] for fault in report["faults"] for run in fault["runs"]] == ["failed"]
    assert "faults        1 of 1 kinds" in capsys.readouterr().out


@pytest.mark.parametrize("option", [("--fault", "poison"), ("--runs", "3"), ("--hold", "10"), ("--anew",)])
def test_soak_takes_no_order_of_a_drill(option: tuple[str, ...]) -> None:
    """MINUTES with FAULT, RUNS, HOLD or ANEW is refused by name in place of ignoring one of them."""
    done = CliRunner().invoke(chaos.command, ["--minutes", "1", *option])

    assert done.exit_code == 2
    assert done.stderr == (
        f"MINUTES makes a soak, which picks its faults itself; leave out {option[0][2:].upper()}, or MINUTES\n"
    )


def test_hold_that_shows_nothing_is_refused() -> None:
    """A hold that ends before commits can be seen to stay away is no hold."""
    done = CliRunner().invoke(chaos.command, ["--hold", "4"])

    assert (done.exit_code, "'4' is not a number from 5 to 600" in done.stderr) == (2, True)


def test_hold_grows_with_the_batches(tmp_path: Path) -> None:
    """With batches so long that commits could not be missed within the hold, it is longer, and that is said."""
    settings = embedded(tmp_path, batch_seconds=5).environment()
    done = CliRunner().invoke(chaos.command, [], env=settings)

    assert done.exit_code == 2
    said = done.stderr.splitlines()
    assert said[0] == "HOLD=10 shows nothing with batches of 5 s; it is 13"
    assert said[1].startswith("no stack is up")


@pytest.mark.slow
def test_second_engine_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not end on SIGTERM in time is ended by SIGKILL, and none is left."""
    monkeypatch.setattr(lives, "_END_SECONDS", 0.1)
    ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", ignore], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert lives._end(process) == -signal.SIGKILL


def test_revision_changes_with_code_and_settings(tmp_path: Path) -> None:
    """The word for an engine is the same for the same files and settings, and another after any change of either."""
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one.py").write_text("a = 1\n")
    words = [revision_of(Settings(), tmp_path), revision_of(Settings(), tmp_path)]
    words.append(revision_of(Settings(batch_seconds=2), tmp_path))
    for content, name in (("a = 2\n", "one.py"), ("a = 2\n", "two.py")):
        (tmp_path / FOLDERS[0] / name).write_text(content)
        words.append(revision_of(Settings(), tmp_path))

    assert words[0] == words[1]
    assert len(set(words)) == 4
