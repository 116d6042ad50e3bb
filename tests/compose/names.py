"""Names that several files must agree on: variables, topics and tables, each read from where it stands.

Owns: the readers of names.
Never: a judgement; the tests compare.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from services.settings import REPOSITORY, Settings
from tests.compose.model import ROOT

OWN_COMMANDS = ("PROFILE", "COMPOSE_PROJECT_NAME")
"""Variables that the scripts read and hand to compose."""


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


def labels_in(expression: str, label: str) -> set[str]:
    """The values that an expression compares a label with, without those that Grafana fills in."""
    found = re.findall(rf'\b{label}=~?"([^"$]*)"', expression)
    return {value for text in found for value in text.split("|") if re.fullmatch(r"[\w-]+", value)}


def made_by(folder: Path, suffix: str) -> set[str]:
    """The tables that the migrations of a store make."""
    text = "\n".join(file.read_text() for file in sorted(folder.glob(f"*{suffix}")))
    return set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", text))
