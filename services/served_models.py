"""What is served and what is wanted, in Redis: where the API and the serving loop meet.

The API says which model it wants and reads how it does; the loop (services/serving.py) reads
what is wanted and says how it does. Nobody waits here. Times are the server's.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from services.redis_link import PREFIX, RedisLink
from services.serving_plan import Wanted

_PREFIX = f"{PREFIX}serving:"
_WANTED, _SPECS, _STATES = _PREFIX + "wanted", _PREFIX + "specs", _PREFIX + "states"
_TOKEN, _LEADER, _TOKENS = _PREFIX + "token", _PREFIX + "leader", _PREFIX + "tokens"

State = Literal["loading", "ready", "restarting", "refused"]

_NOW = """
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
"""

# KEYS wanted specs states leader | ARGV key spec
_WANT = (
    _NOW
    + """
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return {redis.call('HGET', KEYS[3], ARGV[1]) or '', redis.call('EXISTS', KEYS[4]), now}
"""
)

# KEYS wanted | ARGV key ...
_TOUCH = (
    _NOW
    + """
for _, key in ipairs(ARGV) do redis.call('ZADD', KEYS[1], 'XX', now, key) end
"""
)

# KEYS wanted specs | ARGV seconds
# Forgets what nobody used for so long. Answers now, and key, time of use and spec of the rest.
_WANTED_SINCE = (
    _NOW
    + """
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', tonumber(now) - tonumber(ARGV[1]))
for _, key in ipairs(old) do
  redis.call('ZREM', KEYS[1], key)
  redis.call('HDEL', KEYS[2], key)
end
local answer = {now}
local used = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #used, 2 do
  answer[#answer + 1] = used[i]
  answer[#answer + 1] = used[i + 1]
  answer[#answer + 1] = redis.call('HGET', KEYS[2], used[i])
end
return answer
"""
)

# KEYS leader | ARGV id milliseconds
_LEAD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

# KEYS leader | ARGV id
_RESIGN = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


@dataclass(frozen=True, slots=True)
class Serving:
    """How a model does: where it answers once it is ready, and why it is refused."""

    state: State
    at: float
    url: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """The answer to a wish: how the model does, whether a loop lives that could load it, and now
    by the server's clock."""

    serving: Serving | None
    heard: bool
    now: float


def model_key(name: str, path: str) -> str:
    """The key of a model under a name: of the characters of a URL and an actor's name."""
    return hashlib.sha256(f"{name}\0{path}".encode()).hexdigest()[:20]


class ServedModels:
    """The records of serving. Every method raises StoreUnavailable when the server is lost."""

    def __init__(self, link: RedisLink) -> None:
        """Keep everything on the other end of `link`."""
        self._link = link
        self._want = link.script(_WANT)
        self._touch = link.script(_TOUCH)
        self._wanted = link.script(_WANTED_SINCE)
        self._lead = link.script(_LEAD)
        self._resign = link.script(_RESIGN)

    # The API's side

    async def want(self, key: str, name: str, path: str) -> Wish:
        """Ask for a model, and say that it is in use."""
        spec = json.dumps({"name": name, "path": path})
        state, lives, now = await self._link.run(
            self._want, [_WANTED, _SPECS, _STATES, _LEADER], [key, spec]
        )
        return Wish(Serving(**json.loads(state)) if state else None, bool(lives), float(now))

    async def touch(self, keys: Iterable[str]) -> None:
        """Say that these models are in use."""
        await self._link.run(self._touch, [_WANTED], list(keys))

    async def forget(self, key: str) -> None:
        """Nobody wants this model any more."""
        await self._link.ask("ZADD", _WANTED, "XX", 0, key)

    async def token(self) -> str:
        """The secret by which the API is known to the models' servers."""
        await self._link.ask("SET", _TOKEN, secrets.token_hex(32), "NX")
        return str(await self._link.ask("GET", _TOKEN))

    async def count(self, tenant: str, model: str, prompt: int, completion: int) -> None:
        """Add the tokens of one answered request."""
        for kind, tokens in (("prompt", prompt), ("completion", completion)):
            field = json.dumps([tenant, model, kind])
            await self._link.ask("HINCRBY", _TOKENS, field, tokens)

    async def counted(self) -> dict[tuple[str, str, str], int]:
        """Every token ever counted, by (tenant, model, prompt or completion)."""
        counts: dict[str, str] = await self._link.ask("HGETALL", _TOKENS)
        return {tuple(json.loads(field)): int(tokens) for field, tokens in counts.items()}

    async def states(self) -> dict[str, Serving]:
        """How every model does that the loop knows, by key."""
        states: dict[str, str] = await self._link.ask("HGETALL", _STATES)
        return {key: Serving(**json.loads(state)) for key, state in states.items()}

    # The loop's side

    async def lead(self, worker: str, seconds: float) -> bool:
        """Whether this worker runs the loop for the next `seconds`: one does at a time."""
        return bool(await self._link.run(self._lead, [_LEADER], [worker, str(int(seconds * 1000))]))

    async def resign(self, worker: str) -> None:
        """This worker runs the loop no more."""
        await self._link.run(self._resign, [_LEADER], [worker])

    async def wanted(self, seconds: float) -> tuple[float, list[Wanted]]:
        """Now, by the server's clock, and the models used in the last `seconds`; older wishes
        are forgotten."""
        now, *rows = await self._link.run(self._wanted, [_WANTED, _SPECS], [str(seconds)])
        models = [
            Wanted(key=key, used_at=float(at), **json.loads(spec))
            for key, at, spec in zip(rows[::3], rows[1::3], rows[2::3], strict=True)
        ]
        return float(now), models

    async def tell(self, states: Mapping[str, Serving]) -> None:
        """Replace what is known of every model."""
        before: list[str] = await self._link.ask("HKEYS", _STATES)
        if gone := [key for key in before if key not in states]:
            await self._link.ask("HDEL", _STATES, *gone)
        for key, state in states.items():
            await self._link.ask("HSET", _STATES, key, json.dumps(asdict(state)))
