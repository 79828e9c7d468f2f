"""Webhook endpoints and what is to be delivered to them, in Redis.

A job that ends leaves its outcome in a stream, in the same script that ends it. `fan_out` turns
outcomes into deliveries, one for each endpoint of the tenant that asked for that kind; `claim`
hands a delivery to one deliverer at a time, under a lease: what a dead one held comes back.
Nothing is lost, and what is sent twice has the same id twice. Signing secrets are kept as they
are, for signing needs them; they are shown once. Knows nothing of HTTP.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, cast, get_args

from services.errors import NotFound, QuotaExceeded
from services.redis_link import PREFIX, RedisLink

EventType = Literal[
    "fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled"
]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
MAX_ENDPOINTS = 20
"""Endpoints a tenant may have."""
OVERLAP_SECONDS = 24 * 3600.0
"""How long an old secret signs beside a new one, when that is asked for."""

_OUTCOMES = f"{PREFIX}outcomes"
_DUE = f"{PREFIX}webhooks:due"

_NOW = """
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
"""

# KEYS outcomes due | ARGV prefix count
# An event's id follows from its job, and a delivery's from event and endpoint.
_FAN_OUT = (
    _NOW
    + """
local P = ARGV[1]
local entries = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[2])
for _, entry in ipairs(entries) do
  local outcome = {}
  for i = 1, #entry[2], 2 do outcome[entry[2][i]] = entry[2][i + 1] end
  local kind = 'fine_tuning.job.' .. outcome.status
  local endpoints = redis.call('HGETALL', P .. 'webhooks:endpoints:' .. outcome.tenant)
  for i = 1, #endpoints, 2 do
    local asked = false
    for _, wanted in ipairs(cjson.decode(endpoints[i + 1]).event_types) do
      asked = asked or wanted == kind
    end
    if asked then
      local event = 'evt_' .. string.gsub(outcome.job, '^ftjob%-', '')
      local delivery = event .. ':' .. endpoints[i]
      redis.call('HSET', P .. 'webhooks:delivery:' .. delivery, 'event', event,
        'endpoint', endpoints[i], 'tenant', outcome.tenant, 'type', kind, 'job', outcome.job,
        'at', outcome.at, 'attempts', 0)
      redis.call('ZADD', KEYS[2], now, delivery)
    end
  end
  redis.call('XDEL', KEYS[1], entry[1])
end
return #entries
"""
)

# KEYS due | ARGV prefix lease_seconds
# The first delivery that is due, leased: hash of the delivery and its endpoint's JSON.
_CLAIM = (
    _NOW
    + """
local P = ARGV[1]
while true do
  local delivery = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1)[1]
  if not delivery then return false end
  local key = P .. 'webhooks:delivery:' .. delivery
  local tenant, endpoint = unpack(redis.call('HMGET', key, 'tenant', 'endpoint'))
  local held = tenant and redis.call('HGET', P .. 'webhooks:endpoints:' .. tenant, endpoint)
  if held then
    redis.call('ZADD', KEYS[1], tonumber(now) + tonumber(ARGV[2]), delivery)
    redis.call('HINCRBY', key, 'attempts', 1)
    return {delivery, held, redis.call('HGETALL', key)}
  end
  redis.call('ZREM', KEYS[1], delivery)
  redis.call('DEL', key)
end
"""
)

# KEYS due delivery endpoints last | ARGV delivery attempts seconds endpoint last
# Ends the attempt: done without seconds, else due again in so many. A deliverer that lost its
# lease changes nothing.
_FINISH = (
    _NOW
    + """
if redis.call('HGET', KEYS[2], 'attempts') ~= ARGV[2] then return 0 end
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[2])
else
  redis.call('ZADD', KEYS[1], tonumber(now) + tonumber(ARGV[3]), ARGV[1])
end
if redis.call('HEXISTS', KEYS[3], ARGV[4]) == 1 then
  redis.call('HSET', KEYS[4], ARGV[4], ARGV[5])
end
return 1
"""
)

# KEYS endpoints | ARGV most id record
_ADD = """
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return 1
"""

# KEYS endpoints | ARGV id record
_REPLACE = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a tenant wants events. `old_secret` signs beside the new one until `old_until`."""

    id: str
    tenant: str
    name: str
    url: str
    event_types: tuple[EventType, ...]
    secret: str = field(repr=False)
    created_at: float
    updated_at: float
    old_secret: str | None = field(default=None, repr=False)
    old_until: float = 0.0

    def secrets(self, now: float) -> list[str]:
        """The secrets that sign now."""
        old = self.old_secret
        return [self.secret, *([old] if old is not None and now < self.old_until else [])]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one endpoint; `attempts` counts the one that is under way."""

    id: str
    event: str
    type: str
    job: str
    at: float
    attempts: int
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class LastDelivery:
    """How the last attempt at an endpoint went: a status, or why there is none."""

    event: str
    at: float
    attempts: int
    status: int | None
    error: str | None
    outcome: Literal["delivered", "again", "given_up"]


class Webhooks:
    """The records of webhooks. Every method raises StoreUnavailable when the server is lost."""

    def __init__(self, link: RedisLink) -> None:
        """Keep everything on the other end of `link`."""
        self._link = link
        self._fan_out = link.script(_FAN_OUT)
        self._claim = link.script(_CLAIM)
        self._finish = link.script(_FINISH)
        self._add = link.script(_ADD)
        self._replace = link.script(_REPLACE)

    # Endpoints

    async def create(
        self, tenant: str, name: str, url: str, event_types: Sequence[EventType]
    ) -> Endpoint:
        """A new endpoint with a new secret. Raises QuotaExceeded."""
        now = await self.now()
        endpoint = Endpoint(
            id=f"we_{secrets.token_hex(12)}",
            tenant=tenant,
            name=name,
            url=url,
            event_types=tuple(dict.fromkeys(event_types)),
            secret=_new_secret(),
            created_at=now,
            updated_at=now,
        )
        args = [str(MAX_ENDPOINTS), endpoint.id, _dump(endpoint)]
        if not await self._link.run(self._add, [_endpoints(tenant)], args):
            raise QuotaExceeded(f"a tenant may have {MAX_ENDPOINTS} webhook endpoints; delete one")
        return endpoint

    async def get(self, endpoint_id: str, tenant: str) -> Endpoint:
        """An endpoint of the tenant. Raises NotFound."""
        text = await self._link.ask("HGET", _endpoints(tenant), endpoint_id)
        if text is None:
            raise NotFound(f"there is no webhook endpoint {endpoint_id!r}")
        return _endpoint(text)

    async def list(self, tenant: str) -> list[Endpoint]:
        """The tenant's endpoints, newest first."""
        found: dict[str, str] = await self._link.ask("HGETALL", _endpoints(tenant))
        return sorted(map(_endpoint, found.values()), key=lambda e: (e.created_at, e.id))[::-1]

    async def change(self, endpoint: Endpoint, **fields: Any) -> Endpoint:
        """The endpoint with other fields. Raises NotFound when it is gone."""
        changed = replace(endpoint, **fields, updated_at=await self.now())
        if not await self._link.run(
            self._replace, [_endpoints(endpoint.tenant)], [endpoint.id, _dump(changed)]
        ):
            raise NotFound(f"there is no webhook endpoint {endpoint.id!r}")
        return changed

    async def rotate(self, endpoint: Endpoint, *, overlap: bool) -> Endpoint:
        """The endpoint with a new secret; with `overlap` the old one signs for a day too."""
        old = endpoint.secret if overlap else None
        until = await self.now() + OVERLAP_SECONDS if overlap else 0.0
        return await self.change(endpoint, secret=_new_secret(), old_secret=old, old_until=until)

    async def delete(self, endpoint_id: str, tenant: str) -> None:
        """Remove an endpoint; what was on its way to it is dropped. Raises NotFound."""
        if not await self._link.ask("HDEL", _endpoints(tenant), endpoint_id):
            raise NotFound(f"there is no webhook endpoint {endpoint_id!r}")
        await self._link.ask("HDEL", _last(tenant), endpoint_id)

    async def last(self, tenant: str) -> dict[str, LastDelivery]:
        """How the last attempt at each endpoint went, by its id."""
        found: dict[str, str] = await self._link.ask("HGETALL", _last(tenant))
        return {endpoint: LastDelivery(**json.loads(text)) for endpoint, text in found.items()}

    # Deliveries

    async def fan_out(self, count: int = 100) -> int:
        """Turn up to `count` outcomes into deliveries; how many outcomes there were."""
        return await self._link.run(self._fan_out, [_OUTCOMES, _DUE], [PREFIX, str(count)])

    async def claim(self, lease_seconds: float) -> Delivery | None:
        """A delivery that is due, for this deliverer alone until the lease ends."""
        reply = await self._link.run(self._claim, [_DUE], [PREFIX, str(lease_seconds)])
        if not reply:
            return None
        delivery, endpoint, pairs = reply
        fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
        return Delivery(
            id=delivery,
            event=fields["event"],
            type=fields["type"],
            job=fields["job"],
            at=float(fields["at"]),
            attempts=int(fields["attempts"]),
            endpoint=_endpoint(endpoint),
        )

    async def finish(
        self, delivery: Delivery, last: LastDelivery, again_in: float | None = None
    ) -> None:
        """End an attempt: for good, or until the next one in so many seconds."""
        tenant = delivery.endpoint.tenant
        await self._link.run(
            self._finish,
            [
                _DUE,
                f"{PREFIX}webhooks:delivery:{delivery.id}",
                _endpoints(tenant),
                _last(tenant),
            ],
            [
                delivery.id,
                str(delivery.attempts),
                "" if again_in is None else f"{again_in:.3f}",
                delivery.endpoint.id,
                json.dumps(asdict(last)),
            ],
        )

    async def waiting(self) -> int:
        """Deliveries that are due or under way or will be tried again."""
        return await self._link.ask("ZCARD", _DUE)

    async def now(self) -> float:
        """The server's clock, seconds since the epoch."""
        seconds, micros = await self._link.ask("TIME")
        return int(seconds) + int(micros) / 1e6


def _endpoints(tenant: str) -> str:
    return f"{PREFIX}webhooks:endpoints:{tenant}"


def _last(tenant: str) -> str:
    return f"{PREFIX}webhooks:last:{tenant}"


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _dump(endpoint: Endpoint) -> str:
    return json.dumps(asdict(endpoint), separators=(",", ":"))


def _endpoint(text: str) -> Endpoint:
    fields = cast("dict[str, Any]", json.loads(text))
    fields["event_types"] = tuple(fields["event_types"])
    return Endpoint(**fields)
