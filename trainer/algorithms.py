"""Named recipes: what each `algorithm.kind` makes of the tokens of a microbatch.

A recipe is a few lines over `credit`, `losses` and `divergences`: signals of C completion
tokens in, one scalar to descend out, with what it gave to each token for diagnostics. It
knows nothing of models, packing or optimizers; the learner executes it and does not know
which one it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.algorithm_spec import (
    AlgorithmSpec,
    Distillation,
    Grpo,
    GrpoOpsd,
    Opd,
    Opsd,
    PolicyGradient,
    Rlsd,
    Sdpo,
)
from trainer.credit import contrastive_weights, limited, reversed_evidence, token_weights
from trainer.divergences import sampled_reverse_kl, top_k_divergence
from trainer.losses import Surrogate, cispo_surrogate, clipped_surrogate, k3, sequence_log_ratios
from trainer.records import Batch


class AlgorithmError(ValueError):
    """A batch that lacks what the algorithm needs."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What is known of C completion tokens; [C] and without gradient unless said otherwise.

    logprobs    of the policy now (nats); with gradient
    old         of the policy before the step
    advantages  of the token's completion
    importance  truncated importance weight against the rollout engine
    scales      weight of each token in the loss
    sequence    int64, which completion the token belongs to
    teacher     log-probs under the teacher's prompt, or None
    contrast    log-probs under a wrong answer, or None
    taught      bool, whether the teacher has a context for the completion
    lessons     weight of each token in the distillation loss; 0 where it is not taught
    span        bool, tokens whose credit evidence may move; None for all
    candidates  [C, K] log-probs of the teacher's likeliest tokens, with gradient, or None
    top         [C, K] the teacher's log-probs of the same, or None
    start       log-probs of the weights the job started from, or None
    """

    logprobs: Tensor
    old: Tensor
    advantages: Tensor
    importance: Tensor
    scales: Tensor
    sequence: Tensor
    taught: Tensor
    lessons: Tensor
    teacher: Tensor | None = None
    contrast: Tensor | None = None
    span: Tensor | None = None
    candidates: Tensor | None = None
    top: Tensor | None = None
    start: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a recipe made of the tokens; detached [C] but for the loss.

    loss        scalar, with gradient
    factors     by which each token's advantage was scaled
    evidence    log-prob difference that moved credit (nats), or None
    at_clip     bool, factors whose evidence reached the clip, or None
    low, high   bool, tokens whose policy ratio was clipped below or above, or None
    divergence  from the teacher, at each token (nats), or None
    """

    loss: Tensor
    factors: Tensor
    evidence: Tensor | None = None
    at_clip: Tensor | None = None
    low: Tensor | None = None
    high: Tensor | None = None
    divergence: Tensor | None = None


def mix_at(spec: AlgorithmSpec, step: int, steps: int | None = None) -> float:
    """Share of the credit that evidence moves at `step` (from 0) of a run of `steps`."""
    return spec.mix.at(step, steps) if isinstance(spec, Rlsd) else 0.0


def grpo(spec: PolicyGradient, tokens: Tokens) -> Outcome:
    """GRPO: credit = A for every token (arXiv 2402.03300, equation 3)."""
    factors = torch.ones_like(tokens.old)
    made = surrogate(spec, tokens, tokens.advantages * factors)
    return Outcome(made.loss, factors, low=made.low, high=made.high)


def rlsd(spec: Rlsd, tokens: Tokens, mix: float) -> Outcome:
    """RLSD: credit = A * (1 + mix * (clip(exp(sign(A) * E), 1 ± c) - 1)).

    E is teacher - student for `privileged` (arXiv 2604.03128, Algorithm 1), teacher -
    contrast for `contrastive` and `contrastive_marginal` (CEPO, arXiv 2605.19436; RLCSD, arXiv
    2606.11709), and student - teacher where A > 0 for `reversed` (RLRT, arXiv 2605.10781).
    A completion without context has no evidence: its credit is A.
    """
    student = tokens.old
    teacher = student if tokens.teacher is None else tokens.teacher
    wrong = tokens.contrast if spec.contrasts else None
    against = student if wrong is None else wrong
    advantages, limits = tokens.advantages, spec.negative_only
    evidence = torch.where(tokens.taught, teacher - against, torch.zeros_like(student))
    if spec.evidence == "reversed":
        evidence = reversed_evidence(advantages, evidence)
    if spec.contrasts:
        factors = contrastive_weights(advantages, evidence, mix=mix, clip=spec.token_clip)
        factors = limited(
            factors.to(student.dtype), advantages, negative_only=limits, span_mask=tokens.span
        )
    else:
        factors = token_weights(
            advantages,
            evidence,
            mix=mix,
            clip=spec.token_clip,
            negative_only=limits,
            span_mask=tokens.span,
        )
    weights = torch.exp(torch.sign(advantages) * evidence)
    at_clip = (weights - 1).abs() >= spec.token_clip
    made = surrogate(spec, tokens, advantages * factors)
    return Outcome(made.loss, factors, evidence, at_clip, made.low, made.high)


def opd(spec: Opd | Opsd | Sdpo | GrpoOpsd, tokens: Tokens) -> Outcome:
    """Distillation on the policy's own samples: the divergence from whoever teaches.

    An external teacher in `opd` (arXiv 2306.13649), the policy with privileged context in
    `opsd` (arXiv 2601.18734), with a sibling or feedback in `sdpo` (arXiv 2601.20802).
    Completions without context are left out.
    """
    if tokens.candidates is not None and tokens.top is not None:
        found = top_k_divergence(
            tokens.candidates, tokens.top, spec.divergence, token_clip=spec.token_clip
        )
    else:
        teacher = tokens.old if tokens.teacher is None else tokens.teacher
        found = sampled_reverse_kl(
            tokens.logprobs - tokens.old, tokens.old, teacher, token_clip=spec.token_clip
        )
    found = torch.where(tokens.taught, found, torch.zeros_like(found))
    loss = (tokens.lessons * tokens.importance * found).sum()
    return Outcome(loss, torch.ones_like(tokens.old), divergence=found.detach())


def grpo_opsd(spec: GrpoOpsd, tokens: Tokens) -> Outcome:
    """(1 - alpha) * GRPO + alpha * OPSD, the blend of arXiv 2604.03128's comparisons."""
    rewarded, distilled = grpo(spec, tokens), opd(spec, tokens)
    loss = (1 - spec.alpha) * rewarded.loss + spec.alpha * distilled.loss
    return replace(rewarded, loss=loss, divergence=distilled.divergence)


def run(spec: AlgorithmSpec, tokens: Tokens, mix: float) -> Outcome:
    """The recipe that `spec.kind` names, plus `kl` times KL(policy || start)."""
    if isinstance(spec, Rlsd):
        made = rlsd(spec, tokens, mix)
    elif isinstance(spec, Grpo):
        made = grpo(spec, tokens)
    elif isinstance(spec, GrpoOpsd):
        made = grpo_opsd(spec, tokens)
    else:
        made = opd(spec, tokens)
    if spec.kl == 0 or tokens.start is None:
        return made
    penalty = (tokens.scales * k3(tokens.logprobs, tokens.start)).sum()
    return replace(made, loss=made.loss + spec.kl * penalty)


def surrogate(spec: PolicyGradient, tokens: Tokens, credit: Tensor) -> Surrogate:
    """The policy-gradient surrogate of `credit` [C] that `spec.ratio` names."""
    log_ratios = tokens.logprobs - tokens.old
    weights = tokens.scales * tokens.importance
    low, high = spec.clip
    if spec.ratio == "cispo":
        return cispo_surrogate(
            tokens.logprobs, log_ratios, credit, weights, clip_low=low, clip_high=high
        )
    if spec.ratio == "sequence":
        log_ratios = sequence_log_ratios(log_ratios, tokens.sequence)
    return clipped_surrogate(
        log_ratios, credit, weights, clip_low=low, clip_high=high, dual_clip=spec.dual_clip
    )


def require(spec: AlgorithmSpec, batch: Batch) -> None:
    """Raise AlgorithmError unless the batch has what the algorithm reads, naming what it lacks.

    Of a batch in which no completion has a context, nothing of the teacher's is read.
    """
    if not batch.is_taught.any():
        return
    needed: list[str] = []
    if isinstance(spec, Rlsd):
        needed = ["teacher_logprobs", *(["contrast_logprobs"] if spec.contrasts else [])]
    elif isinstance(spec, Distillation):
        needed = ["top_ids", "top_logprobs"] if spec.top_k else ["teacher_logprobs"]
    lacking = [name for name in needed if getattr(batch, name) is None]
    if lacking:
        raise AlgorithmError(
            f"algorithm.kind {spec.kind} reads {' and '.join(lacking)}, which the batch does not "
            "have: score it with a teacher first"
        )


def with_gradient(
    spec: AlgorithmSpec, advantages: NDArray[np.float32], taught: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """bool[S]: the sequences that can move the policy.

    Without a KL penalty, one whose advantage is 0 has a policy gradient of exactly 0, and one
    that is not taught has nothing to distil: their passes may be left out.
    """
    moved = np.full(len(advantages), spec.kl > 0)
    if isinstance(spec, PolicyGradient):
        moved |= advantages != 0
    if isinstance(spec, Distillation):
        moved |= taught
    return moved
