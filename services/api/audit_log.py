"""The route of the audit log: who changed what. For the operator alone."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from services.api.auth import allowed
from services.api.pages import Page, paged
from services.audit import AuditLog, Fact, Outcome, Record
from services.callers import Caller

router = APIRouter(prefix="/v1/audit", tags=["Audit log"])

Admin = Annotated[Caller, Depends(allowed("admin"))]


class AuditRecord(BaseModel):
    """Somebody did something, or was refused."""

    id: str = Field(description="Identifier; greater for what happened later.")
    object: Literal["audit.record"] = Field(default="audit.record", description="Kind of object.")
    created_at: float = Field(description="Seconds since the epoch, to the millisecond.")
    tenant: str = Field(description="The caller's tenant.")
    caller: str = Field(description="Id of an API key, or `oidc:` and a subject.")
    action: str = Field(
        description="What was done, `job.create`; of what was refused or failed, the route."
    )
    target: str | None = Field(description="Id of the object concerned.")
    outcome: Outcome = Field(description="How it ended.")
    status: int | None = Field(description="The HTTP status of what was refused or failed.")
    request_id: str | None = Field(description="The answer's `X-Request-Id`.")
    facts: dict[str, Fact] = Field(description="What else tells a person what was done.")

    @classmethod
    def of(cls, record: Record) -> AuditRecord:
        """The record on the wire."""
        return cls(
            id=record.id,
            created_at=record.at,
            tenant=record.tenant,
            caller=record.caller,
            action=record.action,
            target=record.target,
            outcome=record.outcome,
            status=record.status,
            request_id=record.request_id,
            facts=dict(record.facts),
        )


class AuditPage(Page):
    """A page of records, newest first."""

    data: list[AuditRecord] = Field(description="The records.")


def _log(request: Request) -> AuditLog:
    return request.app.state.audit


@router.get("", summary="Read the audit log")
async def list_records(
    log: Annotated[AuditLog, Depends(_log)],
    caller: Admin,
    after: Annotated[
        str | None, Query(description="Only records behind the one of this id.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Items in a page.")] = 100,
) -> AuditPage:
    """Every change that anybody made, newest first."""
    found, more = await log.page(after, limit)
    return AuditPage(**paged(map(AuditRecord.of, found), more))
