"""What deploy/kuberay renders is valid, and holds what the security model promises."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema_rs
import kubernetes_validate
import pytest
import yaml

from deploy.grafana import dashboards
from deploy.prometheus import rule
from docs.generate import ELSEWHERE
from services.api.binding import check_transport
from services.api.gate import Names
from services.placement import TIERS, Group, label, to_come
from services.settings import Settings
from tests.deploy.manifests import (
    KUBERAY,
    Manifest,
    containers,
    matches,
    named,
    of_kind,
    pods,
    rendered,
    schema_of,
)

KUBERNETES = "1.34"
OVERLAYS = ("cpu-dev", "gpu-single", "gpu-multi", "airgapped")
COMPONENTS = (
    *("external-redis", "gvisor", "kueue", "model-graders", "monitoring", "offline"),
    "remote-graders",
)
FOREIGN = ("ray.io/v1", "monitoring.coreos.com/v1")
"""API groups whose schemas Kubernetes does not have."""

EXAMPLE: Manifest = yaml.safe_load((KUBERAY / "examples" / "rayjob.yaml").read_text())


@pytest.fixture(params=OVERLAYS, scope="module")
def objects(request: pytest.FixtureRequest) -> tuple[Manifest, ...]:
    return rendered(KUBERAY / "overlays" / request.param)


@pytest.fixture(params=COMPONENTS, scope="module")
def extended(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, tuple[Manifest, ...]]:
    """The overlay cpu-dev with one component more."""
    folder = tmp_path_factory.mktemp("kustomization")
    up = Path(*[".."] * len(folder.parts[1:]))
    joined = {
        "resources": [str(up / (KUBERAY / "overlays" / "cpu-dev").relative_to("/"))],
        "components": [str(up / (KUBERAY / "components" / request.param).relative_to("/"))],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(joined))
    return request.param, rendered(folder)


def cluster(objects: tuple[Manifest, ...]) -> Manifest:
    return named(objects, "RayCluster", "strop")["spec"]


def check(objects: tuple[Manifest, ...]) -> None:
    """Raise where an object is not what Kubernetes or KubeRay take."""
    for item in objects:
        if item["apiVersion"] == "ray.io/v1":
            jsonschema_rs.Draft202012Validator(schema_of(item["kind"])).validate(item)
        elif item["apiVersion"] not in FOREIGN:
            kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_every_overlay_is_valid_to_the_letter(objects: tuple[Manifest, ...]) -> None:
    assert {"Deployment", "StatefulSet", "RayCluster", "NetworkPolicy"} <= {
        item["kind"] for item in objects
    }
    check(objects)


def test_every_component_joins_an_overlay(extended: tuple[str, tuple[Manifest, ...]]) -> None:
    name, objects = extended
    plain = rendered(KUBERAY / "overlays" / "cpu-dev")
    assert objects != plain, f"{name} changes nothing"
    check(tuple(item for item in objects if item not in plain))


def test_monitoring_brings_the_alerts_and_every_dashboard_to_the_cluster() -> None:
    objects = rendered(KUBERAY / "overlays" / "gpu-multi")
    written = (KUBERAY / "components" / "monitoring" / "alerts.yaml").read_text(encoding="utf-8")
    assert written == rule.rendered(), "run python deploy/prometheus/rule.py"
    groups = named(objects, "PrometheusRule", "strop")["spec"]["groups"]
    assert groups == yaml.safe_load(rule.ALERTS.read_text(encoding="utf-8"))["groups"]
    boards = named(objects, "ConfigMap", "strop-dashboards")
    assert boards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert boards["metadata"]["namespace"] == "strop"
    assert boards["data"] == {
        f"strop-{name}.json": dashboards.rendered(name) for name in dashboards.DASHBOARDS
    }


def test_the_example_of_a_rayjob_is_valid() -> None:
    check(({**EXAMPLE, "metadata": {**EXAMPLE["metadata"], "name": "once"}},))


def test_a_field_that_kuberay_does_not_know_is_noticed() -> None:
    item = named(rendered(KUBERAY / "overlays" / "cpu-dev"), "RayCluster", "strop")
    wrong = {**item, "spec": {**item["spec"], "authOption": {}}}
    with pytest.raises(jsonschema_rs.ValidationError, match="authOption"):
        check((wrong,))


def test_every_container_has_limits_and_no_rights(objects: tuple[Manifest, ...]) -> None:
    found = [*pods(objects), *pods((EXAMPLE,))]
    assert len(found) >= 8
    for name, pod in found:
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(spec), name
        assert not any("hostPath" in volume for volume in spec.get("volumes", [])), name
        for container in containers(pod):
            limits, requests = (container["resources"][k] for k in ("limits", "requests"))
            assert {"cpu", "memory"} <= set(limits) & set(requests), name
            assert not container.get("ports", []) or all(
                "hostPort" not in port for port in container["ports"]
            )
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "privileged" not in context, name


def test_secrets_are_named_and_never_written_down(objects: tuple[Manifest, ...]) -> None:
    assert not of_kind(objects, "Secret")
    referenced: set[str] = set()
    for name, pod in pods(objects):
        for variable in (v for c in containers(pod) for v in c.get("env", [])):
            secret = re.search(r"PASSWORD|TOKEN|SECRET|KEY|REDIS_URL", variable["name"])
            assert not secret or "value" not in variable, f"{name}: {variable['name']}"
            if "valueFrom" in variable:
                referenced.add(variable["valueFrom"]["secretKeyRef"]["name"])
    assert referenced == {"strop-redis", "strop-ray-token"}
    settings = named_settings(objects)
    assert not any(re.search(r"PASSWORD|TOKEN|SECRET|KEY|REDIS", name) for name in settings)


def named_settings(objects: tuple[Manifest, ...]) -> dict[str, str]:
    (found,) = (
        item
        for item in of_kind(objects, "ConfigMap")
        if item["metadata"]["name"].startswith("strop-settings-")
    )
    return found["data"]


def test_the_settings_exist_and_are_accepted(
    objects: tuple[Manifest, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = named_settings(objects)
    ours = {name: value for name, value in data.items() if name.startswith("STROP_")}
    known = {f"STROP_{name.upper()}" for name in Settings.model_fields} | ELSEWHERE.keys()
    assert ours.keys() <= known
    for name, value in data.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    api = named(objects, "Deployment", "strop-api")["spec"]["template"]["spec"]["containers"][0]
    assert api["ports"] == [{"name": "http", "containerPort": settings.port}]
    assert str(settings.home) == "/data/strop"
    assert "10.1.2.3:8420" in Names(settings.allowed_hosts)  # Prometheus asks pods by address
    check_transport(settings, settings.host)
    # Whatever one pod leaves for another lies on the volume.
    assert {Path(data[name]).parts[1] for name in ("STROP_HOME", "STROP_CACHE")} == {"data"}


def test_every_tier_has_nodes_and_verifiers_share_theirs_with_none(
    objects: tuple[Manifest, ...],
) -> None:
    groups = cluster(objects)["workerGroupSpecs"]
    for tier in TIERS:
        serving = [group for group in groups if label(tier).items() <= group["labels"].items()]
        assert len(serving) == 1, tier
        assert serving[0]["minReplicas"] < serving[0]["maxReplicas"]
        spec = serving[0]["template"]["spec"]
        assert spec["nodeSelector"]
        assert any(rule["key"] == "strop/tier" for rule in spec["tolerations"])
    (verifier,) = (group for group in groups if "strop/verifier" in group["labels"])
    assert verifier["labels"] == label("verifier")
    assert named_settings(objects)["STROP_TIER_LABELS"] == "1"


def test_a_group_that_has_no_node_yet_counts_with_the_labels_that_its_nodes_will_have(
    objects: tuple[Manifest, ...],
) -> None:
    for group in cluster(objects)["workerGroupSpecs"]:
        (node,) = to_come([Group(group["groupName"], 1, 4, 0)], {})
        assert node.labels == group["labels"]


def test_ray_asks_for_a_token_scales_itself_and_keeps_its_state_in_redis(
    objects: tuple[Manifest, ...],
) -> None:
    spec = cluster(objects)
    assert spec["authOptions"] == {"mode": "token", "secretName": "strop-ray-token"}
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    fault_tolerance = spec["gcsFaultToleranceOptions"]
    assert fault_tolerance["redisAddress"] == "strop-redis:6379"
    assert "secretKeyRef" in fault_tolerance["redisPassword"]["valueFrom"]
    dispatcher = named(objects, "Deployment", "strop-dispatcher")["spec"]["template"]
    environment = {v["name"]: v for v in dispatcher["spec"]["containers"][0]["env"]}
    assert environment["RAY_AUTH_MODE"]["value"] == "token"
    assert environment["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"] == {
        "name": "strop-ray-token",
        "key": "auth_token",  # KubeRay reads this key
    }


def test_judged_programs_find_no_account_no_password_and_no_checkpoints(
    objects: tuple[Manifest, ...],
) -> None:
    pod = dict(pods(objects))["group verifier"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert "strop/keeps-state" not in pod["metadata"]["labels"]
    assert "strop/public-https" not in pod["metadata"]["labels"]
    (container,) = pod["spec"]["containers"]
    assert not container.get("env")
    assert container["envFrom"] == [{"secretRef": {"name": "strop-graders", "optional": True}}]
    (data,) = (mount for mount in container["volumeMounts"] if mount["name"] == "data")
    assert data == {
        "name": "data",
        "mountPath": "/data/tasks",
        "subPath": "tasks",
        "readOnly": True,
    }


def test_no_pod_but_rays_head_has_an_account_token(objects: tuple[Manifest, ...]) -> None:
    for name, pod in pods(objects):
        # The head's autoscaler speaks to Kubernetes; KubeRay makes its account.
        assert (pod["spec"].get("automountServiceAccountToken") is False) == (name != "head")


def test_what_is_not_named_is_denied_and_names_are_resolved(objects: tuple[Manifest, ...]) -> None:
    deny = named(objects, "NetworkPolicy", "deny-all")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    dns = named(objects, "NetworkPolicy", "names-are-resolved")["spec"]
    assert dns["podSelector"] == {}
    assert {(p["protocol"], p["port"]) for p in dns["egress"][0]["ports"]} == {
        ("UDP", 53),
        ("TCP", 53),
    }


def test_every_selector_finds_a_pod(objects: tuple[Manifest, ...]) -> None:
    found = [pod["metadata"]["labels"] for _, pod in pods(objects)]
    # KubeRay's operator and the cluster's DNS live elsewhere.
    for item in of_kind(objects, "NetworkPolicy"):
        rules = [
            peer["podSelector"]
            for way, end in (("ingress", "from"), ("egress", "to"))
            for rule in item["spec"].get(way, [])
            for peer in rule.get(end, [])
            if "podSelector" in peer and "namespaceSelector" not in peer
        ]
        for selector in [item["spec"]["podSelector"], *rules]:
            assert any(matches(selector, labels) for labels in found), item["metadata"]["name"]
    for kind in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
        for item in of_kind(objects, kind):
            assert any(matches(item["spec"]["selector"], labels) for labels in found)
    for item in of_kind(objects, "Service"):
        assert any(matches({"matchLabels": item["spec"]["selector"]}, labels) for labels in found)


def reached(objects: tuple[Manifest, ...], labels: dict[str, str]) -> set[str]:
    """Names of the policies that let a pod speak to other pods or addresses."""
    return {
        item["metadata"]["name"]
        for item in of_kind(objects, "NetworkPolicy")
        if item["spec"].get("egress") and matches(item["spec"]["podSelector"], labels)
    }


def test_the_tiers_speak_to_ray_alone(objects: tuple[Manifest, ...]) -> None:
    for name, pod in pods(objects):
        if name.startswith("group"):
            flows = reached(objects, pod["metadata"]["labels"])
            assert flows == {"names-are-resolved", "ray-nodes-meet"}, name


def test_air_is_a_gap() -> None:
    objects = rendered(KUBERAY / "overlays" / "airgapped")
    for name, pod in pods(objects):
        assert all(c["image"].startswith("registry.internal/") for c in containers(pod)), name
    addresses = [
        (item["metadata"]["name"], peer["ipBlock"])
        for item in of_kind(objects, "NetworkPolicy")
        for rule in item["spec"].get("egress", [])
        for peer in rule.get("to", [])
        if "ipBlock" in peer
    ]
    assert [name for name, _ in addresses] == ["autoscaler-asks-kubernetes"]
    assert named_settings(objects)["HF_HUB_OFFLINE"] == "1"


def test_what_serves_is_probed_kept_available_and_scaled(objects: tuple[Manifest, ...]) -> None:
    for name, pod in pods(objects):
        if name.startswith(("Deployment", "StatefulSet")):
            for container in containers(pod):
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    deployments = {item["metadata"]["name"] for item in of_kind(objects, "Deployment")}
    budgets = {item["metadata"]["name"] for item in of_kind(objects, "PodDisruptionBudget")}
    scaled = {
        item["spec"]["scaleTargetRef"]["name"]
        for item in of_kind(objects, "HorizontalPodAutoscaler")
    }
    assert deployments == budgets == scaled == {"strop-api", "strop-dispatcher"}


def test_gpus_are_asked_for_where_models_are_and_nowhere_else() -> None:
    for overlay, gpus in (("gpu-single", [1]), ("gpu-multi", [1, 1, 4])):
        groups = cluster(rendered(KUBERAY / "overlays" / overlay))["workerGroupSpecs"]
        limits = [g["template"]["spec"]["containers"][0]["resources"]["limits"] for g in groups]
        assert "nvidia.com/gpu" not in limits[0]
        assert [int(limit["nvidia.com/gpu"]) for limit in limits[1:]] == gpus
        for group in groups[1:]:
            spec = group["template"]["spec"]
            assert spec["nodeSelector"]["nvidia.com/gpu.present"] == "true"
            assert any(rule["key"] == "nvidia.com/gpu" for rule in spec["tolerations"])
            assert spec["containers"][0]["image"].endswith(":gpu")


def test_components_do_what_they_say(extended: tuple[str, tuple[Manifest, ...]]) -> None:
    name, objects = extended
    verifier = dict(pods(objects))["group verifier"]
    if name == "gvisor":
        assert verifier["spec"]["runtimeClassName"] == "gvisor"
    elif name == "external-redis":
        assert not of_kind(objects, "StatefulSet")
        assert cluster(objects)["gcsFaultToleranceOptions"]["redisAddress"] != "strop-redis:6379"
    elif name == "kueue":
        labels = named(objects, "RayCluster", "strop")["metadata"]["labels"]
        assert labels["kueue.x-k8s.io/queue-name"] == "strop"
    elif name == "monitoring":
        assert of_kind(objects, "ServiceMonitor")
        (monitor,) = of_kind(objects, "PodMonitor")
        ray = [p for n, p in pods(objects) if n in ("head", "Deployment strop-dispatcher")]
        for pod in (*ray, verifier):
            assert matches(monitor["spec"]["selector"], pod["metadata"]["labels"])
            assert "metrics" in {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    elif name == "model-graders":
        api = dict(pods(objects))["Deployment strop-api"]
        policy = named(objects, "NetworkPolicy", "models-answer-graders")["spec"]
        (peer,) = policy["ingress"][0]["from"]
        for pod in (verifier, api):
            assert "graders-ask-models" in reached(objects, pod["metadata"]["labels"])
            assert matches(peer["podSelector"], pod["metadata"]["labels"])
        assert matches(policy["podSelector"], api["metadata"]["labels"])
    elif name == "offline":
        assert "public-https" not in {
            item["metadata"]["name"] for item in of_kind(objects, "NetworkPolicy")
        }
    else:
        assert name == "remote-graders"
        assert "public-https" in reached(objects, verifier["metadata"]["labels"])
