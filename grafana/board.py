"""A board: rows of panels on Grafana's grid of 24 columns, with the variables, annotations and links that all boards share.

Owns: Panels, Row, Board, document.
Never: a panel's content.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from grafana.expressions import ANNOTATIONS
from grafana.panels import DATASOURCE

COLUMNS: Final = 24
TAG: Final = "dstreams"
PAGES: Final[Mapping[str, tuple[str, str]]] = {
    "streaming_page": ("Streaming page at", "http://127.0.0.1:19108"),
    "prometheus_page": ("Prometheus at", "http://127.0.0.1:19090"),
}
"""Variables with the addresses of the other pages, by name the label and the address: the ports are the defaults of METRICS_PORT and
PROMETHEUS_PORT, and who has moved them types the address into the field at the top; links between the boards take it along."""

LABELS: Final[Mapping[str, str]] = {
    "job": "label_values(engine_output_seconds_count, job)",
    "topic": "label_values(engine_records_total, topic)",
    "partition": 'label_values(engine_offset{topic=~"$topic"}, partition)',
}
"""Variables that choose among the values of a label."""

PERCENTILES: Final = ("0.95", "0.5", "0.99")


Panels = Sequence[tuple[int, dashboard.Panel]]
"""Each with its width; what does not fit goes on in the next line."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels side by side under a heading."""

    title: str
    height: int
    panels: Panels


@dataclass(frozen=True, slots=True)
class Board:
    """One board."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[str]
    """Of LABELS, and percentile: those that the expressions use."""


def document(board: Board) -> str:
    """The board as Grafana reads it."""
    model = dashboard.Dashboard(
        uid=board.uid,
        title=board.title,
        description=board.description,
        tags=[TAG],
        timezone="browser",
        editable=False,
        graph_tooltip=dashboard.DashboardCursorSync.CROSSHAIR,
        time=dashboard.DashboardDashboardTime(from_val="now-15m", to="now"),
        timepicker=build.TimePicker().refresh_intervals(["2s", "5s", "10s", "1m"]).build(),
        refresh="5s",
        schema_version=41,
        version=1,
        panels=list(_laid_out(board.rows)),
        templating=dashboard.DashboardDashboardTemplating(list_val=list(_variables(board.variables))),
        links=_links(),
    )
    plain: dict[str, Any] = json.loads(json.dumps(model, cls=JSONEncoder))
    # The schema of the SDK stops before what is Prometheus' own in an annotation.
    plain["annotations"] = {"list": [_annotation(name, facts) for name, facts in ANNOTATIONS.items()]}
    return json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _laid_out(rows: Sequence[Row]) -> Iterator[dashboard.Panel | dashboard.RowPanel]:
    """Headings and panels with their places; ids follow the order."""
    top, number = 0, 0
    for row in rows:
        number += 1
        yield dashboard.RowPanel(
            title=row.title,
            id_val=number,
            collapsed=False,
            grid_pos=dashboard.GridPos(x=0, y=top, w=COLUMNS, h=1),
            panels=[],
        )
        top, left = top + 1, 0
        for width, panel in row.panels:
            if left + width > COLUMNS:
                top, left = top + row.height, 0
            number += 1
            placed = copy(panel)
            placed.id_val = number
            placed.grid_pos = dashboard.GridPos(x=left, y=top, w=width, h=row.height)
            left += width
            yield placed
        top += row.height


def _variables(names: Sequence[str]) -> Iterator[dashboard.VariableModel]:
    yield (
        build.DatasourceVariable("datasource")
        .type("prometheus")
        .regex("/^Prometheus$/")
        .current(dashboard.VariableOption(text="Prometheus", value="prometheus"))
        .hide(dashboard.VariableHide.HIDE_VARIABLE)
        .build()
    )
    for name in names:
        yield _percentile() if name == "percentile" else _label(name)
    for name, (label, address) in PAGES.items():
        option = dashboard.VariableOption(selected=True, text=address, value=address)
        page = build.TextBoxVariable(name).label(label).default_value(address)
        yield page.current(option).options([option]).build()


def _label(name: str) -> dashboard.VariableModel:
    """A choice among a label's values.

    In `label=~"$name"` Grafana's Prometheus data source escapes what a value has of regular expressions, twice where PromQL's
    strings need it; `${name:regex}` would escape once only. "All" is any value.
    """
    return (
        build.QueryVariable(name)
        .label(name)
        .datasource(DATASOURCE)
        .query({"query": LABELS[name], "refId": f"variable-{name}", "qryType": 1})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.NATURAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".+")
        .current(dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]))
        .build()
    )


def _percentile() -> dashboard.VariableModel:
    return (
        build.CustomVariable("percentile")
        .label("percentile")
        .values(",".join(f"{100 * float(value):g} % : {value}" for value in PERCENTILES))
        .current(dashboard.VariableOption(selected=True, text="95 %", value=PERCENTILES[0]))
        .build()
    )


def _links() -> list[dashboard.DashboardLink]:
    boards = (
        build.DashboardLink("Boards")
        .type(dashboard.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(as_dropdown=False)
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
    )
    pages = [
        build.DashboardLink(title)
        .type(dashboard.DashboardLinkType.LINK)
        .url(url)
        .tooltip(tooltip)
        .icon("external link")
        .target_blank(target_blank=True)
        for title, url, tooltip in (
            (
                "Streaming page",
                "${streaming_page}/",
                "The engine's own page: every batch with its ranges, outputs and errors",
            ),
            (
                "Alerts and runbook",
                "${prometheus_page}/alerts",
                "Prometheus' alerts; each names its section of the runbook, docs/alerts.md",
            ),
        )
    ]
    return [link.build() for link in [boards, *pages]]


def _annotation(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "enable": True,
        "hide": False,
        # Grafana asks once a minute where no step is given, and short outages fall between.
        "step": "2s",
        **facts,
    }
