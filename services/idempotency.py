"""Idempotency keys: what a request with a key was answered, kept for a day, by tenant.

Whoever comes first holds the key by a lease that it renews while it works; the others are
told to wait. When it has its answer, that is what everybody with the key gets. A holder that
dies lets go within seconds, so the next try carries the request out: what it makes should
have an id that follows from `Turn.id`, and is then made once even so. Any number of replicas
share one store. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from services.errors import IdempotencyConflict, InProgress, StoreUnavailable
from services.redis_link import PREFIX, RedisLink

KEPT_SECONDS = 24 * 3600
_LEASE_SECONDS = 10.0
_RENEW_SECONDS = 3.0

_log = logging.getLogger(__name__)

# KEYS record | ARGV holder lease_ms
# Answers {'mine'}, {'held', ms_left} or {'answered', fingerprint, answer}.
_TAKE = """
local answered = redis.call('HMGET', KEYS[1], 'fingerprint', 'answer')
if answered[2] then return {'answered', answered[1], answered[2]} end
local holder = redis.call('HGET', KEYS[1], 'holder')
if holder and holder ~= ARGV[1] then return {'held', tostring(redis.call('PTTL', KEYS[1]))} end
redis.call('HSET', KEYS[1], 'holder', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'mine'}
"""

# KEYS record | ARGV holder lease_ms
_RENEW = """
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

# KEYS record | ARGV holder
_LET_GO = """
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""

# KEYS record | ARGV fingerprint answer kept_seconds
# The first answer stays, whoever gave it.
_ANSWER = """
if redis.call('HEXISTS', KEYS[1], 'answer') == 1 then return 0 end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'answer', ARGV[2])
redis.call('HDEL', KEYS[1], 'holder')
return redis.call('EXPIRE', KEYS[1], ARGV[3])
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered: its body and the headers that belong to it."""

    body: str
    headers: Mapping[str, str]


class Turn:
    """One request's turn with a key. Every method raises StoreUnavailable."""

    def __init__(
        self, keys: IdempotencyKeys, record: str, answered: tuple[str, Answer] | None
    ) -> None:
        """Use `IdempotencyKeys.turn`."""
        self._keys, self._record, self._answered = keys, record, answered

    def answer(self, fingerprint: str) -> Answer | None:
        """What the request was answered before, None when it is to be carried out now.

        Raises IdempotencyConflict when the key was used for a request of another fingerprint.
        """
        if self._answered is None:
            return None
        before, answer = self._answered
        if before != fingerprint:
            raise IdempotencyConflict(
                "this Idempotency-Key was used before, for another request: a new request needs a "
                "new key"
            )
        return answer

    def id(self, fingerprint: str) -> str:
        """24 hexadecimal digits, the same whenever this key and fingerprint come again."""
        return hashlib.sha256(f"{self._record}\n{fingerprint}".encode()).hexdigest()[:24]

    async def keep(self, fingerprint: str, answer: Answer) -> None:
        """Answer everybody who comes with this key from now on."""
        await self._keys.keep(self._record, fingerprint, answer)


class IdempotencyKeys:
    """The keys of all tenants. Every method raises StoreUnavailable when the server is lost."""

    def __init__(self, link: RedisLink) -> None:
        """Keep answers on the other end of `link`."""
        self._link = link
        self._take = link.script(_TAKE)
        self._renew = link.script(_RENEW)
        self._let_go = link.script(_LET_GO)
        self._answer = link.script(_ANSWER)

    @asynccontextmanager
    async def turn(self, tenant: str, key: str) -> AsyncGenerator[Turn]:
        """Hold the key while a request is carried out, unless it is answered already.

        Raises InProgress while another request holds it.
        """
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        record = f"{PREFIX}once:{tenant}:{digest}"
        holder = secrets.token_hex(8)
        lease = [holder, str(int(_LEASE_SECONDS * 1000))]
        reply = cast("list[str]", await self._link.run(self._take, [record], lease))
        if reply[0] == "held":
            raise InProgress(
                "a request with this Idempotency-Key is being carried out: ask again in a moment",
                retry_after=1,
            )
        if reply[0] == "answered":
            stored = json.loads(reply[2])
            yield Turn(self, record, (reply[1], Answer(stored["body"], stored["headers"])))
            return
        renewing = asyncio.create_task(self._renewed(record, lease))
        try:
            yield Turn(self, record, None)
        finally:
            renewing.cancel()
            # What cannot be let go of ends by itself when the lease does.
            with contextlib.suppress(StoreUnavailable):
                await self._link.run(self._let_go, [record], [holder])

    async def keep(self, record: str, fingerprint: str, answer: Answer) -> None:
        """Use `Turn.keep`."""
        text = json.dumps({"body": answer.body, "headers": dict(answer.headers)})
        await self._link.run(self._answer, [record], [fingerprint, text, str(KEPT_SECONDS)])

    async def _renewed(self, record: str, lease: list[str]) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                await self._link.run(self._renew, [record], lease)
            except StoreUnavailable as error:
                _log.warning("an idempotency key could not be held on to: %s", error)
