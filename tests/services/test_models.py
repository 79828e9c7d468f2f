"""Which models there are, who may ask them, and what may be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest

from services.jobs import Job
from services.model_names import model_name
from tests.services.running import Api
from trainer.model_files import DEMO

CHAT = "/v1/chat/completions"
MESSAGES: Any = [{"role": "user", "content": "hi"}]


async def trained(api: Api, home: Path, tenant: str = "default", **spec: Any) -> tuple[Job, Path]:
    """A job that has succeeded, and the checkpoint it left."""
    fields = {"name": "sums", "model": {"path": DEMO}, "tasks": {"train": "/t", "holdout": None}}
    job = await api.store.create_job({**fields, "seed": 0, **spec}, tenant=tenant)
    claimed = await api.store.claim("w", job.id)
    assert claimed is not None
    folder = home / "jobs" / job.id / "checkpoints" / "step-00000007" / "model"
    folder.mkdir(parents=True)
    token = claimed.token
    await api.store.add_checkpoint(job.id, token, 7, str(folder), {})
    result = {"model": str(folder)}
    return await api.store.transition(job.id, "succeeded", token=token, result=result), folder


async def test_openais_client_lists_retrieves_and_deletes_trained_models(
    api: Api, api_home: Path
) -> None:
    job, folder = await trained(api, api_home)
    other, _ = await trained(api, api_home)
    client = openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key=api.key, max_retries=0)
    final, saved = (model_name(DEMO, "sums", job.id, step) for step in (None, 7))
    names = [model.id async for model in client.models.list()]
    later = [model_name(DEMO, "sums", other.id, step) for step in (None, 7)]
    assert names == [DEMO, *later, final, saved]
    for name in (final, DEMO):
        assert (await client.models.retrieve(name)).id == name
    assert (await client.models.delete(saved)).deleted
    assert not folder.parent.exists()
    assert [model.id async for model in client.models.list()] == [DEMO, *later]
    for gone in (final, saved, "ft:x:y:z", "nobody/nothing/here", "/etc"):
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve(gone)
    with pytest.raises(openai.ConflictError, match="base model"):
        await client.models.delete(DEMO)
    await client.close()


async def test_a_page_of_models_goes_on_where_the_last_one_ended(api: Api, api_home: Path) -> None:
    jobs = [(await trained(api, api_home))[0] for _ in range(2)]
    await api.store.create_job(
        {"model": {"path": DEMO}, "tasks": {"train": "/t", "holdout": None}, "seed": 0},
        tenant="default",
    )
    jobs.append((await trained(api, api_home))[0])
    async with api.client() as client:
        names: list[str] = []
        after = ""
        while True:
            page = (await client.get(f"/v1/models?limit=1{after}")).raise_for_status().json()
            names += [model["id"] for model in page["data"]]
            after = f"&after={page['last_id']}"
            if not page["has_more"]:
                break
    expected = [model_name(DEMO, "sums", job.id, s) for job in jobs[::-1] for s in (None, 7)]
    assert names == [DEMO, *expected]
    async with api.client() as client:
        refused = await client.get("/v1/models?after=ft:a:b:c")
        assert (refused.status_code, refused.json()["error"]["param"]) == (404, "after")


async def test_models_are_the_tenants_own(api: Api, api_home: Path) -> None:
    job, folder = await trained(api, api_home)
    name = model_name(DEMO, "sums", job.id)
    key = await api.key_of("jobs:read", "jobs:write", "models:infer", tenant="other")
    async with api.client(key=key) as theirs:
        assert [model["id"] for model in (await theirs.get("/v1/models")).json()["data"]] == [DEMO]
        answers = [
            await theirs.get(f"/v1/models/{name}"),
            await theirs.delete(f"/v1/models/{name}"),
            await theirs.post(CHAT, json={"model": name, "messages": MESSAGES}),
        ]
        assert [answer.status_code for answer in answers] == [404] * 3
    assert folder.exists()


async def test_inference_wants_its_own_scope(api: Api) -> None:
    async with api.client(key=await api.key_of("jobs:read", "jobs:write")) as client:
        for path, body in (
            (CHAT, {"model": DEMO, "messages": MESSAGES}),
            ("/v1/completions", {"model": DEMO, "prompt": "hi"}),
        ):
            assert (await client.post(path, json=body)).status_code == 403
        assert (await client.get("/v1/models")).status_code == 403


async def test_a_model_that_a_job_still_needs_is_not_deleted(api: Api, api_home: Path) -> None:
    job, folder = await trained(api, api_home)
    name = model_name(DEMO, "sums", job.id)
    spec = {"model": {"path": str(folder)}, "tasks": {"train": "/t", "holdout": None}, "seed": 0}
    user = await api.store.create_job(spec, tenant="default")
    async with api.client() as client:
        refused = await client.delete(f"/v1/models/{name}")
        assert (refused.status_code, user.id in refused.text) == (409, True)
        assert folder.exists()
        await api.store.request_cancel(user.id)
        assert (await client.delete(f"/v1/models/{name}")).status_code == 200
    assert not folder.exists()


async def test_a_checkpoint_of_a_running_job_can_be_asked_and_not_deleted(
    api: Api, api_home: Path
) -> None:
    spec = {"name": "s", "model": {"path": DEMO}, "tasks": {"train": "/t", "holdout": None}}
    job = await api.store.create_job({**spec, "seed": 0}, tenant="default")
    claimed = await api.store.claim("w", job.id)
    assert claimed is not None
    folder = api_home / "jobs" / job.id / "checkpoints" / "step-00000001" / "model"
    folder.mkdir(parents=True)
    await api.store.add_checkpoint(job.id, claimed.token, 1, str(folder), {})
    name = model_name(DEMO, "s", job.id, 1)
    async with api.client() as client:
        assert (await client.get(f"/v1/models/{name}")).json()["step"] == 1
        assert (await client.delete(f"/v1/models/{name}")).status_code == 409
        assert (await client.get(f"/v1/models/{model_name(DEMO, 's', job.id)}")).status_code == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": MESSAGES}, "model"),
        ({"model": DEMO, "messages": []}, "messages"),
        ({"model": DEMO, "messages": MESSAGES, "tools": [{"type": "function"}]}, "tools"),
        ({"model": DEMO, "messages": MESSAGES, "n": 0}, "n"),
        ({"model": DEMO, "messages": MESSAGES, "temperature": 9}, "temperature"),
        ({"model": DEMO, "messages": MESSAGES, "top_p": 0}, "top_p"),
        ({"model": DEMO, "messages": MESSAGES, "logit_bias": {"x": 1}}, "logit_bias"),
        ({"model": DEMO, "messages": MESSAGES, "mm_processor_kwargs": {}}, "mm_processor_kwargs"),
        ({"model": DEMO, "messages": MESSAGES, "chat_template": "{{ 1 }}"}, "chat_template"),
        (
            {
                "model": DEMO,
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": "http://10.0.0.1/x.png"}}
                        ],
                    }
                ],
            },
            "messages.0.content",
        ),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_its_field(
    api: Api, body: dict[str, Any], param: str
) -> None:
    async with api.client() as client:
        refused = await client.post(CHAT, json=body)
    assert refused.status_code == 422
    assert refused.json()["error"]["param"].startswith(param)
    assert refused.json()["error"]["type"] == "invalid_request_error"


async def test_without_a_dispatcher_a_completion_says_so_at_once(api: Api) -> None:
    client = openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key=api.key, max_retries=0)
    stream: Any
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model=DEMO, messages=MESSAGES, stream=stream)
        assert caught.value.status_code == 503
        assert caught.value.code == "model_unavailable"
        assert "no dispatcher runs" in caught.value.message
        assert float(caught.value.response.headers["retry-after"]) > 0
    await client.close()
