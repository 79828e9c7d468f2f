"""By which name and whose page the service may be asked, and where it may listen at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI

from services.api.binding import check_identities, check_transport
from services.api.gate import Names
from services.errors import BadSettings
from services.key_store import KeyStore
from services.settings import Settings, load_settings
from services.store import Store
from tests.services.in_process import client_of, serving

SITE = "https://tools.example.org"


@pytest_asyncio.fixture
async def app(store: Store, tmp_path: Path) -> AsyncIterator[FastAPI]:
    async with serving(
        store,
        home=tmp_path,
        allowed_hosts=("api.example.org", "*.lab.example.org"),
        allowed_origins=(SITE,),
    ) as app:
        yield app


@pytest_asyncio.fixture
async def token(store: Store) -> str:
    return (await KeyStore(store.link).create("test", scopes=["admin"])).token


HOSTS = [
    ("127.0.0.1", True),
    ("127.0.0.1:8420", True),
    ("[::1]:8420", True),
    ("localhost", True),
    ("API.example.org:443", True),
    ("a.b.lab.example.org", True),
    ("lab.example.org", False),
    ("evil.example.org", False),
    ("api.example.org.evil.test", False),
    ("api.example.org@evil.test", False),
    ("evil.test/api.example.org", False),
    ("evil.test#.lab.example.org", False),
    ("127.0.0.1.evil.test", False),
    ("[::1", False),
    ("api.example.org:x:y", False),
    ("", False),
]


async def test_a_name_that_is_not_the_services_is_refused_before_the_key_is_looked_at(
    app: FastAPI, token: str
) -> None:
    for host, known in HOSTS:
        async with client_of(app, token, Host=host) as client:
            answer = await client.get("/v1/keys")
            assert answer.status_code == (200 if known else 421), host
            if not known:
                assert answer.json()["error"]["code"] == "foreign_host"
                keyless = await client.get("/v1/keys", headers={"Authorization": ""})
                assert keyless.status_code == 421
            assert (await client.get("/healthz")).status_code == 200


def test_a_star_knows_every_name() -> None:
    assert "anything.example:80" in Names(["*"])
    assert "" not in Names(["*"])


ORIGINS = [
    ("http://127.0.0.1", 200),
    (SITE, 200),
    (SITE.upper(), 200),
    ("https://evil.test", 403),
    ("null", 403),
    ("https://tools.example.org.evil.test", 403),
    ("http://127.0.0.1:8420", 403),
]


async def test_pages_of_other_sites_may_not_call_the_service_unless_they_are_listed(
    app: FastAPI, token: str
) -> None:
    for origin, status in ORIGINS:
        async with client_of(app, token, Origin=origin) as client:
            for method in ("GET", "POST"):
                answer = await client.request(method, "/v1/keys", json={"name": "x"})
                assert answer.status_code == status, origin
            shared = answer.headers.get("access-control-allow-origin")
            assert shared == (SITE if origin == SITE else None)


async def test_without_a_listed_site_nothing_is_shared_with_any(
    store: Store, token: str, tmp_path: Path
) -> None:
    async with serving(store, home=tmp_path) as app, client_of(app, token) as client:
        ask = {"Origin": SITE, "Access-Control-Request-Method": "GET"}
        answer = await client.options("/v1/keys", headers=ask)
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_every_answer_tells_browsers_to_be_careful(app: FastAPI, token: str) -> None:
    async with client_of(app, token) as client:
        for path, status in (("/healthz", 200), ("/v1/keys", 200), ("/nowhere", 404)):
            answer = await client.get(path)
            assert answer.status_code == status
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert "strict-transport-security" not in answer.headers


@pytest.mark.parametrize(
    ("host", "more", "safe"),
    [
        ("127.0.0.1", {}, True),
        ("127.8.8.8", {}, True),
        ("::1", {}, True),
        ("localhost", {}, True),
        ("0.0.0.0", {}, False),
        ("::", {}, False),
        ("10.0.0.1", {}, False),
        ("localhost.example.org", {}, False),
        ("0.0.0.0", {"behind_proxy": True}, True),
        ("0.0.0.0", {"tls_cert": Path("/c"), "tls_key": Path("/k")}, True),
    ],
)
def test_tokens_cross_a_network_only_inside_of_tls(
    host: str, more: dict[str, Any], safe: bool
) -> None:
    settings = Settings(host=host, **more)
    if safe:
        check_transport(settings, host)
    else:
        with pytest.raises(BadSettings, match="STROP_BEHIND_PROXY=1"):
            check_transport(settings, host)


async def test_beyond_loopback_somebody_must_be_known(store: Store) -> None:
    keys, settings = KeyStore(store.link), Settings(host="0.0.0.0", behind_proxy=True)
    with pytest.raises(BadSettings, match=r"strop keys create NAME --scope admin --local"):
        await check_identities(settings, "0.0.0.0", keys)
    await check_identities(settings, "127.0.0.1", keys)
    await keys.create("operator", scopes=["admin"])
    await check_identities(settings, "0.0.0.0", keys)


def test_the_process_refuses_to_listen_unsafely(store_url: str) -> None:
    env = {**os.environ, "STROP_REDIS_URL": store_url, "STROP_HOST": "0.0.0.0", "STROP_PORT": "0"}
    refused = subprocess.run(
        [sys.executable, "-m", "services.api"], env=env, capture_output=True, text=True, timeout=120
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("strop api: STROP_HOST is 0.0.0.0")
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"STROP_TLS_CERT": "/c"}, "STROP_TLS_CERT and STROP_TLS_KEY are given together"),
        ({"STROP_OIDC_ISSUER": "https://id"}, "STROP_OIDC_AUDIENCE is missing"),
        ({"STROP_LIMIT_REQUESTS": "many"}, "STROP_LIMIT_REQUESTS is 'many'"),
        ({"STROP_OIDC_TENANT": "../x"}, "STROP_OIDC_TENANT"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_without_showing_the_others(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], said: str
) -> None:
    monkeypatch.setenv("STROP_REDIS_URL", "redis://:hunter2@localhost")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as caught:
        load_settings()
    assert said in str(caught.value)
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"


def test_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_ALLOWED_HOSTS", "a.example.org, *.b.example.org,")
    monkeypatch.setenv("STROP_OIDC_SCOPES", '{"ml": ["jobs:read"]}')
    settings = load_settings()
    assert settings.allowed_hosts == ("a.example.org", "*.b.example.org")
    assert settings.oidc_scopes == {"ml": {"jobs:read"}}
