"""A dry run: everything that can be said of a job, and nothing taken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
import pytest_asyncio

from services.api.dry_runs import DryRuns
from services.config import JobSpec
from services.errors import DryRunUnavailable
from tests.services.running import Api
from tests.tiny_model import make_tiny_model

_HELPER = "services.dry_run"

STEP = {
    "kind": "step", "step": 1, "steps": 4, "phase_seconds": {"rollout": 3.0, "learn": 1.0},
    "completion_tokens": 1000, "completion_length_mean": 10.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest_asyncio.fixture
async def client(api: Api) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{api.url}/v1", api_key=api.key, max_retries=0
    ) as client:
        yield client


async def test_a_dry_run_says_what_a_job_would_be_and_queues_nothing(
    api: Api, client: openai.AsyncOpenAI, model: Path, task_file: Path
) -> None:
    steps: Any = {"type": "rlsd", "rlsd": {"steps": 4, "model": {"max_length": 1024}}}
    form: Any = {"model": str(model), "training_file": str(task_file), "method": steps}
    jobs = client.fine_tuning.jobs
    found: Any = await jobs.create(**form, extra_body={"dry_run": True, "preview": 1})
    assert found.object == "fine_tuning.job.dry_run"
    assert found.spec["algorithm"]["kind"] == "rlsd"
    assert found.tasks == {"train": 2, "holdout": 0}
    assert found.tokens["completion_per_run_at_most"] == 4 * 64 * 512
    (seen,) = found.preview
    assert seen["policy"]["tokens"] == len(seen["policy"]["ids"])
    assert "One and one make two." in seen["teacher"]["text"]
    assert "One and one make two." not in seen["policy"]["text"]
    memory = found.memory
    assert {tier["tier"] for tier in memory["tiers"]} == {
        "rollout", "teacher", "trainer", "verifier",
    }  # fmt: skip
    assert memory["host_bytes"] == psutil.virtual_memory().total
    assert memory["host_fits"] == (memory["host_needed_bytes"] <= memory["host_bytes"])
    assert found.time["seconds"] is None
    assert "strop probe" in found.time["basis"]
    assert (await api.store.list_jobs())[0] == []
    # A job like it that has done a step tells the time; the query asks as the body does.
    like = await jobs.create(**form)
    claimed = await api.store.claim("w1")
    assert claimed is not None
    await api.store.append_event(claimed.id, message="s", type="metrics", data=STEP)
    again: Any = await jobs.create(**form, extra_query={"dry_run": True})
    assert again.time["step_seconds"] == pytest.approx(4.0 / 1000 * 64 * 10)
    assert like.id in again.time["basis"]
    assert again.preview == []
    assert len((await api.store.list_jobs())[0]) == 1


async def test_what_its_controller_would_refuse_a_dry_run_refuses(
    client: openai.AsyncOpenAI, model: Path, tmp_path: Path
) -> None:
    long = {"messages": [{"role": "user", "content": "x" * 900}], "verifier": _verifier()}
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps(long))
    with pytest.raises(openai.UnprocessableEntityError, match="longer than the 512 tokens"):
        await client.fine_tuning.jobs.create(
            model=str(model),
            training_file=str(path),
            method={"type": "grpo"},  # type: ignore[typeddict-item]
            extra_body={"dry_run": True},
        )


def _verifier() -> dict[str, Any]:
    return {"kind": "math", "answer": "2"}


async def test_a_helper_that_dies_or_is_late_is_replaced(model: Path, task_file: Path) -> None:
    spec = JobSpec.model_validate(
        {"model": {"path": str(model)}, "tasks": {"train": str(task_file)}}
    )
    late = DryRuns(deadline_s=0.05)
    with pytest.raises(DryRunUnavailable, match=r"within 0 s"):
        await late.look(spec, 0)
    assert not any(_HELPER in _of(c) for c in psutil.Process().children())
    runs = DryRuns()
    asked = asyncio.create_task(runs.look(spec, 0))
    async with asyncio.timeout(60):
        while not (helpers := [c for c in psutil.Process().children() if _HELPER in _of(c)]):
            await asyncio.sleep(0.01)
    helpers[0].kill()
    with pytest.raises(DryRunUnavailable, match="failed"):
        await asked
    assert (await runs.look(spec, 0))["tasks"] == {"train": 2, "holdout": 0}
    await runs.close()
    assert not any(_HELPER in _of(c) for c in psutil.Process().children())


def _of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
