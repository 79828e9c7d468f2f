"""Policy-gradient losses on flat completion tokens.

Every normaliser is global: it counts the whole update, not the microbatch or the worker,
so that any split of the sequences gives the same gradient up to rounding. C completion
tokens; knows nothing of models or of where credit comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Aggregation = Literal["token_mean", "sequence_mean"]


@dataclass(frozen=True, slots=True)
class Surrogate:
    """The clipped surrogate of some tokens, summed over its scales, and what was clipped.

    loss    scalar, to be minimised     clipped  bool[C], tokens whose gradient was cut off
    """

    loss: Tensor
    clipped: Tensor


def token_scales(
    completion_lengths: NDArray[np.int32], aggregation: Aggregation
) -> NDArray[np.float32]:
    """float32[C]: weight of each completion token in the loss of one update; they sum to 1.

    `completion_lengths` holds every sequence of the update, of all workers. `token_mean`
    weighs each token alike, `sequence_mean` each completion alike.
    """
    lengths = np.asarray(completion_lengths, dtype=np.int64)
    if aggregation == "token_mean":
        scales = np.full(len(lengths), 1.0 / lengths.sum())
    else:
        scales = 1.0 / (lengths * len(lengths))
    return np.repeat(scales, lengths).astype(np.float32)


def importance_weights(old_logprobs: Tensor, engine_logprobs: Tensor, *, cap: float) -> Tensor:
    """Truncated importance weight min(p_learner / p_engine, cap) of each token, detached.

    The engine sampled with its own numerics (and perhaps older weights); the learner's
    distribution is the one the gradient is taken of.
    Source: truncated importance sampling, Yao et al. 2025, "Your efficient RL framework
    secretly brings you off-policy RL training".
    """
    return torch.exp(old_logprobs.detach() - engine_logprobs).clamp(max=cap)


def clipped_surrogate(
    logprobs: Tensor,
    old_logprobs: Tensor,
    credit: Tensor,
    importance: Tensor,
    scales: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> Surrogate:
    """The clipped policy-gradient surrogate; all arguments are [C], only `logprobs` has a gradient.

        r = exp(logprobs - old_logprobs)
        loss = -sum(scales * importance * min(r * credit, clip(r, 1 - low, 1 + high) * credit))

    Source: PPO (arXiv 1707.06347), equation 7; asymmetric clip of DAPO (arXiv 2503.14476).
    """
    ratios = torch.exp(logprobs - old_logprobs)
    free = ratios * credit
    bounded = ratios.clamp(1 - clip_low, 1 + clip_high) * credit
    loss = -(scales * importance * torch.minimum(free, bounded)).sum()
    return Surrogate(loss, (bounded < free).detach())
