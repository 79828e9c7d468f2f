"""The service as a browser meets it: a process of its own, its store, and its jobs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any, TypeVar

from services.callers import Scope
from services.key_store import KeyStore
from services.processes import stop
from services.recordings import DEMO, play
from services.redis_server import EmbeddedValkey
from services.store import Store
from tests.page import written
from tests.services.running import await_ready, spawn_api

T = TypeVar("T")


@dataclass
class Site:
    """A running API, and a way to its store.

    A browser test holds an event loop of Playwright's, so what is asked of the store runs on
    a thread of its own.
    """

    url: str
    store_url: str
    home: Path
    _thread: ThreadPoolExecutor
    _fd: int
    _log: Path
    _process: Popen[bytes] | None = None
    key: str = ""
    finished: str = ""
    running: str = ""
    recorded: tuple[str, ...] = ()
    """The jobs of the recording that comes with the package."""

    def start(self) -> None:
        """Start the API, and wait until it answers."""
        settings = {"STROP_HOME": str(self.home), "STROP_REDIS_URL": self.store_url}
        self._process = spawn_api(self._fd, self._log, STROP_DATA_ROOTS="/", **settings)
        await_ready(f"{self.url}/readyz", self._process, self._log, seconds=240)

    def stop(self) -> None:
        """Stop the API; its address stays taken, and whoever asks waits for the next one."""
        if self._process is not None:
            stop(self._process, deadline=10)
            self._process = None

    def kill(self) -> None:
        """The API ends in the midst of what it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def ask(self, work: Callable[[Store], Awaitable[T]]) -> T:
        async def session() -> T:
            store = await Store.open(self.store_url)
            try:
                return await work(store)
            finally:
                await store.close()

        return self._thread.submit(lambda: asyncio.run(session())).result(240)

    def key_of(self, *scopes: Scope, tenant: str = "default") -> str:
        """The token of a new key."""

        async def make(store: Store) -> str:
            keys = KeyStore(store.link)
            return (await keys.create("page", tenant=tenant, scopes=scopes)).token

        return self.ask(make)

    def job(self, done: int, *, ends: bool = False, **more: Any) -> str:
        """A new job that has done so many steps, and has succeeded when it `ends`."""
        told = {name: more.pop(name) for name in ("numbers", "tenant") if name in more}
        asked = written.spec(self.home, **more)

        async def run(store: Store) -> str:
            tenant = told.get("tenant", "default")
            running = await written.Running.start(store, self.home, asked, tenant=tenant)
            for _ in range(done):
                await running.step(**told.get("numbers", {}))
            if done:
                await running.save()
                await running.evaluate(24)
            if ends:
                await running.succeed()
            return running.job.id

        return self.ask(run)

    def step(self, job_id: str, **changes: Any) -> None:
        """One more step of a running job."""

        async def go_on(store: Store) -> None:
            job = await store.get_job(job_id)
            running = written.Running(store, job, self.home / "jobs" / job_id)
            running.done = int((job.progress or {}).get("step", 0))
            await running.step(**changes)

        self.ask(go_on)


@contextmanager
def serving(folder: Path) -> Iterator[Site]:
    """Start store and API, with a finished job, a running one, and recorded ones."""
    home = folder / "home"
    home.mkdir()
    log = folder / "api.log"
    with (
        EmbeddedValkey.start(folder / "valkey") as valkey,
        ThreadPoolExecutor(1) as thread,
        socket.create_server(("127.0.0.1", 0), backlog=128) as listener,
    ):
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        site = Site(address, valkey.url, home, thread, listener.fileno(), log)
        try:
            site.key = site.key_of("admin")
            site.finished = site.job(written.STEPS, ends=True)
            site.running = site.job(5, name="running", steps=40)
            if DEMO.exists():
                site.recorded = tuple(site.ask(lambda store: play(DEMO, store.link, home / "jobs")))
            site.start()
            yield site
        finally:
            site.stop()
    assert "Traceback" not in log.read_text()
