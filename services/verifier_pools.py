"""One pool of the verifier tier: what its actor takes, and what is known of it from outside.

When there are more or fewer of them, and who may use one, is services/verifier_tier.py's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from services.health import Silence
from services.verification import Observed, VerifierPool


@dataclass(frozen=True, slots=True)
class PoolShape:
    """What one pool actor takes: Ray resources, node labels, environment, worker processes,
    and the folders whose databases specs may name; and how long it is waited for.

    `start_s`: seconds it may take to start. An actor of the tier, a pool or the one that keeps
    them, that does not answer within `answer_s` seconds `silences` times in a row is dead.
    """

    cpus: float
    labels: Mapping[str, str]
    env: Mapping[str, str]
    workers: int
    databases: Sequence[str] = ()
    start_s: float = 300.0
    answer_s: float = 5.0
    silences: int = 12

    def start(self) -> Any:
        """A new pool actor, on the node that has most room."""
        options: dict[str, Any] = {
            "num_cpus": self.cpus,
            "max_restarts": 0,
            "runtime_env": {"env_vars": dict(self.env)},
            "scheduling_strategy": "SPREAD",
        }
        if self.labels:
            options["label_selector"] = dict(self.labels)
        return (
            ray.remote(VerifierPool)
            .options(**options)
            .remote(self.workers, databases=tuple(self.databases))
        )


@dataclass(eq=False, slots=True)
class Pool:
    """A pool that was started; it has workers as soon as it is ready."""

    name: str
    actor: Any
    silence: Silence
    workers: int = 0
    seen: Observed | None = None
    leaving: bool = False

    @property
    def serves(self) -> bool:
        """Whether it takes work."""
        return self.workers > 0 and not self.leaving
