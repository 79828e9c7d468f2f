"""Named recipes: which credit each token gets.

A recipe takes the per-token signals of a batch and gives the factor by which each token's
advantage is scaled. The learner executes the result; it does not know which recipe made it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.credit import token_weights
from trainer.spec import Grpo, Rlsd


class AlgorithmError(ValueError):
    """A batch that lacks what the algorithm needs."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of C completion tokens when credit is assigned; all [C], detached.

    advantages  of the token's sequence         student  log-probs of the policy (nats)
    teacher     log-probs under the privileged prompt, or None
    span        bool, tokens whose credit evidence may move; None for all
    """

    advantages: Tensor
    student: Tensor
    teacher: Tensor | None = None
    span: Tensor | None = None


def mix_at(spec: Grpo | Rlsd, step: int) -> float:
    """Share of the credit that evidence redistributes at `step` (from 0): linear decay to 0."""
    if spec.kind == "grpo":
        return 0.0
    if spec.mix_decay_steps == 0:
        return spec.mix
    return spec.mix * max(0.0, 1.0 - step / spec.mix_decay_steps)


def grpo(signals: Signals) -> Tensor:
    """GRPO: credit = A, for every token (arXiv 2402.03300, equation 3)."""
    return torch.ones_like(signals.student)


def rlsd(spec: Rlsd, signals: Signals, step: int) -> Tensor:
    """RLSD: credit = A * (1 + mix * (clip(exp(sign(A) * (teacher - student)), 1 ± c) - 1)).

    Source: Self-Distilled RLVR (arXiv 2604.03128), Algorithm 1.
    """
    if signals.teacher is None:
        raise AlgorithmError(
            "algorithm.kind rlsd needs teacher log-probs and the batch has none: "
            "score it with a teacher first"
        )
    return token_weights(
        signals.advantages,
        signals.teacher - signals.student,
        mix=mix_at(spec, step),
        clip=spec.evidence_clip,
        negative_only=spec.negative_only,
        span_mask=signals.span,
    )


def credit_factors(spec: Grpo | Rlsd, signals: Signals, step: int) -> Tensor:
    """[C]: factor of each token's advantage by the recipe that `spec.kind` names."""
    if spec.kind == "grpo":
        return grpo(signals)
    return rlsd(spec, signals, step)
