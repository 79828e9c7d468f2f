"""The store keeps jobs and events in a real Redis-protocol server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.errors import IllegalTransition, NotFound, StoreUnavailable
from services.jobs import TERMINAL, JobError
from services.redis_link import redacted
from services.redis_server import EmbeddedValkey
from services.store import Store

SPEC = {"name": "job", "steps": 3}
FAILURE: JobError = {"code": "boom", "message": "it broke", "param": None}


async def kinds(store: Store, job_id: str) -> list[Any]:
    return [event.data.get("status") for event in await store.events(job_id)]


async def test_a_job_goes_from_queued_over_running_to_succeeded(store: Store) -> None:
    job = await store.create_job(SPEC, metadata={"team": "a"})
    assert (job.status, job.spec, job.metadata) == ("queued", SPEC, {"team": "a"})
    claimed = await store.claim("w1")
    assert claimed is not None
    assert (claimed.id, claimed.status, claimed.worker) == (job.id, "running", "w1")
    ended = await store.transition(job.id, "succeeded", result={"model": "/m"})
    assert (ended.status, ended.result, ended.error) == ("succeeded", {"model": "/m"}, None)
    assert ended.started_at is not None
    assert ended.finished_at is not None
    assert ended.created_at <= ended.started_at <= ended.finished_at
    assert await kinds(store, job.id) == ["queued", "running", "succeeded"]


async def test_a_failure_keeps_its_reason(store: Store) -> None:
    job = await store.create_job(SPEC)
    failed = await store.transition(job.id, "failed", error=FAILURE)
    assert (failed.error, failed.result) == (FAILURE, None)
    assert (await store.events(job.id))[-1].level == "error"


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
async def test_a_terminal_status_is_never_left(store: Store, status: Any) -> None:
    job = await store.create_job(SPEC)
    await store.claim("w1")
    await store.transition(job.id, status)
    for again in sorted(TERMINAL):
        with pytest.raises(IllegalTransition, match=f"{job.id} is {status}"):
            await store.transition(job.id, again)  # pyright: ignore[reportArgumentType]
    with pytest.raises(IllegalTransition):
        await store.append_event(job.id, message="too late")
    assert (await store.get_job(job.id)).status == status
    assert len(await store.events(job.id)) == 3


async def test_a_queued_job_cannot_succeed(store: Store) -> None:
    job = await store.create_job(SPEC)
    with pytest.raises(IllegalTransition, match="is queued and cannot become succeeded"):
        await store.transition(job.id, "succeeded")
    assert await kinds(store, job.id) == ["queued"]


async def test_what_does_not_exist_is_said_by_name(store: Store) -> None:
    for call in (
        store.get_job("ftjob-x"),
        store.events("ftjob-x"),
        store.request_cancel("ftjob-x"),
        store.append_event("ftjob-x", message="m"),
        store.transition("ftjob-x", "failed"),
        store.list_jobs(after="ftjob-x"),
    ):
        with pytest.raises(NotFound, match="ftjob-x"):
            await call


async def test_many_workers_claim_every_job_once_and_oldest_first(store: Store) -> None:
    ids = [(await store.create_job(SPEC)).id for _ in range(20)]
    first = await store.claim("w0")
    assert first is not None
    assert first.id == ids[0]

    async def work(worker: str) -> list[str]:
        got: list[str] = []
        while (job := await store.claim(worker)) is not None:
            got.append(job.id)
        return got

    claimed = await asyncio.gather(*(work(f"w{n}") for n in range(1, 6)))
    assert sorted(sum(claimed, [first.id])) == sorted(ids)
    assert {job.id for job in await store.running_jobs()} == set(ids)


async def test_cancelling_ends_a_queued_job_and_asks_a_running_one(store: Store) -> None:
    running, queued = await store.create_job(SPEC), await store.create_job(SPEC)
    await store.claim("w1")
    assert (await store.request_cancel(queued.id)).status == "cancelled"
    assert await store.claim("w1") is None
    for _ in range(2):
        asked = await store.request_cancel(running.id)
        assert (asked.status, asked.request) == ("running", "cancel")
    assert await kinds(store, running.id) == ["queued", "running", "running"]
    await store.transition(running.id, "cancelled")
    assert (await store.request_cancel(running.id)).status == "cancelled"


async def test_counts_follow_every_transition(store: Store) -> None:
    for _ in range(4):
        await store.create_job(SPEC)
    first, second = await store.claim("w1"), await store.claim("w1")
    assert first is not None
    assert second is not None
    await store.transition(first.id, "succeeded")
    await store.transition(second.id, "failed", error=FAILURE)
    jobs, _ = await store.list_jobs()
    await store.request_cancel(jobs[0].id)
    counts = {status: n for status, n in (await store.job_counts()).items() if n}
    assert counts == {"succeeded": 1, "failed": 1, "cancelled": 1, "queued": 1}


async def test_events_are_numbered_without_a_gap_however_many_write(store: Store) -> None:
    job = await store.create_job(SPEC)
    await asyncio.gather(*(store.append_event(job.id, message=str(n)) for n in range(50)))
    events = await store.events(job.id)
    assert [event.id for event in events] == list(range(1, 52))
    assert sorted(int(event.message) for event in events[1:]) == list(range(50))
    assert [event.id for event in await store.events(job.id, after=49)] == [50, 51]
    assert [event.id for event in await store.events(job.id, after=10, limit=2)] == [11, 12]
    assert await store.events(job.id, after=51) == []


async def test_the_newest_step_is_the_progress_of_the_job(store: Store) -> None:
    job = await store.create_job(SPEC)
    assert job.progress is None
    await store.append_event(
        job.id, message="step 1", type="metrics", data={"kind": "step", "step": 1, "loss": 0.5}
    )
    await store.append_event(job.id, message="score", data={"kind": "phase", "phase": "score"})
    assert (await store.get_job(job.id)).progress == {"kind": "step", "step": 1, "loss": 0.5}
    evaluation = {"kind": "evaluation", "step": 1, "accuracy": 0.75}
    await store.append_event(job.id, message="75 %", type="metrics", data=evaluation)
    progress = (await store.get_job(job.id)).progress
    assert progress is not None
    assert progress["holdout_accuracy"] == 0.75, "also of the evaluation behind the last step"


async def test_an_event_with_nan_is_refused_before_it_is_stored(store: Store) -> None:
    job = await store.create_job(SPEC)
    with pytest.raises(ValueError, match="not JSON compliant"):
        await store.append_event(job.id, message="m", data={"loss": float("nan")})
    assert len(await store.events(job.id)) == 1


async def test_jobs_are_paged_newest_first(store: Store) -> None:
    ids = [(await store.create_job(SPEC)).id for _ in range(5)][::-1]
    page, more = await store.list_jobs(limit=2)
    assert ([job.id for job in page], more) == (ids[:2], True)
    page, more = await store.list_jobs(after=ids[1], limit=3)
    assert ([job.id for job in page], more) == (ids[2:], False)
    assert await store.list_jobs(after=ids[-1]) == ([], False)


async def test_a_worker_lives_until_its_heartbeat_runs_out_or_it_leaves(store: Store) -> None:
    assert await store.workers() == set()
    await store.heartbeat("w1", ttl=1)
    await store.heartbeat("w2", ttl=60)
    await store.heartbeat("w3", ttl=60)
    assert await store.workers() == {"w1", "w2", "w3"}
    await store.leave("w3")
    async with asyncio.timeout(10):
        while await store.workers() != {"w2"}:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@127.0.0.1:1/0", "redis://127.0.0.1:1/0"),
        ("redis://u:secret@127.0.0.1:1?password=secret", "redis://127.0.0.1:1"),
        ("unix:///nowhere/socket?password=secret", "unix:///nowhere/socket"),
        ("http://u:secret@example.org", "http://example.org"),
    ],
)
async def test_an_unreachable_server_is_named_without_its_password(url: str, shown: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await Store.open(url)
    assert shown in str(caught.value)
    assert "secret" not in str(caught.value)
    assert redacted(url) == shown


async def test_a_wrong_password_is_a_clear_error(store_url: str) -> None:
    host = store_url.rpartition("@")[2]
    for url in (f"redis://:wrong@{host}", f"redis://{host}"):
        with pytest.raises(StoreUnavailable, match=host.partition("/")[0]):
            await Store.open(url)


async def test_jobs_survive_a_killed_server(tmp_path: Any) -> None:
    folder = tmp_path / "valkey"
    with EmbeddedValkey.start(folder) as server:
        store = await Store.open(server.url)
        job = await store.create_job(SPEC)
        await store.claim("w1")
        await store.append_event(job.id, message="the last word")
        await store.close()
        server.process.kill()
        server.process.wait(10)
    with EmbeddedValkey.start(folder) as server:
        store = await Store.open(server.url)
        assert (await store.get_job(job.id)).status == "running"
        assert (await store.events(job.id))[-1].message == "the last word"
        await store.close()
