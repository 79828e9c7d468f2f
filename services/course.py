"""A job's course: from its newest checkpoint to its end, and back to one when the learner is lost.

The engines, the teachers and the verifiers heal by themselves and the loop only waits. With a
lost learner goes what it learned since the last checkpoint: the loop starts there again, and
learns the same tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from services.config import JobSpec
from services.journal import StoreJournal
from services.learner_tier import TrainerLost
from services.pipeline import Ended, Start, train
from services.preparation import Prepared
from services.tiers import RayTiers
from trainer.checkpoint import Checkpoint, newest


async def run_course(
    job: JobSpec,
    ready: Prepared,
    tiers: RayTiers,
    folder: Path,
    journal: StoreJournal,
    pause: Callable[[], Awaitable[str | None]],
    source: Checkpoint | None = None,
) -> Ended:
    """Start the tiers and train. `folder` is where the job's checkpoints lie.

    A job that has none yet begins at `source`, the checkpoint of another. Raises TierFailed
    when a tier was restarted too often, and what else cannot be mended.
    """
    saved = await _newest(folder, journal) or source
    if saved is not None:
        await journal.note(f"continuing from the checkpoint of step {saved.step}")
    await tiers.start(saved)
    while True:
        try:
            start = _start(saved, journal)
            return await train(job, tiers, ready.tasks, ready.holdout, journal, start, pause)
        except TrainerLost as lost:
            saved = await _newest(folder, journal) or source
            await tiers.go_back(saved, str(lost))


async def _newest(folder: Path, journal: StoreJournal) -> Checkpoint | None:
    """The checkpoint to continue from; those that are damaged are told of."""
    found = await asyncio.to_thread(newest, folder)
    for problem in found.damaged:
        await journal.note(f"a checkpoint is damaged and was set aside: {problem}", level="warn")
    return found.checkpoint


def _start(saved: Checkpoint | None, journal: StoreJournal) -> Start:
    if saved is None:
        return Start(evaluated=journal.has_evaluated(0))
    evaluated = journal.has_evaluated(saved.step)
    return Start(saved.step, saved.cursor["tasks"], str(saved.model), evaluated)
