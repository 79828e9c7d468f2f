"""OWASP's API Security Top 10 (2023), one attack after the other, over every route there is.

What has a file of its own is not repeated here:

API1  another tenant's objects by id: test_tenants.py; by path: test_fine_tuning.py
API2  tokens: test_keys.py, test_oidc.py; transport: test_gate.py
API4  bodies: test_http_contract.py, test_files.py; connections: test_connections.py; quotas:
      test_tenants.py; what runs in the sandbox: tests/verifiers/sandbox
API7  every way of writing an address, redirects, rebinding: tests/verifiers/test_remote.py
API8  hosts, origins, headers: test_gate.py; header injection: test_http_contract.py
API10 what graders, models and providers answer: tests/verifiers, test_oidc.py
      repeated requests: test_idempotency.py

API6, business that must not be automated, this service has not: it is made for programs.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from services.api.openapi import document
from services.key_store import KeyStore
from services.store import Store
from tests.services.conftest import task
from tests.services.in_process import client_of, serving
from tests.services.test_tenants import House, filled, routes
from tests.verifiers.test_remote import TRICKS

JOBS = "/v1/fine_tuning/jobs"
OPEN = {"/healthz", "/readyz"}
ANYBODY = OPEN | {"/openapi.json", "/v1/config/schema", "/v1/limits", "/v1/me"}
"""What every known caller may ask: who it is, what its own tenant may use, how to ask."""


@pytest_asyncio.fixture
async def house(store: Store, tmp_path: Path) -> AsyncIterator[House]:
    async with serving(store, home=tmp_path, data_roots=(str(tmp_path / "tasks"),)) as app:
        yield House(app, store, KeyStore(store.link), tmp_path / "jobs")


@pytest.fixture
def tasks(tmp_path: Path) -> str:
    (tmp_path / "tasks").mkdir()
    path = tmp_path / "tasks" / "t.jsonl"
    path.write_text("\n".join(json.dumps(task(name)) for name in "ab"))
    return str(path)


def api_routes(app: FastAPI) -> list[tuple[str, str]]:
    """Routes of the REST API: those of the web page hold nothing and want no key."""
    return [(method, path) for method, path, route in routes(app) if route.include_in_schema]


async def test_api1_another_tenants_object_is_not_reached_by_naming_it_in_a_body(
    house: House, tasks: str
) -> None:
    theirs, mine = await house.objects("a"), await house.objects("b")

    def job(**spec: Any) -> dict[str, Any]:
        model = {"path": "smollm2-135m-instruct"}
        return {"method": {"type": "strop", "strop": {"model": model, "tasks": {"train": tasks}} | spec}}  # fmt: skip

    teacher = {"kind": "opd", "teacher": {"path": theirs["model"]}}
    attempts = [
        (JOBS, job(model={"path": theirs["model"]})),
        (JOBS, job(algorithm=teacher)),
        (JOBS, job(tasks={"train": theirs["file"]})),
        (JOBS, job(tasks={"train": tasks, "holdout": theirs["file"]})),
        (JOBS, job(privileged={"kind": "documents", "documents": theirs["file"]})),
        (f"{JOBS}/{mine['job']}/retry", {"checkpoint": theirs["checkpoint"]}),
        ("/v1/chat/completions",
         {"model": theirs["model"], "messages": [{"role": "user", "content": "?"}]}),
        ("/v1/completions", {"model": theirs["model"], "prompt": "?"}),
    ]  # fmt: skip
    async with client_of(house.app, await house.token("b")) as stranger:
        before = (await stranger.get(JOBS)).json()
        for path, body in attempts:
            answer = await stranger.post(path, json=body)
            assert answer.status_code in (404, 422), (path, body, answer.text)
            # A name that never was is answered in the same words.
            text = json.dumps(body)
            for kind in ("model", "file", "checkpoint"):
                text = text.replace(theirs[kind], theirs[kind][:-4] + "0000")
            ghost = await stranger.post(path, json=json.loads(text))
            assert ghost.status_code == answer.status_code
            assert said(ghost, theirs) == said(answer, theirs)
        assert (await stranger.get(JOBS)).json() == before


def said(answer: httpx.Response, theirs: dict[str, str]) -> str:
    text = answer.json()["detail"]
    for value in theirs.values():
        text = text.replace(value, "ID").replace(value[:-4] + "0000", "ID")
    return text


async def test_api2_nothing_but_the_whole_token_in_its_header_is_a_token(house: House) -> None:
    token = await house.token("a")
    _, key_id, secret = token.split("_")
    other = (await house.token("b")).split("_")[2]
    wrong = [
        f"strop_{key_id}_{other}", f"strop_{key_id}_{secret[:-1]}", f"strop_{key_id}_",
        f"strop_{key_id}", f"strop_*_{secret}", secret, f"{token}\t{token}",
        "strop__", "null", "eyJhbGciOiJub25lIn0.eyJ0ZW5hbnQiOiJhIn0.",
    ]  # fmt: skip
    async with client_of(house.app) as client:
        for credentials in (*(f"Bearer {one}" for one in wrong), token, f"Basic {token}", ""):
            headers = {"Authorization": credentials}
            answer = await client.get(JOBS, headers=headers)
            assert answer.status_code == 401, credentials
            assert answer.headers["www-authenticate"] == "Bearer"
            assert secret not in answer.text
        for query in (f"api_key={token}", f"access_token={token}", f"key={token}"):
            assert (await client.get(f"{JOBS}?{query}")).status_code == 401
        cookies = {"Cookie": f"api_key={token}; Authorization=Bearer {token}"}
        assert (await client.get(JOBS, headers=cookies)).status_code == 401
        assert (await client.get(JOBS, headers={"Authorization": f"Bearer {token}"})).is_success


FORGED = {
    "tenant": "b", "id": "ftjob-mine", "status": "succeeded", "created_at": 0, "revision": 99,
    "hash": "00", "is_admin": True, "result": {"model": "/etc"}, "trained_tokens": 0,
}  # fmt: skip


async def test_api3_what_a_caller_may_not_set_is_refused_and_not_set(
    house: House, tasks: str
) -> None:
    mine = await house.objects("a")
    app_document = document(house.app)
    good: dict[str, dict[str, Any]] = {
        f"POST {JOBS}": {"method": {"type": "rlsd"}, "training_file": tasks},
        "PATCH /v1/fine_tuning/jobs/{job_id}": {"priority": 1},
        "POST /v1/webhook_endpoints": {
            "name": "n", "url": "https://93.184.215.14/", "event_types": ["fine_tuning.job.failed"],
        },
        "POST /v1/webhook_endpoints/{endpoint_id}": {"name": "other"},
        "POST /v1/keys": {"name": "k"},
        "PUT /v1/limits/{tenant}": {"open_jobs": 1},
    }  # fmt: skip
    tried = 0
    async with client_of(house.app, await house.token("a", admin=True)) as client:
        for method, path in api_routes(house.app):
            operation = app_document["paths"][path.replace(":path", "")][method.lower()]
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" not in content:
                continue
            schema = content["application/json"]["schema"]
            for one in schema.get("anyOf", (schema,)):
                if "$ref" in one:
                    schema = app_document["components"]["schemas"][one["$ref"].rpartition("/")[2]]
            url = filled(path, mine).replace("{key_id}", "k").replace("{tenant}", "a")
            before = (await client.get(f"{JOBS}/{mine['job']}")).json()
            for name, value in FORGED.items():
                if name in schema["properties"]:
                    continue
                body = {**good.get(f"{method} {path}", {}), name: value}
                answer = await client.request(method, url, json=body)
                assert answer.status_code == 422, (method, path, name, answer.text)
                assert name in {e["field"] for e in answer.json()["errors"]}, (method, path, name)
                tried += 1
            assert (await client.get(f"{JOBS}/{mine['job']}")).json() == before
    assert tried > 80


async def test_api3_an_object_shows_nothing_of_where_and_how_it_is_kept(house: House) -> None:
    mine = await house.objects("a")
    async with client_of(house.app, await house.token("a", admin=True)) as client:
        shown = ""
        for method, path in api_routes(house.app):
            if method == "GET" and "content" not in path:
                url = filled(path, mine).replace("{key_id}", "nobody").replace("{tenant}", "a")
                shown += (await client.get(url)).text
        for held in ("whsec_", "secret_hash", str(house.folder.parent / "files")):
            assert held not in shown, held


async def test_api4_no_page_and_no_number_is_larger_than_the_service_allows(house: House) -> None:
    mine = await house.objects("a")
    bounded, paths = 0, document(house.app)["paths"]
    async with client_of(house.app, await house.token("a", admin=True)) as client:
        for method, path in api_routes(house.app):
            operation = paths[path.replace(":path", "")][method.lower()]
            for parameter in operation["parameters"]:
                if parameter["name"] != "limit":
                    continue
                url = filled(path, mine).replace("{key_id}", "k").replace("{tenant}", "a")
                for many in ("0", "-1", "10001", "1e9", "9" * 400, "x"):
                    answer = await client.get(url, params={"limit": many})
                    assert answer.status_code == 422, (path, many)
                bounded += 1
        for many in (65, 10**9):
            body = {"model": mine["model"], "prompt": "?", "n": many}
            assert (await client.post("/v1/completions", json=body)).status_code == 422
    assert bounded >= 7


async def test_api5_every_route_wants_a_scope_of_its_own(house: House) -> None:
    mine = await house.objects("a")
    weak = (await house.keys.create("k", tenant="a", scopes=["metrics:read"])).token
    asked = 0
    async with client_of(house.app, weak) as client:
        for method, path in api_routes(house.app):
            if path in ANYBODY | {"/metrics"}:
                continue
            url = filled(path, mine).replace("{key_id}", "k").replace("{tenant}", "a")
            answer = await client.request(method, url)
            assert answer.status_code == 403, (method, path, answer.text)
            asked += 1
    assert asked > 30


async def test_api5_reading_grants_no_writing(house: House) -> None:
    mine = await house.objects("a")
    reader = (
        await house.keys.create("k", tenant="a", scopes=["jobs:read", "files:read", "models:infer"])
    ).token
    async with client_of(house.app, reader) as client:
        for method, path in api_routes(house.app):
            if method == "GET" or path in ("/v1/chat/completions", "/v1/completions"):
                continue
            url = filled(path, mine).replace("{key_id}", "k").replace("{tenant}", "a")
            answer = await client.request(method, url)
            assert answer.status_code == 403, (method, path, answer.text)


@pytest.mark.parametrize("url", TRICKS)
async def test_api7_no_webhook_leads_inside_however_its_address_is_written(
    house: House, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STROP_WEBHOOK_ALLOW", raising=False)
    async with client_of(house.app, await house.token("a")) as client:
        form = {"name": "n", "url": url, "event_types": ["fine_tuning.job.failed"]}
        answer = await client.post("/v1/webhook_endpoints", json=form)
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "url")
        assert (await client.get("/v1/webhook_endpoints")).json()["data"] == []


async def test_api7_nothing_else_that_is_named_is_fetched(house: House, tasks: str) -> None:
    """Tasks, documents, models, schemas and images are no addresses."""
    inside = "http://169.254.169.254/latest/meta-data/"
    path = "smollm2-135m-instruct"
    grader = {"type": "schema", "schema": {"$ref": inside}}
    image = [{"type": "image_url", "image_url": {"url": inside}}]
    spec: dict[str, Any] = {"model": {"path": path}, "tasks": {"train": tasks}}
    attempts = [
        (JOBS, {"method": {"type": "strop", "strop": {**spec, **more}}})
        for more in (
            {"tasks": {"train": inside}},
            {"model": {"path": inside}},
            {"privileged": {"kind": "documents", "documents": inside}},
            {"tasks": {"train": tasks, "grader": grader}},
        )
    ]
    run = "/v1/fine_tuning/alpha/graders/run"
    attempts += [
        (run, {"grader": grader, "model_sample": "{}"}),
        ("/v1/chat/completions", {"model": path, "messages": [{"role": "user", "content": image}]}),
    ]
    async with client_of(house.app, await house.token("a")) as client:
        for where, body in attempts:
            answer = await client.post(where, json=body)
            assert answer.status_code == 422, (where, body, answer.text)


async def test_api8_no_page_of_the_framework_and_no_odd_method_answers(house: House) -> None:
    async with client_of(house.app, await house.token("a", admin=True)) as client:
        for path in ("/docs", "/redoc", "/docs/oauth2-redirect", "/debug", "/.env", "/.git/config"):
            assert (await client.get(path)).status_code == 404, path
        for method in ("TRACE", "CONNECT", "PROPFIND", "OPTIONS"):
            answer = await client.request(method, JOBS)
            assert answer.status_code == 405, method
            assert answer.headers["content-type"] == "application/problem+json"
        override = {"X-HTTP-Method-Override": "DELETE", "X-Original-URL": "/v1/keys"}
        assert "data" in (await client.get("/v1/files", headers=override)).json()


async def test_api8_no_name_forges_a_line_of_a_table_or_a_log(house: House) -> None:
    async with client_of(house.app, await house.token("a", admin=True)) as client:
        for name in ("a\nb", "a\r\nX: y", "\x1b[2J", "a\x00", "\x85"):
            hook = {"url": "https://93.184.215.14/", "event_types": ["fine_tuning.job.failed"]}
            for path, form in (("/v1/keys", {}), ("/v1/webhook_endpoints", hook)):
                answer = await client.post(path, json={**form, "name": name})
                assert (answer.status_code, answer.json()["error"]["param"]) == (422, "name")
            form = {"files": {"file": (name, b"{}")}, "data": {"purpose": "fine-tune"}}
            answer = await client.post("/v1/files", **form)
            assert answer.status_code in (200, 422)
            assert answer.status_code == 422 or answer.json()["filename"].isprintable()


async def test_api9_what_answers_is_documented_and_nothing_else_answers(house: House) -> None:
    documented = {
        (method.upper(), path)
        for path, methods in document(house.app)["paths"].items()
        for method in methods
    }
    serving_ = {(method, path.replace(":path", "")) for method, path in api_routes(house.app)}
    assert serving_ == documented
    async with client_of(house.app) as nobody:
        for method, path in sorted(serving_):
            status = (await nobody.request(method, path)).status_code
            assert (status == 401) == (path not in OPEN), (method, path, status)
        for path in ("/v0/files", "/v2/files", "/files", "/v1/fine-tunes", "/v1/engines"):
            assert (await nobody.get(path)).status_code == 404, path
