"""Two dispatcher processes share a store; one is killed or stopped in the middle of a job."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.jobs import Job
from services.store import Store
from tests.services.dispatching_process import STEPS


@pytest.fixture
def dispatchers(store_url: str, tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    module = "tests.services.dispatching_process"
    started = [
        subprocess.Popen([sys.executable, "-m", module, store_url, str(tmp_path / "log")])
        for _ in range(2)
    ]
    yield started
    for process in started:
        process.kill()
        process.wait(10)


async def until(store: Store, job_id: str, holds: Callable[[Job], bool]) -> Job:
    async with asyncio.timeout(120):
        while not holds(job := await store.get_job(job_id)):
            await asyncio.sleep(0.02)
    return job


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_job_whose_dispatcher_is_gone_is_taken_over_and_ends_as_if_nothing_was(
    store: Store,
    dispatchers: list[subprocess.Popen[bytes]],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    log = tmp_path / "log"
    job = await store.create_job({"name": "job"})
    runs = await until(store, job.id, lambda job: (job.progress or {"step": 0})["step"] >= 2)
    assert runs.worker is not None
    victim = next(p for p in dispatchers if f"-{p.pid}-" in runs.worker)
    os.kill(victim.pid, number)
    taken = await until(store, job.id, lambda job: job.token > runs.token)
    assert taken.worker != runs.worker
    if number == signal.SIGSTOP:
        os.kill(victim.pid, signal.SIGCONT)
        async with asyncio.timeout(60):  # it notices, and stops what it launched
            while f"{runs.token} lost\n" not in log.read_text():
                await asyncio.sleep(0.02)
    await until(store, job.id, lambda job: job.finished)

    events = await store.events(job.id)
    steps = [event.data for event in events if event.data["kind"] == "step"]
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1)), "none lost, none doubled"
    tokens = [step["token"] for step in steps]
    assert tokens == sorted(tokens), "an old claim wrote nothing after a new one"
    assert (events[-1].data["status"], events[-1].terminal) == ("succeeded", True)
    async with asyncio.timeout(60):
        while not (ends := [end for end in log.read_text().splitlines() if "succeeded" in end]):
            await asyncio.sleep(0.02)
    assert ends == [f"{job.id} {tokens[-1]} succeeded"]


async def test_two_processes_share_the_jobs_and_run_none_twice(
    store: Store, dispatchers: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    jobs = [await store.create_job({"name": "job"}) for _ in range(6)]
    done = [await until(store, job.id, lambda job: job.finished) for job in jobs]
    assert [(job.status, job.token) for job in done] == [("succeeded", 1)] * len(jobs)
    assert {str(job.worker).split("-")[-2] for job in done} == {str(p.pid) for p in dispatchers}
    for job in done:
        told = [event.data["step"] for event in await store.events(job.id) if "step" in event.data]
        assert told == list(range(1, STEPS + 1))
    log, wanted = tmp_path / "log", sorted(f"{job.id} 1 succeeded" for job in jobs)
    async with asyncio.timeout(60):
        while sorted(log.read_text().splitlines()) != wanted:
            await asyncio.sleep(0.02)
