"""How sure a measured accuracy, or a gain in accuracy, is.

Pure functions on counts and outcomes; knows nothing of jobs. All intervals are at 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, sqrt
from typing import TypedDict

import numpy as np

Z95 = 1.959963984540054
RESAMPLES = 10_000
_CHUNK = 2**22


class Difference(TypedDict):
    """`difference` = mean(after) - mean(before), its interval, and the number of pairs."""

    difference: float
    low: float
    high: float
    n: int


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson score interval of a proportion; [0, 1] when nothing was observed.

    Source: Wilson (1927), JASA 22. Unlike the normal interval it stays inside [0, 1] and is
    honest near the ends. Raises ValueError unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = share + Z95**2 / (2 * n)
    half = Z95 * sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    scale = 1 + Z95**2 / n
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return low, high


def paired_difference(
    before: Sequence[float], after: Sequence[float], *, seed: int = 0
) -> Difference:
    """Gain of the mean on the same tasks, with the percentile interval of a paired bootstrap.

    Tasks are resampled, so that a task's difficulty cancels and only what changed counts;
    outcomes may be 0 or 1, or a task's mean over several samples. `seed` fixes the
    resampling. Raises ValueError without pairs, or when the lengths differ.
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} outcomes before, {len(after)} after: not the same tasks")
    if not before:
        raise ValueError("no outcomes to compare")
    changes = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // len(changes))
    means = np.concatenate(
        [
            changes[
                rng.integers(len(changes), size=(min(rows, RESAMPLES - done), len(changes)))
            ].mean(axis=1)
            for done in range(0, RESAMPLES, rows)
        ]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(
        difference=float(changes.mean()), low=float(low), high=float(high), n=len(changes)
    )


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Chance that one of `k` completions is correct, when `correct` of `n` were: unbiased.

    1 - C(n - correct, k) / C(n, k). Source: Chen et al. (2021), arXiv 2107.03374, equation 1.
    Raises ValueError unless 0 <= correct <= n and 1 <= k <= n.
    """
    if not (0 <= correct <= n and 1 <= k <= n):
        raise ValueError(f"{correct} correct of {n} completions, {k} drawn")
    return 1.0 - comb(n - correct, k) / comb(n, k)


def unpaired_difference(before: tuple[int, int], after: tuple[int, int]) -> Difference:
    """Gain between two proportions, each given as (successes, n), as if of different tasks.

    For want of the pairs; wider than `paired_difference` where the tasks are the same.
    `n` is the smaller sample. Source: Newcombe (1998), Statistics in Medicine 17, method 10.
    """
    (low1, high1), (low2, high2) = wilson(*before), wilson(*after)
    p1, p2 = before[0] / before[1], after[0] / after[1]
    return Difference(
        difference=p2 - p1,
        low=p2 - p1 - sqrt((p2 - low2) ** 2 + (high1 - p1) ** 2),
        high=p2 - p1 + sqrt((high2 - p2) ** 2 + (p1 - low1) ** 2),
        n=min(before[1], after[1]),
    )
