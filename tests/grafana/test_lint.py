"""The boards as files: generated, complete, without overlap, and asking for nothing that nobody exports."""

import copy
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grafana.board import PAGES
from grafana.boards import documents
from grafana.expressions import RULES, SLACK_SECONDS, STALLED, STALLED_AFTER, STALLED_INTERVALS, while_none
from services.settings import Settings
from tests.grafana.boards_world import (
    FOLDER,
    PLACEHOLDERS,
    Variables,
    boards,
    data_source,
    expressions_of,
    faults_of,
    in_one_file,
    metrics_in,
    panels_of,
    recorded,
    rules,
    scrape_intervals,
    service_of,
)

Board = dict[str, Any]

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool (package prometheus)"
)


def parse(expressions: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """What promtool says of expressions."""
    path = folder / "expressions.yml"
    path.write_text(in_one_file(expressions))
    return subprocess.run(
        ["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False
    )


def test_files_are_what_the_code_makes() -> None:
    """Every file of a board is what `python -m grafana` writes, and there is no other."""
    made = documents()

    assert {path.name for path in FOLDER.glob("*.json")} == set(made)
    assert [name for name, text in made.items() if (FOLDER / name).read_text() != text] == []


@pytest.mark.parametrize("name", sorted(boards()))
def test_board_has_no_fault(name: str) -> None:
    """A board keeps every rule of the house."""
    assert faults_of(name, boards()[name]) == []


def test_boards_share_neither_uid_nor_title(figures: Callable[[str], None]) -> None:
    """No two boards have the same uid or title, there are four of them, and they have 45 panels and more."""
    all_boards = boards()
    panels = [panel for name, board in all_boards.items() for panel in panels_of(name, board)]
    figures(
        f"boards: {len(all_boards)}, panels: {len(panels)}, queries: {sum(len(p.targets) for p in panels)}"
    )

    assert len({board["uid"] for board in all_boards.values()}) == 4
    assert len({board["title"] for board in all_boards.values()}) == 4
    assert len(panels) >= 45


def test_boards_link_to_one_another_and_to_both_pages() -> None:
    """Every board has links to the boards of its tag, to the streaming page and to the alerts, and the tag is its own."""
    for board in boards().values():
        links = {link["title"]: link for link in board["links"]}

        assert set(links["Boards"]["tags"]) <= set(board["tags"])
        assert links["Streaming page"]["url"].startswith("${streaming_page}")
        assert links["Alerts and runbook"]["url"].startswith("${prometheus_page}")


def test_pages_are_where_the_settings_put_them() -> None:
    """The addresses of the other pages have the default ports of the settings; who has moved them sees a field to type another."""
    settings = Settings()
    ports = {"streaming_page": settings.metrics_port, "prometheus_page": settings.prometheus_port}

    assert set(PAGES) == set(ports)
    for board in boards().values():
        variables = {variable["name"]: variable for variable in board["templating"]["list"]}
        for name, port in ports.items():
            assert variables[name]["type"] == "textbox"
            assert not variables[name].get("hide")
            assert variables[name]["label"]
            assert variables[name]["query"] == f"http://127.0.0.1:{port}"
            assert variables[name]["current"]["value"] == variables[name]["query"]
        (others,) = (link for link in board["links"] if link["type"] == "dashboards")
        assert others["includeVars"]


def test_annotations_tell_restart_drill_recovery_alert_and_checkpoint() -> None:
    """Every board draws starts, drills from begin to end, recoveries, alerts and checkpoint failures, every two seconds."""
    for name, board in boards().items():
        found = {annotation["name"]: annotation for annotation in board["annotations"]["list"]}

        assert set(found) == {
            "Engine start", "Drill", "Drill begins", "Drill ends", "Recovered", "Alert", "Checkpoint failure",
        }, name  # fmt: skip
        assert {annotation["step"] for annotation in found.values()} == {
            data_source()["jsonData"]["timeInterval"]
        }
        for label in ("Engine start", "Drill begins", "Drill ends"):
            assert re.search(r"_time_seconds( > 0\))? \* 1000$", found[label]["expr"])
            assert found[label]["useValueForTime"] is True


def test_bounds_of_stats_come_from_a_query() -> None:
    """A stat whose red bound is a metric takes it from a query that it does not show."""
    bounded = [
        panel
        for name, board in boards().items()
        for panel in panels_of(name, board)
        if "configFromData" in [step["id"] for step in panel.facts.get("transformations", [])]
    ]

    assert len(bounded) >= 5
    for panel in bounded:
        step = panel.facts["transformations"][0]["options"]
        target = {target["refId"]: target for target in panel.targets}[step["configRefId"]]
        assert target["legendFormat"] == step["mappings"][0]["fieldName"]
        assert panel.facts["fieldConfig"]["defaults"]["thresholds"]["steps"] == [
            {"color": "green", "value": None}
        ]


def test_typed_bounds_belong_to_a_ratio_or_a_count() -> None:
    """Bounds that are numbers stand only where the value is a share, a count of intervals, or a count of what must not be."""
    allowed = {"percentunit", "short"}
    wrong = [
        panel.place
        for name, board in boards().items()
        for panel in panels_of(name, board)
        if len(panel.facts["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])) > 1
        and panel.facts["fieldConfig"]["defaults"]["unit"] not in allowed
    ]

    assert wrong == []


def test_rates_hold_four_scrapes() -> None:
    """Every range of a rate holds four scrapes of the slowest of its metrics, as Prometheus scrapes them."""
    intervals = scrape_intervals()
    wrong = []
    for name, board in boards().items():
        for panel in panels_of(name, board):
            for target in panel.targets:
                if "$__rate_interval" in target["expr"]:
                    jobs = {job for job in intervals if job in service_of(target["expr"])}
                    slowest = max(intervals[job] for job in jobs)
                    if Variables(board, target=target).rate_seconds < 4 * slowest:
                        wrong.append(f"{panel.place} {target['refId']}: {sorted(jobs)}")

    assert data_source()["jsonData"]["timeInterval"] == f"{min(intervals.values())}s"
    assert wrong == []


def test_panels_and_alerts_lead_to_one_another() -> None:
    """Every section of the runbook that a panel names is an alert's, every alert is named by a panel, and leads to a board."""
    named = {
        anchor
        for name, board in boards().items()
        for panel in panels_of(name, board)
        for anchor in re.findall(r"docs/alerts\.md#(\w+)", panel.facts["description"])
    }
    alerts = [rule for rule in rules() if "alert" in rule]
    titles = {board["title"] for board in boards().values()}

    assert named == {rule["alert"].lower() for rule in alerts}
    assert [rule["alert"] for rule in alerts if rule["annotations"]["dashboard"] not in titles] == []


def test_boards_and_alert_agree_on_a_stall() -> None:
    """A commit is too old on every board as it is for the alert: so many intervals, and the slack of two scrapes and more."""
    (alert,) = (rule for rule in rules() if rule.get("alert") == "EngineStalled")
    usual = scrape_intervals()["engine"]
    ages = {
        panel.place: panel.expressions
        for name, board in boards().items()
        for panel in panels_of(name, board)
        if {"engine:checkpoint_age:seconds", "engine:batches_behind:count"} & set(panel.expressions)
    }

    assert f"> {STALLED} * engine:batch_interval:seconds + {SLACK_SECONDS}" in alert["expr"]
    assert 2 * usual < SLACK_SECONDS <= 3 * usual
    assert len(ages) >= 5
    for place, expressions in ages.items():
        assert {STALLED_AFTER, STALLED_INTERVALS} & set(expressions), place


def test_every_placeholder_is_there() -> None:
    """Each panel that may have a placeholder has one."""
    found = {
        panel.place
        for name, board in boards().items()
        for panel in panels_of(name, board)
        if "or on () " in "".join(panel.expressions) and re.search(r"\b0 \* max", "".join(panel.expressions))
    }

    assert found == PLACEHOLDERS


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("Lag, seconds", "newest committed record"),
        ("Lag, seconds by partition", "newest committed record"),
        ("Drills", "history.jsonl"),
        ("Restored", "executor's"),
        ("Restore took", "executor's"),
    ],
)
def test_descriptions_say_what_the_metric_is(title: str, words: str) -> None:
    """What a panel says it shows is what its metric's own text says, where both were once at odds."""
    (panel,) = (
        panel for name, board in boards().items() for panel in panels_of(name, board) if panel.title == title
    )

    assert words in panel.facts["description"]


@needs_promtool
def test_expressions_parse(tmp_path: Path, figures: Callable[[str], None]) -> None:
    """Prometheus reads every expression of every panel and annotation."""
    expressions = [
        Variables(board).filled(expr)
        for name, board in boards().items()
        for _, expr in expressions_of(name, board)
    ]

    said = parse(expressions, tmp_path)

    assert (said.returncode, said.stderr) == (0, "")
    assert f"{len(expressions)} rules found" in said.stdout
    figures(f"expressions of boards that Prometheus reads: {len(expressions)}")


@needs_promtool
def test_expression_that_does_not_parse_is_found(tmp_path: Path) -> None:
    """Promtool refuses an expression with a bracket too few."""
    assert parse(["sum(rate(up[8s])"], tmp_path).returncode != 0


@pytest.mark.parametrize(
    ("expr", "names"),
    [
        ("up", {"up"}),
        ('sum by (a, b) (rate(c_total{d=~"e(f)", g="}"}[8s]))', {"c_total"}),
        ("max_over_time(sum(topic:x:y)[900s:2s])", {"topic:x:y"}),
        ("a unless on (i) b offset 2s > bool 3 * c", {"a", "b", "c"}),
        ("a * on () group_left () max(b) + 1e3", {"a", "b"}),
    ],
)
def test_metrics_of_an_expression(expr: str, names: set[str]) -> None:
    """Names of metrics are told from functions, labels, words and durations."""
    assert metrics_in(expr) == names


def test_a_name_with_marks_is_escaped_for_a_regular_expression() -> None:
    """A chosen value of a variable is that value alone, whatever it has of regular expressions."""
    variables = Variables(boards()["overview.json"], {"topic": "a.b"})

    assert variables.filled('x{topic=~"$topic"}') == 'x{topic=~"a\\\\.b"}'


# The lint can fail.


def panel(board: Board, kind: str = "timeseries") -> Board:
    """The first panel of a kind."""
    found: Board = next(facts for facts in board["panels"] if facts["type"] == kind)
    return found


def set_field(board: Board, path: str, value: object) -> None:
    """Change one field of the first chart."""
    *way, last = path.split(".")
    facts: Any = panel(board)
    for key in way:
        facts = facts[int(key)] if key.isdigit() else facts[key]
    facts[last] = value


MUTANTS: dict[str, tuple[Callable[[Board], object], str]] = {
    "no unit": (lambda board: set_field(board, "fieldConfig.defaults.unit", ""), "its unit is ''"),
    "no decimals": (lambda board: panel(board)["fieldConfig"]["defaults"].pop("decimals"), "decimals"),
    "no description": (lambda board: set_field(board, "description", ""), "its description does not say"),
    "no command": (
        lambda board: set_field(board, "description", f"{'x' * 20}\n\n**Bad:** so.\n\n**Then:** think."),
        "neither a command nor a page",
    ),
    "unset settings": (
        lambda board: set_field(
            board, "description", f"{'x' * 20}\n\n**Bad:** so.\n\n**Then:** `docker compose config engine`."
        ),
        "shows what was set and not what counts",
    ),
    "data source": (lambda board: set_field(board, "datasource.uid", "prometheus"), "and not the variable's"),
    "data source of a query": (
        lambda board: set_field(board, "targets.0.datasource", {"type": "prometheus", "uid": "x"}),
        "and not the variable's",
    ),
    "unknown metric": (
        lambda board: set_field(board, "targets.0.expr", "engine_speed"),
        "nobody exports engine_speed",
    ),
    "unknown variable": (
        lambda board: set_field(board, "targets.0.expr", 'up{x="$color"}'),
        "no variable 'color'",
    ),
    "made up": (lambda board: set_field(board, "targets.0.expr", "up or vector(0)"), "makes up a value"),
    "typed zero": (
        lambda board: set_field(board, "targets.0.expr", "engine_executors or 0 * max(up)"),
        "a typed zero makes up a value",
    ),
    "typed zero behind": (
        lambda board: set_field(board, "targets.0.expr", "engine_executors or up * 0"),
        "a typed zero makes up a value",
    ),
    "placeholder": (
        lambda board: set_field(board, "targets.0.expr", while_none("engine_executors", RULES, job="none")),
        "a placeholder stands where none may be",
    ),
    "witness": (
        lambda board: set_field(
            board, "targets.0.expr", while_none("engine_executors", "engine_start_time_seconds", job="none")
        ),
        "a placeholder has a witness who does not know",
    ),
    "no regular expression": (
        lambda board: set_field(board, "targets.0.expr", 'up{topic="$topic"}'),
        "needs =~",
    ),
    "plugin": (lambda board: set_field(board, "type", "acme-flow-panel"), "is no panel of Grafana's own"),
    "joined gaps": (
        lambda board: set_field(board, "fieldConfig.defaults.custom.spanNulls", value=True),
        "joins what an outage parts",
    ),
    "legend": (
        lambda board: set_field(board, "options.legend.displayMode", "list"),
        "its legend is no table",
    ),
    "no legend": (lambda board: panel(board)["targets"][0].pop("legendFormat"), "a query has no legend"),
    "no query": (lambda board: set_field(board, "targets", []), "it has no query"),
    "same id": (lambda board: set_field(board, "id", board["panels"][0]["id"]), "two panels have the id"),
    "same title": (
        lambda board: set_field(board, "title", panel(board, "stat")["title"]),
        "two panels have the title",
    ),
    "overlap": (lambda board: set_field(board, "gridPos.y", 0), "lies over"),
    "off the grid": (lambda board: set_field(board, "gridPos.x", 20), "leaves the grid"),
    "refresh": (lambda board: board.update(refresh="1m"), "refresh is '1m'"),
    "unused variable": (
        lambda board: board["templating"]["list"].append({**board["templating"]["list"][0], "name": "spare"}),
        "'spare' is used nowhere",
    ),
}


@pytest.mark.parametrize("fault", MUTANTS)
def test_lint_finds_each_fault(fault: str) -> None:
    """A board with one fault is found out, and by that fault's name."""
    board = copy.deepcopy(boards()["overview.json"])
    change, wanted = MUTANTS[fault]

    change(board)

    found = faults_of("overview.json", board)
    assert [sentence for sentence in found if wanted in sentence], found


def test_recorded_names_are_used_as_they_are_recorded() -> None:
    """Every name with a colon on a board is one that a recording rule makes."""
    asked = {
        metric
        for name, board in boards().items()
        for _, expr in expressions_of(name, board)
        for metric in metrics_in(Variables(board).filled(expr))
        if ":" in metric
    }

    assert asked
    assert asked <= recorded()
    assert not [name for name in asked if not re.fullmatch(r"\w+:\w+:\w+", name)]
