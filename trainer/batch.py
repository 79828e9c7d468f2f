"""From judged groups to the flat batch that a learner step eats.

Keeps the order of the groups and of the rollouts within them, and leaves out what cannot
be learned from: rollouts without a verdict (`infra_error`: a fault of ours is no reward)
and empty completions. Numpy only; knows nothing of models or of how credit is assigned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.records import Batch, Group, Rollout


class BatchError(ValueError):
    """Groups and per-token arrays that do not make a batch."""


def learnable(groups: Sequence[Group]) -> list[tuple[int, int]]:
    """(group, rollout) of every sequence of the batch, in its order."""
    return [
        (g, r)
        for g, group in enumerate(groups)
        for r, (rollout, verdict) in enumerate(zip(group.rollouts, group.verdicts, strict=True))
        if verdict.status != "infra_error" and len(rollout.completion_ids) > 0
    ]


def assemble(
    groups: Sequence[Group],
    teacher_logprobs: Sequence[NDArray[np.float32]] | None = None,
    span_mask: Sequence[NDArray[np.bool_]] | None = None,
) -> Batch:
    """Lay the learnable rollouts of `groups` head to tail.

    `teacher_logprobs` (float32[T]) and `span_mask` (bool[T]) have one array for each
    sequence of `learnable(groups)`. Raises BatchError when there is none, when an array
    does not fit its completion, or when an advantage or a log-prob is not finite.
    """
    where = learnable(groups)
    if not where:
        raise BatchError(f"none of {len(groups)} group(s) has a judged completion to learn from")
    rollouts = [groups[g].rollouts[r] for g, r in where]
    advantages = np.array([groups[g].advantages[r] for g, r in where], dtype=np.float32)
    if not np.isfinite(advantages).all():
        g, r = where[int(np.flatnonzero(~np.isfinite(advantages))[0])]
        raise BatchError(
            f"task {groups[g].task.id!r}, rollout {r}: advantage {groups[g].advantages[r]}; "
            "a group's advantages are taken over its judged rollouts"
        )
    prompts = [len(rollout.prompt_ids) for rollout in rollouts]
    completions = [len(rollout.completion_ids) for rollout in rollouts]
    return Batch(
        tokens=np.concatenate(
            [part for rollout in rollouts for part in (rollout.prompt_ids, rollout.completion_ids)]
        ).astype(np.int32),
        lengths=np.add(prompts, completions, dtype=np.int32),
        prompt_lengths=np.array(prompts, dtype=np.int32),
        advantages=advantages,
        engine_logprobs=_flat("logprobs", [r.logprobs for r in rollouts], rollouts, np.float32),
        teacher_logprobs=None
        if teacher_logprobs is None
        else _flat("teacher_logprobs", teacher_logprobs, rollouts, np.float32),
        span_mask=None if span_mask is None else _flat("span_mask", span_mask, rollouts, np.bool_),
    )


def _flat(
    name: str, arrays: Sequence[NDArray[Any]], rollouts: Sequence[Rollout], dtype: type[np.generic]
) -> NDArray[Any]:
    if len(arrays) != len(rollouts):
        raise BatchError(f"{name}: {len(arrays)} arrays for {len(rollouts)} sequences")
    for index, (array, rollout) in enumerate(zip(arrays, rollouts, strict=True)):
        if np.shape(array) != rollout.completion_ids.shape:
            raise BatchError(
                f"{name}, sequence {index}: shape {np.shape(array)} for "
                f"{len(rollout.completion_ids)} completion tokens"
            )
    flat = np.concatenate(arrays).astype(dtype)
    if not np.isfinite(flat).all():
        raise BatchError(f"{name}: {int((~np.isfinite(flat)).sum())} values are not finite")
    return flat


def split(flat: NDArray[Any], batch: Batch) -> list[NDArray[Any]]:
    """Cut an array over the batch's C completion tokens into one array for each sequence."""
    return np.split(flat, np.cumsum(batch.completion_lengths)[:-1])
