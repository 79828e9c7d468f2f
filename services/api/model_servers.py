"""The way from the API to the models' servers: wait until a model is ready, ask, pass on.

A wish in Redis makes the serving loop load a model (services/serving.py); the question goes to
the model's server by HTTP with the service's own token. Every wait has a deadline, and whatever
goes wrong there becomes one of our errors.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from services.errors import InvalidRequest, ModelUnavailable, Problem, StoreUnavailable, StropError
from services.served_models import ServedModels, model_key
from services.serving_plan import IN_USE_SECONDS, RETRY_SECONDS
from services.settings import Settings

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
_TOUCH_SECONDS = IN_USE_SECONDS / 3
_CONNECT_SECONDS = 10.0
_MESSAGE_CHARACTERS = 1000
_DATA = b"data: "
_DONE = b"data: [DONE]"

Count = Callable[[int, int], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Target:
    """A model as it is served: the name clients know it by, and what is loaded."""

    name: str
    path: str

    @property
    def key(self) -> str:
        """Its key among the served models."""
        return model_key(self.name, self.path)


@dataclass(slots=True)
class _Meter:
    """The tokens of one request, as far as they are known."""

    prompt: int = 0
    completion: int = 0

    def read(self, usage: dict[str, Any] | None) -> None:
        """Take what a chunk or an answer says."""
        if usage:
            self.prompt = int(usage.get("prompt_tokens") or 0)
            self.completion = int(usage.get("completion_tokens") or 0)


@dataclass
class ModelServers:
    """The models' servers, for one API process; `close` it."""

    models: ServedModels
    settings: Settings
    _in_use: Counter[Target] = field(default_factory=Counter[Target])
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    _touching: bool = False

    def __post_init__(self) -> None:
        """Nothing is asked of the environment's proxies: the servers are our own."""
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        self._client = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)

    async def close(self) -> None:
        """Close every connection, and wait until the last tokens are counted."""
        self._in_use.clear()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * _TOUCH_SECONDS)
        await self._client.aclose()

    async def answer(self, target: Target, route: str, body: Any, count: Count) -> dict[str, Any]:
        """The whole answer to one request. Raises InvalidRequest and ModelUnavailable."""
        with self._use(target):
            url = await self._url(target)
            try:
                async with asyncio.timeout(self.settings.serve_request_seconds):
                    response = await self._client.send(await self._request(url + route, body))
            except TimeoutError as error:
                raise self._late(target) from error
            except httpx.TransportError as error:
                raise _lost(target, error) from error
            if response.status_code != 200:
                raise _refusal(target, response.status_code, response.content)
            data: dict[str, Any] = response.json()
            meter = _Meter()
            meter.read(data.get("usage"))
            await count(meter.prompt, meter.completion)
            return data

    async def stream(
        self, target: Target, route: str, body: Any, count: Count, *, wants_usage: bool
    ) -> AsyncIterator[bytes]:
        """The answer as Server-Sent Events; what is wrong before the first one is raised.

        The model's server stops as soon as nobody reads any more.
        """
        loop = asyncio.get_running_loop()
        with self._use(target):
            url = await self._url(target)
            deadline = loop.time() + self.settings.serve_request_seconds
            try:
                async with asyncio.timeout_at(deadline):
                    request = await self._request(url + route, body)
                    response = await self._client.send(request, stream=True)
                    if response.status_code != 200:
                        refused = await response.aread()
                        await response.aclose()
                        raise _refusal(target, response.status_code, refused)
            except TimeoutError as error:
                raise self._late(target) from error
            except httpx.TransportError as error:
                raise _lost(target, error) from error
        return self._events(target, response, deadline, count, wants_usage=wants_usage)

    async def _events(
        self,
        target: Target,
        response: httpx.Response,
        deadline: float,
        count: Count,
        *,
        wants_usage: bool,
    ) -> AsyncIterator[bytes]:
        meter = _Meter()
        lines = _lines(response)
        with self._use(target):
            try:
                while True:
                    async with asyncio.timeout_at(deadline):
                        line = await anext(lines, None)
                    if line is None:
                        raise httpx.RemoteProtocolError("it ended before its answer did")
                    if (event := _event(line, meter, wants_usage=wants_usage)) is not None:
                        yield event
                    if line == _DONE:
                        return
            except TimeoutError:
                yield _error_event(self._late(target))
            except httpx.TransportError as error:
                yield _error_event(_lost(target, error))
            finally:
                # The client may be gone and this task with it: what is left to do has its own.
                self._later(response.aclose())
                self._later(count(meter.prompt, meter.completion))

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
    def _use(self, target: Target) -> Any:
        """Keep the model from being evicted."""
        self._in_use[target] += 1
        if not self._touching:
            self._touching = True
            self._later(self._touch())
        try:
            yield
        finally:
            self._in_use[target] -= 1
            self._in_use += Counter[Target]()  # forgets what is at zero

    async def _touch(self) -> None:
        try:
            while self._in_use:
                with suppress(StoreUnavailable):  # the requests themselves will tell
                    await self.models.touch({target.key for target in self._in_use})
                await asyncio.sleep(_TOUCH_SECONDS)
        finally:
            self._touching = False

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_told(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _late(self, target: Target) -> ModelUnavailable:
        return ModelUnavailable(
            f"model {target.name} did not answer within {self.settings.serve_request_seconds:.0f} "
            "s (STROP_SERVE_REQUEST_SECONDS); ask for fewer tokens",
            param="model",
        )


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """The lines of an event stream. httpx would cut at every separator that Unicode knows, and
    JSON may hold those."""
    rest = b""
    async for piece in response.aiter_bytes():
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line


async def _told(work: Coroutine[Any, Any, None]) -> None:
    """Work that nobody waits for: its failure is logged."""
    try:
        await work
    except (StropError, httpx.HTTPError) as error:
        _log.warning("after a completion: %s", error)


def _event(line: bytes, meter: _Meter, *, wants_usage: bool) -> bytes | None:
    """One line of the model's server as it goes on; None for what the client did not ask for."""
    if line == _DONE:
        return _DONE + b"\n\n"
    if not line.startswith(_DATA):
        return None
    chunk: dict[str, Any] = json.loads(line.removeprefix(_DATA))
    if "error" in chunk:
        return _error_event(ModelUnavailable(_said(chunk)))
    usage = chunk.pop("usage", None)
    meter.read(usage)
    if not chunk.get("choices"):
        if not wants_usage:
            return None
        chunk["usage"] = usage
    elif wants_usage:
        chunk["usage"] = None
    return _DATA + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def _error_event(error: StropError) -> bytes:
    """An error behind the first event, where OpenAI's clients look for it."""
    body = {"message": error.message, "type": "server_error", "param": None, "code": error.code}
    return _DATA + json.dumps({"error": body}).encode() + b"\n\n"


def _refusal(target: Target, status: int, body: bytes) -> StropError:
    """What the model's server did not do, as our error."""
    try:
        data: Any = json.loads(body)
    except ValueError:
        data = None
    if 400 <= status < 500 and isinstance(data, dict):
        error = data.get("error")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        param = error.get("param") if isinstance(error, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        return InvalidRequest([Problem(str(param or "body"), _said(data))])  # pyright: ignore[reportUnknownArgumentType]
    _log.error("model %s: status %d: %s", target.name, status, body[:_MESSAGE_CHARACTERS])
    if status == 503:
        return ModelUnavailable(
            f"model {target.name} has more requests than it can take; ask again", param="model"
        )
    return ModelUnavailable(
        f"the engine of model {target.name} failed on this request; it is started anew when it "
        "does not recover: ask again",
        param="model",
    )


def _said(data: dict[str, Any]) -> str:
    error = data.get("error")
    message = error.get("message") if isinstance(error, dict) else error  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return str(message)[:_MESSAGE_CHARACTERS]  # pyright: ignore[reportUnknownArgumentType]


def _lost(target: Target, error: httpx.TransportError) -> ModelUnavailable:
    return ModelUnavailable(
        f"the server of model {target.name} was lost ({type(error).__name__}); it is started "
        "anew: ask again",
        param="model",
    )
