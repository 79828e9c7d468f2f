"""Credit assignment: how much each sampled token is reinforced or blamed.

The verifier decides the direction (the sign of the advantage); evidence from a privileged
teacher only redistributes the magnitude along the completion. Pure functions on tensors;
knows nothing of models, actors or text.
"""

from __future__ import annotations

import torch
from torch import Tensor

STD_EPSILON = 1e-6
"""Added to a group's standard deviation before dividing by it (the field's usual value)."""


def group_advantages(
    scores: Tensor,
    valid: Tensor | None = None,
    *,
    normalize_std: bool = True,
) -> Tensor:
    """Advantage of each completion over the mean of its group.

    `scores` is [..., G], one group in each row; `valid` is bool[..., G], False for
    completions without a verdict, which count in neither mean nor deviation and get 0.
    A group whose valid scores are all equal, or that has fewer than two, gets exactly 0:
    a group without contrast teaches nothing. The deviation is the sample's (n - 1).

        A_i = (r_i - mean(r)) / (std(r) + 1e-6),  or  r_i - mean(r) without `normalize_std`

    Source: GRPO (arXiv 2402.03300), equation 3; without the deviation, Dr. GRPO
    (arXiv 2503.20783).
    """
    keep = torch.ones_like(scores, dtype=torch.bool) if valid is None else valid.bool()
    count = keep.sum(-1, keepdim=True)
    known = torch.where(keep, scores, torch.zeros_like(scores))
    mean = known.sum(-1, keepdim=True) / count.clamp(min=1)
    centred = torch.where(keep, scores - mean, torch.zeros_like(scores))
    highest = torch.where(keep, scores, -torch.inf).amax(-1, keepdim=True)
    lowest = torch.where(keep, scores, torch.inf).amin(-1, keepdim=True)
    # Compared, not subtracted: the mean of equal scores may be off by a rounding.
    centred = torch.where(highest > lowest, centred, torch.zeros_like(scores))
    if not normalize_std:
        return centred
    variance = centred.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)
    return centred / (variance.sqrt() + STD_EPSILON)


def overlong_penalty(lengths: Tensor, *, max_tokens: int, buffer: int) -> Tensor:
    """What a completion of each length loses of its reward, in [-1, 0]; shape of `lengths`.

        0 up to max_tokens - buffer;  then ((max_tokens - buffer) - length) / buffer;  at most -1

    Source: soft overlong punishment, DAPO (arXiv 2503.14476), equation 13.
    """
    return ((max_tokens - buffer - lengths) / buffer).clamp(-1.0, 0.0)


def reversed_evidence(advantages: Tensor, evidence: Tensor) -> Tensor:
    """Evidence that praises what the teacher would not have said, in rewarded completions.

    -evidence where A > 0, exactly 0 elsewhere: where the policy succeeds on a path of its own,
    its own tokens did the work. Shapes broadcast. Source: RLRT (arXiv 2605.10781).
    """
    return torch.where(advantages > 0, -evidence, torch.zeros_like(evidence))


def marginal_logprobs(logprobs: Tensor, known: Tensor | None = None) -> Tensor:
    """Log of the mean probability over several views: [C, K] -> [C], in nats.

        log((1 / K) * sum_k exp(logprobs_k))

    `known` bool[C, K] says which views a token has; one at least. The negative branch of
    RLCSD (arXiv 2606.11709): the mean over several wrong answers hides how each is wrong.
    """
    kept = torch.ones_like(logprobs, dtype=torch.bool) if known is None else known
    return torch.where(kept, logprobs, -torch.inf).logsumexp(-1) - kept.sum(-1).log()


def token_weights(
    advantages: Tensor,
    evidence: Tensor,
    *,
    mix: float,
    clip: float,
    negative_only: bool = False,
    span_mask: Tensor | None = None,
) -> Tensor:
    """Factor by which each token's advantage is scaled; never negative.

    `advantages`, `evidence` and `span_mask` have shapes that broadcast: [B, 1] with [B, T],
    or flat [C] with [C]. `evidence` is a difference of log-probs of the sampled token, in
    nats. The factor is exactly 1 for a zero advantage, for `mix` 0 and for evidence 0.

        w = clip(exp(sign(A) * evidence), 1 - clip, 1 + clip);   factor = 1 + mix * (w - 1)

    Outside `span_mask`, and for A > 0 with `negative_only`, the factor is 1.
    Source: Self-Distilled RLVR (arXiv 2604.03128), Algorithm 1.
    """
    weights = torch.exp(torch.sign(advantages) * evidence).clamp(1 - clip, 1 + clip)
    # The paper's (1 - mix) + mix * w, arranged so that w == 1 gives 1 in any precision.
    factors = 1 + mix * (weights - 1)
    return limited(factors, advantages, negative_only=negative_only, span_mask=span_mask)


def limited(
    factors: Tensor, advantages: Tensor, *, negative_only: bool, span_mask: Tensor | None
) -> Tensor:
    """The factors where credit may move, 1 elsewhere: A >= 0 with `negative_only`, and outside
    `span_mask`. Shapes broadcast."""
    if negative_only:
        factors = torch.where(advantages < 0, factors, torch.ones_like(factors))
    if span_mask is not None:
        factors = torch.where(span_mask.bool(), factors, torch.ones_like(factors))
    return factors


def contrastive_weights(advantages: Tensor, evidence: Tensor, *, mix: float, clip: float) -> Tensor:
    """Factor of each token when evidence is a right answer's minus a wrong answer's.

    The same equation as `token_weights`, for every token: as published it knows neither
    spans nor `negative_only`. The factor is computed in single precision and as
    (1 - mix) + mix * w, which is what the published figures were computed with.
    Source: contrastive evidence (CEPO).
    """
    signs = torch.sign(advantages).float()
    weights = torch.exp(signs * evidence.float()).clamp(1 - clip, 1 + clip)
    factors = (1 - mix) + mix * weights
    return torch.where(weights == 1, torch.ones_like(factors), factors)


def rlsd(
    advantages: Tensor,
    teacher_logprobs: Tensor,
    student_logprobs: Tensor,
    mask: Tensor,
    *,
    mix: float,
    clip: float,
    negative_only: bool = False,
    span_mask: Tensor | None = None,
    contrast_logprobs: Tensor | None = None,
) -> Tensor:
    """Token advantages [B, T] of RLSD; 0 where `mask` is 0.

    advantages         [B]     group-relative advantage of each completion
    teacher_logprobs   [B, T]  of the sampled tokens, under the privileged prompt (nats)
    student_logprobs   [B, T]  of the sampled tokens, under the policy's prompt (nats)
    mask               [B, T]  1 for completion tokens; what lies under a 0 is never read
    span_mask          [B, T]  tokens whose credit evidence may move; None for all
    contrast_logprobs  [B, T]  of the sampled tokens, under a wrong answer: evidence is then
                               teacher minus contrast, `contrastive_weights`

    Returns A * (1 + mix * (w - 1)), w = clip(exp(sign(A) * (teacher - student)), 1 ± clip).
    Source: Self-Distilled RLVR (arXiv 2604.03128), Algorithm 1.
    """
    kept = mask.bool()
    reference = student_logprobs if contrast_logprobs is None else contrast_logprobs
    # Padding may hold anything, -inf and NaN too; it must not reach the exponential.
    evidence = torch.where(kept, teacher_logprobs - reference, torch.zeros_like(reference))
    spread = advantages.unsqueeze(-1)
    if contrast_logprobs is not None:
        factors = contrastive_weights(spread, evidence, mix=mix, clip=clip)
    else:
        factors = token_weights(
            spread, evidence, mix=mix, clip=clip, negative_only=negative_only, span_mask=span_mask
        )
    credit = spread * factors
    return torch.where(kept, credit, torch.zeros_like(credit))
