"""What the tests of the service know of a running API."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

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


def spawn_api(fd: int, log: Path, **settings: str) -> Popen[bytes]:
    """An API process on the listening socket `fd`, with these settings."""
    return spawn(
        [sys.executable, "-m", "services.api", "--fd", str(fd)],
        log=log,
        env={**os.environ, **settings},
        pass_fds=[fd],
    )


def await_ready(url: str, process: Popen[bytes], log: Path, *, seconds: float) -> None:
    """Until this address of a process answers 200; its log is told when it ends or is late."""
    deadline = time.monotonic() + seconds
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        with suppress(httpx.TransportError):
            if httpx.get(url, timeout=5).status_code == 200:
                return
        time.sleep(0.05)


@contextmanager
def api_server(log: Path, **settings: str) -> Generator[str]:
    """The url of an API process with these settings, which must not fail in silence."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = spawn_api(listener.fileno(), log, **settings)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        await_ready(f"{url}/readyz", process, log, seconds=180)
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
