"""Every PromQL expression that is shipped, and the series that each one reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from deploy.grafana import dashboards

PROMETHEUS = Path(__file__).parents[2] / "deploy/prometheus"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]


def expressions() -> dict[str, str]:
    """Every expression of the dashboards, their variables and the alerts, by where it stands."""
    found = {rule["alert"]: rule["expr"] for rule in RULES}
    for name in dashboards.DASHBOARDS:
        board = json.loads(dashboards.rendered(name))
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                found[f"{name}: {panel['title']} {target['refId']}"] = target["expr"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                series = re.fullmatch(r"label_values\((\w+), \w+\)", variable["query"])
                assert series, variable["query"]
                found[f"{name}: ${variable['name']}"] = series[1]
    return found


def series(expression: str) -> Iterator[str]:
    """The names of the series that an expression reads."""
    pending: list[Any] = [promql_parser.parse(expression)]
    while pending:
        node = pending.pop()
        if isinstance(node, promql_parser.VectorSelector):
            yield str(node.name)
        for name in ("expr", "lhs", "rhs", "vector_selector", "args", "param"):
            child = getattr(node, name, None)
            pending += child if isinstance(child, list) else [] if child is None else [child]
