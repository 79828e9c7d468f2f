"""The routes of limits: how much a tenant may do and does; set by the operator alone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from services.access_settings import Rate
from services.api.audited import AuditParam
from services.api.auth import CallerParam, LimitsParam, StoreParam, allowed
from services.api.files import FilesParam
from services.callers import TENANT, Caller
from services.files import FileStore
from services.jobs import TERMINAL
from services.store import Store
from services.tenant_limits import LimitStore

router = APIRouter(prefix="/v1/limits", tags=["Limits"])

Admin = Annotated[Caller, Depends(allowed("admin"))]
Tenant = Annotated[str, Path(pattern=TENANT, description="Name of a tenant.")]


class OwnLimits(BaseModel):
    """Limits of one tenant; one that is left out is the operator's for all."""

    model_config = ConfigDict(extra="forbid", strict=True)

    requests: Rate | None = Field(
        default=None, description="Requests in a moving window, `100/second`."
    )
    open_jobs: int | None = Field(default=None, ge=0, description="Jobs that have not ended.")
    stored_bytes: int | None = Field(default=None, ge=0, description="Bytes of uploaded files.")
    trained_tokens: int | None = Field(
        default=None, ge=0, description="Completion tokens trained on in all."
    )


class LimitsObject(BaseModel):
    """What a tenant may do, and does."""

    object: Literal["limits"] = Field(default="limits", description="Kind of object.")
    tenant: str = Field(description="Name of the tenant.")
    requests: str = Field(description="Requests it may send, in a moving window.")
    open_jobs: int = Field(description="Jobs it may have that have not ended.")
    stored_bytes: int = Field(description="Bytes of files it may keep.")
    trained_tokens: int | None = Field(
        description="Completion tokens it may train on in all; null is no limit."
    )
    own: list[str] = Field(description="The limits that are this tenant's own.")
    used_open_jobs: int = Field(description="Jobs it has that have not ended.")
    used_stored_bytes: int = Field(description="Bytes of files it keeps.")
    used_trained_tokens: int = Field(description="Completion tokens it trained on so far.")

    @classmethod
    async def of(
        cls, tenant: str, limits: LimitStore, store: Store, files: FileStore
    ) -> LimitsObject:
        """The tenant's limits on the wire."""
        holding, jobs = await limits.of(tenant), await store.job_counts(tenant)
        return cls(
            tenant=tenant,
            requests=holding.requests,
            open_jobs=holding.open_jobs,
            stored_bytes=holding.stored_bytes,
            trained_tokens=holding.trained_tokens,
            own=sorted(await limits.own(tenant)),
            used_open_jobs=sum(n for status, n in jobs.items() if status not in TERMINAL),
            used_stored_bytes=await files.stored_bytes(tenant),
            used_trained_tokens=await store.trained_tokens(tenant),
        )


@router.get("", summary="Read the caller's limits")
async def my_limits(
    limits: LimitsParam, store: StoreParam, files: FilesParam, caller: CallerParam
) -> LimitsObject:
    """What the caller's own tenant may do, and does."""
    return await LimitsObject.of(caller.tenant, limits, store, files)


@router.get("/{tenant}", summary="Read a tenant's limits")
async def get_limits(
    tenant: Tenant, limits: LimitsParam, store: StoreParam, files: FilesParam, caller: Admin
) -> LimitsObject:
    """What a tenant may do, and does."""
    return await LimitsObject.of(tenant, limits, store, files)


@router.put("/{tenant}", summary="Set a tenant's limits")
async def put_limits(
    tenant: Tenant,
    body: OwnLimits,
    limits: LimitsParam,
    store: StoreParam,
    files: FilesParam,
    caller: Admin,
    audit: AuditParam,
) -> LimitsObject:
    """Give a tenant limits of its own, in place of those it had; `{}` gives it everybody's."""
    own: dict[str, Any] = body.model_dump(exclude_none=True)
    await limits.set_own(tenant, own)
    await audit(caller, "limits.set", tenant, **own)
    return await LimitsObject.of(tenant, limits, store, files)
