"""A job from HTTP to trained weights: real Valkey, Ray, vLLM and learner, a tiny random model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from services.traces import read_step, step_paths
from tests.services.local_service import Up, running
from tests.tiny_model import make_tiny_model
from trainer.model_files import looks_like_model

JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running(tmp_path_factory.mktemp("home")) as up:
        yield up


@pytest.fixture(scope="module")
def rest(service: Up) -> Iterator[httpx.Client]:
    key = Path(service.facts["api_key_file"]).read_text().strip()
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=service.facts["url"], headers=headers, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A job of two steps; the judged letter is one a random byte model writes now and then."""
    folder = tmp_path_factory.mktemp("job")
    for name, count in (("train", 6), ("holdout", 2)):
        rows = [
            {
                "id": f"{name}-{n}",
                "messages": [{"role": "user", "content": f"Say anything {n}."}],
                "verifier": {"kind": "math", "answer": str(n)},
                "privileged": {"answer": str(n)},
            }
            for n in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "name": "tiny",
        "steps": 2,
        "model": {
            "path": str(make_tiny_model(folder / "model")),
            "dtype": "float32",
            "max_length": 96,
        },
        "tasks": {"train": str(folder / "train.jsonl"), "holdout": str(folder / "holdout.jsonl")},
        "algorithm": {"kind": "rlsd", "teacher": "live"},
        "privileged": {"kind": "answer"},
        "sampling": {"group_size": 2, "groups_per_step": 2, "max_tokens": 8},
        "engine": {"kv_cache_gib": 0.05, "max_sequences": 8},
        "tiers": {tier: {"cpus": 0.5} for tier in ("rollout", "verifier", "teacher", "trainer")},
    }


def submit(rest: httpx.Client, spec: dict[str, Any]) -> str:
    answer = rest.post(JOBS, json={"method": {"type": "strop", "strop": spec}})
    assert answer.status_code in (200, 201), answer.text
    return answer.json()["id"]


def followed(rest: httpx.Client, job: str) -> Iterator[dict[str, Any]]:
    """The job's events as they are streamed, until the stream ends with the job."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "0"}
    with rest.stream("GET", f"{JOBS}/{job}/events", headers=headers) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


@pytest.mark.timeout(600)
def test_a_job_over_http_trains_through_every_tier(
    rest: httpx.Client, spec: dict[str, Any]
) -> None:
    job = submit(rest, spec)
    events = list(followed(rest, job))
    record = rest.get(f"{JOBS}/{job}").json()
    assert record["status"] == "succeeded", events[-1]

    data = [event["data"] for event in events]
    steps = [item for item in data if item["kind"] == "step"]
    assert [item["step"] for item in steps] == [1, 2]
    # After each step the engine's log-probs of the canary were the learner's own.
    assert all(item["canary_gap"] < 1e-3 for item in steps)
    # And what it sampled with was what the learner says of the same tokens.
    assert all(item["engine_mismatch"] < 1e-3 for item in steps)
    assert [item["step"] for item in data if item["kind"] == "evaluation"] == [0, 2]
    assert [event["id"] for event in events] == sorted(
        {event["id"] for event in events}, key=int
    ), "every event once, in order"

    assert looks_like_model(record["result"]["model"]) is None
    traces = [read_step(path) for path in step_paths(record["result"]["traces"])]
    assert [trace.step for trace in traces] == [0, 1]
    assert all(trace.teacher_logprobs is not None for trace in traces)
    # The prompts the tiers saw are the ones the file names, in the seed's order, once an epoch.
    seen = [group.task.id for trace in traces for group in trace.groups]
    assert len(set(seen)) == 4


def test_metrics_of_the_service_and_of_vllm_can_be_scraped(service: Up, rest: httpx.Client) -> None:
    ours = rest.get("/metrics").text
    assert 'strop_jobs{status="succeeded"} 1.0' in ours
    assert 'strop_verdicts_total{kind="' in ours, "what the job's verifiers counted outlives it"
    deadline = time.monotonic() + 60  # Ray exports every few seconds
    while True:
        engines = httpx.get(service.facts["engine_metrics_url"], timeout=30).text
        if "vllm_generation_tokens" in engines or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert "vllm_generation_tokens" in engines


@pytest.mark.timeout(600)
def test_a_cancelled_job_gives_everything_back(
    service: Up, rest: httpx.Client, spec: dict[str, Any]
) -> None:
    tiers = (
        "RolloutEngine",
        "VerifierTier",
        "VerifierPool",
        "Teacher",
        "RayTrainWorker",
        "EngineCore",
        "verifiers",
    )

    def of_the_job() -> list[str]:
        below = psutil.Process(service.process.pid).children(recursive=True)
        lines: list[str] = []
        for process in below:
            try:
                lines.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return [line for line in lines if any(tier in line for tier in tiers)]

    job = submit(rest, {**spec, "name": "endless", "steps": 100_000})
    running_tiers: list[str] = []
    for event in followed(rest, job):
        if event["data"]["kind"] == "step" and not running_tiers:
            running_tiers = of_the_job()
            assert rest.post(f"{JOBS}/{job}/cancel").status_code == 200
    assert running_tiers, "the job's actors were seen while it ran"
    assert rest.get(f"{JOBS}/{job}").json()["status"] == "cancelled"

    deadline = time.monotonic() + 60
    while (left := of_the_job()) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []


@pytest.mark.timeout(300)
def test_a_job_that_cannot_run_fails_with_the_reason_before_any_actor_starts(
    rest: httpx.Client, spec: dict[str, Any]
) -> None:
    short = {**spec, "model": {**spec["model"], "max_length": 20}}
    job = submit(rest, short)
    events = list(followed(rest, job))
    record = rest.get(f"{JOBS}/{job}").json()
    assert record["status"] == "failed"
    assert "tasks.train: 6 of 6 prompts are longer than the 12 tokens" in record["error"]["message"]
    assert not [event for event in events if event["data"].get("phase") == "publish"]


def test_the_service_leaves_nothing_behind(service: Up) -> None:
    service.process.terminate()
    assert service.process.wait(120) == 0
    service.assert_gone()
