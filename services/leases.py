"""Who may use which verifier pool now: fair between jobs, least loaded first, bounded.

A lease is asked for under an id of the caller's own, granted when its job's turn comes and
a pool has room, and given back, granted or not, under the same id. Pure; the actors, the
waiting and the clocks are services/verifier_tier.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from services.fair_queue import FairQueue

QUANTUM = 16
"""Completions a job may have judged in its turn."""
WAITING = 512
"""Requests a job may have waiting."""


@dataclass(slots=True)
class _Seat:
    """A pool: the completions it should have in hand, and those it has."""

    capacity: int
    leases: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def in_hand(self) -> int:
        return sum(self.leases.values())

    @property
    def load(self) -> float:
        return self.in_hand / self.capacity


@dataclass(frozen=True, slots=True)
class _Ask:
    job: str
    cost: int
    avoid: frozenset[str]


class Leases:
    """The leases of one tier."""

    def __init__(self) -> None:
        self._pools: dict[str, _Seat] = {}
        self._asked: dict[str, _Ask] = {}
        self._queue: FairQueue[str] = FairQueue(QUANTUM, WAITING)

    @property
    def waiting(self) -> int:
        """Completions that wait for a pool."""
        return self._queue.cost

    @property
    def in_hand(self) -> int:
        """Completions that pools have in hand."""
        return sum(seat.in_hand for seat in self._pools.values())

    @property
    def pools(self) -> list[str]:
        """The pools that work is given to, the least loaded first."""
        return sorted(self._pools, key=lambda pool: self._pools[pool].load)

    def open(self, pool: str, capacity: int) -> None:
        """Give work to this pool from now on, up to `capacity` completions at a time."""
        self._pools[pool] = _Seat(capacity)

    def shut(self, pool: str) -> None:
        """Give no more work to this pool; what it has is its callers' to give back."""
        self._pools.pop(pool, None)

    def ask(self, lease: str, job: str, cost: int, avoid: frozenset[str] = frozenset()) -> None:
        """Queue a request for `cost` completions, rather not in the pools of `avoid`.

        Raises QueueFull.
        """
        self._queue.push(job, cost, lease)
        self._asked[lease] = _Ask(job, cost, avoid)

    def give_back(self, lease: str) -> None:
        """End a lease, or take a request back. One that is not known is over already."""
        ask = self._asked.pop(lease, None)
        if ask is None or self._queue.remove(ask.job, lease):
            return
        for seat in self._pools.values():
            seat.leases.pop(lease, None)

    def forget(self, job: str) -> list[str]:
        """End everything of a job; the leases that were."""
        ended = [lease for lease, ask in self._asked.items() if ask.job == job]
        for lease in ended:
            self.give_back(lease)
        return ended

    def grants(self) -> Iterator[tuple[str, str]]:
        """Grant what can be granted now: (lease, pool) of each.

        A pool with room takes a whole group, however large: it is one message.
        """
        while any(seat.in_hand < seat.capacity for seat in self._pools.values()):
            lease = self._queue.pop()
            if lease is None:
                return
            ask = self._asked[lease]
            by_load = self.pools
            pool = next((name for name in by_load if name not in ask.avoid), by_load[0])
            self._pools[pool].leases[lease] = ask.cost
            yield lease, pool
