"""Tokens of an OpenID provider: a signed JWT in, the caller it stands for out.

Only asymmetric signatures count, so a provider's public key can never pass for a secret. Its
keys are fetched with a deadline and kept; a token with a key id that is new makes them be
fetched again, at most every few seconds, so a rotation is seen at once and a flood of made-up
ids is not. Knows nothing of API keys or routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any, cast

import httpx
import jwt

from services.access_settings import AccessSettings
from services.callers import Caller, Scope, is_tenant, known_scopes
from services.errors import BadSettings, Forbidden, IdentityUnavailable, Unauthorized

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
"""Signatures that an operator may accept."""
LEEWAY_S = 30
FRESH_S = 600.0
"""Keys are fetched again after this."""
STALE_S = 24 * 3600.0
"""Keys serve this long while the provider cannot be reached."""
AGAIN_S = 10.0
"""Least time between two fetches."""
FETCH_S = 5.0
_MAX_BYTES = 2**20
_MAX_TOKEN = 16 * 1024
_MAX_SUBJECT = 200


class OpenId:
    """The tokens of one provider; `close` it."""

    def __init__(self, settings: AccessSettings) -> None:
        """Raises BadSettings without an issuer, and for signatures that prove nothing."""
        if settings.oidc_issuer is None:
            raise BadSettings("STROP_OIDC_ISSUER is not set")
        if bad := set(settings.oidc_algorithms) - ALGORITHMS or not settings.oidc_algorithms:
            raise BadSettings(
                f"STROP_OIDC_ALGORITHMS holds {bad}: only signatures with a private key are "
                f"accepted, of {', '.join(sorted(ALGORITHMS))}"
            )
        self._settings = settings
        self._issuer = settings.oidc_issuer
        self._keys = _KeySet(settings.oidc_issuer, settings.oidc_jwks_url)

    async def close(self) -> None:
        """Close the connections to the provider."""
        await self._keys.close()

    async def caller(self, token: str) -> Caller:
        """The caller a token stands for.

        Raises Unauthorized for a token that is not good here, Forbidden for one whose claims
        name no tenant, IdentityUnavailable when the provider's keys cannot be had.
        """
        if len(token) > _MAX_TOKEN:
            raise Unauthorized("this token is too long")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise Unauthorized("this is neither an API key of this service nor a JWT") from None
        if header.get("alg") not in self._settings.oidc_algorithms:
            raise Unauthorized("this token is not signed in a way that is accepted here")
        key = await self._keys.of(header.get("kid"))
        if key is None:
            raise Unauthorized("this token is signed with a key that its issuer does not publish")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=list(self._settings.oidc_algorithms),
                audience=self._settings.oidc_audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.InvalidTokenError as error:
            raise Unauthorized(f"this token is not good here: {error}") from None
        return self._mapped(claims)

    def _mapped(self, claims: Mapping[str, Any]) -> Caller:
        settings = self._settings
        tenant = _at(claims, settings.oidc_tenant_claim) or settings.oidc_tenant
        if not isinstance(tenant, str) or not is_tenant(tenant):
            raise Forbidden(
                f"the token's claim {settings.oidc_tenant_claim} names no tenant of this service"
            )
        subject = str(claims["sub"])
        if not subject or len(subject) > _MAX_SUBJECT or not subject.isprintable():
            raise Unauthorized("the token's subject is empty, too long or not printable")
        return Caller(tenant, f"oidc:{subject}", self._scopes(claims))

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        said = _at(claims, self._settings.oidc_scope_claim)
        words = said.split() if isinstance(said, str) else said
        if not isinstance(words, list):
            return frozenset()
        names = [str(word) for word in cast("list[object]", words)]
        if self._settings.oidc_scopes is None:
            return known_scopes(names)
        allowed = self._settings.oidc_scopes
        return frozenset(scope for name in names for scope in allowed.get(name, ()))


class _KeySet:
    """The public keys of a provider, by their id."""

    def __init__(self, issuer: str, url: str | None) -> None:
        self._issuer = issuer
        self._url = url
        self._http = httpx.AsyncClient(timeout=FETCH_S, trust_env=False, follow_redirects=False)
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching = asyncio.Lock()

    async def close(self) -> None:
        await self._http.aclose()

    async def of(self, key_id: object) -> jwt.PyJWK | None:
        """The key of this id; a set of one key needs no id."""
        if self._age() > FRESH_S or self._named(key_id) is None:
            await self._refresh(key_id)
        return self._named(key_id)

    def _named(self, key_id: object) -> jwt.PyJWK | None:
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id) if isinstance(key_id, str) else None

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else monotonic() - self._fetched_at

    async def _refresh(self, key_id: object) -> None:
        async with self._fetching:
            if self._age() <= FRESH_S and self._named(key_id) is not None:
                return  # somebody else fetched it meanwhile
            if self._tried_at is None or monotonic() - self._tried_at >= AGAIN_S:
                self._tried_at = monotonic()
                try:
                    async with asyncio.timeout(2 * FETCH_S):
                        self._keys = await self._fetch()
                    self._fetched_at = monotonic()
                except (httpx.HTTPError, TimeoutError, ValueError, jwt.PyJWTError) as error:
                    if self._age() > STALE_S:
                        raise self._unavailable(error) from error
            elif self._age() > STALE_S:
                raise self._unavailable("they could not be fetched a moment ago")

    def _unavailable(self, why: object) -> IdentityUnavailable:
        return IdentityUnavailable(f"the keys of {self._issuer} cannot be had ({why}); try again")

    async def _fetch(self) -> dict[str | None, jwt.PyJWK]:
        url = self._url
        if url is None:
            about = await self._json(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
            if about.get("issuer") != self._issuer:
                raise ValueError(f"its discovery document is of {about.get('issuer')!r}")
            url = str(about["jwks_uri"])
        found: dict[str | None, jwt.PyJWK] = {}
        for entry in (await self._json(url)).get("keys", []):
            if entry.get("kty") in ("RSA", "EC", "OKP") and entry.get("use", "sig") == "sig":
                found[entry.get("kid")] = jwt.PyJWK(entry)
        return found

    async def _json(self, url: str) -> dict[str, Any]:
        async with self._http.stream("GET", url) as response:
            response.raise_for_status()
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > _MAX_BYTES:
                    raise ValueError(f"{url} answers with more than {_MAX_BYTES} bytes")
        data = httpx.Response(200, content=bytes(body)).json()
        if not isinstance(data, dict):
            raise ValueError(f"{url} does not answer with an object")
        return cast("dict[str, Any]", data)


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """The claim at a dotted path; a claim whose own name has dots goes first."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = cast("Mapping[str, Any]", value).get(part)
    return value
