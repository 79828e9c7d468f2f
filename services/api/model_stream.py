"""A streamed answer on its way from a model's server to a client.

In: the server's events, each of which carries the tokens so far. Out: the same events as the
client asked for them, and at the end, however it came, the count. Every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import httpx

from services.api.model_faults import error_event, late, lost, said
from services.errors import ModelUnavailable

Count = Callable[[int, int], Coroutine[Any, Any, None]]
"""Takes the tokens of a prompt and of what was drawn."""
Later = Callable[[Coroutine[Any, Any, None]], None]
"""Takes work that nobody waits for."""

_DATA = b"data: "
_DONE = b"data: [DONE]"


@dataclass(slots=True)
class Meter:
    """The tokens of one request, as far as they are known."""

    prompt: int = 0
    completion: int = 0

    def read(self, usage: dict[str, Any] | None) -> None:
        """Take what an event or an answer says."""
        if usage:
            self.prompt = int(usage.get("prompt_tokens") or 0)
            self.completion = int(usage.get("completion_tokens") or 0)


@dataclass
class EventStream:
    """The events of one answer; `close` it, read or not: the server draws until then."""

    model: str
    response: httpx.Response
    seconds: float
    deadline: float  # of the loop's clock
    wants_usage: bool
    use: AbstractContextManager[None]
    count: Count
    later: Later
    _meter: Meter = field(default_factory=Meter)
    _closed: bool = False

    async def events(self) -> AsyncIterator[bytes]:
        """The events; what goes wrong on the way is the last one."""
        lines = _lines(self.response)
        try:
            while True:
                async with asyncio.timeout_at(self.deadline):
                    line = await anext(lines, None)
                if line is None:
                    raise httpx.RemoteProtocolError("it ended before its answer did")
                if (event := self._event(line)) is not None:
                    yield event
                if line == _DONE:
                    return
        except TimeoutError:
            yield error_event(late(self.model, self.seconds))
        except httpx.TransportError as error:
            yield error_event(lost(self.model, error))

    def close(self) -> None:
        """End the answer, and count what was drawn of it. Twice is the same as once."""
        if not self._closed:
            self._closed = True
            self.use.__exit__(None, None, None)
            # The client may be gone and its task with it: what is left to do has its own.
            self.later(self.response.aclose())
            self.later(self.count(self._meter.prompt, self._meter.completion))

    def _event(self, line: bytes) -> bytes | None:
        """One line as it goes on; None for what the client did not ask for."""
        if line == _DONE:
            return _DONE + b"\n\n"
        if not line.startswith(_DATA):
            return None
        chunk: dict[str, Any] = json.loads(line.removeprefix(_DATA))
        if "error" in chunk:
            return error_event(ModelUnavailable(said(chunk)))
        usage = chunk.pop("usage", None)
        self._meter.read(usage)
        if not chunk.get("choices"):
            if not self.wants_usage:
                return None
            chunk["usage"] = usage
        elif self.wants_usage:
            chunk["usage"] = None
        return _DATA + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """The lines of an event stream. httpx would cut at every separator that Unicode knows, and
    JSON may hold those."""
    rest = b""
    async for piece in response.aiter_bytes():
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line
