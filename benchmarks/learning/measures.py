"""What is measured of a policy and of the credit it was given. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import comb

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning.puzzles import Puzzle, first_error, judge
from trainer.records import Group, Rollout


def pass_at_k(right: int, n: int, k: int) -> float:
    """Unbiased estimate of the chance that one of k completions is right, from `right` of n.

    Source: Chen et al. 2021 (arXiv 2107.03374), equation 1.
    """
    return 1.0 - comb(n - right, k) / comb(n, k)


def leak_rates(puzzles: Sequence[Puzzle], rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Shares of completions that give away what only the teacher may know.

    refers      names the hint it was never given
    unworked    answers before any work
    unfaithful  is right with a wrong step before it
    """
    refers = unworked = unfaithful = 0
    for puzzle, rollout in zip(puzzles, rollouts, strict=True):
        words = rollout.text.split()
        refers += "hint" in words
        unworked += words[:1] == ["answer"]
        right = judge(puzzle, rollout.text).status == "correct"
        unfaithful += right and first_error(puzzle, words) is not None
    count = max(1, len(rollouts))
    return {
        "refers": refers / count,
        "unworked": unworked / count,
        "unfaithful": unfaithful / count,
    }


def error_auc(
    groups: Sequence[Group],
    puzzles: Sequence[Puzzle],
    factors: NDArray[np.float32],
    lengths: Sequence[int],
) -> float | None:
    """How well credit finds the first wrong token: the chance that it gets more blame than
    another token of its completion (ties half), averaged over wrong completions.

    `factors` float32[C] scale the advantage, completions head to tail with these `lengths`;
    0.5 is what uniform credit gets. None without a wrong completion that has a contrast.
    """
    scores: list[float] = []
    bounds = [0, *np.cumsum(lengths).tolist()]
    runs = iter(pairwise(bounds))
    for group, puzzle in zip(groups, puzzles, strict=True):
        for rollout, advantage in zip(group.rollouts, group.advantages, strict=True):
            first, last = next(runs)
            wrong = first_error(puzzle, rollout.text.split())
            if advantage >= 0 or wrong is None or wrong >= last - first or last - first < 2:
                continue
            own = factors[first:last]
            others = np.delete(own, wrong)
            scores.append(float(((own[wrong] > others) + 0.5 * (own[wrong] == others)).mean()))
    return float(np.mean(scores)) if scores else None
