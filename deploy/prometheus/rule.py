"""Write the alerts as the Prometheus operator takes them, out of alerts.yml beside this file.

python deploy/prometheus/rule.py
"""

from __future__ import annotations

from pathlib import Path

import yaml

ALERTS = Path(__file__).with_name("alerts.yml")
RULE = Path(__file__).parents[1] / "kuberay" / "components" / "monitoring" / "alerts.yaml"


def rendered() -> str:
    """The PrometheusRule's text."""
    alerts = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "strop", "namespace": "strop"},
        "spec": alerts,
    }
    told = "# Written by deploy/prometheus/rule.py out of deploy/prometheus/alerts.yml.\n"
    return told + yaml.safe_dump(rule, sort_keys=False, allow_unicode=True, width=100)


if __name__ == "__main__":
    RULE.write_text(rendered(), encoding="utf-8")
