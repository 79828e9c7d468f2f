"""Every error leaves the API as one body: problem+json (RFC 9457) and OpenAI's `error` at once.

A client of either kind finds what it looks for, and no traceback ever leaves: what is not
foreseen is logged and answered as a plain 500.
"""

from __future__ import annotations

import http
import logging
import math
from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from services import errors
from services.errors import InvalidRequest, Problem, StropError, validation_message

_log = logging.getLogger(__name__)

STATUS_OF: dict[type[StropError], int] = {
    errors.InvalidRequest: 422,
    errors.NotFound: 404,
    errors.IllegalTransition: 409,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.Unauthorized: 401,
    errors.MalformedBody: 400,
    errors.Forbidden: 403,
    errors.ForeignHost: 421,
    errors.TooMuch: 429,
    errors.TooSlow: 408,
    errors.TooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.StorageUnavailable: 503,
    errors.StorageFull: 507,
    errors.StoreUnavailable: 503,
    errors.Fenced: 409,
    errors.VerifiersUnavailable: 503,
    errors.DryRunUnavailable: 503,
    errors.IdentityUnavailable: 503,
    errors.ModelUnavailable: 503,
}


_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_RETRY_SECONDS = 5.0


class FieldProblem(BaseModel):
    """One field that is wrong."""

    field: str = Field(description="Where, as a dotted path.")
    message: str = Field(description="What is wrong, and what would be right.")


class OpenAIError(BaseModel):
    """The error as OpenAI's clients read it."""

    message: str = Field(description="What was wrong, with which value, and what to do.")
    type: str = Field(description="Class of the error, e.g. `invalid_request_error`.")
    param: str | None = Field(description="The field concerned.")
    code: str | None = Field(description="Stable code of this error.")


class ProblemBody(BaseModel):
    """An RFC 9457 problem that is an OpenAI error too."""

    type: str = Field(description="URN of the kind of problem.")
    title: str = Field(description="The HTTP status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was wrong, with which value, and what to do.")
    instance: str = Field(description="Path of the request.")
    errors: list[FieldProblem] = Field(description="Every field that is wrong.")
    error: OpenAIError = Field(description="The same for OpenAI's clients.")


def problem(
    instance: str,
    status: int,
    code: str,
    message: str,
    *,
    param: str | None = None,
    problems: Sequence[Problem] = (),
) -> ProblemBody:
    """The one error body; `instance` is the path that was asked for."""
    return ProblemBody(
        type=f"urn:strop:problem:{code}",
        title=http.HTTPStatus(status).phrase,
        status=status,
        detail=message,
        instance=instance,
        errors=[FieldProblem(field=p.field, message=p.message) for p in problems],
        error=OpenAIError(message=message, type=_openai_type(status), param=param, code=code),
    )


def problem_response(
    request: Request,
    status: int,
    code: str,
    message: str,
    *,
    param: str | None = None,
    problems: Sequence[Problem] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """The response with the one error body."""
    body = problem(request.url.path, status, code, message, param=param, problems=problems)
    return JSONResponse(body.model_dump(), status, headers, media_type="application/problem+json")


def _openai_type(status: int) -> str:
    if status >= 500:
        return "server_error"
    return _OPENAI_TYPES.get(status, "invalid_request_error")


def strop_error_response(request: Request, error: StropError) -> JSONResponse:
    """The response to an error of our own tree."""
    status = next((STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF), 500)
    if status == 500:
        _log.error("request failed", exc_info=error)
        return unforeseen_response(request)
    problems = error.problems if isinstance(error, InvalidRequest) else ()
    return problem_response(
        request,
        status,
        error.code,
        error.message,
        param=error.param,
        problems=problems,
        headers=_headers(status, error.retry_after),
    )


def _headers(status: int, retry_after: float | None) -> dict[str, str]:
    """What a client needs to know besides the body.

    OpenAI's clients repeat every 409 and 5xx on their own unless `x-should-retry` says that
    it would be in vain.
    """
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 408:
        headers["Connection"] = "close"  # what is left of the body must not be read as a request
    if retry_after is None and status == 503:
        retry_after = _RETRY_SECONDS
    if retry_after is not None:
        headers["Retry-After"] = str(math.ceil(retry_after))
    elif status in (408, 409, 507):
        headers["X-Should-Retry"] = "false"
    return headers


def unforeseen_response(request: Request) -> JSONResponse:
    """The response to what nobody foresaw; it shows nothing of it."""
    return problem_response(
        request, 500, "internal_error", "the service failed on this request; its log says why"
    )


def _framework_headers(
    app: FastAPI, request: Request, error: HTTPException
) -> dict[str, str] | None:
    if error.status_code != 405:
        return dict(error.headers) if error.headers else None
    # The framework names the methods of one route; several may share a path.
    methods: set[str] = set()
    for route in app.routes:
        match, _ = route.matches(request.scope)
        if match != Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return {"Allow": ", ".join(sorted(methods))}


def install(app: FastAPI) -> None:
    """Make the app answer every error with the one body."""

    @app.exception_handler(StropError)
    async def ours(request: Request, error: StropError) -> JSONResponse:
        return strop_error_response(request, error)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = [
            Problem(
                ".".join(str(part) for part in item["loc"][1:]) or str(item["loc"][0]),
                validation_message(item),
            )
            for item in error.errors()
        ]
        return strop_error_response(request, InvalidRequest(problems))

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> JSONResponse:
        code = http.HTTPStatus(error.status_code).name.lower()
        return problem_response(
            request,
            error.status_code,
            code,
            f"{request.method} {request.url.path}: {error.detail}",
            headers=_framework_headers(app, request, error),
        )
