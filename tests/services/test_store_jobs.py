"""The life of jobs in the store: tenants, claims, budgets, checkpoints and retries."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.errors import Fenced, IllegalTransition, NotFound, PreconditionFailed
from services.jobs import STATUSES, JobError
from services.redis_server import EmbeddedValkey
from services.store import Store

SPEC = {"name": "job", "steps": 3}
FAILURE: JobError = {"code": "boom", "message": "it broke", "param": None}


async def test_another_tenants_job_does_not_exist(store: Store) -> None:
    job = await store.create_job(SPEC, tenant="a")
    for call in (
        store.get_job(job.id, "b"),
        store.request_cancel(job.id, "b"),
        store.request_pause(job.id, "b"),
        store.resume(job.id, "b"),
        store.update_job(job.id, "b", priority=1),
        store.retry(job.id, "b"),
        store.events(job.id, tenant="b"),
        store.has_ended(job.id, tenant="b"),
        store.checkpoints(job.id, "b"),
        store.list_jobs("b", after=job.id),
    ):
        with pytest.raises(NotFound, match=job.id):
            await call
    assert await store.list_jobs("b") == ([], False)
    assert [found.id for found in (await store.list_jobs("a"))[0]] == [job.id]
    assert [found.id for found in (await store.list_jobs())[0]] == [job.id]
    assert await store.job_counts("b") == dict.fromkeys(STATUSES, 0)
    assert (await store.get_job(job.id)).revision == job.revision


async def test_jobs_are_found_by_their_metadata_across_pages(store: Store) -> None:
    wanted: list[str] = []
    for number in range(250):
        metadata = {"n": str(number), "kind": "rare" if number % 100 == 7 else "common"}
        job = await store.create_job(SPEC, tenant="a", metadata=metadata)
        if metadata["kind"] == "rare":
            wanted.append(job.id)
    wanted.reverse()
    page, more = await store.list_jobs("a", limit=2, metadata={"kind": "rare"})
    assert ([job.id for job in page], more) == (wanted[:2], True)
    page, more = await store.list_jobs("a", wanted[1], 2, metadata={"kind": "rare"})
    assert ([job.id for job in page], more) == (wanted[2:], False)
    assert await store.list_jobs("a", metadata={"kind": "rare", "n": "8"}) == ([], False)


async def test_a_change_is_refused_when_the_job_is_not_what_the_caller_saw(store: Store) -> None:
    seen = await store.create_job(SPEC)
    changed = await store.update_job(seen.id, priority=3, revision=seen.revision)
    assert (changed.priority, changed.revision) == (3, seen.revision + 1)
    for call in (store.update_job, store.request_cancel, store.request_pause, store.resume):
        with pytest.raises(PreconditionFailed, match=f"at revision {changed.revision}"):
            await call(seen.id, revision=seen.revision)
    assert (await store.request_cancel(seen.id, revision=changed.revision)).status == "cancelled"


async def test_a_claim_takes_the_highest_priority_as_it_stands_now(store: Store) -> None:
    low, high = await store.create_job(SPEC), await store.create_job(SPEC, priority=5)
    await store.update_job(low.id, priority=9)
    order = [job.id for _ in range(2) if (job := await store.claim("w")) is not None]
    assert order == [low.id, high.id]


async def test_a_job_is_claimed_only_while_nobody_else_has_claimed_any(store: Store) -> None:
    one, two = await store.create_job(SPEC), await store.create_job(SPEC)
    room = await store.waiting_room()
    assert await store.claim("w1", one.id, claims=room.claims) is not None
    assert await store.claim("w2", two.id, claims=room.claims) is None
    assert await store.claim("w1", two.id, claims=room.claims + 1) is not None


async def test_a_stale_runner_writes_nothing(store: Store) -> None:
    job = await store.create_job(SPEC)
    await store.claim("w1", lease_s=0)
    assert await store.recover() == [job.id]
    again = await store.claim("w2")
    assert again is not None
    assert again.token == 2
    events = await store.events(job.id)
    for call in (
        store.renew(job.id, 1, 0),
        store.append_event(job.id, message="late", token=1),
        store.add_checkpoint(job.id, 1, 1, "/c", {}),
        store.release(job.id, 1, "late"),
        store.transition(job.id, "succeeded", token=1),
    ):
        with pytest.raises(Fenced, match="no longer held by claim 1"):
            await call
    assert await store.events(job.id) == events
    assert await store.renew(job.id, 2, 0) is None


async def test_a_lease_that_was_renewed_late_but_taken_by_nobody_still_holds(store: Store) -> None:
    job = await store.create_job(SPEC)
    await store.claim("w1", lease_s=0)
    assert await store.recover({job.id}) == []
    assert await store.renew(job.id, 1, 7) is None
    assert await store.recover() == []
    assert (await store.get_job(job.id)).status == "running"


async def test_an_event_with_a_key_is_told_once_in_the_life_of_a_job(store: Store) -> None:
    job = await store.create_job(SPEC)
    await store.claim("w1", lease_s=0)
    step = {"kind": "step", "step": 1, "completion_tokens": 30}
    first = await store.append_event(job.id, message="1", data=step, token=1, key="step:1")
    await store.recover()
    await store.claim("w2")
    again = await store.append_event(job.id, message="1", data=step, token=2, key="step:1")
    assert (again.id, again.created_at) == (first.id, first.created_at)
    assert [event.message for event in await store.events(job.id)].count("1") == 1
    assert (await store.get_job(job.id)).trained_tokens == 30
    assert await store.trained_tokens("default") == 30


async def test_a_spent_budget_pauses_a_job_until_it_is_raised(store: Store) -> None:
    job = await store.create_job(SPEC, max_tokens=50)
    await store.claim("w1")
    for step in (1, 2):
        data = {"kind": "step", "step": step, "completion_tokens": 30}
        await store.append_event(job.id, message="s", data=data, token=1, key=f"step:{step}")
        assert await store.renew(job.id, 1, step) == (None if step == 1 else "pause")
    paused = await store.transition(job.id, "paused", token=1)
    assert (paused.status, paused.request, paused.attempts) == ("paused", None, 0)
    told = [event.message for event in await store.events(job.id)]
    assert "Job is paused: it has trained 60 tokens, max_tokens is 50." in told
    with pytest.raises(IllegalTransition, match="60 tokens, max_tokens is 50"):
        await store.resume(job.id)
    await store.update_job(job.id, max_tokens=100)
    assert (await store.resume(job.id)).status == "queued"


async def test_a_job_that_ran_for_long_enough_is_asked_to_pause(store: Store) -> None:
    job = await store.create_job(SPEC, max_runtime_s=0.001)
    await store.claim("w1")
    while await store.renew(job.id, 1, 0) is None:
        await asyncio.sleep(0)
    assert (await store.release(job.id, 1, "unheard")).status == "paused"
    assert (await store.get_job(job.id)).runtime_s >= 0.001


async def test_checkpoints_are_listed_newest_first_and_only_those_that_are_kept(
    store: Store,
) -> None:
    job = await store.create_job(SPEC)
    await store.claim("w1")
    for step in (2, 4, 6, 4):
        await store.add_checkpoint(job.id, 1, step, f"/c/{step}", {"reward": step / 4}, keep=2)
    page, more = await store.checkpoints(job.id)
    assert [(found.step, found.path, found.metrics) for found in page] == [
        (6, "/c/6", {"reward": 1.5}), (4, "/c/4", {"reward": 1.0}),
    ]  # fmt: skip
    assert not more
    assert await store.checkpoint(job.id, page[1].id) == page[1]
    assert await store.checkpoints(job.id, after=page[0].id) == (page[1:], False)
    for unknown in ("ftckpt-x-4", f"{page[0].id}0", ""):
        with pytest.raises(NotFound, match="has no checkpoint"):
            await store.checkpoint(job.id, unknown)
    with pytest.raises(NotFound, match="has no checkpoint"):
        await store.checkpoints(job.id, after="ftckpt-x-4")


async def test_a_job_that_has_ended_is_tried_again_as_a_new_one(store: Store) -> None:
    job = await store.create_job(
        SPEC, tenant="a", metadata={"k": "v"}, priority=4, max_tokens=9, max_runtime_s=8
    )
    with pytest.raises(IllegalTransition, match="before it has ended"):
        await store.retry(job.id, "a")
    await store.request_cancel(job.id)
    again = await store.retry(job.id, "a", source="/c/4")
    assert (again.id != job.id, again.status, again.retry_of) == (True, "queued", job.id)
    assert (again.spec, again.metadata, again.tenant) == (job.spec, job.metadata, "a")
    assert (again.priority, again.max_tokens, again.max_runtime_s) == (4, 9, 8)
    assert again.source == "/c/4"


async def test_a_job_whose_files_are_validated_waits_for_that(store: Store) -> None:
    job = await store.create_job(SPEC, validating=True)
    assert job.status == "validating_files"
    assert await store.claim("w1") is None
    assert (await store.accept(job.id)).status == "queued"
    assert await store.claim("w1") is not None
    refused = await store.create_job(SPEC, validating=True)
    assert (await store.transition(refused.id, "failed", error=FAILURE)).status == "failed"


async def test_a_runners_writes_outlive_an_outage_of_the_server_once_each(tmp_path: Any) -> None:
    with EmbeddedValkey.start(tmp_path / "valkey") as server:
        store = await Store.open(server.url)
        job = await store.create_job(SPEC)
        await store.claim("w1", lease_s=600)
        server.process.kill()
        server.process.wait(10)
        writing = [
            asyncio.create_task(store.append_event(job.id, message=str(number), token=1))
            for number in range(20)
        ]
        await asyncio.wait(writing, timeout=0.5)
        assert not any(task.done() for task in writing)
        await asyncio.to_thread(server.start_again)
        async with asyncio.timeout(60):
            await asyncio.gather(*writing)
        events = await store.events(job.id)
        assert sorted(event.message for event in events[2:]) == sorted(map(str, range(20)))
        assert (await store.transition(job.id, "succeeded", token=1)).status == "succeeded"
        await store.close()


async def test_the_reward_curve_of_a_long_job_stays_short_and_evenly_spaced(store: Store) -> None:
    job = await store.create_job(SPEC)
    await store.claim("w1")
    for step in range(1, 151):
        data = {"kind": "step", "step": step, "reward_mean": step / 200}
        await store.append_event(job.id, message="s", data=data, token=1, key=f"step:{step}")
        if step == 3:
            again = dict(data, reward_mean=0.9)
            await store.append_event(job.id, message="s", data=again, token=1, key="step:3")
            assert (await store.get_job(job.id)).rewards == [(1, 0.005), (2, 0.01), (3, 0.015)]
    rewards = (await store.get_job(job.id)).rewards
    assert [step for step, _ in rewards] == list(range(4, 151, 4))
    assert rewards[-1] == (148, 0.74)
    assert (await store.list_jobs())[0][0].rewards == rewards
