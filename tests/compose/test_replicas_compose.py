"""Three replicas in containers: `make up ENGINES=3`, the faults of replicas, and one replica less."""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.compose.world import ComposeWorld
from tests.ports import free_ports
from tools.chaos.faults import FAULTS

pytestmark = [pytest.mark.compose, pytest.mark.slow, pytest.mark.timeout(900)]

REPLICA_FAULTS = [name for name, fault in FAULTS.items() if fault.engines == "many"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeWorld]:
    """Three replicas, up and healthy, without monitoring; gone after the module."""
    made = ComposeWorld(tmp_path_factory.mktemp("replicas"), free_ports(len(ComposeWorld.PORTS)), "replicas")
    try:
        made.up(ENGINES="3", PROFILE="light")
        yield made
    finally:
        made.remove()


def test_three_replicas_share_the_units(world: ComposeWorld) -> None:
    """Each of three containers is a member, and every unit runs at one of them."""
    done = world.run("scripts/enginectl", "status", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)

    assert [(each["name"], each["state"]) for each in told["replicas"]] == [
        ("engine", "member"),
        ("engine-2", "member"),
        ("engine-3", "member"),
    ]
    assert {unit["state"] for unit in told["units"]} == {"running"}


@pytest.mark.parametrize("fault", REPLICA_FAULTS)
def test_fault_of_a_replica_leaves_every_row_exact(
    world: ComposeWorld, fault: str, figures: Callable[[str], None]
) -> None:
    """`scripts/chaos` makes the fault, sees its effect, heals it, and every row is exact."""
    done = world.run("scripts/chaos", timeout_seconds=800, FAULT=fault, SEED="5")
    assert done.returncode == 0, done.stdout + done.stderr
    for line in done.stdout.splitlines()[1:]:
        figures(f"{fault} in containers: {line}")


def test_replica_that_is_too_many_is_ended(world: ComposeWorld) -> None:
    """`make up` with one replica less ends it, and the others have its units."""
    world.up(ENGINES="2", PROFILE="light")

    assert "engine-3" not in world.containers()
    told = json.loads(world.run("scripts/enginectl", "status", "--json").stdout)
    assert {unit["owner"] for unit in told["units"]} == {"engine", "engine-2"}
    assert world.verify().returncode == 0


def test_one_engine_is_refused_where_units_began(world: ComposeWorld) -> None:
    """`make up` without replicas says why it cannot go on with their checkpoints."""
    done = world.run("make", "up", PROFILE="light", timeout_seconds=300)

    assert done.returncode == 2
    assert "has the units of replicas" in done.stdout + done.stderr
