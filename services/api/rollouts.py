"""The routes of rollouts: what a job sampled, how it was judged, and what its tokens were worth.

Answered from the traces of the job, while it runs too: a step's file appears whole. A
rollout is named `<step>-<group>-<rollout>`, by the step that events tell.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from services.api.jobs import Limit, Reader
from services.api.jobs import router as jobs
from services.api.rollout_objects import (
    RolloutDetail,
    RolloutPage,
    rollout_detail,
    rollout_object,
    tokens_named,
)
from services.errors import InvalidRequest, NotFound, Problem, StorageUnavailable
from services.store import Store
from services.trace_search import Place, Wanted, rollout_at, search
from services.trace_vocabulary import read_vocabulary
from services.traces import TraceError, read_job
from verifiers.verdict import Status

router = APIRouter(prefix=jobs.prefix, tags=["Rollouts"])

_log = logging.getLogger(__name__)

_ID = r"^[1-9][0-9]{0,8}-(0|[1-9][0-9]{0,8})-(0|[1-9][0-9]{0,8})$"
_AT_ONCE = 2
"""Requests of one process that read traces at the same time: what bounds their memory."""


class Traces:
    """The traces of every job, for one API process."""

    def __init__(self, store: Store, jobs_folder: Path) -> None:
        """Nothing is read before somebody asks."""
        self._store = store
        self._jobs_folder = jobs_folder
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def read(self, job_id: str, tenant: str, look: Callable[[Path], bytes]) -> Response:
        """What `look` finds in the trace folder of a job, as JSON; it runs in a thread. Raises
        NotFound for another tenant's job, and StorageUnavailable when a file is damaged."""
        job = await self._store.get_job(job_id, tenant)
        async with self._turns:
            try:
                body = await asyncio.to_thread(look, self._jobs_folder / job.id / "traces")
            except (TraceError, OSError) as error:
                _log.error("traces of job %s: %s", job.id, error)
                raise StorageUnavailable(
                    f"a trace of job {job.id} cannot be read; the service's log says which and why"
                ) from error
        return Response(body, media_type="application/json")


def _traces(request: Request) -> Traces:
    return request.app.state.traces


TracesParam = Annotated[Traces, Depends(_traces)]


@router.get("/{job_id}/rollouts", summary="List a job's rollouts", response_model=RolloutPage)
async def list_rollouts(
    job_id: str,
    caller: Reader,
    traces: TracesParam,
    step: Annotated[
        int | None, Query(ge=1, le=10**9, description="Only of this step, from 1 as in events.")
    ] = None,
    group: Annotated[
        int | None,
        Query(
            ge=0, le=10**9, description="Only of this group of each step; with `step`, siblings."
        ),
    ] = None,
    task_id: Annotated[str | None, Query(max_length=1024, description="Only of this task.")] = None,
    verifier: Annotated[
        str | None, Query(max_length=64, description="Only of tasks with this kind of verifier.")
    ] = None,
    status: Annotated[Status | None, Query(description="Only with this verdict.")] = None,
    min_score: Annotated[
        float | None, Query(ge=0, le=1, description="Only with at least this score.")
    ] = None,
    max_score: Annotated[
        float | None, Query(ge=0, le=1, description="Only with at most this score.")
    ] = None,
    text: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=1024,
            description="Only with this in the completion, in upper or lower case.",
        ),
    ] = None,
    after: Annotated[
        str | None, Query(pattern=_ID, description="Only rollouts behind the one of this id.")
    ] = None,
    limit: Limit = 20,
    order: Annotated[
        Literal["asc", "desc"], Query(description="The first step first, or the newest.")
    ] = "asc",
) -> Response:
    """The completions of every step that are kept, with their verdicts; of a running job too."""
    if min_score is not None and max_score is not None and min_score > max_score:
        raise InvalidRequest(
            [Problem("min_score", f"{min_score:g} is above max_score {max_score:g}")]
        )
    wanted = Wanted(step, group, task_id, verifier, status, min_score, max_score, text)
    behind = None if after is None else Place.of(after)

    def look(folder: Path) -> bytes:
        found = search(folder, wanted, after=behind, limit=limit, newest_first=order == "desc")
        data = [rollout_object(place, row) for place, row in found.rows]
        return _json(
            {
                "object": "list",
                "data": data,
                "first_id": data[0]["id"] if data else None,
                "last_id": None if found.last is None else str(found.last),
                "has_more": found.more,
            }
        )

    return await traces.read(job_id, caller.tenant, look)


@router.get(
    "/{job_id}/rollouts/{rollout_id}", summary="Retrieve a rollout", response_model=RolloutDetail
)
async def get_rollout(
    job_id: str, rollout_id: str, caller: Reader, traces: TracesParam
) -> Response:
    """One completion with its task, what the teacher saw, and every number of its tokens."""

    def look(folder: Path) -> bytes:
        place = Place.of(rollout_id)
        row = None if place is None else rollout_at(folder, place)
        if place is None or row is None:
            raise NotFound(f"job {job_id} has no rollout {rollout_id!r}")
        view = read_job(folder).get("privileged")
        vocabulary = read_vocabulary(folder, tokens_named(row))
        return _json(rollout_detail(place, row, view and view["kind"], vocabulary))

    return await traces.read(job_id, caller.tenant, look)


def _json(data: dict[str, Any]) -> bytes:
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 cannot say
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
