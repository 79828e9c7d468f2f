"""The store: jobs, their events and checkpoints in any Redis-protocol server (7.0 or newer).

Every change of a job is one Lua script, so readers never see half of one and two runners
never hold one job. The records are in services/jobs.py; what a job means is for others to
know. The rooms: requests (the users' side), claims (the runners' side), events, checkpoints,
workers, moments (all of them at once, for a scrape).
"""

from __future__ import annotations

from services.redis_link import RedisLink
from services.store.events import EventLog
from services.store.moments import Moments


class Store(Moments, EventLog):
    """All rooms of the store. Every method raises StoreUnavailable when the server is lost."""

    @classmethod
    async def open(cls, url: str) -> Store:
        """Connect to `redis://`, `rediss://` or `unix://` and make sure that the server answers.

        Raises StoreUnavailable, naming the url without its password.
        """
        return cls(await RedisLink.open(url))

    @property
    def link(self) -> RedisLink:
        """The way to the server, for the rooms that keep other things there."""
        return self._link

    async def close(self) -> None:
        """Close every connection."""
        await self._link.close()

    async def ping(self) -> None:
        """Raise StoreUnavailable unless the server answers."""
        await self._link.ask("PING")
