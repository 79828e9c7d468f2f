"""The way to a Redis-protocol server: commands out, plain replies or StoreUnavailable back.

Holds the deadlines, the retries and the wording of what can go wrong. Knows nothing of what
is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import monotonic
from typing import Any, cast
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.errors import StoreUnavailable

# One hash tag, so that a script's keys lie in one slot of a Redis Cluster.
PREFIX = "{strop}:"

# The limit of a tenant: its own, or the operator's for all, or nil. For scripts that add
# something, so that two at once cannot pass a limit that has room for one.
LIMIT = f"""
local function limit(tenant, name)
  return tonumber(redis.call('HGET', '{PREFIX}limits:' .. tenant, name)
    or redis.call('HGET', '{PREFIX}limits', name) or '')
end
"""

BLOCK_SECONDS = 5.0  # longest that a command may wait on the server
_TIMEOUT_SECONDS = 15.0
_PATIENT_PAUSE_SECONDS = 0.5
_REFUSALS = ("WRONGPASS", "NOAUTH", "NOPERM", "MISCONF", "OOM", "READONLY")


class RedisLink:
    """A pool of connections to one server. Every method raises StoreUnavailable when it is lost."""

    def __init__(self, client: Redis, name: str) -> None:
        """Use `open`. `name` is the url without its password."""
        self._client = client
        self._name = name
        self._scripts: dict[str, AsyncScript] = {}

    @classmethod
    async def open(cls, url: str) -> RedisLink:
        """Connect to `redis://`, `rediss://` or `unix://` and make sure that the server answers."""
        name = redacted(url)
        try:
            # Without retries: a wrong address is told at once.
            probe = cls(_client(url, Retry(NoBackoff(), 0)), name)
        except ValueError as error:
            raise StoreUnavailable(
                f"{name} is not the address of a Redis server: it begins with redis://, "
                "rediss:// or unix://"
            ) from error
        try:
            server = await probe.ask("INFO", "server")
        finally:
            await probe.close()
        version = str(server.get("redis_version", "0"))
        if int(version.split(".")[0]) < 7:
            raise StoreUnavailable(f"{name} speaks Redis {version}; the store needs 7.0 or newer")
        retry = Retry(ExponentialWithJitterBackoff(base=0.05, cap=1), 8)
        return cls(_client(url, retry), name)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    @property
    def pool(self) -> ConnectionPool:
        """The connections, for a library that sends its own commands within `reaching`."""
        return self._client.connection_pool

    def script(self, text: str) -> AsyncScript:
        """A Lua script to `run`."""
        if text not in self._scripts:
            self._scripts[text] = self._client.register_script(text)
        return self._scripts[text]

    async def ask(self, *command: str | int) -> Any:
        """The reply to one command."""
        call = cast("Callable[..., Awaitable[Any]]", self._client.execute_command)  # pyright: ignore[reportUnknownMemberType]
        async with self._reaching():
            return await call(*command)

    async def run(
        self,
        script: AsyncScript,
        keys: Sequence[str],
        args: Sequence[str],
        *,
        patience: float = 0.0,
    ) -> Any:
        """The reply of a script. A server that is away is tried again for `patience` seconds."""
        until = monotonic() + patience
        while True:
            try:
                async with self._reaching():
                    return await script(keys=keys, args=args)
            except StoreUnavailable:
                if monotonic() >= until:
                    raise
            await asyncio.sleep(_PATIENT_PAUSE_SECONDS)

    async def ask_all(self, commands: Iterable[Sequence[str | int]]) -> list[Any]:
        """The replies to several commands, in one go."""
        async with self._reaching(), self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)  # pyright: ignore[reportUnknownMemberType]
            return await pipe.execute()

    async def hashes(self, keys: Iterable[str]) -> list[dict[str, str]]:
        """The hashes at these keys, in one go."""
        async with self._reaching(), self._client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            return cast("list[dict[str, str]]", await pipe.execute())

    async def together(self, commands: Iterable[Sequence[str | int]]) -> None:
        """Several commands as one: all of them are carried out, or none."""
        async with self._reaching(), self._client.pipeline(transaction=True) as pipe:
            for command in commands:
                pipe.execute_command(*command)  # pyright: ignore[reportUnknownMemberType]
            await pipe.execute()

    def reaching(self) -> AbstractAsyncContextManager[None]:
        """The deadline and the wording of errors, around what a library sends over `pool`."""
        return self._reaching()

    @asynccontextmanager
    async def _reaching(self) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                yield
        except TimeoutError as error:
            raise StoreUnavailable(
                f"the Redis server at {self._name} did not answer within {_TIMEOUT_SECONDS:.0f} s"
            ) from error
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise StoreUnavailable(
                f"the Redis server at {self._name} does not answer ({_first_line(error)}); "
                "is it running?"
            ) from error
        except ResponseError as error:
            text = _first_line(error)
            if text.startswith(_REFUSALS):
                raise StoreUnavailable(
                    f"the Redis server at {self._name} refuses: {text}"
                ) from error
            raise


def redacted(url: str) -> str:
    """The url without user, password and query, fit for messages and logs."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "the given url"
    return f"{parts.scheme}://{host}{parts.path}"


def _client(url: str, retry: Retry) -> Redis:
    # No socket_timeout: with one, the client sends through asyncio.wait_for, which before
    # Python 3.12 loses a cancellation. `_reaching` has the deadline instead.
    return Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
        url,
        decode_responses=True,
        socket_connect_timeout=5,
        socket_timeout=None,
        health_check_interval=30,
        max_connections=1024,
        retry=retry,
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
