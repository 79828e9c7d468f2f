"""The controller of one claim of a job: checks it, runs its course, reports, cleans up.

Whatever ends it, its tiers are stopped and the store says why; what only this controller met,
another claim tries again from the newest checkpoint. Its actor is services/launching.py's.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
from ray.exceptions import RayTaskError

from services.config import JobSpec
from services.course import run_course
from services.errors import Fenced, StoreUnavailable
from services.jobs import JobError, Outcome, Request
from services.journal import StoreJournal
from services.pipeline import Ended, abandon
from services.placement import placed
from services.precision import decided
from services.preparation import JobRefused, prepare
from services.settings import load_settings
from services.store import Store
from services.tiers import RayTiers
from services.traces import write_job
from services.trackers.spec import problems
from services.tracking import Tracked, Tracking
from services.weights import StaleWeights
from trainer.adamw import LearningError
from trainer.checkpoint import Checkpoint, checked
from trainer.group import GroupFailed

REQUEST_POLL_SECONDS = 1.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Run:
    """A claimed job, where it is told of, and the checkpoint that it begins at, if it is one."""

    job: JobSpec
    store: Store
    journal: StoreJournal
    tracking: Tracking
    source: str | None


class Controller:
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
        job = decided(JobSpec.model_validate(record.spec))
        if load_settings().tier_labels:
            job = placed(job)
        journal = self._journal = StoreJournal(store, self._job_id, job, self._token)
        tracking = Tracking(self._tracked(job), store, journal.note)
        run = _Run(job, store, journal, tracking, record.source)
        try:
            outcome, more = await self._outcome(run)
        except BaseException:
            await tracking.end("running")
            raise
        await tracking.end(outcome)
        if outcome == "succeeded":
            await journal.result(more["result"])
        if outcome != "running":
            await store.transition(self._job_id, outcome, token=self._token, **more)
        return outcome

    async def _outcome(self, run: _Run) -> tuple[Outcome | Literal["running"], dict[str, Any]]:
        """Train until something ends it; what ended it, and what the store is told of that."""
        work = asyncio.create_task(self._train(run))
        cancel = asyncio.create_task(self._cancelled(run.store))
        interrupt = asyncio.create_task(self._interrupted.wait())
        try:
            await asyncio.wait({work, cancel, interrupt}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await abandon([work, cancel, interrupt])
        if work.cancelled():
            if not cancel.done() or cancel.cancelled():
                return "running", {}
            await cancel
            return "cancelled", {}
        error = work.exception()
        if isinstance(error, (Fenced, StoreUnavailable)):
            raise error  # nothing is wrong with the job
        if error is not None:
            log.error("job %s failed", self._job_id, exc_info=error)
            return "failed", {"error": describe(error)}
        ended, result = work.result()
        if ended.paused is not None:
            return "paused", {"message": f"Job paused: {ended.paused}."}
        return "succeeded", {"result": result}

    def _tracked(self, job: JobSpec) -> Tracked:
        config = job.model_dump(mode="json", exclude={"tracking"})
        return Tracked(self._job_id, job.name, self._folder, self._store_file.parent, config)

    async def _cancelled(self, store: Store) -> None:
        while await self._requested(store) != "cancel":
            await asyncio.sleep(REQUEST_POLL_SECONDS)

    async def _requested(self, store: Store) -> Request | None:
        """What the job is asked to do now; nothing, while the store is away.

        Raises Fenced when somebody else holds the job: the tiers are needed there.
        """
        try:
            job = await store.get_job(self._job_id)
        except StoreUnavailable as error:
            log.warning("%s", error)
            return None
        if job.token != self._token:
            raise Fenced(f"job {job.id} is held by claim {job.token}, no longer by {self._token}")
        return job.request

    async def _train(self, run: _Run) -> tuple[Ended, dict[str, Any]]:
        job, store, journal = run.job, run.store, run.journal
        if lacking := problems(job.tracking):
            raise JobRefused("; ".join(lacking))
        run.tracking.start(job.tracking)
        await journal.recall()
        await journal.phase("start", 0)
        ready = await asyncio.to_thread(prepare, job)
        for number, note in enumerate(ready.notes):
            await journal.note(note, level="warn", key=f"prepared:{number}")
        traces = self._folder / "traces"
        write_job(traces, job.model_dump(mode="json"))

        async def pause() -> str | None:
            asked = await self._requested(store) == "pause"
            return "it was asked to; it goes on from here when it is resumed" if asked else None

        tiers = RayTiers(
            job,
            ready.model_path,
            self._folder,
            ready.prompts,
            teacher_path=ready.teacher_path,
            tell_verifiers=store.tell_verifiers,
            tell=journal.warn,
            owner=ray.get_runtime_context().current_actor,
        )
        begin = None if run.source is None else await asyncio.to_thread(_source, Path(run.source))
        try:
            folder = self._folder / "checkpoints"
            ended = await run_course(job, ready, tiers, folder, journal, pause, begin)
            if ended.paused is None:
                await journal.phase("finish", job.steps)
        finally:
            await tiers.stop()
        return ended, {
            "model": ended.folder,
            "base_model": str(ready.model_path),
            "traces": str(traces),
            "gain": journal.gain(),
        }


def _source(path: Path) -> Checkpoint:
    """The checkpoint in this folder, or around this model folder."""
    return checked(path.parent if path.name == "model" else path)


def describe(error: BaseException) -> JobError:
    """An error as the store keeps it: a stable code and a sentence, no traceback."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    refused = isinstance(cause, (ValueError, FileNotFoundError))
    if isinstance(cause, GroupFailed) and cause.kind == LearningError.__name__:
        code = "not_finite"
    else:
        code = "stale_weights" if _stale(error) else "internal_error"
    text = str(cause).strip() or type(cause).__name__
    return JobError(
        code="invalid_job" if refused else code,
        message=text if refused else f"{type(cause).__name__}: {text}",
        param=None,
    )


def _stale(error: BaseException | None) -> bool:
    """Whether weights that did not prove themselves are behind an error."""
    while error is not None:
        if isinstance(error, StaleWeights) or (
            isinstance(error, RayTaskError) and isinstance(error.cause, StaleWeights)
        ):
            return True
        error = error.__cause__
    return False
