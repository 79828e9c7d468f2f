"""A tracker's own process: what a library does to itself here, it does to nobody else.

    python -m services.trackers.process

A line comes by standard input, an answer goes back for each; the first line opens the run.

    {"open": {"tracker": {...}, "run": {...}}}     {"ok": "https://..."} or {"ok": null}
    {"points": [[step, at, {name: number}], ...]}  {"ok": null}
    {"close": "succeeded"}                         {"ok": null}, and the process ends

An error is {"error": "..."} and the end. Without a parent it ends too: the end of standard
input closes the run as one that goes on, a parent that is killed takes it along.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

from pydantic import TypeAdapter

from services.trackers.sink import Point, Run, Sink
from services.trackers.spec import (
    MlflowTracker,
    TensorboardTracker,
    Tracker,
    TrackioTracker,
    WandbTracker,
)

_PR_SET_PDEATHSIG = 1


def opened(tracker: Tracker, run: Run) -> Sink:
    """The open run. Raises what the tracker's library raises."""
    match tracker:
        case WandbTracker():
            from services.trackers.wandb_sink import WandbSink

            return WandbSink(tracker, run)
        case MlflowTracker():
            from services.trackers.mlflow_sink import MlflowSink

            return MlflowSink(tracker, run)
        case TensorboardTracker():
            # Here go numbers alone; tensorboardX would load torch to accept its tensors as well.
            cast("dict[str, Any]", sys.modules)["torch"] = None
            from services.trackers.tensorboard_sink import TensorboardSink

            return TensorboardSink(tracker, run)
        case TrackioTracker():
            from services.trackers.trackio_sink import TrackioSink

            return TrackioSink(tracker, run)


def answers(lines: Iterator[str]) -> Iterator[str | None]:
    """Do what each line says; its answer."""
    asked = json.loads(next(lines))["open"]
    run = Run(**{**asked["run"], "folder": Path(asked["run"]["folder"])})
    sink = opened(TypeAdapter[Tracker](Tracker).validate_python(asked["tracker"]), run)
    yield sink.url
    for line in lines:
        asked = json.loads(line)
        if "points" in asked:
            sink.log([Point(*point) for point in asked["points"]])
            yield None
        else:
            sink.close(asked["close"])
            yield None
            return
    sink.close("running")


def serve(lines: Iterator[str], back: TextIO) -> int:
    """Answer every line; the exit status."""
    try:
        for answer in answers(lines):
            print(json.dumps({"ok": answer}), file=back, flush=True)
    except Exception as error:
        text = " ".join(str(error).split()) or "no reason was given"
        print(json.dumps({"error": f"{type(error).__name__}: {text}"}), file=back, flush=True)
        raise  # the log has the rest
    return 0


def main() -> None:
    """Speak on what was standard output; whatever a library prints there goes to the log."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as back:
        os.dup2(2, 1)
        status = serve(iter(sys.stdin.readline, ""), back)
    sys.exit(status)


if __name__ == "__main__":
    main()
