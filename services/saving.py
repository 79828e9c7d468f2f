"""The checkpoints of a run: when one is due, and what happens when the disk refuses it.

A refused checkpoint does not end a job. The last good one stays, the job goes on, and it is
tried again after every step; when it is refused too often, or there is no next step, the job
pauses with the reason, so that nobody pays for steps that cannot be kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from services.config import JobSpec

TRIES = 3
RETRY_SECONDS = 5.0


class NotSaved(RuntimeError):
    """The disk refused a checkpoint; the message says why. The one before it is untouched."""


class Tiers(Protocol):
    """Who writes checkpoints."""

    async def checkpoint(self, step: int, cursor: Mapping[str, int]) -> str: ...


class Journal(Protocol):
    """Who is told of them."""

    async def phase(self, name: str, step: int) -> None: ...
    async def saved(self, step: int, path: str) -> None: ...
    async def not_saved(self, step: int, reason: str) -> None: ...


class Saver:
    """Writes the checkpoints of one run; `folder` is the model of the newest, "" before any."""

    def __init__(self, job: JobSpec, tiers: Tiers, journal: Journal, folder: str) -> None:
        self.folder = folder
        self._job, self._tiers, self._journal = job, tiers, journal
        self._refused = 0
        self._reason = ""

    @property
    def gave_up(self) -> str | None:
        """Why the job cannot go on without a checkpoint, if so."""
        if self._refused < TRIES:
            return None
        return f"no checkpoint can be written: {self._reason}; make room, then resume the job"

    async def after(self, step: int, cursor: Mapping[str, int], *, last: bool) -> None:
        """Save `step` learned steps if that is due; `last` when no step follows in this run."""
        if not (last or self._refused or due(step, self._job.checkpoint.every, self._job.steps)):
            return
        await self._journal.phase("checkpoint", step)
        while not await self._save(step, cursor) and last and self.gave_up is None:
            await asyncio.sleep(RETRY_SECONDS)

    async def _save(self, step: int, cursor: Mapping[str, int]) -> bool:
        try:
            self.folder = await self._tiers.checkpoint(step, cursor)
        except NotSaved as error:
            self._refused, self._reason = self._refused + 1, str(error)
            await self._journal.not_saved(step, self._reason)
            return False
        self._refused = 0
        await self._journal.saved(step, self.folder)
        return True


def due(done: int, every: int, steps: int) -> bool:
    """Whether something that happens every so many steps, and after the last, happens now."""
    return done == steps or (bool(every) and done % every == 0)
