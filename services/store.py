"""The store: jobs and their events in any Redis-protocol server (7.0 or newer).

Every change of a job is one Lua script (services/scripts.py), so readers never see half of
one and two workers never hold one job. The records are in services/jobs.py; what a job
means is for others to know.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, cast

from services import scripts
from services.errors import IllegalTransition, NotFound
from services.jobs import (
    SOURCES,
    STATUSES,
    Event,
    EventLevel,
    EventType,
    Job,
    JobError,
    JobStatus,
)
from services.redis_link import BLOCK_SECONDS, PREFIX, RedisLink

_PAGE = 100


class Store:
    """Jobs and events. Every method raises StoreUnavailable when the server is lost."""

    def __init__(self, link: RedisLink) -> None:
        """Keep everything on the other end of `link`."""
        self._link = link
        self._create = link.script(scripts.CREATE)
        self._claim = link.script(scripts.CLAIM)
        self._transition = link.script(scripts.TRANSITION)
        self._append = link.script(scripts.APPEND_EVENT)
        self._heartbeat = link.script(scripts.HEARTBEAT)
        self._cancel = link.script(scripts.REQUEST_CANCEL)
        self._tell = link.script(scripts.TELL_VERIFIERS)

    @classmethod
    async def open(cls, url: str) -> Store:
        """Connect to `redis://`, `rediss://` or `unix://` and make sure that the server answers.

        Raises StoreUnavailable, naming the url without its password.
        """
        return cls(await RedisLink.open(url))

    @property
    def link(self) -> RedisLink:
        """The way to the server, for the stores that share it."""
        return self._link

    async def close(self) -> None:
        """Close every connection."""
        await self._link.close()

    async def ping(self) -> None:
        """Raise StoreUnavailable unless the server answers."""
        await self._link.ask("PING")

    # Jobs

    async def create_job(
        self, spec: Mapping[str, Any], *, metadata: Mapping[str, str] | None = None
    ) -> Job:
        """Queue a job with this resolved spec."""
        job_id = f"ftjob-{secrets.token_hex(12)}"
        await self._link.run(
            self._create,
            [
                _job(job_id),
                _events(job_id),
                _key("jobs"),
                _key("queue"),
                _key("counts"),
                _key("seq"),
            ],
            [job_id, _dump(spec), _dump(metadata or {}), "Job queued.", _status("queued")],
        )
        return await self.get_job(job_id)

    async def get_job(self, job_id: str) -> Job:
        """The job as it stands. Raises NotFound."""
        fields = await self._link.ask("HGETALL", _job(job_id))
        if not fields:
            raise _no_such_job(job_id)
        return _job_of(fields)

    async def list_jobs(self, after: str | None = None, limit: int = 20) -> tuple[list[Job], bool]:
        """Up to `limit` jobs, newest first, from behind the job `after`; and whether more follow.

        Raises NotFound when there is no job `after`.
        """
        start = 0
        if after is not None:
            rank: int | None = await self._link.ask("ZREVRANK", _key("jobs"), after)
            if rank is None:
                raise _no_such_job(after, param="after")
            start = rank + 1
        ids: list[str] = await self._link.ask("ZREVRANGE", _key("jobs"), start, start + limit)
        jobs = await self._jobs(ids[:limit])
        return jobs, len(ids) > limit

    async def running_jobs(self) -> list[Job]:
        """The jobs that somebody runs."""
        ids: set[str] = await self._link.ask("SMEMBERS", _key("running"))
        return [job for job in await self._jobs(sorted(ids)) if job.status == "running"]

    async def job_counts(self) -> dict[JobStatus, int]:
        """How many jobs have each status."""
        counts = await self._link.ask("HGETALL", _key("counts"))
        return {status: int(counts.get(status, 0)) for status in STATUSES}

    async def claim(self, worker_id: str) -> Job | None:
        """Take the oldest queued job and mark it running; None when none waits."""
        reply = await self._link.run(
            self._claim,
            [_key("queue"), _key("running"), _key("counts"), _key(f"claim:{worker_id}")],
            [
                _job(""),
                _events(""),
                worker_id,
                secrets.token_hex(8),
                "Job started.",
                _status("running"),
            ],
        )
        return None if reply is None else await self.get_job(str(reply))

    async def transition(
        self,
        job_id: str,
        status: Literal["succeeded", "failed", "cancelled"],
        *,
        error: JobError | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> Job:
        """End a job, and append the event that says so as its last.

        Raises NotFound, and IllegalTransition when the job has ended already.
        """
        message = f"Job {status}." if error is None else f"Job {status}: {error['message']}"
        reply = await self._link.run(
            self._transition,
            [_job(job_id), _events(job_id), _key("queue"), _key("running"), _key("counts")],
            [
                job_id,
                status,
                ",".join(sorted(SOURCES[status])),
                secrets.token_hex(8),
                "info" if error is None else "error",
                message,
                _status(status, error=error),
                "" if error is None else _dump(error),
                "" if result is None else _dump(result),
            ],
        )
        _accepted(reply, job_id, f"become {status}")
        return await self.get_job(job_id)

    async def request_cancel(self, job_id: str) -> Job:
        """Cancel a queued job at once, ask a running one to stop; a finished one stays as it is.

        Raises NotFound.
        """
        reply = await self._link.run(
            self._cancel,
            [_job(job_id), _events(job_id), _key("queue"), _key("counts")],
            [
                job_id,
                "Job cancelled.",
                _status("cancelled"),
                "Cancellation requested.",
                _status("running", cancel_requested=True),
            ],
        )
        _accepted(reply, job_id, "be cancelled")
        return await self.get_job(job_id)

    # Events

    async def append_event(
        self,
        job_id: str,
        *,
        level: EventLevel = "info",
        message: str,
        type: EventType = "message",
        data: Mapping[str, Any] | None = None,
    ) -> Event:
        """Append one event. A `step` also becomes the job's `progress`.

        Raises NotFound, and IllegalTransition when the job has ended: its log is closed.
        """
        data = dict(data or {})
        reply = await self._link.run(
            self._append,
            [_job(job_id), _events(job_id)],
            [
                secrets.token_hex(8), level, message, type, _dump(data),
                "1" if data.get("kind") == "step" else "0",
            ],
        )  # fmt: skip
        _, event_id, at = _accepted(reply, job_id, "get another event")
        return Event(int(event_id), float(at), level, type, message, data)

    async def events(
        self, job_id: str, after: int | None = None, limit: int = _PAGE
    ) -> list[Event]:
        """Up to `limit` events in order, from behind the event `after`. Raises NotFound."""
        entries: list[tuple[str, dict[str, str]]] = await self._link.ask(
            "XRANGE", _events(job_id), f"{(after or 0) + 1}-0", "+", "COUNT", limit
        )
        if not entries:
            await self.get_job(job_id)
        return [_event_of(*entry) for entry in entries]

    async def follow(self, job_id: str, after: int | None = None) -> AsyncIterator[Event]:
        """Every event from behind `after`, those to come included; ends after the terminal one.

        Raises NotFound.
        """
        last = after or 0
        while True:
            # The status is read first: a job that had ended by then has all its events stored.
            finished = (await self.get_job(job_id)).finished
            page = await self.events(job_id, last)
            for event in page:
                last = event.id
                yield event
                if event.terminal:
                    return
            if finished and not page:
                return
            if not page:
                block = int(BLOCK_SECONDS * 1000)
                await self._link.ask(
                    "XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", _events(job_id), f"{last}-0"
                )

    # Workers

    async def heartbeat(self, worker_id: str, ttl: int) -> None:
        """Say that this worker lives; it counts as dead `ttl` seconds after its last word."""
        await self._link.run(self._heartbeat, [_key("workers")], [worker_id, str(ttl)])

    async def leave(self, worker_id: str) -> None:
        """Say that this worker works no more."""
        await self._link.ask("ZREM", _key("workers"), worker_id)

    async def workers(self) -> set[str]:
        """The workers whose last heartbeat still holds."""
        now, _ = await self._link.ask("TIME")
        living: list[str] = await self._link.ask(
            "ZRANGEBYSCORE", _key("workers"), f"({now}", "+inf"
        )
        return set(living)

    # Verifiers

    async def tell_verifiers(
        self, tier: str, counts: Mapping[str, float], moment: Mapping[str, float], ttl: int = 30
    ) -> None:
        """Add what was counted, and keep the tier's numbers of the moment; none removes it."""
        pairs = [text for field, number in counts.items() for text in (field, repr(number))]
        await self._link.run(
            self._tell,
            [_key("verdicts"), _key("verifiers")],
            [tier, str(ttl), _dump(moment) if moment else "", *pairs],
        )

    async def verdict_counts(self) -> dict[str, float]:
        """Everything that was ever counted of verdicts."""
        counts: dict[str, str] = await self._link.ask("HGETALL", _key("verdicts"))
        return {field: float(number) for field, number in counts.items()}

    async def verifier_tiers(self) -> dict[str, dict[str, float]]:
        """The numbers of the moment of the verifier tiers that were heard of lately."""
        tiers: dict[str, str] = await self._link.ask("HGETALL", _key("verifiers"))
        now, _ = await self._link.ask("TIME")
        told = {tier: state.split(" ", 1) for tier, state in tiers.items()}
        return {
            tier: json.loads(state) for tier, (until, state) in told.items() if int(until) > now
        }

    async def _jobs(self, ids: Sequence[str]) -> list[Job]:
        return [_job_of(row) for row in await self._link.hashes(map(_job, ids))]


def _key(name: str) -> str:
    return PREFIX + name


def _job(job_id: str) -> str:
    return _key(f"job:{job_id}")


def _events(job_id: str) -> str:
    return _key(f"events:{job_id}")


def _dump(data: Any) -> str:
    # JSON has no NaN: one that slipped in would make the event unreadable for every client.
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def _status(status: JobStatus, **more: Any) -> str:
    data = {key: value for key, value in more.items() if value is not None}
    return _dump({"kind": "status", "status": status, **data})


def _no_such_job(job_id: str, param: str | None = None) -> NotFound:
    return NotFound(f"there is no job {job_id!r}", param=param)


def _accepted(reply: Any, job_id: str, what: str) -> Sequence[str]:
    """The reply of a script that changes a job, unless it says that it did not."""
    answer = cast("Sequence[str]", reply)
    if answer[0] == "missing":
        raise _no_such_job(job_id)
    if answer[0] == "refused":
        raise IllegalTransition(f"job {job_id} is {answer[1]} and cannot {what}")
    return answer


def _job_of(fields: Mapping[str, str]) -> Job:
    def number(name: str) -> float | None:
        return float(fields[name]) if fields.get(name) else None

    def parsed(name: str) -> Any:
        return json.loads(fields[name]) if fields.get(name) else None

    return Job(
        id=fields["id"],
        status=cast("JobStatus", fields["status"]),
        created_at=float(fields["created_at"]),
        started_at=number("started_at"),
        finished_at=number("finished_at"),
        spec=parsed("spec"),
        metadata=parsed("metadata"),
        error=parsed("error"),
        result=parsed("result"),
        cancel_requested=fields["cancel_requested"] == "1",
        worker=fields.get("worker"),
        progress=parsed("progress"),
    )


def _event_of(event_id: str, fields: Mapping[str, str]) -> Event:
    return Event(
        id=int(event_id.partition("-")[0]),
        created_at=float(fields["at"]),
        level=cast("EventLevel", fields["level"]),
        type=cast("EventType", fields["type"]),
        message=fields["message"],
        data=json.loads(fields["data"]),
    )
