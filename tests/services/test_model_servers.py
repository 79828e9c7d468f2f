"""The way from the API to a model's server, against servers that break every promise."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.api.model_servers import ModelServers, Target
from services.api.model_stream import EventStream
from services.errors import InvalidRequest, ModelUnavailable
from services.served_models import ServedModels, Serving
from services.settings import Settings
from services.store import Store

ROUTE = "/v1/chat/completions"
TARGET = Target("ft:base:sums:1", "/models/1")
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(status: int, body: Any) -> Script:
    """A server that answers every request with this."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)

    return script


def events(*chunks: Any, done: bool = True, then: float = 0.0) -> Script:
    """A server that streams these chunks, and may break off, or fall silent, behind them."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        texts = [f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in chunks]
        for text in [*texts, *(["data: [DONE]\n\n"] if done else [])]:
            data = text.encode()
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            await writer.drain()
        await asyncio.sleep(then)
        if done:
            writer.write(b"0\r\n\r\n")

    return script


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that never answers; it ends with its connection."""
    await reader.read()


def chunk(text: str, tokens: int) -> dict[str, Any]:
    usage = {**USAGE, "completion_tokens": tokens}
    return {"choices": [{"index": 0, "delta": {"content": text}}], "usage": usage}


class Counted(list[tuple[int, int]]):
    """What was counted."""

    async def __call__(self, prompt: int, completion: int) -> None:
        self.append((prompt, completion))


@asynccontextmanager
async def serving(store: Store, home: Path, script: Script) -> AsyncIterator[ModelServers]:
    """Model servers of which one is scripted, and is told to be ready."""
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"authorization: bearer" in head.lower()
            await script(reader, writer)
        except ConnectionError:
            return  # the client went away, as some of these tests do
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    models = ServedModels(store.link)
    settings = Settings(home=home, serve_wait_seconds=5, serve_request_seconds=1)
    servers = ModelServers(models, settings)
    await models.lead("loop", 60)
    url = f"http://127.0.0.1:{port}"
    await models.tell({TARGET.key: Serving("ready", 0.0, url)})
    try:
        yield servers
    finally:
        await servers.close()
        server.close()
        for task in handlers:
            task.cancel()


async def read(stream: EventStream) -> list[Any]:
    texts = [event.decode().removeprefix("data: ").strip() async for event in stream.events()]
    stream.close()
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


async def test_an_answer_goes_through_and_its_tokens_are_counted(
    store: Store, tmp_path: Path
) -> None:
    counted = Counted()
    said = {"choices": [], "usage": USAGE}
    async with serving(store, tmp_path, answer(200, said)) as servers:
        assert await servers.answer(TARGET, ROUTE, {}, counted) == said
    assert counted == [(3, 2)]


async def test_a_stream_keeps_its_text_and_its_usage_is_for_who_asked(
    store: Store, tmp_path: Path
) -> None:
    odd = "a\u2028b\x85c"  # separators that are no ends of lines in an event stream
    last = {"choices": [], "usage": USAGE}
    script = events(chunk(odd, 1), chunk("d", 2), last)
    for wants in (True, False):
        counted = Counted()
        async with serving(store, tmp_path, script) as servers:
            stream = await servers.stream(TARGET, ROUTE, {}, counted, wants_usage=wants)
            *chunks, done = await read(stream)
        assert done == "[DONE]"
        texts = [item["choices"][0]["delta"]["content"] for item in chunks if item["choices"]]
        assert texts == [odd, "d"]
        assert [item.get("usage") for item in chunks] == (
            [None, None, USAGE] if wants else [None, None]
        )
        assert counted == [(3, 2)]


async def test_a_server_that_breaks_off_ends_the_stream_with_an_error(
    store: Store, tmp_path: Path
) -> None:
    counted = Counted()
    async with serving(store, tmp_path, events(chunk("a", 1), done=False)) as servers:
        stream = await servers.stream(TARGET, ROUTE, {}, counted, wants_usage=False)
        first, error = await read(stream)
    assert first["choices"][0]["delta"]["content"] == "a"
    assert error["error"]["code"] == "model_unavailable"
    assert "was lost" in error["error"]["message"]
    assert counted == [(3, 1)]


async def test_a_server_that_falls_silent_is_late(store: Store, tmp_path: Path) -> None:
    counted = Counted()
    quiet = events(chunk("a", 1), done=False, then=30)
    async with serving(store, tmp_path, quiet) as servers:
        stream = await servers.stream(TARGET, ROUTE, {}, counted, wants_usage=False)
        _, error = await read(stream)
        assert "did not answer within 1 s" in error["error"]["message"]
    async with serving(store, tmp_path, silent) as servers:
        with pytest.raises(ModelUnavailable, match="did not answer within 1 s"):
            await servers.answer(TARGET, ROUTE, {}, counted)
        with pytest.raises(ModelUnavailable, match="did not answer within 1 s"):
            await servers.stream(TARGET, ROUTE, {}, counted, wants_usage=False)


async def test_what_a_client_drew_before_it_left_is_counted(store: Store, tmp_path: Path) -> None:
    counted = Counted()
    async with serving(store, tmp_path, events(chunk("a", 1), then=30)) as servers:
        stream = await servers.stream(TARGET, ROUTE, {}, counted, wants_usage=False)
        await anext(aiter(stream.events()))
        stream.close()
        stream.close()
    assert counted == [(3, 1)]


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (
            400,
            {"error": {"message": "too long", "param": "max_tokens"}},
            InvalidRequest,
            "too long",
        ),
        (500, {"error": {"message": "EngineCore"}}, ModelUnavailable, "engine .* failed"),
        (500, "Internal Server Error", ModelUnavailable, "engine .* failed"),
        (503, "dropped", ModelUnavailable, "more requests than it can take"),
    ],
)
async def test_a_servers_refusal_becomes_ours(
    store: Store, tmp_path: Path, status: int, body: Any, kind: type, said: str
) -> None:
    async with serving(store, tmp_path, answer(status, body)) as servers:
        for ask in (
            servers.answer(TARGET, ROUTE, {}, Counted()),
            servers.stream(TARGET, ROUTE, {}, Counted(), wants_usage=False),
        ):
            with pytest.raises(kind, match=said):
                await ask


async def test_a_model_is_waited_for_until_it_is_ready(store: Store, tmp_path: Path) -> None:
    async with serving(store, tmp_path, answer(200, {"choices": []})) as servers:
        models = servers.models
        ready = (await models.states())[TARGET.key]
        await models.tell({TARGET.key: Serving("loading", 0.0)})
        asking = asyncio.create_task(servers.answer(TARGET, ROUTE, {}, Counted()))
        async with asyncio.timeout(30):
            while not (await models.wanted(60))[1]:
                await asyncio.sleep(0.01)
        assert not asking.done()
        await models.tell({TARGET.key: ready})
        assert await asking == {"choices": []}
        (wanted,) = (await models.wanted(60))[1]
        assert (wanted.name, wanted.path) == (TARGET.name, TARGET.path)


async def test_a_model_that_cannot_be_loaded_is_told_with_the_reason(
    store: Store, tmp_path: Path
) -> None:
    async with serving(store, tmp_path, silent) as servers:
        models = servers.models
        now, _ = await models.wanted(60)
        await models.tell({TARGET.key: Serving("refused", now, reason="it needs 2 GPUs")})
        with pytest.raises(ModelUnavailable, match="it needs 2 GPUs"):
            await servers.answer(TARGET, ROUTE, {}, Counted())
        await models.resign("loop")
        await models.tell({})
        with pytest.raises(ModelUnavailable, match="no dispatcher runs"):
            await servers.answer(TARGET, ROUTE, {}, Counted())
        await models.lead("loop", 60)
        servers.settings = servers.settings.model_copy(update={"serve_wait_seconds": 0.3})
        with pytest.raises(ModelUnavailable, match="still loading"):
            await servers.answer(TARGET, ROUTE, {}, Counted())


async def test_one_loop_leads_and_another_takes_over(store: Store) -> None:
    models = ServedModels(store.link)
    assert await models.lead("a", 60)
    assert await models.lead("a", 60)
    assert not await models.lead("b", 60)
    await models.resign("b")
    assert not await models.lead("b", 60)
    await models.resign("a")
    assert await models.lead("b", 60)


async def test_a_wish_is_forgotten_when_nobody_uses_it(store: Store) -> None:
    models = ServedModels(store.link)
    await models.want("k", "name", "/path")
    assert [model.key for model in (await models.wanted(60))[1]] == ["k"]
    await models.forget("k")
    assert (await models.wanted(60))[1] == []
    await models.touch(["k"])
    assert (await models.wanted(60))[1] == [], "a model in use is not wanted by that alone"
