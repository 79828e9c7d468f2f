"""Who is asking: every route but health wants an API key as bearer token."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from services.errors import Unauthorized
from services.keys import ApiKey
from services.store import Store

_bearer = HTTPBearer(auto_error=False, description="An API key, `strop_<id>_<secret>`.")


def get_store(request: Request) -> Store:
    """The store of this app."""
    return request.app.state.store


async def require_key(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> ApiKey:
    """The caller's key. Raises Unauthorized when it is missing or unknown."""
    if credentials is None:
        raise Unauthorized("an API key is required: send `Authorization: Bearer strop_...`")
    key = await get_store(request).check_key(credentials.credentials)
    if key is None:
        raise Unauthorized("this API key is not known here")
    return key


StoreParam = Annotated[Store, Depends(get_store)]
