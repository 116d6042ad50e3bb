"""The commands around the stack in containers, without Docker: what they refuse, and which stack they mean."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.compose.model import ROOT

DOCKER = """#!/bin/sh
case "$*" in
  "version --format"*) echo "${ENGINE:-20.10.24}" ;;
  "compose version --short") [ -n "${PLUGIN-2.40.3}" ] && echo "${PLUGIN-2.40.3}" || exit 1 ;;
  "info --format"*) echo "${MEMORY:-8589934592}" ;;
  *" config") cat "$PLAN" ;;
  "ps "* | *" ps "*) ;;
  *) echo "docker $* project=$COMPOSE_PROJECT_NAME" ;;
esac
"""
"""Stands in for an engine that is too old, too small or without its plugin; it says what else it was asked."""

PLAN = """name: dstreams
services:
  engine:
    mem_limit: "3000000000"
    ports:
      - target: 19108
        published: "19108"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the scripts and a `docker` of its own in bin/."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin/docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    (tmp_path / "plan").write_text(PLAN)
    return tmp_path


def run(place: Path, *command: str, **variables: str) -> tuple[int, str]:
    """Exit code and all output of a script."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    done = subprocess.run(
        command,
        cwd=place,
        env={**kept, "PATH": f"{place}/bin:{os.environ['PATH']}", "PLAN": str(place / "plan"), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"PROFILE": "big"}, "PROFILE=big is not a profile; choose full or light"),
        ({"ENGINE": "19.03.8"}, "Docker Engine 19.03.8 is too old; install 20.10 or later"),
        ({"PLUGIN": ""}, "docker has no compose plugin; install it"),
        ({"PLUGIN": "1.29.2"}, "the compose plugin is 1.29.2; install version 2 or later"),
        (
            {"MEMORY": "2147483648"},
            "the Docker engine has 2048 MiB of memory, and PROFILE=full may use up to 2861",
        ),
    ],
)
def test_up_refuses_what_stands_against_it(place: Path, variables: dict[str, str], sentence: str) -> None:
    """An engine that cannot hold the stack is refused in one sentence, with exit code 2, before anything is made."""
    code, said = run(place, "scripts/up", **variables)

    assert code == 2
    assert said.startswith(sentence)
    assert said.count("\n") == 1
    assert not (place / ".stack").exists()


def test_up_without_docker_names_the_other_way(place: Path) -> None:
    """Where Docker is not installed, `make up` says what to install and what runs without it."""
    (place / "bin/docker").unlink()
    for name in ("sh", "dirname", "sed"):
        (place / "bin" / name).symlink_to(str(shutil.which(name)))

    code, said = run(place, "scripts/up", PATH=f"{place}/bin")

    assert code == 2
    assert said.startswith("docker is not installed; install Docker Engine 20.10 or later")
    assert "make up STACK=processes" in said


@pytest.mark.parametrize("script", ["up", "down", "logs"])
def test_help_is_readable_at_80_columns(place: Path, script: str) -> None:
    """--help says what a script does, in lines of at most 80 columns, and starts nothing."""
    code, said = run(place, f"scripts/{script}", "--help")

    assert code == 0
    assert f"scripts/{script}" in said
    assert max(map(len, said.splitlines())) <= 80


def test_verify_runs_inside_the_stack_that_is_up(place: Path) -> None:
    """While a stack in containers is up, verify runs on its network, under its project's name, and hands on its options."""
    (place / ".stack").mkdir()
    (place / ".stack/compose").write_text('{"profile": "light", "project": "mine"}\n')

    code, said = run(place, "scripts/verify", "--wait", "5")

    assert code == 0
    assert said.strip().endswith("run --rm --no-deps -T verify --wait 5 project=mine")
    assert "docker" not in run(place, "scripts/verify", STACK="processes")[1]


def test_down_takes_the_stack_of_its_folder(place: Path) -> None:
    """Down ends the project that the folder's marker names, and forgets it; WIPE=1 takes volumes and passwords along."""
    for variables, more in (({}, ""), ({"WIPE": "1"}, " --volumes")):
        (place / "data/secrets").mkdir(parents=True, exist_ok=True)
        (place / "data/compose").write_text('{"profile": "full", "project": "mine"}\n')

        code, said = run(place, "scripts/down", DATA_DIR="data", **variables)

        assert (code, said.strip()) == (
            0,
            f"docker compose --profile full --profile tools down --remove-orphans{more} project=mine",
        )
        assert not (place / "data/compose").exists()
        assert (place / "data/secrets").exists() is not bool(variables)


def test_env_file_is_read_below_the_environment(place: Path) -> None:
    """.env counts as compose takes it: comments and quotes are no part of a value, and the environment goes first."""
    (place / ".env").write_text(
        '# ports\n#SEED=3\nKAFKA_PORT="19555" # mine\nAD_RATE=77 # few\nPAGE_RATE=5\nAPP=last'
    )
    show = '. scripts/settings.sh; echo "$KAFKA_PORT|$AD_RATE|$PAGE_RATE|$APP|${SEED-unset}"'

    assert run(place, "sh", "-c", show, PAGE_RATE="9") == (0, "19555|77|9|last|unset\n")
