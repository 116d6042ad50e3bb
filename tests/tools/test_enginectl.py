"""`scripts/enginectl` against a replica's page; the units' processes are stand-ins."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from services.settings import REPOSITORY, base_environment
from tests.ports import free_port
from tests.services.pipeline.replicas_world import Shown, shown
from tools.enginectl.cli import main

pytestmark = pytest.mark.slow


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Shown]:
    """A replica whose three units run."""
    with shown(tmp_path) as one:
        yield one


def ctl(page: Shown, *words: str) -> Result:
    """A command to this replica."""
    return CliRunner().invoke(main, ["--url", page.address, *words])


def states(page: Shown) -> dict[str, str]:
    """By unit how it stands."""
    told = json.loads(ctl(page, "status", "--json").stdout)
    return {unit["unit"]: unit["state"] for unit in told["units"]}


def test_status_is_two_tables_of_at_most_80_columns(page: Shown) -> None:
    """Units and replicas are shown, and no line is too long."""
    shown_ = ctl(page, "status")

    assert shown_.exit_code == 0
    assert re.search(r"totals-1 +engine-1 +running", shown_.stdout)
    assert re.search(r"engine-1 +member", shown_.stdout)
    assert max(map(len, shown_.stdout.splitlines())) <= 80


def test_commands_return_when_it_is_so(page: Shown) -> None:
    """Each command's effect is there when it returns, and undone by resume."""
    assert ctl(page, "pause", "totals").stdout.startswith(
        "totals is paused: totals-0, totals-1 begin no batch"
    )
    assert states(page) == {"trending": "running", "totals-0": "paused", "totals-1": "paused"}
    assert ctl(page, "resume", "totals-0").stdout == "totals-0 runs: totals-0\n"
    assert ctl(page, "drain", "trending").stdout.startswith("trending is drained")
    assert states(page) == {"trending": "drained", "totals-0": "running", "totals-1": "paused"}
    assert ctl(page, "resume", "trending").exit_code == 0
    assert ctl(page, "resume", "totals").exit_code == 0
    assert set(states(page).values()) == {"running"}


def test_rescale_gives_each_unit_its_executors(page: Shown) -> None:
    """The order stays, and a sentence tells of it."""
    assert ctl(page, "rescale", "totals", "3", "--no-wait").exit_code == 0
    told = json.loads(ctl(page, "status", "--json").stdout)

    assert {name: each["number"] for name, each in told["desired"]["executors"].items()} == {
        "totals-0": 3,
        "totals-1": 3,
    }


def test_command_that_comes_to_nothing_says_what_it_waits_for(page: Shown) -> None:
    """A replica that is to be drained and keeps its units is told with them, with exit code 1."""
    late = ctl(page, "drain", "engine-1", "--timeout", "0.5")

    assert late.exit_code == 1
    assert "still waits for trending (with engine-1)" in late.stderr


def test_wrong_name_is_refused_with_all_that_are_right(page: Shown) -> None:
    """The replica's sentence is shown, with exit code 2."""
    refused = ctl(page, "pause", "none")

    assert refused.exit_code == 2
    assert (
        "there is no job or unit 'none' to pause; choose from trending, totals-0, totals-1" in refused.stderr
    )


def test_nobody_who_answers_is_named_with_the_remedy() -> None:
    """The addresses that were tried are told, with exit code 1."""
    port = free_port()
    found = CliRunner().invoke(main, ["--url", f"http://127.0.0.1:{port}", "status"])

    assert found.exit_code == 1
    assert f"no replica answers at http://127.0.0.1:{port} (connection refused)" in found.stderr


def test_completion_names_what_a_command_takes(page: Shown) -> None:
    """A shell is told the names of jobs, units and replicas, each where it can stand."""

    def completed(*words: str) -> set[str]:
        line = ["enginectl", "--url", page.address, *words]
        environment = {
            **base_environment(),
            "_ENGINECTL_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(line),
            "COMP_CWORD": str(len(line) - 1),
        }
        done = subprocess.run(
            [str(REPOSITORY / "scripts" / "enginectl")],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return {found.partition(",")[2] for found in done.stdout.splitlines()}

    assert completed("drain", "") == {"trending", "totals", "engine-1"}
    assert completed("pause", "totals") == {"totals", "totals-0", "totals-1"}


def test_stack_of_one_engine_is_refused(tmp_path: Path) -> None:
    """Without replicas there is nothing to control, and the refusal says how to get some."""
    environment = {**base_environment(), "DATA_DIR": str(tmp_path), "STACK": "processes"}
    done = subprocess.run(
        [str(REPOSITORY / "scripts" / "enginectl"), "status"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "ENGINES=1" in done.stderr
