"""Where the tiers go on a cluster whose nodes say by Ray labels which tiers they serve.

A node that serves a tier carries the label `strop/<tier>` with the value `true`, and a group of
nodes that an autoscaler may add is named for the tiers it serves, as in deploy/kuberay. Knows
names only; Ray finds the nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from services.config import JobSpec
from services.fit import Need, Node

Tier = Literal["rollout", "verifier", "teacher", "trainer"]
TIERS: tuple[Tier, ...] = ("rollout", "verifier", "teacher", "trainer")


def label(tier: Tier) -> dict[str, str]:
    """The label of nodes that serve this tier."""
    return {f"strop/{tier}": "true"}


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes of one kind of which an autoscaler may start up to `most`."""

    name: str
    most: int
    cpus: float
    gpus: float


def to_come(groups: Sequence[Group], alive: Mapping[str, int]) -> list[Node]:
    """The nodes that may still be started; `alive` counts those of each group that run."""
    return [
        Node(
            group.cpus,
            group.gpus,
            {
                name: value
                for tier in TIERS
                if tier in group.name.split("-")
                for name, value in label(tier).items()
            },
        )
        for group in groups
        for _ in range(group.most - alive.get(group.name, 0))
    ]


def bound(needs: Sequence[Need]) -> list[Need]:
    """The needs, each without labels bound to the nodes that serve its tier."""
    labels: dict[str, dict[str, str]] = {tier: label(tier) for tier in TIERS}
    return [replace(need, labels=need.labels or labels[need.tier]) for need in needs]


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
