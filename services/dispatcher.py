"""The dispatcher: claims queued jobs and runs each one's controller.

A process of its own (`python -m services.dispatcher`). Every job it claimed ends in the
store: a launch that fails, says nothing, or is stopped with the service marks its job
failed with the reason. Knows nothing of Ray; what it launches is injected.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import ModuleType

from services.errors import IllegalTransition, StoreUnavailable, StropError
from services.jobs import Job, JobError
from services.ray_connection import connect
from services.redis_link import RedisLink
from services.served_models import ServedModels
from services.serving import ServingLoop
from services.settings import Settings, load_settings
from services.store import Store

_log = logging.getLogger("strop.dispatcher")

Launch = Callable[[Job], Awaitable[None]]

STOP_SECONDS = 30.0  # a job's tiers are gone well within this

_LIFE_SECONDS = 60  # without a heartbeat a dispatcher counts as dead after this
_HEARTBEAT_SECONDS = 10.0
_MESSAGE_CHARACTERS = 2000


class Dispatcher:
    """Runs up to `max_running` jobs of `store` at a time through `launch`.

    `launch(job)` returns when the job has ended and has said so to the store; cancelling it
    asks the job to stop, for which it has `stop_seconds`. A job that was asked to cancel and
    has not ended `cancel_seconds` later is cancelled this way too.
    """

    def __init__(
        self,
        store: Store,
        launch: Launch,
        *,
        max_running: int = 1,
        poll_seconds: float = 0.5,
        stop_seconds: float = 20.0,
        cancel_seconds: float = 60.0,
    ) -> None:
        self.worker_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._store = store
        self._launch = launch
        self._max_running = max_running
        self._poll_seconds = poll_seconds
        self._stop_seconds = stop_seconds
        self._cancel_seconds = cancel_seconds
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._asked_at: dict[str, float] = {}
        self._beat_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then stop the jobs that run."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                try:
                    await self._round()
                except StoreUnavailable as error:
                    # The jobs that run go on; the store may come back.
                    _log.warning("%s", error)
                await asyncio.wait(
                    {stopping, *self._tasks.values()},
                    timeout=self._poll_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                self._reap()
        finally:
            stopping.cancel()
            await self._stop_jobs()
            await self._store.leave(self.worker_id)

    async def _round(self) -> None:
        now = time.monotonic()
        if now - self._beat_at >= _HEARTBEAT_SECONDS or not self._beat_at:
            await self._store.heartbeat(self.worker_id, ttl=_LIFE_SECONDS)
            self._beat_at = now
        others = await self._store.workers() - {self.worker_id}
        for job in await self._store.running_jobs():
            if job.id in self._tasks:
                self._watch_cancellation(job, now)
            elif job.worker not in others:
                await self._fail(
                    job.id,
                    "worker_lost",
                    f"the dispatcher {job.worker} that ran it is gone; submit it again",
                )
        while len(self._tasks) < self._max_running:
            job = await self._store.claim(self.worker_id)
            if job is None:
                return
            _log.info("job %s claimed", job.id)
            self._tasks[job.id] = asyncio.create_task(self._run_job(job), name=job.id)

    def _watch_cancellation(self, job: Job, now: float) -> None:
        """Cancel the launch of a job whose controller did not heed the request in time."""
        if job.cancel_requested:
            asked_at = self._asked_at.setdefault(job.id, now)
            if now - asked_at >= self._cancel_seconds:
                self._tasks[job.id].cancel()

    async def _run_job(self, job: Job) -> None:
        try:
            await self._launch(job)
        except asyncio.CancelledError:
            if (await self._store.get_job(job.id)).cancel_requested:
                with suppress(IllegalTransition):  # it ended by itself in between
                    await self._store.transition(job.id, "cancelled")
            else:
                await self._fail(job.id, "service_stopped", "the service was stopped; submit again")
            raise
        except Exception as error:
            _log.exception("job %s failed", job.id)
            await self._fail(job.id, "launch_failed", _reason(error))
        else:
            await self._fail(job.id, "no_outcome", "its controller ended without a result")

    async def _fail(self, job_id: str, code: str, message: str) -> None:
        """Mark the job failed, unless it has ended already."""
        error: JobError = {"code": code, "message": message, "param": None}
        with suppress(IllegalTransition):
            await self._store.transition(job_id, "failed", error=error)

    def _reap(self) -> None:
        for job_id, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[job_id]
                self._asked_at.pop(job_id, None)
                if not task.cancelled() and (error := task.exception()) is not None:
                    # Only the store can have failed here; the next round finds the job orphaned.
                    _log.error("job %s: its outcome could not be stored: %s", job_id, error)

    async def _stop_jobs(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=self._stop_seconds)
        for job_id, task in self._tasks.items():
            if not task.done():
                _log.error("job %s did not stop within %.0f s", job_id, self._stop_seconds)
                await self._fail(job_id, "service_stopped", "the service was stopped; submit again")


def _reason(error: Exception) -> str:
    """What a user is told of a failed launch: the last line, where remote errors say it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[-1].strip() if lines else type(error).__name__)[:_MESSAGE_CHARACTERS]


def controller_launch(store_url: str, settings: Settings) -> Launch:
    """Launch a job's controller on the Ray cluster of the settings."""

    async def launch(job: Job) -> None:
        # Loads Ray, which a dispatcher without a job need not pay for.
        controller = await asyncio.to_thread(_connected_controller, settings.ray_address)
        await controller.launch(job.id, store_url, str(settings.jobs_folder / job.id))

    return launch


def _connected_controller(ray_address: str | None) -> ModuleType:
    """`services.controller`, with this process connected to the cluster.

    Called outside of the main thread, where Ray would take over our SIGTERM.
    """
    connect(ray_address)
    from services import controller

    return controller


async def _main(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    url = settings.store_url
    store = await Store.open(url)
    link = await RedisLink.open(url)
    try:
        launch = controller_launch(url, settings)
        dispatcher = Dispatcher(
            store, launch, max_running=settings.max_running_jobs, stop_seconds=STOP_SECONDS
        )
        serving = ServingLoop(ServedModels(link), settings, dispatcher.worker_id)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serving.run(stop))
            tasks.create_task(dispatcher.run(stop))
    finally:
        await link.close()
        await store.close()


def main() -> int:
    """Dispatch until SIGTERM; 2 when the settings or the store are no good."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(_main(load_settings()))
    except StropError as error:
        print(f"strop dispatcher: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
