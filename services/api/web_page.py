"""The web page: files of this package, served without a key at `/` and `/assets/`.

All of it is read once, when the application is made, so a request can only name what is
there. The page itself knows nothing: it asks the API with the key that its user gives it.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

from services.api.conditional import known
from services.errors import NotFound

FOLDER = Path(__file__).parents[1] / "page"
INDEX = "index.html"

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # no text can become markup: no sink takes a string
        "trusted-types 'none'",
    )
)

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    "": "text/plain; charset=utf-8",  # licences
}
_ASK_AGAIN = "no-cache"
_FOR_GOOD = "public, max-age=31536000, immutable"
"""For vendored files alone: their folders carry the version."""


@dataclass(frozen=True)
class Asset:
    """A file as it is served, plain and compressed."""

    media_type: str
    cache_control: str
    body: bytes
    zipped: bytes
    digest: str

    @classmethod
    def of(cls, path: Path) -> Asset:
        """Read one file."""
        body = path.read_bytes()
        versioned = path.parent.parent.name == "vendor"
        return cls(
            _TYPES[path.suffix],
            _FOR_GOOD if versioned else _ASK_AGAIN,
            body,
            gzip.compress(body, mtime=0),
            hashlib.sha256(body).hexdigest()[:16],
        )

    def answer(self, request: Request) -> Response:
        """The file, or 304 when the browser has this one."""
        zipped = "gzip" in request.headers.get("accept-encoding", "")
        tag = f'"{self.digest}{"-gzip" if zipped else ""}"'
        headers = {
            "ETag": tag,
            "Cache-Control": self.cache_control,
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Vary": "Accept-Encoding",
        }
        if known(request.headers.get("if-none-match", ""), tag):
            return Response(status_code=304, headers=headers)
        if zipped:
            headers["Content-Encoding"] = "gzip"
        return Response(
            self.zipped if zipped else self.body, media_type=self.media_type, headers=headers
        )


def assets(folder: Path = FOLDER) -> Mapping[str, Asset]:
    """Every file of the page by its path below the folder."""
    return {
        path.relative_to(folder).as_posix(): Asset.of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def page_router() -> APIRouter:
    """The routes of the page. They are for browsers, and so in no description of the API."""
    router = APIRouter(include_in_schema=False)
    found = assets()

    @router.api_route("/", methods=["GET", "HEAD"])
    async def index(request: Request) -> Response:
        return found[INDEX].answer(request)

    @router.api_route("/assets/{path:path}", methods=["GET", "HEAD"])
    async def asset(request: Request, path: str) -> Response:
        if path not in found:
            raise NotFound(f"the page has no file {path[:200]!r}")
        return found[path].answer(request)

    return router
