"""The few kinds of panels that the dashboards are made of, in one look.

A panel says in its description what a person should read from it. Knows no metric.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heat
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

WIDTH = 24
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

Query = tuple[str, str]
"""An expression and the legend of its series."""


def number(
    title: str, query: str, unit: str, *, about: str, red_from: float | None = None
) -> stat.Panel:
    """One number of the moment; red from a threshold on."""
    steps = [model.Threshold(value=None, color="green")]
    if red_from is not None:
        steps.append(model.Threshold(value=red_from, color="red"))
    return (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .span(4)
        .height(4)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
        .with_target(_target("A", (query, "")))
    )


def lines(
    title: str, unit: str, *queries: Query, about: str, span: int = 8, stacked: bool = False,
    low: float | None = None, high: float | None = None,
) -> timeseries.Panel:  # fmt: skip
    """Curves over time, with their last values in the legend."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .span(span)
        .height(8)
        .fill_opacity(60 if stacked else 8)
        .show_points(shapes.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(shapes.LegendDisplayMode.TABLE)
            .placement(shapes.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull"])
        )
        .tooltip(common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL))
    if low is not None:
        panel = panel.min(low)
    if high is not None:
        panel = panel.max(high)
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        panel = panel.with_target(_target(letter, query))
    return panel


def distribution(title: str, query: str, *, about: str, span: int = 8) -> heatmap.Panel:
    """A histogram's buckets over time."""
    return (
        heatmap.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .span(span)
        .height(8)
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heat.HeatmapColorMode.SCHEME)
            .scheme("Blues")
            .steps(32)
        )
        .with_target(
            prometheus.Dataquery()
            .ref_id("A")
            .datasource(SOURCE)
            .expr(query)
            .legend_format("{{le}}")
            .format(PromQueryFormat.HEATMAP)
        )
    )


def page(uid: str, title: str, about: str, *variables: build.QueryVariable) -> build.Dashboard:
    """An empty dashboard, with the data source to choose and these variables."""
    made = (
        build.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags(["strop"])
        .readonly()
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .with_variable(
            build.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .link(
            build.DashboardLink("Strop").type(model.DashboardLinkType.DASHBOARDS).tags(["strop"])
            .include_vars(True).keep_time(True)
        )
    )  # fmt: skip
    for variable in variables:
        made = made.with_variable(variable)
    return made


def choice(name: str, label: str, query: str) -> build.QueryVariable:
    """A variable whose values are those of a label; all of them by default."""
    return (
        build.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(SOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(text="All", value="$__all", selected=True))
    )


def _target(letter: str, query: Query) -> prometheus.Dataquery:
    expression, legend = query
    return (
        prometheus.Dataquery()
        .ref_id(letter)
        .datasource(SOURCE)
        .expr(expression)
        .legend_format(legend)
    )
