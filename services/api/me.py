"""The route by which a caller learns who it is here: what a page shows behind a login."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from services.api.auth import CallerParam
from services.callers import SCOPES, Scope

router = APIRouter(prefix="/v1/me", tags=["API keys"])


class CallerObject(BaseModel):
    """Who sent the request."""

    object: Literal["caller"] = Field(default="caller", description="Kind of object.")
    key_id: str = Field(description="Id of the API key, or `oidc:<subject>`.")
    tenant: str = Field(description="Whose objects it sees.")
    scopes: list[Scope] = Field(
        description="What it may do; of `admin`, with every scope that it implies."
    )


@router.get("", summary="Who am I?")
async def get_me(caller: CallerParam) -> CallerObject:
    """The caller by its key or token: whose objects it sees, and what it may do."""
    granted = [scope for scope in SCOPES if caller.may(scope)]
    return CallerObject(key_id=caller.id, tenant=caller.tenant, scopes=granted)
