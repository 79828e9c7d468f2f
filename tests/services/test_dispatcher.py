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

from services.dispatcher import Dispatcher, Look
from services.errors import ClusterUnavailable
from services.fit import Node
from services.held_job import Beat, Launch, Patience
from services.jobs import Job
from services.queue_order import Cluster
from services.store import Store
from tests.services.dispatching_process import roomy
from tests.services.running import follow

SPEC = {"name": "job"}


@asynccontextmanager
async def dispatching(
    store: Store, launch: Launch, look: Look = roomy, **options: Any
) -> AsyncIterator[Dispatcher]:
    quick = Patience(**{"renew_s": 0.02, "retry_s": 0.01, **options.pop("patience", {})})
    dispatcher = Dispatcher(store, launch, look, poll_seconds=0.02, patience=quick, **options)
    stop = asyncio.Event()
    running = asyncio.create_task(dispatcher.run(stop))
    try:
        yield dispatcher
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)


async def ended(store: Store, job_id: str) -> Job:
    async with asyncio.timeout(30):
        async for _ in follow(store, job_id):
            pass
    return await store.get_job(job_id)


async def test_jobs_run_one_after_the_other_in_their_order(store: Store) -> None:
    ran: list[str] = []

    async def launch(job: Job, beat: Beat) -> None:
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

    async def launch(job: Job, beat: Beat) -> None:
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


async def test_a_launch_that_raises_is_tried_again_and_then_fails_its_job_with_the_reason(
    store: Store,
) -> None:
    tried: list[int] = []

    async def launch(job: Job, beat: Beat) -> None:
        tried.append(job.attempts)
        raise RuntimeError("a long story\n\nValueError: no GPU in this house")

    job = await store.create_job(SPEC)
    async with dispatching(store, launch):
        failed = await ended(store, job.id)
    assert tried == [1, 2, 3, 4, 5]
    assert failed.error == {
        "code": "no_progress",
        "message": "it was started 5 times without finishing a step; the last time: "
        "ValueError: no GPU in this house",
        "param": None,
    }


async def test_a_launch_that_gets_on_is_never_given_up(store: Store) -> None:
    async def launch(job: Job, beat: Beat) -> None:
        step = {"kind": "step", "step": job.token}
        await store.append_event(job.id, message="a step", data=step, token=job.token)
        if job.token == 7:
            await store.transition(job.id, "succeeded", token=job.token)

    job = await store.create_job(SPEC)
    async with dispatching(store, launch):
        assert (await ended(store, job.id)).status == "succeeded"


async def test_stopping_gives_running_jobs_back_and_claims_no_more(store: Store) -> None:
    launched, tidied = asyncio.Event(), asyncio.Event()

    async def launch(job: Job, beat: Beat) -> None:
        launched.set()
        try:
            await asyncio.Event().wait()
        finally:
            tidied.set()

    first, second = await store.create_job(SPEC), await store.create_job(SPEC)
    async with dispatching(store, launch):
        await asyncio.wait_for(launched.wait(), 30)
    assert tidied.is_set()
    given_back = await store.get_job(first.id)
    assert (given_back.status, given_back.attempts, given_back.worker) == ("queued", 0, None)
    assert (await store.events(first.id))[-1].message == (
        "Job queued again: the service was stopped."
    )
    assert (await store.get_job(second.id)).status == "queued"
    again = await store.claim("w2")
    assert again is not None
    assert (again.id, again.token) == (first.id, 2), "it kept its place"


async def test_a_job_that_does_not_stop_in_time_is_given_back_all_the_same(store: Store) -> None:
    launched, release = asyncio.Event(), asyncio.Event()

    async def launch(job: Job, beat: Beat) -> None:
        launched.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    job = await store.create_job(SPEC)
    async with dispatching(store, launch, patience={"stop_s": 0.1}):
        await asyncio.wait_for(launched.wait(), 30)
    assert (await store.get_job(job.id)).status == "queued"
    release.set()


@pytest.mark.parametrize(
    ("patience", "cancel", "becomes"),
    [
        ({"cancel_s": 0.05}, True, "cancelled"),
        ({"start_s": 0.05}, False, "failed"),
        ({"silent_s": 0.05}, False, "failed"),
    ],
)
async def test_a_launch_that_heeds_nothing_or_says_nothing_is_ended(
    store: Store, patience: dict[str, float], cancel: bool, becomes: str
) -> None:
    async def launch(job: Job, beat: Beat) -> None:
        if "start_s" not in patience:
            beat(1)
        await asyncio.Event().wait()

    job = await store.create_job(SPEC)
    async with dispatching(store, launch, patience=patience):
        async for event in follow(store, job.id):
            if event.data.get("status") == "running":
                break
        if cancel:
            await store.request_cancel(job.id)
        end = await ended(store, job.id)
    assert end.status == becomes
    if end.error is not None:
        assert end.error["message"].endswith("its controller did not answer")


async def test_a_dead_dispatchers_job_is_resumed_and_a_living_ones_left_alone(store: Store) -> None:
    orphan, kept = await store.create_job(SPEC), await store.create_job(SPEC)
    await store.claim("dead", orphan.id, lease_s=0)
    await store.claim("alive", kept.id)

    async def launch(job: Job, beat: Beat) -> None:
        await store.transition(job.id, "succeeded", token=job.token)

    async with dispatching(store, launch):
        resumed = await ended(store, orphan.id)
    assert (resumed.status, resumed.token) == ("succeeded", 2)
    assert (await store.get_job(kept.id)).token == 1


async def test_a_dispatcher_that_lost_its_claim_stops_its_controller_and_writes_nothing(
    store: Store,
) -> None:
    launched, tidied = asyncio.Event(), asyncio.Event()

    async def launch(job: Job, beat: Beat) -> None:
        launched.set()
        try:
            await asyncio.Event().wait()
        finally:
            tidied.set()

    job = await store.create_job(SPEC)
    async with dispatching(store, launch):
        await asyncio.wait_for(launched.wait(), 30)
        # Another dispatcher found the lease run out and was given the job.
        await store.release(job.id, 1, "stolen", delay_s=60)
        await asyncio.wait_for(tidied.wait(), 30)
    assert [event.message for event in await store.events(job.id)] == [
        "Job queued.", "Job started.", "Job queued again: stolen.",
    ]  # fmt: skip


def tiers(**tiers: dict[str, Any]) -> dict[str, Any]:
    """The tiers of a spec; a CPU each but for what is given."""
    one = {"replicas": 1, "cpus": 1.0, "labels": {}}
    return {name: {**one, **tier} for name, tier in tiers.items()}


async def test_a_job_that_does_not_fit_says_why_lets_others_by_and_fails_at_its_deadline(
    store: Store,
) -> None:
    async def small() -> Cluster:
        return Cluster(total=[Node(4, 1, {})], free=[Node(4, 1, {})])

    ran: list[str] = []

    async def launch(job: Job, beat: Beat) -> None:
        ran.append(job.id)
        await store.transition(job.id, "succeeded", token=job.token)

    greedy = {"tiers": tiers(trainer={"gpus": 2.0}), "deadlines": {"queue_s": 0.5}}
    large = await store.create_job(greedy)
    modest = await store.create_job({"tiers": tiers(trainer={"gpus": 1.0})})
    reason = "needs 2 GPUs for `trainer`; 1 is free"
    async with dispatching(store, launch, small):
        assert (await ended(store, modest.id)).status == "succeeded"
        failed = await ended(store, large.id)
    assert ran == [modest.id]
    assert failed.error is not None
    assert (failed.status, failed.error["code"]) == ("failed", "does_not_fit")
    assert failed.error["message"].startswith(reason)
    told = [event.message for event in await store.events(large.id)]
    assert told[1] == f"Job waits: {reason}"


async def test_a_job_waits_while_the_cluster_does_not_answer_and_starts_when_it_does(
    store: Store,
) -> None:
    answers = asyncio.Event()

    async def look() -> Cluster:
        if not answers.is_set():
            raise ClusterUnavailable("the Ray cluster does not answer: nobody there")
        return await roomy()

    async def launch(job: Job, beat: Beat) -> None:
        await store.transition(job.id, "succeeded", token=job.token)

    job = await store.create_job(SPEC)
    async with dispatching(store, launch, look):
        async for event in follow(store, job.id):
            if event.data["kind"] == "waiting":
                break
        waits = await store.get_job(job.id)
        assert (waits.status, waits.waiting) == (
            "queued", "the Ray cluster does not answer: nobody there",
        )  # fmt: skip
        answers.set()
        started = await ended(store, job.id)
    assert (started.status, started.waiting) == ("succeeded", None)


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
        # Its first round recovers the orphan: then it is known to be at work.
        orphan = await store.create_job(SPEC)
        await store.claim("dead", lease_s=0)
        await store.request_cancel(orphan.id)
        assert (await ended(store, orphan.id)).status == "cancelled"
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
