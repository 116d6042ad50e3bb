"""The commands on a stack that is up or was, without Docker: which stack they mean, what they take from it and leave of it."""

import shutil
from pathlib import Path

import pytest

from tests.compose.model import ROOT
from tests.compose.scripts_world import DOCKER, place, run

__all__ = ["place"]


def test_verify_runs_inside_the_stack_that_is_up(place: Path) -> None:
    """While a stack in containers is up, verify runs on its network, under its project's name, and hands on its options."""
    (place / ".stack").mkdir()
    (place / ".stack/compose").write_text('{"profile": "light", "project": "mine"}\n')

    code, said = run(place, "scripts/verify", "--wait", "5")

    assert code == 0
    assert said.strip().endswith("run --rm --no-deps -T --env HOST_VARIABLES verify --wait 5 project=mine")
    assert "docker" not in run(place, "scripts/verify", STACK="processes")[1]


def test_replay_runs_under_one_name(place: Path) -> None:
    """In a stack in containers replay runs in a container whose name only one can have, and hands on its options."""
    (place / ".stack").mkdir()
    (place / ".stack/compose").write_text('{"profile": "light", "project": "mine"}\n')

    code, said = run(place, "scripts/replay", "--topic", "x", "--help")

    assert code == 0
    assert "run --rm --name mine-replay --no-deps" in said
    assert "python verify -m tools.replay --topic x --help" in said


def test_verify_takes_the_settings_of_what_runs(place: Path) -> None:
    """What to verify comes from the engine's and the producer's containers, whatever the caller's shell or .env have."""
    (place / ".stack").mkdir()
    (place / ".stack/compose").write_text('{"profile": "light", "project": "mine"}\n')
    (place / ".env").write_text("KEYSPACE=other\n")

    code, said = run(place, "scripts/verify", RUNS_WITH="JOBS=page_totals", JOBS="trending_pages", SEED="9")

    assert code == 0
    assert said.endswith("\nwith JOBS=page_totals KEYSPACE= APP= SEED=5\n")


@pytest.mark.parametrize("ended", [1, 2, 137])
def test_verify_ends_as_its_container_does(place: Path, ended: int) -> None:
    """The exit code is verify's own; a container that was killed is one that could not tell, and why is said."""
    (place / ".stack").mkdir()
    (place / ".stack/compose").write_text('{"profile": "light", "project": "mine"}\n')

    code, said = run(place, "scripts/verify", ENDS_WITH=str(ended))

    assert code == min(ended, 2)
    assert ("it was killed, most likely as it needed more memory than" in said) is (ended == 137)


def test_down_takes_the_stack_of_its_folder(place: Path) -> None:
    """Down ends the project that the folder's marker names, and forgets it; WIPE=1 takes volumes and passwords along."""
    for variables, more, closing in (
        ({}, "", "the stack has ended; its data stays (make down WIPE=1 removes it)"),
        ({"WIPE": "1"}, " --volumes", "the stack has ended, and its data is gone"),
    ):
        (place / "data/secrets").mkdir(parents=True, exist_ok=True)
        (place / "data/events.jsonl").touch()
        (place / "data/compose").write_text('{"profile": "full", "project": "mine"}\n')

        code, said = run(place, "scripts/down", DATA_DIR="data", **variables)

        assert (code, said.splitlines()) == (
            0,
            [
                "ending all services; the servers take some seconds to write what they hold",
                f"docker compose --profile full --profile tools --profile engines-5 --progress quiet down --remove-orphans{more} project=mine",
                closing,
            ],
        )
        assert (place / "data/events.jsonl").exists() is not bool(variables)
        assert not (place / "data/compose").exists()
        assert (place / "data/compose.ended").exists() is not bool(variables)
        assert (place / "data/secrets").exists() is not bool(variables)


def test_env_file_is_read_below_the_environment(place: Path) -> None:
    """.env counts as compose takes it: comments and quotes are no part of a value, and the environment goes first."""
    (place / ".env").write_text(
        '# ports\n#SEED=3\nKAFKA_PORT="19555" # mine\nAD_RATE=77 # few\nPAGE_RATE=5\nAPP=last'
    )
    show = '. scripts/settings.sh; echo "$KAFKA_PORT|$AD_RATE|$PAGE_RATE|$APP|${SEED-unset}"'

    assert run(place, "sh", "-c", show, PAGE_RATE="9") == (0, "19555|77|9|last|unset\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("APP=a b  # note", "a b"),
        ("APP=a#b", "a#b"),
        ("APP='a # b' # note", "a # b"),
        ('APP="a # b"', "a # b"),
        ("export APP=a", "a"),
        ("  APP = a  ", "a"),
        ("APP=a=b", "a=b"),
        ("APP=a\r", "a"),
        ("APP= # note", "# note"),
    ],
)
def test_env_file_means_what_compose_takes_it_for(place: Path, line: str, value: str) -> None:
    """A line of .env has the same value for the commands as for docker compose."""
    (place / ".env").write_bytes(f"{line}\n".encode())

    assert run(place, "sh", "-c", '. scripts/settings.sh; echo "[$APP]"') == (0, f"[{value}]\n")
    if shutil.which("docker"):
        (place / "compose.yml").write_text('services: {one: {image: none, labels: {app: "[${APP}]"}}}')
        done = run(place, str(shutil.which("docker")), "compose", "--file", "compose.yml", "config")
        assert f"app: '[{value}]'" in done[1]


@pytest.mark.slow
def test_clean_stops_where_the_stack_cannot_be_ended(place: Path) -> None:
    """`make clean` forgets a stack only after it has ended it: else its volumes stay without a name for them."""
    shutil.copy(ROOT / "Makefile", place)
    (place / ".stack").mkdir()
    (place / ".stack/compose").write_text('{"profile": "full", "project": "mine"}\n')
    (place / "bin/docker").write_text("#!/bin/sh\necho the engine does not answer >&2\nexit 1\n")

    code, said = run(place, "make", "clean")

    assert code != 0
    assert "the engine does not answer" in said
    assert (place / ".stack/compose").exists()
    (place / "bin/docker").write_text(DOCKER)
    assert run(place, "make", "clean")[0] == 0
    assert not (place / ".stack").exists()


@pytest.mark.slow
def test_clean_takes_the_volumes_of_a_stack_that_has_ended(place: Path) -> None:
    """After `make down` the project's name stays with the password, so that `make clean` removes the volumes before both go."""
    shutil.copy(ROOT / "Makefile", place)
    (place / ".stack/secrets").mkdir(parents=True)
    (place / ".stack/compose").write_text('{"profile": "full", "project": "mine"}\n')
    assert run(place, "make", "down")[0] == 0
    docker = (place / "bin/docker").read_text()
    (place / "bin/docker").write_text("#!/bin/sh\necho the engine does not answer >&2\nexit 1\n")

    code, said = run(place, "make", "clean")

    assert code != 0
    assert "the engine does not answer" in said
    assert (place / ".stack/secrets").exists()
    (place / "bin/docker").write_text(docker)
    code, said = run(place, "make", "clean")
    assert code == 0
    assert "down --remove-orphans --volumes project=mine\n" in said
    assert "the stack in containers that was up last has left nothing: its volumes are gone\n" in said
    assert not (place / ".stack").exists()


@pytest.mark.slow
def test_up_forgets_that_a_stack_has_ended(place: Path) -> None:
    """While a stack is up, there is one note of it."""
    (place / ".stack").mkdir()
    (place / ".stack/compose.ended").write_text('{"profile": "full", "project": "mine"}\n')

    code, said = run(place, "scripts/up")

    assert code == 0, said
    assert {file.name for file in (place / ".stack").glob("compose*")} == {"compose"}


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{}, {"DATA_DIR": "other"}])
def test_chaos_on_containers_makes_its_python_wherever_they_are_noted(
    place: Path, variables: dict[str, str]
) -> None:
    """DATA_DIR counts on make's command line as in the environment: a stack that is noted there needs .venv, none needs nothing."""
    shutil.copy(ROOT / "Makefile", place)
    (place / "requirements-dev.lock").touch()
    words = [f"{name}={value}" for name, value in variables.items()]
    folder = place / variables.get("DATA_DIR", ".stack")

    before = run(place, "make", "--dry-run", "chaos", *words)[1]
    folder.mkdir()
    (folder / "compose").write_text('{"profile": "full", "project": "mine"}\n')

    assert "making .venv" not in before
    assert "making .venv" in run(place, "make", "--dry-run", "chaos", *words)[1]
    if variables:
        assert "making .venv" not in run(place, "make", "--dry-run", "chaos")[1]
        assert "making .venv" in run(place, "make", "--dry-run", "chaos", **variables)[1]


@pytest.mark.parametrize(
    ("report", "code", "closing"),
    [
        (
            "==== 19 passed in 301.12s (0:05:01) ====",
            0,
            "make test-compose passed: 19 passed in 301.12s (0:05:01);",
        ),
        (
            "2 tests need the stack in containers and did not run: docker has no compose plugin\n== 2 skipped in 1.2s ==",
            0,
            "make test-compose did not run: docker has no compose plugin;",
        ),
        (
            "== 1 failed, 2 passed in 1.2s ==",
            2,
            "make test-compose FAILED: exit code 2; 1 failed, 2 passed in 1.2s;",
        ),
        ("no rule", 2, "make test-compose FAILED: exit code 2; no test ended;"),
        ("hung", 124, "make test-compose FAILED: it was ended after 25 min;"),
    ],
)
def test_ci_says_what_became_of_the_containers(place: Path, report: str, code: int, closing: str) -> None:
    """The closing line of CI tells a stack that passed from one that did not run, failed or hung; the last two fail it."""
    (place / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", place / ".ci/run")
    for name in ("java", "mvn", "prometheus", "chromium"):
        (place / "bin" / name).symlink_to("docker")
    (place / "report").write_text(report + "\n")
    (place / "bin/make").write_text(
        f'#!/bin/sh\n[ "$1" != test-compose ] || {{ cat report; exit {code}; }}\n'
    )
    (place / "bin/make").chmod(0o755)

    ended, said = run(place, ".ci/run", OFFLINE_IMAGES="none")

    assert ended == (1 if code else 0), said
    assert f"ci: check and test passed, {closing}" in said.splitlines()[-1]


def test_commands_on_containers_write_what_others_can_read(place: Path) -> None:
    """Under a strict umask a drill's file can be read by the verifier; plain processes keep the umask of their user."""
    show = "umask 077; . scripts/settings.sh; find_stack; umask"
    (place / ".stack").mkdir()
    (place / ".stack/compose").write_text('{"profile": "full", "project": "mine"}\n')

    assert run(place, "sh", "-c", show) == (0, "0022\n")
    assert run(place, "sh", "-c", show, STACK="processes") == (0, "0077\n")
