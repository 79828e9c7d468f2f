"""Every attack fails, harms nothing and leaves a service that still judges rightly.

As whoever runs the tests, as an ordinary user, and in an emulated default pod; with Landlock
and, as inside gVisor, with namespaces in its place.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.verifiers.sandbox.attacks import ATTACKS, Attack
from tests.verifiers.sandbox.ordinary_user import ROOT, as_nobody
from verifiers.sandbox import namespaces

MODES = ("as we are", "ordinary user", "default pod", "namespaces", "namespaces, ordinary user")


@pytest.fixture(scope="module")
def reports() -> Iterator[Any]:
    """What each mode's run reports; they run two at a time, for most of their time is waiting."""
    # Not below pytest's own folder: another session closes that to everybody else.
    with tempfile.TemporaryDirectory(prefix="strop-attacks-") as root:
        Path(root).chmod(0o755)

        def report(mode: str) -> dict[str, Any]:
            folder = Path(root) / mode.replace(",", "").replace(" ", "-")
            folder.mkdir()
            return _attack(mode, folder)

        with ThreadPoolExecutor(2) as runs:
            started = {mode: runs.submit(report, mode) for mode in MODES}
            yield lambda mode: started[mode].result()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: f"{a.group}: {a.name}")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.timeout(600)  # the first of a mode waits for its run
def test_an_attack_fails_and_harms_nothing(mode: str, attack: Attack, reports: Any) -> None:
    report = reports(mode)[attack.name]
    assert report["status"] in attack.statuses, report["evidence"]
    assert report["harm"] == []
    assert report["healthy"]


def test_there_are_attacks_of_every_class() -> None:
    groups = Counter(attack.group for attack in ATTACKS)
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 80
    assert set(groups) == {
        *("verdict forging", "side effects", "resource exhaustion", "protocol abuse")
    }


def _attack(mode: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.verifiers.sandbox.attack_runner", str(folder)]
    if mode.startswith("namespaces"):
        if not namespaces.available():
            pytest.skip("this user makes no namespaces here")
        command.append("namespaces")
    if mode.endswith("ordinary user"):
        command = as_nobody(command, folder)
    if mode == "default pod":
        command = _in_a_pod(command)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=560
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return {report["name"]: report for report in map(json.loads, run.stdout.splitlines())}


def _in_a_pod(command: list[str]) -> list[str]:
    if platform.machine() != "x86_64":
        pytest.skip("the emulated profile has the numbers of x86-64")
    if not shutil.which("setpriv"):
        pytest.skip("util-linux is not installed")
    bare = ["--bounding-set=-all"] if os.getuid() == 0 else []
    privileges = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all", *bare]
    emulated = [sys.executable, "-m", "tests.verifiers.sandbox.emulated", "docker"]
    return [*privileges, *emulated, *command]
