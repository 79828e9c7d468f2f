"""One actor of the verifier tier: a pool of judging processes.

In: a verifier spec and references to rollouts. Out: verdicts, which stay in the object
store, and their scores and statuses, which are small. Knows nothing of jobs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from services.verdict_counts import VerdictCounts
from trainer.records import Rollout
from verifiers.pool import WorkerPool
from verifiers.spec import AnySpec, parse_spec
from verifiers.verdict import Verdict

Summary = list[tuple[float | None, str]]
Judgement = tuple[tuple[Verdict, ...], Summary]


@dataclass(frozen=True, slots=True)
class Observed:
    """A pool's sign of life: what it counted since the last one, the workers that judge at this
    moment, and where it lives."""

    counts: dict[str, float]
    busy: int
    pid: int
    node: str


class VerifierPool:
    """One pool of verifier workers; groups are judged side by side."""

    def __init__(
        self, workers: int, deadline_s: float = 10.0, databases: Sequence[str] = ()
    ) -> None:
        """`deadline_s` is for callers that name none, in wall seconds of one verdict;
        `databases` are the folders whose files specs may name."""
        self._pool = WorkerPool(workers, deadline_s=deadline_s, databases=databases)
        self._counts = VerdictCounts()
        self._replaced = 0
        self._stopped = asyncio.Event()

    async def ready(self) -> list[int]:
        """Answers once the workers are up, with their process ids."""
        return self._pool.pids

    async def judge(
        self, spec: Mapping[str, Any], rollouts: Sequence[Rollout], deadline_s: float | None = None
    ) -> Judgement:
        """Judge the completions of one task; (score, status) of each in the same order.

        Returns the verdicts and their summary as two values: called with `num_returns=2`,
        the verdicts never leave the object store. Raises SpecError, and PoolError when the
        pool cannot serve any more.
        """
        parsed = parse_spec(spec)
        return _summarised(await self._judged(parsed, rollouts, deadline_s))

    async def judge_again(
        self,
        spec: Mapping[str, Any],
        rollouts: Sequence[Rollout],
        verdicts: Sequence[Verdict],
        deadline_s: float | None = None,
    ) -> Judgement:
        """`judge`, but only what another pool failed to judge; the other verdicts stand."""
        failed = [i for i, verdict in enumerate(verdicts) if verdict.status == "infra_error"]
        again = await self._judged(parse_spec(spec), [rollouts[i] for i in failed], deadline_s)
        mended = dict(zip(failed, again, strict=True))
        return _summarised([mended.get(i, verdict) for i, verdict in enumerate(verdicts)])

    async def _judged(
        self, spec: AnySpec, rollouts: Sequence[Rollout], deadline_s: float | None
    ) -> list[Verdict]:
        verdicts = await self._pool.judge_many_async(
            [(spec, rollout.text) for rollout in rollouts], deadline_s
        )
        self._counts.add(spec.kind, verdicts)
        return verdicts

    async def observe(self) -> Observed:
        """That it lives."""
        self._counts.replaced("worker", self._pool.replaced - self._replaced)
        self._replaced = self._pool.replaced
        node = ray.get_runtime_context().get_node_id()
        return Observed(self._counts.take(), self._pool.busy, os.getpid(), node)

    async def stopped(self) -> None:
        """Answers when `stop` is called; a caller that hears an error knows that it died."""
        await self._stopped.wait()

    async def stop(self) -> None:
        """End the worker processes."""
        await asyncio.to_thread(self._pool.close)
        self._stopped.set()


def _summarised(verdicts: Sequence[Verdict]) -> Judgement:
    return tuple(verdicts), [(verdict.score, verdict.status) for verdict in verdicts]
