"""The order of the queue: priority, then the tenant with least running, then age.

Pure. Knows nothing of the store, and nothing of whether a job fits the cluster.
"""

from __future__ import annotations

from collections import Counter

from services.jobs import Queued, WaitingRoom


def in_order(room: WaitingRoom) -> list[Queued]:
    """The queued jobs in the order they should start.

    Each job that is chosen counts as running for its tenant from then on, so that tenants
    of one priority take turns.
    """
    running = Counter(room.running)
    left = list(room.queued)
    chosen: list[Queued] = []
    while left:
        job = min(left, key=lambda job: (-job.priority, running[job.tenant], job.sequence))
        left.remove(job)
        running[job.tenant] += 1
        chosen.append(job)
    return chosen
