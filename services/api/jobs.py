"""The routes of fine-tuning jobs: create, list, retrieve, change, cancel, pause, resume, retry."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from services.api.admission import Admitted, admitted
from services.api.audited import Audit, AuditParam, changes_nothing
from services.api.auth import StoreParam, allowed
from services.api.conditional import IfMatch, IfMatchParam, represented
from services.api.dry_run_report import DryRun, report
from services.api.dry_runs import DryRuns
from services.api.job_requests import MAX_PREVIEW, ChangeJob, CreateJob, RetryJob
from services.api.model_catalog import ModelCatalog
from services.api.model_policy import ModelPolicy
from services.api.models import JobObject, JobPage
from services.api.once import OnceParam
from services.api.pages import paged
from services.api.places import Places
from services.callers import Caller
from services.errors import IllegalTransition, InvalidRequest, Problem
from services.jobs import Job, JobStatus
from services.settings import Settings
from services.store import Store

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["Fine-tuning jobs"])

Reader = Annotated[Caller, Depends(allowed("jobs:read"))]
Writer = Annotated[Caller, Depends(allowed("jobs:write"))]
Limit = Annotated[int, Query(ge=1, le=100, description="Items in a page.")]

_METADATA = re.compile(r"metadata\[(?P<key>.{1,64})\]", re.DOTALL)
_DEEP = {
    "parameters": [
        {
            "name": "metadata",
            "in": "query",
            "required": False,
            "style": "deepObject",
            "explode": True,
            "description": "Only jobs whose metadata has these pairs: `metadata[team]=a`.",
            "schema": {
                "type": "object",
                "maxProperties": 16,
                "additionalProperties": {"type": "string", "maxLength": 512},
            },
        }
    ]
}


def _places(request: Request) -> Places:
    state = request.app.state
    settings: Settings = state.settings
    models = ModelPolicy.of(settings)
    catalog = ModelCatalog(state.store, settings.jobs_folder, models)

    async def folder_of(name: str, tenant: str) -> str:
        return (await catalog.find(name, tenant)).path

    roots = [Path(root) for root in settings.data_roots or ()]
    return Places(state.files, roots, settings.home, folder_of, models)


def _dry_runs(request: Request) -> DryRuns:
    return request.app.state.dry_runs


PlacesParam = Annotated[Places, Depends(_places)]
DryRunsParam = Annotated[DryRuns, Depends(_dry_runs)]


@router.post("", summary="Queue a job, or look at one", response_model=JobObject | DryRun)
async def create_job(
    request: Request,
    body: CreateJob,
    store: StoreParam,
    caller: Writer,
    places: PlacesParam,
    dry_runs: DryRunsParam,
    once: OnceParam,
    audit: AuditParam,
    dry_run: Annotated[bool, Query(description="As `dry_run` in the body.")] = False,
    preview: Annotated[
        int, Query(ge=0, le=MAX_PREVIEW, description="As `preview` in the body.")
    ] = 0,
) -> Response | DryRun:
    """Check the job, its task files and its model, and queue it.

    With `dry_run` nothing is queued: the answer says what the job would be and take.
    """
    if dry_run or body.dry_run:
        changes_nothing(request)
        found = await admitted(body, places, caller.tenant)
        looked = await dry_runs.look(found.spec, preview or body.preview)
        return await report(found, looked, store, caller.tenant, request.app.state.settings)

    async def create(request_id: str | None) -> Response:
        found = await admitted(body, places, caller.tenant)
        job = await _queued(store, caller, body, found, request_id)
        await audit(caller, "job.create", job.id, priority=job.priority)
        return represented(request, JobObject.of(job), job.revision)

    return await once(caller.tenant, create)


async def _queued(
    store: Store, caller: Caller, body: CreateJob, found: Admitted, request_id: str | None
) -> Job:
    return await store.create_job(
        found.spec.model_dump(mode="json"),
        tenant=caller.tenant,
        asked=found.asked,
        metadata=body.metadata,
        priority=body.priority,
        max_runtime_s=body.max_runtime,
        max_tokens=body.max_tokens,
        request_id=request_id,
    )


@router.get("", summary="List jobs", response_model=JobPage, openapi_extra=_DEEP)
async def list_jobs(
    request: Request,
    store: StoreParam,
    caller: Reader,
    after: Annotated[str | None, Query(description="Only jobs behind the one of this id.")] = None,
    limit: Limit = 20,
    status: Annotated[JobStatus | None, Query(description="Only jobs that stand so.")] = None,
) -> dict[str, Any]:
    """Jobs, newest first."""
    wanted = _metadata(request)
    jobs, has_more = await store.list_jobs(
        caller.tenant, after, limit, metadata=wanted, status=status
    )
    return paged(map(JobObject.of, jobs), has_more)


def _metadata(request: Request) -> dict[str, str]:
    """The pairs of `metadata[key]=value`, as OpenAI's clients send them."""
    wanted: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if not name.startswith("metadata"):
            continue
        match = _METADATA.fullmatch(name)
        if match is None or match["key"] in wanted:
            told = "is no filter; write metadata[key]=value, each key once"
            raise InvalidRequest([Problem("metadata", f"{name[:80]!r} {told}")])
        wanted[match["key"]] = value
    if len(wanted) > 16:
        raise InvalidRequest([Problem("metadata", "has more than 16 pairs")])
    return wanted


@router.get("/{job_id}", summary="Retrieve a job", response_model=JobObject)
async def get_job(request: Request, job_id: str, store: StoreParam, caller: Reader) -> Response:
    """The job as it stands."""
    job = await store.get_job(job_id, caller.tenant)
    return represented(request, JobObject.of(job), job.revision)


@router.patch("/{job_id}", summary="Change a job", response_model=JobObject)
async def change_job(
    request: Request,
    job_id: str,
    body: ChangeJob,
    store: StoreParam,
    caller: Writer,
    if_match: IfMatchParam,
    audit: AuditParam,
) -> Response:
    """Change what may change of a job that has not ended; a queued one finds its place anew."""
    job = await store.update_job(
        job_id,
        caller.tenant,
        revision=await _seen(store, job_id, caller, if_match),
        priority=body.priority,
        max_runtime_s=body.max_runtime,
        max_tokens=body.max_tokens,
        metadata=body.metadata,
    )
    await audit(caller, "job.change", job_id, fields=",".join(sorted(body.model_fields_set)))
    return represented(request, JobObject.of(job), job.revision)


@router.post("/{job_id}/cancel", summary="Cancel a job", response_model=JobObject)
async def cancel_job(
    request: Request,
    job_id: str,
    store: StoreParam,
    caller: Writer,
    if_match: IfMatchParam,
    audit: AuditParam,
) -> Response:
    """End a queued or paused job, ask a running one to stop; twice is the same as once."""
    job = await _asked(store.request_cancel, store, job_id, caller, if_match)
    if job.status in ("succeeded", "failed"):
        raise IllegalTransition(f"job {job_id} is {job.status} and cannot be cancelled any more")
    return await _told(request, job, caller, audit, "job.cancel")


@router.post("/{job_id}/pause", summary="Pause a job", response_model=JobObject)
async def pause_job(
    request: Request,
    job_id: str,
    store: StoreParam,
    caller: Writer,
    if_match: IfMatchParam,
    audit: AuditParam,
) -> Response:
    """Hold back a queued job; ask a running one to save itself and free what it holds."""
    job = await _asked(store.request_pause, store, job_id, caller, if_match)
    return await _told(request, job, caller, audit, "job.pause")


@router.post("/{job_id}/resume", summary="Resume a job", response_model=JobObject)
async def resume_job(
    request: Request,
    job_id: str,
    store: StoreParam,
    caller: Writer,
    if_match: IfMatchParam,
    audit: AuditParam,
) -> Response:
    """Queue a paused job again: it goes on from where it stopped."""
    job = await _asked(store.resume, store, job_id, caller, if_match)
    return await _told(request, job, caller, audit, "job.resume")


@router.post("/{job_id}/retry", summary="Try a job again", response_model=JobObject)
async def retry_job(
    request: Request,
    job_id: str,
    store: StoreParam,
    caller: Writer,
    once: OnceParam,
    audit: AuditParam,
    body: RetryJob | None = None,
) -> Response:
    """Queue a new job like one that has ended, from its first step or from a checkpoint."""

    async def create(request_id: str | None) -> Response:
        source = None
        if body is not None and body.checkpoint is not None:
            source = (await store.checkpoint(job_id, body.checkpoint, caller.tenant)).path
        job = await store.retry(job_id, caller.tenant, source=source, request_id=request_id)
        await audit(caller, "job.retry", job_id, job=job.id)
        return represented(request, JobObject.of(job), job.revision)

    return await once(caller.tenant, create)


async def _asked(
    change: Callable[..., Awaitable[Job]],
    store: Store,
    job_id: str,
    caller: Caller,
    if_match: IfMatch,
) -> Job:
    revision = await _seen(store, job_id, caller, if_match)
    return await change(job_id, caller.tenant, revision=revision)


async def _seen(store: Store, job_id: str, caller: Caller, if_match: IfMatch) -> int | None:
    """The revision that may be changed, None for any. Raises PreconditionFailed."""
    if if_match.revisions is None:
        return None
    job = await store.get_job(job_id, caller.tenant)
    if_match.check(job.revision)
    return job.revision


async def _told(request: Request, job: Job, caller: Caller, audit: Audit, action: str) -> Response:
    await audit(caller, action, job.id)
    return represented(request, JobObject.of(job), job.revision)
