"""The errors of the service: one small tree, each with a stable machine-readable code.

Raised by the store, the job checks and the local service; the API turns them into
problem+json and the CLI into one line and exit status 2. A message says what was wrong,
with which value, where, and what to do. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class StropError(Exception):
    """Base of what a caller may be told. `param` names the field or parameter concerned."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class StoreUnavailable(StropError):
    """The Redis-protocol server cannot be reached or refuses us."""

    code = "store_unavailable"


class BadSettings(StropError):
    """An environment variable is missing or does not fit."""

    code = "bad_settings"


class NotFound(StropError):
    """No such object."""

    code = "not_found"


class IllegalTransition(StropError):
    """The job's status does not allow what was asked."""

    code = "illegal_transition"


class PreconditionFailed(StropError):
    """The object is not as the caller last saw it."""

    code = "precondition_failed"


class Fenced(StropError):
    """A runner's claim on its job is over: somebody else holds the job, or nobody."""

    code = "claim_lost"


class Unauthorized(StropError):
    """The API key is missing or not known."""

    code = "invalid_api_key"


class TooLarge(StropError):
    """The request is larger than the service accepts."""

    code = "request_too_large"


class VerifiersUnavailable(StropError):
    """Nothing can be judged at this moment."""

    code = "verifiers_unavailable"


class CannotStart(StropError):
    """A process of the local service cannot be started."""

    code = "cannot_start"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one field."""

    field: str
    message: str


class InvalidRequest(StropError):
    """A request that cannot be carried out; `problems` holds every one found, at least one."""

    code = "invalid_request"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(
            "; ".join(f"{problem.field}: {problem.message}" for problem in problems),
            param=problems[0].field,
        )
        self.problems = tuple(problems)
