"""The routes of rollouts: what a job's traces hold, as JSON that every client can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from services.api.rollout_objects import RolloutDetail, RolloutPage
from services.store import Store
from services.traces import step_path, write_step
from tests.services.in_process import client_of, serving
from tests.services.running import Api
from tests.services.traced_job import SPEC, step_trace, write_traces


async def traced_job(store: Store, home: Path, tenant: str = "default") -> tuple[str, Path]:
    job = await store.create_job(SPEC, tenant=tenant)
    folder = home / "jobs" / job.id / "traces"
    write_traces(folder)
    return job.id, folder


def strict(text: str) -> Any:
    """JSON as every parser reads it."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


async def test_pages_of_rollouts_follow_the_filters(api: Api, api_home: Path) -> None:
    job, _ = await traced_job(api.store, api_home)
    url = f"/v1/fine_tuning/jobs/{job}/rollouts"
    async with api.client() as client:

        async def ids(**query: Any) -> list[str]:
            response = await client.get(url, params=query)
            assert response.status_code == 200, response.text
            page = RolloutPage.model_validate(strict(response.text))
            return [one.id for one in page.data]

        assert await ids() == [f"{s}-0-{r}" for s in (1, 2, 3) for r in (0, 1, 2)]
        assert await ids(order="desc", limit=4) == ["3-0-0", "3-0-1", "3-0-2", "2-0-0"]
        assert await ids(after="2-0-1") == ["2-0-2", "3-0-0", "3-0-1", "3-0-2"]
        assert await ids(step=2, group=0) == ["2-0-0", "2-0-1", "2-0-2"]
        assert await ids(status="infra_error") == ["1-0-2", "2-0-2", "3-0-2"]
        assert await ids(min_score=0.5) == ["1-0-0", "2-0-0", "3-0-0"]
        assert await ids(max_score=0.5, step=1) == ["1-0-1"]
        assert await ids(text="IS \u00e9", verifier="math", task_id="t1") == [
            "1-0-0",
            "2-0-0",
            "3-0-0",
        ]
        assert await ids(verifier="code") == []
        page = (await client.get(url, params={"limit": 2})).json()
        assert (page["last_id"], page["has_more"]) == ("1-0-1", True)
        first = page["data"][0]
        assert first["evidence"] == {"margin": None, "seen": [None, 1]}
        assert (first["advantage"], first["tokens"], first["text"]) == (1.5, 5, "It is \u00e9")


async def test_a_rollout_tells_every_number_of_its_tokens(api: Api, api_home: Path) -> None:
    job, _ = await traced_job(api.store, api_home)
    async with api.client() as client:
        response = await client.get(f"/v1/fine_tuning/jobs/{job}/rollouts/2-0-0")
        assert response.status_code == 200, response.text
        found = strict(response.text)
        RolloutDetail.model_validate(found)
        assert found["token_texts"] == ["It", " is", " ", "\u00e9", "<|end|>"]
        assert "".join(found["token_texts"][:-1]) == found["text"]
        assert found["special_tokens"] == [4]
        streams = found["streams"]
        assert streams["evidence"] == [1, 0, -1, -2, -3]
        assert streams["weight"] == [1, 1, 2, 1, 1]
        assert streams["credit"][2] == 3
        assert streams["entropy"] == [1] * 5
        assert streams["contrast_logprob"] is None
        assert found["privileged"] == {"kind": "trace", "text": "3 x 4 = 12", "tokens": 7}
        assert found["alternatives"][0] == [
            {"id": 3, "text": "It", "logprob": -0.5},
            {"id": 4, "text": " is", "logprob": -1.0},
        ]
        assert found["teacher_alternatives"] is None
        assert found["messages"][0]["content"] == "<script>alert(1)</script> \ufffd"
        assert found["verifier_spec"] == {"kind": "math", "answer": "12"}

        untaught = strict((await client.get(f"/v1/fine_tuning/jobs/{job}/rollouts/1-0-1")).text)
        assert untaught["streams"]["teacher_logprob"] == [None, None]
        assert untaught["streams"]["evidence"] == [None, None]
        assert untaught["alternatives"] == [[], []]
        assert untaught["privileged"] == {"kind": "trace", "text": None, "tokens": None}
        unjudged = strict((await client.get(f"/v1/fine_tuning/jobs/{job}/rollouts/1-0-2")).text)
        assert (unjudged["score"], unjudged["advantage"]) == (None, None)
        assert unjudged["streams"]["credit"] is None


async def test_what_is_asked_wrongly_or_is_not_there_is_told(api: Api, api_home: Path) -> None:
    job, folder = await traced_job(api.store, api_home)
    bare = await api.store.create_job(SPEC)
    url = f"/v1/fine_tuning/jobs/{job}/rollouts"
    async with api.client() as client:
        for name, value in (("after", "x"), ("step", 0), ("status", "fine"), ("min_score", 2)):
            answer = await client.get(url, params={name: value})
            assert answer.status_code == 422, name
            assert answer.json()["errors"][0]["field"] == name
        backwards = await client.get(url, params={"min_score": 0.9, "max_score": 0.1})
        assert (backwards.status_code, backwards.json()["error"]["param"]) == (422, "min_score")
        for absent in ("9-0-0", "1-0-9", "nonsense", "1-0-0-0"):
            answer = await client.get(f"{url}/{absent}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
        nothing = await client.get(f"/v1/fine_tuning/jobs/{bare.id}/rollouts")
        assert nothing.json()["data"] == []
        step_path(folder, 1).write_bytes(b"damaged")
        broken = await client.get(url)
        assert broken.status_code == 503
        assert str(folder) not in broken.text
        assert (await client.get(url, params={"step": 1})).status_code == 200


async def test_rollouts_of_another_tenant_are_not_there(api: Api, api_home: Path) -> None:
    job, _ = await traced_job(api.store, api_home, tenant="theirs")
    mine = await api.key_of("jobs:read", tenant="mine")
    theirs = await api.key_of("jobs:read", tenant="theirs")
    unscoped = await api.key_of("files:read", tenant="theirs")
    for path in ("rollouts", "rollouts/1-0-0"):
        url = f"/v1/fine_tuning/jobs/{job}/{path}"
        for key, status in ((mine, 404), (theirs, 200), (unscoped, 403), ("nonsense", 401)):
            async with api.client(key=key) as client:
                assert (await client.get(url)).status_code == status


async def test_a_trace_of_an_earlier_release_is_shown_with_what_it_has(
    api: Api, api_home: Path
) -> None:
    import pyarrow.parquet as pq

    job, folder = await traced_job(api.store, api_home)
    (folder / "vocabulary.parquet").unlink()
    path = step_path(folder, 0)
    later = ["entropy", "alternative_ids", "alternative_logprobs", "teacher_turn"]
    pq.write_table(pq.read_table(path).drop_columns(later), path)
    async with api.client() as client:
        found = (await client.get(f"/v1/fine_tuning/jobs/{job}/rollouts/1-0-0")).json()
    RolloutDetail.model_validate(found)
    assert found["token_texts"] is None
    assert found["alternatives"] is None
    assert found["streams"]["entropy"] is None
    assert found["streams"]["credit"] == [1.5, 1.5, 3, 1.5, 1.5]
    assert found["privileged"] == {"kind": "trace", "text": None, "tokens": 7}


async def test_a_running_job_shows_a_step_as_soon_as_it_is_written(
    store: Store, tmp_path: Path
) -> None:
    async with serving(store, home=tmp_path, redis_url="redis://unused") as app:
        keys = app.state.keys
        token = (await keys.create("test", scopes=["jobs:read"])).token
        job, folder = await traced_job(store, tmp_path)
        async with client_of(app, token) as client:
            url = f"/v1/fine_tuning/jobs/{job}/rollouts"
            assert (await client.get(url, params={"step": 4})).json()["data"] == []
            write_step(folder, step_trace(3))
            shown = (await client.get(url, params={"step": 4})).json()["data"]
            assert [one["id"] for one in shown] == ["4-0-0", "4-0-1", "4-0-2"]
