"""How idle each tier was: the share of a step in which it had nothing to do.

A tier is busy while at least one piece of work is in its hands. Pure but for the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from time import monotonic


class IdleClock:
    """Counts each tier's busy time from one reading to the next."""

    def __init__(self, tiers: Iterable[str], now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._began = now()
        self._at_work = dict.fromkeys(tiers, 0)
        self._since = dict.fromkeys(self._at_work, self._began)
        self._busy = dict.fromkeys(self._at_work, 0.0)

    @contextmanager
    def busy(self, tier: str) -> Generator[None]:
        """The tier has work in its hands for the time of the block."""
        if not self._at_work[tier]:
            self._since[tier] = self._now()
        self._at_work[tier] += 1
        try:
            yield
        finally:
            self._at_work[tier] -= 1
            if not self._at_work[tier]:
                self._busy[tier] += self._now() - self._since[tier]

    def read(self) -> dict[str, float]:
        """The idle share of each tier since the last reading, between 0 and 1."""
        now = self._now()
        seconds = now - self._began
        for tier, at_work in self._at_work.items():
            if at_work:
                self._busy[tier] += now - self._since[tier]
                self._since[tier] = now
        shares = {
            tier: max(0.0, 1 - busy / seconds) if seconds > 0 else 0.0
            for tier, busy in self._busy.items()
        }
        self._began, self._busy = now, dict.fromkeys(self._busy, 0.0)
        return shares
