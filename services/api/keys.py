"""The routes of API keys: create, list, retrieve, rotate, revoke. For the operator alone."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from services.api.audited import AuditParam
from services.api.auth import KeysParam, allowed
from services.api.pages import Page, paged
from services.callers import DEFAULT_TENANT, SHOWN, TENANT, USER_SCOPES, Caller, Scope
from services.key_store import GRACE_SECONDS
from services.keys import ApiKey, IssuedKey

router = APIRouter(prefix="/v1/keys", tags=["API keys"])

_YEARS = 10 * 366 * 24 * 3600

Admin = Annotated[Caller, Depends(allowed("admin"))]
TenantName = Annotated[str, Field(pattern=TENANT, description="Whose objects the key opens.")]


class CreateKey(BaseModel):
    """A key to make."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        min_length=1,
        max_length=128,
        pattern=SHOWN,
        description="Whose key it is, for people to read.",
    )
    tenant: TenantName = DEFAULT_TENANT
    scopes: list[Scope] = Field(
        default=sorted(USER_SCOPES),
        min_length=1,
        max_length=16,
        description="What may be done with it. `admin` is the operator: it implies the others, "
        "and manages the keys, limits and audit log of every tenant.",
    )
    expires_in_s: int | None = Field(
        default=None, ge=1, le=_YEARS, description="Seconds until it expires; never when absent."
    )


class RotateKey(BaseModel):
    """How a key is rotated."""

    model_config = ConfigDict(extra="forbid")

    grace_s: int = Field(
        default=GRACE_SECONDS,
        ge=0,
        le=30 * 24 * 3600,
        description="Seconds for which the secret it had is still accepted.",
    )


class KeyObject(BaseModel):
    """An API key, without its secret."""

    id: str = Field(description="Identifier: the middle part of the key.")
    object: Literal["api_key"] = Field(default="api_key", description="Kind of object.")
    name: str = Field(description="Whose key it is.")
    tenant: str = Field(description="Whose objects it opens.")
    scopes: list[Scope] = Field(description="What may be done with it.")
    created_at: int = Field(description="Seconds since the epoch.")
    expires_at: int | None = Field(description="From when on it opens nothing.")
    last_used_at: int | None = Field(description="Its last use, to within a minute.")
    revoked_at: int | None = Field(description="Since when it is revoked.")
    previous_until: int | None = Field(
        description="Until when the secret before the last rotation is accepted."
    )

    @classmethod
    def of(cls, key: ApiKey) -> KeyObject:
        """The key on the wire."""

        def whole(at: float | None) -> int | None:
            return None if at is None else int(at)

        return cls(
            id=key.id,
            name=key.name,
            tenant=key.tenant,
            scopes=sorted(key.scopes),
            created_at=int(key.created_at),
            expires_at=whole(key.expires_at),
            last_used_at=whole(key.last_used_at),
            revoked_at=whole(key.revoked_at),
            previous_until=whole(key.previous_until),
        )


class IssuedKeyObject(KeyObject):
    """An API key with its secret, which is never shown again."""

    api_key: str = Field(description="What goes after `Authorization: Bearer`. Keep it now.")

    @classmethod
    def issued(cls, made: IssuedKey) -> IssuedKeyObject:
        """The key on the wire, with its secret."""
        return cls(**KeyObject.of(made.key).model_dump(), api_key=made.token)


class KeyPage(Page):
    """A page of keys, newest first."""

    data: list[KeyObject] = Field(description="The keys.")


@router.post("", summary="Create an API key")
async def create_key(
    body: CreateKey, keys: KeysParam, caller: Admin, audit: AuditParam
) -> IssuedKeyObject:
    """Make a key. Its secret is in this answer and nowhere else."""
    made = await keys.create(
        body.name, tenant=body.tenant, scopes=body.scopes, lifetime_s=body.expires_in_s
    )
    await audit(
        caller,
        "key.create",
        made.key.id,
        tenant=body.tenant,
        scopes=",".join(sorted(made.key.scopes)),
        expires_in_s=body.expires_in_s,
    )
    return IssuedKeyObject.issued(made)


@router.get("", summary="List API keys")
async def list_keys(
    keys: KeysParam,
    caller: Admin,
    tenant: Annotated[
        str | None, Query(pattern=TENANT, description="Only this tenant's keys.")
    ] = None,
    after: Annotated[str | None, Query(description="Only keys behind the one of this id.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Items in a page.")] = 20,
) -> KeyPage:
    """Keys of every tenant, those that are revoked or expired too."""
    found, more = await keys.list_keys(tenant, after, limit)
    return KeyPage(**paged(map(KeyObject.of, found), more))


@router.get("/{key_id}", summary="Retrieve an API key")
async def get_key(key_id: str, keys: KeysParam, caller: Admin) -> KeyObject:
    """The key as it stands."""
    return KeyObject.of(await keys.get(key_id))


@router.post("/{key_id}/rotate", summary="Rotate an API key")
async def rotate_key(
    key_id: str,
    keys: KeysParam,
    caller: Admin,
    audit: AuditParam,
    body: Annotated[RotateKey | None, Body(description="How, if not by default.")] = None,
) -> IssuedKeyObject:
    """Give the key another secret, in this answer and nowhere else; the old one has its grace."""
    grace_s = (body or RotateKey()).grace_s
    made = await keys.rotate(key_id, grace_s=grace_s)
    await audit(caller, "key.rotate", key_id, tenant=made.key.tenant, grace_s=grace_s)
    return IssuedKeyObject.issued(made)


@router.delete("/{key_id}", summary="Revoke an API key")
async def revoke_key(key_id: str, keys: KeysParam, caller: Admin, audit: AuditParam) -> KeyObject:
    """Let the key open nothing any more; its record stays. Revoking twice is the same as once."""
    key = await keys.revoke(key_id)
    await audit(caller, "key.revoke", key_id, tenant=key.tenant)
    return KeyObject.of(key)
