"""What the tests of the service know of a running API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx

from services.callers import Scope
from services.event_feed import EventFeed
from services.jobs import Event
from services.key_store import KeyStore
from services.store import Store


@dataclass(frozen=True)
class Api:
    """A running API over an empty store, and a key for it."""

    url: str
    key: str
    store: Store
    keys: KeyStore

    async def key_of(self, *scopes: Scope, tenant: str = "default") -> str:
        """The token of a new key with these scopes."""
        return (await self.keys.create("test", tenant=tenant, scopes=scopes)).token

    def client(self, *, key: str | None = None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.key if key is None else key}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60)


async def follow(store: Store, job_id: str) -> AsyncIterator[Event]:
    """Every event of a job, until its last."""
    feed = EventFeed(store)
    try:
        async for event in feed.follow(job_id):
            yield event
    finally:
        await feed.close()
