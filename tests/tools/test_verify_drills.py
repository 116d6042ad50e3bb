"""The drills in the verifier's metrics: their values, and lines that are torn, foreign or too many."""

import json
from pathlib import Path
from typing import Any

import pytest

from tools.verify.drills import MOST_FAULTS, DrillFiles
from tools.verify.metrics import VerifierMetrics

OVER: dict[str, Any] = {
    "fault": "engine-kill",
    "seed": 1,
    "run": 1,
    "started": 1_000.5,
    "ended": 1_020.0,
    "detect": 0.25,
    "restart": 1.5,
    "first_batch": 4,
    "caught_up": 9.75,
    "verdict": "exact",
}
RUNNING = {"fault": "kafka-restart", "seed": 1, "run": 1, "started": 2_000}


def write(folder: Path, *over: object, running: object = None) -> None:
    """Write both files; text goes in as it is, and ends the file without a line's end."""
    folder.mkdir(exist_ok=True)
    lines = (line if isinstance(line, str) else json.dumps(line) + "\n" for line in over)
    (folder / "history.jsonl").write_text("".join(lines))
    if running is not None:
        text = running if isinstance(running, str) else json.dumps(running)
        (folder / "running.json").write_text(text)


def series(folder: Path) -> dict[str, float]:
    """Every series of the drills, as a scrape shows it."""
    metrics = VerifierMetrics(DrillFiles(folder).read)
    return {
        f"{sample.name.removeprefix('chaos_')} {' '.join(sample.labels.values())}": sample.value
        for family in metrics.registry.collect()
        if family.name.startswith("chaos_")
        for sample in family.samples
    }


def test_a_drill_that_is_over_has_all_its_series(tmp_path: Path) -> None:
    """After one drill each verdict of its fault is there, and each phase that was reached."""
    write(tmp_path, OVER | {"restart": None})
    assert series(tmp_path) == {
        "drill_running engine-kill": 0,
        "drills_total engine-kill exact": 1,
        "drills_total engine-kill inexact": 0,
        "drills_total engine-kill unknown": 0,
        "drills_total engine-kill no-effect": 0,
        "drills_total engine-kill failed": 0,
        "drill_phase_seconds engine-kill detect": 0.25,
        "drill_phase_seconds engine-kill first_batch": 4,
        "drill_phase_seconds engine-kill caught_up": 9.75,
        "drill_started_time_seconds engine-kill": 1_000.5,
        "drill_ended_time_seconds engine-kill": 1_020,
    }


def test_a_running_drill_is_told_beside_those_that_are_over(tmp_path: Path) -> None:
    """While a drill runs its fault says 1 and when it began; verdicts add up, and phases are the newest drill's."""
    second = OVER | {"started": 1_030, "ended": 3_000, "detect": 7, "verdict": "inexact"}
    write(tmp_path, OVER, second, OVER | {"fault": "cassandra-pause"}, running=RUNNING)
    found = series(tmp_path)
    assert {name: value for name, value in found.items() if name.startswith("drill_running")} == {
        "drill_running engine-kill": 0,
        "drill_running cassandra-pause": 0,
        "drill_running kafka-restart": 1,
    }
    assert found["drills_total engine-kill exact"] == found["drills_total engine-kill inexact"] == 1
    assert found["drill_phase_seconds engine-kill detect"] == 7
    assert found["drill_ended_time_seconds engine-kill"] == 3_000
    assert found["drill_started_time_seconds kafka-restart"] == 2_000
    assert found["drill_started_time_seconds engine-kill"] == 1_030
    assert found["drills_total kafka-restart exact"] == 0
    assert "drill_ended_time_seconds kafka-restart" not in found


def test_a_drill_that_is_over_does_not_run(tmp_path: Path) -> None:
    """A running.json that was left behind by a drill of the history counts for nothing."""
    write(tmp_path, OVER, running={name: OVER[name] for name in RUNNING})
    assert series(tmp_path)["drill_running engine-kill"] == 0
    # The next one of the same command, which counts its runs anew each time.
    write(tmp_path, OVER, running={name: OVER[name] for name in RUNNING} | {"started": 1_021})
    assert series(tmp_path)["drill_running engine-kill"] == 1


def test_without_files_there_is_no_series(tmp_path: Path) -> None:
    """A folder that is not there, or empty, is no trouble."""
    assert series(tmp_path / "drills") == series(tmp_path) == {}


@pytest.mark.parametrize(
    "line",
    [
        '{"fault": "engine-kill", "see',
        '["engine-kill"]',
        "null",
        "\x00\x00",
        "[" * 100_000,
        json.dumps(OVER | {"verdict": "fine"}),
        json.dumps(OVER | {"fault": "Engine kill"}),
        json.dumps(OVER | {"fault": 7}),
        json.dumps(OVER | {"ended": None}),
        json.dumps(OVER | {"detect": float("nan")}),
        json.dumps(OVER | {"detect": -1}),
        json.dumps(OVER | {"started": True}),
        json.dumps({name: value for name, value in OVER.items() if name != "started"}),
    ],
)
def test_a_line_that_cannot_be_read_is_stepped_over(
    tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A torn or foreign line is told once, with its file, and the lines around it count."""
    write(tmp_path, OVER, f"{line}\n", OVER | {"started": 1_010}, running=line)
    files = DrillFiles(tmp_path)
    for _ in range(2):
        assert [drill.started for drill in files.read().over] == [1_000.5, 1_010]
        assert files.read().running is None or "started" in line
    told = [message for message in caplog.messages if "history.jsonl: stepped over" in message]
    assert len(told) == 1
    assert len(caplog.messages) <= 2
    assert max(map(len, caplog.messages)) < 500


def test_a_torn_end_is_taken_once_it_is_whole(tmp_path: Path) -> None:
    """A line that is still being written does not count before it is there."""
    text = json.dumps(OVER | {"run": 2, "started": 1_030})
    files = DrillFiles(tmp_path)
    write(tmp_path, OVER, text[:-5])
    assert len(files.read().over) == 1
    write(tmp_path, OVER, text)
    assert len(files.read().over) == 2


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder in the place of a file is said once and is no drill."""
    (tmp_path / "history.jsonl").mkdir()
    files = DrillFiles(tmp_path)
    assert files.read().over == files.read().over == ()
    assert len(caplog.messages) == 1
    assert "Is a directory" in caplog.messages[0]


def test_faults_are_bounded(tmp_path: Path) -> None:
    """However many faults a file names, only so many become series."""
    write(tmp_path, *(OVER | {"fault": f"fault-{n}"} for n in range(MOST_FAULTS + 5)))
    assert len(DrillFiles(tmp_path).read().faults) == MOST_FAULTS
