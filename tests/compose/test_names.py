"""What is documented is read, what is read is documented; boards and rules name only what exists."""

from pathlib import Path

import pytest

from engine.sinks.output import DEAD_LETTERS, LEDGER
from services.pipeline.jobs import campaign_windows, page_totals, trending_pages
from services.settings import Settings
from services.topics import AD_EVENTS, PAGE_VIEWS, topics
from tests.compose import names
from tests.compose.model import ROOT, Stack, read_stack
from tests.grafana.boards_world import exported, metrics_in
from tools.replay.letters import REPLAYS
from tools.verify.schema import TABLES

CLOSED = frozenset({"ledger", "closed_form"})
"""What verify counts beside tables of results under the label `table`."""


@pytest.fixture(scope="module")
def stack() -> Stack:
    """The files of this repository."""
    return read_stack()


def test_variables_are_the_same_everywhere(stack: Stack) -> None:
    """Settings, compose file and scripts together read exactly what .env.example and docs/settings.md list."""
    read = {
        *names.variables_of_settings(),
        *names.variables_of_compose(stack.compose_text, stack.dockerfile),
        *names.OWN_COMMANDS,
    }

    assert set(names.variables_of_example()) == read
    assert set(names.variables_of_document()) == read


def test_what_scripts_and_tools_read_is_documented(stack: Stack) -> None:
    """Whatever a script, the makefile, CI or a module reads is a setting, or listed as a variable of one command, and none is listed in vain."""
    settings = set(names.variables_of_document())
    listed, read = names.variables_of_one_command(), names.variables_of_code()

    assert read - settings == listed - settings
    assert listed <= read
    assert settings <= read | set(names.variables_of_settings()) | set(
        names.variables_of_compose(stack.compose_text, stack.dockerfile)
    )


def test_defaults_are_the_same_everywhere(stack: Stack) -> None:
    """A variable has one default, wherever it stands."""
    example, document = names.variables_of_example(), names.variables_of_document()
    settings = names.variables_of_settings()
    compose = names.variables_of_compose(stack.compose_text, stack.dockerfile)

    assert example == document
    assert {name: example[name] for name in settings} == settings
    assert {name: example[name] for name, value in compose.items() if value} == {
        name: value for name, value in compose.items() if value
    }


def test_scripts_read_what_is_documented() -> None:
    """The variables that scripts/up names are documented, and each published port has the variable of its service."""
    text = (ROOT / "scripts/up").read_text()

    for name in (
        *names.OWN_COMMANDS,
        *(name for name in names.variables_of_example() if name.endswith("_PORT")),
    ):
        is_plain = names.readers_of_document()[name] == "plain"
        assert is_plain or name in text + (ROOT / "scripts/settings.sh").read_text(), name


def test_up_checks_every_setting_that_all_read() -> None:
    """The image is asked about each setting that containers take from the host."""
    text = (ROOT / "scripts/up").read_text()
    asked = text.split("settings='")[1].split("'")[0].split()

    assert {name for name, who in names.readers_of_document().items() if who == "all"} == set(asked)


def test_containers_get_every_setting_that_all_read(stack: Stack) -> None:
    """What docs/settings.md says all read is handed into our containers, and no container gets a setting that does not exist."""
    readers = names.readers_of_document()
    settings = {name.upper() for name in Settings.model_fields}

    for service in ("migrate", "producer", "engine", "verifier", "verify"):
        given = set(stack.environment(service))
        assert {name for name, who in readers.items() if who == "all"} <= given
        assert given <= settings
        assert not {name for name in given if readers[name] == "plain"} - {"LISTEN_HOST"}


def test_project_ignores_the_settings_of_its_user() -> None:
    """.env is nobody's but the user's: git and the image leave it out, and lines end with LF wherever it is edited."""
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"
    assert "eol=lf" in (ROOT / ".gitattributes").read_text()


def test_boards_and_rules_name_only_metrics_that_exist() -> None:
    """Every metric in an expression of a board or a rule is in a table of the code, in an agent's list or recorded by a rule."""
    expressions = names.expressions()
    known = exported()

    assert {(file, name) for file, text in expressions for name in metrics_in(text) - known} == set()
    assert len(expressions) >= 45


@pytest.mark.parametrize(
    "text",
    ["rate(engine_batchs_total[1m])", "max(engine_processing_seconds)", 'sum(kafka_lag{topic="x"}) > 0'],
)
def test_metric_that_does_not_exist_is_found(text: str) -> None:
    """A misspelt name, a histogram without its suffix and a metric of somebody else's exporter are not known."""
    assert metrics_in(text) - exported()


def test_boards_and_rules_name_only_topics_and_tables_that_exist() -> None:
    """Topics and tables in the labels of expressions are those that topics and migrations make."""
    made = {topic.name for topic in topics(Settings())}
    tables = names.made_by(ROOT / "services/cassandra", ".cql") | CLOSED

    for file, text in names.expressions():
        assert names.labels_in(text, "topic") <= made, file
        assert names.labels_in(text, "table") <= tables, file
    assert made == {AD_EVENTS, PAGE_VIEWS}


def test_migrations_make_the_tables_of_jobs_and_verify() -> None:
    """Both stores' migrations make the jobs' tables, the ledger, the dead letters and which were sent again, and nothing else."""
    jobs = {job.TABLE.name for job in (campaign_windows, trending_pages, page_totals)}
    cassandra = names.made_by(ROOT / "services/cassandra", ".cql")

    assert cassandra == jobs | {LEDGER.name, DEAD_LETTERS.name, REPLAYS.name}
    assert names.made_by(ROOT / "services/sqlite", ".sql") == cassandra
    assert set(TABLES) <= cassandra


def test_label_of_a_table_that_is_not_made_is_found(tmp_path: Path) -> None:
    """A migration that is gone leaves its table unknown."""
    (tmp_path / "001_results.cql").write_text("CREATE TABLE IF NOT EXISTS page_totals (page text);")

    assert names.made_by(tmp_path, ".cql") == {"page_totals"}
    assert names.labels_in('max(a{table=~"page_totals|campaign_windows",topic="$topic"})', "table") == {
        "page_totals",
        "campaign_windows",
    }
