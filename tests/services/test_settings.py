"""What the settings of the services are, and how a wrong one is refused."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from engine.errors import (
    CheckpointError,
    ConfigurationError,
    CorruptLogError,
    SinkError,
    SourceError,
    UserFunctionError,
)
from services import settings as module
from services.settings import REPOSITORY, Settings, base_environment, exit_code, load_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_defaults_are_those_of_the_documented_table() -> None:
    """Without any variable the settings are the documented defaults, paths seen from the repository."""
    settings = load_settings()
    assert settings == Settings()
    assert (settings.stack, settings.kafka_port, settings.cassandra_port) == ("processes", 19_092, 19_042)
    assert settings.kafka_bootstrap == "127.0.0.1:19092"
    assert settings.data_dir == REPOSITORY / ".stack"
    assert settings.checkpoint_dir == REPOSITORY / ".stack/checkpoints"
    assert settings.jobs == ("campaign_windows", "trending_pages", "page_totals")


def test_variables_override_defaults_and_what_follows_from_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """KAFKA_PORT moves the bootstrap address and DATA_DIR moves the checkpoints, the log and the results."""
    monkeypatch.setenv("KAFKA_PORT", "9092")
    monkeypatch.setenv("DATA_DIR", "/srv/stack")
    monkeypatch.setenv("JOBS", "page_totals, trending_pages")
    settings = load_settings()
    assert settings.kafka_bootstrap == "127.0.0.1:9092"
    assert settings.checkpoint_dir == Path("/srv/stack/checkpoints")
    assert (settings.log_dir, settings.results_path) == (
        Path("/srv/stack/log"),
        Path("/srv/stack/results.sqlite3"),
    )
    assert settings.jobs == ("page_totals", "trending_pages")


def test_variable_set_to_nothing_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable, as make passes one on, leaves the default."""
    monkeypatch.setenv("STACK", "")
    assert load_settings().stack == "processes"


@pytest.mark.parametrize("more", [{}, {"task_timeout": 2.5, "backpressure": True, "initial_rate": 40.5}])
def test_environment_of_settings_gives_the_same_settings(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    """The variables made of settings, read again, give equal settings."""
    settings = Settings(
        stack="embedded", jobs=("page_totals",), batch_seconds=0.5, cassandra_hosts=("a", "b"), seed=7, **more
    )
    for variable, value in settings.environment().items():
        monkeypatch.setenv(variable, value)
    assert load_settings() == settings


def test_settings_made_by_hand_ignore_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings made by hand take nothing from the environment."""
    monkeypatch.setenv("SEED", "5")
    assert Settings().seed == 1


def test_settings_are_frozen() -> None:
    """A setting cannot be changed."""
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.seed = 2


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("STACK", "docker", "'processes', 'embedded' or 'compose'"),
        ("KAFKA_PORT", "0", "greater than or equal to 1"),
        ("KAFKA_PORT", "70000", "less than or equal to 65535"),
        ("CASSANDRA_PORT", "many", "it must be a whole number"),
        ("KAFKA_BOOTSTRAP", "broker", "HOST:PORT"),
        ("CASSANDRA_HOSTS", ",", "at least 1"),
        ("KEYSPACE", "Pipe line", "lower case letters"),
        ("APP", "a/b", "letters, digits"),
        ("JOBS", "page_totals,nothing", "choose from campaign_windows, trending_pages, page_totals"),
        ("JOBS", "page_totals,page_totals", "each only once"),
        ("MASTER", "yarn", "local, local[N], local[*] or spark://HOST:PORT"),
        ("MASTER", "local[0]", "local, local[N], local[*] or spark://HOST:PORT"),
        ("MASTER", "spark://host", "local, local[N], local[*] or spark://HOST:PORT"),
        ("BATCH_SECONDS", "0", "greater than 0"),
        ("BATCH_SECONDS", "0.0001", "whole number of milliseconds"),
        ("BATCH_SECONDS", "nan", "less than or equal to"),
        ("MAX_RATE_PER_PARTITION", "-1", "greater than or equal to 1"),
        ("BACKPRESSURE", "perhaps", "it must be true or false"),
        ("INITIAL_RATE", "0", "greater than 0"),
        ("INITIAL_RATE", "inf", "finite number"),
        ("TASK_TIMEOUT", "0", "greater than 0"),
        ("TASK_TIMEOUT", "soon", "it must be a number"),
        ("AD_RATE", "1.5", "it must be a whole number"),
        ("SEED", "x", "it must be a whole number"),
        ("AD_PARTITIONS", "0", "greater than or equal to 1"),
    ],
)
def test_malformed_value_is_refused_in_one_sentence(
    variable: str, value: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that is not valid is refused with variable, value and remedy in one line."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as refusal:
        load_settings()
    sentence = str(refusal.value)
    assert sentence.startswith(
        f"{variable}={value!r} is not valid: it " if variable != "JOBS" else f"{variable}="
    )
    assert remedy in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("master", "is_on_spark"),
    [("local[4]", False), ("spark://127.0.0.1:7077", True), ("spark://one:7077,two:7077", True)],
)
def test_a_cluster_is_a_master_too(master: str, is_on_spark: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """MASTER names executors of this machine or a Spark cluster, with its standby masters behind commas."""
    monkeypatch.setenv("MASTER", master)

    assert load_settings().is_on_spark == is_on_spark


@pytest.mark.parametrize("master", ["local", "spark://127.0.0.1:7077"])
def test_limit_of_tasks_that_nobody_ends_is_refused(master: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """TASK_TIMEOUT without executors of ours is refused with both variables."""
    monkeypatch.setenv("TASK_TIMEOUT", "30")
    monkeypatch.setenv("MASTER", master)
    with pytest.raises(ConfigurationError, match=f"TASK_TIMEOUT=30 needs .* MASTER={master} has none"):
        load_settings()


def test_rate_that_nobody_begins_with_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """INITIAL_RATE without backpressure is refused with both variables."""
    monkeypatch.setenv("INITIAL_RATE", "400")
    with pytest.raises(
        ConfigurationError, match=r"INITIAL_RATE=400 .* BACKPRESSURE is off; set BACKPRESSURE=true"
    ):
        load_settings()


def test_two_ports_must_not_be_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is given twice is refused with both variables."""
    monkeypatch.setenv("METRICS_PORT", "19042")
    with pytest.raises(
        ConfigurationError, match="METRICS_PORT=19042 is also CASSANDRA_PORT; give each its own port"
    ):
        load_settings()


def test_base_environment_keeps_the_path_and_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child process inherits how to find programs, and nothing that would change what it does."""
    monkeypatch.setenv("SEED", "5")
    monkeypatch.setenv("PYTHONHASHSEED", "5")
    assert base_environment()["PATH"] == os.environ["PATH"]
    assert not {"SEED", "PYTHONHASHSEED"} & set(base_environment())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("port taken"), 2),
        (CheckpointError("another app's"), 2),
        (CorruptLogError("frame 3"), 2),
        (SourceError("no such topic"), 2),
        (SinkError("no such column"), 1),
    ],
)
def test_exit_code_tells_refusals_from_failures(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refusal ends with 2 and another error of the engine with 1, each with its sentence on standard error."""

    def main() -> None:
        raise error

    assert exit_code(main) == code
    assert capsys.readouterr().err == f"{error}\n"


def test_exit_code_shows_the_users_own_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """An error in a user's function is shown with the traceback from where it happened."""

    def main() -> None:
        raise UserFunctionError("KeyError: 'page' in page_totals", "Traceback: line 7")

    assert exit_code(main) == 1
    assert capsys.readouterr().err == "Traceback: line 7\nKeyError: 'page' in page_totals\n"


def test_exit_code_is_what_main_returns() -> None:
    """A main that returns nothing ends with 0, one that returns a number with that."""
    assert exit_code(lambda: None) == 0
    assert exit_code(lambda: 3) == 3


def test_other_errors_keep_their_traceback() -> None:
    """An error that is not the engine's is a fault of the program and is not hidden."""
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 // 0)


@pytest.mark.slow
def test_command_line_ends_with_two_and_no_traceback(tmp_path: Path) -> None:
    """A program that is started with a wrong variable says so in one line and ends with 2."""
    environment = base_environment() | {"DATA_DIR": str(tmp_path), "SEED": "x"}
    done = subprocess.run(
        [sys.executable, "-m", "services.sqlite.migrate"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "SEED='x' is not valid: it must be a whole number\n"


def test_no_other_module_of_the_services_reads_the_environment() -> None:
    """os.environ and os.getenv appear in services/settings.py and in no other module of the services and the stack."""
    own = Path(inspect.getfile(module))
    readers = [
        path
        for folder in ("services", "tools/stack")
        for path in (REPOSITORY / folder).rglob("*.py")
        if re.search(r"os\.environ|os\.getenv|getenv\(", path.read_text(encoding="utf-8"))
    ]
    assert readers == [own]


def test_name_that_looks_like_a_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt variable changes nothing, and is named with the one that was meant."""
    monkeypatch.setenv("METRIC_PORT", "20000")

    assert load_settings() == Settings()
    assert (
        capsys.readouterr().err == "METRIC_PORT is not a setting and is ignored; did you mean METRICS_PORT?\n"
    )
