"""Webhooks: made and read by OpenAI's client, delivered to real servers, at least once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit import AuditLog
from services.jobs import Job
from services.store import Store
from services.webhook_delivery import (
    ATTEMPTS,
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    WebhookDeliveries,
    pause_after,
)
from services.webhooks import EVENT_TYPES, MAX_ENDPOINTS, Webhooks
from tests.services.running import Api

EVENTS: Any = list(EVENT_TYPES)  # the client's own type knows more of them
ENDPOINTS = "/v1/webhook_endpoints"


class Receiver:
    """A server that keeps what is posted to it, and answers as it is told."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}/hook"
        self.taken: list[tuple[bytes, dict[str, str]]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []

    async def waits_for(self, count: int) -> list[tuple[bytes, dict[str, str]]]:
        async with asyncio.timeout(60):
            while len(self.taken) < count:
                await asyncio.sleep(0.02)
        return self.taken


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            held.taken.append((body, {k.lower(): v for k, v in self.headers.items()}))
            status, headers = held.answers.pop(0) if held.answers else (204, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        held = Receiver(server)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield held
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receivers of the tests lie on this machine."""
    monkeypatch.setenv("STROP_WEBHOOK_ALLOW", "127.0.0.1")


@pytest.fixture
def client(api: Api) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key=api.key, max_retries=0)


@asynccontextmanager
async def delivering(store: Store, count: int = 1, **policy: Any) -> AsyncIterator[None]:
    """So many deliverers over the store, each with a policy of little patience."""
    stop = asyncio.Event()
    policy = {"first_pause": 0.05, **policy}
    tasks = [
        asyncio.create_task(
            WebhookDeliveries(Webhooks(store.link), AuditLog(store.link), **policy).run(stop)
        )
        for _ in range(count)
    ]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def ended(store: Store, outcome: Any = "succeeded", tenant: str = "default") -> Job:
    """A job that has ended."""
    spec = {"model": {"path": "m"}, "tasks": {"train": "/t", "holdout": None}, "seed": 0}
    job = await store.create_job(spec, tenant=tenant)
    claimed = await store.claim("w", job.id)
    assert claimed is not None
    return await store.transition(job.id, outcome, token=claimed.token)


async def all_done(store: Store) -> None:
    async with asyncio.timeout(60):
        while await Webhooks(store.link).waiting():
            await asyncio.sleep(0.02)


async def test_openais_client_makes_an_endpoint_and_accepts_what_is_delivered(
    api: Api, client: openai.AsyncOpenAI, receiver: Receiver
) -> None:
    made = await client.webhooks.create(event_types=EVENTS, name="ours", url=receiver.url)
    async with delivering(api.store):
        jobs = [await ended(api.store, kind.rpartition(".")[2]) for kind in EVENTS]
        taken = await receiver.waits_for(3)
        await all_done(api.store)
    verifier = openai.OpenAI(api_key="-", webhook_secret=made.signing_secret)
    events = [verifier.webhooks.unwrap(body, headers) for body, headers in taken]
    assert {(event.type, event.data.id) for event in events} == {  # pyright: ignore
        (kind, job.id) for kind, job in zip(EVENTS, jobs, strict=True)
    }
    assert [headers["webhook-id"] for _, headers in taken] == [event.id for event in events]
    stranger = openai.OpenAI(api_key="-", webhook_secret="whsec_" + "A" * 43 + "=")
    with pytest.raises(openai.InvalidWebhookSignatureError):
        stranger.webhooks.unwrap(*taken[0])
    (listed,) = [endpoint async for endpoint in client.webhooks.list()]
    assert (listed.id, listed.url, listed.event_types) == (made.id, receiver.url, EVENTS)
    assert made.signing_secret not in listed.to_json()
    assert (await client.webhooks.retrieve(made.id)).model_extra["last_delivery"][  # pyright: ignore
        "outcome"
    ] == "delivered"
    assert (await client.webhooks.event_types.list()).data == EVENTS
    assert (await client.webhooks.delete(made.id)).deleted
    await client.close()


async def test_an_endpoint_hears_what_it_asked_for_and_of_its_own_tenant(
    api: Api, client: openai.AsyncOpenAI, receiver: Receiver
) -> None:
    await client.webhooks.create(event_types=EVENTS[1:2], name="failures", url=receiver.url)
    async with delivering(api.store):
        await ended(api.store, "succeeded")
        await ended(api.store, "failed", tenant="other")
        mine = await ended(api.store, "failed")
        await receiver.waits_for(1)
        await all_done(api.store)
    assert [mine.id in body.decode() for body, _ in receiver.taken] == [True]
    await client.close()


async def test_what_is_refused_comes_again_under_the_same_id(
    api: Api, client: openai.AsyncOpenAI, receiver: Receiver
) -> None:
    await client.webhooks.create(event_types=EVENTS, name="ours", url=receiver.url)
    receiver.answers = [(500, {}), (302, {"Location": receiver.url}), (200, {})]
    async with delivering(api.store):
        await ended(api.store)
        taken = await receiver.waits_for(3)
        await all_done(api.store)
    assert len({headers["webhook-id"] for _, headers in taken}) == 1
    assert len({body for body, _ in taken}) == 1
    assert len(taken) == 3, "a redirect is not followed: it is one more refusal"
    await client.close()


async def test_what_is_never_taken_is_given_up_and_audited(
    api: Api, client: openai.AsyncOpenAI, receiver: Receiver
) -> None:
    made = await client.webhooks.create(event_types=EVENTS, name="ours", url=receiver.url)
    receiver.answers = [(503, {})] * 9
    async with delivering(api.store, attempts=2):
        await ended(api.store)
        await receiver.waits_for(2)
        await all_done(api.store)
    records, _ = await AuditLog(api.store.link).page()
    assert (records[0].action, records[0].target) == ("webhook.give_up", made.id)
    assert records[0].facts["attempts"] == 2
    async with api.client() as rest:
        last = (await rest.get(f"{ENDPOINTS}/{made.id}")).json()["last_delivery"]
    assert (last["outcome"], last["status"]) == ("given_up", 503)
    await client.close()


async def test_several_deliverers_deliver_each_event_once(
    api: Api, client: openai.AsyncOpenAI, receiver: Receiver
) -> None:
    await client.webhooks.create(event_types=EVENTS, name="ours", url=receiver.url)
    jobs = [await ended(api.store) for _ in range(12)]
    async with delivering(api.store, count=3):
        await receiver.waits_for(12)
        await all_done(api.store)
    ids = sorted(headers["webhook-id"] for _, headers in receiver.taken)
    assert ids == sorted(f"evt_{job.id.removeprefix('ftjob-')}" for job in jobs)
    await client.close()


async def test_what_a_dead_deliverer_held_is_delivered_by_another(
    api: Api, client: openai.AsyncOpenAI, receiver: Receiver
) -> None:
    await client.webhooks.create(event_types=EVENTS, name="ours", url=receiver.url)
    await ended(api.store)
    webhooks = Webhooks(api.store.link)
    assert await webhooks.fan_out() == 1
    held = await webhooks.claim(0.2)
    assert held is not None
    assert await webhooks.claim(0.2) is None, "it is leased"
    async with delivering(api.store):
        await receiver.waits_for(1)
        await all_done(api.store)
    assert receiver.taken[0][1]["webhook-id"] == held.event
    await client.close()


async def test_a_rotated_secret_may_sign_beside_the_old_one(
    api: Api, client: openai.AsyncOpenAI, receiver: Receiver
) -> None:
    made = await client.webhooks.create(event_types=EVENTS, name="ours", url=receiver.url)
    test = {"event_type": "fine_tuning.job.failed"}
    second = await client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
    assert (await client.webhooks.test(made.id, **test)).status_code == 204  # pyright: ignore
    third = await client.webhooks.rotate_secret(made.id)
    await client.webhooks.test(made.id, **test)  # pyright: ignore
    secrets = [made.signing_secret, second.signing_secret, third.signing_secret]
    assert len(set(secrets)) == 3

    def accepts(secret: str, number: int) -> bool:
        try:
            verifier = openai.OpenAI(api_key="-", webhook_secret=secret)
            event = verifier.webhooks.unwrap(*receiver.taken[number])
        except openai.InvalidWebhookSignatureError:
            return False
        return event.type == test["event_type"]

    assert [accepts(secret, 0) for secret in secrets] == [True, True, False]
    assert [accepts(secret, 1) for secret in secrets] == [False, False, True]
    await client.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.2/x",
        "https://[::1]/x",
        "https://169.254.169.254/latest/meta-data",
        "https://10.1.2.3/",
        "http://93.184.215.14/in-clear-text",
        "ftp://127.0.0.1/x",
        "https://user:secret@127.0.0.1/",
        "https://127.0.0.1:99999/",
        "https://127.0.0.1/a b",
        "nonsense",
    ],
)
async def test_a_url_that_leads_inside_is_refused(api: Api, url: str) -> None:
    async with api.client() as rest:
        form = {"name": "n", "url": url, "event_types": EVENTS}
        refused = await rest.post(ENDPOINTS, json=form)
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "url")
        assert (await rest.get(ENDPOINTS)).json()["data"] == []


async def test_endpoints_are_the_tenants_own_and_bounded(api: Api, receiver: Receiver) -> None:
    other = await api.key_of("jobs:read", "jobs:write", tenant="other")
    reader = await api.key_of("jobs:read")
    form = {"name": "n", "url": receiver.url, "event_types": EVENTS}
    async with api.client() as mine, api.client(key=other) as theirs, api.client(key=reader) as r:
        made = [(await mine.post(ENDPOINTS, json=form)).json()["id"] for _ in range(MAX_ENDPOINTS)]
        assert (await mine.post(ENDPOINTS, json=form)).status_code == 429
        path = f"{ENDPOINTS}/{made[0]}"
        answers = [
            await theirs.get(path),
            await theirs.delete(path),
            await theirs.post(path, json={"name": "theirs"}),
            await theirs.post(f"{path}/rotate_secret"),
            await theirs.post(f"{path}/test", json={"event_type": EVENTS[0]}),
        ]
        assert [answer.status_code for answer in answers] == [404] * 5
        assert (await theirs.get(ENDPOINTS)).json()["data"] == []
        assert (await r.post(ENDPOINTS, json=form)).status_code == 403
        page = (await mine.get(f"{ENDPOINTS}?limit=15&after={made[-1]}")).json()
        assert [item["id"] for item in page["data"]] == made[-2:-17:-1]
        assert page["has_more"]
        changed = (await mine.post(path, json={"event_types": EVENTS[:1]})).json()
        assert (changed["event_types"], changed["name"]) == (EVENTS[:1], "n")
    assert receiver.taken == []


@given(attempts=st.integers(1, ATTEMPTS), chance=st.floats(0, 1, exclude_max=True))
def test_pauses_grow_and_stay_within_bounds(attempts: int, chance: float) -> None:
    pause = pause_after(attempts, chance)
    assert FIRST_PAUSE_SECONDS / 2 <= pause <= LONGEST_PAUSE_SECONDS
    assert pause_after(attempts + 1, chance) >= pause
