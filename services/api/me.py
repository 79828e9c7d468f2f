"""The route that tells a caller who it is: what a client needs to know what it may offer."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from services.api.auth import CallerParam
from services.callers import SCOPES, Scope

router = APIRouter(tags=["Service"])


class CallerObject(BaseModel):
    """Whoever asks."""

    id: str = Field(description="Id of the key, or `oidc:<subject>`.")
    object: Literal["caller"] = Field(default="caller", description="Kind of object.")
    tenant: str = Field(description="Whose objects the caller sees.")
    scopes: list[Scope] = Field(description="What it may do; with `admin` every scope is named.")


@router.get("/v1/me", summary="Who am I?")
async def get_me(caller: CallerParam) -> CallerObject:
    """Tenant and scopes of the key or token that this request carries."""
    return CallerObject(
        id=caller.id, tenant=caller.tenant, scopes=[one for one in SCOPES if caller.may(one)]
    )
