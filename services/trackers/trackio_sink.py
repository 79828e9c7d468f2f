"""Trackio: one run a job, in its local database, a server of yours or a Hugging Face Space.

TRACKIO_SERVER_URL or TRACKIO_SPACE_ID say where, as Trackio's own documentation has them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import trackio  # pyright: ignore[reportMissingImports]
from trackio.sqlite_storage import SQLiteStorage  # pyright: ignore[reportMissingImports]

from services.trackers.sink import Point, Run
from services.trackers.spec import TrackioTracker

_FLUSH_SECONDS = 20.0


class TrackioSink:
    """A run; Trackio finds it again by its name, so the job's id is part of that."""

    def __init__(self, tracker: TrackioTracker, run: Run) -> None:
        """Open or reopen the run."""
        self._project, self._name = tracker.project, f"{run.name}-{run.id}"
        self._run: Any = trackio.init(
            tracker.project,
            name=self._name,
            config=dict(run.config),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        self._local = not (
            os.environ.get("TRACKIO_SERVER_URL") or os.environ.get("TRACKIO_SPACE_ID")
        )
        self._last = self._stored()
        self.url: str | None = None if self._local else self._run.url

    def log(self, points: Sequence[Point]) -> None:
        """Log every point. Raises when its own database did not take them."""
        new = [point for point in points if point.step >= self._last]
        for point in new:
            self._run.log(dict(point.values), step=point.step)
        # Trackio writes in the background, and only warns of what it could not write.
        until = time.monotonic() + _FLUSH_SECONDS
        while new and self._local and self._stored() < new[-1].step:
            if time.monotonic() > until:
                raise RuntimeError(f"step {new[-1].step} was not stored in {_FLUSH_SECONDS:g} s")
            time.sleep(0.1)

    def close(self, outcome: str) -> None:
        """Send what is left."""
        self._run.finish()

    def _stored(self) -> int:
        """The newest step that its own database has, -1 when there is none."""
        step = SQLiteStorage.get_max_step_for_run(self._project, self._name)
        return -1 if step is None else step
