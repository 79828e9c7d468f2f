"""What happens to every request before a route sees it: it gets an id, and is measured."""

from __future__ import annotations

import logging
import re
import secrets
import time
from contextvars import ContextVar

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.errors import unforeseen_response
from services.metrics import HttpMetrics

_log = logging.getLogger(__name__)
_current: ContextVar[str] = ContextVar("request_id", default="-")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class Identified:
    """Gives every request an id, the caller's own `X-Request-Id` if it fits, and answers with it.

    It is in `request.state.request_id`, in the log and in the audit log. What nobody foresaw is
    logged under it, and answered with a plain 500.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"req-{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id
        _current.set(request_id)
        started = False

        async def identified(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, identified)
        except Exception:
            if started:  # the status is sent: all that is left is to break off
                raise
            _log.exception("request failed")
            await unforeseen_response(Request(scope))(scope, receive, identified)


class RequestIds(logging.Filter):
    """Gives every record of the log the id of the request that it was written for."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Every record passes."""
        record.request_id = _current.get()
        return True


def log_with_request_ids() -> None:
    """Write this process's log to stderr, with the id of the request on every line."""
    handler = logging.StreamHandler()
    handler.addFilter(RequestIds())
    form = "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"
    logging.basicConfig(level=logging.WARNING, format=form, handlers=[handler])


class Measured:
    """Counts and times every request by its route's template."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        def observe(status: int) -> None:
            # A path that no route knows must not become a label of its own.
            route = getattr(scope.get("route"), "path", "unmatched")
            seconds = time.perf_counter() - began
            self._metrics.observe(scope["method"], route, status, seconds)

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                observe(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception:
            observe(500)  # it is answered further out
            raise
