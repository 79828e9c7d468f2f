"""Where the tiers go on a cluster whose nodes say by Ray labels which tiers they serve.

A node that serves a tier carries the label `strop/<tier>` with the value `true`, as the worker
groups of deploy/kuberay do. Knows names only; Ray finds the nodes.
"""

from __future__ import annotations

from typing import Literal

from services.config import JobSpec

Tier = Literal["rollout", "verifier", "teacher", "trainer"]
TIERS: tuple[Tier, ...] = ("rollout", "verifier", "teacher", "trainer")


def label(tier: Tier) -> dict[str, str]:
    """The label of nodes that serve this tier."""
    return {f"strop/{tier}": "true"}


def placed(job: JobSpec) -> JobSpec:
    """The same job, each tier that names no labels bound to the nodes that serve it."""
    tiers = job.tiers
    specs = {
        "rollout": tiers.rollout,
        "verifier": tiers.verifier,
        "teacher": tiers.teacher,
        "trainer": tiers.trainer,
    }
    bound = {
        tier: specs[tier].model_copy(update={"labels": specs[tier].labels or label(tier)})
        for tier in TIERS
    }
    return job.model_copy(update={"tiers": tiers.model_copy(update=bound)})
