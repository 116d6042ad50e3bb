"""What is kept of drills and what is made of it: runs of several calls in one table, a summary of all faults, a soak's and a demo's judgement."""

import json
from pathlib import Path

import pytest

from services.settings import Settings
from tools.chaos.drill import least_hold
from tools.chaos.history import OF_A_SOAK, History, Key, Past, newest_series, past_of
from tools.chaos.report import as_json, summary
from tools.chaos.scene import Outcome
from tools.chaos.showing import DEMOS
from tools.chaos.soak import CALM_SHARE, HOLDS, Sample, Soaked
from tools.chaos.spoilt import burst
from tools.verify import Verdict
from tools.verify.schema import TABLES
from tools.verify.verdict import LedgerVerdict, Offender, TableVerdict

KEY = Key("embedded", "engine-kill", 1, 10.0)


def outcome(run: int, seconds: float = 1.0, **more: object) -> Outcome:
    """A run in which every phase took so long."""
    made = Outcome(run, *[seconds] * 5, verdict=Verdict())
    for name, value in more.items():
        setattr(made, name, value)
    return made


def keep(folder: Path, key: Key, *runs: int) -> None:
    """Have runs in the history."""
    history = History(folder, key)
    for run in runs:
        history.begin(run)
        history.end(outcome(run))
    history.close()


def test_runs_of_several_calls_are_one_series(tmp_path: Path) -> None:
    """Runs of one stack, fault, seed and hold are found again whole; those of another seed, hold, series, soak or engine are not among them."""
    keep(tmp_path, KEY, 1, 2)
    keep(tmp_path, Key("embedded", "engine-kill", 2, 10.0), 1)
    keep(tmp_path, Key("embedded", "engine-kill", 1, 60.0), 1)
    keep(tmp_path, Key("processes", "engine-kill", 1, 10.0), 1)
    keep(tmp_path, Key("embedded", "engine-kill", 1, 10.0, OF_A_SOAK), 7)
    keep(tmp_path, Key("embedded", "engine-kill", 1, 10.0, code="of another engine"), 8)
    keep(tmp_path, KEY, 3)

    assert newest_series(tmp_path, KEY) == 0
    assert past_of(tmp_path, KEY) == [Past.of(outcome(run)) for run in (1, 2, 3)]

    keep(tmp_path, Key("embedded", "engine-kill", 1, 10.0, 1), 1)
    assert newest_series(tmp_path, KEY) == 1
    assert len(past_of(tmp_path, KEY)) == 3


def test_torn_line_of_the_history_is_stepped_over(tmp_path: Path) -> None:
    """A line that a crash has torn, and one of an older version, hide none of the others."""
    keep(tmp_path, KEY, 1)
    with (tmp_path / "drills" / "history.jsonl").open("a") as file:
        file.write('{"fault": "engine-kill", "seed": 1}\n{"fault": "eng\n')
    keep(tmp_path, KEY, 2)

    assert [run.run for run in past_of(tmp_path, KEY)] == [1, 2]


def test_summary_has_median_and_worst_of_every_fault_in_eighty_columns() -> None:
    """Each fault has two lines and its count of exact runs; what was not as it must be is told, and verify's line is the last."""
    runs = {
        "cassandra-restart": [Past.of(outcome(run, 100.0 * run)) for run in (1, 2, 3)],
        "engine-kill": [Past.of(outcome(1, doubts=["it lived on"]))],
    }
    lines = list(summary(runs))

    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines[1:4]] == [
        ["cassandra-restart", "3/3", "median", *["200.00"] * 5],
        ["worst", *["300.00"] * 5],
        ["engine-kill", "0/1", "median", *["1.00"] * 5],
    ]
    assert lines[-2] == "engine-kill run 1: the fault did not have its effect: it lived on"
    assert lines[-1] == Verdict().line
    report = json.loads(json.dumps(as_json(runs, seed=1)))
    assert (report["seed"], report["is_exact"]) == (1, False)
    assert report["faults"][0]["worst"] == dict.fromkeys(report["faults"][0]["worst"], 300.0)


def proof(broken: str, *faults: str) -> Verdict:
    """A verdict with a wrong row in a table, and these faults of the ledger."""
    tables = tuple(TableVerdict(one, rows=1, wrong=one.name == broken) for one in TABLES.values())
    ledger = LedgerVerdict(1, 1, 1, 0, tuple(Offender("wrong", "t[0]", "from 3", text) for text in faults))
    return Verdict(tables, ledger)


@pytest.mark.parametrize(
    ("name", "broken", "faults", "expected"),
    [
        ("no-checkpoint", "page_totals", ["a gap of 4: [7, 9)"], True),
        ("no-checkpoint", "page_totals", [], False),
        ("no-checkpoint", "page_totals", ["a gap of 4: [7, 9)", "an overlap of 1: [8, 9)"], False),
        ("no-checkpoint", "", ["a gap of 4: [7, 9)"], False),
        ("counters", "page_totals", [], True),
        ("counters", "page_totals", ["a gap of 4: [7, 9)"], False),
        ("counters", "trending_pages", [], False),
    ],
)
def test_demo_is_as_foretold_by_rows_and_ledger(
    name: str, broken: str, faults: list[str], *, expected: bool
) -> None:
    """A demo needs its broken table and, where its text says so, gaps in the ledger; any other fault is not foretold."""
    assert DEMOS[name].is_as_foretold(proof(broken, *faults)) is expected


def soaked(sizes: list[int], events_a_second: int = 1_000) -> Soaked:
    """A soak with these sizes of the engine, in MiB, a second apart."""
    found = Soaked("embedded", 1, seconds=60.0)
    found.memory = [
        Sample(float(second), 7, size << 20, second * events_a_second) for second, size in enumerate(sizes)
    ]
    found.add("engine-kill", outcome(1))
    return found


def test_soak_is_judged_by_its_proofs_and_by_its_memory() -> None:
    """Memory that wavers is flat; memory that grows to the double, a doubt, or no fault at all spoils a soak, and its report says so."""
    flat, grown = soaked([200, 210, 190, 205, 200, 215]), soaked([200, 240, 280, 320, 360, 400])
    assert grown.event_slope == pytest.approx(40_000 << 20)
    assert flat.is_good
    assert not grown.is_flat
    assert not grown.is_good
    assert grown.slope == pytest.approx(40 * 60 * (1 << 20))
    assert any(line.startswith("memory        NOT FLAT: first third 220 MiB") for line in grown.lines())
    assert not Soaked("embedded", 1).is_good
    flat.add("poison", outcome(2, doubts=["none came"]))
    assert not flat.is_good
    lines = list(flat.lines())
    assert "faults        2 of 2 kinds" in lines
    assert lines[-1] == Verdict().line
    assert flat.as_json()["memory"]["is_flat"]


def test_leak_of_a_hundred_bytes_an_event_is_found_in_half_an_hour() -> None:
    """At the default rate 100 bytes an event in the calm part of 30 minutes are not flat, and the report tells them; noise of 4 % is."""
    rate, seconds = Settings().ad_rate + Settings().page_rate, int(30 * 60 * CALM_SHARE)
    noise = [300 + place % 13 for place in range(seconds)]
    leaking = soaked(noise, int(rate))
    leaking.memory = [
        sample._replace(size_bytes=sample.size_bytes + 100 * sample.records) for sample in leaking.memory
    ]

    assert soaked(noise, int(rate)).is_flat
    assert not leaking.is_flat
    assert leaking.event_slope == pytest.approx(100e6, rel=0.1)
    assert any(line.endswith("MiB/min, +95.4 MiB/M events") for line in leaking.lines())
    assert max(map(len, leaking.lines())) <= 80


def test_memory_is_judged_within_one_life() -> None:
    """A leak shows in the engine's longest life, whatever shorter lives measured; a life that is too short, or none, is not flat."""
    lives = soaked([400, 100, 400, 100, *range(200, 500, 50)])
    lives.memory = [
        sample._replace(pid=max(0, place - 3)) if place < 4 else sample
        for place, sample in enumerate(lives.memory)
    ]
    assert [sample.size_bytes >> 20 for sample in lives.life] == [200, 250, 300, 350, 400, 450]
    assert not lives.is_flat
    assert lives.slope == pytest.approx(50 * 60 * (1 << 20))

    short = soaked([200] * 6)
    assert short.is_flat
    short.least_life = 6.0
    assert not short.is_good
    assert any(line.startswith("memory        NO LIFE LONG ENOUGH") for line in short.lines())
    assert not soaked([]).is_good


def test_run_that_ended_before_its_proof_has_failed() -> None:
    """A run that an error cut off has a word of its own and tells the error, also where a doubt came first."""
    failed = Past.of(outcome(7, failure="the engine did not come back", doubts=["it lived on"], verdict=None))

    assert failed.verdict == "failed"
    lines = list(summary({"engine-kill": [failed]}))
    assert "engine-kill run 7: the engine did not come back" in lines
    assert not as_json({"engine-kill": [failed]})["is_exact"]


def test_no_hold_is_too_short_to_see_anything() -> None:
    """Every hold of a soak leaves time in which commits stay away, and a producer at its usual pace never passes for a burst."""
    assert min(HOLDS) >= least_hold(batch_seconds=1.0)
    for hold in (5.0, 10.0, 45.0):
        due, window = burst(hold + 0.1, hold)
        assert 0 < window <= due / 2
