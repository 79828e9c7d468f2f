"""A probe in numbers: what a sample of the tasks says about a run that has not begun.

In: judged groups with and without the privileged context, log-probs of both views, seconds.
Out: plain JSON data. Pure arithmetic; how it was measured is services/probe.py's concern.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.config import JobSpec
from services.statistics import paired_difference, pass_at_k, wilson
from trainer.algorithm_spec import Rlsd
from trainer.leakage import measure
from trainer.records import Group

Numbers = dict[str, Any]

TOKEN_MATTERS = 0.01
"""Nats of evidence from which a token counts as moved: a weight of 1.01."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a probe saw.

    `groups` are the policy's own (their advantages are not read); `hinted` those that it sampled under the teacher's prompt,
    for the tasks that have one. `evidence` has float32[T], log p_teacher - log p_student, for
    each rollout of each group (None where there is none). `seconds` by phase.
    """

    groups: Sequence[Group]
    hinted: Sequence[Group]
    evidence: Sequence[Sequence[NDArray[np.float32] | None]]
    seconds: Mapping[str, float]


def digest(job: JobSpec, sample: Sample, *, holdout: int) -> Numbers:
    """Everything measured, under the names that `strop probe --json` prints."""
    statuses = Counter(v.status for group in sample.groups for v in group.verdicts)
    completions = sum(statuses.values())
    judged = completions - statuses["infra_error"]
    correct = statuses["correct"]
    rollouts = [r for group in sample.groups for r in group.rollouts]
    low, high = wilson(correct, judged)
    flat = [group for group in sample.groups if not _has_contrast(group)]
    scores = Counter(s for group in sample.groups for s in _scores(group))
    patterns = job.leakage.patterns
    return {
        "tasks": len(sample.groups),
        "completions": completions,
        "pass_rate": correct / judged if judged else None,
        "pass_rate_interval": [low, high],
        "pass_at_k": _pass_at_k(sample.groups),
        "reward_mean": _mean([s for group in sample.groups for s in _scores(group)]),
        "reward_values": len(scores),
        "contrast_share": 1 - len(flat) / len(sample.groups),
        "groups_without_contrast": [group.task.id for group in flat],
        "hinted": _hinted(sample),
        "evidence": _evidence(job, sample),
        "leaks": {
            "unhinted": measure(sample.groups, patterns).told(),
            "hinted": measure(sample.hinted, patterns).told() if sample.hinted else None,
        },
        "verifier": {status: count / completions for status, count in sorted(statuses.items())},
        "truncated_share": _mean([r.finish_reason == "length" for r in rollouts]),
        "tokens": _tokens(job, sample),
        "seconds": dict(sample.seconds),
        "estimate": _estimate(job, sample, holdout),
    }


def _has_contrast(group: Group) -> bool:
    return len(set(_scores(group))) > 1


def _scores(group: Group) -> list[float]:
    return [verdict.score for verdict in group.verdicts if verdict.score is not None]


def _signs(group: Group) -> list[float]:
    """Sign of each completion's advantage over the mean of its group; 0 without a verdict."""
    scores = _scores(group)
    if len(set(scores)) < 2:
        return [0.0] * len(group.verdicts)
    mean = statistics.fmean(scores)
    return [0.0 if v.score is None else float(np.sign(v.score - mean)) for v in group.verdicts]


def _correct(group: Group) -> tuple[int, int]:
    """Correct and judged completions of a group."""
    statuses = [v.status for v in group.verdicts if v.status != "infra_error"]
    return statuses.count("correct"), len(statuses)


def _pass_at_k(groups: Sequence[Group]) -> dict[str, float]:
    """By k, over the tasks with at least k judged completions: powers of two, and all."""
    counts = [_correct(group) for group in groups]
    most = max((n for _, n in counts), default=0)
    ks = sorted({k for k in (2**i for i in range(most.bit_length())) if k <= most} | {most} - {0})
    return {
        str(k): statistics.fmean(pass_at_k(n, correct, k) for correct, n in counts if n >= k)
        for k in ks
    }


def _hinted(sample: Sample) -> Numbers | None:
    """Pass rate with the privileged context, and the gap to the one without on the same tasks."""
    rates = {group.task.id: c / n for group in sample.groups for c, n in [_correct(group)] if n}
    with_hint = {group.task.id: c / n for group in sample.hinted for c, n in [_correct(group)] if n}
    both = [task_id for task_id in with_hint if task_id in rates]
    if not both:
        return None
    gap = paired_difference([rates[t] for t in both], [with_hint[t] for t in both])
    return {
        "tasks": len(both),
        "pass_rate": statistics.fmean(with_hint[t] for t in both),
        "gap": dict(gap),
    }


def _evidence(job: JobSpec, sample: Sample) -> Numbers | None:
    """Size, concentration and direction of the evidence D over the completion tokens (nats), and
    the weights that RLSD makes of it."""
    seen = [
        (delta, verdict.status == "correct", sign)
        for group, deltas in zip(sample.groups, sample.evidence, strict=True)
        for verdict, sign, delta in zip(group.verdicts, _signs(group), deltas, strict=True)
        if delta is not None
    ]
    if not seen:
        return None
    size = np.abs(np.concatenate([delta for delta, _, _ in seen]))
    rlsd = job.algorithm if isinstance(job.algorithm, Rlsd) else Rlsd()
    clip = rlsd.token_clip
    moved = [np.exp(sign * delta) for delta, _, sign in seen if sign]
    raw = np.concatenate(moved or [np.zeros(0, np.float32)])
    weights = np.clip(raw, 1 - clip, 1 + clip)
    return {
        "sequences": len(seen),
        "tokens": len(size),
        "mean_abs": float(size.mean()),
        "quantiles_abs": {q: float(np.quantile(size, float(q))) for q in ("0.5", "0.9", "0.99")},
        "tokens_moved": float((size > TOKEN_MATTERS).mean()),
        "half_of_it_on": _half(size),
        "mean_correct": _mean([float(d.mean()) for d, correct, _ in seen if correct]),
        "mean_wrong": _mean([float(d.mean()) for d, correct, _ in seen if not correct]),
        "agreement": _agreement(sample),
        "weight_mean": float(weights.mean()) if len(weights) else None,
        "weight_spread": float(np.abs(weights - 1).mean()) if len(weights) else None,
        "clipped_share": float((weights != raw).mean()) if len(raw) else None,
    }


def _half(size: NDArray[np.float32]) -> float:
    """Smallest share of the tokens that holds half of all |D|; 0.5 when it is spread evenly."""
    if not size.any():
        return 0.5
    held = np.cumsum(np.sort(size)[::-1], dtype=np.float64)
    return float((np.searchsorted(held, held[-1] / 2) + 1) / len(size))


def _agreement(sample: Sample) -> float | None:
    """Share of (correct, wrong) pairs of one group in which the correct one has the higher mean
    evidence; 0.5 by chance, None without such pairs."""
    wins: list[float] = []
    for group, deltas in zip(sample.groups, sample.evidence, strict=True):
        judged = [
            (verdict.status == "correct", float(delta.mean()))
            for verdict, delta in zip(group.verdicts, deltas, strict=True)
            if delta is not None
        ]
        right = [mean for correct, mean in judged if correct]
        wrong = [mean for correct, mean in judged if not correct]
        wins += [(r > w) + 0.5 * (r == w) for r in right for w in wrong]
    return _mean(wins)


def _tokens(job: JobSpec, sample: Sample) -> Numbers:
    completions = [len(r.completion_ids) for group in sample.groups for r in group.rollouts]
    prompts = [len(group.rollouts[0].prompt_ids) for group in sample.groups]
    hinted = [len(group.rollouts[0].prompt_ids) for group in sample.hinted]
    step = job.sampling.groups_per_step * job.sampling.group_size
    mean = statistics.fmean(completions)
    return {
        "prompt_mean": statistics.fmean(prompts),
        "teacher_prompt_mean": _mean(hinted),
        "completion_mean": mean,
        "completion_max": max(completions),
        "completion_per_step": mean * step,
        "completion_per_run": mean * step * job.steps,
    }


def _estimate(job: JobSpec, sample: Sample, holdout: int) -> Numbers:
    """Seconds of a step and of the run, in proportion to the groups; the sample pays for warming up.

    Phases overlap when staleness is allowed: then the slower side sets the pace.
    """
    share = job.sampling.groups_per_step / len(sample.groups)
    seconds = {name: value * share for name, value in sample.seconds.items()}
    seconds["publish"] = sample.seconds.get("publish", 0.0)  # the same for any batch
    sampling = seconds.get("rollout", 0.0) + seconds.get("verify", 0.0)
    learning = seconds.get("score", 0.0) + seconds.get("learn", 0.0)
    overlapped = job.sampling.max_staleness > 0
    step = (max if overlapped else _sum)(sampling, learning) + seconds["publish"]
    a_completion = (sample.seconds.get("rollout", 0.0) + sample.seconds.get("verify", 0.0)) / sum(
        len(group.rollouts) for group in sample.groups
    )
    every = job.evaluation.every
    evaluations = 1 + (-(-job.steps // every) if every else 1)
    evaluating = a_completion * holdout * job.evaluation.samples * evaluations
    return {
        "step_seconds": step,
        "evaluation_seconds": evaluating,
        "run_seconds": step * job.steps + evaluating,
        "teacher_share": seconds.get("score", 0.0) / step if step else 0.0,
    }


def _sum(a: float, b: float) -> float:
    return a + b


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
