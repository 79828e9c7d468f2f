"""The rendered manifests of deploy/kuberay, and what Kubernetes and KubeRay say of them."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "deploy" / "kuberay"
CRDS = ROOT.parent / "shared" / "data" / "kuberay"

Manifest = dict[str, Any]

# Fields whose objects take any key.
_FREE = "x-kubernetes-preserve-unknown-fields"


def kustomize() -> list[str]:
    """The command that renders a folder: kubectl's own, which a package of the tests brings."""
    beside = shutil.which("kubectl", path=str(Path(sys.executable).parent))
    command = beside or shutil.which("kubectl")
    if command is None:
        pytest.skip("kubectl is not installed: its package has Linux on x86-64 alone")
    return [command, "kustomize"]


@functools.cache
def rendered(folder: Path) -> tuple[Manifest, ...]:
    """The objects of a kustomization."""
    done = subprocess.run(
        [*kustomize(), str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(objects: tuple[Manifest, ...], kind: str) -> list[Manifest]:
    """The objects of one kind."""
    return [item for item in objects if item["kind"] == kind]


def named(objects: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    """One object."""
    (found,) = (item for item in of_kind(objects, kind) if item["metadata"]["name"] == name)
    return found


def pods(objects: tuple[Manifest, ...]) -> Iterator[tuple[str, Manifest]]:
    """Every pod template, with a name for it."""
    for item in objects:
        kind, name = item["kind"], item["metadata"].get("name", "")
        if kind in ("Deployment", "StatefulSet"):
            yield f"{kind} {name}", item["spec"]["template"]
        elif kind == "RayCluster":
            yield from ray_pods(item["spec"])
        elif kind == "RayJob":
            yield from ray_pods(item["spec"]["rayClusterSpec"])
            yield "submitter", item["spec"]["submitterPodTemplate"]


def ray_pods(cluster: Manifest) -> Iterator[tuple[str, Manifest]]:
    """The pod templates of a Ray cluster."""
    yield "head", cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield f"group {group['groupName']}", group["template"]


def containers(pod: Manifest) -> list[Manifest]:
    """All containers of a pod template."""
    spec = pod["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def matches(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """Whether a label selector of Kubernetes takes these labels."""
    wanted = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for rule in selector.get("matchExpressions", []):
        value = labels.get(rule["key"])
        if rule["operator"] == "In" and value not in rule["values"]:
            return False
        if rule["operator"] == "Exists" and value is None:
            return False
    return True


def schema_of(kind: str) -> Manifest:
    """KubeRay's schema of a kind, closed: a field that it does not know is an error."""
    file = CRDS / f"ray.io_{kind.lower()}s.yaml"
    if not file.exists():
        pytest.skip(f"KubeRay's custom resource definitions are not there: {file}")
    return _closed_schema(file)


@functools.cache
def _closed_schema(file: Path) -> Manifest:
    definition = yaml.load(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = (v for v in definition["spec"]["versions"] if v["name"] == "v1")
    schema = version["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object", _FREE: True}
    return _closed(schema)


def _closed(schema: Manifest) -> Manifest:
    closed = {key: _closed_value(value) for key, value in schema.items()}
    if "properties" in schema and not schema.get(_FREE):
        closed.setdefault("additionalProperties", False)
    return closed


def _closed_value(value: Any) -> Any:
    if isinstance(value, dict):
        return _closed(cast("Manifest", value))
    if isinstance(value, list):
        return [_closed_value(item) for item in cast("list[Any]", value)]
    return value
