"""Every request that may change something leaves a record in the audit log.

A route that did something says so, `await audit(caller, "job.create", job.id, priority=1)`.
What no route told (it was refused, it failed, its author forgot) is recorded here with the
route for its action, before the answer leaves. Callers who did not prove who they are, or
who send too much, leave no record: they could fill the log.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.errors import strop_error_response
from services.audit import AuditLog, Fact
from services.callers import Caller
from services.errors import StoreUnavailable

_SAFE = ("GET", "HEAD", "OPTIONS")
_TOLD = "audit_told"
_UNRECORDED = (401, 429)


class Audit:
    """The audit log, for one request."""

    def __init__(self, request: Request) -> None:
        self._request = request

    async def __call__(
        self, caller: Caller, action: str, target: str | None, **facts: Fact
    ) -> None:
        """Record that the caller did something (`job.create`) to a target (its id)."""
        state = self._request.state
        log: AuditLog = self._request.app.state.audit
        await log.record(
            caller, action, target, request_id=getattr(state, "request_id", None), facts=facts
        )
        setattr(state, _TOLD, True)


AuditParam = Annotated[Audit, Depends(Audit)]


def changes_nothing(request: Request) -> None:
    """A dependency of a route that is no GET and yet changes nothing: it leaves no record."""
    setattr(request.state, _TOLD, True)


class Audited:
    """Records the outcome of every request that may change something, unless a route did."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _SAFE:
            await self._app(scope, receive, send)
            return
        lost = False

        async def recorded(message: Message) -> None:
            nonlocal lost
            if message["type"] == "http.response.start":
                try:
                    await _record(scope, message["status"])
                except StoreUnavailable as error:
                    lost = True
                    await strop_error_response(Request(scope), error)(scope, receive, send)
            if not lost:
                await send(message)

        try:
            await self._app(scope, receive, recorded)
        except Exception:
            await _record(scope, 500)  # Starlette answers this one outside of every middleware
            raise


async def _record(scope: Scope, status: int) -> None:
    state: dict[str, Any] = scope.get("state", {})
    caller: Caller | None = state.get("caller")
    if caller is None or state.get(_TOLD) or status in _UNRECORDED:
        return
    state[_TOLD] = True
    log: AuditLog = scope["app"].state.audit
    route: str = getattr(scope.get("route"), "path", scope["path"])
    await log.record(
        caller,
        f"{scope['method']} {route}",
        "/".join(str(value) for value in scope.get("path_params", {}).values()) or None,
        "done" if status < 400 else "refused" if status < 500 else "failed",
        status=status,
        request_id=state.get("request_id"),
    )
