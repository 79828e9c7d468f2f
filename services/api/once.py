"""`Idempotency-Key`: a request that creates something is carried out once, however often it comes.

The same key with the same request gets the same response, byte for byte, for a day; with
another request it is 409. While the first is being carried out the others get 409 with
`Retry-After`. A request that was refused created nothing, so its key is free again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.responses import Response

from services.errors import InvalidRequest, Problem
from services.idempotency import Answer, IdempotencyKeys, Turn

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_KEPT_HEADERS = ("content-type", "etag", "location")


class Once:
    """Carries the request out, or repeats what it was answered before."""

    def __init__(
        self,
        request: Request,
        idempotency_key: Annotated[
            str | None,
            Header(
                min_length=1,
                max_length=255,
                description="Makes the request safe to repeat for 24 hours: with the same key and "
                "the same request the response is the same, with another request it is 409. "
                "1 to 255 visible ASCII characters, best a UUID.",
            ),
        ] = None,
    ) -> None:
        """A dependency."""
        if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
            raise InvalidRequest(
                [Problem("Idempotency-Key", "has 1 to 255 visible ASCII characters, no spaces")]
            )
        self._request, self._key = request, idempotency_key

    async def __call__(
        self, tenant: str, create: Callable[[str | None], Awaitable[Response]]
    ) -> Response:
        """The response of `create`, which is given an id to create under, None for any."""
        async with self.turn(tenant) as turn:
            return await turn(hashlib.sha256(await self._request.body()).hexdigest(), create)

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncGenerator[OnceTurn]:
        """The same for a request whose body is read first: call the turn with its fingerprint."""
        place = f"{self._request.method} {self._request.url.path}"
        if self._key is None:
            yield OnceTurn(None, place)
            return
        keys: IdempotencyKeys = self._request.app.state.idempotency
        async with keys.turn(tenant, self._key) as turn:
            yield OnceTurn(turn, place)


class OnceTurn:
    """The turn of one request."""

    def __init__(self, turn: Turn | None, place: str) -> None:
        """Use `Once.turn`."""
        self._turn, self._place = turn, place

    async def __call__(
        self, fingerprint: str, create: Callable[[str | None], Awaitable[Response]]
    ) -> Response:
        """The response to the request of this fingerprint. Raises IdempotencyConflict."""
        if self._turn is None:
            return await create(None)
        fingerprint = f"{self._place} {fingerprint}"
        before = self._turn.answer(fingerprint)
        if before is not None:
            return Response(before.body, headers={**before.headers, "Idempotency-Replayed": "true"})
        response = await create(self._turn.id(fingerprint))
        kept = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        await self._turn.keep(fingerprint, Answer(bytes(response.body).decode(), kept))
        return response


OnceParam = Annotated[Once, Depends(Once)]
