"""The controller of one job: checks it, starts its tiers, runs the loop, reports, cleans up.

An actor of its own, so that a job outlives the process that started it. Whatever ends a job,
its tiers are stopped and the store says why.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from services.config import JobSpec
from services.jobs import JobError, Outcome, Request
from services.journal import StoreJournal
from services.pipeline import Start, abandon, train
from services.placement import placed
from services.preparation import prepare
from services.settings import load_settings
from services.store import Store
from services.tiers import RayTiers
from services.traces import write_job
from trainer.adamw import LearningError
from trainer.checkpoint import Checkpoint, newest

REQUEST_POLL_SECONDS = 1.0
BEAT_SECONDS = 5.0
log = logging.getLogger(__name__)


class JobController:
    """Runs one claim of a job, to its end or until it is asked to stop."""

    def __init__(self, job_id: str, token: int, store_file: str, folder: str) -> None:
        """`token` is the claim's; `folder` the job's own: traces, checkpoints and what Ray
        Train keeps."""
        self._job_id = job_id
        self._token = token
        self._journal: StoreJournal | None = None
        self._store_file = Path(store_file)
        self._folder = Path(folder)
        self._interrupted = asyncio.Event()

    async def interrupt(self) -> None:
        """Stop, because the claim is over; whoever asks says what becomes of the job."""
        self._interrupted.set()

    async def progress(self) -> int:
        """A counter that moves while the job gets on."""
        return 0 if self._journal is None else self._journal.told

    async def run(self) -> str:
        """Run the job; returns the status it ended with, `running` when it was interrupted."""
        store = await Store.open(await asyncio.to_thread(self._store_file.read_text))
        try:
            return await self._run(store)
        finally:
            await store.close()

    async def _run(self, store: Store) -> str:
        record = await store.get_job(self._job_id)
        job = JobSpec.model_validate(record.spec)
        if load_settings().tier_labels:
            job = placed(job)
        journal = self._journal = StoreJournal(store, self._job_id, job, self._token)
        work = asyncio.create_task(self._train(job, journal, store))
        request = asyncio.create_task(self._requested(store))
        interrupt = asyncio.create_task(self._interrupted.wait())
        try:
            await asyncio.wait({work, request, interrupt}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await abandon([work, request, interrupt])
        if not work.cancelled():
            error = work.exception()
            if error is None:
                result = work.result()
                await journal.result(result)
                await self._end(store, "succeeded", result=result)
                return "succeeded"
            log.error("job %s failed", self._job_id, exc_info=error)
            await self._end(store, "failed", error=describe(error))
            return "failed"
        if request.done() and not request.cancelled():
            status = "cancelled" if request.result() == "cancel" else "paused"
            await self._end(store, status)
            return status
        return "running"

    async def _end(self, store: Store, status: Outcome, **more: Any) -> None:
        await store.transition(self._job_id, status, token=self._token, **more)

    async def _requested(self, store: Store) -> Request:
        while (request := (await store.get_job(self._job_id)).request) is None:
            await asyncio.sleep(REQUEST_POLL_SECONDS)
        return request

    async def _train(self, job: JobSpec, journal: StoreJournal, store: Store) -> dict[str, Any]:
        await journal.recall()
        await journal.phase("start", 0)
        ready = await asyncio.to_thread(prepare, job)
        for note in ready.notes:
            await journal.note(note, level="warn")
        write_job(self._folder / "traces", job.model_dump(mode="json"))
        saved = await self._newest_checkpoint(journal)
        tiers = RayTiers(
            job,
            ready.model_path,
            self._folder,
            ready.prompts,
            teacher_path=ready.teacher_path,
            tell_verifiers=store.tell_verifiers,
        )
        try:
            await tiers.start(saved)
            start = _start(saved, journal)
            ended = await train(job, tiers, ready.tasks, ready.holdout, journal, start)
            await journal.phase("finish", job.steps)
        finally:
            await tiers.stop()
        return {
            "model": ended.folder,
            "base_model": str(ready.model_path),
            "traces": str(self._folder / "traces"),
            "gain": journal.gain(),
        }

    async def _newest_checkpoint(self, journal: StoreJournal) -> Checkpoint | None:
        """The checkpoint to continue from; those that are damaged are told of."""
        found = await asyncio.to_thread(newest, self._folder / "checkpoints")
        for problem in found.damaged:
            await journal.note(f"a checkpoint is damaged and set aside: {problem}", level="warn")
        if found.checkpoint is not None:
            await journal.note(f"continuing from the checkpoint of step {found.checkpoint.step}")
        return found.checkpoint


def _start(saved: Checkpoint | None, journal: StoreJournal) -> Start:
    if saved is None:
        return Start(evaluated=journal.has_evaluated(0))
    evaluated = journal.has_evaluated(saved.step)
    return Start(saved.step, saved.cursor["tasks"], str(saved.model), evaluated)


def describe(error: BaseException) -> JobError:
    """An error as the store keeps it: a stable code and a sentence, no traceback."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    refused = isinstance(cause, (ValueError, FileNotFoundError))
    code = "not_finite" if isinstance(cause, LearningError) else "internal_error"
    text = str(cause).strip() or type(cause).__name__
    return JobError(
        code="invalid_job" if refused else code,
        message=text if refused else f"{type(cause).__name__}: {text}",
        param=None,
    )


async def launch(
    job_id: str, token: int, store_file: str, folder: str, beat: Callable[[int], None]
) -> None:
    """Start a job's controller on the cluster this process is connected to, and wait for its end.

    `beat` is told the controller's progress whenever it answers. Cancelling this interrupts
    the job and waits until its tiers are gone.
    """
    controller: Any = (
        ray.remote(JobController)
        .options(
            num_cpus=0, name=f"{job_id}-{token}", max_restarts=0, scheduling_strategy=_beside_us()
        )
        .remote(job_id, token, store_file, folder)
    )
    run = asyncio.ensure_future(_wait(controller.run.remote()))
    beating = asyncio.ensure_future(_beat(controller, beat))
    try:
        await asyncio.shield(run)
    except asyncio.CancelledError:
        await controller.interrupt.remote()
        await asyncio.wait({run}, timeout=60)
        raise
    finally:
        await abandon([beating])
        ray.kill(controller)


def _beside_us() -> NodeAffinitySchedulingStrategy:
    """The node of the dispatcher: it has the data folder, and no autoscaler takes it away."""
    node_id = ray.get_runtime_context().get_node_id()
    return NodeAffinitySchedulingStrategy(node_id, soft=False)


async def _beat(controller: Any, beat: Callable[[int], None]) -> None:
    """Pass the controller's progress on as long as it answers."""
    while True:
        beat(await controller.progress.remote())
        await asyncio.sleep(BEAT_SECONDS)


async def _wait(reference: Any) -> str:
    return await reference
