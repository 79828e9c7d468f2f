"""The verifier tier of a cluster: an actor that keeps the pools which all jobs share.

Jobs join and leave, and say from time to time that they live. In between they lease pools:
the work itself goes from a job straight to the pool, so this actor sees numbers only. It
starts pools, replaces those that die or do not answer, and has more or fewer of them as the
load asks; a worker that stands still is its pool's to end, at its verdict's deadline. It ends,
and every pool with it, when the last job has left or has not been heard of.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from time import monotonic
from typing import Any

import ray
from ray.exceptions import RayError

from services.autoscaling import Autoscaler, Bounds, Load
from services.health import Silence
from services.leases import Leases
from services.stack_dump import stacks
from services.verdict_counts import VerdictCounts
from services.verifier_pools import Pool, PoolShape

NAMESPACE = "strop"
LIFE_S = 60.0
"""A job that has not been heard of for so long is gone."""
TICK_S = 1.0
STOP_S = 20.0
AHEAD = 16
"""Completions that a pool has in hand for each of its workers: none waits for the next message."""
MAX_FAILED_STARTS = 3
CALLS = 100_000
"""Calls that may be open at a time; nearly all wait for a pool, which none that gives one back
may have to wait behind. (Ray's concurrency groups would put them on event loops of their own.)
"""

log = logging.getLogger(__name__)

Report = tuple[dict[str, float], dict[str, float]]
"""What was counted (services/verdict_counts.py), and the numbers of the moment."""


class TierEnding(RuntimeError):
    """The tier is about to end; another will take its name."""


class NotJoined(RuntimeError):
    """The tier does not know this job, or not any more."""


class VerifierTierFailed(RuntimeError):
    """No pool can be started."""


@dataclass(slots=True)
class _Job:
    bounds: Bounds
    seen: float


class VerifierTier:
    """Every method is for the jobs' side of the tier, services/shared_verifiers.py."""

    def __init__(self, shape: PoolShape, life_s: float = LIFE_S) -> None:
        self._shape, self._life_s = shape, life_s
        self._leases = Leases()
        self._scaler = Autoscaler()
        self._counts = VerdictCounts()
        self._jobs: dict[str, _Job] = {}
        self._pools: dict[str, Pool] = {}
        self._started = 0
        self._failed_starts = 0
        self._failure: str | None = None
        self._ending = self._ended = False
        self._waits: dict[str, asyncio.Future[tuple[str, Any] | None]] = {}
        self._changed = asyncio.Condition()
        self._running: set[asyncio.Task[None]] = set()

    async def join(self, job: str, least: int, most: int, owner: Any = None) -> None:
        """Work for this job from now on, with at least and at most so many pools for it.

        A job is forgotten as soon as its `owner` dies: whoever takes it over needs the places.
        """
        if self._ending:
            raise TierEnding("the tier is ending")
        if not self._running:
            self._spawn(self._tend())
        self._jobs[job] = _Job(Bounds(least, most), monotonic())
        if owner is not None:
            self._spawn(self._outlive(job, owner))
        self._resize()

    async def ready(self, job: str) -> None:
        """Answers when the job has its least number of pools. Raises VerifierTierFailed."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: (
                    self._failure is not None
                    or sum(pool.serves for pool in self._pools.values())
                    >= self._of(job).bounds.least
                )
            )
        self._check()

    async def renew(self, job: str) -> Report:
        """Hear that the job lives; what was counted since somebody was last told."""
        self._of(job).seen = monotonic()
        return self._counts.take(), self._moment()

    async def leave(self, job: str) -> tuple[dict[str, float], bool]:
        """Forget a job. The rest of what was counted, and whether the tier has ended with it."""
        await self._observe()
        self._forget(job)
        if not self._jobs and not self._ending:
            await self._end()
        return self._counts.take(), self._ended

    async def acquire(
        self, job: str, lease: str, cost: int, avoid: list[str]
    ) -> tuple[str, Any] | None:
        """Wait for a pool to judge `cost` completions: its name and its actor.

        Rather none of `avoid`. None when the request was taken back. Raises NotJoined,
        QueueFull and VerifierTierFailed.
        """
        self._of(job)
        self._check()
        self._leases.ask(lease, job, cost, frozenset(avoid))
        self._waits[lease] = asyncio.get_running_loop().create_future()
        self._grant()
        try:
            return await self._waits[lease]
        finally:
            del self._waits[lease]

    async def give_back(self, lease: str, broken: str | None = None) -> None:
        """End a lease, or take back the request for it; `broken` is a pool that cannot serve."""
        self._leases.give_back(lease)
        self._wake(lease)
        if broken in self._pools:
            self._leases.shut(broken)
            ray.kill(self._pools[broken].actor)
        self._grant()

    async def pools(self) -> dict[str, Any]:
        """The pools that serve, by name."""
        return {pool.name: pool.actor for pool in self._pools.values() if pool.serves}

    def _of(self, job: str) -> _Job:
        if job not in self._jobs:
            raise NotJoined(f"the verifier tier does not know job {job}")
        return self._jobs[job]

    def _check(self) -> None:
        if self._failure is not None:
            raise VerifierTierFailed(self._failure)

    def _wake(self, lease: str) -> None:
        wait = self._waits.get(lease)
        if wait is not None and not wait.done():
            wait.set_result(None)

    async def _outlive(self, job: str, owner: Any) -> None:
        try:
            await owner.life.remote()
        except RayError:
            self._forget(job)

    def _forget(self, job: str) -> None:
        self._jobs.pop(job, None)
        for lease in self._leases.forget(job):
            self._wake(lease)
        self._grant()

    def _grant(self) -> None:
        for lease, pool in self._leases.grants():
            self._waits[lease].set_result((pool, self._pools[pool].actor))

    def _moment(self) -> dict[str, float]:
        serving = [pool for pool in self._pools.values() if pool.serves]
        return {
            "waiting": self._leases.waiting,
            "in_hand": self._leases.in_hand,
            "pools": len(serving),
            "workers": sum(pool.workers for pool in serving),
            "busy": sum(pool.seen.busy for pool in serving if pool.seen is not None),
            "jobs": len(self._jobs),
        }

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _tend(self) -> None:
        """Once in a while: who lives, what is counted, how many pools. Ends the tier."""
        while not self._ended:
            await asyncio.sleep(TICK_S)
            try:
                await self._look_around(monotonic())
            except Exception as error:  # a tier must not die in silence: every job hears of it
                log.exception("the verifier tier failed")
                await self._fail(f"the verifier tier failed: {error!r}")
        ray.kill(ray.get_runtime_context().current_actor)

    async def _look_around(self, now: float) -> None:
        for job in [name for name, of in self._jobs.items() if now - of.seen > self._life_s]:
            log.warning("job %s has not been heard of for %.0f s", job, self._life_s)
            self._forget(job)
        if not self._jobs and not self._ending:
            await self._end()
        elif not self._ending:
            await self._observe()
            self._resize()

    async def _observe(self) -> None:
        """Hear from the pools; one that is silent for too long is given up."""

        async def ask(pool: Pool) -> None:
            try:
                async with asyncio.timeout(self._shape.answer_s):
                    seen = pool.seen = await pool.actor.observe.remote()
            except TimeoutError:
                if pool.silence.again():
                    self._spawn(self._give_up(pool))
            except RayError:
                return  # its life notices
            else:
                pool.silence.heard()
                self._counts.merge(seen.counts)

        await asyncio.gather(*(ask(pool) for pool in self._pools.values() if pool.serves))

    async def _give_up(self, pool: Pool) -> None:
        """Kill a pool that does not answer; who waits for it asks another."""
        self._leases.shut(pool.name)
        seen = pool.seen
        where = None if seen is None else await stacks(seen.pid, seen.node)
        said = f"{pool.name} did not answer {pool.silence.times} times in a row"
        log.warning("%s; it is replaced. Its stacks:\n%s", said, where or "could not be read")
        ray.kill(pool.actor)

    def _resize(self) -> None:
        if self._ending or self._failure is not None or not self._jobs:
            return
        bounds = Bounds(
            max(job.bounds.least for job in self._jobs.values()),
            sum(job.bounds.most for job in self._jobs.values()),
        )
        staying = [pool for pool in self._pools.values() if not pool.leaving]
        workers = sum(pool.workers for pool in staying)
        load = Load(self._leases.waiting, self._leases.in_hand, workers)
        target = self._scaler.target(monotonic(), len(staying), bounds, load)
        for _ in range(target - len(staying)):
            self._started += 1
            silence = Silence(self._shape.silences)
            pool = Pool(f"pool-{self._started}", self._shape.start(), silence)
            self._pools[pool.name] = pool
            self._spawn(self._live(pool))
        order = {name: at for at, name in enumerate(self._leases.pools)}
        staying.sort(key=lambda pool: order.get(pool.name, -1))  # starting ones go first
        for pool in staying[: len(staying) - target]:
            pool.leaving = True
            self._leases.shut(pool.name)
            self._spawn(self._retire(pool))

    async def _live(self, pool: Pool) -> None:
        """The life of one pool: it starts, serves, and is gone."""
        try:
            async with asyncio.timeout(self._shape.start_s):
                workers = await pool.actor.ready.remote()
            pool.workers = len(workers)
            self._failed_starts = 0
            if not pool.leaving:
                self._leases.open(pool.name, AHEAD * pool.workers)
                self._grant()
            async with self._changed:
                self._changed.notify_all()
            await pool.actor.stopped.remote()
        except (RayError, TimeoutError) as error:
            if not pool.leaving:
                log.warning("%s: %s", pool.name, error)
                self._counts.replaced("pool")
                if not pool.workers:
                    await self._failed_start(error)
        finally:
            ray.kill(pool.actor)
            self._leases.shut(pool.name)
            del self._pools[pool.name]
        self._resize()

    async def _failed_start(self, error: Exception) -> None:
        self._failed_starts += 1
        if self._failed_starts >= MAX_FAILED_STARTS and not self._leases.pools:
            late = f"none is up within {self._shape.start_s:.0f} s; has a node {self._shape.cpus:g} CPUs left?"
            reason = late if isinstance(error, TimeoutError) else _last_line(error)
            await self._fail(f"verifier pools do not start: {reason}")

    async def _fail(self, reason: str) -> None:
        self._failure = reason
        for wait in self._waits.values():
            if not wait.done():
                wait.set_exception(VerifierTierFailed(reason))
        async with self._changed:
            self._changed.notify_all()

    async def _retire(self, pool: Pool) -> None:
        """End a pool that got its last work some time ago; what it still has, others judge."""
        try:
            async with asyncio.timeout(STOP_S):
                await pool.actor.stop.remote()
        except (RayError, TimeoutError):
            ray.kill(pool.actor)

    async def _end(self) -> None:
        self._ending = True
        pools = list(self._pools.values())
        for pool in pools:
            pool.leaving = True
        if pools:
            await asyncio.gather(*(self._retire(pool) for pool in pools))
        self._ended = True


def start_tier(shape: PoolShape, life_s: float = LIFE_S, **options: Any) -> Any:
    """A tier's actor; `options` are Ray's."""
    bounds: dict[str, Any] = {"num_cpus": 0, "max_restarts": 0, "max_concurrency": CALLS}
    kind: Any = ray.remote(VerifierTier)
    return kind.options(namespace=NAMESPACE, **bounds, **options).remote(shape, life_s)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
