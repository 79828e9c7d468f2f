"""How the page is served: whole, to anybody, cached well, and nothing beside it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import httpx
import pytest

from services.api.app import create_app
from services.api.web_page import FOLDER, assets
from services.settings import Settings


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = create_app(Settings())
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


async def test_the_page_needs_no_key_and_may_load_nothing_from_elsewhere(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert "<script>" not in answer.text
    assert " style=" not in answer.text


async def test_what_a_browser_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    for path in ("/", "/assets/app.js"):
        first = await client.get(path)
        again = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        plain = await client.get(path, headers={"Accept-Encoding": "identity"})
        assert plain.content == first.content
        assert plain.headers["etag"] != first.headers["etag"]
    kept = await client.get("/assets/vendor/htm-3.1.1/htm.mjs")
    assert "immutable" in kept.headers["cache-control"]
    assert kept.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize(
    "path", ["../api/app.py", "%2e%2e/api/app.py", "..%2fsettings.py", "/etc/passwd", "", "views"]
)
async def test_nothing_beside_the_page_is_served(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"/assets/{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_libraries_are_what_the_manifest_says() -> None:
    manifest = json.loads((FOLDER / "vendor" / "manifest.json").read_text())
    hashes = {name: told for one in manifest["packages"] for name, told in one["sha256"].items()}
    found = {
        path.relative_to(FOLDER / "vendor").as_posix(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in (FOLDER / "vendor").rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert found == hashes
    assert {Path(name).parent.name for name in found if name.endswith("LICENSE")} == {
        f"{one['name']}-{one['version']}" for one in manifest["packages"]
    }
    assert len(assets()) > len(found)
