"""The REST API, through a real uvicorn process over a real store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.fine_tuning import FineTuningJobEvent
from starlette.responses import StreamingResponse

from services.api.events import KEEPALIVE, server_sent
from services.config import JobSpec
from services.jobs import Event
from services.model_names import Trained, trained
from tests.services.running import Api

JOBS = "/v1/fine_tuning/jobs"


def spec(task_file: Path, **more: Any) -> dict[str, Any]:
    return {
        "model": {"path": "smollm2-135m-instruct"},
        "tasks": {"train": str(task_file)},
        **more,
    }


def body(task_file: Path, **more: Any) -> dict[str, Any]:
    return {"method": {"type": "strop", "strop": spec(task_file, **more)}}


def assert_problem(response: httpx.Response, status: int, code: str, param: str | None) -> None:
    """The body is RFC 9457's and OpenAI's at once, and shows no insides."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["type"] == f"urn:strop:problem:{code}"
    assert problem["title"]
    assert problem["instance"] == response.request.url.path
    assert problem["error"]["code"] == code
    assert problem["error"]["param"] == param
    assert problem["error"]["message"] == problem["detail"]
    assert "Traceback" not in response.text


async def test_a_job_is_queued_retrieved_and_listed(api: Api, task_file: Path) -> None:
    async with api.client() as client:
        created = (
            await client.post(JOBS, json={**body(task_file, seed=7), "metadata": {"team": "a"}})
        ).raise_for_status()
        job = created.json()
        assert job["id"].startswith("ftjob-")
        assert (job["object"], job["status"]) == ("fine_tuning.job", "queued")
        assert (job["model"], job["seed"]) == ("smollm2-135m-instruct", 7)
        assert job["metadata"] == {"team": "a"}
        assert job["method"]["strop"]["seed"] == 7
        assert job["spec"]["sampling"]["group_size"] == 8
        assert (await client.get(f"{JOBS}/{job['id']}")).json() == job
        page = (await client.get(JOBS)).json()
        assert (page["data"], page["has_more"]) == ([job], False)
    claimed = await api.store.claim("w1")
    assert claimed is not None
    assert claimed.spec == job["spec"]


async def test_openais_own_fields_complete_the_spec(api: Api, task_file: Path) -> None:
    async with api.client() as client:
        form = {
            "model": "org/name",
            "training_file": str(task_file),
            "validation_file": str(task_file),
            "seed": 3,
            "suffix": "mine",
            "method": {"type": "strop", "strop": {"steps": 2}},
        }
        job = (await client.post(JOBS, json=form)).raise_for_status().json()
        resolved = job["spec"]
        assert resolved["model"]["path"] == "org/name"
        assert resolved["tasks"]["train"] == resolved["tasks"]["holdout"] == str(task_file)
        assert (resolved["seed"], resolved["name"], resolved["steps"]) == (3, "mine", 2)
        form["method"]["strop"]["seed"] = 4  # type: ignore[index]
        assert_problem(await client.post(JOBS, json=form), 422, "invalid_request", "seed")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path", [JOBS, f"{JOBS}/x", f"{JOBS}/x/events", "/metrics", "/openapi.json"]
)
async def test_nothing_but_health_answers_without_a_key(api: Api, method: str, path: str) -> None:
    async with httpx.AsyncClient(base_url=api.url) as client:
        response = await client.request(method, path)
        if response.status_code != 405:
            assert_problem(response, 401, "invalid_api_key", None)
            assert response.headers["www-authenticate"] == "Bearer"
        for health in ("/healthz", "/readyz"):
            assert (await client.get(health)).status_code == 200
    async with api.client(key=api.key + "0") as client:
        assert (await client.get(JOBS)).status_code == 401


async def test_every_bad_field_is_named_at_once(api: Api, task_file: Path) -> None:
    async with api.client() as client:
        bad = body(task_file, steps=0, colour="red", sampling={"temperature": 9})
        response = await client.post(JOBS, json=bad)
        assert_problem(response, 422, "invalid_request", response.json()["errors"][0]["field"])
        assert {problem["field"] for problem in response.json()["errors"]} == {
            "method.strop.steps",
            "method.strop.colour",
            "method.strop.sampling.temperature",
        }
        assert (await client.get(JOBS)).json()["data"] == []


@pytest.mark.parametrize(
    ("more", "field", "said"),
    [
        ({"sampling": {"group_size": 1}}, "method.strop", "sampling.group_size is 1"),
        ({"model": {"path": "gpt-none"}}, "method.strop.model.path", "unknown model 'gpt-none'"),
        ({"model": {"path": "/nowhere"}}, "method.strop.model.path", "/nowhere is not a folder"),
        ({"tasks": {"train": "/none.jsonl"}}, "method.strop.tasks.train", "/none.jsonl"),
        ({"tasks": {"train": "tasks.jsonl"}}, "method.strop.tasks.train", "absolute path"),
        (
            {"privileged": {"kind": "trace", "template": "{{ anwser }}"}},
            "method.strop.privileged.template",
            "names anwser",
        ),
        ({"privileged": {"kind": "documents"}}, "method.strop.tasks.train", "task 'a' has none"),
        (
            {"privileged": {"kind": "documents", "documents": "manuals"}},
            "method.strop.privileged.documents",
            "absolute path",
        ),
        (
            {"privileged": {"kind": "documents", "documents": "/none"}},
            "method.strop.privileged.documents",
            "/none: cannot be read",
        ),
        (
            {"privileged": {"kind": "trace", "documents": "/none"}},
            "method.strop.privileged",
            "kind trace does not read them",
        ),
        (
            {"leakage": {"patterns": ["(?<=a)b"]}},
            "method.strop.leakage.patterns",
            "no RE2 pattern",
        ),
    ],
)
async def test_a_job_that_cannot_run_is_refused_with_the_field(
    api: Api, task_file: Path, more: dict[str, Any], field: str, said: str
) -> None:
    async with api.client() as client:
        response = await client.post(JOBS, json=body(task_file, **more))
        assert_problem(response, 422, "invalid_request", field)
        assert said in response.json()["detail"]
        assert (await client.get(JOBS)).json()["data"] == []


async def test_every_bad_row_of_both_task_files_is_reported(api: Api, tmp_path: Path) -> None:
    train, holdout = tmp_path / "train.jsonl", tmp_path / "holdout.jsonl"
    train.write_text('{"prompt": "1?", "verifier": {"kind": "oracle"}}\nnot json\n')
    holdout.write_text("")
    async with api.client() as client:
        form = body(train, tasks={"train": str(train), "holdout": str(holdout)})
        response = await client.post(JOBS, json=form)
        assert_problem(response, 422, "invalid_request", "method.strop.tasks.train")
        errors = [(item["field"], item["message"]) for item in response.json()["errors"]]
        assert [field.rpartition(".")[2] for field, _ in errors] == ["train", "train", "holdout"]
        assert "line 1" in errors[0][1]
        assert "oracle" in errors[0][1]
        assert "line 2" in errors[1][1]
        assert str(holdout) in errors[2][1]


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"null",
        b'{"method": 3}',
        b'{"method": {"type": "magic"}}',
        b'{"method": {"type": "strop", "strop": {}}, "colour": "red"}',
        b'{"method": {"type": "strop", "strop": {"model": 3, "tasks": []}}, "model": "a/b"}',
        b"[" * 60_000,
        b"\xff\xfe",
        b'{"method": {"type": "strop", "strop": {"\\ud800": 1}}, "model": "\\ud800"}',
        b'{"method": {"type": "strop", "strop": {"steps": NaN, "seed": 1e999}}}',
    ],
)
async def test_a_malformed_body_is_a_clear_4xx(api: Api, content: bytes) -> None:
    async with api.client() as client:
        response = await client.post(
            JOBS, content=content, headers={"Content-Type": "application/json"}
        )
        assert response.status_code in (400, 422)
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["error"]["message"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = sorted(JobSpec.model_fields)
# Half of the keys are a spec's own, so that the values get a chance.
SPEC = st.dictionaries(st.sampled_from(FIELDS) | st.text(), JSON, max_size=4)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(spec=SPEC, more=st.dictionaries(st.sampled_from(["model", "seed", "suffix", "x"]), JSON))
def test_no_body_whatever_makes_the_service_fail(api: Api, spec: Any, more: Any) -> None:
    form = {"method": {"type": "strop", "strop": spec}, **more}
    headers = {"Authorization": f"Bearer {api.key}"}
    response = httpx.post(f"{api.url}{JOBS}", json=form, headers=headers)
    assert_problem(response, 422, "invalid_request", response.json()["errors"][0]["field"])


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_beyond_the_bound_is_refused(api: Api, announced: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 8192

    async with api.client() as client:
        response = await client.post(JOBS, content=b" " * 163_840 if announced else chunks())
        assert_problem(response, 413, "request_too_large", None)


async def test_what_does_not_exist_is_404_in_every_route(api: Api) -> None:
    async with api.client() as client:
        for response in (
            await client.get(f"{JOBS}/ftjob-x"),
            await client.post(f"{JOBS}/ftjob-x/cancel"),
            await client.get(f"{JOBS}/ftjob-x/events"),
            await client.get(f"{JOBS}/ftjob-x/events?stream=true"),
        ):
            assert_problem(response, 404, "not_found", None)
        assert_problem(await client.get(f"{JOBS}?after=ftjob-x"), 404, "not_found", "after")
        assert_problem(await client.get("/nowhere"), 404, "not_found", None)
        assert_problem(await client.delete(JOBS), 405, "method_not_allowed", None)


async def test_jobs_are_paged_without_loss_or_repetition(api: Api, task_file: Path) -> None:
    async with api.client() as client:
        made = [(await client.post(JOBS, json=body(task_file))).json()["id"] for _ in range(5)]
        seen: list[str] = []
        page: dict[str, Any] = {"has_more": True, "last_id": None}
        while page["has_more"]:
            after = {"after": page["last_id"]} if page["last_id"] else {}
            page = (await client.get(JOBS, params={"limit": 2, **after})).json()
            seen += [job["id"] for job in page["data"]]
        assert seen == made[::-1]
        response = await client.get(JOBS, params={"limit": 0})
        assert_problem(response, 422, "invalid_request", "limit")


async def test_cancelling_a_queued_job_ends_it_and_a_finished_one_conflicts(
    api: Api, task_file: Path
) -> None:
    async with api.client() as client:
        one, two = [(await client.post(JOBS, json=body(task_file))).json()["id"] for _ in "ab"]
        for _ in range(2):
            cancelled = (await client.post(f"{JOBS}/{one}/cancel")).raise_for_status().json()
            assert cancelled["status"] == "cancelled"
        await api.store.claim("w1")
        asked = (await client.post(f"{JOBS}/{two}/cancel")).json()
        assert (asked["status"], asked["cancel_requested"]) == ("running", True)
        await api.store.transition(two, "succeeded", result={"model": "/models/two"})
        response = await client.post(f"{JOBS}/{two}/cancel")
        assert_problem(response, 409, "illegal_transition", None)
        assert trained((await client.get(f"{JOBS}/{two}")).json()["fine_tuned_model"]) == Trained(
            two
        )


async def sse(client: httpx.AsyncClient, job_id: str, **headers: str) -> list[dict[str, Any]]:
    """Every event of the stream until it ends; each one's `id:` line is its id."""
    events: list[dict[str, Any]] = []
    lines: list[str] = []
    headers = {"Accept": "text/event-stream", **headers}
    async with client.stream("GET", f"{JOBS}/{job_id}/events", headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async for line in response.aiter_lines():
            if line:
                lines.append(line)
                continue
            fields = dict(part.split(": ", 1) for part in lines)
            lines = []
            if "data" in fields:
                events.append(json.loads(fields["data"]))
                assert fields["id"] == events[-1]["id"]
    return events


async def test_a_stream_gives_every_event_ends_with_the_job_and_resumes(
    api: Api, task_file: Path
) -> None:
    async with api.client() as client:
        job_id = (await client.post(JOBS, json=body(task_file))).json()["id"]
        follower = asyncio.create_task(sse(client, job_id))
        await api.store.claim("w1")
        data = {"kind": "step", "step": 1, "reward_mean": 0.5}
        await api.store.append_event(job_id, message="step 1\nof 2", type="metrics", data=data)
        await api.store.transition(job_id, "succeeded")
        events = await asyncio.wait_for(follower, 60)
        assert [event["id"] for event in events] == ["1", "2", "3", "4"]
        assert events[2]["data"] == data
        assert (events[2]["message"], events[2]["type"]) == ("step 1\nof 2", "metrics")
        assert events[3]["data"]["status"] == "succeeded"
        assert await sse(client, job_id, **{"Last-Event-ID": "2"}) == events[2:]
        assert await sse(client, job_id, **{"Last-Event-ID": "4"}) == []
        listed = (await client.get(f"{JOBS}/{job_id}/events")).json()
        assert (listed["data"], listed["has_more"]) == (events, False)
        page = (await client.get(f"{JOBS}/{job_id}/events?after=1&limit=2")).json()
        assert (page["data"], page["has_more"]) == (events[1:3], True)
        response = await client.get(
            f"{JOBS}/{job_id}/events?stream=true", headers={"Last-Event-ID": "x"}
        )
        assert_problem(response, 422, "invalid_request", "Last-Event-ID")


async def test_openais_client_does_not_stumble_over_an_idle_stream() -> None:
    async def slow() -> AsyncIterator[Event]:
        for number in (1, 2):
            yield Event(number, 0.0, "info", "message", "hello", {})
            await asyncio.sleep(0.05)  # some comments follow each event

    async def app(scope: Any, receive: Any, send: Any) -> None:
        stream = server_sent(slow(), keepalive_seconds=0.01)
        response = StreamingResponse(stream, media_type="text/event-stream")
        await response(scope, receive, send)

    transport = httpx2.ASGITransport(app=app)
    async with openai.AsyncOpenAI(
        base_url="http://strop/v1", api_key="x", http_client=httpx2.AsyncClient(transport=transport)
    ) as client:
        events = await client.get(
            "/events",
            cast_to=FineTuningJobEvent,
            stream=True,
            stream_cls=openai.AsyncStream[FineTuningJobEvent],
        )
        assert [event.id async for event in events] == ["1", "2"]


async def test_an_event_is_one_line_of_a_stream_whatever_line_ends_it_holds() -> None:
    said = "a\u2028b\x85c\u2029d\r\ne\x0b\x0cf\x1c\x1d\x1eg"

    async def told() -> AsyncIterator[Event]:
        yield Event(1, 0.0, "info", "message", said, {})

    (chunk,) = [chunk async for chunk in server_sent(told(), keepalive_seconds=60)]
    data, number, *rest = chunk.decode().split("\n")
    assert json.loads(data.removeprefix("data: "))["message"] == said
    assert (number, rest) == ("id: 1", ["", ""])


async def test_an_idle_stream_is_kept_open_by_comments() -> None:
    go = asyncio.Event()

    async def slow() -> AsyncIterator[Event]:
        await go.wait()
        yield Event(1, 0.0, "info", "message", "hello", {})

    stream = server_sent(slow(), keepalive_seconds=0.01)
    assert await anext(stream) == KEEPALIVE
    go.set()
    while (chunk := await anext(stream)) == KEEPALIVE:
        pass
    assert chunk.endswith(b"id: 1\n\n")
    assert [rest async for rest in stream] == []


async def test_metrics_show_running_jobs_and_forget_finished_ones(
    api: Api, task_file: Path
) -> None:
    async with api.client() as client:
        job_id = (await client.post(JOBS, json=body(task_file))).json()["id"]
        await api.store.claim("w1")
        step = {
            "kind": "step", "step": 3, "steps": 10, "reward_mean": 0.25, "rewards": {"math": 0.5},
            "tokens_per_s": 900.0, "phase_seconds": {"rollout": 1.5},
        }  # fmt: skip
        await api.store.append_event(job_id, message="step 3", type="metrics", data=step)
        await client.get(f"{JOBS}/unknown")
        text = (await client.get("/metrics")).raise_for_status().text
        for line in (
            'strop_jobs{status="running"} 1.0',
            f'strop_job_step{{job_id="{job_id}"}} 3.0',
            f'strop_job_reward_mean{{job_id="{job_id}"}} 0.25',
            f'strop_job_generated_tokens_per_second{{job_id="{job_id}"}} 900.0',
            f'strop_job_verifier_reward_mean{{job_id="{job_id}",verifier="math"}} 0.5',
            f'strop_job_phase_seconds{{job_id="{job_id}",phase="rollout"}} 1.5',
        ):
            assert line in text.splitlines()
        route = f'route="{JOBS}/{{job_id}}",status="404"'
        assert f'strop_http_requests_total{{method="GET",{route}}}' in text
        assert "strop_http_request_duration_seconds_bucket" in text
        await api.store.transition(job_id, "succeeded")
        text = (await client.get("/metrics")).text
        assert job_id not in text
        assert 'strop_jobs{status="succeeded"} 1.0' in text.splitlines()


async def test_the_schema_of_a_job_and_of_the_api_are_served(api: Api) -> None:
    async with api.client() as client:
        schema = (await client.get("/v1/config/schema")).json()
        assert "sampling" in schema["properties"]
        openapi = (await client.get("/openapi.json")).json()
        assert {"get", "post"} <= set(openapi["paths"][JOBS])
