"""The errors of the service: one small tree, each with a stable machine-readable code.

Raised by the store, the job checks and the local service; the API turns them into
problem+json and the CLI into one line and exit status 2. A message says what was wrong,
with which value, where, and what to do. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


def validation_message(item: Mapping[str, Any]) -> str:
    """What one item of a pydantic error says, without pydantic's word for a ValueError."""
    return item["msg"].removeprefix("Value error, ")


class StropError(Exception):
    """Base of what a caller may be told.

    `param` names the field or parameter concerned; `retry_after` is in how many seconds the
    same request may do better, None where it would not.
    """

    code: ClassVar[str] = "internal_error"

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after


class StoreUnavailable(StropError):
    """The Redis-protocol server cannot be reached or refuses us."""

    code = "store_unavailable"


class ClusterUnavailable(StropError):
    """The Ray cluster cannot be reached."""

    code = "cluster_unavailable"


class BadSettings(StropError):
    """An environment variable is missing or does not fit."""

    code = "bad_settings"


class NotFound(StropError):
    """No such object."""

    code = "not_found"


class IllegalTransition(StropError):
    """The job's status does not allow what was asked."""

    code = "illegal_transition"


class Conflict(StropError):
    """What was asked contradicts what there is."""

    code = "conflict"


class IdempotencyConflict(Conflict):
    """An idempotency key was used before, for another request."""

    code = "idempotency_conflict"


class InProgress(Conflict):
    """A request with this idempotency key is being carried out at this moment."""

    code = "in_progress"


class FileInUse(Conflict):
    """A job that has not ended reads this file."""

    code = "file_in_use"


class PreconditionFailed(StropError):
    """The object is no longer what the caller last saw of it."""

    code = "precondition_failed"


class Fenced(StropError):
    """A runner's claim on its job is over: somebody else holds the job, or nobody."""

    code = "claim_lost"


class Unauthorized(StropError):
    """The API key is missing or not known."""

    code = "invalid_api_key"


class IdentityUnavailable(StropError):
    """Whoever vouches for the caller cannot be asked at this moment."""

    code = "identity_unavailable"


class Forbidden(StropError):
    """The caller is known and may not do this."""

    code = "forbidden"


class ForeignHost(StropError):
    """The service was asked by a name that is not its own."""

    code = "foreign_host"


class ForeignOrigin(Forbidden):
    """A page of another site sent the request."""

    code = "foreign_origin"


class TooMuch(StropError):
    """A limit is reached."""

    code = "too_much"


class RateLimited(TooMuch):
    """More requests than the tenant may send in this time."""

    code = "rate_limit_exceeded"


class QuotaExceeded(TooMuch):
    """The tenant has all that it may have; something must end or be deleted first."""

    code = "quota_exceeded"


class MalformedBody(StropError):
    """The request's body is not what its type says."""

    code = "malformed_body"


class TooLarge(StropError):
    """The request is larger than the service accepts."""

    code = "request_too_large"


class TooSlow(StropError):
    """The request's body did not arrive in time."""

    code = "request_timeout"


class UnsupportedMedia(StropError):
    """The request's body is of a type that this route does not read."""

    code = "unsupported_media_type"


class StorageFull(StropError):
    """No room is left for what should be stored."""

    code = "storage_full"


class StorageUnavailable(StropError):
    """The folder of stored files cannot be read or written."""

    code = "storage_unavailable"


class VerifiersUnavailable(StropError):
    """Nothing can be judged at this moment."""

    code = "verifiers_unavailable"


class DryRunUnavailable(StropError):
    """Nothing can be looked at before it runs, at this moment."""

    code = "dry_run_unavailable"


class ModelUnavailable(StropError):
    """The model is there and cannot answer at this moment."""

    code = "model_unavailable"


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
