"""What the boards show while each fault is made that plain processes can have; each drill has its effect and leaves every row exact.

Alerts wait six times as short as the project's (faster_rules), so that one fires while a server is down. The drills follow one
another on one pipeline; each is compared with the calm before it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest

from grafana.expressions import ANNOTATIONS, STATE
from tests.grafana.boards_world import OF_REPLICAS, PLACEHOLDERS, Variables, measured
from tests.grafana.live_world import Drilled, Narrator, Watched, faults_of_answer, panels
from tests.tools.stack_world import pid_of, state_of, wait_until
from tools.chaos.drill import HOLD_SECONDS, Drill
from tools.chaos.faults import FAULTS, faults_of
from tools.chaos.scene import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.servers, pytest.mark.timeout(400)]

CALM_SECONDS = 14
"""How long the pipeline is watched at first, to know what is usual."""
REST_SECONDS = 6
"""How long it is watched between two drills."""
LONG = ("-restart", "-cut", "-slow")
"""Faults whose backlog must stand out from that of a busy machine."""
SHORT_HOLD = 5.0
"""Seconds that a fault lasts which need not be longer to be seen."""

QUIET = {
    "Services",
    "Newest drill of each fault",
    "Phases of the newest drills",
    "Past drills",
    "Replayed batches",
    "Restarts in range",
    "Restored",
    "Restore took",
    "Drills",
}
"""Panels that change with what happens and not with how busy the machine is."""
TOLD = {
    "Engine and drill",
    "Newest drill of each fault",
    "Phases of the newest drills",
    "Past drills",
    "Drills",
}
"""Panels that tell of every drill."""
PROOF = "Rows, exact"
"""The panel that waits for the verifier, which rests for longer than it works."""
TOO_SHORT = {"Services", "Backlog", "Backlog, peak in range", "Drain", PROOF}
"""Panels that need a longer outage than that of an engine which is back within a second or two."""
HALT = {"Time without a commit", "Longest outage in range", "Drain"}
"""Panels that show that nothing is committed."""
DOWN = {"Services"}
RESTARTED = {"Replayed batches", "Restarts in range", "Restored", "Restore took"}

SHOWN: Mapping[str, set[str]] = {
    "engine-kill": RESTARTED | {"Time without a commit", "Longest outage in range"},
    "engine-pause": HALT,
    "engine-term": RESTARTED - {"Replayed batches"},
    "engine-recovery": RESTARTED | {"Time without a commit", "Longest outage in range"},
    "engine-zombie": RESTARTED | HALT,
    "worker-kill": set(),
    "journal-torn": RESTARTED | {"Time without a commit", "Longest outage in range"},
    "snapshot-lost": RESTARTED | {"Time without a commit", "Longest outage in range"},
    "poison": set(),
    "producer-pause": set(),
    "producer-kill": {"Drain"},
    "kafka-restart": HALT | DOWN,
    "cassandra-restart": HALT | DOWN | {"Backlog", "Backlog, peak in range"},
    "kafka-pause": HALT,
    "cassandra-pause": HALT | {"Backlog", "Backlog, peak in range"},
    "kafka-cut": HALT | {"Backlog", "Backlog, peak in range"},
    "cassandra-cut": HALT | {"Backlog", "Backlog, peak in range"},
    "kafka-slow": {"Backlog", "Backlog, peak in range"},
    "cassandra-slow": {"Backlog", "Backlog, peak in range"},
}
"""By fault the panels of the drill board that show it, beside those that tell of every drill."""
WITH_EVERY_RUN = {"engine-kill", "kafka-restart", "cassandra-cut"}
"""One of each kind; the others need `-m drills`."""
FAULTS_OF_A_RUN = [
    fault if fault in WITH_EVERY_RUN else pytest.param(fault, marks=pytest.mark.drills) for fault in SHOWN
]
ANOTHER_ENGINE = {
    "engine-kill",
    "engine-term",
    "engine-recovery",
    "engine-zombie",
    "journal-torn",
    "snapshot-lost",
}
KILLED = ANOTHER_ENGINE | {"producer-kill"} | {fault for fault in SHOWN if fault.endswith("-restart")}
"""Faults after which the victim is another process."""


@pytest.fixture(scope="module", autouse=True)
def _judged_faster(watched: Watched) -> None:
    watched.judge_faster()


def drill(watched: Watched, fault: str, hold: float, calm_seconds: int) -> tuple[Outcome, Drilled]:
    """Run a drill on the pipeline that is at work, until the boards have all of it."""
    calm = watched.calm(calm_seconds)
    began, heard = time.time(), Narrator()
    made = Drill(watched.stack, fault, 7, heard, hold_seconds=hold)
    found = made.run(1)
    made.close()
    wait_until(lambda: bool(watched.now(f'chaos_drill_ended_time_seconds{{fault="{fault}"}} > {began}')), 30)
    wait_until(lambda: bool(watched.now(f"({STATE}) == 0")), 60)
    return found, Drilled(calm, began, heard.struck, watched.settled(), heard.mended)


def test_calm_pipeline_changes_nothing(watched: Watched) -> None:
    """Without a drill the engine goes neither down nor restores, and what a drill changes stays, so that a change is the drill's."""
    calm = watched.calm(CALM_SECONDS)
    now = time.time()

    assert set(watched.states(calm, now)) <= {"at work", "catching up"}
    assert set(watched.unchanged(Drilled(calm, now - 6, now - 6, now))) >= QUIET


def test_every_fault_of_plain_processes_has_its_panels() -> None:
    """The table of what shows a fault has each fault that plain processes can have."""
    assert list(SHOWN) == faults_of("processes")


@pytest.mark.parametrize("fault", FAULTS_OF_A_RUN)
def test_drill_is_seen_on_its_panels(watched: Watched, fault: str, figures: Callable[[str], None]) -> None:
    """A drill has its effect, costs no row, and changes its panels of the drill board; the engine is at work at its end."""
    victim, is_kill = FAULTS[fault].victim, fault == "engine-kill"
    before = pid_of(watched.stack, victim)
    began = time.monotonic()
    hold = HOLD_SECONDS if fault.endswith(LONG) else SHORT_HOLD

    found, drilled = drill(watched, fault, hold, CALM_SECONDS if is_kill else REST_SECONDS)

    seen, still = watched.states(drilled.struck, drilled.ended), watched.unchanged(drilled)
    figures(f"{fault}: {time.monotonic() - began:.0f} s; {' > '.join(seen)}; unchanged: {still}")
    assert found.doubts == []
    assert found.verdict is not None
    assert (found.verdict.code, found.verdict.reason) == (0, "")
    assert {verdict.name for verdict in found.verdict.tables if verdict.exact} >= {
        "campaign_windows", "trending_pages", "page_totals",
    }  # fmt: skip
    assert fault in ANOTHER_ENGINE | {"worker-kill", "poison", "producer-kill"} or found.restart >= hold
    assert (pid_of(watched.stack, victim) != before) == (fault in KILLED)
    assert state_of(watched.stack, "engine") == "running"
    assert set(still) & TOLD == set()
    # The start of the engine on its old way is no part of the fault.
    fault_alone = replace(drilled, ended=drilled.mended or drilled.ended)
    assert watched.unchanged(fault_alone, SHOWN[fault]) == []
    assert seen[-1] == "at work"
    marks = {
        name
        for name, facts in ANNOTATIONS.items()
        if watched.over(str(facts["expr"]), drilled.began, drilled.ended)
    }
    assert marks >= {"Drill", "Drill begins", "Drill ends"}
    if is_kill:
        assert set(still) <= TOO_SHORT
        assert "Engine start" in marks
        assert "Recovered" in marks or not {"down", "restoring"} & set(seen)
    if fault == "kafka-restart":
        assert "Alert" in marks
        assert list(unmeasured(watched, drilled)) == []


def unmeasured(watched: Watched, drilled: Drilled) -> Iterator[str]:
    """The queries that had nothing but their placeholder while a drill ran and an alert fired."""
    seen = set()
    for panel, board in panels():
        for target in panel.targets:
            expr = measured(target["expr"])
            if expr != target["expr"] and panel.place not in OF_REPLICAS:
                seen.add(panel.place)
                filled = Variables(board, target=target).filled(expr)
                series = watched.over(filled, drilled.struck, drilled.ended)
                yield from faults_of_answer(panel, target, series)
    assert seen == PLACEHOLDERS - OF_REPLICAS


def test_rows_are_proven_after_the_drills(watched: Watched) -> None:
    """The verifier finds more exact rows than before the last drill, and none that is not."""
    calm, now = watched.calm(REST_SECONDS), time.time()

    wait_until(lambda: PROOF not in watched.unchanged(Drilled(calm, now, now, time.time()), {PROOF}), 120)
    assert watched.now('sum(verify_rows{verdict!="exact"}) == 0')
