"""How many replicas a tier should have: a state machine with the clock of its caller.

Grows by one when the queue per worker stays high, shrinks by one when what is in hand would
long have fitted into one replica less. Bounds hold at once. Pure: knows no actors.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """Fewest and most replicas."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Load:
    """Work at one moment: cases that wait, cases in hand, workers that take them."""

    waiting: int
    in_hand: int
    workers: int


class Autoscaler:
    """Decides on a number of replicas, one step at a time.

    grow_after_s    seconds for which more than `waiting_per_worker` cases must wait
    shrink_after_s  seconds for which one replica less must have been enough
    """

    def __init__(
        self,
        *,
        waiting_per_worker: float = 4.0,
        grow_after_s: float = 5.0,
        shrink_after_s: float = 120.0,
    ) -> None:
        self._waiting_per_worker = waiting_per_worker
        self._grow_after_s, self._shrink_after_s = grow_after_s, shrink_after_s
        self._high_since: float | None = None
        self._low_since: float | None = None

    def target(self, now: float, replicas: int, bounds: Bounds, load: Load) -> int:
        """Replicas there should be, of `replicas` that are there or are starting."""
        high = load.waiting > self._waiting_per_worker * load.workers
        spare = load.workers * (replicas - 1) / max(1, replicas)
        low = load.waiting == 0 and load.in_hand <= spare
        self._high_since = (now if self._high_since is None else self._high_since) if high else None
        self._low_since = (now if self._low_since is None else self._low_since) if low else None
        wanted = replicas
        if self._high_since is not None and now - self._high_since >= self._grow_after_s:
            wanted += 1
        elif self._low_since is not None and now - self._low_since >= self._shrink_after_s:
            wanted -= 1
        wanted = min(max(wanted, bounds.least), bounds.most)
        if wanted != replicas:  # what follows is judged by what it changes
            self._high_since = self._low_since = None
        return wanted
