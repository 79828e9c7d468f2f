"""What the tests of the service know of a running API."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from services.callers import Scope
from services.event_feed import EventFeed
from services.jobs import Event
from services.key_store import KeyStore
from services.processes import spawn, stop
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


@contextmanager
def api_server(log: Path, **settings: str) -> Generator[str]:
    """The url of an API process with these settings, which must not fail in silence."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        process = spawn(
            [sys.executable, "-m", "services.api", "--fd", str(fd)],
            log=log,
            env={**os.environ, **settings},
            pass_fds=[fd],
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    deadline = time.monotonic() + 180
    try:
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        yield url
    finally:
        stop(process, deadline=10)
    assert "Traceback" not in log.read_text()


async def follow(store: Store, job_id: str) -> AsyncIterator[Event]:
    """Every event of a job, until its last."""
    feed = EventFeed(store)
    try:
        async for event in feed.follow(job_id):
            yield event
    finally:
        await feed.close()
