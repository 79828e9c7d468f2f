"""A grading function of the user's, run inside the walls with the completion as data."""

from __future__ import annotations

import math
import sys
import types
from typing import Any

from verifiers.sandbox.protocol import Channel

MODULE = "grader"
MAX_REASON = 500


def serve(channel: Channel) -> None:
    """Read one job, call its `grade(sample, item)`, answer with a score or a reason."""
    job = channel.receive()
    try:
        channel.send({"score": _score(job)})
    except BaseException as error:  # also SystemExit: the function gave no score
        channel.send({"reason": f"{type(error).__name__}: {error}"[:MAX_REASON]})


def _score(job: dict[str, Any]) -> float:
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    exec(compile(job["source"], "<grader>", "exec"), module.__dict__)
    score = module.__dict__["grade"](job["sample"], job["item"])
    value = float(score)
    if not (math.isfinite(value) and 0.0 <= value <= 1.0):
        raise ValueError(f"grade returned {value!r}; a score lies in [0, 1]")
    return value
