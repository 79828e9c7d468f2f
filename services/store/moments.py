"""The moment: what a scrape asks of the whole service, read in a few round trips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.jobs import Job, JobStatus
from services.store.checkpoints import Checkpoints
from services.store.claims import Claims
from services.store.part import key
from services.store.requests import Requests
from services.store.workers import Workers

# KEYS prefix | answers the age of the oldest queued job in seconds, as text
_OLDEST = """
local P, at, oldest = KEYS[1], tonumber(redis.call('TIME')[1]), nil
for _, tenant in ipairs(redis.call('SMEMBERS', P .. 'queues')) do
  for _, id in ipairs(redis.call('ZRANGE', P .. 'queue:' .. tenant, 0, 999)) do
    local created = tonumber(redis.call('HGET', P .. 'job:' .. id, 'created_at') or at)
    if oldest == nil or created < oldest then oldest = created end
  end
end
return tostring(oldest and math.max(0, at - oldest) or 0)
"""
_WRITES = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")


@dataclass(frozen=True, slots=True)
class Moment:
    """The service as a whole.

    counts          jobs by status
    running         the jobs that run
    lease_s         seconds until each running job may be adopted; below zero nobody holds it
    checkpoint_at   time of each running job's newest checkpoint, of those that have one
    oldest_s        age of the oldest queued job, of the first thousand of each tenant
    failures        jobs that failed, by the code of their error
    trained_tokens  completion tokens that jobs were ever trained on
    dispatchers     how many are alive
    unwritten       whether the server says that it could not write its data to disk
    """

    counts: Mapping[JobStatus, int]
    running: Sequence[Job]
    lease_s: Mapping[str, float]
    checkpoint_at: Mapping[str, float]
    oldest_s: float
    failures: Mapping[str, int]
    trained_tokens: int
    dispatchers: int
    unwritten: bool


class Moments(Requests, Claims, Checkpoints, Workers):
    """The room of what all the others know together."""

    async def moment(self) -> Moment:
        """The service as it stands."""
        running = await self.running_jobs()
        ends = await self._link.ask_all(["ZSCORE", key("leases"), job.id] for job in running)
        now, _ = await self._link.ask("TIME")
        newest = {job.id: (await self.checkpoints(job.id, limit=1))[0] for job in running}
        failures: Mapping[str, str] = await self._link.ask("HGETALL", key("failures"))
        trained: list[str] = await self._link.ask("HVALS", key("trained"))
        said: Mapping[str, str] = await self._link.ask("INFO", "persistence")
        return Moment(
            counts=await self.job_counts(),
            running=running,
            lease_s={
                job.id: float(end) - now
                for job, end in zip(running, ends, strict=True)
                if end is not None
            },
            checkpoint_at={job: found[0].created_at for job, found in newest.items() if found},
            oldest_s=float(await self._link.run(self._link.script(_OLDEST), [key("")], [])),
            failures={code: int(count) for code, count in failures.items()},
            trained_tokens=sum(map(int, trained)),
            dispatchers=len(await self.workers()),
            unwritten=any(said.get(name, "ok") != "ok" for name in _WRITES),
        )
