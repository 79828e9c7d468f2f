"""The routes of limits: how much a tenant may do and does; set by the operator alone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from services.access_settings import Rate
from services.api.audited import AuditParam
from services.api.auth import CallerParam, LimitsParam, allowed
from services.callers import TENANT, Caller
from services.tenant_limits import TOKENS_DAYS, LimitStore

router = APIRouter(prefix="/v1/limits", tags=["Limits"])

Admin = Annotated[Caller, Depends(allowed("admin"))]
Tenant = Annotated[str, Path(pattern=TENANT, description="Name of a tenant.")]


class OwnLimits(BaseModel):
    """Limits of one tenant; one that is left out is the operator's for all."""

    model_config = ConfigDict(extra="forbid")

    requests: Rate | None = Field(
        default=None, description="Requests in a moving window, `100/second`."
    )
    open_jobs: int | None = Field(default=None, ge=0, description="Jobs that have not ended.")
    stored_bytes: int | None = Field(default=None, ge=0, description="Bytes of uploaded files.")
    trained_tokens: int | None = Field(
        default=None, ge=0, description=f"Completion tokens trained on in {TOKENS_DAYS} days."
    )


class LimitsObject(BaseModel):
    """What a tenant may do, and does."""

    object: Literal["limits"] = Field(default="limits", description="Kind of object.")
    tenant: str = Field(description="Name of the tenant.")
    requests: str = Field(description="Requests it may send, in a moving window.")
    open_jobs: int = Field(description="Jobs it may have that have not ended.")
    stored_bytes: int = Field(description="Bytes of files it may keep.")
    trained_tokens: int | None = Field(
        description=f"Completion tokens it may train on in {TOKENS_DAYS} days; null is no limit."
    )
    own: list[str] = Field(description="The limits that are this tenant's own.")
    used_open_jobs: int = Field(description="Jobs it has that have not ended.")
    used_stored_bytes: int = Field(description="Bytes of files it keeps.")
    used_trained_tokens: int = Field(description="Completion tokens it trained on so far.")

    @classmethod
    async def of(cls, limits: LimitStore, tenant: str) -> LimitsObject:
        """The tenant's limits on the wire."""
        holding, usage = await limits.of(tenant), await limits.usage(tenant)
        return cls(
            tenant=tenant,
            requests=holding.requests,
            open_jobs=holding.open_jobs,
            stored_bytes=holding.stored_bytes,
            trained_tokens=holding.trained_tokens,
            own=sorted(await limits.own(tenant)),
            used_open_jobs=usage.open_jobs,
            used_stored_bytes=usage.stored_bytes,
            used_trained_tokens=usage.trained_tokens,
        )


@router.get("", summary="Read the caller's limits")
async def my_limits(limits: LimitsParam, caller: CallerParam) -> LimitsObject:
    """What the caller's own tenant may do, and does."""
    return await LimitsObject.of(limits, caller.tenant)


@router.get("/{tenant}", summary="Read a tenant's limits")
async def get_limits(tenant: Tenant, limits: LimitsParam, caller: Admin) -> LimitsObject:
    """What a tenant may do, and does."""
    return await LimitsObject.of(limits, tenant)


@router.put("/{tenant}", summary="Set a tenant's limits")
async def put_limits(
    tenant: Tenant, body: OwnLimits, limits: LimitsParam, caller: Admin, audit: AuditParam
) -> LimitsObject:
    """Give a tenant limits of its own, in place of those it had; `{}` gives it everybody's."""
    own: dict[str, Any] = body.model_dump(exclude_none=True)
    await limits.set_own(tenant, own)
    await audit(caller, "limits.set", tenant, **own)
    return await LimitsObject.of(limits, tenant)
