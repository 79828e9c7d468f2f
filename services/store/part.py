"""What the rooms of the store share: their keys, how a change is sent, what a reply means."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from services.errors import Fenced, IllegalTransition, NotFound, PreconditionFailed
from services.jobs import Job, JobStatus
from services.redis_link import PREFIX, RedisLink

PAGE = 100
PATIENCE_SECONDS = 60.0
"""How long a runner's write is tried while the server is away: an event must not be lost."""


class Part:
    """A room of the store. Every method raises StoreUnavailable when the server is lost."""

    def __init__(self, link: RedisLink) -> None:
        """Keep everything on the other end of `link`."""
        self._link = link

    async def _change(
        self,
        script: str,
        job_id: str,
        what: str,
        *args: str | int | float,
        tenant: str | None = None,
        revision: int | None = None,
        token: int | None = None,
        patience: float = PATIENCE_SECONDS,
    ) -> Sequence[str]:
        """Run a script on one job; what it answers behind `done`.

        `what` the job cannot do is said in the error: NotFound, PreconditionFailed, Fenced or
        IllegalTransition. With a token, a server that is away is waited for with `patience`.
        """
        reply = cast(
            "Sequence[str]",
            await self._link.run(
                self._link.script(script),
                [job_key(job_id)],
                [
                    job_id,
                    secrets.token_hex(8),
                    tenant or "",
                    "" if revision is None else str(revision),
                    "" if token is None else str(token),
                    *map(str, args),
                ],
                patience=0.0 if token is None else patience,
            ),
        )
        match reply[0]:
            case "missing":
                raise no_such_job(job_id)
            case "stale":
                raise PreconditionFailed(
                    f"job {job_id} has changed: it is at revision {reply[1]}, not {revision}; "
                    "look at it again"
                )
            case "fenced":
                raise Fenced(
                    f"job {job_id} is no longer held by claim {token} (the last is {reply[1]}): "
                    "whoever runs it must stop"
                )
            case "refused":
                raise IllegalTransition(f"job {job_id} is {reply[1]} and cannot {what}")
            case _:
                return reply[1:]

    async def get_job(self, job_id: str, tenant: str | None = None) -> Job:
        """The job as it stands. Raises NotFound, also for a job of another tenant."""
        fields = await self._link.ask("HGETALL", job_key(job_id))
        if not fields or tenant not in (None, fields["tenant"]):
            raise no_such_job(job_id)
        return _job_of(fields)

    async def _jobs(self, ids: Iterable[str]) -> list[Job]:
        return [_job_of(row) for row in await self._link.hashes(map(job_key, ids)) if row]


def key(name: str) -> str:
    """A key of ours on the server."""
    return PREFIX + name


def job_key(job_id: str) -> str:
    """Where a job's record lies."""
    return key(f"job:{job_id}")


def events_key(job_id: str) -> str:
    """Where a job's events lie."""
    return key(f"events:{job_id}")


def dump(data: Any) -> str:
    """Data as it is stored."""
    # JSON has no NaN: one that slipped in would make the event unreadable for every client.
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def optional(value: float | str | None) -> str:
    """A value that may be absent, as scripts take it."""
    return "" if value is None else str(value)


def status_data(status: JobStatus, **more: Any) -> str:
    """The data of an event that tells of a status."""
    data = {key: value for key, value in more.items() if value is not None}
    return dump({"kind": "status", "status": status, **data})


def no_such_job(job_id: str, param: str | None = None) -> NotFound:
    """The error for a job that is not there, or not the caller's."""
    return NotFound(f"there is no job {job_id!r}", param=param)


def _job_of(fields: Mapping[str, str]) -> Job:
    def number(name: str) -> float | None:
        return float(fields[name]) if fields.get(name) else None

    def parsed(name: str) -> Any:
        return json.loads(fields[name]) if fields.get(name) else None

    progress: dict[str, Any] | None = parsed("progress")
    if progress is not None and (accuracy := number("holdout_accuracy")) is not None:
        progress["holdout_accuracy"] = accuracy
    curve: dict[str, Any] = parsed("rewards") or {}
    rewards = cast("list[list[float]]", curve.get("points", []))
    return Job(
        id=fields["id"],
        tenant=fields["tenant"],
        status=cast("JobStatus", fields["status"]),
        created_at=float(fields["created_at"]),
        started_at=number("started_at"),
        finished_at=number("finished_at"),
        spec=parsed("spec"),
        metadata=parsed("metadata"),
        error=parsed("error"),
        result=parsed("result"),
        progress=progress,
        rewards=[(int(step), float(reward)) for step, reward in rewards],
        priority=int(fields["priority"]),
        request=cast("Any", fields.get("request")),
        waiting=fields.get("waiting"),
        revision=int(fields["revision"]),
        retry_of=fields.get("retry_of") or None,
        source=fields.get("source") or None,
        asked=parsed("asked"),
        request_id=fields.get("request_id") or None,
        worker=fields.get("worker"),
        token=int(fields.get("token", 0)),
        attempts=int(fields.get("attempts", 0)),
        claimed_at=number("claimed_at"),
        phase=fields.get("phase"),
        pulse_at=number("pulse_at"),
        trained_tokens=int(fields.get("trained_tokens", 0)),
        runtime_s=float(fields.get("runtime_s", 0)),
        max_runtime_s=number("max_runtime_s"),
        max_tokens=None if not fields.get("max_tokens") else int(fields["max_tokens"]),
    )
