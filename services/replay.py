"""Replay: the learner on stored batches, without Ray, engines or a service.

Reads what `services.traces` kept and nothing else, so that a strange loss of a past step
can be looked at under a debugger. The learner starts from the job's own model: its first
step is repeated as it was, and later ones too when they follow in order; another model,
a checkpoint say, may be named instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from services.config import JobSpec
from services.precision import dtype_of
from services.trace_batch import to_batch
from services.traces import TraceError, read_job, read_step, step_path, step_paths
from trainer.demo_model import resolve_model
from trainer.learner import Learner


def replay(
    trace: str | Path, *, model: str | None = None, steps: Collection[int] | None = None
) -> Iterator[dict[str, float]]:
    """Learn the stored steps in order and yield each one's metrics.

    `trace` is a trace folder or one of its step files; `steps` picks some of the folder's
    steps. Beside the learner's metrics stand `step` and, where the trace has the student's
    log-probs, `student_drift`: the mean absolute difference (nats) between them and what
    the policy says now; 0 when the replay follows the job exactly.

    Raises TraceError before anything is loaded when the folder holds no such steps.
    """
    trace = Path(trace)
    folder = trace if trace.is_dir() else trace.parent
    job = JobSpec.model_validate(read_job(folder))
    if steps is not None:
        paths = [step_path(folder, step) for step in sorted(set(steps))]
    else:
        paths = step_paths(folder) if trace.is_dir() else [trace]
    if absent := [path.name for path in paths if not path.exists()]:
        raise TraceError(f"{folder}: holds no {', '.join(absent)}")
    if not paths:
        raise TraceError(f"{folder}: holds no step to replay")
    learner = Learner(
        resolve_model(model or job.model.path),
        algorithm=job.algorithm,
        optimizer=job.optimizer,
        dtype=dtype_of(job),
        temperature=job.sampling.temperature,
        seed=job.seed,
        steps=job.steps,
        max_tokens=job.sampling.max_tokens,
        start_path=None if model is None else resolve_model(job.model.path),
    )
    for path in paths:
        stored = read_step(path)
        metrics, streams = learner.learn_with_streams(to_batch(stored), stored.step)
        found = {"step": float(stored.step), **metrics}
        if stored.student_logprobs is not None:
            drift = np.abs(streams.student_logprobs - stored.student_logprobs)
            found["student_drift"] = float(np.nanmean(drift))
        yield found
