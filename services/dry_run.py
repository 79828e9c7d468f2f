"""A process that looks at jobs before they run: tokens, memory, tasks as the models see them.

`python -m services.dry_run` reads one request a line from standard input, `{"spec": {...},
"preview": 3}`, and writes one line for each: what it found, or `{"refused": "..."}` with what
the job's own controller would say. It loads tokenizers, so it is kept warm by whoever asks;
it ends with its input. Takes no accelerator and starts no actor.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from services.config import JobSpec
from services.footprint import Footprint, footprints, kv_bytes, sequences_at_once
from services.preparation import JobRefused, Prepared, prepare
from services.views import shown
from trainer.dataset import TaskFileError
from trainer.demo_model import resolve_tokenizer
from trainer.documents import LibraryError
from trainer.model_files import ModelError
from trainer.model_shape import ModelShape, read_shape
from trainer.privileged import PromptError
from trainer.templates import PrivilegedError

REFUSALS = (JobRefused, TaskFileError, PrivilegedError, LibraryError, PromptError, ModelError)


def look(spec: dict[str, Any], preview: int) -> dict[str, Any]:
    """Everything there is to say of a job before it runs, as plain data."""
    try:
        from transformers import AutoTokenizer
    except ModuleNotFoundError:
        return {"unavailable": "the API's machine has no tokenizers: install strop[engine] there"}
    job = JobSpec.model_validate(spec)
    try:
        ready = prepare(job, resolve_tokenizer)
        shape = read_shape(ready.model_path)
        teacher = None if ready.teacher_path is None else read_shape(ready.teacher_path)
    except REFUSALS as error:
        return {"refused": str(error)}
    tokenizer: Any = AutoTokenizer.from_pretrained(ready.model_path, trust_remote_code=False)
    return {
        "notes": list(ready.notes),
        "tasks": {"train": len(ready.tasks), "holdout": len(ready.holdout)},
        "tokens": tokens_of(job, ready),
        "model": asdict(shape),
        "memory": [_told(found) for found in footprints(job, shape, teacher)],
        "kv_cache": _kv_cache(job, shape),
        "preview": shown(job, ready.tasks[:preview], tokenizer),
    }


def tokens_of(job: JobSpec, ready: Prepared) -> dict[str, Any]:
    """Prompt tokens as they are, completion tokens at their most."""
    lengths = [len(ready.prompts[task.id]) for task in ready.tasks]
    step = job.sampling.group_size * job.sampling.groups_per_step * job.sampling.max_tokens
    held_out = len(ready.holdout) * job.evaluation.samples
    times = 1 + len({job.steps, *range(0, job.steps, job.evaluation.every or job.steps)} - {0})
    return {
        "prompt": _spread(lengths),
        "completion_per_step_at_most": step,
        "completion_per_run_at_most": step * job.steps,
        "evaluation_per_run_at_most": held_out * times * job.sampling.max_tokens,
    }


def _spread(lengths: Sequence[int]) -> dict[str, float]:
    found = np.asarray(lengths)
    return {
        "min": int(found.min()),
        "mean": float(found.mean()),
        "max": int(found.max()),
        "total": int(found.sum()),
    }


def _told(found: Footprint) -> dict[str, Any]:
    return {**asdict(found), "total": found.total}


def _kv_cache(job: JobSpec, shape: ModelShape) -> dict[str, int]:
    longest = kv_bytes(job, shape, job.model.max_length)
    return {"bytes_of_longest_sequence": longest, "sequences_at_once": sequences_at_once(job)}


def main() -> None:
    """Serve until the input ends."""
    # Libraries print; the answers have a way of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(look(request["spec"], request["preview"])) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
