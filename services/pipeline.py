"""The training loop: sample, roll out, verify, score, learn, publish.

Reads on one screen. The tiers do the work and the journal tells of it; what passes through
here are object references and small numbers.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from time import monotonic
from typing import Any, Protocol, TypeVar

from services import saving
from services.config import JobSpec
from services.saving import Saver, due
from trainer.dataset import TaskOrder
from trainer.records import Task

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rolled:
    """One task's rollouts: a reference, and the small numbers that steer."""

    task: Task
    rollouts: Any
    version: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Judged:
    """One task's rollouts with their verdicts (references), scores and statuses."""

    rolled: Rolled
    verdicts: Any
    scores: tuple[float | None, ...]
    statuses: tuple[str, ...]

    @property
    def has_contrast(self) -> bool:
        """Whether its judged rollouts differ in score; without contrast a group teaches nothing."""
        return len({score for score in self.scores if score is not None}) > 1


@dataclass(frozen=True, slots=True)
class Sampled:
    """The judged groups of one step, how many were dropped as too stale, how many other tasks
    were tried in place of groups without contrast, seconds by phase, and the data cursor
    behind its tasks."""

    groups: Sequence[Judged]
    dropped: int
    refilled: int
    seconds: Mapping[str, float]
    cursor: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run begins: behind `step` learned batches, which end at the data cursor `cursor`
    (None: at the first task) and made the model in `folder`; and whether that was evaluated."""

    step: int = 0
    cursor: Mapping[str, int] | None = None
    folder: str = ""
    evaluated: bool = False


BEGINNING = Start()


@dataclass(frozen=True, slots=True)
class Ended:
    """Where a run ended: `folder` holds the model of its newest checkpoint; `paused` says why it
    stopped before the last step, if it did."""

    step: int
    folder: str
    paused: str | None


class Tiers(saving.Tiers, Protocol):
    """What the loop asks of the tiers."""

    async def generate(self, task: Task, count: int) -> Rolled: ...
    async def verify(self, rolled: Rolled) -> Judged: ...
    async def score(self, groups: Sequence[Judged]) -> Any: ...
    async def learn(
        self, groups: Sequence[Judged], evidence: Any, step: int
    ) -> dict[str, float]: ...
    async def publish(self, version: int, *, to_teacher: bool) -> dict[str, float]: ...


class Journal(saving.Journal, Protocol):
    """Where the loop tells what it does."""

    async def sampled(self, step: int, sampled: Sampled) -> None: ...
    async def learned(
        self,
        step: int,
        sampled: Sampled,
        metrics: Mapping[str, float],
        seconds: Mapping[str, float],
    ) -> None: ...
    async def evaluated(self, step: int, judged: Sequence[Judged]) -> None: ...


async def _never() -> None:
    """No reason to pause."""


async def train(
    job: JobSpec,
    tiers: Tiers,
    tasks: Sequence[Task],
    holdout: Sequence[Task],
    journal: Journal,
    start: Start = BEGINNING,
    pause: Callable[[], Awaitable[str | None]] = _never,
) -> Ended:
    """Run a job from `start` to its last step, or to the next one at which `pause` has a reason.

    `step` counts the batches that were learned before; the policy's version equals it. Batch
    `step` may be sampled up to `max_staleness` versions earlier, while others are learned. A
    run that starts from a checkpoint sees the tasks that the one before it would have seen.
    """
    order = TaskOrder(len(tasks), job.seed, job.tasks.shuffle)
    if start.cursor is not None:
        order.restore(start.cursor)
    ahead: deque[asyncio.Task[Sampled]] = deque()
    saver = Saver(job, tiers, journal, start.folder)
    done, why = start.step, None

    def sample_ahead(step: int) -> None:
        while len(ahead) <= min(job.sampling.max_staleness, job.steps - 1 - step):
            chosen = [tasks[index] for index in order.take(job.sampling.groups_per_step)]
            number = step + len(ahead)
            others = spares(job, tasks, chosen, number)
            batch = sample_batch(job, tiers, chosen, others, number, order.state())
            ahead.append(asyncio.create_task(batch))

    await journal.phase("publish", done)
    await tiers.publish(done, to_teacher=job.syncs_teacher(done))
    if not start.evaluated and (done == 0 or due(done, job.evaluation.every, job.steps)):
        await evaluate(job, tiers, holdout, done, journal)
    try:
        for step in range(start.step, job.steps):
            seconds: dict[str, float] = {}
            sample_ahead(step)
            await journal.phase("rollout", step)
            sampled = await ahead.popleft()
            await journal.sampled(step, sampled)
            with clock(seconds, "score"):
                evidence = await tiers.score(sampled.groups) if job.has_teacher else None
            await journal.phase("learn", step)
            with clock(seconds, "learn"):
                metrics = await tiers.learn(sampled.groups, evidence, step)
            with clock(seconds, "publish"):
                metrics |= await tiers.publish(step + 1, to_teacher=job.syncs_teacher(step + 1))
            await journal.learned(step, sampled, metrics, seconds)

            done = step + 1
            why = await pause() if done < job.steps else None
            last = done == job.steps or why is not None
            await saver.after(done, sampled.cursor, last=last)
            if why := why or saver.gave_up:
                break
            if due(done, job.evaluation.every, job.steps):
                await evaluate(job, tiers, holdout, done, journal)
    finally:
        await abandon(ahead)
    return Ended(done, saver.folder, why)


async def sample_batch(
    job: JobSpec,
    tiers: Tiers,
    tasks: Sequence[Task],
    others: Iterator[Task],
    step: int,
    cursor: Mapping[str, int],
) -> Sampled:
    """Roll out and verify one step's groups side by side.

    A group is verified as soon as it is rolled out. One that is too stale for its step is
    dropped, counted and sampled again. Groups without contrast give way to `others`, as far
    as these have it, in at most `job.refills` rounds.
    """
    started = generated = monotonic()
    dropped = refilled = 0

    async def sample(task: Task) -> Judged:
        nonlocal generated, dropped
        rolled = await tiers.generate(task, job.sampling.group_size)
        while rolled.version < step - job.sampling.max_staleness:
            dropped += 1
            rolled = await tiers.generate(task, job.sampling.group_size)
        generated = monotonic()
        return await tiers.verify(rolled)

    groups = await side_by_side(sample(task) for task in tasks)
    for _ in range(job.refills):
        flat = [place for place, group in enumerate(groups) if not group.has_contrast]
        tried = await side_by_side(sample(task) for task in islice(others, len(flat)))
        refilled += len(tried)
        found = (group for group in tried if group.has_contrast)
        for place, group in zip(flat, found, strict=False):
            groups[place] = group
    seconds = {"rollout": generated - started, "verify": monotonic() - generated}
    return Sampled(groups, dropped, refilled, seconds, cursor)


def spares(
    job: JobSpec, tasks: Sequence[Task], chosen: Sequence[Task], step: int
) -> Iterator[Task]:
    """The tasks that were not chosen for `step`, in an order drawn from seed and step alone, so
    that a resumed job tries the same."""
    taken = {task.id for task in chosen}
    left = [task for task in tasks if task.id not in taken]
    random.Random(f"{job.seed}/{step}").shuffle(left)
    return iter(left)


async def evaluate(
    job: JobSpec, tiers: Tiers, holdout: Sequence[Task], step: int, journal: Journal
) -> None:
    """Judge completions of the held-out tasks under the current policy."""

    async def sample(task: Task) -> Judged:
        return await tiers.verify(await tiers.generate(task, job.evaluation.samples))

    if holdout:
        await journal.phase("evaluate", step)
        await journal.evaluated(step, await side_by_side(sample(task) for task in holdout))


async def side_by_side(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines concurrently, results in order; the first error cancels the others."""
    running = [asyncio.ensure_future(item) for item in work]
    try:
        return await asyncio.gather(*running)
    finally:
        await abandon(running)


async def abandon(running: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel what still runs and wait until it has ended."""
    left = [future for future in running if not future.done()]
    for future in left:
        future.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@contextmanager
def clock(seconds: dict[str, float], name: str) -> Generator[None]:
    """Put the seconds of the block under `name`."""
    started = monotonic()
    yield
    seconds[name] = monotonic() - started
