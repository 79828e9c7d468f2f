"""The local service that `strop up` runs: store, Ray, API and dispatcher on this machine.

Everything is started in order, watched, and ended in order within deadlines. A part that
cannot start, or that dies, takes the rest down with it: nothing is left half-started.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx

from services import dispatcher
from services.api.binding import check_transport
from services.errors import CannotStart
from services.key_store import KeyStore
from services.local_ray import LocalRay
from services.private_files import hold_folder, make_private_folder, write_private
from services.processes import Family, spawn, stop
from services.redis_server import EmbeddedValkey
from services.settings import Settings
from services.store import Store

_READY_SECONDS = 180.0
_TIDY_SECONDS = 2.0

T = TypeVar("T")
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Service:
    """A local service that is ready."""

    url: str
    api_key_file: Path
    home: Path
    engine_metrics_url: str | None  # None with a Ray cluster that is not ours


@dataclass(frozen=True, slots=True)
class _Part:
    """One process of the service."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def last_words(self) -> str:
        """How it ended."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = f": {lines[-1]}" if lines else ""
        return f"ended by itself with status {self.process.returncode}{said} (see {self.log})"


class _Stopped(Exception):
    """A signal asked the service to stop while it was starting."""


class _Local:
    """One run of the local service. Parts are stopped in the reverse order of their start."""

    def __init__(self, settings: Settings, tell: Tell) -> None:
        self._settings = settings
        self._tell = tell
        self._asked = threading.Event()
        self._parts: list[_Part] = []
        # The same for each run on a data folder, so that a run finds what a killed one left.
        home = str(settings.home.resolve())
        self._family = Family(hashlib.sha256(home.encode()).hexdigest()[:16])

    def run(self, on_ready: Callable[[Service], None]) -> int:
        """Serve until a signal comes; 0 then, 1 when a part died."""
        settings = self._settings
        with ExitStack() as stack:
            for folder in (settings.home, settings.logs_folder, settings.jobs_folder):
                make_private_folder(folder)
            check_transport(settings, settings.host)
            stack.callback(os.close, hold_folder(settings.home))
            listener = stack.enter_context(_listening(settings.host, settings.port))
            self._family.end(deadline=1)
            stack.enter_context(self._signals())
            try:
                service = self._start(stack, listener)
            except _Stopped:
                self._tell("stopped before it was ready")
                return 0
            on_ready(service)
            dead = self._watch()
            self._tell("stopping" if dead is None else f"{dead.name} {dead.last_words}; stopping")
            return 0 if dead is None else 1

    def _start(self, stack: ExitStack, listener: socket.socket) -> Service:
        settings = self._settings
        host, port = listener.getsockname()[:2]
        store_url = self._start_store(stack)
        self._ensure_key(store_url)
        environment = {**self._family.environment(), "STROP_REDIS_URL": store_url}

        # Ray starts while the API does; it must outlive the dispatcher, which is stopped first.
        ray = None if settings.ray_address else self._start_ray(stack)
        self._spawn("api", stack, environment, listener.fileno(), deadline=10)
        listener.close()  # the API alone answers for it now
        if ray is not None:
            address = self._wait("ray", lambda: ray.address)
            self._tell(f"Ray is ready at {address}")
            environment |= {"STROP_RAY_ADDRESS": address, **ray.environment()}
        self._spawn("dispatcher", stack, environment, deadline=dispatcher.STOP_SECONDS + 10)

        scheme = "http" if settings.tls_cert is None else "https"
        url = f"{scheme}://{_reachable(host)}:{port}"
        self._wait("api", lambda: _answers(f"{url}/readyz"))
        self._tell(f"API is ready at {url}")
        self._wait("dispatcher", lambda: _with_store(store_url, Store.workers))
        self._tell("dispatcher is ready")

        write_private(settings.service_file, json.dumps({"url": url, "pid": os.getpid()}))
        stack.callback(settings.service_file.unlink, missing_ok=True)
        metrics = None if ray is None else ray.metrics_url
        return Service(url, settings.api_key_file, settings.home, metrics)

    def _start_store(self, stack: ExitStack) -> str:
        if self._settings.redis_url is not None:
            return self._settings.store_url
        server = EmbeddedValkey.start(self._settings.valkey_folder)
        stack.callback(server.stop)
        self._parts.append(_Part("store", server.process, server.log))
        self._tell("store is ready")
        return server.url

    def _ensure_key(self, store_url: str) -> None:
        """The local user's key, made anew when there is none or this store does not know it."""
        file = self._settings.api_key_file
        token = file.read_text(encoding="utf-8").strip() if file.exists() else ""

        async def good(store: Store) -> str:
            keys = KeyStore(store.link)
            key = await keys.check(token)
            if key is not None and key.caller.may("admin"):
                return token
            return (await keys.create("local user", scopes=["admin"])).token

        if (mine := _with_store(store_url, good)) != token:
            write_private(file, mine)

    def _start_ray(self, stack: ExitStack) -> LocalRay:
        ray = LocalRay.start(self._settings, self._family)
        logs = self._settings.logs_folder / "ray"
        stack.callback(ray.stop, self._family, logs, deadline=20)
        self._parts.append(_Part("ray", ray.process, ray.log))
        return ray

    def _spawn(
        self,
        name: str,
        stack: ExitStack,
        environment: dict[str, str],
        fd: int | None = None,
        *,
        deadline: float,
    ) -> None:
        """Start `services.<name>`; when all ends it has `deadline` seconds."""
        log = self._settings.logs_folder / f"{name}.log"
        process = spawn(
            [sys.executable, "-m", f"services.{name}", *([] if fd is None else ["--fd", str(fd)])],
            log=log,
            env=environment,
            pass_fds=[] if fd is None else [fd],
        )
        stack.callback(stop, process, deadline=deadline)
        self._parts.append(_Part(name, process, log))

    def _wait(self, name: str, ready: Callable[[], T | None]) -> T:
        """What `ready` answers as soon as it is true. Raises CannotStart at the deadline."""
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            if dead := self._dead():
                raise CannotStart(f"{dead.name} {dead.last_words}")
            if value := ready():
                return value
            if self._asked.wait(0.1):
                raise _Stopped
        raise CannotStart(
            f"{name} was not ready within {_READY_SECONDS:.0f} s; see {self._settings.logs_folder}"
        )

    def _watch(self) -> _Part | None:
        """Wait for a signal; a part that died instead."""
        while not self._asked.wait(_TIDY_SECONDS):
            if dead := self._dead():
                return dead
            self._family.tidy()
        return None

    def _dead(self) -> _Part | None:
        return next((part for part in self._parts if part.process.poll() is not None), None)

    @contextmanager
    def _signals(self) -> Generator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._ask) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        self._asked.set()


def up(settings: Settings, *, tell: Tell, on_ready: Callable[[Service], None]) -> int:
    """Run the local service in the foreground, from the main thread, until a signal stops it.

    `tell` gets a line for each part; `on_ready` is called once all of them are. Returns the
    exit status. Raises CannotStart or StoreUnavailable, with nothing left running.
    """
    return _Local(settings, tell).run(on_ready)


@contextmanager
def _listening(host: str, port: int) -> Generator[socket.socket]:
    """The API's socket, taken before anything starts."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise CannotStart(
            f"the API cannot listen on {host} port {port}: {error.strerror}; set STROP_HOST and "
            "STROP_PORT to what is free (port 0 takes any)"
        ) from error
    with listener:
        yield listener


def _reachable(host: str) -> str:
    """A host to reach this listener by, from this machine."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _answers(url: str) -> bool:
    try:
        # Our own socket on this machine, which no certificate names.
        return httpx.get(url, timeout=5, trust_env=False, verify=False).status_code == 200
    except httpx.TransportError:
        return False


def _with_store(url: str, use: Callable[[Store], Awaitable[T]]) -> T:
    async def session() -> T:
        store = await Store.open(url)
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(session())
