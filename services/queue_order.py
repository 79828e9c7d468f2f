"""Which queued jobs start now: priority, then the tenant with least running, then age.

A job that does not fit the cluster lets those behind it go first, but only OVERTAKEN times:
then all wait until it has its place. One that the cluster could not hold even if it were
empty stands in nobody's way. Pure; knows nothing of the store or of Ray.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.fit import Need, Node, needs_of, place
from services.jobs import Job, Queued, WaitingRoom
from services.placement import bound

OVERTAKEN = 8
"""Jobs that may be started before one that was ahead of them and did not fit."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The nodes as they are in all, and what is free of them now."""

    total: Sequence[Node]
    free: Sequence[Node]
    labelled: bool = False
    """Whether tiers without labels go to the nodes that serve them."""

    def needs(self, spec: Mapping[str, Any]) -> list[Need]:
        """What a job asks of this cluster."""
        needs = needs_of(spec)
        return bound(needs) if self.labelled else needs


@dataclass(frozen=True, slots=True)
class Start:
    """A job to start, and the jobs that it overtakes."""

    job: Queued
    overtaken: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """A job that cannot start, and why. `unfit`: no job of ours is in its way."""

    job: Queued
    reason: str
    unfit: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with the queue, in this order."""

    starts: list[Start] = field(default_factory=list[Start])
    holds: list[Hold] = field(default_factory=list[Hold])


def in_turn(queued: Iterable[Queued], running: Counter[str]) -> Iterator[Queued]:
    """The jobs in the order they should start; `running` counts each tenant's jobs, and may
    grow between one job and the next."""
    left = list(queued)
    while left:
        job = min(left, key=lambda job: (-job.priority, running[job.tenant], job.sequence))
        left.remove(job)
        yield job


def plan(room: WaitingRoom, running: Sequence[Job], cluster: Cluster, slots: int) -> Plan:
    """Start up to `slots` of the jobs that wait, beside those that run.

    A running job whose tiers are not placed yet takes its share of what is free.
    """
    made = Plan()
    free = list(cluster.free)
    for job in running:
        if not job.placed:
            placed = place(cluster.needs(job.spec), free)
            free = free if isinstance(placed, str) else placed
    tenants = Counter(room.running)
    ahead: list[str] = []
    blocking: str | None = None
    for job in in_turn(room.queued, tenants):
        if len(made.starts) == slots:
            break
        if blocking is not None:
            reason = f"waits behind {blocking}, which was overtaken {OVERTAKEN} times"
            made.holds.append(Hold(job, reason, unfit=False))
            continue
        needs = cluster.needs(job.spec)
        placed = place(needs, free)
        if not isinstance(placed, str):
            made.starts.append(Start(job, tuple(ahead)))
            tenants[job.tenant] += 1
            free = placed
            continue
        possible = not isinstance(place(needs, cluster.total), str)
        in_the_way = bool(running or made.starts)
        made.holds.append(Hold(job, placed, unfit=not (possible and in_the_way)))
        if possible:
            ahead.append(job.id)
            if job.overtaken >= OVERTAKEN:
                blocking = job.id
    return made
