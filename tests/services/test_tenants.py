"""Tenants are apart, changes are on record: over every route there is, also those to come.

The tables name each route with an id, and each that changes something. A route that is in
none of them fails the test that compares the tables with the application.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from fastapi.routing import APIRoute

from services.audit import AuditLog
from services.callers import SCOPES, Scope
from services.config import JobSpec
from services.errors import QuotaExceeded, RateLimited
from services.files import FileStore
from services.key_store import KeyStore
from services.model_names import model_name
from services.settings import Settings
from services.store import Store
from services.tenant_limits import LimitStore
from services.webhooks import Webhooks
from tests.services.conftest import task
from tests.services.in_process import client_of, serving
from tests.services.traced_job import write_traces

JOBS = "/v1/fine_tuning/jobs"
Route = tuple[str, str]

# What an object's id stands for in a route's path: the object of a tenant that it names.
OBJECTS = {
    "job_id": "job",
    "checkpoint_id": "checkpoint",
    "file_id": "file",
    "model": "model",
    "endpoint_id": "endpoint",
    "rollout_id": "rollout",
}
# Routes with a name in them that is nobody's: the files of the page.
PUBLIC: set[Route] = {("GET", "/assets/{path:path}")}
# Routes with an id that only an operator may ask: for others they do not tell what exists.
OPERATORS: set[Route] = {
    ("GET", "/v1/keys/{key_id}"),
    ("DELETE", "/v1/keys/{key_id}"),
    ("POST", "/v1/keys/{key_id}/rotate"),
    ("GET", "/v1/limits/{tenant}"),
    ("PUT", "/v1/limits/{tenant}"),
}
# Routes that are no GET and change nothing.
HARMLESS: set[Route] = {
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/fine_tuning/alpha/graders/run"),
    ("POST", "/v1/fine_tuning/alpha/graders/validate"),
}
# Bodies of routes that want one.
BODIES: dict[Route, Any] = {
    ("PATCH", "/v1/fine_tuning/jobs/{job_id}"): {"priority": 1},
    ("POST", "/v1/webhook_endpoints/{endpoint_id}"): {"name": "mine"},
    ("POST", "/v1/webhook_endpoints/{endpoint_id}/test"): {
        "event_type": "fine_tuning.job.succeeded"
    },
}
LINES = b"\n".join(json.dumps(task(name)).encode() for name in "ab")
UPLOAD = {"files": {"file": ("t.jsonl", LINES)}, "data": {"purpose": "fine-tune"}}


def routes(app: FastAPI) -> list[tuple[str, str, APIRoute]]:
    return [
        (method, route.path, route)
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods - {"HEAD", "OPTIONS"})
    ]


@dataclass
class House:
    """An application with two tenants, of which `a` has one object of every type."""

    app: FastAPI
    store: Store
    keys: KeyStore
    folder: Path

    async def token(self, tenant: str, *, admin: bool = False) -> str:
        scopes: list[Scope] = [scope for scope in SCOPES if admin or scope != "admin"]
        return (await self.keys.create("k", tenant=tenant, scopes=scopes)).token

    async def objects(self, tenant: str) -> dict[str, str]:
        """The ids of fresh objects of a tenant, by type."""
        model = self.folder / "trained" / "model"
        model.mkdir(parents=True, exist_ok=True)
        (model / "config.json").write_text("{}")
        spec = {"model": {"path": "org/base"}, "tasks": {"train": "/t"}, "name": "mine"}
        resolved = JobSpec.model_validate(spec).model_dump(mode="json")
        job = await self.store.create_job(resolved, tenant=tenant)
        claimed = await self.store.claim("w", job.id)
        assert claimed is not None
        point = await self.store.add_checkpoint(job.id, claimed.token, 1, str(model), {})
        result = {"model": str(model)}
        await self.store.transition(job.id, "succeeded", token=claimed.token, result=result)
        write_traces(self.folder / job.id / "traces")
        async with client_of(self.app, await self.token(tenant)) as client:
            file = (await client.post("/v1/files", **UPLOAD)).raise_for_status().json()["id"]  # type: ignore[arg-type]
        kinds = ["fine_tuning.job.succeeded"]
        hooks = Webhooks(self.store.link)
        endpoint = await hooks.create(tenant, "mine", "https://hooks.example.com", kinds)  # type: ignore[arg-type]
        return {
            "endpoint": endpoint.id,
            "job": job.id,
            "checkpoint": point.id,
            "file": file,
            "model": model_name("org/base", "mine", job.id),
            "rollout": "1-0-0",
        }


@pytest_asyncio.fixture
async def house(store: Store, tmp_path: Path) -> AsyncIterator[House]:
    async with serving(store, home=tmp_path) as app:
        yield House(app, store, KeyStore(store.link), tmp_path / "jobs")


def filled(path: str, ids: dict[str, str]) -> str:
    for parameter, kind in OBJECTS.items():
        for form in (f"{{{parameter}}}", f"{{{parameter}:path}}"):
            path = path.replace(form, ids[kind])
    return path


def test_every_route_with_an_id_is_in_a_table(store_url: str) -> None:
    from services.api.app import create_app

    for method, path, route in routes(create_app(Settings())):
        if (method, path) not in OPERATORS | PUBLIC:
            names = set(route.param_convertors)
            assert names <= set(OBJECTS), (
                f"{method} {path}: say in this file what {names - set(OBJECTS)} names, so that "
                "another tenant is proven to get a 404"
            )


async def test_another_tenants_object_is_404_in_every_route(house: House) -> None:
    theirs = await house.objects("a")
    mine = await house.objects("b")
    asked = 0
    for admin in (False, True):
        async with client_of(house.app, await house.token("b", admin=admin)) as stranger:
            for method, path, route in routes(house.app):
                if not route.param_convertors or (method, path) in OPERATORS | PUBLIC:
                    continue
                body = BODIES.get((method, path))
                answer = await stranger.request(method, filled(path, theirs), json=body)
                assert answer.status_code == 404, (method, path, answer.text)
                assert answer.json()["error"]["code"] == "not_found"
                # The word for what never was is the same.
                never = {kind: value[:-4] + "0000" for kind, value in theirs.items()}
                ghost = await stranger.request(method, filled(path, never), json=body)
                assert ghost.status_code == 404
                assert said(ghost, never) == said(answer, theirs)
                asked += 1
            for path in (JOBS, "/v1/files", "/v1/models"):
                listing = await stranger.get(path)
                assert listing.status_code == 200, listing.text
                listed = listing.json()["data"]
                assert not {item["id"] for item in listed} & set(theirs.values())
                after = theirs[{JOBS: "job", "/v1/files": "file"}.get(path, "model")]
                assert (await stranger.get(path, params={"after": after})).status_code == 404
    assert asked >= 14
    async with client_of(house.app, await house.token("b")) as owner:
        for method, path, route in routes(house.app):
            if route.param_convertors and method == "GET":
                if (method, path) in OPERATORS | PUBLIC or "content" in path or "stream" in path:
                    continue
                answer = await owner.get(filled(path, mine))
                assert answer.status_code == 200, (path, answer.text)


def said(answer: httpx.Response, ids: dict[str, str]) -> str:
    text = answer.json()["detail"]
    for value in ids.values():
        text = text.replace(value, "ID")
    return text


async def test_who_is_no_operator_does_not_learn_which_keys_there_are(house: House) -> None:
    made = await house.keys.create("k", tenant="a", scopes=["jobs:read"])
    async with client_of(house.app, await house.token("b")) as client:
        for method, path in OPERATORS:
            answers = [
                await client.request(method, path.format(key_id=key_id, tenant="a"), json={})
                for key_id in (made.key.id, "nobody")
            ]
            assert [answer.status_code for answer in answers] == [403, 403]
            details = [answer.json()["detail"] for answer in answers]
            assert details[0] == details[1]
    assert await house.keys.check(made.token) is not None


async def test_every_change_is_on_record_with_who_what_and_how_it_ended(house: House) -> None:
    changing = [
        (method, path)
        for method, path, _ in routes(house.app)
        if method != "GET" and (method, path) not in HARMLESS
    ]
    assert len(changing) >= 8
    token = await house.token("a", admin=True)
    caller = token.split("_")[1]
    log = AuditLog(house.store.link)
    async with client_of(house.app, token, **{"X-Request-Id": "req-of-the-test"}) as client:
        for method, path in changing:
            before, _ = await log.page(limit=1)
            answer = await client.request(
                method,
                filled(path, await nothing())
                .replace("{key_id}", "nobody")
                .replace("{tenant}", "x"),
            )
            records, _ = await log.page(limit=1)
            assert records != before, f"{method} {path} left no record ({answer.status_code})"
            assert (records[0].tenant, records[0].caller) == ("a", caller)
            assert records[0].request_id == "req-of-the-test"
            assert records[0].outcome == ("done" if answer.status_code < 400 else "refused")
        for method, path in HARMLESS:
            before, _ = await log.page(limit=1)
            await client.request(method, path, json={})
            assert (await log.page(limit=1))[0] == before
    before, _ = await log.page(limit=1)
    async with client_of(house.app) as nobody:
        for method, path in changing:
            assert (await nobody.request(method, path)).status_code == 401
    assert (await log.page(limit=1))[0] == before


async def nothing() -> dict[str, str]:
    return dict.fromkeys(OBJECTS.values(), "nothing")


async def test_what_was_done_is_told_by_its_name_and_read_page_by_page(house: House) -> None:
    async with client_of(house.app, await house.token("ops", admin=True)) as client:
        form = {"name": "bot", "tenant": "a", "scopes": ["jobs:read"], "expires_in_s": 60}
        made = (await client.post("/v1/keys", json=form)).raise_for_status().json()
        rotated = (await client.post(f"/v1/keys/{made['id']}/rotate")).raise_for_status().json()
        assert (await house.keys.check(rotated["api_key"])) is not None
        assert rotated["previous_until"] is not None
        await client.put("/v1/limits/a", json={"open_jobs": 3})
        revoked = (await client.delete(f"/v1/keys/{made['id']}")).raise_for_status().json()
        assert revoked["revoked_at"] is not None
        assert await house.keys.check(rotated["api_key"]) is None
        seen: list[dict[str, Any]] = []
        page: dict[str, Any] = {"has_more": True, "last_id": None}
        while page["has_more"]:
            after = {"after": page["last_id"]} if page["last_id"] else {}
            page = (await client.get("/v1/audit", params={"limit": 3, **after})).json()
            seen += page["data"]
        assert [record["action"] for record in seen] == [
            "key.revoke", "limits.set", "key.rotate", "key.create",
        ]  # fmt: skip
        assert [record["target"] for record in seen] == [made["id"], "a", made["id"], made["id"]]
        facts = {"tenant": "a", "scopes": "jobs:read", "expires_in_s": 60}
        assert seen[-1]["facts"] == facts
        secrets = [made["api_key"].split("_")[2], rotated["api_key"].split("_")[2]]
        assert not [secret for secret in secrets if secret in json.dumps(seen)]
        listed = (await client.get("/v1/keys", params={"tenant": "a"})).text
        assert not [secret for secret in secrets if secret in listed]
        assert (await client.get("/v1/audit", params={"after": "x"})).status_code == 422


async def test_only_the_operators_bound_shortens_the_log(store: Store) -> None:
    from services.callers import Caller

    caller = Caller("a", "k", frozenset())
    whole, short = AuditLog(store.link), AuditLog(store.link, max_records=100)
    for number in range(250):
        await whole.record(caller, "job.create", str(number))
    assert len((await whole.page(limit=1000))[0]) == 250
    for number in range(250):
        await short.record(caller, "job.create", str(number))
    kept, _ = await short.page(limit=1000)
    assert 100 <= len(kept) < 250
    assert kept[0].target == "249"


async def test_a_tenant_that_asks_too_much_is_told_when_to_come_back(
    store: Store, tmp_path: Path
) -> None:
    keys = KeyStore(store.link)
    loud, quiet = [
        (await keys.create("k", tenant=tenant, scopes=["jobs:read"])).token for tenant in "ab"
    ]
    async with (
        serving(store, home=tmp_path, limit_requests="5/minute") as app,
        client_of(app, loud) as client,
    ):
        answers = await asyncio.gather(*(client.get(JOBS) for _ in range(12)))
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 7
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        async with client_of(app, quiet) as other:
            assert (await other.get(JOBS)).status_code == 200


async def test_a_tenants_own_limits_take_the_place_of_everybodys(store: Store) -> None:
    limits = LimitStore(store.link, Settings(limit_requests="2/hour", limit_open_jobs=7))
    await limits.set_own("a", {"requests": "4/hour"})
    for _ in range(4):
        await limits.admit("a")
    with pytest.raises(RateLimited):
        await limits.admit("a")
    await limits.set_own("a", {})
    assert (await limits.of("a")).requests == "2/hour"
    assert (await limits.of("a")).open_jobs == 7


async def test_open_jobs_are_exact_however_many_ask_at_once(house: House) -> None:
    limits = LimitStore(house.store.link, Settings(limit_open_jobs=3))
    await limits.publish()
    spec: dict[str, Any] = {"model": {"path": "m"}, "tasks": {"train": "/t", "holdout": None}}
    made = await asyncio.gather(
        *(house.store.create_job(spec, tenant="a") for _ in range(20)), return_exceptions=True
    )
    jobs = [job for job in made if not isinstance(job, BaseException)]
    assert len(jobs) == 3
    refused = [error for error in made if isinstance(error, BaseException)]
    assert {type(error) for error in refused} == {QuotaExceeded}
    assert "3 jobs that have not ended" in str(refused[0])
    await house.store.create_job(spec, tenant="b")
    await house.store.request_cancel(jobs[0].id, "a")
    again = await house.store.create_job(spec, tenant="a")
    await limits.set_own("a", {"open_jobs": 4})
    await house.store.create_job(spec, tenant="a")
    with pytest.raises(QuotaExceeded):
        await house.store.create_job(spec, tenant="a")
    await house.store.request_cancel(again.id, "a")
    await limits.set_own("a", {"open_jobs": 3})
    with pytest.raises(QuotaExceeded):
        await house.store.retry(jobs[0].id, "a")


async def test_stored_bytes_are_exact_however_many_upload_at_once(
    store: Store, tmp_path: Path
) -> None:
    keys = KeyStore(store.link)
    token = (await keys.create("k", tenant="a", scopes=["files:read", "files:write"])).token
    room = 2 * len(LINES) + 10
    async with (
        serving(store, home=tmp_path, limit_stored_bytes=room) as app,
        client_of(app, token) as client,
    ):
        answers = await asyncio.gather(
            *(client.post("/v1/files", **UPLOAD) for _ in range(6))  # type: ignore[arg-type]
        )
        assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429, 429, 429]
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["error"]["code"] == "quota_exceeded"
        files: FileStore = app.state.files
        assert await files.stored_bytes("a") == 2 * len(LINES)
        kept = [path for path in (tmp_path / "files").rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in kept) == 2 * len(LINES)
        gone = next(answer.json()["id"] for answer in answers if answer.status_code == 200)
        await client.delete(f"/v1/files/{gone}")
        assert (await client.post("/v1/files", **UPLOAD)).status_code == 200  # type: ignore[arg-type]
        mine = (await client.get("/v1/limits")).json()
        assert (mine["stored_bytes"], mine["used_stored_bytes"]) == (room, 2 * len(LINES))


async def test_a_tenant_that_has_trained_its_tokens_pauses_and_starts_no_more(
    store: Store,
) -> None:
    limits = LimitStore(store.link, Settings(limit_trained_tokens=100))
    await limits.publish()
    spec: dict[str, Any] = {"model": {"path": "m"}, "tasks": {"train": "/t", "holdout": None}}
    job = await store.create_job(spec, tenant="a")
    claimed = await store.claim("w", job.id)
    assert claimed is not None
    for step, tokens in ((1, 60), (2, 60)):
        assert (await store.get_job(job.id)).request is None
        data = {"kind": "step", "step": step, "completion_tokens": tokens}
        await store.append_event(job.id, message="step", data=data, token=claimed.token)
    assert (await store.get_job(job.id)).request == "pause"
    events = [event.message for event in await store.events(job.id)]
    assert any("tenant has trained 120 tokens of 100" in message for message in events)
    with pytest.raises(QuotaExceeded, match="120 tokens of 100"):
        await store.create_job(spec, tenant="a")
    await store.create_job(spec, tenant="b")
    await limits.set_own("a", {"trained_tokens": 1000})
    await store.create_job(spec, tenant="a")
