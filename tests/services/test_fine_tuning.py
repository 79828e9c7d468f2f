"""Fine-tuning jobs as OpenAI's own client makes, watches and steers them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import openai
import pytest
import pytest_asyncio
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

from services.files import FileStore
from services.jobs import Job
from services.model_names import Trained, trained
from tests.services.running import Api
from trainer.dataset import load_tasks

DEMO = "smollm2-135m-instruct"
ASK = [{"role": "user", "content": "The capital of Norway?"}]
CITY = {
    "type": "string_check",
    "name": "city",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.city }}",
    "operation": "eq",
}
LENGTH = {
    "type": "python",
    "name": "length",
    "source": "def grade(sample, item):\n    return 1.0 if len(sample['output_text']) < 9 else 0.0",
}
ITEMS = [{"messages": ASK, "city": "Oslo"} for _ in range(10)]


@pytest_asyncio.fixture
async def client(api: Api) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{api.url}/v1", api_key=api.key, max_retries=0
    ) as client:
        yield client


async def uploaded(client: openai.AsyncOpenAI, rows: list[dict[str, Any]]) -> str:
    data = "\n".join(json.dumps(row) for row in rows).encode()
    made = await client.files.create(file=("items.jsonl", data), purpose="fine-tune")
    return made.id


async def created(client: openai.AsyncOpenAI, path: Path, **more: Any) -> Any:
    method: Any = {"type": "grpo"}
    form: Any = {"model": DEMO, "training_file": str(path), "method": method, **more}
    return await client.fine_tuning.jobs.create(**form)


async def claimed(api: Api) -> Job:
    job = await api.store.claim("w1")
    assert job is not None
    return job


@pytest.mark.parametrize(
    ("method", "kind", "view"),
    [
        ({"type": "rlsd", "rlsd": {"mix": {"start": 0.3}, "steps": 7}}, "rlsd", "trace"),
        ({"type": "rlsd", "rlsd": {"privileged": {"kind": "answer"}}}, "rlsd", "answer"),
        ({"type": "grpo"}, "grpo", None),
        ({"type": "opd", "opd": {"teacher": {"path": "org/teacher"}}}, "opd", None),
        ({"type": "opsd", "opsd": {"top_k": 8}}, "opsd", "trace"),
        ({"type": "grpo_opsd", "grpo_opsd": {"alpha": 0.2}}, "grpo_opsd", "trace"),
        ({"type": "sdpo", "sdpo": {}}, "sdpo", "feedback"),
        ({"type": "strop", "strop": {"algorithm": {"kind": "grpo"}}}, "grpo", None),
    ],
)
async def test_an_algorithm_is_one_word_or_a_whole_spec(
    client: openai.AsyncOpenAI, task_file: Path, method: Any, kind: str, view: str | None
) -> None:
    job: Any = await created(client, task_file, method=method, seed=5, suffix="mine")
    assert (job.status, job.spec["algorithm"]["kind"]) == ("queued", kind)
    assert (job.spec["privileged"] or {}).get("kind") == view
    assert (job.seed, job.spec["name"], job.user_provided_suffix) == (5, "mine", "mine")
    assert job.method.to_dict(warnings=False) == method
    if own := method.get(method["type"]):
        for name in set(own) & set(job.spec["algorithm"]):
            assert (
                own[name].items() <= job.spec["algorithm"][name].items()
                if isinstance(own[name], dict)
                else own[name] == job.spec["algorithm"][name]
            )


async def test_reinforcement_with_a_grader_becomes_rlsd_where_items_are_privileged(
    api: Api, client: openai.AsyncOpenAI
) -> None:
    file, held_out = await uploaded(client, ITEMS), await uploaded(client, ITEMS[:3])
    given = {
        "n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 3.0, "compute_multiplier": 0.5,
        "eval_interval": 2, "eval_samples": 5, "reasoning_effort": "default",
    }  # fmt: skip
    made: Any = await client.fine_tuning.jobs.create(
        model=DEMO,
        training_file=file,
        validation_file=held_out,
        method=_reinforcement(CITY, given),
    )
    spec = made.spec
    assert (made.training_file, made.validation_file) == (file, held_out)
    assert spec["algorithm"]["kind"] == "rlsd"
    assert spec["privileged"]["kind"] == "answer"
    assert (spec["steps"], spec["sampling"]["groups_per_step"]) == (5, 4)
    assert spec["sampling"]["group_size"] == 4
    assert spec["optimizer"]["learning_rate"] == pytest.approx(3e-6)
    assert spec["evaluation"] == {"every": 2, "samples": 5}
    shown = made.hyperparameters
    assert (shown.n_epochs, shown.batch_size) == (2, 4)
    assert shown.learning_rate_multiplier == pytest.approx(3.0)
    told = "\n".join(made.notes)
    for name in set(given) - {"reasoning_effort"}:
        assert f"hyperparameters.{name}" in told
    assert "privileged answer: rlsd" in told
    # What runs the job is given paths, which nobody else sees.
    job = await claimed(api)
    path: str = job.spec["tasks"]["train"]
    assert len(load_tasks(path, CITY)) == len(ITEMS)
    assert path.endswith(f"/{file}.jsonl")
    assert path.removesuffix(f"/{file}.jsonl") not in json.dumps(made.to_dict(warnings=False))


async def test_reinforcement_without_privileged_items_becomes_grpo(
    client: openai.AsyncOpenAI,
) -> None:
    file = await uploaded(client, ITEMS)
    made: Any = await client.fine_tuning.jobs.create(
        model=DEMO, training_file=file, method=_reinforcement(LENGTH)
    )
    assert (made.spec["algorithm"]["kind"], made.spec["privileged"]) == ("grpo", None)
    assert any("no item has any" in note for note in made.notes)


JUDGED = {
    "type": "score_model", "name": "s", "model": "m",
    "input": [{"role": "user", "content": "{{ sample.output_text }}"}],
}  # fmt: skip


def _reinforcement(grader: Any, hyperparameters: Any = None) -> Any:
    inner = {"grader": grader} | ({"hyperparameters": hyperparameters} if hyperparameters else {})
    return {"type": "reinforcement", "reinforcement": inner}


@pytest.mark.parametrize(
    ("form", "param", "said"),
    [
        ({"method": {"type": "supervised"}}, "method.type", "no such training"),
        ({"method": {"type": "dpo", "dpo": {}}}, "method.type", "pairs of answers"),
        ({"method": {"type": "ppo"}}, "method.type", "rlsd"),
        ({"method": {"type": "strop"}}, "method.strop", "is missing"),
        ({"method": {"type": "reinforcement"}}, "method.reinforcement.grader", "is missing"),
        (
            {"method": {"type": "reinforcement", "reinforcement": {"grader": CITY, "mix": 1}}},
            "method.reinforcement.mix",
            "need its word",
        ),
        (
            {"method": _reinforcement(JUDGED)},
            "method.reinforcement.grader",
            "asks a model",
        ),
        (
            {"method": _reinforcement(CITY, {"reasoning_effort": "high"})},
            "method.reinforcement.hyperparameters.reasoning_effort",
            "no such switch",
        ),
        (
            {"method": _reinforcement(CITY, {"batch_size": 0})},
            "method.reinforcement.hyperparameters.batch_size",
            "is 0",
        ),
        (
            {"method": _reinforcement(CITY, {"beta": 0.1})},
            "method.reinforcement.hyperparameters.beta",
            "is not known",
        ),
        (
            {"method": _reinforcement(CITY, {"eval_interval": 5})},
            "method.reinforcement",
            "but validation_file names no held-out tasks",
        ),
        ({"method": {"type": "grpo", "rlsd": {}}}, "method.rlsd", "method.type is grpo"),
        ({"method": {"type": "grpo", "grpo": {"mix": {}}}}, "method.grpo.mix", "Extra"),
        (
            {"method": {"type": "rlsd", "rlsd": {"token_clip": -1}}},
            "method.rlsd.token_clip",
            ">|gr",
        ),
        ({"method": {"type": "rlsd", "rlsd": {"seed": 3}}, "seed": 4}, "seed", "contradicts"),
        ({"hyperparameters": {"n_epochs": 3}}, "hyperparameters", "inside of `method`"),
        (
            {"integrations": [{"type": "comet", "wandb": {"project": "p"}}]},
            "integrations.0.type",
            "wandb",
        ),
        ({"training_file": "file-000000000000000000000000"}, "training_file", "no file"),
        ({"model": "ft:base:name:000000000000000000000000"}, "model", "no model"),
        ({"extra_body": {"priority": 101}}, "priority", "100"),
        ({"extra_body": {"max_runtime": -1}}, "max_runtime", "greater"),
        ({"extra_body": {"status": "succeeded"}}, "status", "Extra"),
    ],
)
async def test_what_means_nothing_here_is_refused_by_its_own_name(
    api: Api,
    client: openai.AsyncOpenAI,
    task_file: Path,
    form: dict[str, Any],
    param: str,
    said: str,
) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match=said) as refused:
        await created(client, task_file, **form)
    assert refused.value.param == param
    assert (await api.store.list_jobs())[0] == []


async def test_what_is_wrong_with_a_file_is_told_under_its_own_name(
    client: openai.AsyncOpenAI, api_home: Path
) -> None:
    file = await uploaded(client, ITEMS)
    inner = {"grader": CITY, "privileged": {"kind": "documents"}}
    with pytest.raises(openai.UnprocessableEntityError, match=f"training_file: {file}: ") as told:
        await client.fine_tuning.jobs.create(
            model=DEMO, training_file=file, method=cast("Any", {"type": "rlsd", "rlsd": inner})
        )
    assert str(api_home) not in told.value.response.text


async def test_files_of_others_and_of_the_service_itself_are_out_of_reach(
    api: Api, client: openai.AsyncOpenAI, api_home: Path
) -> None:
    file = await uploaded(client, ITEMS)
    path = await FileStore(api.store.link, api_home / "files").path(file, "default")
    stranger = client.with_options(api_key=await api.key_of("jobs:write", tenant="other"))
    link = api_home.parent / "link.jsonl"
    link.unlink(missing_ok=True)
    link.symlink_to(path)
    for who, name, said in (
        (stranger, file, "no file"),
        (stranger, str(path), "outside"),
        (client, str(path), "outside"),
        (client, str(link), "outside"),
        (client, str(path.parent / "none.jsonl"), "outside"),
    ):
        with pytest.raises(openai.UnprocessableEntityError, match=said) as refused:
            await who.fine_tuning.jobs.create(
                model=DEMO, training_file=name, method=_reinforcement(CITY)
            )
        assert refused.value.param == "training_file"
    link.unlink()


async def test_jobs_are_listed_page_by_page_and_by_metadata(
    client: openai.AsyncOpenAI, task_file: Path
) -> None:
    teams = ["a", "b", "a", "a", "b"]
    made = [
        (await created(client, task_file, metadata={"team": team, "n[0]": str(n)})).id
        for n, team in enumerate(teams)
    ]
    jobs = client.fine_tuning.jobs
    assert [job.id async for job in jobs.list(limit=2)] == made[::-1]
    wanted = [job.id async for job in jobs.list(limit=1, metadata={"team": "a"})]
    assert wanted == [made[3], made[2], made[0]]
    exact = [job.id async for job in jobs.list(metadata={"team": "a", "n[0]": "2"})]
    assert exact == [made[2]]
    assert [job.id async for job in jobs.list(metadata={"team": ""})] == []
    for query in ({"metadata": "null"}, {"metadata[]": "x"}):
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            await jobs.list(extra_query=query)
        assert refused.value.param == "metadata"


async def test_an_integration_of_openai_is_a_tracker_of_the_job(
    client: openai.AsyncOpenAI, task_file: Path
) -> None:
    wandb = {"project": "sql", "name": "first", "tags": ["a"]}
    made: Any = await created(client, task_file, integrations=[{"type": "wandb", "wandb": wandb}])
    assert made.spec["tracking"] == [{"kind": "wandb", "entity": None, **wandb}]
    (shown,) = made.integrations
    assert (shown.type, shown.wandb.project, shown.wandb.tags) == ("wandb", "sql", ["a"])


async def test_a_job_is_paused_resumed_changed_and_cancelled(
    api: Api, client: openai.AsyncOpenAI, task_file: Path
) -> None:
    jobs = client.fine_tuning.jobs
    extras = {"priority": 5, "max_runtime": 3600, "max_tokens": 10**6}
    made: Any = await created(client, task_file, extra_body=extras)
    assert (made.priority, made.max_runtime, made.max_tokens) == (5, 3600.0, 10**6)
    assert made.organization_id == "default"
    assert (made.result_files, made.integrations, made.error) == ([], [], None)
    assert (await jobs.pause(made.id)).status == "paused"
    assert (await jobs.resume(made.id)).status == "queued"
    path = f"/fine_tuning/jobs/{made.id}"
    changed: Any = await client.patch(
        path, cast_to=FineTuningJob, body={"priority": 9, "metadata": {"a": "b"}}
    )
    assert (changed.priority, changed.metadata, changed.max_tokens) == (9, {"a": "b"}, 10**6)
    job = await claimed(api)
    await api.store.append_event(
        job.id,
        message="step 1",
        type="metrics",
        data={"kind": "step", "step": 1, "steps": 9, "seconds_left": 90.0, "completion_tokens": 64},
    )
    running: Any = await jobs.retrieve(made.id)
    assert (running.status, running.trained_tokens) == ("running", 64)
    assert running.estimated_finish is not None
    assert running.started_at is not None
    assert 0 <= running.estimated_finish - running.started_at - 90 <= 60
    paused: Any = await jobs.pause(made.id)
    assert (paused.status, paused.pause_requested) == ("running", True)
    cancelled: Any = await jobs.cancel(made.id)
    assert (cancelled.status, cancelled.cancel_requested) == ("running", True)
    await api.store.transition(made.id, "cancelled", token=job.token)
    with pytest.raises(openai.ConflictError):
        await jobs.pause(made.id)
    with pytest.raises(openai.ConflictError):
        await client.patch(path, cast_to=FineTuningJob, body={"priority": 1})
    with pytest.raises(openai.UnprocessableEntityError):
        await client.patch(path, cast_to=FineTuningJob, body={"status": "queued"})


async def test_a_change_that_was_decided_on_an_older_sight_is_refused(
    api: Api, client: openai.AsyncOpenAI, task_file: Path
) -> None:
    made: Any = await created(client, task_file)
    path = f"/fine_tuning/jobs/{made.id}"
    async with api.client() as plain:
        seen = (await plain.get(f"/v1{path}")).headers["etag"]
        again = await plain.get(f"/v1{path}", headers={"If-None-Match": seen})
        assert again.status_code == 304
    headers: Any = {"headers": {"If-Match": seen}}
    await client.patch(path, cast_to=FineTuningJob, body={"priority": 1}, options=headers)
    with pytest.raises(openai.APIStatusError) as stale:
        await client.patch(path, cast_to=FineTuningJob, body={"priority": 2}, options=headers)
    assert stale.value.status_code == 412
    with pytest.raises(openai.APIStatusError) as stale:
        await client.fine_tuning.jobs.cancel(made.id, extra_headers={"If-Match": seen})
    assert stale.value.status_code == 412
    job: Any = await client.fine_tuning.jobs.retrieve(made.id)
    assert (job.status, job.priority) == ("queued", 1)


async def test_creating_twice_under_one_key_makes_one_job(
    api: Api, client: openai.AsyncOpenAI, task_file: Path
) -> None:
    headers = {"Idempotency-Key": "only-once"}
    first = await created(client, task_file, extra_headers=headers)
    again = await created(client, task_file, extra_headers=headers)
    assert again.id == first.id
    with pytest.raises(openai.ConflictError):
        await created(client, task_file, seed=9, extra_headers=headers)
    assert [job.id for job in (await api.store.list_jobs())[0]] == [first.id]


async def test_checkpoints_have_names_and_a_job_is_tried_again_from_one(
    api: Api, client: openai.AsyncOpenAI, task_file: Path
) -> None:
    made: Any = await created(client, task_file, suffix="sums", metadata={"a": "b"})
    job = await claimed(api)
    for step in (2, 4, 6):
        metrics = {"train_loss": 0.5, "reward_mean": step / 10}
        await api.store.add_checkpoint(job.id, job.token, step, f"/jobs/x/step-{step}", metrics)
    listed = client.fine_tuning.jobs.checkpoints.list(made.id, limit=2)
    found = [one async for one in listed]
    assert [one.step_number for one in found] == [6, 4, 2]
    assert {one.fine_tuning_job_id for one in found} == {made.id}
    assert [one.metrics.train_loss for one in found] == [0.5] * 3
    assert trained(found[0].fine_tuned_model_checkpoint) == Trained(made.id, 6)
    path = f"/fine_tuning/jobs/{made.id}/retry"
    with pytest.raises(openai.ConflictError):
        await client.post(path, cast_to=FineTuningJob)
    error: Any = {"code": "boom", "message": "it broke", "param": None}
    await api.store.transition(made.id, "failed", token=job.token, error=error)
    failed = await client.fine_tuning.jobs.retrieve(made.id)
    assert failed.error is not None
    assert (failed.status, failed.error.code, failed.fine_tuned_model) == ("failed", "boom", None)
    body = {"checkpoint": found[1].id}
    again: Any = await client.post(path, cast_to=FineTuningJob, body=body)
    assert (again.status, again.retry_of, again.metadata) == ("queued", made.id, {"a": "b"})
    assert (again.spec, again.method) == (made.spec, made.method)
    assert (await api.store.get_job(again.id)).source == "/jobs/x/step-4"
    with pytest.raises(openai.NotFoundError):
        await client.post(path, cast_to=FineTuningJob, body={"checkpoint": "ftckpt-x-9"})


async def test_events_metrics_and_logs_are_followed_to_the_end(
    api: Api, client: openai.AsyncOpenAI, task_file: Path
) -> None:
    made = await created(client, task_file)
    path = f"/fine_tuning/jobs/{made.id}"
    every = asyncio.create_task(streamed(client, f"{path}/events"))
    numbers = asyncio.create_task(streamed(client, f"{path}/metrics"))
    log = asyncio.create_task(
        client.get(f"{path}/logs", cast_to=str, options={"params": {"follow": "true"}})
    )
    job = await claimed(api)
    for step in (1, 2, 3):
        data = {"kind": "step", "step": step, "reward_mean": step / 10}
        await api.store.append_event(
            job.id, message=f"step {step}\nof 3", type="metrics", data=data
        )
    await api.store.transition(job.id, "succeeded", token=job.token, result={"model": "/m"})
    async with asyncio.timeout(60):
        events, steps, text = await every, await numbers, await log
    assert [event.id for event in events] == ["1", "2", "3", "4", "5", "6"]
    assert [event.id async for event in client.fine_tuning.jobs.list_events(made.id, limit=2)] == [
        event.id for event in events
    ]
    assert [(one.id, one.step, one.metrics) for one in steps] == [
        (str(step + 2), step, {"reward_mean": step / 10}) for step in (1, 2, 3)
    ]
    assert text.splitlines()[2:4] == [text.splitlines()[2], "    of 3"]
    assert " info  step 1" in text.splitlines()[2]
    assert text.splitlines()[-1].endswith("Job succeeded.")
    assert [one.id for one in await streamed(client, f"{path}/metrics", "4")] == ["5"]
    first: Any = await client.get(f"{path}/metrics", cast_to=object, options=_query(limit=2))
    rest: Any = await client.get(f"{path}/metrics", cast_to=object, options=_query(after=4))
    assert ([one["id"] for one in first["data"]], first["has_more"]) == (["3", "4"], True)
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (["5"], False)
    stranger = client.with_options(api_key=await api.key_of("jobs:read", tenant="other"))
    for what in ("events", "metrics", "logs", "checkpoints"):
        with pytest.raises(openai.NotFoundError):
            await stranger.get(f"{path}/{what}", cast_to=object)


def _query(**params: Any) -> Any:
    return {"params": params}


async def streamed(client: openai.AsyncOpenAI, path: str, last: str | None = None) -> list[Any]:
    """What a stream gives until it ends, as the client's own decoder reads it."""
    headers: dict[str, str] = {"Accept": "text/event-stream"}
    if last is not None:
        headers["Last-Event-ID"] = last
    stream = await client.get(
        path,
        cast_to=FineTuningJobEvent,
        options={"headers": headers},
        stream=True,
        stream_cls=openai.AsyncStream[FineTuningJobEvent],
    )
    return [event async for event in stream]
