"""Request bodies before any route sees them: bounded, in time, and strict JSON.

Two readers can never understand a body differently: duplicate keys, NaN, numbers beyond a
double, lone surrogates and deep nesting are refused. Routes that read their bodies as they
arrive are named, and see to bounds of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Set

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.errors import strop_error_response
from services.errors import MalformedBody, StropError, TooLarge, TooSlow, UnsupportedMedia
from verifiers import strict_json

BODY_SECONDS = 30.0
"""Longest that a body may take to arrive."""


class Bodies:
    """Answers 413, 408, 415 or 400 to a body that no route should see.

    The routes in `streamed`, (method, path), are let through.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        streamed: Set[tuple[str, str]],
        seconds: float = BODY_SECONDS,
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._streamed = streamed
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"], scope["path"]) in self._streamed:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            body = await self._read(request, receive)
            if body:
                _check(request, body)
        except StropError as error:
            await strop_error_response(request, error)(scope, receive, send)
            return
        if body is None:
            return
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, replay, send)

    async def _read(self, request: Request, receive: Receive) -> bytes | None:
        """The whole body, which is small by definition; None when the caller went away."""
        announced = request.headers.get("content-length", "0")
        if not announced.isdecimal() or int(announced) > self._max_bytes:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self._max_bytes:
                        raise self._too_large()
        except TimeoutError:
            raise TooSlow(
                f"the request's body did not arrive within {self._seconds:.0f} s"
            ) from None
        return bytes(body)

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"the request body is larger than {self._max_bytes} bytes; an operator can raise "
            "STROP_MAX_BODY_BYTES"
        )


def _check(request: Request, body: bytes) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if kind != "application/json" or coding != "identity":
        raise UnsupportedMedia(
            f"the body is {kind[:100] or 'without a type'!r}"
            f"{f', encoded as {coding[:100]!r}' if coding != 'identity' else ''}; this route reads "
            "application/json as it is"
        )
    try:
        strict_json.loads(body.decode())
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not UTF-8 (byte {error.start})") from None
    except strict_json.StrictJsonError as error:
        raise MalformedBody(f"the body is not strict JSON: {error}") from None
