"""How much each tenant may do: requests in a moving window, open jobs, stored bytes, tokens.

The operator's settings hold for every tenant; a tenant's own limits take their place. Both lie
in the store, where the scripts that add a job, a file or a step look at them (`LIMIT`): asking
twice at once does not pass a limit. Requests are counted here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from time import monotonic, time
from typing import Any, cast

from limits import parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

from services.access_settings import AccessSettings
from services.errors import RateLimited
from services.redis_link import PREFIX, RedisLink

_KNOWN_SECONDS = 5.0  # an operator's change is heeded by every replica within this
_MAX_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a tenant may do. `requests` is a rate, `100/second`; None is no limit."""

    requests: str
    open_jobs: int
    stored_bytes: int
    trained_tokens: int | None


class LimitStore:
    """The limits of every tenant. Every method raises StoreUnavailable when the server is lost."""

    def __init__(self, link: RedisLink, settings: AccessSettings) -> None:
        """Keep tenants' own limits, and count requests, on the other end of `link`."""
        self._link = link
        self._defaults = Limits(
            settings.limit_requests,
            settings.limit_open_jobs,
            settings.limit_stored_bytes,
            settings.limit_trained_tokens,
        )
        storage = RedisStorage(
            "redis://", implementation="redispy", key_prefix=f"{PREFIX}rate",
            connection_pool=link.pool,  # pyright: ignore[reportArgumentType]  it says so itself
        )  # fmt: skip
        self._window = MovingWindowRateLimiter(storage)
        self._known: dict[str, tuple[float, Limits]] = {}

    async def publish(self) -> None:
        """Make the operator's limits hold for every tenant that has none of its own."""
        limits = asdict(self._defaults).items()
        pairs = [part for name, value in limits if value is not None for part in (name, value)]
        await self._link.together([["DEL", _key()], ["HSET", _key(), *pairs]])

    async def admit(self, tenant: str) -> None:
        """Count one request. Raises RateLimited when the tenant's window is full."""
        rate = (await self._lately(tenant)).requests
        item = parse(rate)
        async with self._link.reaching():
            if await self._window.hit(item, tenant):
                return
            full = await self._window.get_window_stats(item, tenant)
        raise RateLimited(
            f"the tenant {tenant} may send {rate} requests; the next is welcome in a moment",
            retry_after=max(1, math.ceil(full.reset_time - time())),
        )

    async def of(self, tenant: str) -> Limits:
        """The limits that hold for a tenant."""
        own = await self.own(tenant)
        return replace(self._defaults, **cast("dict[str, Any]", own))

    async def own(self, tenant: str) -> dict[str, str | int]:
        """Those limits of a tenant that are not the operator's for all."""
        stored: dict[str, str] = await self._link.ask("HGETALL", _key(tenant))
        return {name: text if name == "requests" else int(text) for name, text in stored.items()}

    async def set_own(self, tenant: str, own: Mapping[str, str | int]) -> None:
        """Give a tenant limits of its own in place of those it had; none at all is the default."""
        pairs = [part for name, value in own.items() for part in (name, str(value))]
        commands: list[list[str]] = [["DEL", _key(tenant)]]
        if pairs:
            commands.append(["HSET", _key(tenant), *pairs])
        await self._link.together(commands)
        self._known.pop(tenant, None)

    async def _lately(self, tenant: str) -> Limits:
        """The limits of a tenant as they were a moment ago."""
        known = self._known.get(tenant)
        if known is None or monotonic() - known[0] > _KNOWN_SECONDS:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = self._known[tenant] = (monotonic(), await self.of(tenant))
        return known[1]


def _key(tenant: str | None = None) -> str:
    return f"{PREFIX}limits" if tenant is None else f"{PREFIX}limits:{tenant}"
