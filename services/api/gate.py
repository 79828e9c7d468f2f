"""The gate before everything else: by which name the service is asked, and by whose page.

A name that is not the service's own is refused (a page that rebinds its name to our address
gets nowhere), and so is every request that another site's page sends, unless the operator
allows that site. Health is asked by any name: probes know only an address. Every answer says
how a browser must treat it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.access_settings import AccessSettings
from services.api.errors import strop_error_response
from services.errors import ForeignHost, ForeignOrigin, StropError

HEALTH = frozenset({"/healthz", "/readyz"})
"""Paths that tell nobody anything but whether the process serves."""

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ANY = ("0.0.0.0", "::")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Gate:
    """Refuses foreign hosts and origins; adds headers that an answer does not have itself."""

    def __init__(self, app: ASGIApp, settings: AccessSettings) -> None:
        self._app = app
        own = () if settings.host in _ANY else (settings.host,)
        self._hosts = Names((*_LOOPBACK, *own, *settings.allowed_hosts))
        self._origins = frozenset(map(str.lower, settings.allowed_origins))
        self._tls = settings.tls_cert is not None or settings.behind_proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if self._tls:
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        error = self._refusal(scope)
        if error is None:
            await self._app(scope, receive, guarded)
        else:
            await strop_error_response(Request(scope), error)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> StropError | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if scope["path"] not in HEALTH and not (len(hosts) == 1 and hosts[0] in self._hosts):
            return ForeignHost(
                f"this service is not asked by the name {hosts[0][:200] if hosts else ''!r}; an "
                "operator may add it to STROP_ALLOWED_HOSTS"
            )
        origin = headers.get("origin")
        if origin is None or origin.lower() in self._origins:
            return None
        if hosts and urlsplit(origin).netloc.lower() == hosts[0].lower():
            return None
        return ForeignOrigin(
            f"pages of {origin[:200]} may not call this service; an operator may allow them in "
            "STROP_ALLOWED_ORIGINS"
        )


class Names:
    """Host names, with or without a port, matched as patterns: `*.example.org`, `*`."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = frozenset(pattern.lower().strip("[]") for pattern in patterns)

    def __contains__(self, host: str) -> bool:
        parts = _HOST.fullmatch(host)
        if parts is None:
            return False
        name = parts[1].lower().strip("[]")
        if "*" in self._patterns or name in self._patterns:
            return True
        labels = name.split(".")
        return any("*." + ".".join(labels[i:]) in self._patterns for i in range(1, len(labels)))
