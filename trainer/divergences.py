"""Distillation: how far the policy's next-token distribution is from the teacher's.

Divergences of each completion token, in nats, with a gradient towards the policy. Over the
sampled token alone, or over the teacher's likeliest tokens and one bucket for all others.
C completion tokens, K tokens of the teacher; knows nothing of models or of who teaches.
"""

from __future__ import annotations

from math import log
from typing import Literal

import torch
from torch import Tensor

Divergence = Literal["reverse_kl", "forward_kl"] | float

LARGEST_LOG_MASS = -1e-7
"""Bound of the log of the K tokens' probability: their sum may round to 1, the rest is a log."""


def with_tail(logprobs: Tensor) -> Tensor:
    """[C, K] log-probs of distinct tokens -> [C, K + 1], the last of all other tokens together.

    A divergence between two such coarsened distributions never exceeds that between the
    whole ones (data processing), and equals it when K is the vocabulary.
    """
    mass = logprobs.logsumexp(-1, keepdim=True).clamp(max=LARGEST_LOG_MASS)
    return torch.cat([logprobs, torch.log(-torch.expm1(mass))], dim=-1)


def divergence_of(student: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
    """[C]: divergence between distributions [C, V] given as log-probs; `student` has the gradient.

        reverse_kl  sum S (log S - log T)        forward_kl  sum T (log T - log S)
        beta        beta KL(T || M) + (1 - beta) KL(S || M),   M = beta T + (1 - beta) S

    Source: GKD (arXiv 2306.13649), equations 1 to 3.
    """
    if divergence == "reverse_kl":
        return _kl(student, teacher)
    if divergence == "forward_kl":
        return _kl(teacher, student)
    beta = float(divergence)
    mixture = torch.logaddexp(teacher + log(beta), student + log(1 - beta))
    return beta * _kl(teacher, mixture) + (1 - beta) * _kl(student, mixture)


def _kl(first: Tensor, second: Tensor) -> Tensor:
    return (first.exp() * (first - second)).sum(-1)


def top_k_divergence(
    student: Tensor, teacher: Tensor, divergence: Divergence, *, token_clip: float | None = None
) -> Tensor:
    """[C]: divergence on the teacher's K likeliest tokens and a bucket for all others.

    `student` and `teacher` are [C, K] log-probs of the same tokens. A token's divergence
    counts up to `token_clip`; beyond it has no gradient, so that a few tokens of style do
    not drown the others. Source of the clip: OPSD (arXiv 2601.18734); of the bucket: SDPO
    (arXiv 2601.20802).
    """
    found = divergence_of(with_tail(student), with_tail(teacher), divergence)
    return found if token_clip is None else found.clamp(max=token_clip)


def sampled_reverse_kl(
    log_ratios: Tensor, old_logprobs: Tensor, teacher: Tensor, *, token_clip: float | None = None
) -> Tensor:
    """[C]: reverse KL from the sampled token alone, as a policy gradient with a token's reward.

        r_t * detach(log S(y_t) - log T(y_t)),   r_t = exp(log_ratios)

    Over y ~ S its gradient is that of KL(S || T) at that token; the difference counts up to
    +-token_clip. All arguments [C], `log_ratios` has the gradient. Source: "On-Policy
    Distillation", Thinking Machines Lab, 2025.
    """
    gap = (old_logprobs - teacher).detach()
    if token_clip is not None:
        gap = gap.clamp(-token_clip, token_clip)
    return torch.exp(log_ratios) * gap
