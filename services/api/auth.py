"""Who is asking, and whether they may: every route but health wants a bearer token.

A route says what it needs, `caller: Annotated[Caller, Depends(allowed("jobs:read"))]`, and
gets the caller. 401 for who is not known, 403 for who may not, 429 for who asks too much.
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
from services.keys import parse_token
from services.oidc import OpenId
from services.store import Store
from services.tenant_limits import LimitStore

_bearer = HTTPBearer(
    auto_error=False,
    description="An API key, `strop_<id>_<secret>`, or a JWT of the operator's OpenID provider.",
)


def get_store(request: Request) -> Store:
    """The store of this app."""
    return request.app.state.store


def get_keys(request: Request) -> KeyStore:
    """The keys of this app."""
    return request.app.state.keys


def get_limits(request: Request) -> LimitStore:
    """The tenants' limits."""
    return request.app.state.limits


def _openid(request: Request) -> OpenId | None:
    return request.app.state.openid


StoreParam = Annotated[Store, Depends(get_store)]
KeysParam = Annotated[KeyStore, Depends(get_keys)]
LimitsParam = Annotated[LimitStore, Depends(get_limits)]


async def authenticated(
    request: Request,
    keys: KeysParam,
    limits: LimitsParam,
    openid: Annotated[OpenId | None, Depends(_openid)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    """The caller. Raises Unauthorized without a token that is good here, and RateLimited."""
    if credentials is None:
        raise Unauthorized("an API key is required: send `Authorization: Bearer strop_...`")
    caller = await _caller(credentials.credentials, keys, openid)
    request.state.caller = caller
    await limits.admit(caller.tenant)
    return caller


async def _caller(token: str, keys: KeyStore, openid: OpenId | None) -> Caller:
    if openid is not None and parse_token(token) is None:
        return await openid.caller(token)
    key = await keys.check(token)
    if key is None:
        raise Unauthorized("this API key is not known here, or is revoked or expired")
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
