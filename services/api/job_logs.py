"""The routes of what a job tells: events, metrics, logs, checkpoints.

Events and metrics come as pages or as a stream of Server-Sent Events that goes on where a
client stopped (`Last-Event-ID`) and ends when the job does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from services.api.auth import StoreParam
from services.api.events import FeedParam, server_sent
from services.api.jobs import Limit, Reader
from services.api.jobs import router as jobs
from services.api.models import (
    CheckpointObject,
    CheckpointPage,
    EventObject,
    EventPage,
    MetricsObject,
    MetricsPage,
)
from services.api.pages import paged
from services.errors import InvalidRequest, Problem
from services.event_feed import EventFeed
from services.jobs import Event
from services.store import Store

router = APIRouter(prefix=jobs.prefix, tags=["Fine-tuning jobs"])

KEEPALIVE_SECONDS = 15.0

_STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}

EventId = Annotated[
    int | None, Query(ge=0, le=2**53, description="Only what is behind the event of this number.")
]
Stream = Annotated[
    bool, Query(description="Follow as Server-Sent Events, like `Accept: text/event-stream`.")
]
LastEventId = Annotated[
    str | None, Header(max_length=32, description="When following: the last event already seen.")
]


@router.get(
    "/{job_id}/events",
    summary="List or follow a job's events",
    response_model=EventPage,
    responses=_STREAMED,
)
async def list_events(
    request: Request,
    job_id: str,
    store: StoreParam,
    feed: FeedParam,
    caller: Reader,
    after: EventId = None,
    limit: Limit = 20,
    stream: Stream = False,
    last_event_id: LastEventId = None,
) -> Response | dict[str, Any]:
    """The events in the order they happened, or a stream that ends when the job does."""
    if _streams(request, stream):
        after = _resumed(after, last_event_id)
        return await _followed(store, feed, job_id, after, caller.tenant, EventObject.of, _any)
    events = await store.events(job_id, after, limit + 1, tenant=caller.tenant)
    return paged(map(EventObject.of, events[:limit]), len(events) > limit)


@router.get(
    "/{job_id}/metrics",
    summary="List or follow a job's metrics",
    response_model=MetricsPage,
    responses=_STREAMED,
)
async def list_metrics(
    request: Request,
    job_id: str,
    store: StoreParam,
    feed: FeedParam,
    caller: Reader,
    after: EventId = None,
    limit: Limit = 20,
    stream: Stream = False,
    last_event_id: LastEventId = None,
) -> Response | dict[str, Any]:
    """The numbers of every step and evaluation, or a stream of them."""
    if _streams(request, stream):
        after = _resumed(after, last_event_id)
        return await _followed(
            store, feed, job_id, after, caller.tenant, MetricsObject.of, _measured
        )
    found: list[Event] = []
    async for event in _stored(store, job_id, after, caller.tenant):
        if _measured(event):
            found.append(event)
            if len(found) > limit:
                break
    return paged(map(MetricsObject.of, found[:limit]), len(found) > limit)


@router.get(
    "/{job_id}/logs", summary="Read or follow a job's log", response_class=PlainTextResponse
)
async def read_logs(
    job_id: str,
    store: StoreParam,
    feed: FeedParam,
    caller: Reader,
    after: EventId = None,
    follow: Annotated[bool, Query(description="Go on until the job ends.")] = False,
) -> Response:
    """A line for each event: when, how serious, what happened."""
    # A 404 or 429 must come before the stream begins.
    await store.get_job(job_id, caller.tenant)
    if follow:
        feed.check_room()
    tenant = caller.tenant
    events = (
        feed.follow(job_id, after, tenant=tenant)
        if follow
        else _stored(store, job_id, after, tenant)
    )
    return StreamingResponse(_lines(events), media_type="text/plain", headers=_headers())


@router.get(
    "/{job_id}/checkpoints", summary="List a job's checkpoints", response_model=CheckpointPage
)
async def list_checkpoints(
    job_id: str,
    store: StoreParam,
    caller: Reader,
    after: Annotated[
        str | None, Query(description="Only checkpoints behind the one of this id.")
    ] = None,
    limit: Limit = 10,
) -> dict[str, Any]:
    """The checkpoints that are still there, newest first."""
    job = await store.get_job(job_id, caller.tenant)
    found, has_more = await store.checkpoints(job_id, caller.tenant, after, limit)
    return paged((CheckpointObject.of(one, job) for one in found), has_more)


async def _followed(
    store: Store,
    feed: EventFeed,
    job_id: str,
    after: int | None,
    tenant: str,
    shown: Callable[[Event], EventObject | MetricsObject],
    wanted: Callable[[Event], bool],
) -> Response:
    # A 404 or 429 must come before the stream begins.
    await store.get_job(job_id, tenant)
    feed.check_room()
    events = feed.follow(job_id, after, tenant=tenant)
    return StreamingResponse(
        server_sent(_only(events, wanted), shown, keepalive_seconds=KEEPALIVE_SECONDS),
        media_type="text/event-stream",
        headers=_headers(),
    )


async def _only(
    events: AsyncIterator[Event], wanted: Callable[[Event], bool]
) -> AsyncIterator[Event]:
    async for event in events:
        if wanted(event):
            yield event


async def _stored(
    store: Store, job_id: str, after: int | None, tenant: str
) -> AsyncIterator[Event]:
    """Every event that there is by now, from behind `after`."""
    while page := await store.events(job_id, after, tenant=tenant):
        for event in page:
            yield event
        after = page[-1].id


async def _lines(events: AsyncIterator[Event]) -> AsyncIterator[str]:
    async for event in events:
        at = datetime.fromtimestamp(event.created_at, UTC).isoformat(timespec="seconds")
        text = event.message.replace("\n", "\n    ")
        yield f"{at} {event.level:<5} {text}\n"


def _any(event: Event) -> bool:
    return True


def _measured(event: Event) -> bool:
    return event.type == "metrics"


def _streams(request: Request, stream: bool) -> bool:
    return stream or "text/event-stream" in request.headers.get("accept", "")


def _resumed(after: int | None, last_event_id: str | None) -> int | None:
    """Where a follower goes on. Raises InvalidRequest for what is no event's number."""
    if not last_event_id:
        return after
    if not last_event_id.isdecimal() or not last_event_id.isascii():
        raise InvalidRequest(
            [Problem("Last-Event-ID", f"{last_event_id!r} is not the number of an event")]
        )
    return int(last_event_id)


def _headers() -> dict[str, str]:
    return {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
