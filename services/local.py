"""The local service that `strop up` runs: store, Ray, API and dispatcher on this machine.

Everything is started in order, watched, and ended in order within deadlines. A part that
cannot start takes the rest down with it: nothing is left half-started. One that dies later
is started again; only one that keeps dying ends the service.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx

from services import dispatcher
from services.access_settings import is_loopback
from services.api.binding import check_transport
from services.callers import Scope
from services.errors import CannotStart
from services.key_store import KeyStore
from services.local_parts import Part, Running, Tell
from services.local_ray import LocalRay
from services.private_files import hold_folder, make_private_folder, write_private
from services.processes import Family, spawn, stop
from services.redis_server import EmbeddedValkey
from services.settings import Settings
from services.store import Store

_READY_SECONDS = 180.0
_LOOK_SECONDS = 0.5
_TIDY_SECONDS = 2.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Service:
    """A local service that is ready."""

    url: str
    api_key_file: Path
    home: Path
    engine_metrics_url: str | None  # None with a Ray cluster that is not ours


class _Stopped(Exception):
    """A signal asked the service to stop while it was starting."""


class _Local:
    """One run of the local service. Parts are stopped in the reverse order of their start."""

    def __init__(
        self,
        settings: Settings,
        tell: Tell,
        seed: Callable[[Store], Awaitable[None]] | None = None,
        scopes: Sequence[Scope] = ("admin",),
    ) -> None:
        self._settings = settings
        self._seed = seed
        self._scopes = scopes
        self._tell = tell
        self._asked = threading.Event()
        self._parts: list[Part] = []
        self._started = False
        self._store: EmbeddedValkey | None = None
        self._ray: LocalRay | None = None
        # The same for each run on a data folder, so that a run finds what a killed one left.
        # Ray has a family of its own, for it alone may have to be started again.
        home = hashlib.sha256(str(settings.home.resolve()).encode()).hexdigest()[:16]
        self._family, self._ray_family = Family(home), Family(f"{home}-ray")

    def run(self, on_ready: Callable[[Service], None]) -> int:
        """Serve until a signal comes; 0 then, 1 when a part was given up."""
        settings = self._settings
        with ExitStack() as stack:
            for folder in (settings.home, settings.logs_folder, settings.jobs_folder):
                make_private_folder(folder)
            check_transport(settings, settings.host)
            stack.callback(os.close, hold_folder(settings.home))
            listener = stack.enter_context(_listening(settings.host, settings.port))
            self._end_families(1)
            stack.enter_context(self._signals())
            stack.callback(self._stop_parts)
            try:
                service = self._start(stack, listener)
            except _Stopped:
                self._tell("stopped before it was ready")
                return 0
            on_ready(service)
            lost = self._watch()
            self._tell("stopping")
            return 1 if lost else 0

    def _start(self, stack: ExitStack, listener: socket.socket) -> Service:
        settings = self._settings
        host, port = listener.getsockname()[:2]
        if settings.redis_url is None:
            self._parts.append(Part("store", self._start_store))
            self._tell("store is ready")
        store_url = settings.store_url if self._store is None else self._store.url
        if self._seed is not None:
            _with_store(store_url, self._seed)
        self._ensure_key(store_url)

        # Ray starts while the API does; it must outlive the dispatcher, which is stopped first.
        if self._trains and not settings.ray_address:
            self._parts.append(Part("ray", self._start_ray))
        environment = {
            **self._family.environment(),
            "STROP_HOME": str(settings.home),
            "STROP_REDIS_URL": store_url,
        }
        if settings.data_roots is None and is_loopback(host):
            environment["STROP_DATA_ROOTS"] = "/"  # who reaches it is its own user
        # The socket stays ours as well: while the API is started again, requests wait in it.
        self._parts.append(
            Part("api", lambda: self._spawn("api", environment, listener.fileno(), deadline=10))
        )
        if self._ray is not None:
            self._tell(f"Ray is ready at {self._ray_address()}")
        if self._trains:
            self._parts.append(Part("dispatcher", lambda: self._start_dispatcher(environment)))

        scheme = "http" if settings.tls_cert is None else "https"
        url = f"{scheme}://{_reachable(host)}:{port}"
        self._wait("api", lambda: _answers(f"{url}/readyz"))
        self._tell(f"API is ready at {url}")
        if self._trains:
            self._wait("dispatcher", lambda: _with_store(store_url, Store.workers))
            self._tell("dispatcher is ready")

        write_private(settings.service_file, json.dumps({"url": url, "pid": os.getpid()}))
        stack.callback(settings.service_file.unlink, missing_ok=True)
        metrics = None if self._ray is None else self._ray.metrics_url
        return Service(url, settings.api_key_file, settings.home, metrics)

    @property
    def _trains(self) -> bool:
        """Whether it runs jobs: a store that is seeded is there to be looked at."""
        return self._seed is None

    def _start_store(self) -> Running:
        if self._store is None:
            self._store = EmbeddedValkey.start(self._settings.valkey_folder)
        else:
            self._store.start_again()
        return Running(self._store.process, self._store.log, self._store.stop)

    def _start_ray(self) -> Running:
        """Start the head. Again: the dispatcher has lost its cluster and starts again too."""
        lost = self._ray
        if lost is not None:
            if self._started:
                self._part("dispatcher").kill()
            self._stop_ray(lost)
        port = self._settings.metrics_port if lost is None else lost.metrics_port
        ray = self._ray = LocalRay.start(self._settings, self._ray_family, port)
        if self._started:
            self._ray_address()
        return Running(
            ray.process, ray.log, lambda: self._stop_ray(ray), was_late=lambda: ray.was_late
        )

    def _ray_address(self) -> str:
        """Where the head is, as soon as it answers. Raises CannotStart."""

        def ready() -> str | None:
            ray = self._ray  # another one, when it was started again meanwhile
            if ray is not None and ray.process.poll() is not None:
                raise CannotStart(f"ray ended by itself while it started (see {ray.log})")
            return ray and ray.address

        return self._wait("ray", ready)

    def _stop_ray(self, ray: LocalRay) -> None:
        ray.stop(self._ray_family, self._settings.logs_folder / "ray", deadline=20)

    def _start_dispatcher(self, environment: dict[str, str]) -> Running:
        if self._ray is not None:
            address = self._ray_address()
            environment = environment | self._ray.environment() | {"STROP_RAY_ADDRESS": address}
        return self._spawn("dispatcher", environment, deadline=dispatcher.STOP_SECONDS + 10)

    def _ensure_key(self, store_url: str) -> None:
        """The local user's key, made anew when there is none or this store does not know it."""
        file = self._settings.api_key_file
        token = file.read_text(encoding="utf-8").strip() if file.exists() else ""

        async def good(store: Store) -> str:
            keys = KeyStore(store.link)
            key = await keys.check(token)
            if key is not None and all(map(key.caller.may, self._scopes)):
                return token
            return (await keys.create("local user", scopes=self._scopes)).token

        if (mine := _with_store(store_url, good)) != token:
            write_private(file, mine)

    def _spawn(
        self, name: str, environment: dict[str, str], fd: int | None = None, *, deadline: float
    ) -> Running:
        """Start `services.<name>`; when all ends it has `deadline` seconds."""
        log = self._settings.logs_folder / f"{name}.log"
        process = spawn(
            [sys.executable, "-m", f"services.{name}", *([] if fd is None else ["--fd", str(fd)])],
            log=log,
            env=environment,
            pass_fds=[] if fd is None else [fd],
        )
        return Running(process, log, lambda: stop(process, deadline=deadline))

    def _wait(self, name: str, ready: Callable[[], T | None]) -> T:
        """What `ready` answers as soon as it is true. Raises CannotStart at the deadline."""
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            if not self._started and (dead := next((p for p in self._parts if p.dead), None)):
                if not dead.was_late:
                    raise CannotStart(f"{dead.name} {dead.last_words}")
                self._tell(
                    f"{dead.name} missed its own deadline on a busy machine; starting it again"
                )
                dead.start_again()
            if value := ready():
                return value
            if self._asked.wait(0.1):
                raise _Stopped
        raise CannotStart(
            f"{name} was not ready within {_READY_SECONDS:.0f} s; see {self._settings.logs_folder}"
        )

    def _watch(self) -> bool:
        """Wait for a signal, and start again what dies; true when a part was given up."""
        self._started = True
        tidied = time.monotonic()
        while not self._asked.wait(_LOOK_SECONDS):
            try:
                if not all(part.revive(self._tell) for part in self._parts):
                    return True
            except _Stopped:
                return False
            if time.monotonic() - tidied >= _TIDY_SECONDS:
                tidied = time.monotonic()
                self._family.tidy()
                self._ray_family.tidy()
        return False

    def _part(self, name: str) -> Part:
        return next(part for part in self._parts if part.name == name)

    def _stop_parts(self) -> None:
        for part in reversed(self._parts):
            part.stop()
        self._end_families(5)

    def _end_families(self, deadline: float) -> None:
        for family in (self._family, self._ray_family):
            family.end(deadline=deadline)

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


def up(
    settings: Settings,
    *,
    tell: Tell,
    on_ready: Callable[[Service], None],
    seed: Callable[[Store], Awaitable[None]] | None = None,
    scopes: Sequence[Scope] = ("admin",),
) -> int:
    """Run the local service in the foreground, from the main thread, until a signal stops it.

    `tell` gets a line for each part; `on_ready` is called once all of them are. What `seed` puts
    into the store can be looked at: then there is neither Ray nor a dispatcher. The user's key
    has these scopes. Returns the exit status. Raises CannotStart or StoreUnavailable, with
    nothing left running, and whatever `seed` raises.
    """
    return _Local(settings, tell, seed, scopes).run(on_ready)


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
