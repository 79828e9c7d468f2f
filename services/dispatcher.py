"""The dispatcher: claims queued jobs and runs each one's controller.

A process of its own (`python -m services.dispatcher`); any number share one store. A job
whose dispatcher is not heard of any more goes back to the queue and is resumed by whoever
claims it. Knows nothing of Ray; what it launches is injected.
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

from services.audit import AuditLog
from services.cluster import RayCluster, controller_launch
from services.errors import ClusterUnavailable, StoreUnavailable, StropError
from services.held_job import HeldJob, Launch, Patience
from services.jobs import Job, Queued, WaitingRoom
from services.queue_order import Cluster, plan
from services.served_models import ServedModels
from services.serving import ServingLoop
from services.settings import Settings, load_settings
from services.store import Store
from services.webhook_delivery import WebhookDeliveries
from services.webhooks import Webhooks

_log = logging.getLogger("strop.dispatcher")

STOP_SECONDS = 30.0  # a job's tiers are gone well within this

_LIFE_SECONDS = 60  # without a heartbeat a dispatcher counts as dead after this
_HEARTBEAT_SECONDS = 10.0
_QUEUE_SECONDS = 3600.0  # for a spec that says nothing

Look = Callable[[], Awaitable[Cluster]]
"""What the cluster has now. Raises ClusterUnavailable."""


class Dispatcher:
    """Runs up to `max_running` jobs of `store` at a time through `launch`.

    A job starts when its tiers fit what `look` sees; until then it says why it waits. When
    the dispatcher is stopped its jobs go back to the queue with what they have done.
    """

    def __init__(
        self,
        store: Store,
        launch: Launch,
        look: Look,
        *,
        max_running: int = 1,
        poll_seconds: float = 0.5,
        patience: Patience | None = None,
    ) -> None:
        self.worker_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._store = store
        self._launch = launch
        self._look = look
        self._max_running = max_running
        self._poll_seconds = poll_seconds
        self._patience = patience or Patience()
        self._held: dict[asyncio.Task[None], HeldJob] = {}
        self._beat_at = 0.0
        self._recover_from = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then give the jobs that run back to the queue."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                try:
                    await self._round()
                except StoreUnavailable as error:
                    # The jobs that run go on. When the store is back, their dispatchers may
                    # be a moment late to renew their leases.
                    _log.warning("%s", error)
                    self._recover_from = time.monotonic() + self._patience.lease_s
                await asyncio.wait(
                    {stopping, *self._held},
                    timeout=self._poll_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                self._reap()
        finally:
            stopping.cancel()
            await self._give_jobs_back()
            await self._store.leave(self.worker_id)

    async def _round(self) -> None:
        now = time.monotonic()
        if now - self._beat_at >= _HEARTBEAT_SECONDS or not self._beat_at:
            await self._store.heartbeat(self.worker_id, ttl=_LIFE_SECONDS)
            self._beat_at = now
        if now >= self._recover_from:
            mine = {held.job.id for held in self._held.values()}
            for job_id in await self._store.recover(mine):
                _log.warning("job %s recovered: its lease had run out", job_id)
        room = await self._store.waiting_room()
        if room.queued:
            await self._serve(room)

    async def _serve(self, room: WaitingRoom) -> None:
        """Claim what is next as long as there is room, and say why the others wait."""
        slots = self._max_running - len(self._held)
        if slots <= 0:
            for job in room.queued:
                if job.waiting is None:
                    await self._tell(job, "waits for its turn behind jobs that run")
            return
        try:
            cluster = await self._look()
        except ClusterUnavailable as error:
            for job in room.queued:
                await self._tell(job, error.message, unfit=True)
            return
        made = plan(room, await self._store.running_jobs(), cluster, slots)
        for number, start in enumerate(made.starts):
            job = await self._store.claim(
                self.worker_id,
                start.job.id,
                lease_s=self._patience.lease_s,
                claims=room.claims + number,
                overtaken=start.overtaken,
            )
            if job is None:
                return  # another dispatcher was faster: the plan is good no more
            self._run(job)
        for held in made.holds:
            await self._tell(held.job, held.reason, unfit=held.unfit)

    async def _tell(self, job: Queued, reason: str, *, unfit: bool = False) -> None:
        """Say why a job waits, if that is news, and fail it at its deadline."""
        deadline = float(job.spec.get("deadlines", {}).get("queue_s", _QUEUE_SECONDS))
        clock = job.unfit_s is not None
        late = job.unfit_s is not None and job.unfit_s >= deadline
        if reason != job.waiting or unfit != clock or (unfit and late):
            await self._store.hold(job.id, reason, unfit=unfit, deadline_s=deadline)

    def _run(self, job: Job) -> None:
        _log.info("job %s claimed (claim %d)", job.id, job.token)
        held = HeldJob(self._store, job, self._launch, self._patience)
        self._held[asyncio.create_task(held.run(), name=job.id)] = held

    def _reap(self) -> None:
        for task in [task for task in self._held if task.done()]:
            del self._held[task]
            if (error := task.exception()) is not None:
                # Only the store can have failed here: the job's lease runs out.
                _log.error("job %s: its end could not be stored: %s", task.get_name(), error)

    async def _give_jobs_back(self) -> None:
        for held in self._held.values():
            held.stop()
        if self._held:
            # Each ends by itself within its patience.
            await asyncio.wait(self._held, timeout=self._patience.stop_s + self._patience.lease_s)
            self._reap()


async def _main(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    url = settings.store_url
    store = await Store.open(url)
    try:
        launch = controller_launch(url, settings)
        dispatcher = Dispatcher(
            store,
            launch,
            RayCluster(settings.ray_address, labelled=settings.tier_labels).look,
            max_running=settings.max_running_jobs,
            patience=Patience(stop_s=STOP_SECONDS),
        )
        serving = ServingLoop(ServedModels(store.link), settings, dispatcher.worker_id)
        webhooks = WebhookDeliveries(
            Webhooks(store.link), AuditLog(store.link, settings.audit_max_records)
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serving.run(stop))
            tasks.create_task(webhooks.run(stop))
            tasks.create_task(dispatcher.run(stop))
    finally:
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
