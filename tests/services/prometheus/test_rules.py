"""What Prometheus is given, proven without a running pipeline.

It parses, every rule asks for metrics that exist, every alert has its three cases and its section in the runbook.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.settings import REPOSITORY, Settings
from tests.grafana.boards_world import exported, metrics_in, scrape_intervals
from tests.services.prometheus.live_world import NOT_LIVE, SCENES
from tools.stack.folder import Folder
from tools.stack.monitors import prometheus_program

HOME = REPOSITORY / "services" / "prometheus"
TESTS = sorted((HOME / "tests").glob("*.yml"))
RUNBOOK = REPOSITORY / "docs" / "alerts.md"
LEAST_ALERTS = 17
METRICS = exported() | {"scrape_duration_seconds"}
"""What the code, the agents and Prometheus itself export, and what rules record."""
LEAST_SCRAPES = 4
"""In the range of a rate: fewer leave it empty when one fails."""
_SERVICES = {"verify": "verifier", "chaos": "verifier", "topic": "engine", "job": "engine", "up": "engine"}


@cache
def loaded(path: Path) -> Any:
    """A YAML file."""
    return yaml.safe_load(path.read_text())


def rules(name: str) -> list[Mapping[str, Any]]:
    """The rules of a file."""
    return [rule for group in loaded(HOME / "rules" / f"{name}.yml")["groups"] for rule in group["rules"]]


ALERTS = rules("alerts")
INTERVALS = scrape_intervals()


def name_of(alert: Mapping[str, Any]) -> str:
    """What tells an alert from the others: its name, and its severity, as one may have two."""
    return f"{alert['alert']}-{alert['labels']['severity']}"


def cases(alert: Mapping[str, Any]) -> Iterator[list[bool]]:
    """For each group of promtool's tests that looks at the alert: whether it fires, in the order of time."""
    severity = alert["labels"]["severity"]
    for path in TESTS:
        for group in loaded(path)["tests"]:
            looks = [look for look in group["alert_rule_test"] if look["alertname"] == alert["alert"]]
            looks.sort(key=lambda look: int(look["eval_time"].removesuffix("s")))
            if looks:
                yield [
                    any(found["exp_labels"]["severity"] == severity for found in look.get("exp_alerts", ()))
                    for look in looks
                ]


def test_configuration_and_rules_parse(promtool: Callable[..., str]) -> None:
    """The tool of Prometheus finds no fault in the configuration and in the rules that it names."""
    said = promtool("check", "config", HOME / "prometheus.yml")

    assert f"{len(ALERTS)} rules found" in said
    assert f"{len(rules('recording'))} rules found" in said


@pytest.mark.slow
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_rules_do_what_their_tests_say(promtool: Callable[..., str], path: Path) -> None:
    """The tests of the rules pass."""
    assert "SUCCESS" in promtool("test", "rules", path)


def test_there_are_enough_alerts() -> None:
    """The pipeline is watched by at least so many alerts."""
    assert len({alert["alert"] for alert in ALERTS}) >= LEAST_ALERTS


@pytest.mark.parametrize("alert", ALERTS, ids=name_of)
def test_each_alert_has_its_three_cases(alert: Mapping[str, Any]) -> None:
    """The tests of the rules show each alert silent, then firing, then silent again."""
    found = ["".join("x" if fires else "." for fires in case) for case in cases(alert)]

    assert any(re.search(r"\.x+\.", case) for case in found), found


def test_each_alert_fires_live_or_has_a_reason_not_to() -> None:
    """The scenes on the running pipeline raise every alert, but for those that have a reason, and no other."""
    raised = frozenset().union(*SCENES.values())

    assert raised & set(NOT_LIVE) == set()
    assert raised | set(NOT_LIVE) == {name_of(alert) for alert in ALERTS}


def test_runbook_says_what_is_shown_live() -> None:
    """The runbook's tables have every scene with its alerts, and every alert that promtool alone shows with the reason."""
    rows = re.findall(
        r"^\| ([a-zA-Z ]+) \|[^|]+\| ((?:[A-Z]\w+(?:, )?)+) \|$", RUNBOOK.read_text(), re.MULTILINE
    )
    reasons = re.findall(r"^\| ([A-Z]\w+) \| promtool only: ([^|]+) \|$", RUNBOOK.read_text(), re.MULTILINE)

    assert {scene: set(names.split(", ")) for scene, names in rows} == {
        scene: {name.partition("-")[0] for name in names} for scene, names in SCENES.items()
    }
    assert dict(reasons) == {name.partition("-")[0]: reason for name, reason in NOT_LIVE.items()}


@pytest.mark.parametrize("alert", ALERTS, ids=name_of)
def test_each_alert_says_what_to_do(alert: Mapping[str, Any]) -> None:
    """Each alert has a severity, a summary, a description, a dashboard that exists and a section of the runbook."""
    notes = alert["annotations"]
    heading = f"## {alert['alert']}\n"
    section = RUNBOOK.read_text().partition(heading)[2].partition("\n## ")[0]
    boards = {
        json.loads(path.read_text())["title"]
        for path in (REPOSITORY / "grafana" / "dashboards").glob("*.json")
    }

    assert alert["labels"] == {"severity": "critical"} or alert["labels"] == {"severity": "warning"}
    assert set(notes) == {"summary", "description", "runbook", "dashboard"}
    assert notes["runbook"] == f"docs/alerts.md#{alert['alert'].lower()}"
    assert notes["dashboard"] in boards
    for part in ("**Means:**", "**Bad looks like:**", "**Look at:**"):
        assert part in section, f"section {alert['alert']} of docs/alerts.md lacks {part}"


def test_runbook_has_no_section_without_an_alert() -> None:
    """The runbook's sections are the alerts, and no others."""
    assert set(re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE)) == {
        alert["alert"] for alert in ALERTS
    }


@pytest.mark.parametrize("alert", ALERTS, ids=name_of)
def test_links_are_none_that_a_page_would_follow(alert: Mapping[str, Any]) -> None:
    """What names a file or a board is text: only an absolute address is under a key that pages make a link of."""
    for key, text in alert["annotations"].items():
        assert key.endswith("_url") == text.startswith("http"), key
        assert not text.startswith("/"), key


def values_of(text: str) -> list[float | None]:
    """The samples of a series in promtool's notation; None where there is none.

    Example:
        >>> values_of("1+2x2 stale _x2 7x1")
        [1.0, 3.0, 5.0, None, None, None, 7.0, 7.0]
    """
    found: list[float | None] = []
    for part in text.split():
        first, _, times = part.partition("x")
        match = re.fullmatch(r"(-?[\d.e]+)([+-][\d.e]+)?", first)
        if match is None:
            found += [None] * (int(times or 1) if first == "_" else 1)
        else:
            found += [float(match[1]) + float(match[2] or 0) * step for step in range(int(times or 0) + 1)]
    return found


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_no_test_completes_batches_without_committing(path: Path) -> None:
    """Where a test counts completed batches, its last commit is newer as well: the engine tells both at once, after the commit."""
    for group in loaded(path)["tests"]:
        series = {line["series"]: values_of(line["values"]) for line in group["input_series"]}
        ages = [
            values for name, values in series.items() if name.startswith("engine_last_commit_time_seconds")
        ]
        for name, completed in series.items():
            if not ages or not name.startswith('engine_batches_total{outcome="completed"'):
                continue
            for (had, has), (old, new) in zip(pairwise(completed), pairwise(ages[0]), strict=False):
                if None not in {had, has, old, new} and has != had:
                    assert new != old, group["name"]


@pytest.mark.parametrize(
    "rule", [*rules("recording"), *ALERTS], ids=lambda rule: rule.get("record") or name_of(rule)
)
def test_rules_ask_for_metrics_that_exist(rule: Mapping[str, Any]) -> None:
    """Every metric in a rule is one that the code exports, or that another rule records."""
    asked = metrics_in(rule["expr"])

    assert asked
    assert asked - METRICS == set()


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_series_of_the_tests_exist(path: Path) -> None:
    """The tests of the rules feed the rules with metrics that the code exports."""
    series = {
        re.split(r"[{ ]", line["series"])[0]
        for group in loaded(path)["tests"]
        for line in group["input_series"]
    }

    assert series - METRICS == set()


@pytest.mark.parametrize(
    "rule", [*rules("recording"), *ALERTS], ids=lambda rule: rule.get("record") or name_of(rule)
)
def test_ranges_hold_enough_scrapes(rule: Mapping[str, Any]) -> None:
    """The range of every rate holds at least four scrapes of the service that is asked."""
    found = re.findall(r"([a-zA-Z_:][\w:]*)(?:\{[^}]*\})?\[(\d+)([smh])\]", rule["expr"])
    short = []
    for metric, number, unit in found:
        service = re.split("[_:]", metric)[0]
        interval = INTERVALS[_SERVICES.get(service, "engine" if service == "process" else service)]
        if int(number) * {"s": 1, "m": 60, "h": 3_600}[unit] < LEAST_SCRAPES * interval:
            short.append((metric, number + unit))

    assert short == []


def test_only_a_hanging_scrape_takes_as_long_as_the_stalled_alert_asks() -> None:
    """EngineStalled's bound for a scrape that hangs lies just below the time limit of the engine's scrapes."""
    (stalled,) = (alert for alert in ALERTS if alert["alert"] == "EngineStalled")
    bound = float(re.findall(r"scrape_duration_seconds\{[^}]*\} < ([\d.]+)", stalled["expr"])[0])
    limit = loaded(HOME / "prometheus.yml")["global"]["scrape_timeout"]

    assert 0.9 * float(limit.removesuffix("s")) < bound < float(limit.removesuffix("s"))


def test_every_target_is_scraped(tmp_path: Path) -> None:
    """In containers and as plain processes the targets are the services of the scrape configuration, each under its own label."""
    jobs = [job["job_name"] for job in loaded(HOME / "prometheus.yml")["scrape_configs"]]
    folder = Folder(tmp_path)
    folder.make()
    prometheus_program(Settings(data_dir=tmp_path), folder)
    own = json.loads((folder.conf / "prometheus" / "targets" / "stack.json").read_text())
    compose = json.loads((HOME / "targets" / "compose.json").read_text())

    assert sorted(target["labels"]["service"] for target in own) == sorted(jobs)
    assert sorted(target["labels"]["service"] for target in compose) == sorted(jobs)


@pytest.mark.parametrize("server", ["kafka", "cassandra"])
def test_agents_ask_for_a_short_list_of_beans(server: str) -> None:
    """What the agent asks a server for is a list of its own, and each rule gives counters and gauges their names."""
    found = loaded(HOME / "jmx" / f"{server}.yml")

    assert 0 < len(found["includeObjectNames"]) <= 25
    for rule in found["rules"]:
        assert rule["name"].startswith(f"{server}_")
        assert (rule["type"] == "COUNTER") == rule["name"].endswith("_total"), rule["name"]
        assert rule["help"]
