"""The actors of a tier that hold the model: started, given work, watched and replaced.

Work goes to the least loaded actor that serves. One that dies, fails or stands still is
replaced, as often as its tier's budget allows, and what it had in hand is done again by
another. An actor serves once it has proven that it runs the newest weights, its replacement
too. Beside its work each has `start`, `load_weights(manifest, buckets)`, `beat` and `stop`;
nothing more is known of what the actors do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

from services.health import Health, Limits, Restarts
from services.pipeline import abandon, side_by_side
from services.stack_dump import dump
from services.weights import Publication

ATTEMPTS = 4
"""Actors that one request is given to before it is given up."""


class TierFailed(RuntimeError):
    """A tier did not do what it was asked within its deadline, or lost an actor too often."""


class ActorLost(RuntimeError):
    """Raised by an actor that lives but cannot work any more."""


class PublicationLost(RuntimeError):
    """Weights went with the learner that published them."""


@dataclass(frozen=True, slots=True)
class Beat:
    """An actor's answer to a probe: a counter that grows while it works, and where it lives."""

    progress: int
    pid: int
    node: str


@dataclass(frozen=True, slots=True)
class Care:
    """How a job's actors are looked after. `tell` is told what died and what was done."""

    limits: Limits
    start_s: float
    tell: Callable[[str], Awaitable[None]]
    dumps: Path
    beat_s: float = 5.0
    answer_s: float = 30.0


@dataclass(eq=False, slots=True)
class _Replica:
    number: int
    actor: Any
    health: Health
    load: int = 0
    beat: Beat | None = None
    runs: Publication | None = None
    proof: Any = None
    going: bool = False  # its replacement is under way
    loading: asyncio.Lock = field(default_factory=asyncio.Lock)


class Replicas:
    """One tier."""

    def __init__(
        self,
        tier: str,
        make: Callable[[int], Any],
        count: int,
        care: Care,
        *,
        in_flight: int,
        needs_weights: bool = True,
    ) -> None:
        """`make` creates actor number n. `in_flight` requests are given to each at a time.

        Without `needs_weights` the actors serve with the weights they start with.
        """
        self.tier = tier
        self.restarts = Restarts()
        self._make, self._count, self._care = make, count, care
        self._needs_weights = needs_weights
        self._room = asyncio.Semaphore(in_flight * count)
        self._replicas: list[_Replica] = []
        self._publication: Publication | None = None
        self._failure: BaseException | None = None
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def actors(self) -> list[Any]:
        """The actors, in the order of their numbers."""
        return [replica.actor for replica in self._replicas]

    @property
    def version(self) -> int | None:
        """The version of the newest weights that were sent to them."""
        return None if self._publication is None else self._publication.version

    async def start(self) -> None:
        """Start every actor. Raises TierFailed, or what an actor raised while it started."""
        self._replicas = [self._new(number) for number in range(self._count)]
        await side_by_side(self._up(replica) for replica in self._replicas)
        self._spawn(self._watch)

    async def call(self, method: str, *args: Any) -> tuple[Any, Any]:
        """Have an actor do this; its two-valued method's (reference, small value).

        Raises TierFailed when it could not be done by any.
        """
        failure: Exception | None = None
        async with self._room:
            for _ in range(ATTEMPTS):
                replica = await self._chosen()
                replica.load += 1
                try:
                    bound = getattr(replica.actor, method)
                    reference, summary = bound.options(num_returns=2).remote(*args)
                    answer = await summary
                except (RayActorError, ActorLost) as error:
                    self._lose(replica, said(error))
                    failure = error
                except RayTaskError as error:
                    replica.health.failed(said(error))
                    self._lose_if_lost(replica)
                    failure = error
                else:
                    replica.health.succeeded()
                    return reference, answer
                finally:
                    replica.load -= 1
        reason = "" if failure is None else said(failure)
        raise TierFailed(
            f"{self.tier}: {method} failed {ATTEMPTS} times, the last time: {reason}"
        ) from failure

    async def publish(self, publication: Publication) -> list[Any]:
        """Bring weights to every actor; the proofs of those that serve with them.

        An actor that dies meanwhile gets them when it is replaced. Raises StaleWeights when one
        does not prove them, PublicationLost when they are gone.
        """
        self._publication = publication
        for replica in self._replicas:
            replica.health.outdated()
        up = [replica for replica in self._replicas if replica.health.state == "stale"]
        arrived = await side_by_side(self._renew(replica) for replica in up)
        if arrived and not any(arrived) and not self._serving():
            raise PublicationLost(f"policy version {publication.version} is lost")
        await self._chosen()
        return [replica.proof for replica in self._serving()]

    async def stop(self, seconds: float) -> None:
        """End every actor and the processes it started; what does not end in time is killed."""
        await abandon(list(self._tasks))
        up = [replica for replica in self._replicas if replica.health.state in ("stale", "serving")]
        if up:
            stops = [asyncio.ensure_future(_one(replica.actor.stop.remote())) for replica in up]
            ended, late = await asyncio.wait(stops, timeout=seconds)
            # An actor that is gone cannot be asked to stop: that is no error here.
            await asyncio.gather(*ended, return_exceptions=True)
            await abandon(late)
        for replica in self._replicas:
            ray.kill(replica.actor)

    def _new(self, number: int) -> _Replica:
        return _Replica(number, self._make(number), Health(self._care.limits))

    def _serving(self) -> list[_Replica]:
        return [replica for replica in self._replicas if replica.health.state == "serving"]

    async def _chosen(self) -> _Replica:
        """The least loaded actor that serves, as soon as there is one."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._failure is not None or self._serving())
        if self._failure is not None:
            raise TierFailed(f"{self.tier}: {self._failure}") from self._failure
        return min(self._serving(), key=lambda replica: replica.load)

    async def _up(self, replica: _Replica) -> _Replica:
        """Bring an actor up, or the one that takes its place when it dies."""
        while True:
            try:
                async with asyncio.timeout(self._care.start_s):
                    await replica.actor.start.remote()
                replica.health.started()
                await self._prove(replica)
            except TimeoutError as error:
                late = f"it was not up within {self._care.start_s:.0f} s"
                raise TierFailed(f"{self._name(replica)}: {late}") from error
            except (RayActorError, ActorLost) as error:
                if isinstance(error, RayActorError) and error.actor_init_failed:
                    raise
                replica = await self._successor(replica, said(error))
            else:
                return replica

    async def _prove(self, replica: _Replica) -> bool:
        """Bring the newest weights to an actor that is up; whether they could be brought."""
        async with replica.loading:
            while (newest := self._publication) is not None and newest is not replica.runs:
                load = replica.actor.load_weights.remote(newest.manifest, newest.buckets)
                try:
                    replica.proof = await load
                except RayTaskError as error:
                    if isinstance(error.cause, ObjectLostError):
                        return False  # others will come, from the learner's successor
                    raise
                replica.runs = newest
            if newest is not None:
                replica.health.prove(newest.version, newest.version)
            elif not self._needs_weights:
                replica.health.prove(0, 0)
        async with self._changed:
            self._changed.notify_all()
        return True

    async def _renew(self, replica: _Replica) -> bool:
        try:
            return await self._prove(replica)
        except (RayActorError, ActorLost) as error:
            self._lose(replica, said(error))
            return True

    def _lose(self, replica: _Replica, reason: str) -> None:
        """Give an actor up, unless that was done already, and start another in its place."""
        replica.health.lose(reason)
        self._lose_if_lost(replica)

    def _lose_if_lost(self, replica: _Replica) -> None:
        if replica.health.state == "lost" and not replica.going:
            replica.going = True
            self._spawn(partial(self._replace, replica))

    async def _replace(self, replica: _Replica) -> None:
        since = monotonic()
        fresh = await self._up(await self._successor(replica, replica.health.reason))
        weights = "" if fresh.runs is None else f" and runs policy version {fresh.runs.version}"
        await self._care.tell(
            f"{self._name(fresh)} is replaced after {monotonic() - since:.1f} s{weights}"
        )

    async def _successor(self, replica: _Replica, reason: str) -> _Replica:
        """A new actor in the place of one that is lost. Raises TierFailed when it is one too many."""
        replica.health.lose(reason)
        replica.going = True
        name = self._name(replica)
        rest = self.restarts.take()
        if rest is None:
            raise TierFailed(
                f"{name} was lost after {self.restarts.limit} restarts of its tier without a new "
                f"step: {reason}"
            )
        stacks = await self._stacks(replica)
        ray.kill(replica.actor)
        count = f"restart {self.restarts.spent} of at most {self.restarts.limit}"
        await self._care.tell(f"{name} is lost: {reason}{stacks}; it is replaced ({count})")
        await asyncio.sleep(rest)
        fresh = self._replicas[replica.number] = self._new(replica.number)
        return fresh

    async def _stacks(self, replica: _Replica) -> str:
        """Where an actor that still has a process stands, as the words that say where to look."""
        if replica.beat is None or not replica.health.hung:
            return ""
        name = f"{self.tier}-{replica.number}"
        path = await dump(replica.beat.pid, replica.beat.node, self._care.dumps, name)
        return "" if path is None else f"; its stacks are in {path}"

    async def _watch(self) -> None:
        """Probe the actors from time to time."""
        while True:
            await asyncio.sleep(self._care.beat_s)
            await side_by_side(self._probe(replica) for replica in list(self._replicas))

    async def _probe(self, replica: _Replica) -> None:
        if replica.health.state not in ("stale", "serving"):
            return
        busy = replica.load > 0 or replica.loading.locked()
        try:
            # Not asyncio.wait_for, which before Python 3.12 may lose a cancellation.
            async with asyncio.timeout(self._care.answer_s):
                beat = replica.beat = await replica.actor.beat.remote()
        except TimeoutError:
            replica.health.silent()
        except (RayActorError, ActorLost) as error:
            replica.health.lose(said(error))
        else:
            replica.health.answered(beat.progress, monotonic(), busy=busy)
        self._lose_if_lost(replica)

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """What goes wrong in the background ends the tier; whoever waits for it hears of it."""
        try:
            await work()
        except Exception as error:
            self._failure = error
            async with self._changed:
                self._changed.notify_all()

    def _name(self, replica: _Replica) -> str:
        return f"{self.tier} {replica.number}"


def said(error: BaseException) -> str:
    """What an error of Ray's says, in one line."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    if isinstance(error, RayActorError):
        return "its process died"
    return lines[-1] if lines else type(cause).__name__


async def _one(wait: Any) -> Any:
    return await wait
