"""`strop probe` as a real process: its own Ray, vLLM, verifier and learner, and nothing left."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.tiny_model import make_tiny_model

PROBE = [sys.executable, "-m", "services.cli", "probe"]
ANYTHING = {"kind": "text", "regex": "[^a-m]*", "extract": {"kind": "text"}}


class Probe:
    """A probe's process and the mark that every process below it inherits."""

    def __init__(self, *args: str) -> None:
        self._mark = f"STROP_TEST_MARK={secrets.token_hex(8)}"
        mine = {k: v for k, v in os.environ.items() if not k.startswith(("STROP_", "RAY_"))}
        name, value = self._mark.split("=")
        self.process = subprocess.Popen(
            [*PROBE, *args],
            env={**mine, "STROP_CPUS": "2", "COLUMNS": "200", name: value},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def end(self, seconds: float = 240) -> tuple[int, str, str]:
        try:
            out, err = self.process.communicate(timeout=seconds)
        finally:
            self.process.kill()
        return self.process.returncode, out, err

    def left(self, seconds: float = 15) -> list[int]:
        """Processes of this probe that are still alive, after a moment for those that end."""
        until = time.monotonic() + seconds
        while (found := self._alive()) and time.monotonic() < until:
            time.sleep(0.1)
        return found

    def _alive(self) -> list[int]:
        found: list[int] = []
        for pid in psutil.pids():
            try:
                if self._mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    found.append(pid)
            except OSError:
                continue
        return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def job(folder: Path, policy: Path, **changes: Any) -> str:
    rows = [
        {
            "id": f"t{n}",
            "prompt": f"Say anything {n}.",
            "verifier": ANYTHING,
            "privileged": {"answer": str(n)},
        }
        for n in range(4)
    ]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data: dict[str, Any] = {
        "steps": 4,
        "model": {"path": str(policy), "dtype": "float32", "max_length": 128},
        "tasks": {"train": "train.jsonl"},
        "privileged": {"kind": "answer"},
        "sampling": {"group_size": 4, "groups_per_step": 4, "max_tokens": 8},
        "engine": {"kv_cache_gib": 0.05, "max_sequences": 16},
        "tiers": {tier: {"cpus": 0.5} for tier in ("rollout", "verifier", "teacher", "trainer")},
        **changes,
    }
    path = folder / "job.yaml"
    path.write_text(json.dumps(data))
    return str(path)


def test_a_probe_measures_through_the_real_tiers_and_leaves_nothing(
    tmp_path: Path, model: Path
) -> None:
    probe = Probe(job(tmp_path, model), "--tasks", "3", "--json")
    status, out, err = probe.end()
    assert status in (0, 1), err
    numbers = json.loads(out)
    assert status == any(finding["level"] == "stop" for finding in numbers["findings"])
    assert (numbers["tasks"], numbers["completions"]) == (3, 12)
    assert numbers["hinted"]["tasks"] == 3
    assert numbers["evidence"]["sequences"] == 12
    assert numbers["evidence"]["mean_abs"] > 0.01, "a hint moves a random model"
    assert set(numbers["pass_at_k"]) == {"1", "2", "4"}
    assert set(numbers["seconds"]) == {"start", "rollout", "verify", "score", "learn", "publish"}
    assert numbers["estimate"]["run_seconds"] > 4 * numbers["estimate"]["step_seconds"] * 0.99
    assert probe.left() == []


def test_a_probe_that_is_interrupted_leaves_nothing(tmp_path: Path, model: Path) -> None:
    """By SIGTERM, which goes the way of Ctrl-C from there on."""
    probe = Probe(job(tmp_path, model))
    assert probe.process.stderr is not None
    for line in probe.process.stderr:
        if "starting the tiers" in line:
            break
    probe.process.send_signal(signal.SIGTERM)
    status, out, err = probe.end()
    assert status == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert probe.left() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"privileged": {"kind": "trace"}}, "4 problem(s) in the tasks"),
        ({"model": {"path": "absent"}}, "absent"),
        ({"stepps": 1}, "stepps"),
    ],
)
def test_a_job_that_cannot_run_is_refused_with_status_2(
    tmp_path: Path, model: Path, changes: dict[str, Any], words: str
) -> None:
    probe = Probe(job(tmp_path, model, **changes), "--json")
    status, out, err = probe.end(60)
    assert (status, out) == (2, "")
    assert words in err
    assert "Traceback" not in err
