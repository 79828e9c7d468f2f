"""TensorBoard: event files in the job's folder, written by tensorboardX (Ray Train brings it).

Its SummaryWriter writes in the background and has no way to wait for that; the writer below it
does as it is told.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.summary import scalar, text

from services.trackers.sink import Point, Run, flat
from services.trackers.spec import TensorboardTracker


class TensorboardSink:
    """A folder of event files; each time the job goes on, it gets one more."""

    url: str | None = None

    def __init__(self, tracker: TensorboardTracker, run: Run) -> None:
        """Begin a file."""
        folder = run.folder / "tensorboard"
        begun = folder.is_dir()
        folder.mkdir(exist_ok=True)
        self._writer: Any = EventsWriter(str(folder / "events"), f".{os.getpid()}")
        if not begun:
            settings = "\n".join(f"    {name}: {value}" for name, value in flat(run.config).items())
            self._writer.write_event(Event(summary=text("job", settings)))
        self._writer.flush()

    def log(self, points: Sequence[Point]) -> None:
        """Write every number at its step and time."""
        for point in points:
            for name, value in point.values.items():
                summary = scalar(name, value)
                self._writer.write_event(
                    Event(summary=summary, step=point.step, wall_time=point.at)
                )
        self._writer.flush()

    def close(self, outcome: str) -> None:
        """End the file."""
        self._writer.close()
