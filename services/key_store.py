"""Where API keys are kept: made, checked, rotated and revoked in a Redis-protocol server.

A key is a hash; a revoked one stays, so that the audit log's ids keep a meaning. Times come
from the server, so there is one clock however many replicas there are. Knows nothing of what
a key opens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from services.callers import DEFAULT_TENANT, SCOPES, Scope, is_tenant, known_scopes
from services.errors import IllegalTransition, InvalidRequest, NotFound, Problem
from services.keys import ApiKey, IssuedKey, Token, new_token, parse_token
from services.redis_link import PREFIX, RedisLink

GRACE_SECONDS = 24 * 3600
"""How long the old secret of a rotated key is still accepted."""
_USED_SECONDS = 60  # the last use is written at most this often

# KEYS key all tenants sequence | ARGV id name tenant scopes digest lifetime
_CREATE = """
local at = redis.call('TIME')
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local now = at[1] .. '.' .. string.format('%06d', tonumber(at[2]))
redis.call('HSET', KEYS[1], 'name', ARGV[2], 'tenant', ARGV[3], 'scopes', ARGV[4],
  'digest', ARGV[5], 'created_at', now)
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[1], 'expires_at', tonumber(at[1]) + tonumber(ARGV[6]))
end
local sequence = redis.call('INCR', KEYS[4])
redis.call('ZADD', KEYS[2], sequence, ARGV[1])
redis.call('ZADD', KEYS[3], sequence, ARGV[1])
return 1
"""

# KEYS key | answers {seconds, fields}
_READ = "return {redis.call('TIME')[1], redis.call('HGETALL', KEYS[1])}"

# KEYS key
_USED = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('HSET', KEYS[1], 'last_used_at', redis.call('TIME')[1])
"""

# KEYS key | ARGV digest grace | answers 'missing', 'revoked' or 'done'
# The secret before the last one ends at once: never more than two open.
_ROTATE = """
local key = redis.call('HMGET', KEYS[1], 'digest', 'revoked_at')
if not key[1] then return 'missing' end
if key[2] then return 'revoked' end
if key[1] == ARGV[1] then return 'done' end
redis.call('HSET', KEYS[1], 'digest', ARGV[1], 'previous_digest', key[1],
  'previous_until', tonumber(redis.call('TIME')[1]) + tonumber(ARGV[2]))
return 'done'
"""

# KEYS key | answers 'missing' or 'done'; revoking twice is the same as once.
_REVOKE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 'missing' end
redis.call('HSETNX', KEYS[1], 'revoked_at', redis.call('TIME')[1])
return 'done'
"""


class KeyStore:
    """API keys. Every method raises StoreUnavailable when the server is lost."""

    def __init__(self, link: RedisLink) -> None:
        """Keep the keys on the other end of `link`, which stays the caller's to close."""
        self._link = link
        self._create = link.script(_CREATE)
        self._read = link.script(_READ)
        self._used = link.script(_USED)
        self._rotate = link.script(_ROTATE)
        self._revoke = link.script(_REVOKE)

    async def create(
        self,
        name: str,
        *,
        scopes: Iterable[Scope],
        tenant: str = DEFAULT_TENANT,
        lifetime_s: int | None = None,
    ) -> IssuedKey:
        """Make a key that lasts `lifetime_s`, or until it is revoked.

        Raises InvalidRequest for what is no tenant's name, and for no scope at all.
        """
        granted = frozenset(scopes)
        if not is_tenant(tenant):
            raise InvalidRequest(
                [
                    Problem(
                        "tenant",
                        f"{tenant!r} is no name of a tenant: up to 63 small letters, digits, "
                        "`-` and `_`, the first a letter or digit",
                    )
                ]
            )
        if not granted:
            raise InvalidRequest([Problem("scopes", f"none given; there are {', '.join(SCOPES)}")])
        token = new_token()
        await self._link.run(
            self._create,
            [_key(token.id), _index(), _index(tenant), f"{PREFIX}keys:sequence"],
            [
                token.id,
                name,
                tenant,
                ",".join(sorted(granted)),
                token.digest,
                "" if lifetime_s is None else str(lifetime_s),
            ],
        )
        return IssuedKey(await self.get(token.id), token.text)

    async def check(self, token: str) -> ApiKey | None:
        """The key this token proves, or None: unknown, expired, revoked and wrong are alike."""
        presented = parse_token(token)
        if presented is None:
            return None
        now, fields = await self._fields(presented.id)
        if not _opens(presented, fields, now):
            return None
        key = _key_of(presented.id, fields)
        if not key.valid(now):
            return None
        if key.last_used_at is None or now - key.last_used_at >= _USED_SECONDS:
            await self._link.run(self._used, [_key(key.id)], [])
        return key

    async def get(self, key_id: str) -> ApiKey:
        """The key as it stands. Raises NotFound."""
        _, fields = await self._fields(key_id)
        if not fields:
            raise _no_such_key(key_id)
        return _key_of(key_id, fields)

    async def list_keys(
        self, tenant: str | None = None, after: str | None = None, limit: int = 20
    ) -> tuple[list[ApiKey], bool]:
        """Up to `limit` keys, newest first, from behind the key `after`; and whether more follow.

        Of every tenant when `tenant` is None. Raises NotFound when there is no key `after`.
        """
        index = _index(tenant)
        start = 0
        if after is not None:
            rank: int | None = await self._link.ask("ZREVRANK", index, after)
            if rank is None:
                raise _no_such_key(after, param="after")
            start = rank + 1
        ids: list[str] = await self._link.ask("ZREVRANGE", index, start, start + limit)
        page = ids[:limit]
        rows = await self._link.hashes(map(_key, page))
        return [_key_of(*row) for row in zip(page, rows, strict=True)], len(ids) > limit

    async def rotate(self, key_id: str, *, grace_s: int = GRACE_SECONDS) -> IssuedKey:
        """Give a key another secret; the one it had opens for `grace_s` more seconds.

        Raises NotFound, and IllegalTransition when the key is revoked.
        """
        token = new_token(key_id)
        reply = await self._link.run(self._rotate, [_key(key_id)], [token.digest, str(grace_s)])
        if reply == "missing":
            raise _no_such_key(key_id)
        if reply == "revoked":
            raise IllegalTransition(f"key {key_id} is revoked and cannot be rotated; create one")
        return IssuedKey(await self.get(key_id), token.text)

    async def revoke(self, key_id: str) -> ApiKey:
        """Let the key open nothing any more, from this moment. Raises NotFound."""
        if await self._link.run(self._revoke, [_key(key_id)], []) == "missing":
            raise _no_such_key(key_id)
        return await self.get(key_id)

    async def _fields(self, key_id: str) -> tuple[float, dict[str, str]]:
        """The server's clock and what it has of a key, empty when there is none."""
        reply = cast(
            "tuple[str, Sequence[str]]", await self._link.run(self._read, [_key(key_id)], [])
        )
        flat = reply[1]
        return float(reply[0]), dict(zip(flat[::2], flat[1::2], strict=True))


def _opens(token: Token, fields: Mapping[str, str], now: float) -> bool:
    """Whether the secret is the key's, or the one before it in its time of grace."""
    current = token.matches(fields.get("digest", ""))
    previous = token.matches(fields.get("previous_digest", ""))
    return current or (previous and now < float(fields["previous_until"]))


def _key_of(key_id: str, fields: Mapping[str, str]) -> ApiKey:
    def at(name: str) -> float | None:
        return float(fields[name]) if name in fields else None

    known: dict[str, Any] = {
        name: at(name) for name in ("expires_at", "last_used_at", "revoked_at", "previous_until")
    }
    return ApiKey(
        id=key_id,
        name=fields["name"],
        tenant=fields.get("tenant", DEFAULT_TENANT),
        scopes=known_scopes(fields.get("scopes", "").split(",")),
        created_at=float(fields["created_at"]),
        **known,
    )


def _key(key_id: str) -> str:
    return f"{PREFIX}key:{key_id}"


def _index(tenant: str | None = None) -> str:
    return f"{PREFIX}keys" if tenant is None else f"{PREFIX}keys:of:{tenant}"


def _no_such_key(key_id: str, param: str | None = None) -> NotFound:
    return NotFound(f"there is no key {key_id!r}", param=param)
