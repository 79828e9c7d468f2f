"""The routes of fine-tuning jobs: create, list, retrieve, cancel, events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.responses import Response

from services.api.admission import admitted
from services.api.audited import AuditParam
from services.api.auth import StoreParam, allowed
from services.api.conditional import represented
from services.api.events import FeedParam, server_sent
from services.api.models import CreateJob, EventPage, JobObject, JobPage
from services.api.once import OnceParam
from services.callers import Caller
from services.errors import IllegalTransition, InvalidRequest, Problem

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["Fine-tuning jobs"])

KEEPALIVE_SECONDS = 15.0

Reader = Annotated[Caller, Depends(allowed("jobs:read"))]
Writer = Annotated[Caller, Depends(allowed("jobs:write"))]

Limit = Annotated[int, Query(ge=1, le=100, description="Items in a page.")]
EventId = Annotated[
    int | None, Query(ge=0, description="Only events behind the one of this number.")
]


@router.post("", summary="Queue a job", response_model=JobObject)
async def create_job(
    request: Request,
    body: CreateJob,
    store: StoreParam,
    caller: Writer,
    audit: AuditParam,
    once: OnceParam,
) -> Response:
    """Check the job, its task files and its model, and queue it."""

    async def create(request_id: str | None) -> Response:
        spec = await admitted(body)
        job = await store.create_job(
            spec.model_dump(mode="json"),
            tenant=caller.tenant,
            metadata=body.metadata,
            request_id=request_id,
        )
        await audit(caller, "job.create", job.id)
        return represented(request, JobObject.of(job), job.revision)

    return await once(caller.tenant, create)


@router.get("", summary="List jobs")
async def list_jobs(
    store: StoreParam,
    caller: Reader,
    after: Annotated[str | None, Query(description="Only jobs behind the one of this id.")] = None,
    limit: Limit = 20,
) -> JobPage:
    """Jobs, newest first."""
    return JobPage.of(*await store.list_jobs(caller.tenant, after, limit))


@router.get("/{job_id}", summary="Retrieve a job")
async def get_job(job_id: str, store: StoreParam, caller: Reader) -> JobObject:
    """The job as it stands."""
    return JobObject.of(await store.get_job(job_id, caller.tenant))


@router.post("/{job_id}/cancel", summary="Cancel a job")
async def cancel_job(
    job_id: str, store: StoreParam, caller: Writer, audit: AuditParam
) -> JobObject:
    """End a queued job, ask a running one to stop; cancelling twice is the same as once."""
    job = await store.request_cancel(job_id, caller.tenant)
    if job.status in ("succeeded", "failed"):
        raise IllegalTransition(f"job {job_id} is {job.status} and cannot be cancelled any more")
    await audit(caller, "job.cancel", job_id)
    return JobObject.of(job)


@router.get(
    "/{job_id}/events",
    summary="List or follow a job's events",
    response_model=EventPage,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def list_events(
    job_id: str,
    store: StoreParam,
    feed: FeedParam,
    caller: Reader,
    request: Request,
    after: EventId = None,
    limit: Limit = 20,
    stream: Annotated[
        bool, Query(description="Follow as Server-Sent Events, like `Accept: text/event-stream`.")
    ] = False,
    last_event_id: Annotated[
        str | None, Header(description="When following: the last event already seen.")
    ] = None,
) -> Response | EventPage:
    """The events in the order they happened, or a stream that ends when the job does."""
    if not stream and "text/event-stream" not in request.headers.get("accept", ""):
        events = await store.events(job_id, after, limit + 1, tenant=caller.tenant)
        return EventPage.of(events[:limit], len(events) > limit)
    if last_event_id:
        if not last_event_id.isdecimal():
            raise InvalidRequest(
                [Problem("Last-Event-ID", f"{last_event_id!r} is not the number of an event")]
            )
        after = int(last_event_id)
    # A 404 or 429 must come before the stream begins.
    await store.get_job(job_id, caller.tenant)
    feed.check_room()
    return StreamingResponse(
        server_sent(
            feed.follow(job_id, after, tenant=caller.tenant), keepalive_seconds=KEEPALIVE_SECONDS
        ),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
