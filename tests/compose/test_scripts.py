"""`make up` and `make logs` without Docker: what they refuse, what they say, and how they end."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compose.model import ROOT
from tests.compose.scripts_world import PLAN, PORT, environment, place, run
from tools.stack.control import looks

__all__ = ["place"]


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"PROFILE": "big"}, "PROFILE=big is not a profile; choose full or light"),
        ({"ENGINE": "19.03.8"}, "Docker Engine 19.03.8 is too old; install 20.10 or later"),
        ({"PLUGIN": ""}, "docker has no compose plugin; install it"),
        ({"PLUGIN": "1.29.2"}, "the compose plugin is 1.29.2, which is too old; install 2.21 or later"),
        ({"PLUGIN": "v2.9.0"}, "the compose plugin is v2.9.0, which is too old; install 2.21 or later"),
        ({"PLUGIN": "2.20.3"}, "the compose plugin is 2.20.3, which is too old; install 2.21 or later"),
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


@pytest.mark.parametrize("value", ["0", "65536", "80a", "999999", "-1"])
def test_up_refuses_what_is_no_port(place: Path, value: str) -> None:
    """A port's variable with anything but a port in it is refused by its name before anything is made."""
    code, said = run(place, "scripts/up", GRAFANA_PORT=value)

    assert (code, said) == (2, f"GRAFANA_PORT={value} is not valid: it must be a port from 1 to 65535\n")
    assert not (place / ".stack").exists()


def test_up_refuses_two_services_on_one_port(place: Path) -> None:
    """Two variables that give one port are both named before anything is made."""
    more = f'      - mode: ingress\n        target: 3000\n        published: "{PORT}"\n'
    (place / "plan").write_text(PLAN + more)

    code, said = run(place, "scripts/up")

    assert (code, said) == (
        2,
        f"port {PORT} would be that of METRICS_PORT and GRAFANA_PORT; give each its own port\n",
    )
    assert not (place / ".stack").exists()


def test_up_leaves_the_stack_of_another_folder_alone(place: Path) -> None:
    """Containers of the same name that another folder started are not taken over; those of this one, or of one that is gone, are."""
    other = place / "scripts"
    code, said = run(place, "scripts/up", FOLDERS=f"{place}\n{other}")

    assert code == 2
    assert said.startswith(f"the stack dstreams is that of the folder {other}; end it there with make down")
    assert not (place / ".stack").exists()
    assert run(place, "scripts/up", FOLDERS=f"{place}\n{place}/gone", PROFILE="light")[0] == 0


def test_up_asks_the_image_before_it_touches_anything(place: Path) -> None:
    """Settings that the image refuses end `make up` with 2 before any container is changed, and no stack is noted as up."""
    sentence = "AD_RATE='abc' is not valid: it must be a whole number"
    code, said = run(place, "scripts/up", REFUSES=sentence, PROFILE="light")

    assert code == 2
    assert said.endswith(f"{sentence}\nrefused; nothing that runs was changed\n")
    assert "docker compose --profile full" not in said
    assert not (place / ".stack/compose").exists()
    assert not (place / ".stack/secrets/grafana-password").exists()


def test_image_knows_a_bad_and_a_misspelt_setting() -> None:
    """The check that `make up` runs in the image refuses a bad value and points out a misspelt variable of the host."""
    command = [sys.executable, "-m", "services.settings"]

    def check(**variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=30, check=False
        )

    bad, odd = check(AD_RATE="abc"), check(HOST_VARIABLES="PATH AD_RATES")
    assert bad.returncode == 2
    assert bad.stderr.startswith("AD_RATE='abc' is not valid: it must be ")
    assert (odd.returncode, odd.stderr) == (
        0,
        "AD_RATES is not a setting and is ignored; did you mean AD_RATE?\n",
    )


@pytest.mark.parametrize(
    ("files", "variables", "sentence"),
    [
        (("compose",), {}, "there is no service nosuch; choose from engine kafka"),
        (("logs/engine.log",), {}, "choose from engine"),
        ((), {}, "no stack is up; start one with make up (containers)"),
    ],
)
def test_logs_refuses_a_service_that_is_not_there(
    place: Path, files: tuple[str, ...], variables: dict[str, str], sentence: str
) -> None:
    """A name without a log is refused with those that there are."""
    for name in files:
        (place / ".stack" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / ".stack" / name).write_text('{"profile": "full", "project": "mine"}\n')

    code, said = run(place, "scripts/logs", "nosuch", **variables)

    assert code == 2
    assert sentence in said


def test_logs_of_containers_are_in_the_order_of_their_time(place: Path) -> None:
    """What the services said before comes in one order with their names in one column, and so does what they say then; compose's exit code is the command's."""
    (place / ".stack").mkdir()
    (place / ".stack/compose").write_text('{"profile": "full", "project": "mine"}\n')
    past = (
        r"kafka-1  | 2026-01-01T10:00:01.5Z second | of two\n"
        r"kafka-1  | 2026-01-01T10:00:03Z \n"
        r"cassandra-1  | 2026-01-01T10:00:01.25Z first\n"
        r"cassandra-1  | 2026-01-01T10:00:02Z third\n"
    )

    code, said = run(
        place, "scripts/logs", PAST=past, COMES=r"kafka-1  | later | on\nkafka-1 exited with code 0\n"
    )

    assert code == 0
    assert said.splitlines() == [
        "cassandra-1   | first",
        "kafka-1       | second | of two",
        "cassandra-1   | third",
        "kafka-1       | ",
        "kafka-1       | later | on",
        "kafka-1 exited with code 0",
    ]
    assert run(place, "scripts/logs", ENDS_WITH="3")[0] == 3


def test_progress_is_shown_on_a_terminal_alone(place: Path) -> None:
    """Compose's lines for each container come on a terminal; a pipe or a log has none."""
    show = '. scripts/settings.sh; echo "$PROGRESS"'
    ours, theirs = os.openpty()
    subprocess.run(
        ["sh", "-c", show], cwd=place, env=environment(place), stdout=theirs, stderr=theirs, check=True
    )

    assert run(place, "sh", "-c", show) == (0, "--progress quiet\n")
    assert os.read(ours, 100) == b"--progress auto\r\n"
    os.close(ours)
    os.close(theirs)


@pytest.mark.slow
def test_logs_end_quietly_on_ctrl_c(place: Path) -> None:
    """Ctrl-C is the way to end `make logs`, so make says nothing about it."""
    shutil.copy(ROOT / "Makefile", place)
    (place / ".stack/logs").mkdir(parents=True)
    (place / ".stack/logs/engine.log").write_text("it works\n")
    with subprocess.Popen(
        ["make", "logs", "SERVICE=engine"],
        cwd=place,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == "it works\n"
        os.killpg(logs.pid, signal.SIGINT)
        said = logs.communicate(timeout=20)

    assert said == ("", "")


@pytest.mark.parametrize("script", ["stack", "chaos"])
def test_missing_python_names_the_command_that_makes_it(place: Path, script: str) -> None:
    """Without .venv a command says how to get one."""
    code, said = run(place, f"scripts/{script}", "--help")

    assert (code, said) == (
        2,
        "there is no .venv yet; make venv makes it (Python 3.11 or later, a few minutes)\n",
    )


@pytest.mark.slow
def test_commands_say_that_no_stack_is_up(place: Path) -> None:
    """Where no stack is up, verify and chaos refuse before they make .venv, and down has nothing to end."""
    shutil.copy(ROOT / "Makefile", place)
    (place / "requirements-dev.lock").touch()

    for target in ("verify", "chaos"):
        code, said = run(place, "make", target)
        assert code == 2
        assert said.startswith("no stack is up; start one with make up (containers)")
    assert run(place, "scripts/down", WIPE="1") == (0, "no stack is up\n")
    assert not (place / ".venv").exists()


def test_plain_stack_that_is_up_is_the_one_meant(place: Path) -> None:
    """Without STACK the commands take the plain processes that are up, until they have ended."""
    show = '. scripts/settings.sh; find_stack; find_plain; echo "[${STACK-}]"'
    (place / ".stack/run").mkdir(parents=True)
    (place / ".stack/run/settings.json").write_text('{\n "STACK": "embedded",\n "SEED": "1"\n}')

    assert run(place, "sh", "-c", show) == (0, "[]\n")
    (place / ".stack/run/supervisor.json").touch()
    assert run(place, "sh", "-c", show) == (0, "[embedded]\n")
    assert run(place, "sh", "-c", show, STACK="processes") == (0, "[processes]\n")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["2.21.0", "v2.40.3", "2.100.0", "5.0.1"])
def test_up_takes_the_plugins_that_have_all_it_uses(place: Path, version: str) -> None:
    """Compose 2.21 and what comes after it is taken."""
    code, said = run(place, "scripts/up", PLUGIN=version)

    assert code == 0, said
    assert "the stack is up and healthy" in said


def test_up_says_why_light_could_not_end_the_rest(place: Path) -> None:
    """When the services that only full has cannot be ended, `make up` ends with Docker's word and its own, and notes no stack."""
    code, said = run(place, "scripts/up", PROFILE="light", STUCK="container is not to be removed")

    assert code == 1
    assert said.endswith(
        "container is not to be removed\n"
        "verifier, Prometheus and Grafana, which PROFILE=light leaves out, could not be ended (see above)\n"
    )
    assert not (place / ".stack/compose").exists()


def test_up_tells_its_addresses_in_eighty_columns(place: Path) -> None:
    """What `make up` says while all goes well fits a terminal."""
    _, said = run(place, "scripts/up")

    own = [line for line in said.splitlines() if not line.startswith("docker ")]
    assert f"  streaming page  http://127.0.0.1:{PORT}/" in own
    assert max(map(len, own)) <= 80


def test_up_ends_the_start_that_it_gives_up(place: Path) -> None:
    """When a service has refused, the start that still waits for it has ended before `make up` does."""
    hangs = place / "hangs"
    code, said = run(place, "scripts/up", HANGS=str(hangs), STATES="engine Restarting (2) 1 second ago")

    assert code == 2, said
    assert "refused: engine ended with exit code 2" in said
    assert not hangs.exists()


def test_up_that_starts_nothing_leaves_the_word_to_docker(place: Path) -> None:
    """When Docker cannot start the stack at all, `make up` ends with 1, Docker's reason and how to go on, and names no service."""
    code, said = run(place, "scripts/up", FAILS="no such image")

    assert code == 1
    assert said.endswith(
        "no such image\n"
        "the stack could not be started, for the reason above; set it right, then make up (make down ends what runs)\n"
    )


def number_in(file: Path) -> int:
    """The process id that a program writes into a file when it has begun."""
    for _ in looks(20, 0.05):
        if file.exists() and file.read_text().endswith("\n"):
            break
    return int(file.read_text())


def interrupted(place: Path, number: int, variable: str) -> tuple[int, str, int]:
    """Signals `make up` when a part of it hangs: its exit code, what it said, and the part's process id."""
    begun = place / variable
    with subprocess.Popen(
        ["scripts/up"],
        cwd=place,
        env=environment(place, **{variable: str(begun)}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as up:
        part = number_in(begun)
        up.send_signal(number)

        said = up.communicate(timeout=20)[1]
    return up.returncode, said, part


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_up_that_is_interrupted_ends_its_start(place: Path, number: int, code: int) -> None:
    """After Ctrl-C or a kill no part of `make up` goes on, and it says how to go on and how to end what it has begun."""
    *ended, start = interrupted(place, number, "HANGS")

    assert ended == [code, "interrupted; make up goes on with what it has begun, make down ends it\n"]
    assert not (place / "HANGS").exists()
    assert not Path(f"/proc/{start}").exists()
    assert (place / ".stack/compose").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_up_that_is_interrupted_before_its_start_has_changed_nothing(
    place: Path, number: int, code: int
) -> None:
    """A signal while the image is built ends build and `make up` with one sentence, and no stack is noted as up."""
    *ended, build = interrupted(place, number, "BUILDS")

    assert ended == [code, "interrupted; nothing that runs was changed\n"]
    assert not Path(f"/proc/{build}").exists()
    assert not (place / ".stack/compose").exists()


@pytest.mark.slow
def test_up_refuses_folders_that_containers_cannot_read(place: Path) -> None:
    """A clone under a strict umask is refused with the folder and the command that opens it; light does not mount it."""
    closed = place / "grafana/dashboards"
    closed.mkdir(parents=True)
    (closed / "board.json").touch(mode=0o600)

    code, said = run(place, "scripts/up")

    assert code == 2
    assert said == (
        "the folder grafana/dashboards is mounted into containers, whose users may not read "
        "grafana/dashboards/board.json; run chmod -R a+rX grafana/dashboards\n"
    )
    assert run(place, "scripts/up", PROFILE="light")[0] == 0
    (closed / "board.json").chmod(0o644)
    assert run(place, "scripts/up")[0] == 0
    closed.chmod(0o750)
    assert run(place, "scripts/up")[0] == 2


@pytest.mark.slow
def test_up_makes_folders_that_containers_can_read(place: Path) -> None:
    """Under a strict umask too the verifier may read the drills, and nobody else the passwords."""
    (place / ".stack/drills").mkdir(parents=True)
    (place / ".stack/drills").chmod(0o700)

    code, said = run(place, "sh", "-c", "umask 077; exec scripts/up")

    assert code == 0, said
    modes = {name: (place / ".stack" / name).stat().st_mode & 0o777 for name in ("drills", "secrets")}
    assert modes == {"drills": 0o755, "secrets": 0o700}
    assert (place / ".stack/secrets/grafana-password").stat().st_mode & 0o777 == 0o644


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
