"""Nobody keeps a connection by sending little, or memory by sending what is no body."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from services.api.connection import PromptHttp

LARGE = 64 * 2**20


class Hasty(PromptHttp):
    head_seconds = 1.5
    unread_seconds = 0.6


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers `/early` before it has read the body, and `/large` with more than a buffer holds."""
    if scope["path"] != "/early":
        while (await receive()).get("more_body"):
            continue
    body = b"x" * (LARGE if scope["path"] == "/large" else 2)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving() -> AsyncGenerator[int]:
    """The port of a server whose connections have little time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            application, http=Hasty, ws="none", lifespan="off", log_level="critical"
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        await asyncio.wait_for(task, 30)


async def answered(port: int, first: bytes, *drips: bytes, pause: float = 0.1) -> bytes:
    """All that comes back until the server hangs up, while `drips` are sent one by one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)

    async def drip() -> None:
        for piece in drips:
            await asyncio.sleep(pause)
            writer.write(piece)

    dripping = asyncio.create_task(drip())
    answer = bytearray()
    try:
        async with asyncio.timeout(30):
            while piece := await reader.read(2**16):
                answer += piece
    except ConnectionResetError:
        pass  # it hung up on what was still being sent
    finally:
        dripping.cancel()
        writer.close()
    return bytes(answer)


GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
OK = b"HTTP/1.1 200 OK"


def problem(answer: bytes) -> tuple[int, str]:
    """Status and code of an answer that must be one problem and nothing else."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    told = json.loads(body)
    assert told["status"] == int(head.split()[1])
    return told["status"], told["error"]["code"]


async def test_a_head_that_comes_byte_by_byte_is_late() -> None:
    async with serving() as port:
        answer = await answered(port, GET, *[b"X-A: b\r\n"] * 90)
        assert problem(answer) == (408, "request_timeout")


async def test_a_connection_on_which_nothing_comes_is_closed() -> None:
    async with serving() as port:
        assert await answered(port, b"") == b""
        # Line ends between requests are no request either.
        assert (await answered(port, GET + b"\r\n", *[b"\r\n"] * 90)).startswith(OK)


async def test_a_body_that_nobody_waits_for_does_not_hold_the_connection() -> None:
    async with serving() as port:
        head = b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
        assert (await answered(port, head, *[b"x"] * 90)).startswith(OK)


async def test_a_client_that_uses_its_connection_keeps_it() -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(12):
            writer.write(GET + b"\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(OK)
            assert await reader.readexactly(2) == b"xx"
            await asyncio.sleep(0.2)
        writer.write((GET + b"\r\n") * 3)
        for _ in range(3):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(OK)
            assert await reader.readexactly(2) == b"xx"
        writer.close()


@pytest.mark.parametrize(
    "flood",
    [
        b"GET /" + b"a" * 2**20,
        GET + b"X-A: " + b"a" * 2**20,
        GET + b"X-A: a\r\n" * 2**17,
    ],
    ids=["line", "header", "headers"],
)
async def test_a_head_that_grows_and_grows_is_431(flood: bytes) -> None:
    async with serving() as port:
        pieces = [flood[at : at + 30_000] for at in range(0, len(flood), 30_000)]
        answer = await answered(port, *pieces, pause=0.01)
        # Who goes on sending may be cut off before the answer is read.
        assert not answer or problem(answer) == (431, "head_too_large")


async def test_trailers_and_extensions_of_chunks_are_no_place_to_grow_either() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving() as port:
        for start in (b"0\r\nX-A: ", b"1;a="):
            answer = await answered(port, head + start, *[b"a" * 30_000] * 30, pause=0.01)
            assert b"200 OK" not in answer
        whole = head + b"1\r\nx\r\n" * 100_000 + b"0\r\nX-A: b\r\n\r\n"
        assert (await answered(port, whole)).startswith(OK), "small chunks are a body"


async def test_what_is_no_http_is_the_one_problem() -> None:
    async with serving() as port:
        for said in (
            b"\x16\x03\x01 hello",
            b"CONNECT x:443 HTTP/1.1\r\nHost: x",
            b"PRI * HTTP/2.0\r\n\r\nSM",
        ):
            assert problem(await answered(port, said + b"\r\n\r\n")) == (400, "bad_request")


async def test_a_reader_who_does_not_read_is_cut_off() -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(2.0)
        taken = 0
        try:
            while piece := await asyncio.wait_for(reader.read(2**16), 10):
                taken += len(piece)
        except ConnectionResetError:
            pass
        assert taken < LARGE
        writer.close()
