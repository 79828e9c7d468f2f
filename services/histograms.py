"""Histograms of a step, and numbers by label, among the plain numbers that are its metrics.

A metric called `name/label` is one value of the mapping `name`: tiers answer with flat numbers,
events and Prometheus have the mapping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

REWARD_BOUNDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
CREDIT_BOUNDS = (-4.0, -2.0, -1.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 4.0)


def counted(values: ArrayLike, bounds: Sequence[float]) -> dict[str, float]:
    """How many of the finite values lie in each bucket, by its upper bound, and their `sum`.

    The last bucket, `+Inf`, has what lies above all bounds.
    """
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    names = [*(f"{bound:g}" for bound in bounds), "+Inf"]
    counts = np.bincount(np.searchsorted(bounds, found), minlength=len(names))
    return {**dict(zip(names, counts.tolist(), strict=True)), "sum": float(found.sum())}


def flat(name: str, mapping: Mapping[str, float]) -> dict[str, float]:
    """The mapping as metrics of a step."""
    return {f"{name}/{label}": value for label, value in mapping.items()}


def nested(metrics: Mapping[str, float]) -> dict[str, float | dict[str, float]]:
    """A step's metrics with the mappings put together again."""
    found: dict[str, float | dict[str, float]] = {}
    for metric, value in metrics.items():
        name, slash, label = metric.partition("/")
        if not slash:
            found[name] = value
            continue
        mapping = found.setdefault(name, {})
        assert isinstance(mapping, dict), f"{name} is a number and a mapping"
        mapping[label] = value
    return found
