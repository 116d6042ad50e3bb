"""The stack in containers is changed, ended and started again: what is refused, what stays, and what is gone.

Its tests come last of all, and in an order: from the full stack to nothing.
"""

import json
import socket
from collections.abc import Callable

import pytest

from tests.compose.model import LIGHT_BYTES, LONG_RUNNING, MIB, is_light, read_stack
from tests.compose.test_stack import exact_verdict
from tests.compose.world import ComposeWorld

pytestmark = [pytest.mark.compose, pytest.mark.slow, pytest.mark.timeout(1_200)]

Figures = Callable[[str], None]


def test_refused_settings_end_make_up_with_their_sentence(compose_stack: ComposeWorld) -> None:
    """A setting that does not fit the data ends `make up` with exit code 2 and the reason, and nothing goes on restarting."""
    done = compose_stack.run("scripts/up", timeout_seconds=600, BATCH_SECONDS="7")
    state = compose_stack.containers()["engine"]["State"]["Status"]

    assert done.returncode == 2, done.stdout + done.stderr
    assert "must be multiple of the parent dstream's slide (batch) duration (7000 ms)" in done.stderr
    assert "refused: engine" in done.stderr
    assert state != "restarting"


def test_taken_port_is_named_with_its_variable(compose_stack: ComposeWorld) -> None:
    """A port that another program has is refused before anything is started, with the variable to set."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = compose_stack.run("scripts/up", GRAFANA_PORT=str(port))

    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "GRAFANA_PORT" in done.stderr


def test_light_goes_on_where_full_ended(compose_stack: ComposeWorld, figures: Figures) -> None:
    """`make down` leaves no container and no network; PROFILE=light starts by itself on the volumes, goes on where the ledger ended, exactly, and has its own memory."""
    before = exact_verdict(compose_stack)
    compose_stack.down()
    left = {kind: compose_stack.left(kind) for kind in ("container", "network", "volume")}
    marker = compose_stack.folder / "compose"
    assert (left["container"], left["network"], marker.exists()) == ([], [], False)
    assert len(left["volume"]) == len(read_stack().compose["volumes"])

    compose_stack.up(PROFILE="light")
    after = exact_verdict(compose_stack)
    used = compose_stack.memory_mib()
    assert set(used) == light_services() == set(compose_stack.containers()) & set(LONG_RUNNING)
    assert sum(used.values()) * MIB < LIGHT_BYTES
    assert after["windows"] > before["windows"]
    assert json.loads(marker.read_text()) == {"profile": "light", "project": compose_stack.project}
    each = ", ".join(f"{name} {used[name]:.0f}" for name in LONG_RUNNING if name in used)
    figures(
        f"PROFILE=light: healthy after {compose_stack.seconds_to_health:.0f} s, {after['windows']} windows exact, "
        f"memory {sum(used.values()):.0f} MiB ({each})"
    )


def light_services() -> set[str]:
    """The long-running services of the light stack."""
    return {name for name, one in read_stack().services.items() if is_light(one) and name in LONG_RUNNING}


def test_full_and_light_change_into_each_other(compose_stack: ComposeWorld) -> None:
    """`make up` beside the light stack brings the rest on its old volumes, and PROFILE=light ends it again; what both have goes on in its containers."""
    before = {name: one["Id"] for name, one in compose_stack.containers().items() if name in light_services()}
    compose_stack.up()
    full = compose_stack.containers()
    compose_stack.up(PROFILE="light")
    light = compose_stack.containers()

    assert {name for name in full if full[name]["State"].get("Health", {}).get("Status") == "healthy"} == set(
        LONG_RUNNING
    )
    assert set(light) & set(LONG_RUNNING) == light_services()
    assert {name: full[name]["Id"] for name in before} == before
    assert {name: light[name]["Id"] for name in before} == before
    assert json.loads((compose_stack.folder / "compose").read_text())["profile"] == "light"


def test_wipe_removes_every_volume(compose_stack: ComposeWorld) -> None:
    """`make down WIPE=1` leaves nothing at all, also of a stack that has ended before."""
    compose_stack.down()
    compose_stack.down(WIPE="1")

    assert [compose_stack.left(kind) for kind in ("container", "network", "volume")] == [[], [], []]
    assert not (compose_stack.folder / "secrets").exists()
