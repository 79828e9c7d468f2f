"""Weights & Biases: one run a job, with the learning step as the axis of every chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import wandb

from services.trackers.sink import Point, Run
from services.trackers.spec import WandbTracker

_STEP = "step"


class WandbSink:
    """A run whose id is the job's, so that it is the same one when the job goes on."""

    def __init__(self, tracker: WandbTracker, run: Run) -> None:
        """Open or reopen the run. Nothing of the machine, its code or its console is sent."""
        self._run: Any = wandb.init(
            project=tracker.project,
            entity=tracker.entity,
            name=run.name,
            tags=tracker.tags,
            id=run.id,
            resume="allow",
            dir=str(run.folder),
            config=dict(run.config),
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                save_code=False,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_disable_meta=True,
            ),
        )
        self._run.define_metric("*", step_metric=_STEP)
        # A server knows how far the run had come; a page may have come twice when we were killed.
        self._last = int(self._run.summary.get(_STEP, -1)) if self._run.resumed else -1

    @property
    def url(self) -> str | None:
        """The run's page; offline there is none."""
        return self._run.url

    def log(self, points: Sequence[Point]) -> None:
        """One row of the run's history for each point."""
        for point in points:
            if point.step >= self._last:
                self._run.log({_STEP: point.step, **point.values})

    def close(self, outcome: str) -> None:
        """Upload what is left. A job that failed is a run that failed."""
        self._run.finish(exit_code=1 if outcome == "failed" else 0)
