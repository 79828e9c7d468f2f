"""`Idempotency-Key`: what is asked for twice is made once, on any replica, whatever dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services import idempotency
from services.errors import InProgress
from services.idempotency import Answer, IdempotencyKeys
from services.redis_link import RedisLink
from services.store import Store
from tests.services.running import Api
from tests.services.test_api import JOBS, assert_problem, body
from tests.services.test_files import FILE, FILES, PURPOSE, local_app, stored, upload

KEY = {"Idempotency-Key": "3f0c"}


async def test_the_same_request_gets_the_same_response_and_makes_one_job(
    api: Api, task_file: Path
) -> None:
    async with api.client() as client:
        first = await client.post(JOBS, json=body(task_file), headers=KEY)
        assert "idempotency-replayed" not in first.headers
        job = first.raise_for_status().json()["id"]
        (await client.post(f"{JOBS}/{job}/cancel")).raise_for_status()
        again = await client.post(JOBS, json=body(task_file), headers=KEY)
        assert again.headers["idempotency-replayed"] == "true"
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers["content-type"] == first.headers["content-type"]
        assert [item["id"] for item in (await client.get(JOBS)).json()["data"]] == [job]
        other = await client.post(JOBS, json=body(task_file), headers={"Idempotency-Key": "other"})
        assert other.json()["id"] != job


async def test_a_key_that_was_used_for_something_else_is_409(api: Api, task_file: Path) -> None:
    async with api.client() as client:
        (await client.post(JOBS, json=body(task_file), headers=KEY)).raise_for_status()
        for response in (
            await client.post(JOBS, json=body(task_file, seed=1), headers=KEY),
            await client.post(
                FILES, files={"file": ("a", b"{}")}, data={"purpose": "batch"}, headers=KEY
            ),
        ):
            assert_problem(response, 409, "idempotency_conflict", None)
            assert response.headers["x-should-retry"] == "false"
        assert len((await client.get(JOBS)).json()["data"]) == 1


async def test_a_request_that_was_refused_frees_its_key(api: Api, task_file: Path) -> None:
    async with api.client() as client:
        refused = await client.post(JOBS, json=body(task_file, steps=0), headers=KEY)
        assert refused.status_code == 422
        (await client.post(JOBS, json=body(task_file), headers=KEY)).raise_for_status()


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "a\tb"])
async def test_a_key_that_is_none_is_refused(api: Api, task_file: Path, key: str) -> None:
    async with api.client() as client:
        response = await client.post(JOBS, json=body(task_file), headers={"Idempotency-Key": key})
        assert response.status_code == 422
        assert response.json()["error"]["param"].lower() == "idempotency-key"


async def test_of_many_at_once_one_makes_it_and_the_others_are_told_to_wait(
    api: Api, task_file: Path
) -> None:
    async with api.client() as client:
        posts = [client.post(JOBS, json=body(task_file), headers=KEY) for _ in range(8)]
        responses = await asyncio.gather(*posts)
        made = {response.json()["id"] for response in responses if response.status_code == 200}
        assert len(made) == 1
        for response in responses:
            if response.status_code != 200:
                assert_problem(response, 409, "in_progress", None)
                assert response.headers["retry-after"] == "1"
                assert "x-should-retry" not in response.headers
        assert len((await client.get(JOBS)).json()["data"]) == 1


async def test_an_upload_is_made_once_and_its_bytes_are_compared(
    store: Store, tmp_path: Path
) -> None:
    async with local_app(store, tmp_path) as client:
        client.headers.update(KEY)
        first = (await upload(client)).raise_for_status()
        again = await upload(client)
        assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])
        assert_problem(await upload(client, b"{}"), 409, "idempotency_conflict", None)
        assert stored(tmp_path) == [f"default/{first.json()['id']}.jsonl"]


async def test_while_an_upload_arrives_its_key_is_taken(store: Store, tmp_path: Path) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def waits() -> AsyncIterator[bytes]:
        yield PURPOSE.encode()
        arrived.set()
        await go_on.wait()
        yield (FILE + "--b--").encode()

    async with local_app(store, tmp_path) as client:
        client.headers.update(KEY)
        first = asyncio.create_task(
            client.post(
                FILES,
                content=waits(),
                headers={"Content-Type": "multipart/form-data; boundary=b"},
            )
        )
        await arrived.wait()
        assert_problem(await upload(client, b"{}"), 409, "in_progress", None)
        go_on.set()
        made = (await first).raise_for_status()
        assert (await upload(client, b"{}")).content == made.content


async def test_keys_are_a_tenants_own_and_hold_on_every_replica(store_url: str) -> None:
    one, two = await RedisLink.open(store_url), await RedisLink.open(store_url)
    try:
        here, there = IdempotencyKeys(one), IdempotencyKeys(two)
        answer = Answer('{"id": 1}', {"etag": '"1"'})
        async with here.turn("a", "k") as turn:
            with pytest.raises(InProgress):
                async with there.turn("a", "k"):
                    pass
            async with there.turn("b", "k") as other:
                assert other.answer("f") is None
            await turn.keep("f", answer)
        async with there.turn("a", "k") as turn:
            assert turn.answer("f") == answer
        ttl = await one.ask("TTL", next(iter(await one.ask("KEYS", "*once:a:*"))))
        assert 0 < ttl <= idempotency.KEPT_SECONDS
        assert await one.ask("KEYS", "*once:b:*") == []
    finally:
        await one.close()
        await two.close()


async def test_what_a_dead_replica_held_is_free_when_its_lease_ends(
    store: Store, tmp_path: Path
) -> None:
    keys = IdempotencyKeys(store.link)
    turn = keys.turn("default", KEY["Idempotency-Key"])
    held = await turn.__aenter__()
    fingerprint = "POST /v1/files a.jsonl fine-tune " + "f" * 64
    made = held.id(fingerprint)
    # It dies here: nobody renews the lease, and nobody lets go.
    for task in asyncio.all_tasks():
        if "_renewed" in repr(task.get_coro()):
            task.cancel()
    (record,) = await store.link.ask("KEYS", "*once:*")
    assert 0 < await store.link.ask("PTTL", record) <= 10_000
    await store.link.ask("PEXPIRE", record, 1)
    async with asyncio.timeout(30):
        while await store.link.ask("EXISTS", record):
            await asyncio.sleep(0.01)
    async with keys.turn("default", KEY["Idempotency-Key"]) as again:
        assert again.answer(fingerprint) is None
        assert again.id(fingerprint) == made
    await turn.__aexit__(None, None, None)


async def test_a_file_that_was_made_before_the_answer_was_kept_is_not_made_again(
    store: Store, tmp_path: Path
) -> None:
    async with local_app(store, tmp_path) as client:
        client.headers.update(KEY)
        first = (await upload(client)).json()
        for record in await store.link.ask("KEYS", "*once:*"):
            await store.link.ask("DEL", record)
        again = await upload(client)
        assert "idempotency-replayed" not in again.headers
        assert again.json() == first
        assert [file["id"] for file in (await client.get(FILES)).json()["data"]] == [first["id"]]


async def test_a_job_that_was_made_before_the_answer_was_kept_is_not_made_again(
    store: Store, tmp_path: Path, task_file: Path
) -> None:
    async with local_app(store, tmp_path / "home") as client:
        client.headers.update(KEY)
        first = (await client.post(JOBS, json=body(task_file))).raise_for_status().json()
        for record in await store.link.ask("KEYS", "*once:*"):
            await store.link.ask("DEL", record)
        assert (await client.post(JOBS, json=body(task_file))).json() == first
        assert [job["id"] for job in (await client.get(JOBS)).json()["data"]] == [first["id"]]
        assert len(await store.events(first["id"])) == 1


async def test_a_held_key_is_renewed_for_as_long_as_the_request_takes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "_RENEW_SECONDS", 0.01)
    keys = IdempotencyKeys(store.link)
    async with keys.turn("a", "k") as turn:
        (record,) = await store.link.ask("KEYS", "*once:*")
        await store.link.ask("PEXPIRE", record, 5000)
        async with asyncio.timeout(30):
            while await store.link.ask("PTTL", record) <= 5000:
                await asyncio.sleep(0.01)
        await turn.keep("f", Answer("{}", {}))
        await asyncio.sleep(0.05)  # a renewal must not shorten the day
        assert await store.link.ask("TTL", record) > 3600
