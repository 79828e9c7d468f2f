"""The events of jobs: append-only logs, numbered without a gap, that can be waited for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from services.jobs import TERMINAL, Event, EventLevel, EventType
from services.redis_link import BLOCK_SECONDS
from services.store.lua import CHANGE
from services.store.part import PAGE, Part, dump, events_key, job_key, no_such_job, optional

CURVE_POINTS = 64
"""Most points of a job's reward curve: of a longer job every second, fourth, ... step is kept."""

# arguments: level message type data key is_step tokens phase step reward accuracy
# Answers {'done', number, at}. A step also moves the job's progress, its budget and its curve; an
# evaluation, also the one behind the last step, the held-out accuracy of that progress.
_APPEND = (
    CHANGE
    + f"local CURVE_POINTS = {CURVE_POINTS}"
    + """
-- The curve lies in the job's own hash, so that a list of jobs has it without asking more.
local function draw(step, reward)
  local curve = field('rewards')
  curve = curve ~= '' and cjson.decode(curve) or {every = 1, points = {}}
  if step % curve.every ~= 0 then return end
  table.insert(curve.points, {step, reward})
  if #curve.points > CURVE_POINTS then
    curve.every = curve.every * 2
    local kept = {}
    for _, point in ipairs(curve.points) do
      if point[1] % curve.every == 0 then table.insert(kept, point) end
    end
    curve.points = kept
  end
  redis.call('HSET', job, 'rewards', cjson.encode(curve))
end

if ended() then return {'refused', status} end
local at, keyed = now(), P .. 'keyed:' .. id
if arg(8) ~= '' and status == 'running' then redis.call('HSET', job, 'phase', arg(8)) end
if arg(5) ~= '' then
  local told = redis.call('HGET', keyed, arg(5))
  if told then
    local number, then_ = string.match(told, '(%S+) (%S+)')
    return done(number, then_)
  end
end
local number = append(at, arg(1), arg(2), arg(3), arg(4))
if arg(5) ~= '' then redis.call('HSET', keyed, arg(5), number .. ' ' .. at) end
if arg(11) ~= '' then redis.call('HSET', job, 'holdout_accuracy', arg(11)) end
if arg(6) == '1' then
  redis.call('HSET', job, 'progress', arg(4), 'attempts', 0)
  redis.call('HINCRBY', job, 'trained_tokens', arg(7))
  redis.call('HINCRBY', P .. 'trained', field('tenant'), arg(7))
  if arg(10) ~= '' then draw(tonumber(arg(9)), tonumber(arg(10))) end
  if status == 'running' then pause_if_spent(at) end
end
return done(tostring(number), at)
"""
)


class EventLog(Part):
    """Events, appended and read."""

    async def append_event(
        self,
        job_id: str,
        *,
        level: EventLevel = "info",
        message: str,
        type: EventType = "message",
        data: Mapping[str, Any] | None = None,
        token: int | None = None,
        key: str | None = None,
    ) -> Event:
        """Append one event. A `step` also becomes the job's `progress` and counts its
        tokens, an `evaluation` its held-out accuracy, a `phase` its phase.

        An event whose `key` the job has already is not appended again. `token` is the
        runner's; with it a server that is away is waited for. Raises NotFound, Fenced, and
        IllegalTransition when the job has ended: its log is closed.
        """
        data = dict(data or {})
        is_step = data.get("kind") == "step"
        tokens = int(data.get("completion_tokens", 0)) if is_step else 0
        phase = str(data["phase"]) if data.get("kind") == "phase" else ""
        number, at = await self._change(
            _APPEND, job_id, "get another event",
            level, message, type, dump(data), optional(key), "1" if is_step else "0", tokens, phase,
            int(data.get("step", 0)), optional(data.get("reward_mean") if is_step else None),
            optional(data.get("accuracy") if data.get("kind") == "evaluation" else None),
            token=token,
        )  # fmt: skip
        return Event(int(number), float(at), level, type, message, data)

    async def events(
        self,
        job_id: str,
        after: int | None = None,
        limit: int = PAGE,
        *,
        tenant: str | None = None,
    ) -> list[Event]:
        """Up to `limit` events in order, from behind the event `after`. Raises NotFound."""
        if tenant is not None:
            await self._status(job_id, tenant)
        entries: list[tuple[str, dict[str, str]]] = await self._link.ask(
            "XRANGE", events_key(job_id), f"{(after or 0) + 1}-0", "+", "COUNT", limit
        )
        if not entries:
            await self._status(job_id, tenant)
        return [_event_of(*entry) for entry in entries]

    async def newest(self, job_id: str) -> int:
        """Number of the job's newest event, 0 when there is none."""
        return int(await self._link.ask("XLEN", events_key(job_id)))

    async def newer(self, after: Mapping[str, int], seconds: float) -> dict[str, list[Event]]:
        """The next events of each of these jobs behind the given one, of those that have any.

        Waits for up to `seconds`, which are at most BLOCK_SECONDS, for the first of them.
        """
        reply: Mapping[str, Any] | Sequence[Any] | None = await self._link.ask(
            "XREAD", "COUNT", PAGE, "BLOCK", max(1, int(min(seconds, BLOCK_SECONDS) * 1000)),
            "STREAMS", *map(events_key, after), *(f"{number}-0" for number in after.values()),
        )  # fmt: skip
        job_of = {events_key(job_id): job_id for job_id in after}
        return {
            job_of[stream]: [_event_of(*entry) for entry in entries]
            for stream, entries in _streams(reply)
        }

    async def has_ended(self, job_id: str, tenant: str | None = None) -> bool:
        """Whether the job's log is closed. Raises NotFound, also for a job of another tenant."""
        return await self._status(job_id, tenant) in TERMINAL

    async def _status(self, job_id: str, tenant: str | None) -> str:
        status, owner = await self._link.ask("HMGET", job_key(job_id), "status", "tenant")
        if status is None or tenant not in (None, owner):
            raise no_such_job(job_id)
        return status


def _event_of(event_id: str, fields: Mapping[str, str]) -> Event:
    return Event(
        id=int(event_id.partition("-")[0]),
        created_at=float(fields["at"]),
        level=cast("EventLevel", fields["level"]),
        type=cast("EventType", fields["type"]),
        message=fields["message"],
        data=json.loads(fields["data"]),
    )


def _streams(
    reply: Mapping[str, Any] | Sequence[Any] | None,
) -> list[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """The entries by stream, in either version of the server's protocol."""
    return list(reply.items() if isinstance(reply, Mapping) else reply or ())
