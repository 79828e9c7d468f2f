"""Facts about the dashboards and alerts: they say what there is, and parse."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from deploy.grafana import dashboards
from services.jobs import Job
from services.metrics import HttpMetrics, JobMetrics, exposition
from services.store.moments import Moment
from services.verdict_counts import GAUGES, VerdictCounts, VerifierMetrics
from tests.deploy.expressions import PROMETHEUS, RULES, expressions, series
from verifiers.verdict import Verdict

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT.parent / "shared/data/grafana/dashboard.jsonschema.json"


class AnyProgress(dict[str, Any]):
    """A step event that has every key."""

    def get(self, key: str, default: Any = None) -> Any:
        one_of_many = {"rewards", "phase_seconds", "idle_share"}
        if key.endswith("_histogram"):
            return {"0.5": 1, "+Inf": 1, "sum": 1.0}
        return {"a": 1.0} if key in one_of_many else 1.0


def ours() -> set[str]:
    """Every series that the API can answer with."""
    plain: dict[str, Any] = dict.fromkeys(field.name for field in fields(Job))
    job = Job(**{**plain, "id": "j", "progress": AnyProgress(step=1), "pulse_at": 1.0, "attempts": 1,
                 "trained_tokens": 1})  # fmt: skip
    moment = Moment({"running": 1}, [job], {"j": 1.0}, {"j": 1.0}, 0.0, {}, 0, 1, False)
    http = HttpMetrics()
    http.observe("GET", "/", 200, 0.1)
    counts = VerdictCounts()
    counts.add("math", [Verdict(1.0, "correct")])
    counts.replaced("worker")
    verdicts = VerifierMetrics(counts.take(), {"tier": dict.fromkeys(GAUGES, 1.0)})
    text = exposition(http, JobMetrics(moment), verdicts).decode()
    return {
        sample.name for family in text_string_to_metric_families(text) for sample in family.samples
    }


def theirs() -> str:
    """The sources in which Ray and vLLM name their metrics."""
    found: list[str] = []
    for package, folders in {"ray": ("dashboard", "_private"), "vllm": ("v1/metrics",)}.items():
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            pytest.skip(f"{package} is not installed")
        root = Path(spec.submodule_search_locations[0])
        for folder in folders:
            found += [path.read_text("utf-8") for path in sorted((root / folder).rglob("*.py"))]
    return "\n".join(found)


@pytest.mark.parametrize("name", dashboards.DASHBOARDS)
def test_a_dashboard_is_what_its_code_makes(name: str) -> None:
    written = (dashboards.FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert written == dashboards.rendered(name), "run python -m deploy.grafana.dashboards"


@pytest.mark.skipif(not SCHEMA.exists(), reason=f"{SCHEMA} is not here")
@pytest.mark.parametrize("name", dashboards.DASHBOARDS)
def test_a_dashboard_is_valid(name: str) -> None:
    validator = jsonschema_rs.validator_for(json.loads(SCHEMA.read_text()))
    errors = [str(e) for e in validator.iter_errors(json.loads(dashboards.rendered(name)))]
    assert errors == []


@pytest.mark.parametrize("name", dashboards.DASHBOARDS)
def test_panels_do_not_overlap_and_say_what_to_read(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(dashboards.rendered(name))["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["type"] == "row" or panel["description"]


def test_every_expression_parses_and_reads_what_there_is() -> None:
    known, sources = ours(), theirs()
    read = {(place, name) for place, text in expressions().items() for name in series(text)}
    assert len(read) > 60
    for place, name in sorted(read):
        if name.startswith("strop_"):
            assert name in known, (place, name)
            continue
        # vLLM's `vllm:x` is exported by Ray as `ray_vllm_x`, a counter with `_total`.
        bare = re.sub(r"_(total|bucket|count|sum)$", "", name.removeprefix("ray_"))
        assert re.search(rf"\b{bare.replace('vllm_', 'vllm:')}\b|\b{name}\b", sources) or re.search(
            rf'"{bare}"', sources
        ), (place, name)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_has_a_runbook_and_a_test(rule: dict[str, Any]) -> None:
    page = (ROOT / rule["annotations"]["runbook"]).read_text(encoding="utf-8")
    assert f"`{rule['alert']}`" in page
    assert "## What to do" in page
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    fired = [
        case["exp_alerts"]
        for test in tests
        for case in test["alert_rule_test"]
        if case["alertname"] == rule["alert"]
    ]
    assert any(fired), "no test sees it fire"
    assert not all(fired), "no test sees it silent"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """And every file that it names, as they lie in the container."""
    for path in PROMETHEUS.glob("*.yml"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "api_key").write_text("strop_of_nobody")
    run = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{len(RULES)} rules found" in run.stdout + run.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_the_alerts_fire_when_they_should() -> None:
    run = subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yml"],
        cwd=PROMETHEUS, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
