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

from tests.chaos.harness import (
    ADOPTED_S,
    AWAY,
    DAMAGED,
    FAULTS,
    JOBS,
    STEPS,
    Patient,
    Wound,
    assert_whole,
    learned_tasks,
    table,
    undisturbed,
)
from tests.services.local_service import Up, running
from tests.tiny_model import make_tiny_model

SHORT = ("verifier worker", "rollout engine core")
LONG = os.environ.get("STROP_CHAOS") == "long"
"""`make chaos`: every fault in an order drawn from STROP_CHAOS_SEED, or STROP_CHAOS_FAULTS."""


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


def job(folder: Path, steps: int) -> tuple[dict[str, Any], list[str]]:
    """A job of so many steps, and the ids of its tasks. About half of what a random model writes
    has one of the letters, so that every step has something to learn from."""
    rows = [
        {
            "id": f"t{n}",
            "messages": [{"role": "user", "content": f"Say anything {n}."}],
            "verifier": {"kind": "text", "regex": "(?s).*[a-d].*", "extract": {"kind": "text"}},
            "privileged": {"answer": "abcd"},
        }
        for n in range(5)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {
        "name": "chaos",
        "steps": steps,
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


def submitted(up: Up, rest: httpx.Client, spec: dict[str, Any], chance: random.Random) -> Patient:
    answer = rest.post(JOBS, json={"method": {"type": "strop", "strop": spec}})
    assert answer.is_success, answer.text
    return Patient(up, rest, answer.json()["id"], chance)


@pytest.mark.timeout(7200 if LONG else 1800)
def test_a_job_outlives_what_is_killed_under_it(
    up: Up, rest: httpx.Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("STROP_CHAOS_SEED", "0"))
    chance = random.Random(seed)
    chosen = os.environ.get("STROP_CHAOS_FAULTS")
    faults = chosen.split(",") if chosen else list(FAULTS if LONG else SHORT)
    assert set(faults) <= set(FAULTS), f"STROP_CHAOS_FAULTS: of {', '.join(FAULTS)}"
    if LONG and not chosen:
        chance.shuffle(faults)
    spec, tasks = job(tmp_path, STEPS * len(faults) + AWAY * ("API" in faults))
    patient = submitted(up, rest, spec, chance)
    folder = Path(up.facts["home"]) / "jobs" / patient.job

    wounds: list[Wound] = []
    for fault in faults:
        wounds.append(patient.suffer(fault, folder))
        with capsys.disabled():
            print(f"\n{wounds[-1]}", end="", flush=True)
    assert_whole(patient, spec, tasks)

    with capsys.disabled():
        print(f"\nseed {seed}, {spec['steps']} steps:", *table(wounds, patient), sep="\n")
    if DAMAGED in faults:
        told = [event["message"] for event in patient.events()]
        assert any("is damaged and was set aside" in message for message in told)
    adopted = {wound.fault: wound.adopted_s for wound in wounds if wound.adopted_s is not None}
    assert set(adopted) == {"controller", "dispatcher", DAMAGED} & set(faults)
    if LONG:  # beside all other tests a machine may take any time
        assert all(seconds <= ADOPTED_S for seconds in adopted.values()), adopted


@pytest.mark.skipif(not LONG, reason="the tasks of a job without faults: `make chaos` runs it")
def test_a_job_that_nothing_happens_to_learns_from_the_tasks_that_are_expected(
    up: Up, rest: httpx.Client, tmp_path: Path
) -> None:
    spec, tasks = job(tmp_path, 2 * STEPS)
    patient = submitted(up, rest, spec, random.Random())
    assert_whole(patient, spec, tasks)
    assert learned_tasks(patient) == undisturbed(spec, tasks)


def test_nothing_of_the_service_is_left(up: Up) -> None:
    up.process.terminate()
    assert up.process.wait(120) == 0
    up.assert_gone()
