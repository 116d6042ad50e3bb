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

NOT_OURS = {
    "PWD": "the shell's",
    "SECONDS": "bash's own clock",
    "MAKEFILE_LIST": "make's",
    "MAKECMDGOALS": "make's",
}
"""Names that commands use and nobody sets, each with whose it is."""

_SHELL = re.compile(r"\$\{?([A-Z][A-Z0-9_]*)(\}|:?[-+=?])?")
_MAKE = re.compile(r"(?<!\$)\$\(([A-Z][A-Z0-9_]*)\)")
_PYTHON = re.compile(
    r'(?:environ\.(?:get|pop)\(|environ\[|getenv\(|envvar=)"([A-Z][A-Z0-9_]*)"|"([A-Z][A-Z0-9_]*)" (?:not )?in os\.environ'
)


def read_by_shell(text: str) -> set[str]:
    """The variables that shell scripts take from outside: those with a word for their absence, and those that nobody sets.

    Example:
        >>> sorted(read_by_shell('LIST=a; echo "$LIST ${WIPE:-} $HOME $((1))"'))
        ['HOME', 'WIPE']
    """
    text = re.sub(r"^\s*#.*", "", text, flags=re.MULTILINE)
    own = set(re.findall(r"(?:^|[\s;(])([A-Z][A-Z0-9_]*)=", text))
    found = {(name, bool(mark and mark != "}")) for name, mark in _SHELL.findall(text)}
    return {name for name, has_word in found if has_word or name not in own}


def read_by_make(text: str) -> set[str]:
    r"""The variables that a makefile takes from outside: all that it uses, but for those that it sets by = or :=.

    Example:
        >>> sorted(read_by_make("ALL := 1\nPYTHON ?= python3\nx: $(ALL) $(if $(N),$(PYTHON))\n\techo $$HOME"))
        ['N', 'PYTHON']
    """
    own = set(re.findall(r"^(?:export )?([A-Z][A-Z0-9_]*)\s*:?=", text, re.MULTILINE))
    return set(_MAKE.findall(text)) - own


def read_by_python(text: str) -> set[str]:
    """The variables that a module reads from the environment itself, or has its command line read.

    Example:
        >>> sorted(read_by_python('os.environ.get("A_B", ""); os.environ["C"]; option(envvar="D"); f("E")'))
        ['A_B', 'C', 'D']
    """
    return {name for found in _PYTHON.findall(text) for name in found if name}


def variables_of_code() -> set[str]:
    """Every variable that a script, the makefile, CI or a module reads, those of the shell left out."""
    shell = [*sorted((ROOT / "scripts").iterdir()), ROOT / ".ci/run"]
    found = read_by_shell("\n".join(file.read_text() for file in shell))
    found |= read_by_make((ROOT / "Makefile").read_text())
    for package in ("engine", "services", "tools", "grafana", "examples"):
        for file in sorted((ROOT / package).rglob("*.py")):
            found |= read_by_python(file.read_text())
    return found - set(NOT_OURS)


def variables_of_one_command() -> set[str]:
    """The variables that docs/settings.md lists as those of one command."""
    text = (ROOT / "docs/settings.md").read_text().partition("## Of one command")[2]
    return set(re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE))


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
