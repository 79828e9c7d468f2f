"""What holds for every request: strict and timely bodies, ids, one error body, no insides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.types import Message

from services.api.app import create_app
from services.api.bodies import Bodies
from services.api.middleware import Identified, RequestIds
from services.settings import Settings
from tests.services.running import Api
from tests.services.test_api import JOBS, assert_problem

GRADER = "/v1/fine_tuning/alpha/graders/validate"


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e400}',
        b'{"a": ' + b"9" * 400 + b"}",
        b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}",
        b"[" * 60_000,
        b'{"a": "\\ud800"}',
        b"\xff\xfe{}",
        b"{}{}",
    ],
)
async def test_a_body_that_two_readers_could_read_differently_is_400(
    api: Api, content: bytes
) -> None:
    async with api.client() as client:
        for path in (JOBS, GRADER):
            response = await client.post(
                path, content=content, headers={"Content-Type": "application/json"}
            )
            assert_problem(response, 400, "malformed_body", None)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {},
    ],
)
async def test_a_body_of_another_type_is_415(api: Api, headers: dict[str, str]) -> None:
    async with api.client() as client:
        response = await client.post(JOBS, content=b"{}", headers=headers)
        assert_problem(response, 415, "unsupported_media_type", None)


async def test_a_body_that_does_not_come_is_408_and_the_connection_is_closed() -> None:
    async def application(*_: Any) -> None:
        raise AssertionError("no route may see it")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    bodies = Bodies(application, max_bytes=1000, streamed=frozenset(), seconds=0.05)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(bodies), base_url="http://x"
    ) as client:
        response = await client.post("/", content=chunks())
        assert_problem(response, 408, "request_timeout", None)
        assert response.headers["connection"] == "close"


async def test_every_answer_has_an_id_the_callers_own_if_it_is_one(api: Api) -> None:
    async with api.client() as client:
        for path in ("/healthz", JOBS, "/nowhere", f"{JOBS}/ftjob-x"):
            first = (await client.get(path)).headers["x-request-id"]
            assert first.startswith("req-")
            assert first != (await client.get(path)).headers["x-request-id"]
            mine = await client.get(path, headers={"X-Request-Id": "team-7.a_b"})
            assert mine.headers["x-request-id"] == "team-7.a_b"
            for bad in ("a b", "x" * 65, "a\tb", "<script>"):
                answered = await client.get(path, headers={"X-Request-Id": bad})
                assert answered.headers["x-request-id"].startswith("req-")


async def test_no_header_of_a_request_comes_back_as_a_header_of_its_own(api: Api) -> None:
    port = httpx.URL(api.url).port
    for target in (
        f"{JOBS}/x%0d%0aX-Evil:%201",
        f"{JOBS}?after=x%0d%0aX-Evil:%201",
        "/v1/files/file-x%0d%0aX-Evil:%201/content",
        "/%0d%0aX-Evil:%201",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            f"X-Request-Id: a%0d%0aX-Evil:1\r\nAuthorization: Bearer {api.key}\r\n\r\n".encode()
        )
        head, _, _ = (await asyncio.wait_for(reader.read(), 30)).partition(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 4")
        assert b"x-evil" not in head.lower()


@pytest.mark.parametrize("path", ["/v1/files/", f"{JOBS}/", "//v1/files", "/v1/../v1/nothing"])
async def test_a_path_that_no_route_has_is_404_and_never_a_redirect(api: Api, path: str) -> None:
    async with api.client() as client:
        for method in ("GET", "POST"):
            response = await client.request(method, path)
            assert response.status_code == 404
            assert response.json()["error"]["code"] == "not_found"


async def test_a_method_that_a_path_lacks_is_405_and_all_others_are_named(api: Api) -> None:
    async with api.client() as client:
        response = await client.put("/v1/files")
        assert_problem(response, 405, "method_not_allowed", None)
        assert response.headers["allow"] == "GET, POST"


async def test_what_nobody_foresaw_is_a_plain_500_and_logged_under_its_id(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(Settings(home=tmp_path, redis_url=SecretStr("redis://x")))

    @app.get("/boom")
    async def boom() -> None:
        raise ZeroDivisionError("the secret of the house")

    caplog.handler.addFilter(RequestIds())
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://127.0.0.1"
    ) as client:
        response = await client.get("/boom", headers={"X-Request-Id": "mine"})
    assert_problem(response, 500, "internal_error", None)
    assert response.headers["x-request-id"] == "mine"
    assert "secret" not in response.text
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.__dict__["request_id"] == "mine"
    assert record.exc_info is not None


async def test_an_answer_that_fails_midway_breaks_off() -> None:
    sent: list[Message] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(ZeroDivisionError):
        await Identified(application)({"type": "http", "headers": []}, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start"]
