"""docker-compose.yml is valid, asks for every secret, and speaks of what exists."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from docs.generate import ELSEWHERE
from services.api.binding import check_transport
from services.api.gate import Names
from services.settings import Settings

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
TEXT = FILE.read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def compose_schema() -> dict[str, Any]:
    vendored = resources.files("check_jsonschema.builtin_schemas.vendor") / "compose-spec.json"
    return json.loads(vendored.read_text())


def test_the_file_is_valid_by_the_compose_specification() -> None:
    jsonschema_rs.validator_for(compose_schema()).validate(COMPOSE)


def test_a_service_that_says_what_compose_does_not_know_is_noticed() -> None:
    wrong = {**COMPOSE, "services": {"api": {**SERVICES["api"], "healthchek": {}}}}
    with pytest.raises(jsonschema_rs.ValidationError, match="healthchek"):
        jsonschema_rs.validator_for(compose_schema()).validate(wrong)


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_docker_reads_the_file(profile: str) -> None:
    docker = shutil.which("docker")
    plugin = docker and subprocess.run([docker, "compose", "version"], capture_output=True)
    if not docker or not plugin or plugin.returncode:
        pytest.skip("docker with its plugin compose is not installed")
    secrets = dict.fromkeys(required(), "x")
    done = subprocess.run(
        [docker, "compose", "-f", str(FILE), "--profile", profile, "config", "--quiet"],
        env={**os.environ, **secrets},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def required() -> set[str]:
    """The variables without which Compose refuses to start, with what says so."""
    asked = set(re.findall(r"\$\{(STROP_\w+):\?[^}]+\}", TEXT))
    return asked | {secret["environment"] for secret in COMPOSE["secrets"].values()}


def test_every_secret_is_asked_for_and_none_has_a_default() -> None:
    assert required() == {
        "STROP_REDIS_PASSWORD",
        "STROP_RAY_TOKEN",
        "STROP_GRAFANA_PASSWORD",
        "STROP_METRICS_KEY",
    }
    interpolated = set(re.findall(r"\$\{(STROP_\w+)", TEXT))
    assert interpolated == required() - {"STROP_METRICS_KEY"}  # a file, not a variable
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN|REDIS_URL", variable):
                assert "${STROP_" in str(value), f"{name}: {variable}"


def test_every_setting_of_the_service_exists_and_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields = {f"STROP_{name.upper()}" for name in Settings.model_fields} | ELSEWHERE.keys()
    for name in ("api", "dispatcher"):
        environment: dict[str, str] = SERVICES[name]["environment"]
        assert {key for key in environment if key.startswith("STROP_")} <= fields
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
    settings = Settings()
    assert settings.ray_address == "ray-head:6379"
    assert str(settings.home) == "/data/strop"
    assert "api:8420" in Names(settings.allowed_hosts)  # as Prometheus asks
    check_transport(settings, settings.host)


def test_whoever_judges_is_told_what_graders_ask_and_sign_with() -> None:
    told = {name for name, service in SERVICES.items() if "graders.env" in str(service)}
    assert told == {"api", "ray-worker", "ray-worker-gpu"}


def test_what_is_published_is_published_on_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_each_profile_brings_workers_and_the_rest_runs_in_both() -> None:
    by_profile = {
        profile: [name for name, s in SERVICES.items() if profile in s.get("profiles", [])]
        for profile in ("cpu", "gpu")
    }
    assert by_profile == {"cpu": ["ray-worker"], "gpu": ["ray-worker-gpu"]}
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {
        *("redis", "api", "dispatcher", "ray-head", "prometheus", "grafana")
    }


def test_no_container_keeps_rights() -> None:
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged")
        assert not any("docker.sock" in str(volume) for volume in service.get("volumes", []))


def test_images_of_others_are_pinned_by_digest_and_ours_are_built_here() -> None:
    ours = {"strop:api", "strop:cpu", "strop:gpu"}
    for name, service in SERVICES.items():
        image = service["image"]
        assert image in ours or re.search(r":v?\d+\.\d+(\.\d+)?(-alpine)?@sha256:\w{64}$", image), (
            name
        )
    built = {
        service["image"]: service["build"]["target"]
        for service in SERVICES.values()
        if "build" in service
    }
    assert built == {image: image.partition(":")[2] for image in ours}


def test_the_files_that_are_mounted_exist() -> None:
    mounted = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]
    assert len(mounted) == 4
    assert all((ROOT / path).exists() for path in mounted)


def test_prometheus_scrapes_services_that_there_are() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    scraped = [
        host
        for job in config["scrape_configs"]
        for targets in (*job.get("static_configs", []), *job.get("dns_sd_configs", []))
        for host in targets.get("targets") or targets["names"]
    ]
    assert {host.split(":")[0] for host in scraped} == {
        *("api", "dispatcher", "ray-head", "ray-worker", "ray-worker-gpu")
    }
