"""The way from the API to the models' servers: wait until a model is ready, ask, pass on.

A wish in Redis makes the serving loop load a model (services/serving.py); the question goes to
the model's server by HTTP with the service's own token. Every wait has a deadline, and whatever
goes wrong there becomes one of our errors.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from services.api.model_faults import late, lost, refusal
from services.api.model_stream import Count, EventStream, Meter
from services.errors import ModelUnavailable, StoreUnavailable, StropError
from services.served_models import ServedModels, model_key
from services.serving_plan import IN_USE_SECONDS, RETRY_SECONDS
from services.settings import Settings

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
_TOUCH_SECONDS = IN_USE_SECONDS / 3
_CONNECT_SECONDS = 10.0
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """A model as it is served: the name clients know it by, and what is loaded."""

    name: str
    path: str

    @property
    def key(self) -> str:
        """Its key among the served models."""
        return model_key(self.name, self.path)


@dataclass
class ModelServers:
    """The models' servers, for one API process; `close` it."""

    models: ServedModels
    settings: Settings
    _in_use: Counter[Target] = field(default_factory=Counter[Target])
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    _toucher: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        """Nothing is asked of the environment's proxies: the servers are our own."""
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        self._client = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)

    async def close(self) -> None:
        """Close every connection, and wait until the last tokens are counted."""
        if self._toucher is not None:
            self._toucher.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)
        await self._client.aclose()

    async def answer(self, target: Target, route: str, body: Any, count: Count) -> dict[str, Any]:
        """The whole answer to one request. Raises InvalidRequest and ModelUnavailable."""
        with self._use(target):
            url = await self._url(target)
            async with self._asking(target):
                response = await self._client.send(await self._request(url + route, body))
            if response.status_code != 200:
                raise refusal(target.name, response.status_code, response.content)
            data: dict[str, Any] = response.json()
            meter = Meter()
            meter.read(data.get("usage"))
            await count(meter.prompt, meter.completion)
            return data

    async def stream(
        self, target: Target, route: str, body: Any, count: Count, *, wants_usage: bool
    ) -> EventStream:
        """The answer as Server-Sent Events, to be closed; what is wrong before the first one is
        raised: InvalidRequest and ModelUnavailable."""
        with ExitStack() as until_it_streams:
            use = self._use(target)
            until_it_streams.enter_context(use)
            url = await self._url(target)
            deadline = asyncio.get_running_loop().time() + self.settings.serve_request_seconds
            async with self._asking(target):
                request = await self._request(url + route, body)
                response = await self._client.send(request, stream=True)
                if response.status_code != 200:
                    refused = await response.aread()
                    await response.aclose()
                    raise refusal(target.name, response.status_code, refused)
            until_it_streams.pop_all()
        return EventStream(
            model=target.name,
            response=response,
            seconds=self.settings.serve_request_seconds,
            deadline=deadline,
            wants_usage=wants_usage,
            use=use,
            count=count,
            later=self._later,
        )

    @asynccontextmanager
    async def _asking(self, target: Target) -> AsyncGenerator[None]:
        """The deadline of a request, and the words for what goes wrong on its way."""
        seconds = self.settings.serve_request_seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise late(target.name, seconds) from error
        except httpx.TransportError as error:
            raise lost(target.name, error) from error

    async def _url(self, target: Target) -> str:
        """Where the model answers, as soon as it is ready. Raises ModelUnavailable."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.serve_wait_seconds
        while True:
            wish = await self.models.want(target.key, target.name, target.path)
            serving = wish.serving
            if serving is not None and serving.state == "ready" and serving.url is not None:
                return serving.url
            refused = serving is not None and serving.state == "refused"
            if serving is not None and refused and wish.now - serving.at < RETRY_SECONDS:
                raise ModelUnavailable(
                    f"model {target.name} cannot be loaded now: {serving.reason}", param="model"
                )
            if not wish.heard:
                raise ModelUnavailable(
                    f"model {target.name} is not loaded, and no dispatcher runs that could load it",
                    param="model",
                )
            if loop.time() >= deadline:
                state = "loading" if serving is None or refused else serving.state
                why = f" ({serving.reason})" if serving is not None and serving.reason else ""
                raise ModelUnavailable(
                    f"model {target.name} is still {state} after "
                    f"{self.settings.serve_wait_seconds:.0f} s{why}; ask again",
                    param="model",
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def _request(self, url: str, body: Any) -> httpx.Request:
        token = await self.models.token()
        headers = {"Authorization": f"Bearer {token}"}
        return self._client.build_request("POST", url, json=body, headers=headers)

    @contextmanager
    def _use(self, target: Target) -> Generator[None]:
        """Keep the model from being evicted."""
        self._in_use[target] += 1
        if self._toucher is None or self._toucher.done():
            self._toucher = asyncio.create_task(self._touch())
        try:
            yield
        finally:
            self._in_use[target] -= 1
            self._in_use += Counter[Target]()  # forgets what is at zero

    async def _touch(self) -> None:
        while self._in_use:
            with suppress(StoreUnavailable):  # the requests themselves will tell
                await self.models.touch({target.key for target in self._in_use})
            await asyncio.sleep(_TOUCH_SECONDS)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_told(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _told(work: Coroutine[Any, Any, None]) -> None:
    """Work that nobody waits for: its failure is logged."""
    try:
        await work
    except (StropError, httpx.HTTPError) as error:
        _log.warning("after a completion: %s", error)
