"""Nothing that is killed loses a job: faults at random moments of a job on a real service."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.harness import DAMAGED, FAULTS, JOBS, Patient, assert_whole, table
from tests.services.local_service import Up, running
from tests.tiny_model import make_tiny_model

SHORT = ("rollout engine core", "teacher", "trainer rank", "controller")
CHAOS = os.environ.get("STROP_CHAOS")
"""`long` (`make chaos`): every fault, and a job that goes on long enough for them; `short`."""
LONG = CHAOS == "long"

pytestmark = pytest.mark.skipif(CHAOS is None, reason="takes minutes: `make chaos` runs it")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running(tmp_path_factory.mktemp("home")) as service:
        yield service


@pytest.fixture(scope="module")
def rest(up: Up) -> Iterator[httpx.Client]:
    key = Path(up.facts["api_key_file"]).read_text().strip()
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=up.facts["url"], headers=headers, timeout=30) as client:
        yield client


def job(folder: Path, faults: int) -> tuple[dict[str, Any], list[str]]:
    """A job that is long enough for so many faults, and the ids of its tasks."""
    rows = [
        {
            "id": f"t{n}",
            "messages": [{"role": "user", "content": f"Say anything {n}."}],
            "verifier": {"kind": "math", "answer": str(n)},
            "privileged": {"answer": str(n)},
        }
        for n in range(5)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {
        "name": "chaos",
        "steps": 30 * faults,
        "model": {
            "path": str(make_tiny_model(folder / "model")),
            "dtype": "float32",
            "max_length": 160,
        },
        "tasks": {"train": str(folder / "train.jsonl")},
        "algorithm": {"kind": "rlsd", "teacher": {"synced": 3}},
        "privileged": {"kind": "answer"},
        "sampling": {"group_size": 4, "groups_per_step": 4, "max_tokens": 40},
        "checkpoint": {"every": 5, "keep": 2},
        "engine": {"kv_cache_gib": 0.05, "max_sequences": 16},
        "tiers": {tier: {"cpus": 0.5} for tier in ("rollout", "verifier", "teacher", "trainer")},
    }
    return spec, [row["id"] for row in rows]


@pytest.mark.timeout(3600 if LONG else 900)
def test_a_job_outlives_what_is_killed_under_it(
    up: Up, rest: httpx.Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("STROP_CHAOS_SEED", "0"))
    chance = random.Random(seed)
    faults = list(FAULTS if LONG else SHORT)
    if LONG:
        chance.shuffle(faults)
    spec, tasks = job(tmp_path, len(faults))
    answer = rest.post(JOBS, json={"method": {"type": "strop", "strop": spec}})
    assert answer.is_success, answer.text
    patient = Patient(up, rest, answer.json()["id"], chance)
    folder = Path(up.facts["home"]) / "jobs" / patient.job

    wounds = patient.suffer(faults, folder, every=2)

    with capsys.disabled():
        print(f"\nfaults with seed {seed}:", *table(wounds, spec["steps"]), sep="\n")
    assert_whole(patient, spec, tasks)
    if DAMAGED in faults:
        told = [event["message"] for event in patient.events()]
        assert any("is damaged and was set aside" in message for message in told)
    up.process.terminate()
    assert up.process.wait(120) == 0
    up.assert_gone()
