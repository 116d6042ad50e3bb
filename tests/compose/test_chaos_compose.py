"""The chaos drills on containers: the same faults and the same report as on plain processes, and a whole stack afterwards."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from services.settings import REPOSITORY
from tests.compose.world import ComposeWorld
from tests.tools.stack_world import wait_until
from tools.chaos import hits
from tools.chaos.__main__ import INTERRUPTED
from tools.chaos.drill import Drill
from tools.chaos.faults import FAULTS, faults_of
from tools.chaos.volume import SmallVolume
from tools.stack.compose import ComposeStack, project_of, settings_of
from tools.stack.events import Event
from tools.stack.programs import State

pytestmark = [pytest.mark.compose, pytest.mark.slow, pytest.mark.timeout(900)]


def drills_of(world: ComposeWorld) -> list[dict[str, Any]]:
    """The lines of the history of drills."""
    return [json.loads(line) for line in (world.folder / "drills" / "history.jsonl").read_text().splitlines()]


def stack_of(world: ComposeWorld) -> ComposeStack:
    """The world's containers as a stack."""
    return ComposeStack(settings_of(world.project, world.settings), project=world.project)


def test_stack_is_found_by_its_marker_and_tells_its_settings(compose_stack: ComposeWorld) -> None:
    """The project comes from DATA_DIR, and the ports and the engine's settings come from the containers."""
    assert project_of(compose_stack.settings) == compose_stack.project
    settings = settings_of(compose_stack.project, compose_stack.settings)
    for variable in ("KAFKA_PORT", "CASSANDRA_PORT", "METRICS_PORT"):
        assert settings.environment()[variable] == str(compose_stack.ports[variable])
    assert settings.kafka_bootstrap == f"127.0.0.1:{compose_stack.ports['KAFKA_PORT']}"
    stack = stack_of(compose_stack)
    assert set(stack.names) >= {"kafka", "cassandra", "producer", "engine"}
    assert {container.state for container in stack.status()} == {State.RUNNING}


@pytest.mark.parametrize("fault", faults_of("compose"))
def test_drill_has_its_effect_and_leaves_every_row_exact(
    compose_stack: ComposeWorld, fault: str, figures: Callable[[str], None]
) -> None:
    """`scripts/chaos` finds the containers by itself, makes the fault, sees its effect, heals it, and every row is exact."""
    began = time.monotonic()
    before = {container.name: container for container in stack_of(compose_stack).status()}
    done = compose_stack.run("scripts/chaos", timeout_seconds=800, FAULT=fault, SEED="5")
    assert done.returncode == 0, done.stdout + done.stderr
    for line in done.stdout.splitlines()[1:]:
        figures(f"{fault} in containers: {line}")
    newest = drills_of(compose_stack)[-1]
    assert (newest["fault"], newest["seed"], newest["verdict"]) == (fault, 5, "exact")
    assert not (compose_stack.folder / "drills" / "running.json").exists()
    after = stack_of(compose_stack)
    assert {one.name: one.id for one in after.status()} == {one.name: one.id for one in before.values()}
    assert {container.state for container in after.status()} == {State.RUNNING}
    if fault in {"engine-kill", "producer-kill"}:
        # By its restart policy alone.
        victim = FAULTS[fault].victim
        assert after.container(victim).restarts == before[victim].restarts + 1
        wait_until(lambda: health_of(compose_stack, victim) == "healthy", 60)
        figures(
            f"{fault} in containers: healthy again and verified exact after {time.monotonic() - began:.0f} s"
        )
    assert all(after.network in after.container(name).networks for name in ("kafka", "cassandra", "engine"))
    assert left_of(compose_stack) == []


def health_of(world: ComposeWorld, service: str) -> str:
    """What Docker says of the health of a service."""
    return str(world.containers()[service]["State"]["Health"]["Status"])


def left_of(world: ComposeWorld) -> list[str]:
    """What a drill has made of containers and volumes and not removed."""
    names = world.run("docker", "ps", "--all", "--format", "{{.Names}}").stdout.split()
    names += world.run("docker", "volume", "ls", "--format", "{{.Name}}").stdout.split()
    return [
        name
        for name in names
        if name.startswith(world.project) and name.endswith(("-twin", "-proxy", "-small-checkpoint"))
    ]


class Toothless(ComposeStack):
    """Containers that are not cut off, only written down so."""

    def cut(self, name: str) -> Event:
        """Leave it on its network."""
        return Event(0.0, name, "cut", {})


def test_cut_without_effect_fails_the_drill(compose_stack: ComposeWorld) -> None:
    """Commits that go on during a cut make a failed drill, which names them."""
    stack = Toothless(
        settings_of(compose_stack.project, compose_stack.settings), project=compose_stack.project
    )
    drill = Drill(stack, "cassandra-cut", 1, lambda _: None, hold_seconds=6)
    found = drill.run(1)
    drill.close()
    assert found.word == "no-effect"
    assert "was committed within the 6 s in which cassandra was away" in found.doubts[0]


class HalfFull(SmallVolume):
    """A small volume with room on it."""

    def fill(self) -> Event:
        """Leave it."""
        return Event(time.time(), "engine", "full", {})


def test_volume_with_room_fails_the_drill(
    compose_stack: ComposeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that goes on makes a failed drill, which names its commits, its life and what it did not say."""
    monkeypatch.setattr(hits, "SmallVolume", HalfFull)
    monkeypatch.setattr(hits, "DETECT_SECONDS", 1.0)
    drill = Drill(stack_of(compose_stack), "checkpoint-full", 1, lambda _: None, hold_seconds=4)
    found = drill.run(1)
    drill.close()
    assert (found.word, found.verdict and found.verdict.code) == ("no-effect", 0)
    assert "was committed within the 4 s in which engine was away" in found.doubts[0]
    assert "the engine did not end within 1 s of the full volume" in found.doubts
    assert "so the same process went on" in found.doubts[-1]
    assert left_of(compose_stack) == []


def drill_on_a_full_volume(world: ComposeWorld) -> subprocess.Popen[str]:
    """A drill that has just filled the checkpoint's volume."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.chaos"],
        cwd=REPOSITORY,
        env={**world.environment, "FAULT": "checkpoint-full"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ballast = f"{world.project}-small-checkpoint", "test", "-e", "/small/ballast"
    wait_until(lambda: world.run("docker", "exec", *ballast).returncode == 0, 120)
    return process


def test_interrupted_fill_leaves_the_engine_on_its_own_volume(compose_stack: ComposeWorld) -> None:
    """Ctrl-C while the volume is full brings the checkpoint home: the same container goes on, and every row is exact."""
    before = stack_of(compose_stack).container("engine").id
    process = drill_on_a_full_volume(compose_stack)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=180)
    assert process.returncode == INTERRUPTED, said
    found = stack_of(compose_stack).container("engine")
    assert (found.id, found.state) == (before, State.RUNNING)
    assert left_of(compose_stack) == []
    done = compose_stack.verify()
    assert done.returncode == 0, done.stdout + done.stderr


def test_killed_fill_is_brought_home_by_the_next_drill(compose_stack: ComposeWorld) -> None:
    """A drill that dies while the volume is full leaves the engine there; the next drill of any kind moves it back first."""
    before = stack_of(compose_stack).container("engine").id
    process = drill_on_a_full_volume(compose_stack)
    process.kill()
    process.communicate()
    assert len(left_of(compose_stack)) == 3
    done = compose_stack.run("scripts/chaos", timeout_seconds=400, FAULT="engine-kill")
    assert done.returncode == 0, done.stdout + done.stderr
    assert stack_of(compose_stack).container("engine").id == before
    assert left_of(compose_stack) == []


@pytest.mark.parametrize("fault", ["kafka-pause", "kafka-cut", "kafka-restart"])
def test_interrupted_drill_leaves_the_containers_whole(compose_stack: ComposeWorld, fault: str) -> None:
    """Ctrl-C in the middle of a fault resumes, joins or starts what it hit, and no drill seems to run."""
    stack = stack_of(compose_stack)
    victim = FAULTS[fault].victim

    def is_broken() -> bool:
        container = stack.container(victim)
        return container.state != State.RUNNING or stack.network not in container.networks

    process = subprocess.Popen(
        [sys.executable, "-m", "tools.chaos"],
        cwd=REPOSITORY,
        env={**compose_stack.environment, "FAULT": fault},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(is_broken, 120)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=180)
    assert process.returncode == INTERRUPTED, said
    assert not is_broken()
    assert not (compose_stack.folder / "drills" / "running.json").exists()
