"""The command line of verify: what it prints, its exit codes, what it refuses."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.settings import REPOSITORY, Settings
from tests.tools.verify_world import COLUMNS, World, exact_world  # noqa: F401 - a fixture
from tools.verify import verify
from tools.verify.__main__ import command
from tools.verify.kafka_log import KafkaLog
from tools.verify.verdict import CannotTellError


def test_command_prints_one_line_a_table_and_the_verdict(world: World, tmp_path: Path) -> None:
    """The command ends with the closing line and the verdict's code, and writes the same as JSON."""
    target = tmp_path / "verdict.json"
    environment = {"STACK": "embedded", "DATA_DIR": str(world.settings.data_dir), "JOBS": "page_totals"}
    result = CliRunner().invoke(command, ["--json", str(target)], env=environment)
    lines = result.stdout.splitlines()
    assert (result.exit_code, lines[-1]) == (0, world.verify().line)
    assert [line.split()[0] for line in lines[:7]] == ["ledger", "cut", *COLUMNS, "producers:"]
    assert max(map(len, lines)) <= 80
    found = json.loads(target.read_text())
    assert (found["line"], found["code"], found["tables"][2]["exact"]) == (lines[-1], 0, 12)
    world.sql("UPDATE page_totals SET views = 0 WHERE page = '/page/001'")
    assert CliRunner().invoke(command, [], env=environment).exit_code == 1
    world.sql("DELETE FROM ledger WHERE batch > 0")
    result = CliRunner().invoke(command, ["--wait", "0"], env=environment)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[1].startswith("verify could not tell: nothing is committed yet")


def test_json_may_go_to_standard_output(world: World) -> None:
    """With - for the file standard output is the JSON alone, and the code and the reason are as ever."""
    environment = {"STACK": "embedded", "DATA_DIR": str(world.settings.data_dir)}
    result = CliRunner().invoke(command, ["--json", "-"], env=environment)
    assert (result.exit_code, json.loads(result.stdout)["line"]) == (0, world.verify().line)
    result = CliRunner().invoke(command, ["--json", "-"], env={**environment, "APP": "other"})
    assert (result.exit_code, json.loads(result.stdout)["code"]) == (2, 2)
    assert result.stderr.splitlines()[1].startswith("verify could not tell: nothing is committed yet")


@pytest.mark.slow
def test_help_is_the_typed_commands_and_reads_well() -> None:
    """Help and errors name scripts/verify, and at 80 columns each verdict begins a line of its own."""

    def lines(argument: str) -> list[str]:
        run = subprocess.run(
            [sys.executable, "-m", "tools.verify", argument],
            cwd=REPOSITORY,
            env={"PATH": os.environ["PATH"], "COLUMNS": "80"},
            capture_output=True,
            text=True,
            check=False,
        )
        return (run.stdout + run.stderr).splitlines()

    helped = lines("--help")
    assert helped[0] == "Usage: scripts/verify [OPTIONS]"
    assert max(map(len, helped)) <= 80
    begins = [
        line.split()[0] for line in helped if line.startswith(("  missing  ", "  over     ", "  wrong    "))
    ]
    assert begins == ["missing", "over", "wrong"]
    assert not any("\\b" in line for line in helped)
    assert lines("--what")[:2] == ["Usage: scripts/verify [OPTIONS]", "Try 'scripts/verify --help' for help."]


def test_command_tells_first_what_it_does(world: World) -> None:
    """Off a terminal standard error has one line that says what takes so long, and standard output the verdict alone."""
    environment = {"STACK": "embedded", "DATA_DIR": str(world.settings.data_dir)}
    result = CliRunner().invoke(command, [], env=environment)
    assert result.stderr == (
        "reading the log and recomputing every row; some seconds, longer with a long log\n"
    )
    assert result.stdout.startswith("ledger")


@pytest.mark.parametrize(
    "arguments", [["--wait", "-1"], ["--wait", "soon"], ["--json", "/"], ["--what"], ["more"]]
)
def test_bad_arguments_are_refused(arguments: list[str]) -> None:
    """An argument that is not valid is refused in a sentence, with code 2."""
    result = CliRunner().invoke(command, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr


def test_bad_setting_is_refused() -> None:
    """A malformed setting is refused in one sentence with variable and value, with code 2."""
    result = CliRunner().invoke(command, [], env={"STACK": "cloud"})
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "STACK='cloud'" in result.stderr


def test_server_that_is_away_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable Cassandra or Kafka gives code 2 and a reason that names its address."""
    monkeypatch.setattr("tools.verify.kafka_log.CONNECT_MS", 100)
    away = Settings(cassandra_port=1, kafka_bootstrap="127.0.0.1:2")
    assert "Cassandra at 127.0.0.1:1" in verify(away).reason
    with pytest.raises(CannotTellError, match=r"Kafka at 127\.0\.0\.1:2 cannot be read"):
        KafkaLog(away.kafka_bootstrap)


def test_nothing_of_the_engine_is_imported() -> None:
    """Nothing of the engine is imported, and of the services only settings, health and the closed form."""
    imported = set()
    for path in (Path(__file__).parents[2] / "tools" / "verify").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else getattr(node, "names", [])
            imported |= {name if isinstance(name, str) else name.name for name in names}
    ours = {name for name in imported if name.split(".")[0] in {"engine", "services"}}
    assert ours == {"services.settings", "services.health", "services.producer.events"}
