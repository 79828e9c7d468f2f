"""The dispatcher claims jobs, runs them through what it is given, and lets none go missing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.dispatcher import Dispatcher, Launch
from services.jobs import TERMINAL, Job
from services.store import Store

SPEC = {"name": "job"}


@asynccontextmanager
async def dispatching(store: Store, launch: Launch, **options: Any) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(store, launch, poll_seconds=0.02, **options)
    stop = asyncio.Event()
    running = asyncio.create_task(dispatcher.run(stop))
    try:
        yield dispatcher
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)


async def ended(store: Store, job_id: str) -> Job:
    async with asyncio.timeout(30):
        async for _ in store.follow(job_id):
            pass
    return await store.get_job(job_id)


async def test_jobs_run_one_after_the_other_in_their_order(store: Store) -> None:
    ran: list[str] = []

    async def launch(job: Job) -> None:
        assert len(await store.running_jobs()) == 1
        ran.append(job.id)
        await store.transition(job.id, "succeeded")

    ids = [(await store.create_job(SPEC)).id for _ in range(4)]
    async with dispatching(store, launch):
        for job_id in ids:
            assert (await ended(store, job_id)).status == "succeeded"
    assert ran == ids


async def test_two_dispatchers_share_the_queue_and_never_a_job(store: Store) -> None:
    ran: list[str] = []
    together = asyncio.Barrier(4)

    async def launch(job: Job) -> None:
        ran.append(job.id)
        await together.wait()  # passes only when all four run at once
        await store.transition(job.id, "succeeded")

    ids = [(await store.create_job(SPEC)).id for _ in range(4)]
    async with (
        dispatching(store, launch, max_running=2),
        dispatching(store, launch, max_running=2),
    ):
        for job_id in ids:
            assert (await ended(store, job_id)).status == "succeeded"
    assert sorted(ran) == sorted(ids)


async def test_a_launch_that_raises_fails_its_job_with_the_reason(store: Store) -> None:
    async def launch(job: Job) -> None:
        raise RuntimeError("a long story\n\nValueError: no GPU in this house")

    job = await store.create_job(SPEC)
    async with dispatching(store, launch):
        failed = await ended(store, job.id)
        assert failed.error == {
            "code": "launch_failed",
            "message": "ValueError: no GPU in this house",
            "param": None,
        }
        assert (await ended(store, (await store.create_job(SPEC)).id)).status == "failed"


async def test_a_launch_that_says_nothing_fails_its_job(store: Store) -> None:
    async def launch(job: Job) -> None:
        return None

    job = await store.create_job(SPEC)
    async with dispatching(store, launch):
        failed = await ended(store, job.id)
    assert failed.error is not None
    assert failed.error["code"] == "no_outcome"


async def test_stopping_asks_running_jobs_to_stop_and_claims_no_more(store: Store) -> None:
    launched, tidied = asyncio.Event(), asyncio.Event()

    async def launch(job: Job) -> None:
        launched.set()
        try:
            await asyncio.Event().wait()
        finally:
            tidied.set()

    first, second = await store.create_job(SPEC), await store.create_job(SPEC)
    async with dispatching(store, launch):
        await asyncio.wait_for(launched.wait(), 30)
    assert tidied.is_set()
    stopped = await store.get_job(first.id)
    assert stopped.error is not None
    assert (stopped.status, stopped.error["code"]) == ("failed", "service_stopped")
    assert (await store.get_job(second.id)).status == "queued"


async def test_a_job_that_does_not_stop_in_time_is_failed_all_the_same(store: Store) -> None:
    launched, release = asyncio.Event(), asyncio.Event()

    async def launch(job: Job) -> None:
        launched.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    job = await store.create_job(SPEC)
    async with dispatching(store, launch, stop_seconds=0.1):
        await asyncio.wait_for(launched.wait(), 30)
    stopped = await store.get_job(job.id)
    assert stopped.error is not None
    assert stopped.error["code"] == "service_stopped"
    release.set()


async def test_a_cancelled_job_whose_launch_does_not_heed_it_is_ended(store: Store) -> None:
    async def launch(job: Job) -> None:
        await asyncio.Event().wait()

    job = await store.create_job(SPEC)
    async with dispatching(store, launch, cancel_seconds=0.05):
        async for event in store.follow(job.id):
            if event.data.get("status") == "running":
                break
        await store.request_cancel(job.id)
        assert (await ended(store, job.id)).status == "cancelled"


async def test_a_dead_dispatchers_job_is_failed_and_a_living_ones_left_alone(store: Store) -> None:
    orphan, kept = await store.create_job(SPEC), await store.create_job(SPEC)
    await store.claim("dead")
    await store.claim("alive")
    await store.heartbeat("alive", ttl=60)

    async def launch(job: Job) -> None:
        await store.transition(job.id, "succeeded")

    async with dispatching(store, launch):
        failed = await ended(store, orphan.id)
        assert failed.error is not None
        assert failed.error["code"] == "worker_lost"
        assert (await ended(store, (await store.create_job(SPEC)).id)).status == "succeeded"
    assert (await store.get_job(kept.id)).status == "running"
    assert (await store.get_job(orphan.id)).status in TERMINAL


def run_dispatcher(**env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "services.dispatcher"],
        env={**os.environ, **env},
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_the_process_ends_on_sigterm(store: Store, store_url: str) -> None:
    process = run_dispatcher(STROP_REDIS_URL=store_url)
    try:
        # Its first round fails the orphan: then it is known to be at work.
        orphan = await store.create_job(SPEC)
        await store.claim("dead")
        assert (await ended(store, orphan.id)).status == "failed"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"STROP_REDIS_URL": "redis://127.0.0.1:1"}, "redis://127.0.0.1:1 does not answer"),
        ({"STROP_MAX_RUNNING_JOBS": "none"}, "STROP_MAX_RUNNING_JOBS is 'none'"),
        ({}, "STROP_REDIS_URL is not set"),
    ],
)
def test_the_process_refuses_to_start_with_one_clear_line(env: dict[str, str], said: str) -> None:
    process = run_dispatcher(**env)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said in errors
    assert len(errors.splitlines()) == 1
