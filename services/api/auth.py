"""Who is asking, and whether they may: every route but health wants a bearer token.

A route says what it needs, `caller: Annotated[Caller, Depends(allowed("jobs:read"))]`, and
gets the caller. 401 for who is not known, 403 for who may not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from services.callers import Caller, Scope
from services.errors import Forbidden, Unauthorized
from services.key_store import KeyStore
from services.store import Store

_bearer = HTTPBearer(auto_error=False, description="An API key, `strop_<id>_<secret>`.")


def get_store(request: Request) -> Store:
    """The store of this app."""
    return request.app.state.store


def get_keys(request: Request) -> KeyStore:
    """The keys of this app."""
    return request.app.state.keys


StoreParam = Annotated[Store, Depends(get_store)]
KeysParam = Annotated[KeyStore, Depends(get_keys)]


async def authenticated(
    request: Request,
    keys: KeysParam,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    """The caller. Raises Unauthorized without a token that is good here."""
    if credentials is None:
        raise Unauthorized("an API key is required: send `Authorization: Bearer strop_...`")
    key = await keys.check(credentials.credentials)
    if key is None:
        raise Unauthorized("this API key is not known here, or is revoked or expired")
    request.state.caller = key.caller
    return key.caller


CallerParam = Annotated[Caller, Depends(authenticated)]
"""Whoever is known, whatever they may do."""


@cache
def allowed(scope: Scope) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency that gives the caller. Raises Unauthorized, and Forbidden without the scope."""

    async def with_scope(caller: CallerParam) -> Caller:
        if not caller.may(scope):
            raise Forbidden(f"this needs the scope {scope}, which {caller.id} does not have")
        return caller

    return with_scope
