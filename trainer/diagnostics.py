"""Diagnostics: what a step did to its tokens, as sums that become means.

Sums add up over microbatches and over workers, so the means are those of the whole step.
Knows the recipes' outcomes, not how the learner got them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from trainer.algorithms import Outcome, Tokens
from trainer.losses import k3
from trainer.ranks import reduced

NAMES: tuple[str, ...] = (
    "loss",
    "tokens",
    "entropy",
    "mismatch",
    "capped",
    "weight",
    "low",
    "high",
    "at_clip",
    "evidence_rewarded",
    "rewarded",
    "evidence_blamed",
    "blamed",
    "credit",
    "advantage",
    "divergence",
    "taught",
    "kl_start",
    "started",
)


@dataclass(slots=True)
class Sums:
    """Sums over completion tokens, by name."""

    values: dict[str, float] = field(default_factory=lambda: dict.fromkeys(NAMES, 0.0))

    def add(self, name: str, values: Tensor) -> None:
        """Add the sum of `values` under `name`."""
        self.values[name] += values.sum().item()

    def count(
        self,
        tokens: Tokens,
        made: Outcome,
        *,
        entropies: Tensor,
        engine_logprobs: Tensor,
        importance_cap: float,
    ) -> None:
        """Add the tokens of a microbatch; all arguments are over the same tokens."""
        self.values["loss"] += made.loss.item()
        self.values["tokens"] += len(tokens.old)
        self.add("entropy", entropies)
        self.add("mismatch", (tokens.old - engine_logprobs).abs())
        self.add("capped", tokens.importance >= importance_cap)
        self.add("weight", made.factors)
        self.add("credit", (tokens.advantages * made.factors).abs())
        self.add("advantage", tokens.advantages.abs())
        self.add("taught", tokens.taught)
        if made.low is not None and made.high is not None:
            self.add("low", made.low)
            self.add("high", made.high)
        if made.evidence is not None and made.at_clip is not None:
            rewarded, blamed = tokens.advantages > 0, tokens.advantages < 0
            self.add("evidence_rewarded", made.evidence[rewarded])
            self.add("evidence_blamed", made.evidence[blamed])
            self.add("rewarded", rewarded)
            self.add("blamed", blamed)
            self.add("at_clip", made.at_clip & (rewarded | blamed))
        if made.divergence is not None:
            self.add("divergence", made.divergence)

    def anchor(self, student: Tensor, start: Tensor) -> None:
        """Add tokens whose log-probs are known under the policy and under its first weights."""
        self.add("kl_start", k3(student, start))
        self.values["started"] += len(student)

    def means(self, updates: int) -> dict[str, float]:
        """The metrics of the step, of all workers together. What was not measured is left out.

        loss                  of an update
        entropy               nats                       engine_mismatch  |learner - engine|, nats
        importance_cap_share  of tokens                  clip_low_share, clip_high_share, clip_share
        weight_mean           mean token weight          effective_step   sum |credit| / sum |A|
        weight_clip_share     tokens whose evidence reached the clip, of those with A != 0
        evidence_rewarded, evidence_blamed   mean evidence where A > 0 and where A < 0, nats
        divergence            from the teacher, over the tokens it has a context for, nats
        kl_start              KL(policy || first weights), nats, of a sample of completions
        learned_tokens        completion tokens that went through the model
        """
        all_ranks = reduced(np.array([self.values[name] for name in NAMES])).tolist()
        s = dict(zip(NAMES, all_ranks, strict=True))
        found = {"loss": s["loss"] / updates, "learned_tokens": s["tokens"]}

        def mean(name: str, total: str, count: str = "tokens") -> None:
            if s[count] > 0:
                found[name] = s[total] / s[count]

        mean("entropy", "entropy")
        mean("engine_mismatch", "mismatch")
        mean("importance_cap_share", "capped")
        mean("clip_low_share", "low")
        mean("clip_high_share", "high")
        found["clip_share"] = found.get("clip_low_share", 0.0) + found.get("clip_high_share", 0.0)
        mean("weight_mean", "weight")
        mean("effective_step", "credit", "advantage")
        mean("evidence_rewarded", "evidence_rewarded", "rewarded")
        mean("evidence_blamed", "evidence_blamed", "blamed")
        if s["rewarded"] + s["blamed"] > 0:
            found["weight_clip_share"] = s["at_clip"] / (s["rewarded"] + s["blamed"])
        if s["divergence"] != 0:
            mean("divergence", "divergence", "taught")
        mean("kl_start", "kl_start", "started")
        return found
