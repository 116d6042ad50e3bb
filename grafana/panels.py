"""The kinds of panels that the boards are made of, each with this house's defaults.

Field names and enumerations come from Grafana's own schema through grafana-foundation-sdk; what the boards have in common
stands here once.

Owns: Query, Help, stat, lines, timeline, heat, bars, table.
Never: an expression; those stand with the boards.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    prometheus,
    statetimeline,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import stat as stat_panel
from grafana_foundation_sdk.builders import table as table_panel
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as prometheus_models

DATASOURCE: Final = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
"""Every panel names its data source by the hidden variable."""

GREEN, AMBER, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"

SLOW: Final = re.compile(r'\b(kafka|cassandra|jvm)_|service=~"kafka\|cassandra"|\bprometheus_')
"""Metrics that are scraped every SLOW_STEP: a rate over four scrapes of the others would hold one of theirs."""
SLOW_STEP: Final = "5s"

STREAMING: Final = "open the [streaming page](${streaming_page}/)"
"""What many a help says."""

_LIMIT: Final = "limit"
"""The legend of the query that a stat takes its red bound from."""


@dataclass(frozen=True, slots=True)
class Query:
    """One expression of a panel."""

    expr: str
    legend: str = ""
    """Grafana's template of the series' names, such as "{{topic}}"."""
    is_limit: bool = False
    """Whether it draws the line that the others should stay below."""


@dataclass(frozen=True, slots=True)
class Help:
    """What a panel's description says, in the order in which somebody in trouble reads it."""

    shows: str
    bad: str
    then: str
    """The command to type or the page to open."""

    @property
    def text(self) -> str:
        """The description, as markdown."""
        return f"{self.shows}\n\n**Bad:** {self.bad}\n\n**Then:** {self.then}"


def stat(
    title: str,
    note: Help,
    queries: Sequence[Query],
    unit: str,
    *,
    decimals: int = 0,
    limit: str = "",
    ratios: Sequence[tuple[float, str]] = (),
    values: Mapping[int, tuple[str, str]] | None = None,
    gone: str = "no data",
    is_good: bool = True,
) -> dashboard.Panel:
    """One number or a few: the values of now, so that a number of a process that is gone does not stay.

    Args:
        title: of the panel.
        note: its description.
        queries: each an instant query.
        unit: Grafana's name of the unit.
        decimals: of the number.
        limit: an expression; at its value and above the number turns red.
        ratios: bounds that belong to the definition of a ratio, each with the colour from there on.
        values: by value the text and the colour to show in its place.
        gone: what stands there when there is no series.
        is_good: whether the number has a judgement at all; else it is blue.
    """
    panel = (
        stat_panel.Panel()
        .color_mode(
            common_models.BigValueColorMode.BACKGROUND
            if values or limit or ratios
            else common_models.BigValueColorMode.VALUE
        )
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .text_mode(
            common_models.BigValueTextMode.AUTO
            if len(queries) == 1
            else common_models.BigValueTextMode.VALUE_AND_NAME
        )
        .reduce_options(common.ReduceDataOptions().calcs(["last"]))
        .no_value(gone)
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .thresholds(_steps(ratios, base=GREEN if is_good else BLUE))
        .build()
    )
    if values:
        _defaults(panel).mappings = [_value_map(values)]
    if limit:
        queries = [*queries, Query(limit, _LIMIT, is_limit=True)]
        panel.transformations = [_bound_from(len(queries) - 1)]
    return _complete(panel, title, note, queries, unit, decimals, instant=True)


def lines(
    title: str,
    note: Help,
    queries: Sequence[Query],
    unit: str,
    *,
    decimals: int = 1,
    stack: bool = False,
    bottom: float | None = 0,
    ratios: Sequence[tuple[float, str]] = (),
    stepped: bool = False,
) -> dashboard.Panel:
    """Values over time. Gaps stay gaps; a query that is a limit is a dashed red line; the legend is a table.

    Args:
        title: of the panel.
        note: its description.
        queries: each a range query.
        unit: Grafana's name of the unit.
        decimals: of the numbers.
        stack: whether the series add up.
        bottom: where the axis begins; None lets the values decide.
        ratios: bounds that belong to the definition of a ratio, each with the colour of the area from there on.
        stepped: whether a value holds until the next one, instead of a slope between them.
    """
    builder = (
        timeseries.Panel()
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.TABLE)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
            .calcs(["lastNotNull", "max", "mean"])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
        .span_nulls(span_nulls=False)
        .line_width(1)
        .fill_opacity(40 if stack else 8)
        .show_points(common_models.VisibilityMode.AUTO)
        .line_interpolation(
            common_models.LineInterpolation.STEP_AFTER if stepped else common_models.LineInterpolation.LINEAR
        )
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC))
        .thresholds(_steps(ratios, base="transparent"))
    )
    if ratios:
        builder = builder.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED_AND_AREA)
        )
    if stack:
        builder = builder.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    if bottom is not None:
        builder = builder.min(bottom)
    for query in queries:
        if query.is_limit:
            builder = builder.override_by_name(query.legend, _limit_look())
    return _complete(builder.build(), title, note, queries, unit, decimals)


def timeline(
    title: str, note: Help, queries: Sequence[Query], values: Mapping[int, tuple[str, str]]
) -> dashboard.Panel:
    """States over time, one band a series; a value is shown as its text in its colour."""
    panel = (
        statetimeline.Panel()
        .merge_values(merge_values=True)
        .show_value(common_models.VisibilityMode.AUTO)
        .row_height(0.85)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
        .fill_opacity(80)
        .line_width(0)
        .mappings([_value_map(values)])
        .build()
    )
    return _complete(panel, title, note, queries, "short", 0)


def heat(title: str, note: Help, query: Query, unit: str, *, decimals: int = 2) -> dashboard.Panel:
    """A histogram over time: the query gives the increase of every bucket, by `le`."""
    panel = (
        heatmap.Panel()
        .calculate(calculate=False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("Turbo")
            .scale(heatmap_models.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .y_axis(heatmap.YAxisConfig().unit(unit).decimals(decimals))
        .cell_gap(1)
        .mode(common_models.TooltipDisplayMode.SINGLE)
        .show_legend()
        .build()
    )
    return _complete(panel, title, note, [query], unit, decimals, kind="heatmap")


def bars(
    title: str,
    note: Help,
    queries: Sequence[Query],
    unit: str,
    *,
    decimals: int = 1,
    gone: str = "no data",
) -> dashboard.Panel:
    """The values of now as bars, one a series."""
    panel = (
        bargauge.Panel()
        .display_mode(common_models.BarGaugeDisplayMode.BASIC)
        .value_mode(common_models.BarGaugeValueMode.TEXT)
        .orientation(common_models.VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["last"]))
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC))
        .no_value(gone)
        .min(0)
        .build()
    )
    return _complete(panel, title, note, queries, unit, decimals, instant=True)


def table(
    title: str,
    note: Help,
    queries: Sequence[Query],
    unit: str,
    *,
    names: Mapping[str, str],
    drop: Sequence[str] = (),
    matrix: tuple[str, str] | None = None,
    decimals: int = 0,
) -> dashboard.Panel:
    """The values of now as rows.

    Args:
        title: of the panel.
        note: its description.
        queries: several are joined by the labels that they share.
        unit: of the values.
        names: by Grafana's name of a column the one to show, in their order; "Value #A" is the value of the first of several queries.
        drop: more columns that are not shown; the time never is.
        matrix: (label of the rows, label of the columns), when the values of one query form a square.
        decimals: of the values.
    """
    panel = table_panel.Panel().show_header(show_header=True).build()
    steps: list[tuple[str, dict[str, Any]]] = []
    if matrix:
        rows, columns = matrix
        steps.append(("groupingToMatrix", {"rowField": rows, "columnField": columns, "valueField": "Value"}))
    else:
        steps.append(("merge", {}))
    steps.append(
        (
            "organize",
            {
                "excludeByName": dict.fromkeys(["Time", *drop], True),
                "renameByName": dict(names),
                "indexByName": {name: place for place, name in enumerate(names)},
            },
        )
    )
    panel.transformations = [
        dashboard.DataTransformerConfig(id_val=name, options=options) for name, options in steps
    ]
    return _complete(panel, title, note, queries, unit, decimals, instant=True, kind="table")


# What the kinds share.


def _complete(
    panel: dashboard.Panel,
    title: str,
    note: Help,
    queries: Sequence[Query],
    unit: str,
    decimals: int,
    *,
    instant: bool = False,
    kind: Literal["time_series", "table", "heatmap"] = "time_series",
) -> dashboard.Panel:
    panel.title = title
    panel.description = note.text
    panel.datasource = DATASOURCE
    panel.targets = [_target(index, query, instant=instant, kind=kind) for index, query in enumerate(queries)]
    _defaults(panel).unit = unit
    _defaults(panel).decimals = decimals
    return panel


def _target(index: int, query: Query, *, instant: bool, kind: str) -> prometheus_models.Dataquery:
    builder = (
        prometheus.Dataquery()
        .ref_id(ref_id(index))
        .expr(query.expr)
        .format(prometheus_models.PromQueryFormat(kind))
        .editor_mode(prometheus_models.QueryEditorMode.CODE)
        .datasource(DATASOURCE)
    )
    if SLOW.search(query.expr):
        builder = builder.interval(SLOW_STEP)
    if query.legend:
        builder = builder.legend_format(query.legend)
    return (builder.instant() if instant else builder.range()).build()


def ref_id(index: int) -> str:
    """The name that Grafana gives a panel's queries: A, B, C.

    Example:
        >>> ref_id(2)
        'C'
    """
    return chr(ord("A") + index)


def _defaults(panel: dashboard.Panel) -> dashboard.FieldConfig:
    if panel.field_config is None:
        panel.field_config = dashboard.FieldConfigSource(defaults=dashboard.FieldConfig())
    return panel.field_config.defaults


def _steps(bounds: Sequence[tuple[float, str]], base: str) -> build.ThresholdsConfig:
    return (
        build.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps(
            [
                dashboard.Threshold(value=None, color=base),
                *(dashboard.Threshold(value=value, color=color) for value, color in bounds),
            ]
        )
    )


def _bound_from(index: int) -> dashboard.DataTransformerConfig:
    """Take the red bound of the other queries from the value of this one, which is not shown."""
    bound = {
        "fieldName": _LIMIT,
        "handlerKey": "threshold1",
        "reducerId": "lastNotNull",
        "handlerArguments": {"threshold": {"color": RED}},
    }
    return dashboard.DataTransformerConfig(
        id_val="configFromData", options={"configRefId": ref_id(index), "mappings": [bound]}
    )


def _limit_look() -> list[dashboard.DynamicConfigValue]:
    look: Mapping[str, object] = {
        "color": {"mode": "fixed", "fixedColor": RED},
        "custom.lineStyle": {"fill": "dash", "dash": [8, 8]},
        "custom.fillOpacity": 0,
        "custom.stacking": {"mode": "none", "group": "A"},
        "custom.showPoints": "never",
    }
    return [dashboard.DynamicConfigValue(id_val=key, value=value) for key, value in look.items()]


def _value_map(values: Mapping[int, tuple[str, str]]) -> dashboard.ValueMap:
    return dashboard.ValueMap(
        options={
            str(value): dashboard.ValueMappingResult(text=text, color=color, index=index)
            for index, (value, (text, color)) in enumerate(values.items())
        }
    )
