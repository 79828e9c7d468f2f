"""What a teacher says of a completion, and how it joins the batch.

In: one entry for each rollout, or None where the teacher had no context for it. Out: the
flat arrays of a `Batch`, with those rollouts marked as not taught. Numpy only; knows nothing
of prompts, models or actors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.batch import assemble, learnable
from trainer.records import Batch, Group


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the teacher says of one completion of T tokens.

    prompt_length  tokens of the prompt it was scored under
    logprobs       float32[T]     of the completion's tokens (nats)
    contrast       float32[T]     the same under wrong answers, or None
    top_ids        int32[T, K]    the teacher's likeliest tokens at each place, or None
    top_logprobs   float32[T, K]  and their log-probs, or None
    left_out       characters of privileged text left out of its prompt, at marked places
    turn           what that prompt has beyond the policy's, as text; "" for nothing
    """

    prompt_length: int
    logprobs: NDArray[np.float32]
    contrast: NDArray[np.float32] | None = None
    top_ids: NDArray[np.int32] | None = None
    top_logprobs: NDArray[np.float32] | None = None
    left_out: int = 0
    turn: str = ""


def shortened_share(evidence: Sequence[Evidence | None]) -> float:
    """Share of the completions with a context for which it was shortened to fit."""
    shortened = [said.left_out > 0 for said in evidence if said is not None]
    return sum(shortened) / len(shortened) if shortened else 0.0


def taught_batch(
    groups: Sequence[Group],
    evidence: Sequence[Evidence | None] | None,
    span_mask: Sequence[NDArray[np.bool_]] | None = None,
) -> Batch:
    """Lay the learnable rollouts of `groups` head to tail, with what the teacher said of them.

    `evidence` has one entry for each sequence of `learnable(groups)`; None altogether without
    a teacher. Raises BatchError as `assemble` does.
    """
    if evidence is None:
        return assemble(groups, span_mask=span_mask)
    lengths = [len(groups[g].rollouts[r].completion_ids) for g, r in learnable(groups)]
    first = next((said for said in evidence if said is not None), None)

    def stream(name: str) -> list[NDArray[Any]] | None:
        """One field of every entry, zeros where there is none."""
        like: NDArray[Any] | None = None if first is None else getattr(first, name)
        if like is None:
            return None
        return [
            np.zeros((length, *like.shape[1:]), like.dtype) if said is None else getattr(said, name)
            for said, length in zip(evidence, lengths, strict=True)
        ]

    sampled = stream("logprobs")
    return assemble(
        groups,
        [np.zeros(length, np.float32) for length in lengths] if sampled is None else sampled,
        span_mask,
        contrast_logprobs=stream("contrast"),
        top_ids=stream("top_ids"),
        top_logprobs=stream("top_logprobs"),
        taught=[said is not None for said in evidence],
    )
