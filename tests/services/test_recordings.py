"""Recordings: a job that has ended is seen elsewhere as it was seen where it ran."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import redis

from services.config import JobSpec
from services.errors import Conflict
from services.recordings import BadRecording, Recorded, play, record
from services.store import Store
from services.trace_vocabulary import Vocabulary, read_vocabulary, write_vocabulary
from services.traces import write_job, write_step
from tests.services.in_process import client_of, serving
from tests.services.traced_job import PIECES, SPEC, step_trace

JOBS = "/v1/fine_tuning/jobs"


async def ended_job(store: Store, home: Path) -> str:
    """A job of two steps that succeeded, with a checkpoint and its traces."""
    asked = {**SPEC, "tasks": {"train": str(home / "tasks" / "t.jsonl"), "holdout": None}}
    spec = JobSpec.model_validate(asked).model_dump(mode="json")
    job = await store.create_job(spec, metadata={"team": "search"})
    folder = home / "jobs" / job.id
    write_job(folder / "traces", spec)
    write_vocabulary(folder / "traces", Vocabulary({**PIECES, 999: b"unused"}, frozenset({7})))
    await store.claim("w1", job.id)
    for step in (1, 2):
        write_step(folder / "traces", step_trace(step - 1))
        data = {"kind": "step", "step": step, "reward_mean": step / 4, "completion_tokens": 30}
        await store.append_event(job.id, message="s", data=data, token=1, type="metrics")
    model = f"{folder}/checkpoints/step-2/model"
    await store.add_checkpoint(job.id, 1, 2, model, {"loss": 0.5})
    await store.append_event(job.id, message=f"trained model: {model}", token=1)
    await store.transition(job.id, "succeeded", token=1, result={"model": model})
    return job.id


async def seen(store: Store, home: Path, job: str) -> dict[str, Any]:
    """All that the API tells of a job."""
    async with serving(store, home=home, redis_url="redis://unused") as app:
        token = (await app.state.keys.create("test", scopes=["jobs:read", "models:infer"])).token
        async with client_of(app, token) as client:

            async def get(path: str) -> Any:
                response = await client.get(f"{JOBS}/{job}{path}")
                assert response.status_code == 200, response.text
                return response.json()

            found = {path: await get(path) for path in ("", "/events", "/checkpoints", "/metrics")}
            for path in ("/rollouts", "/rollouts/1-0-0", "/rollouts/2-0-1"):
                found[path] = await get(path)
            model = found[""]["fine_tuned_model"]
            messages = [{"role": "user", "content": "Hi"}]
            body = {"model": model, "messages": messages}
            found["chat"] = (await client.post("/v1/chat/completions", json=body)).json()
            return found


async def recorded(store: Store, home: Path, file: Path) -> tuple[str, dict[str, Any]]:
    job = await ended_job(store, home)
    told = await seen(store, home, job)
    one = Recorded(
        told[""],
        told["/events"]["data"],
        told["/checkpoints"]["data"],
        home / "jobs" / job / "traces",
    )
    record(file, [one], home)
    return job, told


async def test_a_recorded_job_is_told_as_it_was_without_the_paths_it_had(
    store: Store, store_url: str, tmp_path: Path
) -> None:
    home, other, file = tmp_path / "home", tmp_path / "other", tmp_path / "run.zip"
    job, told = await recorded(store, home, file)
    with pytest.raises(Conflict, match="already"):
        await play(file, store.link, other / "jobs")
    with redis.Redis.from_url(store_url) as client:
        client.flushall()
    assert await play(file, store.link, other / "jobs") == [job]
    again = await seen(store, other, job)
    assert str(tmp_path) not in json.dumps(again)
    for path in ("/metrics", "/checkpoints", "/rollouts", "/rollouts/1-0-0", "/rollouts/2-0-1"):
        assert again[path] == told[path]
    changed = {"result", "spec", "training_file", "method", "attempts", "last_progress_at"}
    same = set(told[""]) - changed
    assert {name: again[""][name] for name in same} == {name: told[""][name] for name in same}
    assert again[""]["training_file"] == "t.jsonl"
    assert again[""]["reward_history"] == [[1, 0.25], [2, 0.5]]
    assert [e["id"] for e in again["/events"]["data"]] == [e["id"] for e in told["/events"]["data"]]
    assert again["chat"]["status"] == 409
    assert "recorded run" in again["chat"]["detail"]
    assert (await store.job_counts())["succeeded"] == 1
    vocabulary = read_vocabulary(other / "jobs" / job / "traces")
    assert vocabulary == Vocabulary(PIECES, frozenset({7}))
    with zipfile.ZipFile(file) as archive:
        assert str(tmp_path) not in archive.read("recording.json").decode()


async def test_what_is_no_recording_is_refused(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "x.zip"
    with pytest.raises(BadRecording, match="cannot be read"):
        await play(file, store.link, tmp_path / "jobs")
    file.write_bytes(b"nonsense")
    with pytest.raises(BadRecording, match="is not a recording"):
        await play(file, store.link, tmp_path / "jobs")
    job = await store.create_job(SPEC)
    running = Recorded({"id": job.id, "status": "queued"}, [], [], tmp_path)
    with pytest.raises(BadRecording, match="wait until it has ended"):
        record(file, [running], tmp_path)


@pytest_asyncio.fixture
async def recording(store: Store, tmp_path: Path) -> tuple[str, Path]:
    """A recorded job, and its file."""
    job, _ = await recorded(store, tmp_path / "home", tmp_path / "run.zip")
    return job, tmp_path / "run.zip"


@pytest.mark.timeout(300)
def test_the_demo_serves_a_recording_to_a_key_that_only_looks_and_leaves_nothing(
    recording: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job, file), scratch = recording, tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setenv("STROP_HOME", str(tmp_path / "untouched"))
    monkeypatch.delenv("STROP_PORT", raising=False)
    command = [sys.executable, "-m", "services.cli", "up", "--demo", "--no-browser", "--json"]
    process = subprocess.Popen(
        [*command, "--recording", str(file)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        address, _, key = facts["page"].partition("#key=")
        assert address == f"{facts['url']}/"
        assert "<script" in httpx.get(address).text
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=facts["url"], headers=headers, timeout=60) as client:
            listed = client.get(JOBS).json()["data"]
            assert [(one["id"], one["status"]) for one in listed] == [(job, "succeeded")]
            assert len(client.get(f"{JOBS}/{job}/rollouts").json()["data"]) == 6
            assert client.get("/v1/me").json()["scopes"] == [
                "jobs:read",
                "files:read",
                "models:infer",
            ]
            assert client.post(f"{JOBS}/{job}/cancel").status_code == 403
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "untouched").exists()
