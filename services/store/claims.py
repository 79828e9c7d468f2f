"""What a runner does with jobs: look at the queue, claim, renew, give back, end.

A claim holds for LEASE_SECONDS unless it is renewed. A running job whose lease has run out
goes back to the queue as soon as anybody looks. Each claim has a token one greater than the
last; everything its runner writes carries the token, and a stale one raises Fenced.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

from services.jobs import SOURCES, Job, JobError, Outcome, Queued, Request, WaitingRoom
from services.queue_order import in_turn
from services.store.lua import CHANGE
from services.store.part import Part, dump, job_key, key, optional, status_data

LEASE_SECONDS = 15.0
HEADS = 32
"""Jobs looked at of each tenant's queue."""

# KEYS prefix | ARGV heads | answers {now, claims, {tenant, running, {id, ...}}, ...}
_WAITING = """
local P, heads = KEYS[1], tonumber(ARGV[1])
local reply = {redis.call('TIME')[1], redis.call('GET', P .. 'claims') or '0'}
for _, tenant in ipairs(redis.call('SMEMBERS', P .. 'queues')) do
  local running = redis.call('HGET', P .. 'counts:' .. tenant, 'running') or '0'
  reply[#reply + 1] = {tenant, running,
    redis.call('ZRANGE', P .. 'queue:' .. tenant, 0, heads - 1)}
end
return reply
"""

# arguments: worker lease claims overtaken_id ...
# Answers {'done', token}, or {'done', ''} when there is nothing to hold.
_CLAIM = (
    CHANGE
    + """
local at = now()
if status ~= 'queued' or amount('not_before') > tonumber(at) then return {'done', ''} end
if arg(3) ~= '' and arg(3) ~= (redis.call('GET', P .. 'claims') or '0') then return {'done', ''} end
redis.call('INCR', P .. 'claims')
become('running', at)
local token = redis.call('HINCRBY', job, 'token', 1)
redis.call('HINCRBY', job, 'attempts', 1)
redis.call('HSET', job, 'worker', arg(1), 'claimed_at', at, 'pulse', '', 'pulse_at', at)
redis.call('HSETNX', job, 'started_at', at)
redis.call('ZADD', P .. 'leases', string.format('%.6f', tonumber(at) + tonumber(arg(2))), id)
for i = 4, #ARGV - 5 do
  if redis.call('HGET', P .. 'job:' .. arg(i), 'status') == 'queued' then
    redis.call('HINCRBY', P .. 'job:' .. arg(i), 'overtaken', 1)
  end
end
tell(at, 'info', token == 1 and 'Job started.' or 'Job started again.',
  {kind = 'status', status = 'running', attempt = token})
return done(tostring(token))
"""
)

# A running job whose lease has run out goes back to the queue. It ran until then.
_RECOVER = (
    CHANGE
    + """
local at, lapsed = now(), redis.call('ZSCORE', P .. 'leases', id)
if not lapsed or tonumber(lapsed) > tonumber(at) then return {'done'} end
give_back(at, lapsed, 'its dispatcher ' .. field('worker') .. ' was not heard of any more', 0, false)
return done()
"""
)

# arguments: lease progress. Answers {'done', request}.
_RENEW = (
    CHANGE
    + """
if status ~= 'running' then return {'refused', status} end
local at = now()
redis.call('ZADD', P .. 'leases', string.format('%.6f', tonumber(at) + tonumber(arg(1))), id)
if arg(2) ~= field('pulse') then redis.call('HSET', job, 'pulse', arg(2), 'pulse_at', at) end
pause_if_spent(at)
return {'done', field('request')}
"""
)

# arguments: reason delay blameless
_RELEASE = (
    CHANGE
    + """
if status ~= 'running' then return {'refused', status} end
give_back(now(), nil, arg(1), tonumber(arg(2)), arg(3) == '1')
return done()
"""
)

# arguments: to sources level message data error result
_TRANSITION = (
    CHANGE
    + """
if not string.find(',' .. arg(2) .. ',', ',' .. status .. ',', 1, true) then
  return {'refused', status}
end
local at = now()
redis.call('HSET', job, 'error', arg(6), 'result', arg(7))
if arg(1) == 'failed' then
  local code = arg(6) ~= '' and cjson.decode(arg(6)).code or 'unknown'
  redis.call('HINCRBY', P .. 'failures', code, 1)
end
if arg(1) == 'paused' then redis.call('HSET', job, 'attempts', 0) end
become(arg(1), at)
append(at, arg(3), arg(4), 'message', arg(5))
return done()
"""
)

# arguments: reason unfit deadline
_HOLD = (
    CHANGE
    + """
if status ~= 'queued' then return {'done'} end
local at = now()
if arg(2) == '1' then
  redis.call('HSETNX', job, 'unfit_since', at)
else
  redis.call('HDEL', job, 'unfit_since')
end
if arg(2) == '1' and tonumber(at) - amount('unfit_since') >= tonumber(arg(3)) then
  local failure = {code = 'does_not_fit', param = 'tiers', message = arg(1) ..
    ', and so it was for ' .. arg(3) .. ' s (deadlines.queue_s)'}
  redis.call('HSET', job, 'error', cjson.encode(failure))
  become('failed', at)
  tell(at, 'error', 'Job failed: ' .. failure.message,
    {kind = 'status', status = status, error = failure})
  return done()
end
local before = field('waiting')
if before == arg(1) then return {'done'} end
redis.call('HSET', job, 'waiting', arg(1))
redis.call('HINCRBY', job, 'revision', 1)
if before == '' then tell(at, 'info', 'Job waits: ' .. arg(1), {kind = 'waiting', reason = arg(1)}) end
return done()
"""
)


class Claims(Part):
    """The runners' side of jobs."""

    async def running_jobs(self) -> list[Job]:
        """The jobs that run, whether or not their leases hold."""
        ids = await self._link.ask("ZRANGE", key("leases"), 0, -1)
        return [job for job in await self._jobs(sorted(ids)) if job.status == "running"]

    async def recover(self, mine: Collection[str] = ()) -> list[str]:
        """Put the running jobs whose leases have run out back into the queue; which they were.

        One that was to be cancelled or paused becomes that; one that was started too often
        in vain fails. `mine` are the caller's own, late as they are: it will renew them.
        """
        seconds, micros = await self._link.ask("TIME")
        lapsed: list[str] = await self._link.ask(
            "ZRANGEBYSCORE", key("leases"), "-inf", f"{seconds}.{micros:06d}"
        )
        orphans = [job_id for job_id in lapsed if job_id not in mine]
        for job_id in orphans:
            await self._change(_RECOVER, job_id, "be recovered")
        return orphans

    async def waiting_room(self) -> WaitingRoom:
        """The jobs that are next of each tenant, without those that rest after a setback."""
        reply = await self._link.run(self._link.script(_WAITING), [key("")], [str(HEADS)])
        now = float(reply[0])
        queues = cast("list[tuple[str, str, list[str]]]", reply[2:])
        ids = [job for _, _, heads in queues for job in heads]
        rows = await self._link.hashes(map(job_key, ids))
        queued = tuple(
            _queued(row, now)
            for row in rows
            if row.get("status") == "queued" and float(row.get("not_before", 0)) <= now
        )
        running = {tenant: int(running) for tenant, running, _ in queues}
        return WaitingRoom(queued, running, int(reply[1]))

    async def hold(
        self, job_id: str, reason: str, *, unfit: bool = False, deadline_s: float = 0
    ) -> None:
        """Say why a queued job does not start.

        While it is `unfit` a clock runs; at `deadline_s` the job fails with the reason.
        """
        await self._change(_HOLD, job_id, "wait", reason, "1" if unfit else "0", f"{deadline_s:g}")

    async def claim(
        self,
        worker_id: str,
        job_id: str | None = None,
        *,
        lease_s: float = LEASE_SECONDS,
        claims: int | None = None,
        overtaken: Iterable[str] = (),
    ) -> Job | None:
        """Take a queued job and mark it running; `overtaken` are the jobs that were before it.

        Without `job_id` the first of the queue, after `recover`. None when there is nothing
        to take: the job rests after a setback, somebody was faster, or somebody claimed any
        job since there were `claims`.
        """
        if job_id is None:
            await self.recover()
            room = await self.waiting_room()
            if not room.queued:
                return None
            job_id = next(in_turn(room.queued, Counter(room.running))).id
        (token,) = await self._change(
            _CLAIM, job_id, "be claimed", worker_id, lease_s, optional(claims), *overtaken
        )
        if not token:
            return None
        job = await self.get_job(job_id)
        return job if job.token == int(token) else None

    async def renew(
        self, job_id: str, token: int, progress: int, *, lease_s: float = LEASE_SECONDS
    ) -> Request | None:
        """Hold a claim on; what the runner is asked to do, if anything.

        `progress` is the controller's own counter, which moves while the controller gets on.
        Raises Fenced when somebody else holds the job, IllegalTransition when it has ended.
        """
        (request,) = await self._change(
            _RENEW, job_id, "be renewed", lease_s, progress, token=token, patience=0
        )
        return cast("Request | None", request or None)

    async def release(
        self, job_id: str, token: int, reason: str, *, delay_s: float = 0, blameless: bool = False
    ) -> Job:
        """Give a running job back: queued again, or what it was asked to become.

        It keeps its place in the queue and rests for `delay_s`. A `blameless` claim does not
        count as an attempt. Raises Fenced, and IllegalTransition when it has ended.
        """
        await self._change(
            _RELEASE, job_id, "be given back", reason, delay_s, "1" if blameless else "0",
            token=token,
        )  # fmt: skip
        return await self.get_job(job_id)

    async def transition(
        self,
        job_id: str,
        status: Outcome,
        *,
        token: int | None = None,
        error: JobError | None = None,
        result: Mapping[str, Any] | None = None,
        message: str | None = None,
    ) -> Job:
        """End or pause a job, and append the event that says so.

        `token` is the runner's; None is the service itself. Raises NotFound, Fenced, and
        IllegalTransition when the job's status does not allow it.
        """
        said = message or (
            f"Job {status}." if error is None else f"Job {status}: {error['message']}"
        )
        await self._change(
            _TRANSITION,
            job_id,
            f"become {status}",
            status,
            ",".join(sorted(SOURCES[status])),
            "info" if error is None else "error",
            said,
            status_data(status, error=error),
            "" if error is None else dump(error),
            "" if result is None else dump(result),
            token=token,
        )
        return await self.get_job(job_id)


def _queued(fields: Mapping[str, str], now: float) -> Queued:
    since = fields.get("unfit_since")
    return Queued(
        id=fields["id"],
        tenant=fields["tenant"],
        priority=int(fields["priority"]),
        sequence=int(fields["sequence"]),
        overtaken=int(fields.get("overtaken", 0)),
        waiting=fields.get("waiting"),
        unfit_s=None if since is None else max(0.0, now - float(since)),
        spec=json.loads(fields["spec"]),
    )
