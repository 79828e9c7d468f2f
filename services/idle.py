"""How busy each tier was: the share of a step in which it had nothing to do, and how much it had
in its hands on average.

A tier is busy while at least one piece of work is in its hands. Pure but for the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True, slots=True)
class Reading:
    """By tier: the idle share, between 0 and 1, and the mean amount of work in its hands."""

    idle: dict[str, float]
    in_hand: dict[str, float]


class IdleClock:
    """Counts each tier's busy time and work from one reading to the next."""

    def __init__(self, tiers: Iterable[str], now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._began = now()
        self._at_work = dict.fromkeys(tiers, 0)
        self._since = dict.fromkeys(self._at_work, self._began)
        self._busy = dict.fromkeys(self._at_work, 0.0)
        self._held = dict.fromkeys(self._at_work, 0.0)

    @contextmanager
    def busy(self, tier: str, amount: int = 1) -> Generator[None]:
        """The tier has `amount` pieces of work in its hands for the time of the block."""
        self._change(tier, amount)
        try:
            yield
        finally:
            self._change(tier, -amount)

    def _change(self, tier: str, amount: int) -> None:
        now = self._now()
        passed, self._since[tier] = now - self._since[tier], now
        if self._at_work[tier]:
            self._busy[tier] += passed
            self._held[tier] += passed * self._at_work[tier]
        self._at_work[tier] += amount

    def read(self) -> Reading:
        """How it was since the last reading."""
        for tier in self._at_work:
            self._change(tier, 0)
        now = self._now()
        seconds, self._began = now - self._began, now
        if seconds <= 0:
            return Reading(dict.fromkeys(self._busy, 0.0), dict.fromkeys(self._busy, 0.0))
        idle = {tier: max(0.0, 1 - busy / seconds) for tier, busy in self._busy.items()}
        in_hand = {tier: held / seconds for tier, held in self._held.items()}
        self._busy, self._held = dict.fromkeys(self._busy, 0.0), dict.fromkeys(self._held, 0.0)
        return Reading(idle, in_hand)
