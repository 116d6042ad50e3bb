"""Names that several files must agree on: variables, metrics, topics and tables, each read from where it stands.

Owns: the readers of names.
Never: a judgement; the tests compare.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.registry import CollectorRegistry

from services.settings import REPOSITORY, Settings
from tests.compose.model import ROOT

OWN_COMMANDS = ("PROFILE", "COMPOSE_PROJECT_NAME")
"""Variables that the scripts read and hand to compose."""

AGENT = frozenset({"jvm_memory_used_bytes", "jvm_memory_max_bytes", "jvm_gc_collection_seconds_sum"})
"""What the JMX agent exports without being told to, as far as boards and rules use it."""

OF_A_SCRAPE = frozenset({"up", "scrape_duration_seconds", "ALERTS"})
"""What Prometheus itself adds."""

_WORDS = frozenset(
    {"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "offset", "bool"}
)
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}


def variables_of_settings() -> dict[str, str]:
    """The settings' variables with their defaults, paths relative to the repository."""
    return {name: value.replace(f"{REPOSITORY}/", "") for name, value in Settings().environment().items()}


def variables_of_example() -> dict[str, str]:
    """The variables of .env.example with the values that stand there."""
    return dict(re.findall(r"^#?([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))


def variables_of_document() -> dict[str, str]:
    """The variables of docs/settings.md with their defaults."""
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| `(.*?)` \|.*\| (all|host|compose|plain) \|$",
        (ROOT / "docs/settings.md").read_text(),
        re.MULTILINE,
    )
    return {name: default for name, default, _ in rows}


def readers_of_document() -> dict[str, str]:
    """Who reads each variable, as docs/settings.md says."""
    return dict(
        re.findall(
            r"^\| `([A-Z_]+)` \|.*\| (all|host|compose|plain) \|$",
            (ROOT / "docs/settings.md").read_text(),
            re.MULTILINE,
        )
    )


def variables_of_compose(text: str, dockerfile: str) -> dict[str, str]:
    """The variables that docker-compose.yml and the Dockerfile read, with their defaults; "" where they have none."""
    found = dict(re.findall(r"(?<!\$)\$\{([A-Z_]+):-([^}]*)\}", text))
    found |= dict(re.findall(r"^ARG ([A-Z_]+)=(\S+)", dockerfile, re.MULTILINE))
    return {name: value.removeprefix("./") for name, value in found.items()}


def expressions() -> list[tuple[str, str]]:
    """Every PromQL expression of boards and rules, with the file where it stands."""
    found = []
    for file in sorted((ROOT / "grafana/dashboards").glob("*.json")):
        found += [(file.name, text) for text in _of_board(json.loads(file.read_text()))]
    for file in sorted((ROOT / "services/prometheus/rules").glob("*.yml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            found += [(file.name, rule["expr"]) for rule in group["rules"]]
    return found


def _of_board(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("expr"), str):
            yield node["expr"]
        if isinstance(node.get("definition"), str):
            yield re.sub(r"^label_values\((.*),[^,]*\)$", r"\1", node["definition"])
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from _of_board(part)


def recorded() -> set[str]:
    """The names that the recording rules make."""
    return {
        rule["record"]
        for file in (ROOT / "services/prometheus/rules").glob("*.yml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }


def metrics_in(expression: str) -> set[str]:
    """The names of metrics in a PromQL expression.

    Example:
        >>> sorted(metrics_in('sum by (topic) (rate(a_total{topic="x"}[5m])) / on (b) c:d:e offset 2s > 3'))
        ['a_total', 'c:d:e']
    """
    text = re.sub(r'"(\\.|[^"\\])*"', "", expression)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\$\w+|\b\d+(\.\d+)?(ms|[smhdwy])?\b|\b1e\d+\b", " ", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    names = re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?![a-zA-Z0-9_:]|\s*\()", text)
    return {name for name in names if name.lower() not in _WORDS}


def labels_in(expression: str, label: str) -> set[str]:
    """The values that an expression compares a label with, without those that Grafana fills in."""
    found = re.findall(rf'\b{label}=~?"([^"$]*)"', expression)
    return {value for text in found for value in text.split("|") if re.fullmatch(r"[\w-]+", value)}


def exported(tables: Iterator[tuple[str, str]]) -> set[str]:
    """Every name that a scrape can give: the tables' rows by kind, the libraries' own, the agents', Prometheus's `up`.

    Args:
        tables: name and kind of each row of the tables of engine, producer and verifier.
    """
    names = {name + suffix for name, kind in tables for suffix in _SUFFIXES[kind]}
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    names |= {sample.name for family in registry.collect() for sample in family.samples}
    for file in (ROOT / "services/prometheus/jmx").glob("*.yml"):
        names |= {rule["name"] for rule in yaml.safe_load(file.read_text())["rules"]}
    return names | AGENT | OF_A_SCRAPE


def made_by(folder: Path, suffix: str) -> set[str]:
    """The tables that the migrations of a store make."""
    text = "\n".join(file.read_text() for file in sorted(folder.glob(f"*{suffix}")))
    return set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", text))
