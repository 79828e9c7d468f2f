"""One claimed job: its launch, its lease, and what becomes of it when the launch ends.

The lease is renewed as long as the launch says that its controller answers. Whatever ends
the launch, the store knows it: the controller said so itself, or the job goes back to the
queue, to be resumed from its last checkpoint. A claim that was lost ends the launch and
writes nothing.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from services.errors import Fenced, IllegalTransition, StoreUnavailable
from services.jobs import Job
from services.store import Store
from services.store.claims import LEASE_SECONDS

_log = logging.getLogger("strop.dispatcher")

Beat = Callable[[int], None]
"""Told by a launch whenever its controller has answered, with the controller's progress."""
Launch = Callable[[Job, Beat], Awaitable[None]]
"""Runs a job; returns when the controller has ended and said so to the store. Cancelling it
stops the controller and frees its tiers."""

_MESSAGE_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each thing may take, in seconds."""

    lease_s: float = LEASE_SECONDS
    renew_s: float = 5.0
    cancel_s: float = 60.0  # a controller heeds a cancellation
    start_s: float = 600.0  # a controller answers for the first time
    silent_s: float = 300.0  # and then again
    stop_s: float = 20.0  # a cancelled launch ends
    retry_s: float = 2.0  # rest after the first attempt in vain, doubled after each


class _Ending(enum.Enum):
    STOPPED = "the service was stopped"
    FENCED = "the claim was lost"
    SILENT = "its controller did not answer"
    UNHEEDED = "its controller did not heed the cancellation"


class HeldJob:
    """A job that this dispatcher holds."""

    def __init__(self, store: Store, job: Job, launch: Launch, patience: Patience) -> None:
        """`job` as it was claimed."""
        self.job = job
        self._store = store
        self._launch = launch
        self._patience = patience
        self._stopping = asyncio.Event()
        self._progress = 0
        self._answer_by = monotonic() + patience.start_s
        self._cancel_at = math.inf

    def stop(self) -> None:
        """End the launch; the job goes back to the queue."""
        self._stopping.set()

    async def run(self) -> None:
        """Hold the job until its launch has ended."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        work = asyncio.ensure_future(self._launch(self.job, self._beat))
        ending: _Ending | None = None
        until = math.inf
        try:
            while not work.done() and monotonic() < until:
                wakes = {work, stopping} if ending is None else {work}
                await asyncio.wait(
                    wakes, timeout=self._patience.renew_s, return_when=asyncio.FIRST_COMPLETED
                )
                if work.done():
                    break
                found = await self._renewed()
                if stopping.done():
                    found = found or _Ending.STOPPED
                if ending is None and found is not None:
                    ending, until = found, monotonic() + self._patience.stop_s
                    work.cancel()
            if not work.done():
                _log.error("job %s: its launch did not end in time", self.job.id)
            await self._conclude(work, ending)
        finally:
            stopping.cancel()
            work.cancel()

    def _beat(self, progress: int) -> None:
        self._progress, self._answer_by = progress, monotonic() + self._patience.silent_s

    async def _renewed(self) -> _Ending | None:
        """Renew the lease; why the launch must end, if it must."""
        now = monotonic()
        try:
            request = await self._store.renew(
                self.job.id, self.job.token, self._progress, lease_s=self._patience.lease_s
            )
        except Fenced as error:
            _log.warning("%s", error)
            return _Ending.FENCED
        except IllegalTransition:
            # It has ended; its controller tidies up.
            request = "cancel"
        except StoreUnavailable as error:
            # The controller goes on: its writes wait for the store as well.
            _log.warning("%s", error)
            return None
        if request != "cancel":
            self._cancel_at = math.inf
        elif self._cancel_at == math.inf:
            self._cancel_at = now + self._patience.cancel_s
        if now >= self._cancel_at:
            return _Ending.UNHEEDED
        return _Ending.SILENT if now >= self._answer_by else None

    async def _conclude(self, work: asyncio.Future[None], ending: _Ending | None) -> None:
        """Leave the job in the store as what it is now."""
        error = work.exception() if work.done() and not work.cancelled() else None
        if ending is _Ending.FENCED:
            return
        if ending is not None:
            reason = ending.value
        elif error is not None:
            _log.error("job %s: its launch failed", self.job.id, exc_info=error)
            reason = _last_line(error)
        else:
            reason = "its controller ended without an outcome"
        rest = self._patience.retry_s * 2 ** (min(self.job.attempts, 8) - 1)
        blameless = ending is _Ending.STOPPED
        with suppress(Fenced, IllegalTransition):  # its controller said what became of it
            await self._store.release(
                self.job.id,
                self.job.token,
                reason,
                delay_s=0 if blameless else rest,
                blameless=blameless,
            )


def _last_line(error: BaseException) -> str:
    """What a user is told of a failed launch: the last line, where remote errors say it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    said = lines[-1].strip() if lines else type(error).__name__
    return said.rstrip(".")[:_MESSAGE_CHARACTERS]
