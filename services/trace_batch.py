"""Between the learner's batch and the trace of its step, in both directions.

A trace says NaN where the teacher had no context for a completion; a batch has zeros there
and the sequence marked as not taught.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.traces import StepTrace
from trainer.batch import assemble
from trainer.evidence import Evidence
from trainer.records import Batch, Group


def trace_of(
    step: int, groups: Sequence[Group], batch: Batch, evidence: Sequence[Evidence | None] | None
) -> StepTrace:
    """The trace of a batch before it is learned; `evidence` is what it was assembled with."""
    teacher = batch.teacher_logprobs
    if teacher is not None:
        taught = np.repeat(batch.is_taught, batch.completion_lengths)
        teacher = np.where(taught, teacher, np.float32(np.nan))
    return StepTrace(
        step=step,
        groups=tuple(groups),
        teacher_logprobs=teacher,
        contrast_logprobs=batch.contrast_logprobs,
        top_ids=batch.top_ids,
        top_logprobs=batch.top_logprobs,
        span_mask=batch.span_mask,
        teacher_prompt_lengths=None
        if evidence is None
        else np.array([0 if e is None else e.prompt_length for e in evidence], np.int32),
        teacher_turns=None
        if evidence is None
        else tuple("" if e is None else e.turn for e in evidence),
    )


def to_batch(trace: StepTrace) -> Batch:
    """The batch the learner was given at that step."""
    bare = assemble(trace.groups)
    teacher, taught = trace.teacher_logprobs, None
    if teacher is not None:
        first = np.cumsum(bare.completion_lengths) - bare.completion_lengths
        known = ~np.isnan(teacher[first])
        taught = None if known.all() else known
        teacher = np.nan_to_num(teacher, nan=0.0)
    return replace(
        bare,
        teacher_logprobs=teacher,
        contrast_logprobs=trace.contrast_logprobs,
        top_ids=trace.top_ids,
        top_logprobs=trace.top_logprobs,
        taught=taught,
        span_mask=trace.span_mask,
    )
