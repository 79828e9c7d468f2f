"""A job's side of the verifier tier: join it, have groups judged, leave it.

A group goes to a pool in one message. What a pool could not judge for a fault of ours is
judged once more in another; a group whose pool died is judged again elsewhere. Only a group
that outlives several pools is given up, as `infra_error`, never as a score.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from time import monotonic
from typing import Any

import ray
from ray.exceptions import RayActorError

from services.health import Silence
from services.verification import Summary
from services.verifier_pools import PoolShape
from services.verifier_tier import (
    NotJoined,
    TierEnding,
    VerifierTierFailed,
    start_tier,
)
from verifiers.pool import PoolError
from verifiers.verdict import Verdict

IN_FLIGHT = 128
"""Groups that a job has waiting or judged at a time."""
ATTEMPTS = 5
BEAT_S = 2.0
_PAUSE_S = 0.1

log = logging.getLogger(__name__)

Tell = Callable[[str, Mapping[str, float], Mapping[str, float]], Awaitable[None]]
"""Told from time to time: the tier's name, what was counted, the numbers of the moment (none
when the tier has ended)."""


class SharedVerifiers:
    """One job's place in the verifier tier of its cluster."""

    def __init__(
        self,
        shape: PoolShape,
        *,
        least: int,
        most: int,
        deadline_s: float,
        job: str | None = None,
        tell: Tell | None = None,
        owner: Any = None,
    ) -> None:
        """Pools of one shape are shared by all jobs that ask for it.

        `deadline_s` are the wall seconds of one verdict; a spec may grant itself more. `owner`
        is the actor that this job dies with: its method `life` never answers.
        """
        self._shape, self._least, self._most = shape, least, most
        self._deadline_s = deadline_s
        self._job = job or f"job-{secrets.token_hex(6)}"
        self._tell = tell
        self._owner = owner
        digest = hashlib.sha256(json.dumps(asdict(shape), sort_keys=True).encode()).hexdigest()
        self.name = f"strop-verifiers-{digest[:8]}"
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._numbers = itertools.count()
        self._joining = asyncio.Lock()
        self._tier: Any = None
        self._moment: Mapping[str, float] = {}
        self._beating: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Join the tier, which is started when there is none, and wait for its pools.

        Raises VerifierTierFailed when they do not start.
        """
        await self._join()
        self._beating = asyncio.create_task(self._beat())
        await self._tier.ready.remote(self._job)

    async def judge(self, spec: Mapping[str, Any], rollouts: Any, cost: int) -> tuple[Any, Summary]:
        """Judge the rollouts of a task: a reference to the verdicts, and their summary.

        `cost` is about how many they are: what this job spends of its turn. Raises SpecError
        for a bad spec, and VerifierTierFailed.
        """
        async with self._room:
            return await self._judge(spec, rollouts, cost)

    async def _judge(
        self, spec: Mapping[str, Any], rollouts: Any, cost: int
    ) -> tuple[Any, Summary]:
        avoid: list[str] = []
        verdicts: Any = None
        summary: Summary = []
        for _ in range(ATTEMPTS):
            lease = f"{self._job}/{next(self._numbers)}"
            tier, pool, broken = self._tier, "", None
            try:
                granted = await tier.acquire.remote(self._job, lease, cost, avoid)
                if granted is None:
                    raise NotJoined(f"the verifier tier let go of job {self._job}")
                pool, actor = granted
                if verdicts is None:
                    bound, judged = actor.judge, (spec, rollouts)
                else:
                    bound, judged = actor.judge_again, (spec, rollouts, verdicts)
                fresh, answer = bound.options(num_returns=2).remote(*judged, self._deadline_s)
                summary = await answer
                again, verdicts = verdicts is not None, fresh
                if again or all(status != "infra_error" for _, status in summary):
                    return verdicts, summary
            except PoolError:
                broken = pool
            except (RayActorError, NotJoined):
                if pool:
                    broken = pool
                else:  # it was the tier that died
                    await self._join(instead_of=tier)
            finally:  # before the next request, so that a broken pool is not granted again
                tier.give_back.remote(lease, broken)
            avoid = [*avoid, pool]
        if verdicts is None:
            lost = Verdict(None, "infra_error", {"reason": "every pool that judged it died"})
            verdicts = (lost,) * len(await rollouts)
            return ray.put(verdicts), [(None, lost.status)] * len(verdicts)
        return verdicts, summary

    async def _join(self, instead_of: Any = None) -> None:
        """Join the tier, unless another caller has already, since `instead_of` was lost."""
        async with self._joining:
            if self._closed:
                raise NotJoined(f"job {self._job} has left the verifier tier")
            if self._tier is not instead_of:
                return
            deadline = monotonic() + self._shape.start_s
            while True:
                tier = start_tier(
                    self._shape, name=self.name, lifetime="detached", get_if_exists=True
                )
                try:
                    await tier.join.remote(self._job, self._least, self._most, self._owner)
                except (RayActorError, TierEnding) as error:
                    if monotonic() > deadline:
                        raise VerifierTierFailed(f"no verifier tier to join: {error}") from error
                    await asyncio.sleep(_PAUSE_S)
                else:
                    self._tier = tier
                    return

    async def _beat(self) -> None:
        """Say that the job lives. A tier that does not answer is killed: who has work for it
        hears of that, and joins another."""
        silence = Silence(self._shape.silences)
        while True:
            await asyncio.sleep(BEAT_S)
            tier = self._tier
            try:
                async with asyncio.timeout(self._shape.answer_s):
                    counts, self._moment = await tier.renew.remote(self._job)
                silence.heard()
                await self._report(counts)
            except TimeoutError:
                if silence.again():
                    log.warning("the verifier tier did not answer %d times in a row", silence.times)
                    ray.kill(tier)
                    silence.heard()
            except (RayActorError, NotJoined):
                with suppress(VerifierTierFailed):  # who has work for it will hear of it
                    await self._join(instead_of=tier)

    async def _report(self, counts: Mapping[str, float]) -> None:
        if self._tell is not None:
            try:
                await self._tell(self.name, counts, self._moment)
            except Exception:  # numbers for a graph are not worth a job
                log.warning("the verifier tier's numbers could not be stored", exc_info=True)

    async def close(self, seconds: float) -> None:
        """Leave the tier; the last job to leave ends it."""
        self._closed = True
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        tier = self._tier
        if tier is None:
            return
        try:
            async with asyncio.timeout(seconds):
                counts, ended = await tier.leave.remote(self._job)
        except (RayActorError, TimeoutError):
            return  # a tier that does not answer forgets a job that is not heard of
        if ended:
            ray.kill(tier)
            self._moment = {}
        await self._report(counts)
