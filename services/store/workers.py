"""Who works: the dispatchers that live, and what the verifier tiers count."""

from __future__ import annotations

import json
from collections.abc import Mapping

from services.store.part import Part, dump, key

# KEYS workers | ARGV worker ttl_seconds
_HEARTBEAT = """
local at = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', at)
return redis.call('ZADD', KEYS[1], at + tonumber(ARGV[2]), ARGV[1])
"""

# KEYS counts tiers | ARGV tier ttl_seconds state field increment field increment ...
# Adds up what was counted and keeps the tier's state of the moment; an empty one removes it.
_TELL_VERIFIERS = """
for i = 4, #ARGV, 2 do redis.call('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1]) end
if ARGV[3] == '' then return redis.call('HDEL', KEYS[2], ARGV[1]) end
local at = tonumber(redis.call('TIME')[1])
return redis.call('HSET', KEYS[2], ARGV[1], (at + tonumber(ARGV[2])) .. ' ' .. ARGV[3])
"""


class Workers(Part):
    """Dispatchers and verifier tiers."""

    async def heartbeat(self, worker_id: str, ttl: int) -> None:
        """Say that this worker lives; it counts as dead `ttl` seconds after its last word."""
        await self._link.run(self._link.script(_HEARTBEAT), [key("workers")], [worker_id, str(ttl)])

    async def leave(self, worker_id: str) -> None:
        """Say that this worker works no more."""
        await self._link.ask("ZREM", key("workers"), worker_id)

    async def workers(self) -> set[str]:
        """The workers whose last heartbeat still holds."""
        now, _ = await self._link.ask("TIME")
        living: list[str] = await self._link.ask("ZRANGEBYSCORE", key("workers"), f"({now}", "+inf")
        return set(living)

    async def tell_verifiers(
        self, tier: str, counts: Mapping[str, float], moment: Mapping[str, float], ttl: int = 30
    ) -> None:
        """Add what was counted, and keep the tier's numbers of the moment; none removes it."""
        pairs = [text for field, number in counts.items() for text in (field, repr(number))]
        await self._link.run(
            self._link.script(_TELL_VERIFIERS),
            [key("verdicts"), key("verifiers")],
            [tier, str(ttl), dump(moment) if moment else "", *pairs],
        )

    async def verdict_counts(self) -> dict[str, float]:
        """Everything that was ever counted of verdicts."""
        counts: dict[str, str] = await self._link.ask("HGETALL", key("verdicts"))
        return {field: float(number) for field, number in counts.items()}

    async def verifier_tiers(self) -> dict[str, dict[str, float]]:
        """The numbers of the moment of the verifier tiers that were heard of lately."""
        tiers: dict[str, str] = await self._link.ask("HGETALL", key("verifiers"))
        now, _ = await self._link.ask("TIME")
        told = {tier: state.split(" ", 1) for tier, state in tiers.items()}
        return {
            tier: json.loads(state) for tier, (until, state) in told.items() if int(until) > now
        }
