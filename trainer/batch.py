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

PER_TOKEN = (
    "engine_logprobs",
    "teacher_logprobs",
    "contrast_logprobs",
    "top_ids",
    "top_logprobs",
    "span_mask",
)
"""Fields of a batch with one entry for each completion token."""


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
    *,
    contrast_logprobs: Sequence[NDArray[np.float32]] | None = None,
    top_ids: Sequence[NDArray[np.int32]] | None = None,
    top_logprobs: Sequence[NDArray[np.float32]] | None = None,
    taught: Sequence[bool] | None = None,
) -> Batch:
    """Lay the learnable rollouts of `groups` head to tail.

    Every argument has one entry for each sequence of `learnable(groups)`: arrays [T] over its
    completion, [T, K] for the teacher's likeliest tokens. Raises BatchError when there is no
    sequence, when an array does not fit its completion, or when a number is not finite.
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

    def flat(name: str, arrays: Sequence[NDArray[Any]] | None, dtype: type[np.generic]) -> Any:
        return None if arrays is None else _flat(name, arrays, rollouts, dtype)

    return Batch(
        tokens=np.concatenate(
            [part for rollout in rollouts for part in (rollout.prompt_ids, rollout.completion_ids)]
        ).astype(np.int32),
        lengths=np.add(prompts, completions, dtype=np.int32),
        prompt_lengths=np.array(prompts, dtype=np.int32),
        advantages=advantages,
        engine_logprobs=flat("logprobs", [r.logprobs for r in rollouts], np.float32),
        teacher_logprobs=flat("teacher_logprobs", teacher_logprobs, np.float32),
        contrast_logprobs=flat("contrast_logprobs", contrast_logprobs, np.float32),
        top_ids=flat("top_ids", top_ids, np.int32),
        top_logprobs=flat("top_logprobs", top_logprobs, np.float32),
        taught=None if taught is None else np.asarray(taught, dtype=np.bool_),
        span_mask=flat("span_mask", span_mask, np.bool_),
    )


def _flat(
    name: str, arrays: Sequence[NDArray[Any]], rollouts: Sequence[Rollout], dtype: type[np.generic]
) -> NDArray[Any]:
    if len(arrays) != len(rollouts):
        raise BatchError(f"{name}: {len(arrays)} arrays for {len(rollouts)} sequences")
    width = np.shape(arrays[0])[1:]
    for index, (array, rollout) in enumerate(zip(arrays, rollouts, strict=True)):
        if np.shape(array) != (len(rollout.completion_ids), *width):
            raise BatchError(
                f"{name}, sequence {index}: shape {np.shape(array)} for "
                f"{len(rollout.completion_ids)} completion tokens"
            )
    flat = np.concatenate(arrays).astype(dtype)
    if not np.isfinite(flat).all():
        raise BatchError(f"{name}: {int((~np.isfinite(flat)).sum())} values are not finite")
    return flat


def check(batch: Batch) -> None:
    """Refuse a batch whose arrays do not fit each other or hold a non-finite number.

    Raises BatchError with the field's name.
    """
    sequences, completions = len(batch.lengths), int(np.sum(batch.completion_lengths))
    per_token = {name: getattr(batch, name) for name in PER_TOKEN}
    for name in ("advantages", "taught"):
        values = getattr(batch, name)
        if values is not None and len(values) != sequences:
            raise BatchError(f"{sequences} sequences, but {len(values)} {name}")
    for name, values in per_token.items():
        if values is not None and len(values) != completions:
            raise BatchError(f"{completions} completion tokens, but {len(values)} {name}")
    for name, values in {"advantages": batch.advantages, **per_token}.items():
        if values is not None and not np.isfinite(values).all():
            where = tuple(np.argwhere(~np.isfinite(values))[0].tolist())
            place = ", ".join(str(index) for index in where)
            raise BatchError(f"{name}[{place}] is {values[where]}: a batch must be finite")


def split(flat: NDArray[Any], batch: Batch) -> list[NDArray[Any]]:
    """Cut an array over the batch's C completion tokens into one array for each sequence."""
    return np.split(flat, np.cumsum(batch.completion_lengths)[:-1])
