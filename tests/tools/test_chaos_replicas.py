"""Chaos drills on three replicas with a real Kafka and a real Cassandra: effects, the fenced write, what stays where it is."""

from collections.abc import Callable, Iterator

import pytest

from services.settings import Settings, load_settings
from tests.ports import setting_ports
from tests.tools.test_chaos_faults import quiet
from tools.chaos import replicas
from tools.chaos.drill import Drill
from tools.chaos.faults import faults_of
from tools.stack.api import Stack

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(400)]

IN_CI = ("replica-pause", "replica-term", "unit-kill")
"""The others differ from these in how a replica goes; `make chaos FAULT=all` runs them."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Three replicas at work, with events at a low rate."""
    settings = Settings.model_validate(
        {
            "data_dir": tmp_path_factory.mktemp("replicas"),
            "jars_dir": load_settings().jars_dir,
            "engines": 3,
            "master": "local",
            "ad_rate": 200,
            "page_rate": 100,
            **setting_ports(),
        }
    )
    made = Stack(settings, is_tied=True)
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.mark.parametrize("fault", IN_CI)
def test_fault_of_a_replica_has_its_effect_and_leaves_every_row_exact(
    stack: Stack, fault: str, monkeypatch: pytest.MonkeyPatch, figures: Callable[[str], None]
) -> None:
    """What the fault must bring about is seen (of a pause the fenced write), all replicas are members again, and every row is exact."""
    monkeypatch.setattr(replicas, "PAUSE_SECONDS", 10.0)
    drill = Drill(stack, fault, 3, quiet, hold_seconds=6)
    found = drill.run(1)
    drill.close()
    figures(f"{fault}: units run again after {found.restart:.1f} s, first batch {found.first_batch:.1f} s")
    assert (found.doubts, found.word) == ([], "exact")


def test_replicas_have_faults_of_their_own_and_those_of_servers() -> None:
    """A stack of replicas can have every fault that is in these tests, and those that hit no engine."""
    possible = set(faults_of("processes", 3))

    assert {*IN_CI, "replica-kill", "replicas-kill", "replica-cut", "rolling-upgrade"} <= possible
    assert {"kafka-restart", "cassandra-pause", "producer-kill", "poison"} <= possible
    assert "engine-kill" not in possible
    assert possible & set(faults_of("processes", 1)) == possible - {
        name for name in possible if name.startswith(("replica", "unit", "rolling"))
    }
