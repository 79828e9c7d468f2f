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

Aggregation = Literal["token_mean", "sequence_mean", "constant"]


@dataclass(frozen=True, slots=True)
class Surrogate:
    """The surrogate of some tokens, summed over its scales, and where its gradient was cut off.

    loss    scalar, to be minimised
    low     bool[C], tokens whose ratio fell too far     high  bool[C], whose ratio rose too far
    """

    loss: Tensor
    low: Tensor
    high: Tensor


def token_scales(
    completion_lengths: NDArray[np.int32],
    aggregation: Aggregation,
    *,
    max_tokens: int | None = None,
) -> NDArray[np.float64]:
    """float64[C]: weight of each completion token in the loss of one update.

    `completion_lengths` holds every sequence of the update, of all workers. `token_mean`
    weighs each token alike, `sequence_mean` each completion alike; both sum to 1. `constant`
    is 1 / (sequences * max_tokens), whatever the lengths are: with a mean over tokens or
    over a completion, a long wrong answer is blamed less for each token than a short one.
    Source: Dr. GRPO (arXiv 2503.20783), section 3.2.
    """
    lengths = np.asarray(completion_lengths, dtype=np.int64)
    if aggregation == "token_mean":
        scales = np.full(len(lengths), 1.0 / max(1, lengths.sum()))
    elif aggregation == "sequence_mean":
        scales = 1.0 / (lengths * len(lengths))
    elif max_tokens is None:
        raise ValueError("aggregation constant divides by max_tokens, which was not given")
    else:
        scales = np.full(len(lengths), 1.0 / (len(lengths) * max_tokens))
    return np.repeat(scales, lengths)


def importance_weights(old_logprobs: Tensor, engine_logprobs: Tensor, *, cap: float) -> Tensor:
    """Truncated importance weight min(p_learner / p_engine, cap) of each token, detached.

    The engine sampled with its own numerics (and perhaps older weights); the learner's
    distribution is the one the gradient is taken of.
    Source: truncated importance sampling, Yao et al. 2025, "Your efficient RL framework
    secretly brings you off-policy RL training".
    """
    return torch.exp(old_logprobs.detach() - engine_logprobs).clamp(max=cap)


def sequence_log_ratios(log_ratios: Tensor, sequence: Tensor) -> Tensor:
    """[C]: the mean log-ratio of each token's completion, with each token's own gradient.

        log s_i + log p_t - detach(log p_t),   log s_i = mean over the completion of log r_t

    `sequence` int64[C] numbers the completions; each is whole. The value is the completion's
    and the gradient the token's, so that credit may differ between its tokens; where it does
    not, and completions weigh alike, this is GSPO. Source: GSPO (arXiv 2507.18071),
    equations 7 and 14 (GSPO-token).
    """
    detached = log_ratios.detach()
    count = int(sequence.max()) + 1 if len(sequence) else 0
    sums = torch.zeros(count, dtype=detached.dtype, device=detached.device)
    sizes = torch.zeros_like(sums)
    sums.index_add_(0, sequence, detached)
    sizes.index_add_(0, sequence, torch.ones_like(detached))
    return (sums / sizes)[sequence] + (log_ratios - detached)


def clipped_surrogate(
    log_ratios: Tensor,
    credit: Tensor,
    weights: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> Surrogate:
    """The clipped policy-gradient surrogate; all arguments are [C], `log_ratios` has the gradient.

        r = exp(log_ratios),  m = min(r * credit, clip(r, 1 - low, 1 + high) * credit)
        loss = -sum(weights * m),   with max(m, dual_clip * credit) for m where credit < 0

    `weights` are scale times importance. Source: PPO (arXiv 1707.06347), equation 7; the
    asymmetric clip of DAPO (arXiv 2503.14476); dual clip, arXiv 1912.09729, equation 5.
    """
    ratios = torch.exp(log_ratios)
    free = ratios * credit
    bounded = ratios.clamp(1 - clip_low, 1 + clip_high) * credit
    chosen = torch.minimum(free, bounded)
    cut = bounded < free
    low, high = cut & (credit < 0), cut & (credit > 0)
    if dual_clip is not None:
        too_far = (credit < 0) & (ratios > dual_clip)
        chosen = torch.where(too_far, dual_clip * credit, chosen)
        high = high | too_far
    return Surrogate(-(weights * chosen).sum(), low.detach(), high.detach())


def cispo_surrogate(
    logprobs: Tensor,
    log_ratios: Tensor,
    credit: Tensor,
    weights: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> Surrogate:
    """CISPO: the clipped ratio is a constant weight of the log-prob, so no token is silenced.

        loss = -sum(weights * detach(clip(r, 1 - low, 1 + high)) * credit * logprobs)

    Source: MiniMax-M1 (arXiv 2506.13585), equations 4 and 5.
    """
    ratios = torch.exp(log_ratios.detach())
    bounded = ratios.clamp(1 - clip_low, 1 + clip_high)
    loss = -(weights * bounded * credit * logprobs).sum()
    return Surrogate(loss, ratios < 1 - clip_low, ratios > 1 + clip_high)


def k3(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """[C]: KL(policy || reference) estimated at each sampled token; never negative, in nats.

        exp(d) - d - 1,   d = reference - policy

    Source: Schulman 2020, "Approximating KL divergence"; GRPO (arXiv 2402.03300), equation 4.
    """
    difference = reference_logprobs - logprobs
    return torch.exp(difference) - difference - 1
