"""The faults of the engine's processes and of its data: each has its effect on a real embedded stack and leaves every row exact."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.settings import REFUSED
from tests.tools.stack_world import embedded, pid_of, state_of
from tools.chaos.drill import Drill
from tools.chaos.faults import FAULTS, faults_of
from tools.chaos.lives import Zombie
from tools.chaos.scene import Outcome, Scene
from tools.killloop.phases import Trace
from tools.progress import Progress
from tools.stack.api import Stack
from tools.stack.control import looks
from tools.stack.events import Event
from tools.verify import verify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NEW_LIFE = ("engine-term", "engine-recovery", "engine-zombie", "journal-torn", "snapshot-lost")
"""Faults after which the engine is another process; the snapshot comes last, as it takes some batches to be written."""
SAME_LIFE = ("worker-kill", "poison", "producer-pause")
"""Faults that the engine outlives."""


def quiet(_text: str) -> None:
    """Takes what a drill says."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An embedded stack of short batches with the real producer and engine."""
    folder = tmp_path_factory.mktemp("chaos")
    made = Stack(embedded(folder, ad_rate=400, page_rate=200, batch_seconds=0.25), is_tied=True)
    made.up()
    yield made
    made.down()


@pytest.mark.parametrize("fault", [*SAME_LIFE, *NEW_LIFE])
def test_fault_has_its_effect_and_leaves_every_row_exact(
    stack: Stack, fault: str, figures: Callable[[str], None]
) -> None:
    """A drill sees what its fault must bring about, the engine is another process or the same as it must, and all rows are exact."""
    before = pid_of(stack, "engine")
    drill = Drill(stack, fault, 3, quiet, hold_seconds=4)
    found = drill.run(1)
    drill.close()
    figures(f"{fault}: restart {found.restart}, restored {found.restored}, first batch {found.first_batch}")
    assert (found.doubts, found.word) == ([], "exact")
    assert (pid_of(stack, "engine") != before) == (fault in NEW_LIFE)
    assert state_of(stack, "engine") == state_of(stack, "producer") == "running"
    assert found.verdict is not None
    assert (found.verdict.dead_letters > 0) == (fault != "worker-kill")


def test_every_kind_of_stack_has_faults_enough() -> None:
    """Plain processes and containers can have at least 14 faults, the embedded stack at least 8."""
    assert len(faults_of("processes")) >= 14
    assert len(faults_of("compose")) >= 14
    assert len(faults_of("embedded")) >= 8
    assert {*SAME_LIFE, *NEW_LIFE} <= set(faults_of("embedded")) <= set(FAULTS)


@pytest.mark.fault(16, "held before it writes; a second one takes over; the first wakes up and writes late")
def test_late_write_of_a_woken_engine_has_no_effect(tmp_path: Path) -> None:
    """An engine that was held with a batch to write still writes it when it wakes up, is fenced before the commit, and changes no row."""
    stack = Stack(embedded(tmp_path, ad_rate=400, page_rate=200, batch_seconds=0.25), is_tied=True)
    trace = Trace(tmp_path / "trace")
    try:
        stack.up(["producer"])
        point = {"FAIL_POINT": "before_sink=delay:0.1", "FAIL_POINT_TRACE": str(tmp_path / "trace")}
        stack.start("engine", point)
        scene = Scene(stack, "engine", Progress(stack.settings), quiet, 1.0)
        scene.progress.await_newer(0, 60)
        hit, found = AtPoint(scene, trace), Outcome(1)
        hit.strike(found)

        assert found.doubts == []
        assert hit.held_at == "before_sink"
        # It went on with the batch that it was held in, past its sink, and was stopped by the look before the commit.
        assert hit.died_at == "before_commit"
        deaths = [event for event in stack.events() if (event.name, event.kind) == ("engine", "death")]
        assert deaths[0].facts["exit_code"] == REFUSED
        stack.down()
        verdict = verify(stack.settings)
        assert (verdict.code, verdict.reason) == (0, "")
    finally:
        trace.close()
        stack.down()


class AtPoint(Zombie):
    """A zombie that is held in front of its sink; after its fence the trace tells how far it came."""

    def __init__(self, scene: Scene, trace: Trace) -> None:
        super().__init__(scene)
        self._trace = trace
        self.held_at = self.died_at = ""

    def _hold(self, outcome: Outcome) -> Event:
        for _ in looks(20, 0.0005):
            if self._trace.point() == "before_sink":
                break
        held = super()._hold(outcome)
        self.held_at = self._trace.point()
        return held

    def _doubt_end(self, outcome: Outcome, held: Event, said: str) -> None:
        super()._doubt_end(outcome, held, said)
        self.died_at = self._trace.point()
