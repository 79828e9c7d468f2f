"""What a trained model is called, wherever a model is named: jobs, checkpoints, serving.

    ft:<base>:<job name>:<number>                       the model a job ends with
    ft:<base>:<job name>:<number>:ckpt-step-<step>      one of its checkpoints

OpenAI's form. `<number>` is the job's id without `ftjob-`; it alone decides which job is
meant, base and name are for people. Only letters, digits and `.:_-` occur, so a name is one
segment of a URL, a label of a metric and a word on a command line. Pure: knows no store.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PREFIX = "ft:"
_JOB = "ftjob-"
_NAME = re.compile(
    r"ft:(?P<base>[A-Za-z0-9._-]+):(?P<name>[A-Za-z0-9._-]*):(?P<job>[A-Za-z0-9_-]+)"
    r"(?::ckpt-step-(?P<step>0|[1-9][0-9]{0,11}))?",
    re.ASCII,
)
_OTHER = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Trained:
    """What a name stands for: the model a job ends with, or its checkpoint of `step`."""

    job_id: str
    step: int | None = None


def model_name(base: str, name: str, job_id: str, step: int | None = None) -> str:
    """The name of a job's model. `base` is the path or Hub id it was trained from, `name` the
    job's; without `step` it is the model that the job ends with."""
    parts = ["ft", _word(base.rstrip("/").rpartition("/")[2]) or "model", _word(name)]
    parts.append(job_id.removeprefix(_JOB))
    if step is not None:
        parts.append(f"ckpt-step-{step}")
    return ":".join(parts)


def trained(name: str) -> Trained | None:
    """What a model's name stands for; None when it is no name of a trained model."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    step = match["step"]
    return Trained(_JOB + match["job"], None if step is None else int(step))


def _word(text: str) -> str:
    """The text in the characters that a name may have."""
    return _OTHER.sub("-", text).strip("-")
