"""The routes of inference: chat and text completions of any model the caller may use."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.api.audited import changes_nothing
from services.api.auth import allowed
from services.api.completion_objects import ChatCompletion, TextCompletion
from services.api.completion_requests import ChatRequest, CompletionRequest
from services.api.model_catalog import CatalogParam, ModelCatalog
from services.api.model_servers import ModelServers, Target
from services.api.model_stream import EventStream
from services.callers import Caller

router = APIRouter(prefix="/v1", tags=["Inference"], dependencies=[Depends(changes_nothing)])

_GONE = 499  # nobody reads it; the log and the metrics do

InferParam = Annotated[Caller, Depends(allowed("models:infer"))]


def _servers(request: Request) -> ModelServers:
    return request.app.state.model_servers


ServersParam = Annotated[ModelServers, Depends(_servers)]


def _stream_too(model: type) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model, "content": {"text/event-stream": {"schema": {"type": "string"}}}}}


@router.post(
    "/chat/completions",
    summary="Continue a conversation",
    response_model=ChatCompletion,
    responses=_stream_too(ChatCompletion),
)
async def chat(
    body: ChatRequest,
    caller: InferParam,
    request: Request,
    catalog: CatalogParam,
    servers: ServersParam,
) -> Response:
    """Answer a conversation, whole or as a stream. A model that is not loaded is loaded first."""
    return await _complete("/v1/chat/completions", body, caller, request, catalog, servers)


@router.post(
    "/completions",
    summary="Continue a text",
    response_model=TextCompletion,
    responses=_stream_too(TextCompletion),
)
async def complete(
    body: CompletionRequest,
    caller: InferParam,
    request: Request,
    catalog: CatalogParam,
    servers: ServersParam,
) -> Response:
    """Continue a text, whole or as a stream. A model that is not loaded is loaded first."""
    return await _complete("/v1/completions", body, caller, request, catalog, servers)


async def _complete(
    route: str,
    body: ChatRequest | CompletionRequest,
    caller: Caller,
    request: Request,
    catalog: ModelCatalog,
    servers: ModelServers,
) -> Response:
    model = await catalog.find(body.model, caller.tenant)
    target = Target(model.id, model.path)
    count = partial(servers.models.count, caller.tenant, model.id)
    asked = body.for_the_engine()
    if not body.stream:
        answer = servers.answer(target, route, asked, count)
        data = await _unless_gone(request, answer)
        return Response(status_code=_GONE) if data is None else JSONResponse(data)
    events = servers.stream(target, route, asked, count, wants_usage=body.wants_usage)
    stream = await _unless_gone(request, events)
    if stream is None:
        return Response(status_code=_GONE)
    return _Streamed(stream)


class _Streamed(StreamingResponse):
    """A stream that is closed however it ends, even before it began."""

    def __init__(self, stream: EventStream) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(stream.events(), media_type="text/event-stream", headers=headers)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.close()


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Any]) -> Any:
    """What the work gives; None, and the work is cancelled, when the client has gone."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        for task in (working, leaving):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await leaving


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
