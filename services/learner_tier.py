"""The trainer tier of a job: one learner group at a time, watched, and rebuilt when it is lost.

A rank that dies takes its group along, and with it what was learned since the last
checkpoint: the loop is told by TrainerLost and goes back there. Knows nothing of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from services.health import Health, Restarts
from services.pipeline import abandon
from services.replicas import Care, TierFailed
from services.stack_dump import dump
from trainer.checkpoint import Checkpoint
from trainer.group import GroupLost, LearnerGroup, RankBeat


class TrainerLost(RuntimeError):
    """The learner and its weights are gone; they are made anew from a checkpoint."""


class LearnerTier:
    """The learner group, whichever it is now."""

    def __init__(self, make: Callable[[], LearnerGroup], ranks: int, care: Care) -> None:
        """`make` begins a group of so many ranks."""
        self.restarts = Restarts()
        self._make, self._ranks, self._care = make, ranks, care
        self._group: LearnerGroup | None = None
        self._watching: asyncio.Task[None] | None = None
        self._loss: str | None = None
        self._ready = False
        self._busy = 0

    async def start(self, saved: Checkpoint | None) -> None:
        """Begin a group, from a checkpoint or from the model.

        Raises TierFailed when its ranks die too often, and what they raise.
        """
        while True:
            try:
                await self._begin(saved)
            except TrainerLost as error:
                await self._rest(str(error), "it is started again")
            else:
                return

    async def go_back(self, saved: Checkpoint | None, reason: str) -> None:
        """Begin a group in the place of one that was lost for `reason`. Raises as `start`."""
        where = "the start" if saved is None else f"the checkpoint of step {saved.step}"
        await self._rest(reason, f"going back to {where}")
        since = monotonic()
        await self.start(saved)
        await self._care.tell(f"trainer is replaced after {monotonic() - since:.1f} s")

    async def _begin(self, saved: Checkpoint | None) -> None:
        self._group, self._loss, self._ready = self._make(), None, False
        await self.call("ready", self._care.start_s)
        self._ready = True
        self._watching = asyncio.create_task(self._watch(self._group))
        if saved is not None:
            await self.call("resume", self._care.start_s, saved)

    async def _rest(self, reason: str, done: str) -> None:
        """Wait a moment before another group; tell of it. Raises TierFailed when it is one too many."""
        rest = self.restarts.take()
        if rest is None:
            raise TierFailed(
                f"trainer was lost after {self.restarts.limit} restarts without a new step: {reason}"
            )
        count = f"restart {self.restarts.spent} of at most {self.restarts.limit}"
        await self._care.tell(f"trainer is lost: {reason}; {done} ({count})")
        await asyncio.sleep(rest)

    async def call(self, method: str, seconds: float, *args: Any, **options: Any) -> Any:
        """Have every rank do this; rank 0's answer. Raises TrainerLost, GroupFailed."""
        if self._group is None:
            raise TierFailed(f"the trainer tier was asked to {method} before it was started")
        with self._working():
            try:
                return (await self._group.call(method, *args, timeout=seconds, **options))[0]
            except GroupLost as error:
                # Before anybody looks for checkpoints: no rank writes one any more.
                await self._end()
                raise TrainerLost(self._loss or str(error)) from error

    async def stop(self, seconds: float) -> None:
        """End the group; what does not end in time is killed."""
        await self._unwatch()
        if self._group is not None:
            # One that is not up yet would not hear that it is to close.
            end = self._group.close if self._ready else self._group.abort
            await end(seconds)
            self._group = None

    @contextmanager
    def _working(self) -> Generator[None]:
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    async def _end(self) -> None:
        await self._unwatch()
        if self._group is not None:
            await self._group.abort()
            self._group = None

    async def _unwatch(self) -> None:
        if self._watching is not None:
            watching, self._watching = self._watching, None
            await abandon([watching])
            if not watching.cancelled() and (error := watching.exception()):
                raise error

    async def _watch(self, group: LearnerGroup) -> None:
        """Look after the ranks: a group of which one goes nowhere is killed, and so is lost."""
        ranks = {rank: Health(self._care.limits) for rank in range(self._ranks)}
        where: dict[int, RankBeat] = {}
        while True:
            await asyncio.sleep(self._care.beat_s)
            try:
                # Not asyncio.wait_for, which before Python 3.12 may lose a cancellation.
                async with asyncio.timeout(self._care.answer_s):
                    beats = await group.beats()
            except GroupLost:
                return  # whoever waits for it hears of it
            except TimeoutError:
                beats = {}
            where |= beats
            for rank, health in ranks.items():
                # A rank that writes a checkpoint may be silent; one that is dead Ray Train tells.
                counter = where[rank].progress if rank in where else 0
                health.answered(counter, monotonic(), busy=self._busy > 0)
                if health.state == "lost":
                    await self._give_up(group, rank, health.reason, where.get(rank))
                    return

    async def _give_up(
        self, group: LearnerGroup, rank: int, reason: str, beat: RankBeat | None
    ) -> None:
        stacks = ""
        if beat is not None:
            path = await dump(beat.pid, beat.node, self._care.dumps, f"trainer-{rank}")
            stacks = "" if path is None else f"; its stacks are in {path}"
        self._loss = f"rank {rank}: {reason}{stacks}"
        await group.abort()
