"""The verifier tier: a pool of judging processes in an actor.

In: a verifier spec and references to rollouts. Out: verdicts, which stay in the object
store, and their scores and statuses, which are small. Knows nothing of jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.records import Rollout
from verifiers.pool import WorkerPool
from verifiers.spec import parse_spec
from verifiers.verdict import Verdict

Summary = list[tuple[float | None, str]]


class VerifierPool:
    """One pool of verifier workers; groups are judged side by side.

    `databases` are the folders whose files the tasks may name.
    """

    def __init__(self, workers: int, deadline_s: float, databases: Sequence[str]) -> None:
        self._pool = WorkerPool(workers, deadline_s=deadline_s, databases=databases)

    async def ready(self) -> None:
        """Answers once the workers are up."""

    async def judge(
        self, spec: Mapping[str, Any], rollouts: Sequence[Rollout]
    ) -> tuple[tuple[Verdict, ...], Summary]:
        """Judge the completions of one task; (score, status) of each in the same order.

        Returns the verdicts and their summary as two values: called with `num_returns=2`,
        the verdicts never leave the object store.
        """
        parsed = parse_spec(spec)
        items = [(parsed, rollout.text) for rollout in rollouts]
        verdicts = tuple(await self._pool.judge_many_async(items))
        return verdicts, [(verdict.score, verdict.status) for verdict in verdicts]

    async def stop(self) -> None:
        """End the worker processes."""
        await asyncio.to_thread(self._pool.close)
