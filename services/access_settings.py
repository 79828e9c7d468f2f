"""What an operator sets of who may reach the service, and how much they may do.

A part of services/settings.py: every variable begins with `STROP_`. Lists are separated by
commas.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode

from services.callers import TENANT, Scope


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""A list as operators write it: `a, b`."""
Rate = Annotated[str, Field(pattern=r"^[1-9]\d{0,8}/(second|minute|hour|day)$")]
"""So many in a moving window of this length: `100/second`."""


class AccessSettings(BaseSettings):
    """Addresses, hosts, identities and limits."""

    host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    tls_cert: Path | None = Field(default=None, description="PEM file of the API's certificate.")
    tls_key: Path | None = Field(default=None, description="PEM file of the certificate's key.")
    behind_proxy: bool = Field(
        default=False, description="Whether a proxy that speaks TLS stands before the API."
    )
    forwarded_allow_ips: Names = Field(
        default=("127.0.0.1",),
        description="Addresses of proxies whose X-Forwarded headers are believed.",
    )
    allowed_hosts: Names = Field(
        default=(),
        description="Names the API is asked by (Host); `*.example.org` is every name below, `*` "
        "any. Those of loopback and STROP_HOST are always good.",
    )
    allowed_origins: Names = Field(
        default=(),
        description="Origins of other sites whose pages may call the API "
        "(`https://tools.example.org`): they get CORS headers. The API's own is always good.",
    )

    oidc_issuer: str | None = Field(
        default=None, description="OpenID provider whose tokens are good here; none when absent."
    )
    oidc_audience: str | None = Field(
        default=None, description="Audience that a token must be for; wanted with an issuer."
    )
    oidc_jwks_url: str | None = Field(
        default=None, description="Its keys; found through its discovery document when absent."
    )
    oidc_algorithms: Names = Field(
        default=("RS256", "ES256"), description="Signatures that are accepted."
    )
    oidc_tenant_claim: str = Field(
        default="tenant", description="Claim that names the tenant; dots lead into objects."
    )
    oidc_tenant: str | None = Field(
        default=None,
        pattern=TENANT,
        description="Tenant of tokens without that claim; they are refused when absent.",
    )
    oidc_scope_claim: str = Field(
        default="scope", description="Claim that says what the caller may do, a list or words."
    )
    oidc_scopes: dict[str, frozenset[Scope]] | None = Field(
        default=None,
        description="What each word of that claim allows, as JSON "
        '(`{"ml-team": ["jobs:read", "jobs:write"]}`); the words are scopes when absent.',
    )

    allowed_models: Names = Field(
        default=("*",),
        description="Hub ids of models that jobs may use, as patterns: `my-org/*`.",
    )

    limit_requests: Rate = Field(
        default="6000/minute", description="Requests a tenant may send, in a moving window."
    )
    limit_open_jobs: int = Field(
        default=1000, ge=0, description="Jobs of a tenant that have not ended."
    )
    limit_stored_bytes: int = Field(
        default=100 * 2**30, ge=0, description="Bytes of a tenant's uploaded files."
    )
    limit_trained_tokens: int | None = Field(
        default=None,
        ge=0,
        description="Completion tokens a tenant may train on in all; any number when absent.",
    )

    audit_max_records: int | None = Field(
        default=None,
        ge=1,
        description="About how many records the audit log keeps, the newest; all when absent.",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("STROP_TLS_CERT and STROP_TLS_KEY are given together or not at all")
        if self.oidc_issuer is not None and self.oidc_audience is None:
            raise ValueError(
                "STROP_OIDC_AUDIENCE is missing: a token for another service must not open this one"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
