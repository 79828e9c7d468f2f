"""Tokens of an OpenID provider: only those that it signed for this service open anything."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi import FastAPI
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from services import oidc
from services.errors import BadSettings
from services.settings import Settings
from services.store import Store
from tests.services.in_process import client_of, serving

LIMITS = "/v1/limits"
RSA_KEY = rsa.generate_private_key(65537, 2048)
NEXT_KEY = ec.generate_private_key(ec.SECP256R1())


def published(key: Any, kid: str) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**public, "kid": kid, "use": "sig"}


class Provider(ThreadingHTTPServer):
    """A provider on loopback, with a discovery document and a set of keys."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.issuer = f"http://127.0.0.1:{self.server_port}"
        self.claimed_issuer = self.issuer
        self.keys: list[dict[str, Any]] = [published(RSA_KEY, "one")]
        self.fetched = 0
        self.down = False

    def token(self, key: Any = RSA_KEY, kid: str | None = "one", **changes: Any) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": "strop",
            "sub": "ada",
            "exp": now + 300,
            "tenant": "team-a",
            "scope": "jobs:read files:read everything",
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
        return jwt.encode(claims, key, algorithm, headers={} if kid is None else {"kid": kid})


class _Handler(BaseHTTPRequestHandler):
    server: Provider  # type: ignore[assignment]

    def do_GET(self) -> None:
        if self.path == "/.well-known/openid-configuration":
            about = {"issuer": self.server.claimed_issuer, "jwks_uri": f"{self.server.issuer}/keys"}
        else:
            self.server.fetched += 1
            about = {"keys": self.server.keys}
        body = json.dumps(about).encode()
        self.send_response(503 if self.server.down else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join(timeout=10)


@pytest_asyncio.fixture
async def app(store: Store, provider: Provider, tmp_path: Path) -> AsyncIterator[FastAPI]:
    async with serving(
        store, home=tmp_path, oidc_issuer=provider.issuer, oidc_audience="strop"
    ) as app:
        yield app


async def status(app: FastAPI, token: str, path: str = LIMITS) -> int:
    async with client_of(app, token) as client:
        return (await client.get(path)).status_code


async def test_a_token_opens_what_its_claims_say(app: FastAPI, provider: Provider) -> None:
    async with client_of(app, provider.token()) as client:
        assert (await client.get(LIMITS)).json()["tenant"] == "team-a"
        assert (await client.get("/v1/fine_tuning/jobs")).status_code == 200
        refused = await client.get("/v1/keys")
        assert refused.status_code == 403
        assert "oidc:ada" in refused.json()["detail"]
    assert provider.fetched == 1


async def test_a_token_that_was_not_made_for_this_service_opens_nothing(
    app: FastAPI, provider: Provider
) -> None:
    other = rsa.generate_private_key(65537, 2048)
    past = int(time.time()) - 3600
    public = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    good = provider.token()
    head, body, signature = good.split(".")
    bad = {
        "of another audience": provider.token(aud="other"),
        "without an audience": provider.token(aud=None),
        "of another issuer": provider.token(iss="https://evil.test"),
        "that has expired": provider.token(exp=past),
        "that never expires": provider.token(exp=None),
        "that is not good yet": provider.token(nbf=int(time.time()) + 3600),
        "without a subject": provider.token(sub=None),
        "with an unprintable subject": provider.token(sub="a\nb"),
        "signed by another": provider.token(other),
        "of a key nobody knows": provider.token(kid="ghost"),
        "changed": f"{head}.{body[:-2]}xx.{signature}",
        "unsigned": jwt.encode(jwt.decode(good, options={"verify_signature": False}), "", "none"),
        "signed with the public key as a secret": hmac_with(public, good),
        "not a token": "a.b.c",
        "too long": good + "a" * 20_000,
    }
    for what, token in bad.items():
        assert await status(app, token) == 401, what
    assert await status(app, good) == 200


def hmac_with(public: bytes, good: str) -> str:
    """The classic forgery: HS256 with the public key for its secret. PyJWT itself refuses to
    make one, so it is made by hand."""
    import base64
    import hashlib
    import hmac

    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT","kid":"one"}').rstrip(b"=")
    signed = head + b"." + good.split(".")[1].encode()
    digest = hmac.new(public, signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(digest).rstrip(b"=")).decode()


async def test_a_token_whose_claims_name_no_tenant_is_known_and_may_do_nothing(
    app: FastAPI, provider: Provider
) -> None:
    for tenant in (None, "", "../etc", "A", 7, ["team-a"]):
        assert await status(app, provider.token(tenant=tenant)) == 403, tenant


async def test_claims_are_mapped_as_the_operator_says(
    store: Store, provider: Provider, tmp_path: Path
) -> None:
    async with serving(
        store,
        home=tmp_path,
        oidc_issuer=provider.issuer,
        oidc_audience="strop",
        oidc_jwks_url=f"{provider.issuer}/keys",
        oidc_tenant="everybody",
        oidc_scope_claim="realm.roles",
        oidc_scopes={"ops": frozenset({"admin"}), "ml": frozenset({"jobs:read"})},
    ) as app:
        token = provider.token(tenant=None, realm={"roles": ["ml", "jobs:write", "x"]})
        async with client_of(app, token) as client:
            assert (await client.get(LIMITS)).json()["tenant"] == "everybody"
            assert (await client.get("/v1/fine_tuning/jobs")).status_code == 200
            assert (await client.post("/v1/fine_tuning/jobs")).status_code == 403
        assert await status(app, provider.token(realm={"roles": ["ops"]}), "/v1/keys") == 200
        assert await status(app, provider.token(realm="ops"), "/v1/keys") == 403


async def test_a_rotated_key_is_seen_at_once_and_made_up_ids_do_not_flood_the_provider(
    app: FastAPI, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await status(app, provider.token()) == 200
    for number in range(5):
        assert await status(app, provider.token(kid=f"ghost-{number}")) == 401
    assert provider.fetched == 1
    monkeypatch.setattr(oidc, "AGAIN_S", 0.0)
    provider.keys = [published(NEXT_KEY, "two")]
    assert await status(app, provider.token(NEXT_KEY, "two")) == 200
    assert await status(app, provider.token()) == 401, "the old key is no longer published"


async def test_a_provider_that_is_away_does_not_lock_out_those_it_vouched_for(
    app: FastAPI, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.down = True
    assert await status(app, provider.token()) == 503
    monkeypatch.setattr(oidc, "AGAIN_S", 0.0)
    provider.down = False
    assert await status(app, provider.token()) == 200
    provider.down = True
    monkeypatch.setattr(oidc, "FRESH_S", 0.0)
    assert await status(app, provider.token()) == 200
    monkeypatch.setattr(oidc, "STALE_S", 0.0)
    assert await status(app, provider.token()) == 503


async def test_a_discovery_document_of_another_issuer_is_not_believed(
    app: FastAPI, provider: Provider
) -> None:
    provider.claimed_issuer = "https://evil.test"
    assert await status(app, provider.token()) == 503


@pytest.mark.parametrize("algorithms", [("HS256",), ("none",), ("RS256", "HS512"), ()])
def test_signatures_that_prove_nothing_cannot_be_accepted(algorithms: tuple[str, ...]) -> None:
    settings = Settings(
        oidc_issuer="https://id.example.org", oidc_audience="strop", oidc_algorithms=algorithms
    )
    with pytest.raises(BadSettings, match="STROP_OIDC_ALGORITHMS"):
        oidc.OpenId(settings)
