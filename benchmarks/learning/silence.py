"""A journal that keeps nothing: what the loop tells a benchmark that does not listen."""

from __future__ import annotations

from typing import Any

from services.pipeline import Sampled


class Silence:
    """Hears everything and says nothing; a benchmark overrides what it wants to hear."""

    async def phase(self, name: str, step: int) -> None:
        """A phase begins."""

    async def sampled(self, step: int, sampled: Sampled) -> None:
        """A step's groups are judged."""

    async def evaluated(self, step: int, judged: Any) -> None:
        """Held-out tasks are judged."""

    async def saved(self, step: int, path: str) -> None:
        """A checkpoint lies on disk."""

    async def not_saved(self, step: int, reason: str) -> None:
        """A checkpoint could not be written."""
