"""What the tests of the boards share: reading them, filling in Grafana's variables, and the faults that a board can have.

Owns: Panel, panels_of, filled, faults_of, Variables, metrics_in, exported, measured.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from engine.monitoring import table as engine
from services.pipeline import web as replica
from services.producer import metrics as producer
from services.settings import REPOSITORY
from tests.samples import names_of
from tools.verify import metrics as verifier

FOLDER = REPOSITORY / "grafana" / "dashboards"
PROVISIONING = REPOSITORY / "grafana" / "provisioning"
RULES = REPOSITORY / "services" / "prometheus" / "rules"
JMX = REPOSITORY / "services" / "prometheus" / "jmx"

RANGE_SECONDS = 900
"""The boards open on 15 minutes, in about a thousand points, so a step is never below the scrape interval."""

OTHERS = {
    "up", "ALERTS", "scrape_duration_seconds", "prometheus_rule_group_rules",
    "process_start_time_seconds", "process_cpu_seconds_total", "process_resident_memory_bytes",
    "jvm_memory_used_bytes", "jvm_gc_collection_seconds_sum",
}  # fmt: skip
"""What Prometheus and the libraries export of themselves; that they do, the live test shows."""

UNITS = {
    "s", "short", "bytes", "Bps", "percentunit", "ops", "eps", "mps", "recps", "rowsps", "reqps", "wps", "dateTimeFromNow",
}  # fmt: skip
"""Grafana's names of the units in use."""

WORDS = {
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "on",
    "by",
    "group_left",
    "group_right",
    "ignoring",
    "without",
}

OF_REPLICAS = {
    "engine.json: 'Units without owner'",
    "engine.json: 'Units of each replica'",
    "engine.json: 'Owner changes'",
    "engine.json: 'Last takeover'",
}
"""Panels that say on a stack of one engine that there are no replicas."""
PLACEHOLDERS = OF_REPLICAS | {
    "overview.json: 'Alerts firing'",
    "overview.json: 'Alerts that fire'",
    "recovery-drill.json: 'Engine and drill'",
    "recovery-drill.json: 'Newest drill of each fault'",
    "recovery-drill.json: 'Phases of the newest drills'",
    "recovery-drill.json: 'Past drills'",
    "recovery-drill.json: 'Drills'",
}
"""These, and panels that may say that nothing has happened yet, of alerts and of drills."""
WITNESSES = {"prometheus_rule_group_rules", "verify_runs_total", "engine_build_info"}
"""Who knows of alerts, of drills and of units."""
ZERO = re.compile(r'or on \(\) (?:label_replace\()*0 \* max\((\w+)\)(?:, "\w+", "[^"]*", "", ""\))*')
"""What `while_none` puts in the place of what has not happened, with its witness."""

KINDS = {"stat", "timeseries", "state-timeline", "heatmap", "bargauge", "table"}
"""Panels that Grafana has without a plugin."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel with its board's name."""

    board: str
    facts: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Its title."""
        return str(self.facts["title"])

    @property
    def place(self) -> str:
        """How a fault names it."""
        return f"{self.board}: {self.title!r}"

    @property
    def targets(self) -> Sequence[Mapping[str, Any]]:
        """Its queries."""
        targets: Sequence[Mapping[str, Any]] = self.facts.get("targets", [])
        return targets

    @property
    def expressions(self) -> list[str]:
        """Its expressions as they stand in the file."""
        return [target["expr"] for target in self.targets]


def boards() -> dict[str, dict[str, Any]]:
    """The boards by name of the file."""
    return {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels_of(name: str, board: Mapping[str, Any]) -> list[Panel]:
    """The panels of a board, headings left out."""
    return [Panel(name, facts) for facts in board["panels"] if facts["type"] != "row"]


# Variables.


class Variables:
    """Fills in what Grafana fills in.

    Args:
        board: whose variables.
        chosen: by name of a variable a value in place of its default.
        target: the query; its min step counts as the scrape interval.
        range_seconds: the time range of the board.
    """

    def __init__(
        self,
        board: Mapping[str, Any],
        chosen: Mapping[str, str] | None = None,
        target: Mapping[str, Any] | None = None,
        range_seconds: int = RANGE_SECONDS,
    ) -> None:
        scrape = _seconds((target or {}).get("interval") or data_source()["jsonData"]["timeInterval"])
        self.step = max(scrape, range_seconds // 1_000)
        """Grafana's $__interval on a panel of a thousand points, seconds."""
        self.rate_seconds = max(4 * scrape, self.step + scrape)
        """Its $__rate_interval."""
        self._values = {
            "__rate_interval": f"{self.rate_seconds}s",
            "__interval": f"{self.step}s",
            "__range": f"{range_seconds}s",
            **{variable["name"]: _default(variable) for variable in board["templating"]["list"]},
            **{name: _escaped(value) for name, value in (chosen or {}).items()},
        }

    def filled(self, text: str) -> str:
        """The text with the values; a name that nothing gives a value raises KeyError."""
        return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: self._values[found[1] or found[2]], text)


def data_source() -> Mapping[str, Any]:
    """The one data source that is provisioned."""
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"]
    found: Mapping[str, Any] = source
    return found


def scrape_intervals() -> dict[str, int]:
    """By scrape job of Prometheus the seconds between two scrapes."""
    known = yaml.safe_load((RULES.parent / "prometheus.yml").read_text())
    usual = known["global"]["scrape_interval"]
    return {job["job_name"]: _seconds(job.get("scrape_interval", usual)) for job in known["scrape_configs"]}


def _seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def _default(variable: Mapping[str, Any]) -> str:
    if variable["includeAll"]:
        return str(variable["allValue"])
    current = variable.get("current")
    return str(current["value"] if current else variable["query"])


def _escaped(value: str) -> str:
    """As Grafana's Prometheus data source escapes the value of a variable that stands in a regular expression."""
    return re.sub(r"[\\^$*+?.()|\[\]{}]", lambda found: "\\\\" + found[0], value)


# Metrics.


def exported() -> set[str]:
    """Every name of a series that may be asked for."""
    tables = (engine.METRICS, producer.METRICS, verifier.METRICS, replica.METRICS)
    names = OTHERS | recorded() | {name for table in tables for row in table for name in names_of(row)}
    for path in JMX.glob("*.yml"):
        names |= {rule["name"] for rule in yaml.safe_load(path.read_text())["rules"]}
    return names


def recorded() -> set[str]:
    """The names that recording rules make."""
    return {rule["record"] for rule in rules() if "record" in rule}


def rules() -> Iterator[Mapping[str, Any]]:
    """Every rule of Prometheus."""
    for path in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def metrics_in(expr: str) -> set[str]:
    """The names of metrics that an expression asks for.

    Example:
        >>> sorted(metrics_in('sum by (a) (rate(b_total{c="d"}[8s])) / on () max(e)'))
        ['b_total', 'e']
    """
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", expr)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\boffset\s+\w+", "", bare)
    return set(re.findall(r"(?<![\w.:$])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])", bare)) - WORDS


def service_of(expr: str) -> set[str]:
    """The scrape jobs whose metrics an expression asks for."""
    first = {"verify": "verifier", "chaos": "verifier", "jvm": "kafka", "topic": "engine", "job": "engine"}
    names = {re.split("[_:]", metric)[0] for metric in metrics_in(expr)}
    named = set(re.findall(r'service=~?"([\w|]+)"', expr))
    return {first.get(name, name) for name in names} | {part for text in named for part in text.split("|")}


# Faults.


def faults_of(name: str, board: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a board, each in a sentence; what several boards must not share is not looked at."""
    faults = [*_faults_of_board(name, board), *_overlaps(name, board)]
    known = exported()
    for panel in panels_of(name, board):
        faults += [f"{panel.place}: {fault}" for fault in _faults_of_panel(panel, board, known)]
    return faults


def _faults_of_board(name: str, board: Mapping[str, Any]) -> Iterator[str]:
    yield from _twins(name, board)
    wanted = {
        "refresh": "5s",
        "graphTooltip": 1,
        "editable": False,
        "time": {"from": "now-15m", "to": "now"},
    }
    for field, value in wanted.items():
        if board.get(field) != value:
            yield f"{name}: {field} is {board.get(field)!r} and not {value!r}"
    yield from _faults_of_variables(name, board)
    for label, expr in expressions_of(name, board):
        if re.search(r"\bvector\s*\(", expr):
            yield f"{label}: vector() makes up a value"
        yield from (f"{label}: {fault}" for fault in _made_up(label.rpartition(" ")[0], expr))
        if re.search(r'(?<![!=]~)"\$(job|topic|partition)"', expr):
            yield f"{label}: a variable of several values needs =~"


def _made_up(place: str, expr: str) -> Iterator[str]:
    """Values that nobody has measured: a typed zero stands only where `while_none` has put it, and on a panel that may have it."""
    witnesses = ZERO.findall(expr)
    if witnesses and place not in PLACEHOLDERS:
        yield "a placeholder stands where none may be"
    if set(witnesses) - WITNESSES:
        yield "a placeholder has a witness who does not know"
    if re.search(r"(?<![\w.])0(?:\.0*)?\s*\*|[*^]\s*0(?:\.0*)?(?![\w.])", measured(expr)):
        yield "a typed zero makes up a value"


def measured(expr: str) -> str:
    """An expression without its placeholder, if it has one.

    Example:
        >>> measured('2 - max(a or on () label_replace(0 * max(b), "c", "none", "", ""))')
        '2 - max(a )'
    """
    return ZERO.sub("", expr)


def _twins(name: str, board: Mapping[str, Any]) -> Iterator[str]:
    ids = [str(facts["id"]) for facts in board["panels"]]
    titles = [panel.title for panel in panels_of(name, board)]
    for what, values in (("id", ids), ("title", titles)):
        for value in sorted({value for value in values if values.count(value) > 1}):
            yield f"{name}: two panels have the {what} {value}"


def _faults_of_variables(name: str, board: Mapping[str, Any]) -> Iterator[str]:
    variables = board["templating"]["list"]
    users = [json.dumps(board[part]) for part in ("panels", "links", "annotations")]
    used = " ".join([*users, *(str(variable["query"]) for variable in variables)])
    for variable in variables:
        if not re.search(rf"\$\{{?{variable['name']}\b", used):
            yield f"{name}: variable {variable['name']!r} is used nowhere"
        if variable["includeAll"] and variable["current"]["value"] != ["$__all"]:
            yield f"{name}: variable {variable['name']!r} does not begin with All"


def expressions_of(name: str, board: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(where it stands, expression) of every panel and annotation."""
    for panel in panels_of(name, board):
        for target in panel.targets:
            yield f"{panel.place} {target['refId']}", target["expr"]
    for annotation in board["annotations"]["list"]:
        yield f"{name}: annotation {annotation['name']!r}", annotation["expr"]


def _faults_of_panel(panel: Panel, board: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    facts = panel.facts
    defaults = facts.get("fieldConfig", {}).get("defaults", {})
    if facts["type"] not in KINDS:
        yield f"{facts['type']!r} is no panel of Grafana's own that the boards use"
    if defaults.get("unit") not in UNITS:
        yield f"its unit is {defaults.get('unit')!r}"
    if not 0 <= defaults.get("decimals", -1) <= 4:
        yield "its decimals are not bounded"
    if not panel.targets:
        yield "it has no query"
    for source in [facts.get("datasource"), *(target.get("datasource") for target in panel.targets)]:
        if source != {"type": "prometheus", "uid": "${datasource}"}:
            yield f"its data source is {source!r} and not the variable's"
    yield from _faults_of_description(facts.get("description", ""))
    if facts["type"] == "timeseries":
        yield from _faults_of_chart(panel)
    yield from _faults_of_expressions(panel, Variables(board), known)


def _faults_of_chart(panel: Panel) -> Iterator[str]:
    legend = panel.facts["options"]["legend"]
    if (legend["displayMode"], legend["calcs"]) != ("table", ["lastNotNull", "max", "mean"]):
        yield "its legend is no table of last, max and mean"
    if panel.facts["fieldConfig"]["defaults"]["custom"]["spanNulls"] is not False:
        yield "it joins what an outage parts"
    if not all(target.get("legendFormat") for target in panel.targets):
        yield "a query has no legend"


def _faults_of_expressions(panel: Panel, variables: Variables, known: set[str]) -> Iterator[str]:
    for expr in panel.expressions:
        try:
            unknown = sorted(metrics_in(variables.filled(expr)) - known)
        except KeyError as missing:
            yield f"the board has no variable {missing.args[0]!r}"
            continue
        if unknown:
            yield f"nobody exports {', '.join(unknown)}"


def _faults_of_description(text: str) -> Iterator[str]:
    if not re.fullmatch(r"[^\n]{20,}\n\n\*\*Bad:\*\* [^\n]+\.\n\n\*\*Then:\*\* [^\n]+\.", text):
        yield "its description does not say what it shows, what is bad, and what to do then"
        return
    then = text.rpartition("**Then:**")[2]
    if not re.search(r"`[^`]+`|\]\(\$\{\w+_page\}/|\bboards? \d|docs/\w+\.md", then):
        yield "its description names neither a command nor a page"
    if "docker compose config" in then:
        yield "`docker compose config` shows what was set and not what counts: a default is empty there"
    for path, anchor in re.findall(r"(docs/\w+\.md)(?:#(\w+))?", text):
        if (REPOSITORY / path).exists() and anchor and anchor not in anchors(REPOSITORY / path):
            yield f"{path} has no section {anchor!r}"


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as pages of repositories make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def _overlaps(name: str, board: Mapping[str, Any]) -> Iterator[str]:
    """Panels that lie over one another or beyond the grid."""
    seen: dict[tuple[int, int], str] = {}
    for facts in board["panels"]:
        at = facts["gridPos"]
        if at["x"] + at["w"] > 24 or min(at["w"], at["h"]) < 1:
            yield f"{name}: {facts['title']!r} leaves the grid"
        cells = [(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]
        for other in sorted({seen[cell] for cell in cells if cell in seen}):
            yield f"{name}: {facts['title']!r} lies over {other!r}"
        seen.update(dict.fromkeys(cells, facts["title"]))


def in_one_file(expressions: Iterable[str]) -> str:
    """A file of recording rules with the expressions, for promtool."""
    rules = [{"record": f"expression:{number}", "expr": expr} for number, expr in enumerate(expressions)]
    return yaml.safe_dump({"groups": [{"name": "expressions", "rules": rules}]})
