"""A job's events as a stream of Server-Sent Events.

Each carries its number as `id:`, so a client that lost the connection goes on where it
stopped (`Last-Event-ID`). Comments keep idle connections open.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.sse import format_sse_event
from pydantic import BaseModel

from services.api.models import EventObject
from services.errors import StropError
from services.event_feed import EventFeed
from services.jobs import Event

KEEPALIVE = b": still here\n"
"""A comment without the blank line that ends an event: OpenAI's client takes that line for an
event without data, once it has seen an `id:`."""

_log = logging.getLogger(__name__)


def get_feed(request: Request) -> EventFeed:
    """The feed of events of this app."""
    return request.app.state.feed


FeedParam = Annotated[EventFeed, Depends(get_feed)]


async def server_sent(
    events: AsyncIterator[Event],
    shown: Callable[[Event], BaseModel] = EventObject.of,
    *,
    keepalive_seconds: float,
) -> AsyncIterator[bytes]:
    """The events as they are `shown`, with a comment whenever none came for so long."""
    waiting: asyncio.Future[Event] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(events))
            await asyncio.wait({waiting}, timeout=keepalive_seconds)
            if not waiting.done():
                yield KEEPALIVE
                continue
            try:
                event = waiting.result()
            except StopAsyncIteration:
                return
            except StropError as error:
                # The status line is long sent: the client sees the end and comes back.
                _log.warning("a stream of events ended early: %s", error)
                return
            waiting = None
            # In ASCII: FastAPI cuts data at every line end that Unicode knows, JSON may hold those.
            data = shown(event).model_dump_json(ensure_ascii=True)
            yield format_sse_event(id=str(event.id), data_str=data)
    finally:
        if waiting is not None:
            waiting.cancel()
