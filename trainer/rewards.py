"""From verdicts to advantages: what the verifier's scores say of each completion of a group.

The one place where scores become rewards (length may cost some) and rewards advantages, for
the learner and for the teacher, who must agree on which completions teach anything. Knows
nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from trainer.algorithm_spec import AlgorithmSpec, PolicyGradient
from trainer.credit import group_advantages, overlong_penalty
from trainer.records import Group, Rollout, Task
from verifiers.verdict import Verdict


def judged_group(
    task: Task,
    rollouts: Sequence[Rollout],
    verdicts: Sequence[Verdict],
    algorithm: AlgorithmSpec,
    max_tokens: int,
) -> Group:
    """The group with its advantages, float32[G]; 0 for a rollout without a verdict.

    `max_tokens` is the longest completion that sampling allows.
    """
    scores = torch.tensor([verdict.score or 0.0 for verdict in verdicts])
    known = torch.tensor([verdict.score is not None for verdict in verdicts])
    normalize = True
    if isinstance(algorithm, PolicyGradient):
        normalize = algorithm.normalize_std
        if algorithm.overlong_buffer:
            lengths = torch.tensor([len(rollout.completion_ids) for rollout in rollouts])
            scores = scores + overlong_penalty(
                lengths, max_tokens=max_tokens, buffer=algorithm.overlong_buffer
            )
    advantages = group_advantages(scores, known, normalize_std=normalize)
    return Group(task, tuple(rollouts), tuple(verdicts), advantages.numpy())
