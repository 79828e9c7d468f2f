"""What goes wrong at a model's server, as errors of ours: said to the client, never its insides."""

from __future__ import annotations

import json
import logging
from typing import Any, cast

import httpx

from services.errors import InvalidRequest, ModelUnavailable, Problem, StropError

_log = logging.getLogger(__name__)

_CHARACTERS = 1000


def refusal(name: str, status: int, body: bytes) -> StropError:
    """The error for an answer that is not 200: the request's fault, or the server's."""
    data = _object(body)
    if 400 <= status < 500 and data is not None:
        param = _error(data).get("param")
        return InvalidRequest([Problem(str(param or "body"), said(data))])
    _log.error("model %s: status %d: %s", name, status, body[:_CHARACTERS])
    if status == 503:
        return _unavailable(f"model {name} has more requests than it can take; ask again")
    return _unavailable(
        f"the engine of model {name} failed on this request; it is started anew when it does not "
        "recover: ask again"
    )


def lost(name: str, error: httpx.TransportError) -> ModelUnavailable:
    """The error for a connection that broke."""
    return _unavailable(
        f"the server of model {name} was lost ({type(error).__name__}); it is started anew: ask "
        "again"
    )


def late(name: str, seconds: float) -> ModelUnavailable:
    """The error for an answer that did not come in time."""
    return _unavailable(
        f"model {name} did not answer within {seconds:.0f} s (STROP_SERVE_REQUEST_SECONDS); ask "
        "for fewer tokens"
    )


def said(data: dict[str, Any]) -> str:
    """What the server says went wrong."""
    message = _error(data).get("message", data.get("error"))
    return str(message)[:_CHARACTERS]


def error_event(error: StropError) -> bytes:
    """An error behind the first event, where OpenAI's clients look for it."""
    body = {"message": error.message, "type": "server_error", "param": None, "code": error.code}
    return b"data: " + json.dumps({"error": body}).encode() + b"\n\n"


def _unavailable(message: str) -> ModelUnavailable:
    return ModelUnavailable(message, param="model")


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        data: Any = json.loads(body)
    except ValueError:
        return None
    return cast("dict[str, Any]", data) if isinstance(data, dict) else None


def _error(data: dict[str, Any]) -> dict[str, Any]:
    error = data.get("error")
    return cast("dict[str, Any]", error) if isinstance(error, dict) else {}
