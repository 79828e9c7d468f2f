"""The Dockerfile is clean, its images run as nobody in particular, and no layer holds a secret."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
TEXT = (DOCKER / "Dockerfile").read_text()
STAGES = {
    match[2]: match[3]
    for match in re.finditer(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", TEXT, re.M | re.S)
}
IMAGES = ("api", "cpu", "gpu")


def test_hadolint_finds_nothing() -> None:
    command = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which(
        "hadolint"
    )
    if command is None:
        pytest.skip("hadolint is not installed: its package has Linux on x86-64 alone")
    done = subprocess.run(
        [command, "--failure-threshold", "style", str(DOCKER / "Dockerfile")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_a_user_without_rights_and_is_asked_how_it_does(image: str) -> None:
    users = re.findall(r"^USER (\S+)$", STAGES[image], re.M)
    assert users == ["10001:10001"]
    assert STAGES[image].index("USER") > STAGES[image].rindex("RUN")
    assert re.search(r"^HEALTHCHECK ", STAGES[image], re.M)


def test_the_base_is_pinned_by_digest_and_there_is_one() -> None:
    assert re.search(r"^ARG PYTHON=python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}$", TEXT, re.M)
    bases = re.findall(r"^FROM (\S+) AS", TEXT, re.M)
    assert set(bases) - STAGES.keys() == {"${PYTHON}"}


def test_code_is_copied_after_the_dependencies_are_installed() -> None:
    for extra, stage in (
        ("", "api"),
        ("[cpu,trackers]", "cpu"),
        ("[gpu,trackers]", "gpu"),
    ):
        dependencies = STAGES[f"{stage}-dependencies"]
        assert f'".{extra}"' in dependencies or " . " in dependencies
        assert "COPY" not in dependencies
    assert "COPY services services" in STAGES["code"]


def test_no_argument_or_variable_of_the_image_is_a_secret() -> None:
    names = re.findall(r"^\s*(?:ARG|ENV)\s+(\w+)|^\s+(\w+)=", TEXT, re.M)
    for name in {one or other for one, other in names}:
        assert not re.search(r"PASSWORD|TOKEN|SECRET|KEY|CREDENTIAL", name), name
    assert TEXT.count("pip install -c") + TEXT.count("pip wheel") == 5
    assert TEXT.count("--mount=type=secret,id=pip") == 4  # torch and the rest share one RUN


@pytest.mark.parametrize("script", ["dispatcher", "once"])
def test_scripts_are_programs_that_a_shell_can_read(script: str) -> None:
    path = DOCKER / script
    assert path.stat().st_mode & 0o111
    subprocess.run(["sh", "-n", str(path)], check=True, timeout=30)
    for image in ("cpu", "gpu"):
        assert f"deploy/docker/{script} /usr/local/bin/strop-{script}" in STAGES[image]


def test_what_is_copied_is_sent_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [
        name
        for line in re.findall(r"^COPY (?:--\S+ )*(.+)$", TEXT, re.M)
        for name in line.split()[:-1]
    ]
    assert copied
    assert {f"!{name}" for name in copied} == {line for line in ignored if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)


def test_a_dispatcher_without_a_cluster_says_what_is_missing() -> None:
    done = subprocess.run(
        ["sh", str(DOCKER / "dispatcher")],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode != 0
    assert "STROP_RAY_ADDRESS: is the cluster to join" in done.stderr
