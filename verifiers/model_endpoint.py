"""Where models that judge are asked: the operator's OpenAI-compatible endpoint.

    STROP_GRADER_MODEL_URL   its base, as OpenAI's clients know it: https://models.example/v1
    STROP_GRADER_MODEL_KEY   the bearer token, if it wants one

Tasks name models, never addresses. The address is the operator's own, so it may be private:
another service, or the one that serves what is trained here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

URL = "STROP_GRADER_MODEL_URL"
KEY = "STROP_GRADER_MODEL_KEY"


class NoEndpointError(Exception):
    """No model can be asked; the message says what an operator may do."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to POST a chat, and the headers to do it with."""

    url: str
    headers: dict[str, str]


def endpoint() -> Endpoint:
    """The endpoint of this environment. Raises NoEndpointError."""
    base = os.environ.get(URL, "").rstrip("/")
    if not base:
        raise NoEndpointError(
            "asks a model, and no endpoint of one is configured here: an operator may name an "
            f"OpenAI-compatible one in {URL}; or take another type, or a `remote` grader that "
            "asks yours"
        )
    try:
        parts = urlsplit(base)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not base.isascii() or any(c <= " " or c in "?#\x7f" for c in base):
        raise NoEndpointError(f"asks a model, but {URL} is no http or https address")
    key = os.environ.get(KEY, "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return Endpoint(f"{base}/chat/completions", headers)


def missing() -> str | None:
    """Why no model can be asked from here; None when one can."""
    try:
        endpoint()
    except NoEndpointError as error:
        return str(error)
    return None


def without_key(text: str) -> str:
    """A text of the endpoint's, in which its key does not stand."""
    key = os.environ.get(KEY, "")
    return text.replace(key, "...") if key else text
