"""What a user may do with jobs: create, read, list, change, cancel, pause, resume, try again.

A running job is asked, for its runner alone can stop it well; any other changes at once.
Every method takes the tenant that asks; None is the service itself, which sees all.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from services.errors import IllegalTransition, QuotaExceeded
from services.jobs import STATUSES, Job, JobStatus
from services.store.lua import CHANGE, SHARED
from services.store.part import PAGE, Part, dump, job_key, key, no_such_job, optional, status_data

# ARGV behind the common ones: tenant status message data field value ...
_CREATE = (
    SHARED
    + """
if status then return {'done'} end
local at = now()
local tenant = arg(1)
local open = 0
for _, status in ipairs({'validating_files', 'queued', 'running', 'paused'}) do
  open = open + tonumber(redis.call('HGET', P .. 'counts:' .. tenant, status) or 0)
end
local most = limit(tenant, 'open_jobs')
if most and open >= most then
  return {'full', 'it has ' .. open .. ' jobs that have not ended, and may have ' .. most}
end
local why = exhausted(tenant)
if why then return {'full', why} end
local sequence = redis.call('INCR', P .. 'seq')
redis.call('HSET', job, 'id', id, 'tenant', tenant, 'status', arg(2), 'created_at', at,
  'sequence', sequence, 'revision', 1)
for i = 5, #ARGV - 5, 2 do
  if arg(i + 1) ~= '' then redis.call('HSET', job, arg(i), arg(i + 1)) end
end
redis.call('ZADD', P .. 'jobs', sequence, id)
redis.call('ZADD', P .. 'jobs:' .. tenant, sequence, id)
count(nil, arg(2))
if arg(2) == 'queued' then enqueue() end
append(at, 'info', arg(3), 'message', arg(4))
return {'done'}
"""
)

# validating_files -> queued
_ACCEPT = (
    CHANGE
    + """
if status == 'validating_files' then
  local at = now()
  become('queued', at)
  tell(at, 'info', 'Job queued.', {kind = 'status', status = 'queued'})
elseif status ~= 'queued' then
  return {'refused', status}
end
return done()
"""
)

_CANCEL = (
    CHANGE
    + """
local at = now()
if status == 'running' then
  if field('request') ~= 'cancel' then ask('cancel', at, 'info', 'Cancellation requested.') end
elseif not ended() then
  become('cancelled', at)
  tell(at, 'info', 'Job cancelled.', {kind = 'status', status = 'cancelled'})
end
return done()
"""
)

_PAUSE = (
    CHANGE
    + """
local at = now()
if status == 'running' then
  if field('request') == '' then ask('pause', at, 'info', 'Pause requested.') end
elseif status == 'queued' then
  become('paused', at)
  tell(at, 'info', 'Job paused.', {kind = 'status', status = 'paused'})
elseif status ~= 'paused' then
  return {'refused', status}
end
return done()
"""
)

_RESUME = (
    CHANGE
    + """
local at = now()
if status == 'paused' then
  local why = spent(at)
  if why then return {'refused', 'paused, for ' .. why .. '; it'} end
  redis.call('HSET', job, 'attempts', 0)
  become('queued', at)
  tell(at, 'info', 'Job queued again.', {kind = 'status', status = 'queued'})
elseif status == 'running' and field('request') == 'pause' then
  local why = spent(at)
  if why then return {'refused', 'about to be paused, for ' .. why .. '; it'} end
  redis.call('HDEL', job, 'request')
  redis.call('HINCRBY', job, 'revision', 1)
  tell(at, 'info', 'Pause taken back.', {kind = 'status', status = 'running'})
elseif status ~= 'queued' and status ~= 'running' then
  return {'refused', status}
end
return done()
"""
)

# arguments: message data field value ...
_UPDATE = (
    CHANGE
    + """
if ended() then return {'refused', status} end
if arg(3) == nil then return {'done'} end
if status == 'queued' then dequeue() end
for i = 3, #ARGV - 5, 2 do redis.call('HSET', job, arg(i), arg(i + 1)) end
if status == 'queued' then enqueue() end
redis.call('HINCRBY', job, 'revision', 1)
append(now(), 'info', arg(1), 'message', arg(2))
return done()
"""
)


class Requests(Part):
    """The users' side of jobs."""

    async def create_job(
        self,
        spec: Mapping[str, Any],
        *,
        tenant: str = "default",
        asked: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        priority: int = 0,
        max_runtime_s: float | None = None,
        max_tokens: int | None = None,
        request_id: str | None = None,
        validating: bool = False,
    ) -> Job:
        """Queue a job with this resolved spec.

        `asked` is kept of the request that the spec was made of. The job is paused after
        `max_runtime_s` seconds of running or `max_tokens` completion tokens. With `validating`
        it waits for `accept` before it may start. The same `request_id` (24 hexadecimal digits)
        gives the same job, however often it is sent.
        Raises QuotaExceeded when the tenant has all the jobs or tokens it may.
        """
        return await self._create(
            spec,
            tenant,
            validating=validating,
            asked="" if asked is None else dump(dict(asked)),
            metadata=dump(dict(metadata or {})),
            priority=str(priority),
            max_runtime_s=optional(max_runtime_s),
            max_tokens=optional(max_tokens),
            request_id=optional(request_id),
        )

    async def _create(
        self, spec: Mapping[str, Any], tenant: str, *, validating: bool = False, **fields: str
    ) -> Job:
        job_id = f"ftjob-{fields.get('request_id') or secrets.token_hex(12)}"
        status: JobStatus = "validating_files" if validating else "queued"
        message = "Validating files." if validating else "Job queued."
        origin = f" It tries {fields['retry_of']} again." if "retry_of" in fields else ""
        pairs = [text for pair in {"spec": dump(spec), **fields}.items() for text in pair]
        arguments = [tenant, status, message + origin, status_data(status), *pairs]
        reply = await self._link.run(
            self._link.script(_CREATE), [job_key(job_id)], [job_id, "", "", "", "", *arguments]
        )
        if reply[0] == "full":
            raise QuotaExceeded(
                f"the tenant {tenant} cannot have another job: {reply[1]}; wait for some to end, "
                "or ask the operator for more"
            )
        return await self.get_job(job_id)

    async def accept(self, job_id: str) -> Job:
        """Queue a job whose files are found good."""
        await self._change(_ACCEPT, job_id, "be queued")
        return await self.get_job(job_id)

    async def list_jobs(
        self,
        tenant: str | None = None,
        after: str | None = None,
        limit: int = 20,
        *,
        metadata: Mapping[str, str] | None = None,
        status: JobStatus | None = None,
    ) -> tuple[list[Job], bool]:
        """Up to `limit` jobs, newest first, from behind the job `after`; and whether more follow.

        Only the tenant's, those of this status, and those whose metadata has all the given
        pairs. Raises NotFound when the tenant has no job `after`.
        """
        index = key("jobs") if tenant is None else key(f"jobs:{tenant}")
        start = 0
        if after is not None:
            rank: int | None = await self._link.ask("ZREVRANK", index, after)
            if rank is None:
                raise no_such_job(after, param="after")
            start = rank + 1
        ids = await self._matching(index, start, limit + 1, metadata or {}, status)
        return await self._jobs(ids[:limit]), len(ids) > limit

    async def _matching(
        self,
        index: str,
        start: int,
        count: int,
        metadata: Mapping[str, str],
        status: JobStatus | None,
    ) -> list[str]:
        """The ids of the first `count` jobs of an index that are as asked, page by page."""
        if not metadata and status is None:
            return await self._link.ask("ZREVRANGE", index, start, start + count - 1)
        found: list[str] = []
        while len(found) < count:
            page: Sequence[str] = await self._link.ask("ZREVRANGE", index, start, start + PAGE - 1)
            told = await self._link.ask_all(
                ["HMGET", job_key(job), "metadata", "status"] for job in page
            )
            for job, (text, is_now) in zip(page, told, strict=True):
                fits = status in (None, is_now)
                if fits and metadata.items() <= json.loads(text).items():
                    found.append(job)
            if len(page) < PAGE:
                break
            start += PAGE
        return found[:count]

    async def job_counts(self, tenant: str | None = None) -> dict[JobStatus, int]:
        """How many jobs have each status, of one tenant or of all."""
        counts = await self._link.ask(
            "HGETALL", key("counts") if tenant is None else key(f"counts:{tenant}")
        )
        return {status: int(counts.get(status, 0)) for status in STATUSES}

    async def trained_tokens(self, tenant: str) -> int:
        """Completion tokens that the tenant's jobs were ever trained on."""
        return int(await self._link.ask("HGET", key("trained"), tenant) or 0)

    async def request_cancel(
        self, job_id: str, tenant: str | None = None, *, revision: int | None = None
    ) -> Job:
        """Cancel a job, or ask its runner to; a finished one stays as it is.

        Raises NotFound, and PreconditionFailed when it is not at `revision`.
        """
        await self._change(_CANCEL, job_id, "be cancelled", tenant=tenant, revision=revision)
        return await self.get_job(job_id)

    async def request_pause(
        self, job_id: str, tenant: str | None = None, *, revision: int | None = None
    ) -> Job:
        """Pause a queued job, ask the runner of a running one to.

        Raises NotFound, IllegalTransition when it has ended, and PreconditionFailed.
        """
        await self._change(_PAUSE, job_id, "be paused", tenant=tenant, revision=revision)
        return await self.get_job(job_id)

    async def resume(
        self, job_id: str, tenant: str | None = None, *, revision: int | None = None
    ) -> Job:
        """Queue a paused job again; it goes on from its last checkpoint.

        Raises NotFound, PreconditionFailed, and IllegalTransition when it has ended or its
        budget is spent.
        """
        await self._change(_RESUME, job_id, "be resumed", tenant=tenant, revision=revision)
        return await self.get_job(job_id)

    async def update_job(
        self,
        job_id: str,
        tenant: str | None = None,
        *,
        revision: int | None = None,
        priority: int | None = None,
        max_runtime_s: float | None = None,
        max_tokens: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Job:
        """Change what is given of a job that has not ended; the queue follows a priority.

        Raises NotFound, IllegalTransition when it has ended, and PreconditionFailed.
        """
        changes = {
            "priority": priority, "max_runtime_s": max_runtime_s, "max_tokens": max_tokens,
        }  # fmt: skip
        changes = {name: value for name, value in changes.items() if value is not None}
        told = ", ".join(f"{name} {value:g}" for name, value in changes.items())
        pairs = [text for name, value in changes.items() for text in (name, str(value))]
        if metadata is not None:
            pairs += ["metadata", dump(dict(metadata))]
            told = ", ".join(filter(None, (told, "metadata")))
        data = dump({"kind": "update", **changes})
        await self._change(
            _UPDATE, job_id, "be changed", f"Changed: {told}.", data, *pairs,
            tenant=tenant, revision=revision,
        )  # fmt: skip
        return await self.get_job(job_id, tenant)

    async def retry(
        self,
        job_id: str,
        tenant: str | None = None,
        *,
        source: str | None = None,
        request_id: str | None = None,
    ) -> Job:
        """Queue a new job like one that has ended, starting from the checkpoint folder `source`.

        Its own folder must be given: from the start when absent. Raises NotFound, and
        IllegalTransition for a job that has not ended.
        """
        old = await self.get_job(job_id, tenant)
        if not old.finished:
            raise IllegalTransition(
                f"job {job_id} is {old.status} and cannot be tried again before it has ended"
            )
        return await self._create(
            old.spec,
            old.tenant,
            asked="" if old.asked is None else dump(dict(old.asked)),
            metadata=dump(dict(old.metadata)),
            priority=str(old.priority),
            max_runtime_s=optional(old.max_runtime_s),
            max_tokens=optional(old.max_tokens),
            retry_of=old.id,
            source=optional(source),
            request_id=optional(request_id),
        )
