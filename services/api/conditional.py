"""Conditional requests: `ETag` on what is read, `304` for what is known, `If-Match` on changes.

An entity tag is `"<revision>.<hash>"`. The hash is of the whole representation, so a reader
with `If-None-Match` never misses anything; the revision counts what callers and the service
decide, and is all that `If-Match` compares, so that the progress of a running job does not
refuse a change. Only successful reads and changes get here: errors come first.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel

from services.errors import InvalidRequest, PreconditionFailed, Problem

_TAG = re.compile(r'(?:W/)?"(?P<revision>[\x21\x23-\x2d\x2f-\x7e]*)(?:\.[\x21\x23-\x7e]*)?"')


def represented(
    request: Request, model: BaseModel, revision: int | str, headers: dict[str, str] | None = None
) -> Response:
    """The model as JSON with its entity tag; 304 when a GET says that it has this one."""
    body = model.model_dump_json().encode()
    tag = f'"{revision}.{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {**(headers or {}), "ETag": tag, "Cache-Control": "private, no-cache"}
    if request.method in ("GET", "HEAD") and known(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def known(if_none_match: str, tag: str) -> bool:
    """Whether the header `If-None-Match` names this entity tag."""
    if if_none_match.strip() == "*":
        return True
    return tag in (part.strip().removeprefix("W/") for part in if_none_match.split(","))


class IfMatch:
    """What the caller believes that it changes."""

    def __init__(
        self,
        if_match: Annotated[
            str | None,
            Header(
                max_length=1024,
                description="Entity tag of the object as the caller saw it; 412 when it has "
                "changed since.",
            ),
        ] = None,
    ) -> None:
        """A dependency. Raises InvalidRequest when the header is malformed."""
        self.revisions: frozenset[str] | None = None
        """The revisions the caller would change; None for any."""
        if if_match is None or if_match.strip() == "*":
            return
        tags = [_TAG.fullmatch(part.strip()) for part in if_match.split(",")]
        if not all(tags):
            raise InvalidRequest([Problem("If-Match", f'{if_match!r} is no ETag, like "3.1f"')])
        self.revisions = frozenset(tag["revision"] for tag in tags if tag)

    def check(self, revision: int | str) -> None:
        """Raise PreconditionFailed unless this revision is what the caller would change."""
        if self.revisions is not None and str(revision) not in self.revisions:
            raise PreconditionFailed(
                f"it has changed: it is at revision {revision} now; read it again, and decide anew"
            )


IfMatchParam = Annotated[IfMatch, Depends(IfMatch)]
